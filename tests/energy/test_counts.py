from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.backends.trace import Trace
from esl_neuro.compiler.program import Connection, Group, Program
from esl_neuro.energy import tally as tally_module
from esl_neuro.energy.core_map import CoreMap
from esl_neuro.energy.counts import NO_FILTER, SCHEMA, count
from esl_neuro.energy.fans import fan_out, nonzero_pattern
from esl_neuro.energy.tally import tally, touched
from esl_neuro.errors import BadInput


def make_group(name, bias, du=0):
    zeros = np.zeros(len(bias), dtype=np.int64)
    return Group(name, zeros + du, zeros, zeros + 100, np.asarray(bias, dtype=np.int64), zeros, 1.0)


def make_program(weights, biases, steps=1, declared_extra=0):
    """A chain from dense integer matrices; None marks no entry, 0 a stored zero."""
    connections, groups, source = [], [], "input"
    for depth, (matrix, bias) in enumerate(zip(weights, biases, strict=True)):
        entries = [(i, j, w) for i, row in enumerate(matrix["rows"]) for j, w in enumerate(row) if w is not None]
        i, j, w = (np.array([e[k] for e in entries], dtype=np.int64) for k in range(3))
        csr = sp.csr_matrix((w, (i, j)), shape=matrix["shape"])
        name = f"layer{depth}"
        connections.append(Connection(source, name, csr, 0, csr.nnz + declared_extra))
        groups.append(make_group(name, bias, du=NO_FILTER if depth % 2 else 7))
        source = name
    return Program("loihi2", weights[0]["shape"][1], steps, 1e-3, tuple(connections), tuple(groups))


@st.composite
def runs(draw):
    """A random chain (stored zeros, missing entries, all-zero rows, empty layers), 0/1 spikes, cores and kinds."""
    sizes = draw(st.lists(st.integers(0, 5), min_size=2, max_size=4))
    samples, steps = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    entry = st.sampled_from([None, None, 0, -254, -2, 2, 254])
    weights, biases = [], []
    for inputs, neurons in itertools.pairwise(sizes):
        rows = draw(st.lists(st.lists(entry, min_size=inputs, max_size=inputs), min_size=neurons, max_size=neurons))
        weights.append({"rows": rows, "shape": (neurons, inputs)})
        biases.append(draw(st.lists(st.sampled_from([0, 0, -3, 7]), min_size=neurons, max_size=neurons)))
    seed, rate = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0.0, 0.3, 1.0]))
    random = np.random.default_rng(seed)
    spikes = [(random.random((samples, steps, size)) < rate).astype(np.uint8) for size in sizes]
    program = make_program(weights, biases, steps)
    trace = Trace("integer", spikes[0], {g.name: s for g, s in zip(program.groups, spikes[1:], strict=True)})
    names = ["input", *(g.name for g in program.groups)]
    cores = {name: random.integers(0, 40, size) for name, size in zip(names, sizes, strict=True)}
    if draw(st.booleans()):
        del cores["input"]
    return weights, biases, program, trace, CoreMap(cores), draw(st.sampled_from(["spike", "analog"]))


COUNTED = (
    "spikes_in",
    "spikes_out",
    "sop_effective",
    "sop_executed",
    "sop_executed_dense",
    "sop_bound",
    "macs_effective",
    "macs_dense",
    "neuron_updates",
    "neuron_updates_touched",
    "neuron_updates_idle",
    "bias_adds",
    "weight_words_read",
    "state_reads",
    "state_writes",
    "messages",
    "hops_ew",
    "hops_ns",
)


def place(core):
    tile = core // 4
    return tile // 4, tile % 4


def brute_force(matrix, bias, arriving, emitted, states, kind, origin, cores):
    """Loops over samples, steps, neurons and inputs: the definition of every count, with Python integers."""
    rows, (neurons, inputs) = matrix["rows"], matrix["shape"]
    c = dict.fromkeys(COUNTED, 0)
    spiking = kind == "spike"
    effective_of = np.zeros(arriving.shape[:2], dtype=int)
    for sample, step in np.ndindex(arriving.shape[:2]):
        c["spikes_in"] += sum(int(s) for s in arriving[sample, step])
        c["spikes_out"] += sum(int(s) for s in emitted[sample, step])
        for line in range(inputs):
            if not arriving[sample, step, line]:
                continue
            reached = {int(cores[n]) for n in range(neurons) if rows[n][line] is not None}
            c["messages"] += len(reached)
            if origin is not None:
                for core in reached:
                    (x, y), (to_x, to_y) = place(int(origin[line])), place(core)
                    c["hops_ew"] += abs(x - to_x)
                    c["hops_ns"] += abs(y - to_y)
        for neuron in range(neurons):
            hit = 0
            for line in range(inputs):
                spike, weight = int(arriving[sample, step, line]), rows[neuron][line]
                c["macs_dense"] += 1
                c["weight_words_read"] += bool(spike and weight is not None)
                hit += bool(spike and weight not in (None, 0))
                if spiking:
                    c["sop_bound"] += weight is not None
                    c["sop_executed_dense"] += spike
                    c["sop_executed"] += bool(spike and weight is not None)
            effective_of[sample, step] += hit
            c["neuron_updates"] += 1
            c["neuron_updates_touched" if hit else "neuron_updates_idle"] += 1
            c["bias_adds"] += bias[neuron] != 0
            c["state_reads"] += states
            c["state_writes"] += states
    c["sop_effective" if spiking else "macs_effective"] = int(effective_of.sum())
    if origin is None:
        c["hops_ew"] = c["hops_ns"] = None
    return c, effective_of


