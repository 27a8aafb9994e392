"""Charts: what is drawn, in which formats, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest

from esl_neuro.errors import BadInput, MissingDependency
from esl_neuro.report import plots
from esl_neuro.report.plots import Layout, Point, check_plot, draw_dots, draw_lines, spread_in_words

pytest.importorskip("matplotlib")

LINES = {
    "gradient": [Point(1.0, 96.0, 0.1, 3), Point(0.1, 92.0, 0.5, 3), Point(0.01, 80.0, 2.0, 3)],
    "momentum": [Point(0.01, 81.0), Point(0.1, 93.0), Point(1.0, 95.0)],
}
ROWS = [Point("dense", 96.0, 0.2), Point("sparse", 93.0)]
SIGNATURES = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}


@pytest.fixture
def figures(monkeypatch):
    """Figures that were drawn, before they became files."""
    kept = []
    save = plots.save
    monkeypatch.setattr(plots, "save", lambda figure, path: (kept.append(figure), save(figure, path)))
    return kept


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf", "PNG"])
def test_each_format_is_written(tmp_path, suffix):
    for name, draw in (
        ("lines", lambda path: draw_lines(LINES, "density", "test accuracy (%)", path)),
        ("dots", lambda path: draw_dots(ROWS, "test accuracy (%)", path)),
    ):
        path = tmp_path / f"{name}.{suffix}"
        draw(path)
        assert path.read_bytes().startswith(SIGNATURES[suffix.lower()])


@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_the_same_figures_give_the_same_file(tmp_path, suffix):
    first, second = tmp_path / f"1.{suffix}", tmp_path / f"2.{suffix}"
    for path in (first, second):
        draw_lines(LINES, "density", "test accuracy (%)", path)
    assert first.read_bytes() == second.read_bytes()


def test_lines_have_their_points_in_order_their_spread_and_their_names(tmp_path, figures):
    draw_lines(LINES, "density", "test accuracy (%)", tmp_path / "x.svg")
    (figure,) = figures
    (axes,) = figure.axes
    first, second = axes.containers
    assert first[0].get_xydata().tolist() == [[0.01, 80.0], [0.1, 92.0], [1.0, 96.0]]
    assert first[2][0].get_segments()[0].tolist() == [[0.01, 78.0], [0.01, 82.0]]
    assert not second.has_yerr
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.01", "0.1", "1"]
    assert axes.get_xlabel() == "density"
    assert axes.get_ylabel() == "test accuracy (%)\nmean ± standard deviation, n = 3 seeds"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["gradient", "momentum"]
    assert not axes.spines["top"].get_visible()
    assert not axes.spines["right"].get_visible()


def test_the_legend_covers_no_data(tmp_path, figures):
    draw_lines(LINES, "density", "test accuracy (%)", tmp_path / "x.svg")
    (figure,) = figures
    figure.draw_without_rendering()
    assert not figure.legends[0].get_window_extent().overlaps(figure.axes[0].get_tightbbox())


def test_names_stand_side_by_side_unconnected_and_do_not_hide_each_other(tmp_path, figures):
    lines = {label: [Point("b", 1.0, 0.5), Point("a", 2.0, 0.5)] for label in ("one", "two")}
    draw_lines(lines, "rule", "test accuracy (%)", tmp_path / "x.svg")
    axes = figures[0].axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["b", "a"]
    places = {tuple(container[0].get_xdata()) for container in axes.containers}
    assert len(places) == 2
    assert {container[0].get_linestyle() for container in axes.containers} == {"None"}


def test_one_line_needs_no_legend_and_near_numbers_no_logarithm(tmp_path, figures):
    draw_lines({"": [Point(4, 1.0), Point(8, 2.0)]}, "steps", "test accuracy (%)", tmp_path / "x.svg")
    assert not figures[0].legends
    assert figures[0].axes[0].get_xscale() == "linear"


def test_many_evenly_spaced_numbers_stand_to_scale_with_round_ticks_and_all_their_points(tmp_path, figures):
    updates = [Point(100.0 * k, float(k)) for k in range(1, 31)]
    draw_lines({"conv1": updates}, "iteration", "density (%)", tmp_path / "x.svg")
    axes = figures[0].axes[0]
    assert axes.get_xscale() == "linear"
    assert len(axes.get_xticks()) < 12
    assert len(axes.containers[0][0].get_xdata()) == 30


def test_rows_are_dots_with_their_spread_on_an_axis_that_shows_their_differences(tmp_path, figures):
    draw_dots(ROWS, "test accuracy (%)", tmp_path / "x.svg")
    axes = figures[0].axes[0]
    assert axes.yaxis_inverted()
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["dense", "sparse"]
    assert [text.get_text() for text in axes.texts] == ["96.00 ± 0.20", "93.00"]
    first, second = axes.containers
    assert [container[0].get_xdata().tolist() for container in (first, second)] == [[96.0], [93.0]]
    assert first[2][0].get_segments()[0].tolist() == [[95.8, 0.0], [96.2, 0.0]]
    assert not second.has_xerr
    low, high = axes.get_xlim()
    assert 92 < low < 93 < 96.2 < high < 97


@pytest.mark.parametrize(("width", "millimetres"), [("single", 88), ("double", 180)])
def test_a_chart_has_the_width_of_a_column_text_of_7_to_8_points_and_a_title_only_if_one_is_given(
    tmp_path, figures, width, millimetres
):
    from matplotlib.text import Text

    draw_lines(LINES, "density", "accuracy (%)", tmp_path / "a.svg", Layout(width))
    draw_dots(ROWS, "accuracy (%)", tmp_path / "b.svg", Layout(width, "a title"))
    untitled, titled = figures
    assert [untitled.get_suptitle(), titled.get_suptitle()] == ["", "a title"]
    for figure in figures:
        assert figure.get_size_inches()[0] * 25.4 == pytest.approx(millimetres)
        sizes = {each.get_fontsize() for each in figure.findobj(Text) if each.get_text()}
        assert 7 <= min(sizes) <= max(sizes) <= 8
        inside = figure.get_tightbbox()  # in inches: nothing is cut off
        assert inside.x0 > -0.01
        assert inside.x1 < millimetres / 25.4 + 0.01


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ((), ""),
        ((0,), ""),
        ((1, 1), "n = 1 seed"),
        ((5, 5), "mean ± standard deviation, n = 5 seeds"),
        ((3, 1), "mean ± standard deviation, n = 1 to 3 seeds"),
    ],
)
def test_error_bars_say_what_they_are_and_of_how_many_seeds(runs, words):
    assert spread_in_words(Point("a", 1.0, 0.1, number) for number in runs) == words


def test_published_figures_are_hollow_in_the_colour_of_what_was_measured_of_the_same_thing(tmp_path, figures):
    lines = {name: [Point(1, 1.0), Point(2, 2.0)] for name in ("published, a", "published, b", "measured, a")}
    published = {"published, a": "measured, a", "published, b": "measured, b"}
    draw_lines(lines, "x", "y", tmp_path / "x.svg", published=published)
    a, b, measured = (container[0] for container in figures[0].axes[0].containers)
    assert a.get_color() == measured.get_color() != b.get_color()
    assert a.get_marker() == measured.get_marker() != b.get_marker()
    assert [each.get_linestyle() for each in (a, b, measured)] == ["--", "--", "-"]
    assert a.get_markerfacecolor() == b.get_markerfacecolor() != measured.get_markerfacecolor()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x.jpg", ["x.jpg: '.jpg' is not a chart format", "allowed: pdf, png, svg"]),
        ("x.sgv", ["did you mean 'svg'?"]),
        ("x", ["is not a chart format"]),
        ("no/x.svg", ["does not exist", "create it first"]),
    ],
)
def test_a_file_that_cannot_be_drawn_is_refused(tmp_path, name, words):
    with pytest.raises(BadInput) as caught:
        check_plot(tmp_path / name)
    for word in words:
        assert word in str(caught.value)


def test_without_matplotlib_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependency, match=r"pip install 'esl-neuro\[plots\]'"):
        check_plot(tmp_path / "x.svg")


def test_importing_the_module_loads_no_matplotlib():
    script = "import sys, esl_neuro.report.plots; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
