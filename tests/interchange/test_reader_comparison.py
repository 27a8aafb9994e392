"""Comparing spike trains: what counts as a difference, and what is guessed of its cause."""

from __future__ import annotations

from itertools import pairwise

import nir
import numpy as np
import pytest

from esl_neuro.interchange.comparison import compare
from esl_neuro.nirgraph.simulation import simulate

STEPS, SAMPLES = 12, 3


def chain(**changes):
    fields = {"tau": 2e-3, "r": 2.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0, **changes}
    lif = lambda: nir.LIF(**{name: np.broadcast_to(np.float64(value), 4).copy() for name, value in fields.items()})  # noqa: E731
    nodes = {
        "input": nir.Input({"input": np.array([4])}),
        "fc1": nir.Affine(np.array([[3, 1, 0, 0], [0, 2, 1, 0], [0, 0, 3, 1], [1, 1, 0, 1]]) / 4, np.zeros(4)),
        "lif1": lif(),
        "fc2": nir.Affine(np.eye(4) * 0.75 + 0.25, np.zeros(4)),
        "lif2": lif(),
        "output": nir.Output({"output": np.array([4])}),
    }
    names = ["input", "fc1", "lif1", "fc2", "lif2", "output"]
    return nir.NIRGraph(nodes, list(pairwise(names)), {"dt_s": 1e-3})


def inputs():
    return (np.random.default_rng(0).random((STEPS, SAMPLES, 4)) < 0.6).astype(np.float32).swapaxes(0, 1)


def silence(values, steps):
    return np.zeros((len(values), steps, *values.shape[2:]))


def as_reader(run, late=0, extra=2, **changes):
    """What a reader's process would hand over for a run: longer, and each layer later than the one before."""
    arrays = {"outputs": np.concatenate([run.outputs, silence(run.outputs, extra)], axis=1)}
    for place, (name, spikes) in enumerate(run.spikes.items(), start=1):
        before, after = silence(spikes, late * place), silence(spikes, extra - late * place)
        arrays[f"spikes/{name}"] = np.concatenate([before, spikes, after], axis=1).astype(np.float32)
        levels = np.where(spikes == 1, 0, run.potentials[name])
        arrays[f"potentials/{name}"] = np.concatenate([before, levels, after], axis=1)
    return {**arrays, **changes}


def result(graph, other=None, **options):
    expected = simulate(graph, inputs())
    return compare(graph, ["lif1", "lif2"], expected, as_reader(simulate(other or graph, inputs()), **options))


@pytest.mark.parametrize("late", [0, 1])
def test_equal_spikes_are_equal_whatever_the_latency(late):
    comparison = result(chain(), late=late)
    assert comparison.differing == 0
    assert comparison.divergence is None
    assert comparison.compared == 2 * STEPS * SAMPLES * 4
    assert comparison.spikes > 50
    assert comparison.latency_steps == {"lif1": late, "lif2": 2 * late}


def test_first_difference_is_the_earliest_one_in_the_layer_nearest_to_the_input():
    graph = chain()
    expected = simulate(graph, inputs())
    arrays = as_reader(expected)
    for layer, place in (("lif2", (1, 3, 2)), ("lif1", (1, 3, 1)), ("lif1", (0, 7, 0))):
        arrays[f"spikes/{layer}"][place] = 1 - arrays[f"spikes/{layer}"][place]
    comparison = compare(graph, ["lif1", "lif2"], expected, arrays)
    first = comparison.divergence
    assert comparison.differing == 3
    assert (first.layer, first.step, first.sample, first.neuron) == ("lif1", 3, 1, 1)
    assert first.found == 1 - first.expected == 1 - expected.spikes["lif1"][1, 3, 1]
    assert first.potential == expected.potentials["lif1"][1, 3, 1]
    assert first.threshold == 1


def test_tie_is_recognised():
    comparison = result(chain(), chain(v_threshold=np.nextafter(1, 0)))
    assert comparison.differing > 0
    assert comparison.divergence.potential == comparison.divergence.threshold
    assert "tie" in comparison.divergence.cause


