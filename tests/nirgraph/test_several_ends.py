"""Graphs with several inputs and outputs: lines follow each other in order of names, further outputs are neurons."""

from __future__ import annotations

import nir
import numpy as np
import pytest

from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.reading import discretise, input_shapes
from esl_neuro.nirgraph.simulation import simulate
from esl_neuro.nirgraph.structure import flat_graph, read_structure

DT_S = 1e-3


def spiking(size=1):
    return nir.IF(*(np.full(size, value) for value in (1 / DT_S, 0.5, 0.0)))


def two_inputs(**shapes):
    """The inputs ``right`` (2 x 1) and ``left`` (3), weighted 1, 2 and 10, 20, 30, and summed."""
    shapes = {"right": (2, 1), "left": (3,)} | shapes
    nodes = {name: nir.Input({"input": np.array(shape)}) for name, shape in shapes.items()}
    nodes |= {"flat": nir.Flatten({"input": np.array([2, 1])}, 0, 1), "a": nir.Linear(np.array([[1.0, 2.0]]))}
    nodes |= {"b": nir.Linear(np.array([[10.0, 20.0, 30.0]])), "output": nir.Output({"output": np.array([1])})}
    edges = [("right", "flat"), ("flat", "a"), ("left", "b"), ("a", "output"), ("b", "output")]
    return nir.NIRGraph(nodes, edges, {"dt_s": DT_S}, type_check=False)


def test_lines_of_several_inputs_follow_each_other_in_order_of_names():
    run = simulate(two_inputs(), np.eye(5)[None])
    assert run.outputs[0, :, 0].tolist() == [10, 20, 30, 1, 2]  # left, then right
    structure, findings = read_structure(two_inputs(), DT_S)
    assert [(name, port.shape, port.first, port.lines) for name, port in structure.ports.items()] == [
        ("left", (3,), 0, 5),
        ("right", (2, 1), 3, 5),
    ]
    (finding,) = findings
    assert (finding.kind, finding.place, finding.severity) == ("several-inputs", "graph", "warning")
    assert "has the inputs 'left' (3,), 'right' (2, 1); " in finding.message


def test_the_shapes_of_the_inputs_come_by_name():
    assert input_shapes(two_inputs()) == {"left": (3,), "right": (2, 1)}
    nodes = {"input": nir.Input({"input": np.array([2, 3])}), "output": nir.Output({"output": np.array([2, 3])})}
    one = nir.NIRGraph(nodes, [("input", "output")], {}, type_check=False)
    assert input_shapes(one, DT_S) == (2, 3)
    assert input_shapes(one) is None  # there is no time step


def test_the_input_before_several_has_a_name_of_its_own():
    graph = two_inputs()
    graph.nodes["input"] = graph.nodes.pop("a")
    graph.edges = [tuple({"a": "input"}.get(name, name) for name in edge) for edge in graph.edges]
    structure, _ = read_structure(graph, DT_S)
    assert structure.input == "input_"
    assert set(structure.ports) == {"left", "right"}
    assert simulate(graph, np.eye(5)[None]).outputs[0, :, 0].tolist() == [10, 20, 30, 1, 2]


@pytest.mark.parametrize("shape", [(), (0,), (-3,), (1.5, 2), (10**9,)])
def test_each_of_several_inputs_declares_its_shape(shape):
    structure, findings = read_structure(two_inputs(left=shape), DT_S)
    assert structure is None
    ((kind, place, message),) = {(each.kind, each.place, each.message) for each in findings}
    assert (kind, place) == ("shape-mismatch", "node 'left'")
    assert message == "declares no shape; every one of several inputs must"


def test_an_input_without_a_shape_at_all_is_named_too():
    graph = two_inputs()
    graph.nodes["left"].input_type = None
    graph.nodes["right"].input_type = {"input": "many"}
    _, findings = read_structure(graph, DT_S)
    assert [each.place for each in findings] == ["node 'left'", "node 'right'"]


def outputs(names=("first", "output"), **sources):
    """A chain input -> fc -> lif, whose nodes feed outputs by name."""
    sources = {"first": ["lif"], "output": ["lif"]} | sources
    nodes = {"input": nir.Input({"input": np.array([1])}), "fc": nir.Linear(np.ones((1, 1))), "lif": spiking()}
    nodes |= {name: nir.Output({"output": np.array([1])}) for name in names}
    edges = [("input", "fc"), ("fc", "lif"), *((source, name) for name in names for source in sources[name])]
    return nir.NIRGraph(nodes, edges, {"dt_s": DT_S}, type_check=False)


@pytest.mark.parametrize(
    ("names", "readout", "others"),
    [(("first", "output"), "output", ["first"]), (("b", "a", "c"), "a", ["b", "c"])],
)
def test_the_class_is_read_from_output_else_from_the_first_name(names, readout, others):
    graph = outputs(names, a=["lif"], b=["lif"], c=["lif"])
    structure, findings = read_structure(graph, DT_S)
    assert structure.output == readout
    assert structure.outputs == dict.fromkeys(others, "lif")
    assert not set(others) & set(structure.nodes)
    (finding,) = findings
    assert (finding.kind, finding.place, finding.severity) == ("several-outputs", "graph", "warning")
    listed = ", ".join(f"'{name}'" for name in sorted(names))
    assert f"has the outputs {listed}; the class is read from '{readout}'" in finding.message
    assert simulate(graph, np.ones((1, 2, 1))).outputs.tolist() == [[[1], [1]]]


@pytest.mark.parametrize("sources", [["fc"], ["lif", "fc"]])
def test_a_further_output_is_fed_by_one_node_of_neurons(sources):
    structure, findings = read_structure(outputs(first=sources), DT_S)
    assert structure is None
    (finding,) = findings
    assert (finding.kind, finding.place, finding.severity) == ("several-outputs", "node 'first'", "error")
    listed = ", ".join(f"'{source}'" for source in sources)
    assert f"is one of 2 outputs and is fed by {listed}; an output beside 'output' must be fed by" in finding.message


def test_one_input_and_one_output_are_nothing_to_tell():
    structure, findings = read_structure(outputs(("output",)), DT_S)
    assert findings == []
    assert (structure.ports, structure.outputs) == ({}, {})


def test_a_flat_graph_has_one_input_and_one_output():
    with pytest.raises(BadInput, match=r"several inputs or outputs \(left, right\) are not supported by other readers"):
        flat_graph(discretise(two_inputs()).structure, DT_S, {})
    with pytest.raises(BadInput, match=r"several inputs or outputs \(first\) are"):
        flat_graph(discretise(outputs()).structure, DT_S, {})
