"""Nested graphs mean what they mean written flat; loops close where signals enter them."""

from __future__ import annotations

from itertools import pairwise

import nir
import numpy as np
import pytest

from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.order import execution_order, feedback_edges, first_ready
from esl_neuro.nirgraph.simulation import simulate
from esl_neuro.nirgraph.structure import flat_graph, read_structure

DT_S = 1e-3


def scale(factor=1.0):
    return nir.Scale(np.full(2, factor))


def spiking():
    return nir.IF(*(np.full(2, value) for value in (1 / DT_S, 0.5, 0.0)))


def delay(*steps):
    return nir.Delay(DT_S * np.array(steps, dtype=float))


def graph(nodes, edges=None):
    named = {
        "input": nir.Input({"input": np.array([2])}),
        **nodes,
        "output": nir.Output({"output": np.array([2])}),
    }
    return nir.NIRGraph(named, list(pairwise(named)) if edges is None else edges, {"dt_s": DT_S}, type_check=False)


def structure(written):
    found, findings = read_structure(written, DT_S)
    assert found is not None, list(map(str, findings))
    return found


def outputs(written, inputs=((1.0, 1.0),)):
    return simulate(written, np.array(inputs)[None]).outputs[0].tolist()


def test_inputs_and_outputs_of_nested_graphs_disappear():
    deep = graph({"x": scale(2.0), "deep": graph({"y": scale(2.0)}), "empty": graph({})})
    written = graph({"sub": deep})
    found = structure(written)
    assert sorted(found.edges) == [("input", "sub.x"), ("sub.deep.y", "output"), ("sub.x", "sub.deep.y")]
    assert set(found.nodes) == {"input", "sub.x", "sub.deep.y", "output"}
    assert outputs(written) == [[4, 4]]


def test_a_signal_that_passes_a_nested_graph_by_two_ways_counts_twice():
    both = graph({"x": scale()}, [("input", "x"), ("x", "output"), ("input", "output")])
    assert outputs(graph({"a": scale(), "sub": both, "b": scale(3.0)})) == [[6, 6]]
    beside = graph(
        {"a": scale(), "empty": graph({}), "b": scale(3.0)},
        [("input", "a"), ("a", "empty"), ("empty", "b"), ("a", "b"), ("b", "output")],
    )
    assert outputs(beside) == [[6, 6]]
    with pytest.raises(BadInput, match="'a' -> 'b' are duplicated after nested graphs are unpacked"):
        flat_graph(structure(beside), DT_S, {})


def test_names_that_collide_once_nested_graphs_are_unpacked_are_refused():
    nodes = {"sub": graph({"lif": scale()}), "sub.lif": scale()}
    _, findings = read_structure(graph(nodes), DT_S)
    assert [(finding.kind, finding.place) for finding in findings] == [("duplicate-name", "node 'sub.lif'")]
    deep = {"a": graph({"b.c": scale()}), "a.b": graph({"c": scale()})}
    _, findings = read_structure(graph(deep), DT_S)
    assert ("duplicate-name", "node 'a.b.c'") in [(finding.kind, finding.place) for finding in findings]


def test_a_loop_of_nested_graphs_without_anything_in_them_is_a_loop_without_a_neuron():
    edges = [("input", "a"), ("a", "sub"), ("sub", "sub"), ("sub", "output")]
    _, findings = read_structure(graph({"a": scale(), "sub": graph({})}, edges), DT_S)
    assert "linear-loop" in [finding.kind for finding in findings]


def test_nesting_does_not_change_where_a_loop_closes():
    """The way back enters a nested graph that feeds two nodes, one of which lies in the loop."""
    inner_edges = [("input", "x"), ("x", "output"), ("input", "y"), ("y", "output")]
    outer_edges = [("input", "first"), ("first", "sub"), ("sub", "back"), ("back", "sub"), ("back", "output")]
    nested = graph({"first": scale(), "sub": graph({"x": spiking(), "y": spiking()}, inner_edges), "back": spiking()})
    nested.edges = outer_edges
    flat = graph({"first": scale(), "x": spiking(), "y": spiking(), "back": spiking()})
    flat.edges = [("x", "back"), ("y", "back"), ("input", "first"), ("first", "x"), ("first", "y")]
    flat.edges += [("back", "x"), ("back", "y"), ("back", "output")]
    inputs = (np.random.default_rng(0).random((1, 20, 2)) < 0.3).astype(float)
    one, other = simulate(nested, inputs), simulate(flat, inputs)
    assert np.array_equal(one.outputs, other.outputs)
    names = {"x": "sub.x", "y": "sub.y", "back": "back"}
    closing = structure(flat).feedback
    assert structure(nested).feedback == {(names[source], names[target]) for source, target in closing}


def test_a_flat_graph_of_a_nested_one_does_the_same():
    inner = graph({"lif": spiking(), "back": scale(0.25)})
    inner.edges = [("input", "lif"), ("lif", "back"), ("back", "lif"), ("lif", "output")]
    written = graph({"sub": inner})
    flat = flat_graph(structure(written), DT_S, {"note": "kept"})
    assert (flat.metadata["note"], flat.metadata["dt_s"]) == ("kept", DT_S)
    inputs = (np.random.default_rng(0).random((2, 20, 2)) < 0.3).astype(float)
    assert np.array_equal(simulate(written, inputs).outputs, simulate(flat, inputs).outputs)


@pytest.mark.parametrize("names", ["abc", "cba"])
def test_where_a_loop_closes_does_not_depend_on_names(names):
    """The loop first -> way -> first is entered behind a Delay, and closes where it is entered."""
    first, way, wait = names
    written = graph({wait: delay(1, 1), first: spiking(), way: scale(0.5)})
    written.edges = [("input", wait), (wait, first), (first, way), (way, first), (first, "output")]
    assert structure(written).feedback == {(way, first)}


def test_delays_in_loops_are_the_step_that_loops_need():
    for steps, held, feedback in (
        ((0, 0), set(), {("wait", "lif")}),
        ((1, 1), {"wait"}, set()),
        ((0, 2), {"wait"}, set()),  # its first element takes one step, as a loop without a Delay
    ):
        written = graph({"lif": spiking(), "wait": delay(*steps)})
        written.edges = [("input", "lif"), ("lif", "wait"), ("wait", "lif"), ("lif", "output")]
        found = structure(written)
        assert (found.held, found.feedback) == (held, feedback)
    forward = structure(graph({"wait": delay(0, 2), "lif": spiking()}))
    assert forward.held == set()  # outside a loop, nothing needs it


def test_order_of_execution_keeps_loops_together():
    nodes = ["input", "a", "b", "c", "d", "output"]
    edges = [("input", "a"), ("a", "b"), ("b", "c"), ("c", "b"), ("c", "d"), ("a", "d"), ("d", "output")]
    feedback = feedback_edges("input", edges, ())
    assert feedback == {("c", "b")}
    loop = execution_order(nodes, edges, feedback, ())
    assert loop == (("input",), ("a",), ("b", "c"), ("d",), ("output",))
    held = execution_order(nodes, edges, (), {"c"})  # what c gives in a step, b got earlier
    assert held == (("input",), ("a",), ("c", "b"), ("d",), ("output",))


def test_order_keeps_to_the_given_one_and_names_the_last_where_it_can():
    needs = {"a": [], "out": ["a"], "c": ["a"], "b": []}
    assert first_ready(needs, "out") == ["a", "c", "b", "out"]
    assert first_ready(needs | {"c": ["out"]}, "out") is None
