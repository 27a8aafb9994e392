"""Benchmarks measure alike, and `make bench` runs them, continues what was interrupted and shows what they found."""

from __future__ import annotations

import json
import sys
import time
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import growth
import measurement
import scaling
from esl_neuro.report.plots import check_plot
from growth import Point, curves, fits, fixed_fan_in, in_own_process, measure_integers
from limits import limits
from sparse_break_even import break_even
from system.command_workspace import REPOSITORY


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(REPOSITORY / "scripts"))
    try:
        loader = SourceFileLoader("bench", str(REPOSITORY / "scripts" / "bench"))
        module = module_from_spec(spec_from_loader("bench", loader))
        loader.exec_module(module)
    finally:
        sys.path.remove(str(REPOSITORY / "scripts"))
    return module


def published(stem):
    """The record that stands in the repository."""
    return json.loads((REPOSITORY / "benchmarks" / f"{stem}.json").read_text(encoding="utf-8"))


# --- what all of them do alike ---------------------------------------------------------------------------------------


def test_actions_take_turns_and_only_rounds_after_the_first_count():
    done = []
    times = measurement.in_turns({name: lambda name=name: done.append(name) for name in "ab"}, repeat=2, warm_up=1)
    assert done == ["a", "b"] * 3
    assert [len(times[name].wall) for name in "ab"] == [2, 2]


def test_times_are_those_of_the_action():
    def work():
        until = time.process_time() + 0.02
        while time.process_time() < until:
            pass

    taken = measurement.in_turns({"": work}, repeat=3)[""]
    assert taken.processor_ms >= 20
    assert taken.shortest_ms >= 20
    assert taken.shortest_ms <= taken.wall_ms


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_the_peak_of_memory_is_that_of_the_action_alone():
    before = np.ones(50_000_000, np.uint8)
    assert 75 <= measurement.peak_mb(lambda: np.ones(80_000_000, np.uint8)) < 130
    del before


@given(st.floats(min_value=-1e9, max_value=1e9))
def test_a_record_has_four_digits_and_a_table_shows_all_of_them(value):
    kept = measurement.rounded({"a": [value]})["a"][0]
    assert kept == pytest.approx(value, rel=5.1e-4, abs=1e-300)
    assert float(measurement.figure(kept).replace(",", "")) == pytest.approx(kept, rel=1e-5, abs=1e-300)


def test_limits_are_rates_of_this_machine():
    found = limits(threads=1)
    assert found.copy_gb_per_s > 0.1
    assert found.multiply_adds_g_per_s > 0.1
    assert found.additions_g_per_s > 0.1
    assert found.shares(2.0, multiply_adds=found.multiply_adds_g_per_s * 1e9)["of_multiply_adds"] == pytest.approx(0.5)


# --- growth ----------------------------------------------------------------------------------------------------------


def test_along_a_curve_one_size_grows():
    for name, points in curves(3, 64).items():
        subject, size = name.split(" by ")
        grows = {"connections": "fan_in"}.get(size, size)
        others = [{key: value for key, value in vars(point).items() if key != grows} for point in points]
        assert others == [others[0]] * 3
        assert {point.subject for point in points} == {subject}
        assert len({getattr(point, grows) for point in points}) == 3


@given(st.floats(0.1, 3), st.floats(0.01, 100))
def test_fits_find_the_exponent_of_a_power(exponent, factor):
    sizes = [1.0, 4.0, 16.0, 64.0]
    assert fits(sizes, [factor * size**exponent for size in sizes])["exponent"] == pytest.approx(exponent, abs=1e-6)


@given(st.floats(0, 100), st.floats(0.1, 10))
def test_fits_find_a_line_above_a_constant(constant, slope):
    found = fits([1.0, 4.0, 16.0], [constant + slope * size for size in (1, 4, 16)])
    assert found["slope"] == pytest.approx(slope, rel=1e-6)
    assert found["constant"] == pytest.approx(constant, abs=1e-4)
    assert found["distance"] < 1e-6


