"""Charts: what is drawn, in which formats, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest

from esl_neuro.errors import BadInput, MissingDependency
from esl_neuro.report import plots
from esl_neuro.report.plots import Point, check_plot, draw_bars, draw_lines

pytest.importorskip("matplotlib")

LINES = {
    "gradient": [Point(1.0, 96.0, 0.1), Point(0.1, 92.0, 0.5), Point(0.01, 80.0, 2.0)],
    "momentum": [Point(0.01, 81.0), Point(0.1, 93.0), Point(1.0, 95.0)],
}
BARS = [Point("dense", 96.0, 0.2), Point("sparse", 93.0)]
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
        ("lines", lambda path: draw_lines(LINES, "title", "density", "test accuracy (%)", path)),
        ("bars", lambda path: draw_bars(BARS, "title", "test accuracy (%)", path)),
    ):
        path = tmp_path / f"{name}.{suffix}"
        draw(path)
        assert path.read_bytes().startswith(SIGNATURES[suffix.lower()])


@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_the_same_figures_give_the_same_file(tmp_path, suffix):
    first, second = tmp_path / f"1.{suffix}", tmp_path / f"2.{suffix}"
    for path in (first, second):
        draw_lines(LINES, "title", "density", "test accuracy (%)", path)
    assert first.read_bytes() == second.read_bytes()


def test_lines_have_their_points_in_order_their_spread_and_their_names(tmp_path, figures):
    draw_lines(LINES, "a title", "density", "test accuracy (%)", tmp_path / "x.svg")
    (figure,) = figures
    (axes,) = figure.axes
    first, second = axes.containers
    assert first[0].get_xydata().tolist() == [[0.01, 80.0], [0.1, 92.0], [1.0, 96.0]]
    assert first[2][0].get_segments()[0].tolist() == [[0.01, 78.0], [0.01, 82.0]]
    assert not second.has_yerr
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.01", "0.1", "1"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("density", "test accuracy (%)")
    assert figure.get_suptitle() == "a title"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["gradient", "momentum"]
    assert not axes.spines["top"].get_visible()
    assert not axes.spines["right"].get_visible()


def test_the_legend_covers_no_data(tmp_path, figures):
    draw_lines(LINES, "a title", "density", "test accuracy (%)", tmp_path / "x.svg")
    (figure,) = figures
    figure.draw_without_rendering()
    assert not figure.legends[0].get_window_extent().overlaps(figure.axes[0].get_tightbbox())


def test_names_stand_side_by_side_unconnected_and_do_not_hide_each_other(tmp_path, figures):
    lines = {label: [Point("b", 1.0, 0.5), Point("a", 2.0, 0.5)] for label in ("one", "two")}
    draw_lines(lines, "title", "rule", "test accuracy (%)", tmp_path / "x.svg")
    axes = figures[0].axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["b", "a"]
    places = {tuple(container[0].get_xdata()) for container in axes.containers}
    assert len(places) == 2
    assert {container[0].get_linestyle() for container in axes.containers} == {"None"}


def test_one_line_needs_no_legend_and_near_numbers_no_logarithm(tmp_path, figures):
    draw_lines({"": [Point(4, 1.0), Point(8, 2.0)]}, "title", "steps", "test accuracy (%)", tmp_path / "x.svg")
    assert not figures[0].legends
    assert figures[0].axes[0].get_xscale() == "linear"


def test_bars_begin_at_zero_in_order_from_the_top_with_their_figures(tmp_path, figures):
    draw_bars(BARS, "title", "test accuracy (%)", tmp_path / "x.svg")
    axes = figures[0].axes[0]
    assert axes.get_xlim()[0] == 0
    assert axes.yaxis_inverted()
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(0, 96.0), (0, 93.0)]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["dense", "sparse"]
    assert [text.get_text() for text in axes.texts] == ["96.00 ± 0.20", "93.00"]


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
