"""Counts of layers that were recorded as plain arrays: event by event, and what a recording must not be."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from esl_neuro.energy.counts import Counts, check_signal, count_recording
from esl_neuro.errors import BadInput
from esl_neuro.recording import RecordedLayer


def recorded(rng, name="fc", signal="spike", samples=2, steps=3, inputs=4, neurons=5, **changes):
    """A layer whose numbers all differ; half of its weights are zero."""
    dense = rng.integers(1, 4, (neurons, inputs))
    weights = dense * (rng.random((neurons, inputs)) < 0.5)
    arriving = (rng.random((samples, steps, inputs)) < 0.5).astype(np.float64)
    reached = (weights != 0) @ (arriving.reshape(-1, inputs).T != 0) > 0
    layer = RecordedLayer(
        name=name,
        source="input",
        signal=signal,
        inputs=inputs,
        neurons=neurons,
        declared=neurons * inputs,
        stored=int(np.count_nonzero(weights)),
        weights=int(np.count_nonzero(weights)) - 1,  # as if one were shared
        arriving=arriving if signal == "spike" else arriving * 2.5,
        fan_out=np.count_nonzero(weights, axis=0).astype(np.int64),
        fan_out_dense=np.full(inputs, neurons, np.int64),
        touched=reached.sum(axis=0).reshape(samples, steps).astype(np.int64),
        emitted=rng.integers(0, neurons, (samples, steps)),
        biased=2,
        states=7,
        updated=neurons,
    )
    return dataclasses.replace(layer, **changes), weights


@pytest.mark.parametrize("signal", ["spike", "graded", "analog"])
@pytest.mark.parametrize("seed", range(3))
def test_every_count_is_that_of_each_event(signal, seed):
    layer, weights = recorded(np.random.default_rng(seed), signal=signal)
    counted = count_recording([layer])
    assert (counted.samples, counted.steps) == (2, 3)
    (found,) = counted.layers
    events = [(sample, step, line) for sample, step, line in zip(*np.nonzero(layer.arriving), strict=True)]
    effective = sum(int(np.count_nonzero(weights[:, line])) for *_, line in events)
    dense = len(events) * layer.neurons
    spiking = signal == "spike"
    totals = found.to_dict()
    del totals["per_step"]
    assert totals == {
        "name": "fc",
        "source": "input",
        "signal": signal,
        "inputs": 4,
        "neurons": 5,
        "stored": layer.stored,
        "weights": layer.weights,
        "declared": 20,
        "spikes_in": len(events),
        "spikes_out": layer.emitted.sum(),
        "sop_effective": effective if spiking else 0,
        "sop_executed": effective if spiking else 0,
        "sop_executed_dense": dense if spiking else 0,
        "sop_bound": layer.stored * 6 if spiking else 0,
        "macs_effective": 0 if spiking else effective,
        "macs_dense": 20 * 6,
        "neuron_updates": 5 * 6,
        "neuron_updates_touched": layer.touched.sum(),
        "neuron_updates_idle": 5 * 6 - layer.touched.sum(),
        "bias_adds": 2 * 6,
        "weight_words_read": effective,
        "state_reads": 7 * 6,
        "state_writes": 7 * 6,
        "messages": None,
        "hops_ew": None,
        "hops_ns": None,
    }
    by_step = np.zeros(3, int)
    for _, step, line in events:
        by_step[step] += np.count_nonzero(weights[:, line])
    assert found.per_step("sop_effective" if spiking else "macs_effective").tolist() == by_step.tolist()
    assert found.per_step("neuron_updates_idle").tolist() == (5 - layer.touched).sum(axis=0).tolist()


def test_layers_keep_their_order_and_their_names():
    rng = np.random.default_rng(0)
    layers = [recorded(rng, name)[0] for name in ("b", "a")]
    counted = count_recording(layers)
    assert [layer.name for layer in counted.layers] == ["b", "a"]
    assert not counted.placed
    assert counted.total("macs_dense") == 240
    each = counted.each_sample("sop_effective")
    assert each.tolist() == counted.sop_effective_per_sample.tolist()
    spread = counted.spread()
    assert (spread.minimum, spread.maximum) == (each.min(), each.max())
    assert spread.mean == each.mean()
    assert spread.std == abs(each[0] - each[1]) / 2


def test_counts_of_no_layer_are_zeros():
    nothing = Counts(3, 2, ())
    assert nothing.sop_effective_per_sample.tolist() == [0, 0, 0]
    assert nothing.total("sop_effective") == 0


def test_a_recording_is_of_one_run():
    with pytest.raises(BadInput, match=r"^no weighted layer was recorded; run the network while recording$"):
        count_recording([])
    rng = np.random.default_rng(0)
    with pytest.raises(BadInput) as caught:
        count_recording([recorded(rng, "a")[0], recorded(rng, "b", steps=4)[0]])
    assert str(caught.value) == "recorded layers differ in (samples, steps): {'a': (2, 3), 'b': (2, 4)}"


@pytest.mark.parametrize(
    ("values", "largest"),
    [
        (np.array([0, 2], np.uint8), "2"),
        (np.array([0, 0.5]), "0.5"),
        (np.array([-1, 1]), "1"),
        (np.array([1.0, 7.0]), "7"),
    ],
)
def test_values_declared_as_spikes_are_zero_and_one(values, largest):
    with pytest.raises(BadInput) as caught:
        check_signal("fc", "spike", values)
    said = f"spikes of 'fc' contain {largest}; only 0 and 1 count as spikes (declare the signal 'graded' or 'analog')"
    assert str(caught.value) == said
    check_signal("fc", "graded", values)
    layer, _ = recorded(np.random.default_rng(0), arriving=np.full((2, 3, 4), 3.0))
    with pytest.raises(BadInput, match="spikes of 'input' contain 3"):
        count_recording([layer])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float64])
def test_spikes_may_have_any_type(dtype):
    check_signal("fc", "spike", np.array([0, 1], dtype))
    check_signal("fc", "spike", np.array([], dtype))


def test_the_kind_of_a_signal_is_one_of_three():
    with pytest.raises(BadInput) as caught:
        check_signal("fc", "spikes", np.zeros(1))
    assert (
        str(caught.value) == "signal of 'fc' is declared 'spikes'; did you mean 'spike'? allowed: analog, graded, spike"
    )
