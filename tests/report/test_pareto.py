"""Accuracy against energy: which cases are on the front, and what the chart says of them."""

from __future__ import annotations

import pytest

from esl_neuro.energy.pareto import PricedCase, front
from esl_neuro.energy.parts import Energy
from esl_neuro.report import pareto_plot
from esl_neuro.report.palette import PAPER
from esl_neuro.report.pareto_plot import draw_pareto
from esl_neuro.report.plots import Layout
from esl_neuro.report.sweep_text import pareto_text

pytest.importorskip("matplotlib")


def case(name, accuracy, median_pj, target="loihi2", stdev=0.01, refusal="", **energy):
    found = None if refusal else Energy(median_pj, 0.5 * median_pj, 2 * median_pj, **energy)
    return PricedCase(name, name, "", target, "model", "chip", accuracy, stdev, 3, 359, found, refusal)


CASES = [
    case("dense", 0.97, 4e6),
    case("half", 0.96, 2e6, lower_bound=True),
    case("worse", 0.95, 3e6),
    case("as half", 0.96, 2e6),
    case("dear", 0.97, 5e6),
    case("dense", 0.97, 4e6, "loihi"),
    case("worse", 0.95, 3e6, "loihi"),
    case("half", 0.96, 2e6, "loihi", refusal="needs two chips"),
]


@pytest.fixture
def figure(monkeypatch, tmp_path):
    kept = []
    save = pareto_plot.save
    monkeypatch.setattr(pareto_plot, "save", lambda figure, path: (kept.append(figure), save(figure, path)))
    draw_pareto(CASES, tmp_path / "a.svg", Layout("single"))
    return kept[0]


def test_a_case_is_on_the_front_if_none_of_its_target_is_better_in_one_and_as_good_in_the_other():
    names = [(each.target, each.case) for each in front(CASES)]
    assert sorted(names) == [
        ("loihi", "dense"), ("loihi", "worse"), ("loihi2", "as half"), ("loihi2", "dense"), ("loihi2", "half"),
    ]  # fmt: skip


def test_the_front_is_joined_and_filled_and_a_case_has_one_colour_in_every_panel(figure):
    loihi2, loihi = figure.axes
    line = loihi2.lines[0]
    assert line.get_label() == "Pareto front"
    assert sorted(line.get_xdata()) == pytest.approx([2e-6, 2e-6, 4e-6])
    drawn = {axes: {each.get_label(): each[0] for each in axes.containers} for axes in (loihi2, loihi)}
    hollow = {name for name, dot in drawn[loihi2].items() if dot.get_markerfacecolor() == PAPER}
    assert hollow == {"worse", "dear"}
    assert set(drawn[loihi]) == {"dense", "worse"}
    for name, dot in drawn[loihi].items():
        assert (dot.get_color(), dot.get_marker()) == (
            drawn[loihi2][name].get_color(),
            drawn[loihi2][name].get_marker(),
        )
    assert len({dot.get_color() for dot in drawn[loihi2].values()}) == 5


def test_the_chart_says_what_its_error_bars_are_and_of_how_many(figure):
    words = " ".join(figure.legends[0].get_title().get_text().split())
    assert words == (
        "accuracy: mean ± standard deviation, n = 3 seeds; energy: median, 5-95 % over constants and n = 359 samples; "
        "arrow: at least this"
    )
    assert figure.get_suptitle() == ""
    (dense, *_) = figure.axes[0].containers
    horizontal, vertical = (bars.get_segments()[0] for bars in dense[2])
    assert [place[0] for place in horizontal] == pytest.approx([2e-6, 8e-6])
    assert [place[1] for place in vertical] == pytest.approx([96, 98])


def test_the_text_marks_the_front_and_says_what_has_no_figure(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    lines = pareto_text(CASES, None).splitlines()
    marked = [(line.split("  ")[0], "*" in line) for line in lines[3:10]]
    assert marked == [(each.case, each in front(CASES)) for each in CASES[:7]]
    assert "half on loihi: no figure, needs two chips" in lines
