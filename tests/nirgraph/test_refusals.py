"""What is wrong with a graph: every finding by its kind, its place and the names and numbers it must say."""

from __future__ import annotations

from itertools import pairwise

import nir
import numpy as np
import pytest

from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.reading import READING, run_passes
from esl_neuro.nirgraph.simulation import simulate
from esl_neuro.nirgraph.structure import read_structure

DT_S = 1e-3


def lif(**changes):
    values = {"tau": 2e-3, "r": 1, "v_leak": 0, "v_threshold": 1, "v_reset": 0} | changes
    return nir.LIF(**{name: np.full(2, float(value)) for name, value in values.items()})


def ends(shape=(2,), out=(2,)):
    return {"input": nir.Input({"input": np.array(shape)}), "output": nir.Output({"output": np.array(out)})}


def graph(nodes=(), edges=None, dt_s=DT_S, **more):
    """Input, Linear ``fc``, ``lif``, output; changed by nodes, or other edges."""
    named = {"input": ends()["input"], "fc": nir.Linear(np.ones((2, 2))), "lif": lif(), "output": ends()["output"]}
    named |= dict(nodes) | more
    chain = list(pairwise(["input", "fc", "lif", "output"]))
    metadata = {} if dt_s is None else {"dt_s": dt_s}
    return nir.NIRGraph(named, chain + (edges or []), metadata, type_check=False)


def with_reset_note(**metadata):
    node = lif(**metadata.pop("of_node", {}))
    node.metadata = metadata
    return node


class Unknown(nir.NIRNode):
    def __init__(self):
        self.input_type = self.output_type = self.metadata = {}


@pytest.mark.parametrize(
    ("written", "kind", "place", "said"),
    [
        (
            graph(fc=Unknown()),
            "unsupported-node",
            "node 'fc'",
            "Unknown is not supported; supported: Affine, AvgPool2d, Conv1d, Conv2d, CubaLI, CubaLIF, Delay, Flatten, "
            "I, IF, Input, LI, LIF, Linear, NIRGraph, Output, Scale, SparseAffine, SumPool2d, Threshold",
        ),
        (
            graph(edges=[("fc", "lifs")]),
            "missing-node",
            "edge 'fc' -> 'lifs'",
            "'lifs' does not exist; did you mean 'lif'?",
        ),
        (
            graph(edges=[("nobody", "lif")]),
            "missing-node",
            "edge 'nobody' -> 'lif'",
            "node 'nobody' does not exist; add it, or remove the edge",
        ),
        (graph(edges=[("fc", "lif")]), "duplicate-edge", "edge 'fc' -> 'lif'", "is duplicated; remove one, or scale"),
        (
            graph(edges=[("lif", "input")]),
            "fed-input",
            "node 'input'",
            "is the input but is fed by 'lif'; feed the node after it instead",
        ),
        (
            graph(edges=[("output", "fc")]),
            "feeding-output",
            "node 'output'",
            "is the output but feeds 'fc'; connect 'fc' to the source of the output",
        ),
        (
            graph(alone=lif()),
            "unreached",
            "node 'alone'",
            "is not on a path from input to output; remove or connect it",
        ),
        (
            graph(dead=lif(), edges=[("fc", "dead")]),
            "unreached",
            "node 'dead'",
            "is not on a path from input to output",
        ),
        (graph(early=lif(), edges=[("early", "lif")]), "unreached", "node 'early'", "is not on a path from input to"),
        (
            graph(a=nir.Scale(np.ones(2)), edges=[("fc", "a"), ("a", "fc")]),
            "linear-loop",
            "node '",
            ", which has no neuron; add a LIF or IF node to it",
        ),
        (graph(edges=[("fc",)]), "malformed", "graph", "edge ('fc',) is not a pair of node names"),
        (
            graph(fc=nir.NIRGraph(ends() | {"more": ends()["input"]}, [], {}, type_check=False)),
            "input-count",
            "graph 'fc'",
            "has 2 inputs (input, more); a nested graph has exactly one, because edges name no port",
        ),
        (
            graph(fc=nir.NIRGraph({"input": ends()["input"]}, [], {}, type_check=False)),
            "output-count",
            "graph 'fc'",
            "has 0 outputs; a nested graph has exactly one, because edges name no port",
        ),
        (graph(dt_s=None), "no-time-step", "graph", "the NIR graph has no 'dt_s' in its metadata"),
        (
            graph(input=ends((1.5,))["input"]),
            "shape-mismatch",
            "node 'input'",
            "declares the shape {'input': array([1.5])}",
        ),
        (graph(input=ends((0, 2))["input"]), "shape-mismatch", "node 'input'", "; expected one or more whole numbers"),
        (
            graph(input=ends((10**9,))["input"]),
            "shape-mismatch",
            "node 'input'",
            "array([1000000000])}; expected one or",
        ),
        (
            graph(output=ends(out=(3,))["output"]),
            "shape-mismatch",
            "node 'output'",
            "declares the shape (3,), but its input has shape (2,)",
        ),
        (
            graph(b=nir.Linear(np.ones((3, 2))), edges=[("input", "b"), ("b", "lif")]),
            "shape-mismatch",
            "node 'b'",
            "has shape (3,), another input of 'lif' has shape (2,); inputs of one node must have the same size",
        ),
        (graph(lif=lif(tau=-1e-3)), "malformed", "node 'lif'", "tau is -0.001 s; it must be positive"),
        (graph(lif=lif(tau=0)), "malformed", "node 'lif'", "tau is 0 s; it must be positive"),
        (graph(lif=lif(r=np.inf)), "not-finite", "node 'lif'", "r contains values that are not finite"),
        (
            graph(lif=with_reset_note(reset="subtract", of_node={"v_reset": 0.25})),
            "reset",
            "node 'lif'",
            "but has a v_reset of 0.25; subtract v_reset from v_leak and v_threshold, and set it to 0",
        ),
        (
            graph(lif=with_reset_note(reset="subtract_next_step", of_node={"tau": DT_S})),
            "reset",
            "node 'lif'",
            "subtracts its threshold in the step after a spike, in which nothing remains of the potential",
        ),
    ],
)
def test_an_error_is_named(written, kind, place, said):
    found, findings = run_passes(READING, written)
    assert found is None
    wrong = [each for each in findings if each.kind == kind and each.place.startswith(place)]
    assert wrong, list(map(str, findings))
    assert wrong[0].severity == "error"
    assert any(said in each.message for each in wrong), wrong


