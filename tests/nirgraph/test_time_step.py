"""The time step comes from the caller, else from the graph; nothing is made up."""

from __future__ import annotations

from itertools import pairwise

import nir
import numpy as np
import pytest

from esl_neuro.compiler.compile import compile_graph
from esl_neuro.errors import BadInput
from esl_neuro.interchange import from_nir
from esl_neuro.nirgraph.neuron_nodes import one_step
from esl_neuro.nirgraph.reading import discretise
from esl_neuro.nirgraph.time_step import metadata_steps, time_step


def graph(**metadata):
    ends = {"input": nir.Input({"input": np.array([2])}), "output": nir.Output({"output": np.array([2])})}
    return nir.NIRGraph(ends, [("input", "output")], metadata)


def test_given_time_step_goes_before_that_of_the_metadata():
    assert time_step(graph(dt_s=1e-3)) == 1e-3
    assert time_step(graph(dt_s=1e-3), 2e-3) == 2e-3
    assert time_step(graph(), 2e-3) == 2e-3


def test_time_step_is_needed():
    with pytest.raises(BadInput, match="no 'dt_s' in its metadata"):
        time_step(graph())


@pytest.mark.parametrize("step", [0, -1e-3, float("nan"), float("inf")])
def test_time_step_must_be_positive(step):
    for given in ((graph(), step), (graph(dt_s=step), None)):
        with pytest.raises(BadInput, match="must be positive"):
            time_step(*given)


def test_time_step_that_is_no_number_is_refused():
    with pytest.raises(BadInput, match="must be a number of seconds"):
        time_step(graph(dt_s="1 ms"))


def test_the_shortest_time_step_is_a_femtosecond():
    assert time_step(graph(dt_s=1e-15)) == 1e-15
    with pytest.raises(BadInput, match="is 9e-16 s; the shortest is 1e-15 s"):
        time_step(graph(dt_s=9e-16))


def test_steps_of_a_sample_come_from_the_metadata():
    assert metadata_steps(graph()) is None
    for value, steps in ((1, 1), (4.0, 4), ("20", 20), (2**31 - 1, 2**31 - 1)):
        assert metadata_steps(graph(steps=value)) == steps
        assert type(metadata_steps(graph(steps=value))) is int


@pytest.mark.parametrize("value", [0, -1, 1.5, 2**31, float("nan"), float("inf"), "many", [1, 2]])
def test_steps_that_are_no_whole_number_are_refused(value):
    with pytest.raises(BadInput) as caught:
        metadata_steps(graph(steps=value))
    assert f"'steps' of the NIR graph is {value}; it must be a whole number" in str(caught.value)


@pytest.mark.parametrize("dt_s", [1e-4, 1e-3, 2e-3, 0.1, 1 / 3, 7e-5])
@pytest.mark.parametrize("single", [np.float32, np.float64])
def test_a_time_constant_of_one_step_is_no_memory_for_every_reader_in_single_precision_too(dt_s, single):
    """Exporters of torch modules compute ``tau = dt / (1 - 0)`` in single precision, below or above the step."""
    dt = single(dt_s)
    one = np.ones(3, single)
    neurons = {
        "lif": nir.LIF(tau=dt / one, r=one, v_leak=0 * one, v_threshold=one, v_reset=0 * one),
        "cuba": nir.CubaLIF(
            tau_syn=dt * one, tau_mem=10 * dt * one, r=10 * one, v_leak=0 * one, v_threshold=one, v_reset=0 * one
        ),
    }
    for node in neurons.values():
        nodes = {"input": nir.Input({"input": np.array([3])}), "fc": nir.Linear(1.5 * np.eye(3)), "n": node}
        nodes["output"] = nir.Output({"output": np.array([3])})
        graph = nir.NIRGraph(nodes, list(pairwise(nodes)), metadata={"dt_s": dt_s})
        discrete = discretise(graph).neurons["n"]
        assert ((discrete.dv if isinstance(node, nir.LIF) else discrete.du) == 1.0).all()
        program = compile_graph(graph, "loihi2", 5).program
        assert program.groups[0].du.tolist() == [4095] * 3
        if isinstance(node, nir.LIF):
            assert program.groups[0].dv.tolist() == [4095] * 3
        assert from_nir(graph) is not None


def test_a_time_constant_that_differs_from_the_step_is_not_one_step():
    tau = np.array([1e-3 * (1 + 1e-6), 1e-3 * (1 - 1e-6), 1e-3 * (1 + 1e-7)])
    assert one_step(tau, 1e-3).tolist() == [False, False, True]
