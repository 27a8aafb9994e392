"""The reference does what NIR's equations say; connections are those of torch."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.simulation import simulate

DT_S = 1e-3


def ends(shape_in, shape_out=None):
    return {
        "input": nir.Input({"input": np.atleast_1d(shape_in)}),
        "output": nir.Output({"output": np.atleast_1d(shape_in if shape_out is None else shape_out)}),
    }


def alone(node, inputs):
    """Run one node between input and output; the outputs keep their shape, whatever the output declares."""
    edges = [("input", "node"), ("node", "output")]
    nodes = {**ends(inputs.shape[2:]), "node": node}
    graph = nir.NIRGraph(nodes, edges, {"dt_s": DT_S}, type_check=False)
    graph.nodes["output"].output_type = graph.nodes["output"].input_type = {}
    return simulate(graph, inputs)


def arrays(**values):
    return {name: np.full(2, float(value)) for name, value in values.items()}


def one_sample(*steps):
    return np.array(steps, dtype=float)[None]


def test_lif_by_hand():
    node = nir.LIF(**arrays(tau=2e-3, r=2, v_leak=0.5, v_threshold=1, v_reset=-0.25))
    run = alone(node, one_sample([1.0, 0.0], [0.25, 0.0], [1.0, 4.0]))
    # v <- v / 2 + I + v_leak / 2, from v = -1/4 on
    assert run.potentials["node"][0, :, 0].tolist() == [1.125, 0.375, 1.4375]
    assert run.potentials["node"][0, :, 1].tolist() == [0.125, 0.3125, 4.40625]
    assert run.outputs[0].tolist() == [[1, 0], [0, 0], [1, 1]]


def test_a_potential_that_is_the_threshold_does_not_fire():
    run = alone(nir.IF(**arrays(r=1 / DT_S, v_threshold=1, v_reset=0)), one_sample([1.0, 1.5], [0.25, 0.0]))
    assert run.outputs[0].tolist() == [[0, 1], [1, 0]]


def test_cuba_lif_by_hand():
    node = nir.CubaLIF(**arrays(tau_syn=2e-3, tau_mem=4e-3, r=4, v_leak=0, v_threshold=1.5, v_reset=0, w_in=2))
    run = alone(node, one_sample([1.0, 0.0], [0.0, 1.0], [0.0, 0.0]))
    # u <- u / 2 + S; v <- 3/4 v + u
    assert run.potentials["node"][0, :, 0].tolist() == [1.0, 1.25, 1.1875]
    assert run.potentials["node"][0, :, 1].tolist() == [0.0, 1.0, 1.25]


def test_a_time_constant_below_the_time_step_overshoots_as_forward_euler_says():
    node = nir.LIF(**arrays(tau=0.5e-3, r=1, v_leak=0, v_threshold=3, v_reset=0))
    run = alone(node, one_sample([1.0, 2.0], [0.0, 0.0], [0.0, 0.0]))
    assert run.potentials["node"][0].tolist() == [[2, 4], [-2, 0], [2, 0]]


def test_integrators_do_not_fire():
    inputs = one_sample([1.0, 2.0], [1.0, 0.0], [0.0, 0.0])
    assert alone(nir.I(**arrays(r=1 / DT_S)), inputs).outputs[0, :, 0].tolist() == [1, 2, 2]
    assert alone(nir.LI(**arrays(tau=2e-3, r=2, v_leak=0)), inputs).outputs[0, :, 0].tolist() == [1, 1.5, 0.75]
    node = nir.CubaLI(**arrays(tau_syn=2e-3, tau_mem=2e-3, r=2, v_leak=0, w_in=2))
    run = alone(node, inputs)
    assert run.outputs[0, :, 1].tolist() == [2, 2, 1.5]
    assert run.spikes == {}


def test_threshold_scale_and_delay():
    inputs = one_sample([1.0, 2.0], [3.0, 0.5], [0.0, 4.0])
    assert alone(nir.Threshold(np.array([1.0, 1.0])), inputs).outputs[0].tolist() == [[0, 1], [1, 0], [0, 1]]
    assert alone(nir.Scale(np.array([2.0, -1.0])), inputs).outputs[0, 1].tolist() == [6, -0.5]
    assert alone(nir.Delay(np.array([1e-3, 2e-3])), inputs).outputs[0].tolist() == [[0, 0], [1, 0], [3, 2]]
    assert alone(nir.Delay(np.array([0, 10.0])), inputs).outputs[0].tolist() == [[1, 0], [3, 0], [0, 0]]


def test_samples_come_before_steps_and_do_not_meet():
    inputs = (np.random.default_rng(0).random((5, 7, 2)) < 0.5).astype(float)
    node = nir.LIF(**arrays(tau=4e-3, r=3, v_leak=0, v_threshold=1, v_reset=0))
    together = alone(node, inputs)
    for sample in range(5):
        run = alone(node, inputs[sample : sample + 1])
        assert np.array_equal(run.outputs[0], together.outputs[sample])
    graph = nir.NIRGraph({**ends(2), "node": node}, [("input", "node"), ("node", "output")], {"dt_s": DT_S})
    with pytest.raises(BadInput, match=r"shape \(5, 7, 3\); expected \(samples, steps, 2\)"):
        simulate(graph, np.ones((5, 7, 3)))


@settings(max_examples=40, deadline=None)
@given(
    groups=st.sampled_from([1, 2]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    padding=st.sampled_from([0, 1, "same", "valid"]),
    dilation=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_convolution_is_that_of_torch(groups, kernel, stride, padding, dilation, seed):
    stride = 1 if padding == "same" else stride
    generator = np.random.default_rng(seed)
    weight, bias = generator.normal(size=(4, 2, *kernel)), generator.normal(size=4)
    inputs = generator.normal(size=(2, 3, 2 * groups, 7, 6))
    node = nir.Conv2d(None, weight, stride, padding, dilation, groups, bias)
    merged = torch.from_numpy(inputs.reshape(6, 2 * groups, 7, 6))
    expected = torch.nn.functional.conv2d(
        merged, torch.from_numpy(weight), torch.from_numpy(bias), stride, padding, dilation, groups
    )
    ours = alone(node, inputs).outputs
    np.testing.assert_allclose(ours.reshape(expected.shape), expected.numpy(), rtol=1e-10, atol=1e-10)


def test_convolution_in_one_dimension_is_that_of_torch():
    generator = np.random.default_rng(0)
    weight, bias, inputs = (
        generator.normal(size=(4, 2, 3)),
        generator.normal(size=4),
        generator.normal(size=(1, 3, 2, 9)),
    )
    expected = torch.nn.functional.conv1d(
        torch.from_numpy(inputs[0]), torch.from_numpy(weight), torch.from_numpy(bias), 2, 1
    )
    node = nir.Conv1d(None, weight, 2, 1, 1, 1, bias)
    np.testing.assert_allclose(alone(node, inputs).outputs[0], expected.numpy(), rtol=1e-10)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 1, 1), (2, 3, 1)])
def test_pools_are_those_of_torch(kernel, stride, padding):
    inputs = np.random.default_rng(0).normal(size=(2, 3, 4, 7, 6))
    pair = lambda value: np.array([value, value])  # noqa: E731
    expected = torch.nn.functional.avg_pool2d(torch.from_numpy(inputs.reshape(6, 4, 7, 6)), kernel, stride, padding)
    mean = alone(nir.AvgPool2d(pair(kernel), pair(stride), pair(padding)), inputs).outputs
    total = alone(nir.SumPool2d(pair(kernel), pair(stride), pair(padding)), inputs).outputs
    np.testing.assert_allclose(mean.reshape(expected.shape), expected.numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(total, mean * kernel**2, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("start", "end", "shape"), [(0, -1, (24,)), (-3, -1, (24,)), (1, 2, (2, 12)), (0, 1, (6, 4))])
def test_flatten_counts_dimensions_without_the_batch(start, end, shape):
    inputs = np.arange(2 * 5 * 24.0).reshape(2, 5, 2, 3, 4)
    node = nir.Flatten({"input": np.array([2, 3, 4])}, start, end)
    assert np.array_equal(alone(node, inputs).outputs, inputs.reshape(2, 5, *shape))


def test_what_closes_a_loop_arrives_a_step_later():
    threshold = nir.IF(**arrays(r=1 / DT_S, v_threshold=0.5, v_reset=0))
    nodes = {**ends(2), "cells": threshold, "swap": nir.Linear(np.array([[0.0, 1.0], [1.0, 0.0]]))}
    edges = [("input", "cells"), ("cells", "swap"), ("swap", "cells"), ("cells", "output")]
    inputs = np.zeros((1, 5, 2))
    inputs[0, 0, 0] = 1
    run = simulate(nir.NIRGraph(nodes, edges, {"dt_s": DT_S}), inputs)
    assert run.outputs[0].tolist() == [[1, 0], [0, 1], [1, 0], [0, 1], [1, 0]]


def test_joins_wait_for_both_branches():
    nodes = {**ends(2), "a": nir.Scale(np.full(2, 2.0)), "b": nir.Scale(np.full(2, 3.0)), "c": nir.Scale(np.ones(2))}
    edges = [("input", "c"), ("input", "a"), ("a", "b"), ("b", "c"), ("c", "output")]
    run = simulate(nir.NIRGraph(nodes, edges, {"dt_s": DT_S}), np.ones((1, 1, 2)))
    assert run.outputs.tolist() == [[[7, 7]]]


def test_graphs_that_are_inconsistent_are_refused():
    nodes = {**ends(2), "a": nir.Scale(np.ones(2)), "lost": nir.Scale(np.ones(2))}
    graph = nir.NIRGraph(nodes, [("input", "a"), ("a", "output")], {"dt_s": DT_S}, type_check=False)
    with pytest.raises(BadInput, match="'lost': is not on a path from input to output"):
        simulate(graph, np.ones((1, 1, 2)))
    with pytest.raises(BadInput, match="node 'gone' does not exist"):
        simulate(nir.NIRGraph(nodes, [("input", "gone")], {"dt_s": DT_S}, type_check=False), np.ones((1, 1, 2)))
    del graph.nodes["output"]
    with pytest.raises(BadInput, match="graph: has no output; add an Output node"):
        simulate(graph, np.ones((1, 1, 2)))
