from __future__ import annotations

import json

import pytest

from energy.make_counts import COUNTS, LAYER, with_runs
from esl_neuro.energy.comparison import Side, compare_counts
from esl_neuro.report.comparison_text import render_comparison

TARGETS = ("truenorth", "loihi", "loihi2", "v100-pcie", "akida")


@pytest.fixture(scope="module")
def result():
    half = with_runs(**{name: values // 2 for name, values in LAYER.runs.items() if name.startswith("sop")})
    return compare_counts(
        Side("dense", "2 samples", None, COUNTS), Side("sparse", "2 samples", 0.5, half), TARGETS, 1e-3
    )


def test_half_the_operations_are_half_the_energy_where_only_operations_count(result):
    found = {(c.first.target, c.first.model): c for c in result.comparisons}
    both = found["truenorth", "all-in"]
    assert (both.low, both.ratio, both.high) == pytest.approx((2, 2, 2))
    assert both.probability == 0
    assert 1 < found["loihi", "silicon"].ratio < 2
    assert found["v100-pcie", "peak-2-flop"].ratio == pytest.approx(1)  # dense kernels do not care


def test_what_is_refused_is_not_compared(result):
    assert not [c for c in result.comparisons if c.first.target == "akida" or c.first.model == "per-operation"]


def test_the_first_on_each_processor_is_held_against_the_second_on_each_chip(result):
    found = {(c.processor.model, c.chip.name): c for c in result.crossings}
    assert {model for model, _ in found} == {"batch-1", "utilisation", "peak-2-flop", "peak-1-flop-once"}
    assert {c.chip.target for c in result.crossings} == {"truenorth", "loihi", "loihi2"}
    assert not [c for c in result.crossings if c.chip.level not in ("chip", "board")]
    assert {c.pace for c in result.crossings} == {"free running", "1 ms a step"}
    # 80 dense connections, 25 operations of 26 pJ: by hand, and both ends of the range of the peak rate.
    once = found["peak-1-flop-once", "truenorth:all-in"]
    assert once.ratio == pytest.approx(80 * 250 / 14 / (25 * 26), rel=0.02)
    assert once.low < once.ratio < once.high
    assert (once.relation, once.probability) == (">=", 1)
    assert found["peak-1-flop-once", "loihi:silicon-chip"].relation == "~"
    assert found["utilisation", "truenorth:all-in"].relation == "="
    assert {name for _, name in found if name.startswith("loihi2")} >= {
        "loihi2:fitted-chip-synapse",
        "loihi2:fitted-chip-neuron",
    }


def test_as_text_and_as_json(result):
    document = json.loads(json.dumps(result.to_dict()))
    assert document["counts_per_sample"]["sop_effective"] == [50, 25]
    bounds = {(c["target"], c["model"]): c for c in document["comparisons"]}
    silicon = bounds["loihi", "silicon"]  # messages between cores have no count, so both energies are lower bounds
    assert (silicon["relation"], silicon["first_lower_bound"], silicon["second_lower_bound"]) == ("~", True, True)
    assert bounds["truenorth", "all-in"]["relation"] == "="
    assert {(c["relation"], c["processor_lower_bound"], c["chip_lower_bound"]) for c in document["crossings"]} >= {
        ("~", True, True),
        ("=", False, False),
    }
    text = render_comparison(result)
    assert "A: dense (30 stored connections; 2 samples x 10 steps)\nB: sparse" in text
    assert "; accuracy 50.00 %)" in text
    assert "A on the board v100-pcie over B on a whole chip" in text
    assert max(map(len, text.splitlines())) <= 100


def test_what_is_equal_in_every_draw_is_said_to_be_equal():
    same = compare_counts(Side("a", "2 samples", None, COUNTS), Side("b", "2 samples", None, COUNTS), TARGETS, 1e-3)
    assert all(each.equal for each in same.comparisons)
    rows = [line.split() for line in render_comparison(same).splitlines()]
    assert [row[-1] for row in rows if row[:2] == ["loihi", "silicon"] and "per_term" in row] == ["equal"]


def test_energies_and_ratio_are_of_the_same_draws(result):
    each = next(c for c in result.comparisons if (c.first.target, c.first.model) == ("truenorth", "all-in"))
    assert each.first_median_pj / each.second_median_pj == pytest.approx(each.ratio)