def test_rounding_is_recognised():
    comparison = result(chain(v_threshold=1 + 1e-7), chain(v_threshold=1 - 1e-7))
    assert "rounding" in comparison.divergence.cause


def test_ignored_resistance_is_recognised():
    comparison = result(chain(v_threshold=1.1), chain(v_threshold=1.1, r=0.1))
    assert "ignore r" in comparison.divergence.cause


def resetting(graph, start, reset):
    """Spikes of the first layer, and potentials after the reset, of a reader with a start and a reset of its own."""
    node, v = graph.nodes["lif1"], np.full((SAMPLES, 4), start)
    spikes, levels = [], []
    for now in inputs().swapaxes(0, 1):
        v = v + 1e-3 / node.tau * (node.r * (now @ graph.nodes["fc1"].weight.T) - v)
        spikes.append(v > node.v_threshold)
        v = np.where(spikes[-1], reset, v)
        levels.append(v)
    values = {"spikes/lif1": np.stack(spikes, axis=1), "potentials/lif1": np.stack(levels, axis=1)}
    return {name: np.concatenate([each, silence(each, 2)], axis=1) for name, each in values.items()}


def test_another_reset_is_recognised():
    graph = chain(v_threshold=1.1)
    arrays = as_reader(simulate(graph, inputs())) | resetting(graph, start=0.0, reset=0.9)
    assert "reset:" in compare(graph, ["lif1"], simulate(graph, inputs()), arrays).divergence.cause


def test_another_start_is_recognised():
    """A reader that begins at 0 and resets to v_reset; one that begins there too is equal."""
    graph = chain(v_threshold=1.1, v_reset=-2.0)
    expected = simulate(graph, inputs())
    arrays = as_reader(expected) | resetting(graph, start=0.0, reset=-2.0)
    assert "initial state" in compare(graph, ["lif1"], expected, arrays).divergence.cause
    arrays |= resetting(graph, start=-2.0, reset=-2.0)
    assert compare(graph, ["lif1"], expected, arrays).differing == 0


def test_a_bias_in_a_loop_is_recognised():
    """A reader whose loop gives nothing before it first comes round, instead of its bias."""
    graph = chain(v_threshold=0.9)
    graph.nodes["back"] = nir.Affine(np.zeros((4, 4)), np.full(4, 0.5))
    graph.edges += [("lif1", "back"), ("back", "lif1")]
    expected = simulate(graph, inputs())
    late = chain(v_threshold=0.9)
    arrays = as_reader(expected) | resetting(late, start=0.0, reset=0.0)
    assert "bias in a loop" in compare(graph, ["lif1"], expected, arrays).divergence.cause


def test_dropped_node_is_a_difference():
    expected = simulate(chain(), inputs())
    arrays = as_reader(expected)
    del arrays["spikes/lif2"]
    comparison = compare(chain(), ["lif1", "lif2"], expected, arrays)
    assert comparison.differing == expected.spikes["lif2"].sum() > 0
    assert (comparison.divergence.layer, comparison.divergence.cause) == ("lif2", "the reader dropped this node")


def test_outputs_that_do_not_fire_are_compared_within_a_thousandth():
    graph = chain()
    graph.edges = [("fc2", "output") if edge[0] == "lif2" else edge for edge in graph.edges if edge[1] != "lif2"]
    del graph.nodes["lif2"]
    expected = simulate(graph, inputs())
    longer = lambda values: np.concatenate([values, silence(values, 2)], axis=1)  # noqa: E731
    assert compare(graph, ["lif1"], expected, as_reader(expected)).differing == 0
    almost = as_reader(expected, outputs=longer(expected.outputs * 1.0005))
    assert compare(graph, ["lif1"], expected, almost).differing == 0
    wrong = as_reader(expected, outputs=longer(expected.outputs + 0.25))
    assert compare(graph, ["lif1"], expected, wrong).divergence.layer == "outputs"