@settings(max_examples=60, deadline=None)
@given(runs())
def test_every_count_equals_the_brute_force(run):
    weights, biases, program, trace, placement, kind = run
    counts = count(program, trace, placement, {"input": kind})
    arriving, source = trace.input_spikes, "input"
    for depth, (layer, matrix, bias, emitted) in enumerate(
        zip(counts.layers, weights, biases, trace.spikes.values(), strict=True)
    ):
        signal = kind if source == "input" else "spike"
        states = 1 if depth % 2 else 2
        expected, effective_of = brute_force(
            matrix,
            bias,
            arriving,
            emitted,
            states,
            signal,
            placement.core_of.get(source),
            placement.core_of[layer.name],
        )
        assert {name: getattr(layer, name) for name in expected} == expected
        name = "sop_effective" if signal == "spike" else "macs_effective"
        assert layer.runs[name].tolist() == effective_of.tolist()
        assert layer.per_step(name).tolist() == effective_of.sum(0).tolist()
        assert layer.each_sample(name).tolist() == effective_of.sum(1).tolist()
        assert all(values.dtype == np.int64 for values in layer.runs.values())
        for key, values in layer.runs.items():
            assert int(values.sum()) == getattr(layer, key)
        arriving, source = emitted, layer.name
    assert counts.sop_effective_per_sample.sum() == counts.total("sop_effective")
    document = json.loads(json.dumps(counts.to_dict()))
    assert document["schema"] == SCHEMA


def test_a_small_case_by_hand():
    # Input 0 reaches both neurons, input 1 one of them through a stored zero, input 2 nobody.
    matrix = {"rows": [[2, 0, None], [-4, None, None]], "shape": (2, 3)}
    program = make_program([matrix], [[0, 5]], steps=2, declared_extra=4)
    spikes = np.array([[[1, 1, 1], [0, 1, 0]]], dtype=np.uint8)
    (layer,) = count(program, Trace("integer", spikes, {"layer0": np.array([[[1, 0], [0, 0]]], np.uint8)})).layers
    assert (layer.sop_effective, layer.sop_executed, layer.sop_executed_dense, layer.sop_bound) == (2, 4, 8, 6)
    assert (layer.neuron_updates_touched, layer.neuron_updates_idle, layer.bias_adds) == (2, 2, 2)
    assert (layer.stored, layer.declared, layer.macs_dense, layer.spikes_out) == (3, 7, 12, 1)
    assert (layer.messages, layer.hops_ew) == (None, None)
    assert layer.per_step("sop_executed").tolist() == [3, 1]


def test_a_message_goes_once_to_each_core_that_has_a_target():
    # One spike, four targets: two on core 0 and two on core 41, which is tile 10: two columns and two rows away.
    program = make_program([{"rows": [[2], [2], [2], [2]], "shape": (4, 1)}], [[0] * 4])
    trace = Trace("integer", np.ones((1, 1, 1), np.uint8), {"layer0": np.zeros((1, 1, 4), np.uint8)})
    cores = {"input": np.array([0]), "layer0": np.array([0, 0, 41, 41])}
    (layer,) = count(program, trace, CoreMap(cores)).layers
    assert (layer.messages, layer.hops_ew, layer.hops_ns) == (2, 2, 2)


def test_a_placement_that_does_not_fit_is_refused():
    program = make_program([{"rows": [[2]], "shape": (1, 1)}], [[0]])
    trace = Trace("integer", np.ones((1, 1, 1), np.uint8), {"layer0": np.ones((1, 1, 1), np.uint8)})
    with pytest.raises(BadInput, match="group 'layer0' has no cores"):
        count(program, trace, CoreMap({}))
    with pytest.raises(BadInput, match="cores of 'layer0' have shape"):
        count(program, trace, CoreMap({"layer0": np.array([0, 1])}))


def test_weights_that_cancel_still_touch_the_neuron():
    program = make_program([{"rows": [[6, -6]], "shape": (1, 2)}], [[0]])
    trace = Trace("integer", np.ones((1, 1, 2), np.uint8), {"layer0": np.zeros((1, 1, 1), np.uint8)})
    assert count(program, trace).layers[0].neuron_updates_touched == 1


