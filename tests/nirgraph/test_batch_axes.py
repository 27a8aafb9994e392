"""Axes of batch and time in the declared shapes of a file are read as such, with a warning."""

from __future__ import annotations

from itertools import pairwise

import nir
import numpy as np
import pytest

from esl_neuro.compiler.frontend import analyse
from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.reading import READING, discretise, run_passes
from esl_neuro.nirgraph.simulation import simulate

DT_S = 1e-3
RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(5, 20))


def neurons(shape):
    return nir.IF(*(np.full(shape, value) for value in (1 / DT_S, 0.5, 0.0)))


def chain(declared, *nodes, output):
    named = {
        "input": nir.Input({"input": np.array(declared)}),
        **{f"n{index}": node for index, node in enumerate(nodes)},
        "output": nir.Output({"output": np.array(output)}),
    }
    return nir.NIRGraph(named, list(pairwise(named)), {"dt_s": DT_S}, type_check=False)


def linear(leading, out=None):
    return chain((*leading, 20), nir.Linear(WEIGHT), neurons((5,)), output=(*(leading if out is None else out), 5))


def image(leading):
    """An image of two channels; the flatten counts the leading axes, as the writers that keep them do."""
    conv = nir.Conv2d((4, 4), np.random.default_rng(1).normal(size=(3, 2, 3, 3)), 1, 0, 1, 1, np.zeros(3))
    flatten = nir.Flatten({"input": np.array((*leading, 3, 2, 2))}, len(leading), -1)
    last = nir.Affine(np.random.default_rng(2).normal(size=(4, 12)), np.zeros(4))
    nodes = (conv, neurons((3, 2, 2)), flatten, last, neurons((4,)))
    return chain((*leading, 2, 4, 4), *nodes, output=(*leading, 4))


def read(graph):
    discrete, findings = run_passes(READING, graph)
    return discrete, findings


@pytest.mark.parametrize("make", [linear, image])
@pytest.mark.parametrize("leading", [(1,), (8,), (1, 1), (1, 10), (4, 10), (10, 1)])
def test_leading_axes_are_batch_and_time_whatever_their_sizes(make, leading):
    """One behaviour: the same network and one warning, for a batch of one and of eight, with and without time."""
    plain, graph = make(()), make(leading)
    discrete, findings = read(graph)
    assert [(each.kind, each.severity) for each in findings] == [("batch-axes", "warning")]
    assert "batch" in findings[0].message
    assert str(leading) in findings[0].message
    inputs = (np.random.default_rng(3).random((2, 6, *plain.nodes["input"].input_type["input"])) < 0.4).astype(float)
    expected = simulate(plain, inputs)
    assert expected.outputs.any()
    assert np.array_equal(simulate(discrete, inputs).outputs, expected.outputs)
    compiled, _ = analyse(graph)
    assert compiled is not None
    assert compiled.input_shape == tuple(plain.nodes["input"].input_type["input"])


@pytest.mark.parametrize(("leading", "axes"), [((8,), "the batch"), ((4, 10), "batch and time")])
def test_the_warning_names_the_node_and_both_shapes(leading, axes):
    (finding,) = read(linear(leading))[1]
    assert (finding.kind, finding.place, finding.severity) == ("batch-axes", "node 'input'", "warning")
    assert finding.message == (
        f"declares the shape {(*leading, 20)}, but the nodes after it take (20,): {leading} is read as {axes}, "
        "which does not belong to a shape in NIR"
    )


def test_an_output_without_the_axes_of_the_input_is_read_too():
    assert [each.kind for each in read(linear((1, 10), ()))[1]] == ["batch-axes"]


def test_shapes_that_fit_as_they_stand_are_left():
    """A channel of one, a flattened image, and an image that happens to have as many rows as a batch."""
    flatten = nir.Flatten({"input": np.array((1, 5, 4))}, 0, -1)
    for graph in (
        image(()),
        linear(()),
        chain((1, 5, 4), flatten, nir.Linear(WEIGHT), neurons((5,)), output=(5,)),
        chain((20, 20), neurons((20, 20)), output=(20, 20)),
    ):
        discrete, findings = read(graph)
        assert findings == []
        assert discrete.shapes["input"] == tuple(graph.nodes["input"].input_type["input"])


def test_axes_of_one_element_are_dropped_with_the_others():
    discrete, findings = read(chain((2, 1, 5), neurons((5,)), output=(2, 1, 5)))
    assert [each.kind for each in findings] == ["batch-axes"]
    assert discrete.shapes["input"] == (5,)


def test_a_graph_that_is_wrong_otherwise_is_refused_for_that_and_for_the_axes():
    graph = image((1,))
    graph.nodes["n3"] = nir.Affine(np.zeros((4, 13)), np.zeros(4))
    for wrong, said in ((graph, "(4, 13)"), (linear((8,)), "(5, 19)")):
        if said == "(5, 19)":
            wrong.nodes["n0"] = nir.Linear(WEIGHT[:, :19])
        with pytest.raises(BadInput) as error:
            discretise(wrong)
        assert "is read as the batch" in str(error.value)
        assert said in str(error.value)
