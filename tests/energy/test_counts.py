from __future__ import annotations

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
from esl_neuro.energy import counts as counts_module
from esl_neuro.energy.counts import count, fan_out, nonzero_pattern, touched_updates
from esl_neuro.errors import BadInput


def make_group(name, bias):
    zeros = np.zeros(len(bias), dtype=np.int64)
    return Group(name, zeros, zeros, zeros + 100, np.asarray(bias, dtype=np.int64), zeros, 1.0)


def make_program(weights, biases, steps=1, declared_extra=0):
    """A chain from dense integer matrices; None marks no entry, 0 a stored zero."""
    connections, groups, source = [], [], "input"
    for depth, (matrix, bias) in enumerate(zip(weights, biases, strict=True)):
        entries = [(i, j, w) for i, row in enumerate(matrix["rows"]) for j, w in enumerate(row) if w is not None]
        i, j, w = (np.array([e[k] for e in entries], dtype=np.int64) for k in range(3))
        csr = sp.csr_matrix((w, (i, j)), shape=matrix["shape"])
        name = f"layer{depth}"
        connections.append(Connection(source, name, csr, 0, csr.nnz + declared_extra))
        groups.append(make_group(name, bias))
        source = name
    return Program("loihi2", weights[0]["shape"][1], steps, 1e-3, tuple(connections), tuple(groups))


@st.composite
def runs(draw):
    """A random chain (stored zeros, missing entries, all-zero rows, empty layers) with random 0/1 spikes."""
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
    return weights, biases, program, trace


COUNTED = (
    "spikes_in",
    "spikes_out",
    "sop_effective",
    "sop_executed",
    "sop_executed_dense",
    "sop_bound",
    "neuron_updates",
    "neuron_updates_touched",
    "neuron_updates_idle",
    "bias_adds",
    "macs_dense",
)


def brute_force(matrix, bias, arriving, emitted):
    """Loops over samples, steps, neurons and inputs: the definition of every count, with Python integers."""
    rows, (neurons, inputs) = matrix["rows"], matrix["shape"]
    c = dict.fromkeys(COUNTED, 0)
    per_sample = []
    for sample in range(arriving.shape[0]):
        effective = 0
        for step in range(arriving.shape[1]):
            c["spikes_in"] += sum(int(s) for s in arriving[sample, step])
            c["spikes_out"] += sum(int(s) for s in emitted[sample, step])
            for neuron in range(neurons):
                hit = 0
                for line in range(inputs):
                    spike, weight = int(arriving[sample, step, line]), rows[neuron][line]
                    c["macs_dense"] += 1
                    c["sop_bound"] += weight is not None
                    c["sop_executed_dense"] += spike
                    c["sop_executed"] += spike and weight is not None
                    hit += spike and weight not in (None, 0)
                effective += hit
                c["neuron_updates"] += 1
                c["neuron_updates_touched" if hit else "neuron_updates_idle"] += 1
                c["bias_adds"] += bias[neuron] != 0
        c["sop_effective"] += effective
        per_sample.append(effective)
    return c, per_sample


@settings(max_examples=200, deadline=None)
@given(runs())
def test_every_count_equals_the_brute_force(run):
    weights, biases, program, trace = run
    counts = count(program, trace)
    arriving = trace.input_spikes
    for layer, matrix, bias, emitted in zip(counts.layers, weights, biases, trace.spikes.values(), strict=True):
        expected, per_sample = brute_force(matrix, bias, arriving, emitted)
        assert {name: getattr(layer, name) for name in expected} == expected
        assert layer.sop_effective_per_sample.tolist() == per_sample
        assert layer.sop_effective_per_sample.dtype == np.int64
        assert all(type(value) in (int, str) for value in layer.to_dict().values())
        arriving = emitted
    assert counts.sop_effective_per_sample.sum() == counts.total("sop_effective")
    json.dumps(counts.to_dict())


def test_a_small_case_by_hand():
    # Input 0 reaches both neurons, input 1 one of them through a stored zero, input 2 nobody.
    matrix = {"rows": [[2, 0, None], [-4, None, None]], "shape": (2, 3)}
    program = make_program([matrix], [[0, 5]], steps=2, declared_extra=4)
    spikes = np.array([[[1, 1, 1], [0, 1, 0]]], dtype=np.uint8)
    (layer,) = count(program, Trace("integer", spikes, {"layer0": np.array([[[1, 0], [0, 0]]], np.uint8)})).layers
    assert (layer.sop_effective, layer.sop_executed, layer.sop_executed_dense, layer.sop_bound) == (2, 4, 8, 6)
    assert (layer.neuron_updates_touched, layer.neuron_updates_idle, layer.bias_adds) == (2, 2, 2)
    assert (layer.stored, layer.declared, layer.macs_dense, layer.spikes_out) == (3, 7, 12, 1)


def test_weights_that_cancel_still_touch_the_neuron():
    program = make_program([{"rows": [[6, -6]], "shape": (1, 2)}], [[0]])
    trace = Trace("integer", np.ones((1, 1, 2), np.uint8), {"layer0": np.zeros((1, 1, 1), np.uint8)})
    assert count(program, trace).layers[0].neuron_updates_touched == 1


def test_counts_above_32_bits_are_exact():
    # 256 spikes of one line would wrap a uint8 sum to 0, 2**17 x 2**17 overflows int32.
    size = 2**17
    events = np.array([size], dtype=np.int64)
    column = sp.csr_matrix(np.ones((size, 1), dtype=np.int64))
    assert int((events @ fan_out(column)).sum()) == 2**34
    program = make_program([{"rows": [[2]], "shape": (1, 1)}], [[0]], steps=256)
    spikes = np.ones((1, 256, 1), np.uint8)
    assert count(program, Trace("integer", spikes, {"layer0": spikes})).layers[0].sop_effective == 256


def test_blocks_do_not_change_the_touched_count(monkeypatch):
    random = np.random.default_rng(0)
    spikes = (random.random((23, 7)) < 0.3).astype(np.uint8)
    pattern = nonzero_pattern(sp.csr_matrix((random.random((5, 7)) < 0.4).astype(np.int64)))
    expected = int(((spikes.astype(np.int64) @ pattern.toarray().T) > 0).sum())
    assert touched_updates(spikes, pattern) == expected
    monkeypatch.setattr(counts_module, "_ROWS_PER_BLOCK", 4)
    assert touched_updates(spikes, pattern) == expected


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


def test_a_trace_of_another_program_is_refused():
    program = make_program([{"rows": [[2, 2]], "shape": (1, 2)}], [[0]])
    good, out = np.ones((1, 1, 2), np.uint8), np.zeros((1, 1, 1), np.uint8)
    with pytest.raises(BadInput, match=r"layers \['other'\].*\['layer0'\]"):
        count(program, Trace("integer", good, {"other": out}))
    with pytest.raises(BadInput, match=r"'input' have shape \(1, 1, 3\).*\(1, 1, 2\)"):
        count(program, Trace("integer", np.ones((1, 1, 3), np.uint8), {"layer0": out}))
    with pytest.raises(BadInput, match="'input' contain 2; only 0 and 1"):
        count(program, Trace("integer", good * np.uint8(2), {"layer0": out}))


def test_the_energy_room_does_not_import_torch():
    code = (
        "import sys, esl_neuro.energy.report, esl_neuro.energy.presets, esl_neuro.report.energy_text;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
