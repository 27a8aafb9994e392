from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import scipy.sparse as sp

from energy.make_counts import COUNTS, LAYER, spread, with_runs
from esl_neuro.backends.trace import Trace
from esl_neuro.compiler.program import Connection, Group, Program
from esl_neuro.energy.chips import table2
from esl_neuro.energy.core_use import CoreUse
from esl_neuro.energy.counts import Counts
from esl_neuro.energy.estimate import Estimate, Refused
from esl_neuro.energy.prices import PRICE_MODELS, price
from esl_neuro.energy.report import energy_report, gpu_ratios
from esl_neuro.energy.step_time import timing
from esl_neuro.energy.uncertainty import Draws, median_ratio
from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target
from esl_neuro.resources import resource_names


def estimate(target, model, tick_s=1e-3, counts=COUNTS):
    return PRICE_MODELS[model](counts, load_target(target), tick_s)


def energies(result):
    return dataclasses.astuple(result.energy_pj)


def test_truenorth_all_in():
    result = estimate("truenorth", "all-in")
    assert energies(result) == pytest.approx((50 * 24.2, 50 * 26, 50 * 28.1))
    assert (result.scope, result.evidence, result.lower_bound) == ("all_in", "measured", False)


def test_truenorth_marginal_plus_static():
    # 10 steps x 1 ms x 64.6 mW = 646 uJ = 6.46e8 pJ.
    result = estimate("truenorth", "marginal-static")
    assert energies(result) == pytest.approx((50 * 2.19 + 6.39e8, 50 * 2.28 + 6.46e8, 50 * 2.37 + 6.53e8))
    assert result.scope == "marginal+static"
    assert estimate("truenorth", "marginal-static", tick_s=2e-3).terms[1].energy_pj.nominal == pytest.approx(1.292e9)


def test_truenorth_peak_is_a_best_case():
    result = estimate("truenorth", "peak")
    assert result.energy_pj.nominal == pytest.approx(50 * 2.5)
    assert result.lower_bound


def test_loihi_table2():
    result = estimate("loihi", "table2")
    nominal = 60 * 23.6 + 15 * 81 + 25 * 52
    low = 60 * 23.6 + 40 * 51.2
    high = 60 * 35.5 + 40 * 81
    assert energies(result) == pytest.approx((low, nominal, high))
    assert [(item.what, item.count) for item in result.unpriced] == [("spikes sent over the mesh", 4.0)]
    assert (result.lower_bound, result.evidence) == (True, "simulated")


def test_loihi_silicon():
    result = estimate("loihi", "silicon")
    assert result.energy_pj.nominal == pytest.approx(60 * 33.6 + 15 * 72.8 + 25 * 51.2 + 2 * 69.3)
    assert result.energy_pj.low == pytest.approx(60 * 29.7 + 40 * 51.2 + 2 * 69.3)
    assert result.lower_bound  # spikes crossed the mesh and have no price


def test_nothing_unpriced_where_nothing_happened():
    nothing = spread(0, 0)
    silent = with_runs(spikes_in=nothing, sop_effective=nothing, sop_executed=nothing)
    result = estimate("loihi", "silicon", counts=silent)
    assert result.unpriced == ()
    assert not result.lower_bound


def test_static_power_is_a_row_of_its_own():
    result = estimate("loihi", "static")
    assert energies(result) == pytest.approx((0.029 * 0.01 * 1e12, 0.1044 * 0.01 * 1e12, 0.1044 * 0.01 * 1e12))
    assert result.scope == "static"
    per_term = [e for e in price(COUNTS, load_target("loihi"), 1e-3) if e.scope == "per_term"]
    assert len(per_term) == 3
    assert all(constant.scope == "per_term" for e in per_term for constant in e.constants)


def test_loihi2_refuses_what_nobody_published():
    refused = {each.model: each for each in price(COUNTS, load_target("loihi2"), 1e-3)}["per-operation"]
    assert refused.energy_pj is None
    assert refused.refusal is not None
    assert "loihi2.e_synop" in refused.refusal
    assert refused.to_dict()["energy_pj_per_sample"] is None


USE = CoreUse(3, 128, 4, np.full((2, 10), 1000, dtype=np.int64), 1)
ON_LOIHI2 = dataclasses.replace(COUNTS, core_use={"loihi2": USE})