def test_counts_above_32_bits_are_exact():
    # 256 spikes of one line would wrap a uint8 sum to 0; 2**17 events of fan-out 2**17 overflow int32.
    size = 2**17
    fans = np.full((1, 1), size, dtype=np.int64)
    assert tally(np.ones((size, 1), np.uint8), fans)[:, 1].sum() == 2**34
    program = make_program([{"rows": [[2]], "shape": (1, 1)}], [[0]], steps=256)
    spikes = np.ones((1, 256, 1), np.uint8)
    assert count(program, Trace("integer", spikes, {"layer0": spikes})).layers[0].sop_effective == 256


def test_blocks_and_words_do_not_change_the_touched_count(monkeypatch):
    random = np.random.default_rng(0)
    spikes = (random.random((23, 7)) < 0.3).astype(np.uint8)
    pattern = nonzero_pattern(sp.csr_matrix((random.random((150, 7)) < 0.4).astype(np.int64)))
    expected = ((spikes.astype(np.int64) @ pattern.toarray().T) > 0).sum(1).tolist()
    assert touched(spikes, pattern).tolist() == expected
    monkeypatch.setattr(tally_module, "BLOCK_BYTES", 1)
    assert touched(spikes, pattern).tolist() == expected


@pytest.mark.parametrize(
    ("recurrent", "dense"),
    [
        ([[0, 0], [0, 0]], 4),  # all pruned
        ([[2, 0], [0, 0]], 4),  # few left
        ([[2, 0], [0, 4]], 4),  # only those to itself left
        ([[0, 2], [0, 0]], 4),
        ([[-2, 0], [0, -4]], 2),  # the self-inhibition after a single spike
    ],
)
def test_the_dense_form_of_a_recurrence_is_a_square_matrix(recurrent, dense):
    program = make_program([{"rows": [[2], [2]], "shape": (2, 1)}], [[0, 0]])
    weights = sp.csr_matrix(np.array(recurrent, dtype=np.int64))
    around = Connection("layer0", "layer0", weights, 0, weights.nnz, delay=1)
    program = dataclasses.replace(program, connections=(*program.connections, around))
    trace = Trace("integer", np.ones((1, 1, 1), np.uint8), {"layer0": np.ones((1, 1, 2), np.uint8)})
    first, second = count(program, trace).layers
    assert (first.macs_dense, second.macs_dense) == (2, dense)


def test_fan_out():
    assert fan_out(sp.csr_matrix([[1, 0, 2], [3, 0, 0]])).tolist() == [2, 0, 1]


def test_counting_leaves_the_program_as_it_was():
    program = make_program([{"rows": [[0, 2]], "shape": (1, 2)}], [[0]])
    trace = Trace("integer", np.ones((1, 1, 2), np.uint8), {"layer0": np.ones((1, 1, 1), np.uint8)})
    count(program, trace)
    assert program.connections[0].weights.data.tolist() == [0, 2]


def test_spread_and_mean_over_samples():
    program = make_program([{"rows": [[2, 2]], "shape": (1, 2)}], [[0]])
    spikes = np.array([[[1, 1]], [[0, 0]], [[1, 0]]], dtype=np.uint8)
    counts = count(program, Trace("integer", spikes, {"layer0": np.zeros((3, 1, 1), np.uint8)}))
    spread = counts.spread()
    assert (spread.mean, spread.minimum, spread.maximum) == (1.0, 0, 2)
    assert spread.std == pytest.approx((2 / 3) ** 0.5)
    assert counts.per_sample("sop_effective") == 1.0
    assert counts.each_sample("sop_effective").tolist() == [2, 0, 1]
    assert counts.each_sample("neuron_updates").tolist() == [1, 1, 1]


def test_a_trace_of_another_program_is_refused():
    program = make_program([{"rows": [[2, 2]], "shape": (1, 2)}], [[0]])
    good, out = np.ones((1, 1, 2), np.uint8), np.zeros((1, 1, 1), np.uint8)
    with pytest.raises(BadInput, match=r"layers \['other'\].*\['layer0'\]"):
        count(program, Trace("integer", good, {"other": out}))
    with pytest.raises(BadInput, match=r"'input' have shape \(1, 1, 3\).*\(1, 1, 2\)"):
        count(program, Trace("integer", np.ones((1, 1, 3), np.uint8), {"layer0": out}))
    twos = Trace("integer", good * np.uint8(2), {"layer0": out})
    with pytest.raises(BadInput, match="'input' contain 2; only 0 and 1"):
        count(program, twos)
    assert count(program, twos, signals={"input": "graded"}).total("macs_effective") == 2
    with pytest.raises(BadInput, match="declared 'grade'; did you mean 'graded'"):
        count(program, twos, signals={"input": "grade"})


def test_the_energy_room_does_not_import_torch():
    code = (
        "import sys, esl_neuro.energy.report, esl_neuro.energy.presets, esl_neuro.report.energy_text;"
        "import esl_neuro.energy.validation, esl_neuro.energy.comparison, esl_neuro.report.energy_plots;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