def test_every_neuron_has_as_many_different_inputs_as_its_fan_in():
    matrix = fixed_fan_in(64, 8, np.random.default_rng(0))
    assert matrix.shape == (64, 64)
    assert matrix.has_canonical_format
    assert (np.diff(matrix.indptr) == 8).all()
    assert (matrix.data != 0).all()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_point_of_the_integer_simulator_counts_what_it_times():
    found = measure_integers(Point("integers", width=64, fan_in=8, rate=1.0))
    assert found["connections"] == 2 * 64 * 8
    assert found["operations"] >= 64 * 8 * 4  # each input line spikes at each of four steps
    assert found["updates"] == 2 * 64 * 4


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_point_of_training_has_the_connections_of_its_fan_in():
    found = in_own_process(Point("training", width=64, fan_in=8))
    assert found["connections"] == 2 * 64 * 8
    assert found["processor_ms"] > 0
    assert found["operations"] > 3 * found["connections"] * 4 * 32


def test_the_chart_of_growth_is_drawn_from_the_record(tmp_path):
    path = tmp_path / "growth.svg"
    check_plot(path)
    growth.draw(published("growth"), path)
    assert path.stat().st_size > 5000


def test_the_square_layer_stays_below_its_limit_in_the_record():
    square = published("growth")["square"]
    assert square["connections"] == 65_536 * 16
    assert square["peak_mb"] < square["limit_mb"] == 150


# --- break-even and scaling -----------------------------------------------------------------------------------------


def test_a_break_even_outside_the_densities_is_none():
    assert break_even({0.1: 0.5, 0.2: 0.9}) is None
    assert break_even({0.1: 1.5, 0.2: 2.0}) is None
    assert break_even({0.2: 0.5, 0.4: 0.75, 0.6: 1.25}) == pytest.approx(0.5)


def test_twice_the_memory_holds_twice_the_neurons_and_a_faster_link_takes_less_of_a_step():
    record = published("scaling")
    constants = {**record["constants"]["growth"], **record["constants"]["scaling"]}
    one, two = (scaling.plan(constants, memory, record["limits"]) for memory in (16.0, 32.0))
    fit = [each["neurons that fit"]["this machine"] for each in (one, two)]
    assert fit[1] == pytest.approx(2 * fit[0])
    exchange = [each["2 cores"] for each in one["all-reduce / step"].values()]
    assert exchange == sorted(exchange, reverse=True)
    samples = one[scaling.BATCHES]["10 Gbit/s"]["2 cores"]
    assert one["all-reduce / step"]["10 Gbit/s"]["2 cores"] * scaling.SAMPLES / samples == pytest.approx(scaling.SHARE)


def test_the_exchange_of_a_step_is_the_gradient_sent_twice_over_the_link():
    constants = dict.fromkeys(
        [*published("scaling")["constants"]["growth"], *published("scaling")["constants"]["scaling"]], 1.0
    )
    limit = {key: {"copy_gb_per_s": 1.0} for key in ("one thread", "all threads")}
    found = scaling.plan(constants, 16.0, limit)
    step_ns = scaling.STEPS * scaling.SAMPLES * (scaling.FAN_IN + 1) / 2  # two cores, a ns for everything
    exchange_ns = 2 * 4 * scaling.FAN_IN * 8 / 10  # bytes of a neuron, in bits, at 10 bits a ns
    assert found["all-reduce / step"]["10 Gbit/s"]["2 cores"] == pytest.approx(exchange_ns / step_ns)


# --- make bench -----------------------------------------------------------------------------------------------------


def test_every_benchmark_shows_what_its_published_record_says(bench):
    records = {stem: published(stem) for stem in bench.NAMES}
    shown = bench.summary(records)
    assert all(f"\n{stem} " in shown for stem in records)


def test_what_an_interrupted_run_completed_is_not_run_again(bench, tmp_path, capsys):
    (tmp_path / "counting.json").write_text('{"kept": true}', encoding="utf-8")
    assert bench.completed(["counting"], tmp_path, quick=True, anew=False) == {"counting": {"kept": True}}
    assert "complete" in capsys.readouterr().err


def test_a_benchmark_that_fails_leaves_no_record(bench, tmp_path, monkeypatch):
    monkeypatch.setitem(bench.INDEX["counting"], "quick", "--no-such-option")
    assert bench.completed(["counting"], tmp_path, quick=True, anew=False) == {}
    assert list(tmp_path.iterdir()) == []


def test_unknown_benchmarks_are_refused_with_those_that_there_are(bench, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench", "growht"])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code == 2
    assert "'growht' is not a benchmark; did you mean 'growth'?" in capsys.readouterr().err