def test_loihi2_by_hand():
    """10 steps, 3 cores, 60 SOPs and 40 updates, for both pairs of prices."""
    fixed = 10 * 27.8e3 + 30 * 2.88e3
    synapse, neuron = (estimate("loihi2", f"fitted-{each}", counts=ON_LOIHI2) for each in ("synapse", "neuron"))
    assert synapse.energy_pj.nominal == pytest.approx(fixed + 0.97 * (60 * 23.6 + 40 * 81))
    assert neuron.energy_pj.nominal == pytest.approx(fixed + 0.97 * (60 * 4 + 40 * 390))
    assert (synapse.evidence, synapse.level, synapse.reading) == ("fitted", "operations", "synapse")
    whole = estimate("loihi2", "fitted-chip", counts=ON_LOIHI2)
    assert whole.energy_pj.nominal == pytest.approx(synapse.energy_pj.nominal + 0.2136 * 0.01 * 1e12)
    board = estimate("loihi2", "fitted-board", counts=ON_LOIHI2)
    assert board.energy_pj.nominal == pytest.approx(whole.energy_pj.nominal + 1.56 * 0.01 * 1e12)
    assert [each.level for each in (whole, board)] == ["chip", "board"]


def test_the_open_pair_of_prices_is_drawn_as_one():
    """Never both prices low, or both high: the draws stay between the two pairs."""
    open_pair, *pairs = (
        estimate("loihi2", f"fitted{each}", counts=ON_LOIHI2).sample(Draws(200)) for each in ("", "-synapse", "-neuron")
    )
    assert (open_pair >= np.minimum(*pairs) * (1 - 1e-12)).all()
    assert (open_pair <= np.maximum(*pairs) * (1 + 1e-12)).all()


def test_loihi2_refuses_more_than_one_chip():
    many = dataclasses.replace(COUNTS, core_use={"loihi2": dataclasses.replace(USE, cores=129)})
    found = {each.model: each for each in price(many, load_target("loihi2"), None)}
    for model in ("fitted", "fitted-chip", "fitted-chip-neuron", "fitted-board"):
        assert found[model].energy_pj is None
        assert "129 cores on 2 chips" in found[model].refusal


def test_static_power_is_that_of_all_chips_that_the_network_needs():
    one, three = (
        dataclasses.replace(COUNTS, core_use={"loihi": dataclasses.replace(USE, cores=cores)}) for cores in (128, 257)
    )
    single, triple = (estimate("loihi", "static", counts=counts) for counts in (one, three))
    assert energies(triple) == pytest.approx([3 * each for each in energies(single)])
    assert triple.terms[0].what.endswith("x 3 chips")
    draws = [each.sample(Draws(50)) for each in (single, triple)]
    assert draws[1] == pytest.approx(3 * draws[0])


def test_a_free_running_chip_takes_its_floor_or_the_work_of_its_busiest_core():
    chip = load_target("loihi2")
    floor = timing(ON_LOIHI2, chip, None)
    assert floor.step_s.nominal == pytest.approx(1.77e-6)  # 1,000 SOPs take 1.01 us
    work = np.full((2, 10), 1000, dtype=np.int64)
    work[:, 0] = 100_000
    busy = dataclasses.replace(COUNTS, core_use={"loihi2": dataclasses.replace(USE, busiest=work)})
    assert timing(busy, chip, None).latency_s.nominal == pytest.approx(9 * 1.77e-6 + 101e-6)
    static = estimate("loihi2", "static", tick_s=None, counts=busy)
    assert static.energy_pj.nominal == pytest.approx(0.2136 * (9 * 1.77e-6 + 101e-6) * 1e12)


def test_a_step_of_real_time_is_never_shorter_than_the_chip_needs():
    chip = load_target("loihi2")
    assert timing(ON_LOIHI2, chip, 1e-3).step_s.nominal == pytest.approx(1e-3)
    slow = timing(ON_LOIHI2, chip, 1e-7)
    assert slow.step_s.nominal == pytest.approx(1.77e-6)
    assert any("cannot keep" in note for note in slow.notes)


def test_truenorth_keeps_its_own_clock_and_an_unpublished_step_is_refused():
    assert timing(COUNTS, load_target("truenorth"), None).step_s.nominal == pytest.approx(1e-3)
    fast = timing(COUNTS, load_target("truenorth"), 1e-6)
    assert fast.step_s.nominal == pytest.approx(1e-3)
    assert any("cannot keep a step of 1e-06 s" in note for note in fast.notes)
    with pytest.raises(Refused, match="give one, such as --tick 1ms"):
        timing(COUNTS, load_target("odin"), None)