@pytest.mark.parametrize(
    ("written", "place", "said"),
    [
        (
            graph(input=ends((2, 1))["input"]),
            "node 'fc'",
            "receives shape (2, 1); the elements are matched in order",
        ),
        (
            graph(input=ends((2, 1))["input"], b=nir.Scale(np.ones((2, 1))), edges=[("input", "b"), ("b", "lif")]),
            "node 'b'",
            "has shape (2, 1), another input of 'lif' has shape (2,); the elements are matched in order",
        ),
        (
            graph(output=ends(out=(1, 2))["output"]),
            "node 'output'",
            "declares the shape (1, 2), but its input has shape (2,), which is used",
        ),
    ],
)
def test_another_shape_of_the_same_size_is_a_warning(written, place, said):
    found, findings = run_passes(READING, written)
    assert found is not None
    (finding,) = (each for each in findings if each.place == place)
    assert (finding.kind, finding.severity, finding.message) == ("declared-shape", "warning", said)


def test_every_parameter_that_is_wrong_is_named():
    node = nir.CubaLIF(
        **{
            name: np.full(2, value)
            for name, value in {"tau_syn": -1.0, "tau_mem": 0.0, "r": np.nan, "v_leak": 0.0, "v_threshold": 1.0}.items()
        }
    )
    node.w_in = np.ones(3)
    _, findings = run_passes(READING, graph(lif=node))
    assert [each.message.split(" is ")[0].split(" has ")[0].split(" contains")[0] for each in findings] == [
        "r",
        "w_in",
        "tau_syn",
        "tau_mem",
    ]


def test_a_graph_without_ends_has_no_structure():
    found, findings = read_structure(nir.NIRGraph({"lif": lif()}, [], {}, type_check=False), DT_S)
    assert found is None
    assert [(each.kind, each.place, each.message) for each in findings] == [
        ("input-count", "graph", "has no input; add an Input node where signals enter the network"),
        ("output-count", "graph", "has no output; add an Output node where signals leave the network"),
    ]


@pytest.mark.parametrize("shape", [(2,), (4, 2), (0, 4, 2), (1, 0, 2), (1, 4, 3), (1, 4, 2, 2)])
def test_inputs_of_another_shape_are_refused(shape):
    with pytest.raises(BadInput) as caught:
        simulate(graph(), np.ones(shape))
    assert str(caught.value) == f"the inputs have shape {shape}; expected (samples, steps, 2)"


def test_delays_that_all_wait_hold_a_loop_and_others_only_in_one():
    def held(*steps, loop):
        nodes = {"wait": nir.Delay(DT_S * np.array(steps, dtype=float)), "back": nir.Scale(np.ones(2))}
        way = [("lif", "wait"), ("wait", "back"), ("back", "lif" if loop else "output")]
        structure, findings = read_structure(graph(nodes, way), DT_S)
        assert structure is not None, findings
        return set(structure.held), set(structure.feedback)

    assert held(1, 1, loop=False) == ({"wait"}, set())
    assert held(0, 1, loop=False) == (set(), set())
    assert held(0, 1, loop=True) == ({"wait"}, set())
    assert held(0, 0, loop=True) == (set(), {("back", "lif")})