def test_v100_counts_dense_work():
    _, band, two, once = price(COUNTS, load_target("v100-pcie"), 1e-3)
    pj = 250 / 14e12 * 1e12
    assert two.energy_pj.nominal == pytest.approx(2 * 800 * pj)
    assert once.energy_pj.nominal == pytest.approx(20 * 4 * pj)
    assert two.energy_pj.low == pytest.approx(2 * 800 * 250 / 14.1)
    assert two.lower_bound
    assert once.lower_bound
    assert energies(band) == pytest.approx((2 * 800 * 250 / 14.1, 2 * 800 * pj / 0.03, 2 * 800 * pj / 0.001))
    assert (band.scope, band.evidence, band.lower_bound) == ("utilisation", "assumed", False)


@pytest.mark.parametrize("target", resource_names("hw_targets"))
def test_every_estimate_is_the_sum_of_its_terms(target):
    for result in price(COUNTS, load_target(target), 1e-3):
        for end in ("low", "nominal", "high"):
            terms = [term.count * getattr(term.price_pj, end) for term in result.terms]
            total = 0.0 if result.energy_pj is None else getattr(result.energy_pj, end)
            assert total == pytest.approx(sum(terms))
        if result.energy_pj is not None:
            assert result.energy_pj.low <= result.energy_pj.nominal <= result.energy_pj.high
            assert sum(result.by_layer_pj().values()) == pytest.approx(result.energy_pj.nominal)
        json.dumps(result.to_dict())


def test_scopes_are_never_mixed_in_a_sum():
    per_term, static = estimate("loihi", "table2"), estimate("loihi", "static")
    with pytest.raises(BadInput, match=r"scope \['per_term', 'static'\] cannot be added"):
        Estimate("loihi", "neuromorphic", "mixed", "per_term", "both", (*per_term.terms, *static.terms))
    all_in = estimate("truenorth", "all-in")
    with pytest.raises(BadInput, match="cannot be added"):
        Estimate("truenorth", "neuromorphic", "mixed", "marginal+static", "both", (*all_in.terms, *static.terms))


def test_an_unknown_model_or_a_missing_constant_is_named():
    chip = load_target("loihi")
    wrong = chip.model_copy(update={"target": chip.target.model_copy(update={"price_models": ["tabel2"]})})
    with pytest.raises(BadInput, match="price model 'tabel2' is unknown; did you mean 'table2'"):
        price(COUNTS, wrong, 1e-3)
    with pytest.raises(BadInput, match="'v100-pcie': constant 'e_synop_min' is missing"):
        table2(COUNTS, load_target("v100-pcie"), 1e-3)


def test_no_samples_no_energy_per_sample():
    with pytest.raises(BadInput, match="0 samples"):
        estimate("truenorth", "all-in", counts=Counts(0, 10, (LAYER,)))


def test_ratios_name_both_sides_and_leave_static_power_out():
    chips = [e for name in ("truenorth", "loihi2", "v100-pcie") for e in price(COUNTS, load_target(name), 1e-3)]
    found = {(r.second.target, r.second.model): r for r in gpu_ratios(chips, Draws())}
    assert set(found) == {
        ("truenorth", "all-in"),
        ("truenorth", "marginal-static"),
        ("truenorth", "peak"),
        *(("loihi2", f"fitted-{each}") for each in ("chip", "chip-synapse", "chip-neuron", "chip-n3c1", "board")),
    }
    ratio = found["truenorth", "all-in"]
    assert ratio.first.model == "peak-2-flop"
    assert ratio.first.energy_pj.nominal / ratio.second.energy_pj.nominal == pytest.approx(1600 * 250 / 14 / (50 * 26))
    assert ratio.median == median_ratio(ratio.first, ratio.second, Draws())
    assert ratio.relation == ">="
    assert found["truenorth", "peak"].relation == "~"
    assert ratio.to_dict()["second"] == {"target": "truenorth", "model": "all-in", "scope": "all_in"}


def test_messages_and_hops_are_priced_where_a_placement_is_known():
    placed = dataclasses.replace(
        LAYER, messages=14, hops_ew=6, hops_ns=2,
        runs=LAYER.runs | {"messages": spread(10, 4), "hops_ew": spread(4, 2), "hops_ns": spread(2, 0)},
    )  # fmt: skip
    counts = Counts(2, 10, (placed,))
    result = estimate("loihi", "silicon", counts=counts)
    without = estimate("loihi", "silicon").energy_pj.nominal
    assert result.energy_pj.nominal == pytest.approx(without + 7 * 111 + 3 * 3.0 + 1 * 4.0)
    assert not result.unpriced
    assert not result.lower_bound


def test_each_layer_is_priced_in_the_synapse_format_that_it_has():
    convolution = dataclasses.replace(LAYER, name="conv", weights=3)
    rest = estimate("loihi", "silicon").energy_pj.nominal - 60 * 33.6
    both = estimate("loihi", "silicon", counts=Counts(2, 10, (LAYER, convolution)))
    assert [term.what for term in both.terms[:2]] == ["synaptic operations", "synaptic operations of convolutions"]
    assert both.energy_pj.nominal == pytest.approx(60 * 33.6 + 60 * 24.0 + 2 * rest)
    assert set(both.by_layer_pj()) == {"fc", "conv"}
    # The dense format executes zeros: 16 instead of 60 in these made-up counts.
    assert estimate("loihi", "silicon-dense").energy_pj.nominal == pytest.approx(16 * 35.5 + rest)


def test_values_that_are_no_spikes_have_no_price_on_a_chip():
    counts = with_runs(macs_effective=spread(3, 1))
    for target, model in (("truenorth", "all-in"), ("loihi", "table2"), ("darwin3", "marginal")):
        result = estimate(target, model, counts=counts)
        assert ("multiply accumulates of values that are no spikes", 2.0) in [
            (u.what, u.count) for u in result.unpriced
        ]
        assert result.lower_bound


def test_chips_with_one_price_each():
    assert estimate("odin", "all-in").energy_pj.nominal == pytest.approx(50 * 12.7)
    assert estimate("odin", "marginal").energy_pj.nominal == pytest.approx(50 * 8.43)
    assert estimate("darwin3", "marginal").energy_pj.nominal == pytest.approx(50 * 5.47)
    assert estimate("tianjic", "all-in").energy_pj.nominal == pytest.approx(50 * 1000 / 649)
    assert estimate("rolls", "per-operation").energy_pj.nominal == pytest.approx(60 * 0.077)
    assert estimate("spinnaker", "synapse-neuron").energy_pj.nominal == pytest.approx(60 * 13300 + 40 * 26000)
    assert estimate("arm-cortex-a", "per-mac").energy_pj.nominal == pytest.approx(800 * 900)


@pytest.mark.parametrize(("target", "figure"), [("speck", "0.42 mW"), ("xylo", "6.6 uJ"), ("akida", "250 mW")])
def test_chips_without_a_price_are_refused_and_their_systems_shown(target, figure):
    (result,) = price(COUNTS, load_target(target), 1e-3)
    assert result.energy_pj is None
    assert result.refusal.startswith("unpublished")
    assert any(figure in note for note in result.notes)


def test_cmos_arithmetic_is_the_number_of_the_literature():
    counts = with_runs(macs_effective=spread(3, 1))
    assert estimate("cmos45", "arithmetic").energy_pj.nominal == pytest.approx(50 * 0.9)
    assert estimate("cmos45", "arithmetic", counts=counts).energy_pj.nominal == pytest.approx(50 * 0.9 + 2 * 4.6)
    assert estimate("cmos45", "arithmetic-int8").energy_pj.nominal == pytest.approx(50 * 0.03)


def test_cmos_with_memory_reads_weights_and_states():
    # 30 weights and 4 states fit into 8 KB: 10 pJ for 64 bits, which are two words.
    result = estimate("cmos45", "with-memory").energy_pj.nominal
    assert result == pytest.approx(50 * 0.9 + 40 * 3.7 + 40 * 0.9 + 60 / 2 * 10 + 80 / 2 * 10)


def test_a_layer_too_large_for_the_memory_reads_from_a_larger_one():
    large = Counts(2, 10, (dataclasses.replace(LAYER, weights=300_000),))
    small, big = (estimate("cmos45", "with-memory", counts=c).energy_pj.nominal for c in (COUNTS, large))
    dram = (1300 * 2600) ** 0.5
    assert big - small == pytest.approx(60 / 2 * (dram - 10))


def test_lemaire_has_the_corrected_terms():
    # theta_in N = 16, T N = 40, theta_out = 2, theta_in = 4 per sample; every memory of 8 KB.
    events, updates, out, arriving = 16, 40, 2, 4
    operations = 2 * (events + updates + out) * 0.1
    accesses = (events + updates) + 2 * (events + updates + out) + (arriving + out)
    assert estimate("cmos45", "lemaire").energy_pj.nominal == pytest.approx(operations + accesses / 2 * 10)


def small_run(weights, spikes, emitted, steps=None):
    matrix = sp.csr_matrix(np.asarray(weights, dtype=np.int64))
    zeros = np.zeros(matrix.shape[0], dtype=np.int64)
    group = Group("fc", zeros, zeros, zeros + 1, zeros, zeros, 1.0)
    connection = Connection("input", "fc", matrix, 0, matrix.nnz)
    program = Program("loihi2", matrix.shape[1], steps or spikes.shape[1], 1e-3, (connection,), (group,))
    return program, Trace("integer", spikes, {"fc": emitted})


def test_synapses_of_several_delays_are_one_fan_in_and_their_price_is_said_to_be_unknown():
    program, trace = small_run(np.full((2, 200), 2), np.ones((1, 8, 200), np.uint8), np.ones((1, 8, 2), np.uint8))
    late = dataclasses.replace(program.connections[0], delay=5)
    report = energy_report(dataclasses.replace(program, connections=(program.connections[0], late)), trace)
    text = "\n".join(report.warnings)
    assert "truenorth: layer 'fc' has a fan-in of 400, the chip takes 256 axons" in text
    assert "synapses hold spikes for up to 5 steps: no price of a delay is published, so a delayed operation" in text
    assert "hold spikes" not in "\n".join(energy_report(program, trace).warnings)


def test_report_puts_everything_together():
    spikes = np.ones((2, 3, 300), np.uint8)
    run = small_run(np.full((2, 300), 2), spikes, np.zeros((2, 3, 2), np.uint8), steps=4)
    report = energy_report(*run)
    assert (report.samples, report.steps, report.stored, report.dense, report.density) == (2, 3, 600, 600, 1.0)
    assert [e.target for e in report.estimates] == [
        *("truenorth",) * 3,
        *("loihi",) * 5,
        *("loihi2",) * 11,
        *("cmos45",) * 4,
        *("v100-pcie",) * 4,
    ]
    assert [e.model for e, _ in report.summary] == [
        *("marginal-static", "silicon-chip", "fitted-chip", "with-memory", "batch-1"),
    ]
    text = "\n".join(report.warnings)
    assert "layer 'fc' never spikes" in text
    assert "truenorth: layer 'fc' has a fan-in of 300, the chip takes 256 axons" in text
    assert "3 steps per sample, the program was exported for 4" in text
    assert "dense process" not in text  # nothing to skip in a dense layer
    document = json.loads(json.dumps(report.to_dict()))
    assert document["schema"] == 4
    assert document["counts"]["layers"][0]["sop_effective"] == 2 * 3 * 600
    assert document["counts"]["sop_effective_per_sample"] == [1800, 1800]
    used = {identity for row in document["estimates"] for identity in row["constants"]}
    assert used == set(document["constants"])


def test_report_warns_what_a_dense_process_would_do():
    weights = np.zeros((4, 2))
    weights[0] = 2
    run = small_run(weights, np.ones((1, 1, 2), np.uint8), np.ones((1, 1, 4), np.uint8))
    assert any("executes 4.00 times as many" in warning for warning in energy_report(*run).warnings)


@pytest.mark.parametrize("tick_s", [0.0, -1e-3, float("nan"), float("inf")])
def test_report_refuses_a_tick_that_is_no_duration(tick_s):
    run = small_run([[2]], np.ones((1, 1, 1), np.uint8), np.ones((1, 1, 1), np.uint8))
    with pytest.raises(BadInput, match="tick_s is"):
        energy_report(*run, tick_s=tick_s)


def test_report_refuses_an_empty_run():
    run = small_run([[2]], np.ones((0, 1, 1), np.uint8), np.ones((0, 1, 1), np.uint8))
    with pytest.raises(BadInput, match="0 samples"):
        energy_report(*run)


def test_report_of_a_silent_run():
    run = small_run([[2]], np.zeros((1, 1, 1), np.uint8), np.zeros((1, 1, 1), np.uint8))
    report = energy_report(*run)
    by_name = {(e.target, e.model): e for e in report.estimates}
    assert by_name["truenorth", "all-in"].energy_pj.nominal == 0
    assert by_name["truenorth", "marginal-static"].energy_pj.nominal > 0
