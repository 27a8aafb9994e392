"""Sparse layers in NIR files: both forms say the same matrix, and everything that contradicts them is refused."""

from __future__ import annotations

from itertools import pairwise

import h5py
import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.compiler.check import check_graph
from esl_neuro.compiler.frontend import analyse
from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.files import read_nir, write_nir
from esl_neuro.nirgraph.sparse_nodes import (
    NOTE_COLUMNS,
    NOTE_STARTS,
    NOTE_VERSION,
    SparseAffine,
    diagonal_node,
    note_of,
)
from esl_neuro.reading.limits import CONTENT_VARIABLE

DT_S = 1e-3


@st.composite
def layers(draw):
    """A matrix, where its connections are (some have weight zero), and a bias."""
    outputs, inputs = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    mask = rng.random((outputs, inputs)) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    weight = np.where(mask, rng.integers(-2, 3, mask.shape) / 4, 0).astype(np.float32)
    return weight, mask, rng.integers(-2, 3, outputs).astype(np.float32)


def connections(mask):
    """The columns and the starts of the rows, counted one by one."""
    columns = [column for row in mask for column in range(len(row)) if row[column]]
    starts = [sum(int(row.sum()) for row in mask[:count]) for count in range(len(mask) + 1)]
    return np.array(columns, np.int32), np.array(starts, np.int64)


def by_connections(weight, mask, bias):
    columns, starts = connections(mask)
    values = np.array([w for row, there in zip(weight, mask, strict=True) for w in row[there]], np.float32)
    return SparseAffine(values, columns, starts, np.array(mask.shape), bias)


def with_note(weight, mask, bias):
    return nir.Affine(weight, bias, metadata=note_of(*connections(mask)))


def chain(layer, inputs=3, outputs=2):
    full = lambda value: np.full(outputs, float(value))  # noqa: E731
    neurons = nir.LIF(tau=full(2e-3), r=full(1), v_leak=full(0), v_threshold=full(0.7), v_reset=full(0))
    nodes = {"input": nir.Input({"input": np.array([inputs])}), "fc": layer, "lif": neurons}
    nodes |= {"output": nir.Output({"output": np.array([outputs])})}
    return nir.NIRGraph(nodes, [*pairwise(nodes)], {"dt_s": DT_S, "steps": 4})


@settings(max_examples=15)
@given(layers())
def test_both_forms_return_from_a_file_as_they_were(tmp_path_factory, layer):
    weight, mask, bias = layer
    path = tmp_path_factory.mktemp("nir") / "x.nir"
    sparse, noted = by_connections(*layer), with_note(*layer)
    for node in (sparse, noted):
        write_nir(path, chain(node, *mask.shape[::-1]))
        read = read_nir(path).nodes["fc"]
        for field in ("values", "columns", "row_starts", "shape") if node is sparse else ("weight",):
            assert getattr(read, field).dtype == getattr(node, field).dtype
            assert np.array_equal(getattr(read, field), getattr(node, field))
        assert np.array_equal(read.bias, bias)
    assert np.array_equal(read.metadata[NOTE_COLUMNS], connections(mask)[0])
    assert np.array_equal(sparse.matrix().toarray(), weight)
    assert sparse.matrix().nnz == mask.sum()
    assert np.array_equal(nir.read(path).nodes["fc"].weight, weight)  # of any other reader


@given(layers())
def test_a_network_means_the_same_in_both_forms_and_as_a_matrix(layer):
    (weight, mask, bias) = layer
    found = []
    for node in (nir.Affine(weight, bias), with_note(*layer), by_connections(*layer)):
        network, findings = analyse(chain(node, *mask.shape[::-1]))
        assert findings == []
        (connection,) = network.connections
        found.append((connection.weights.toarray(), network.groups[0].bias))
    for weights, biases in found[1:]:
        assert np.array_equal(weights, found[0][0])
        assert np.array_equal(biases, found[0][1])


# What contradicts the format, by the changed field of the node of test values.

VALUES = np.array([0.5, -0.5, 0.25], np.float32)
COLUMNS, STARTS = np.array([0, 2, 1], np.int32), np.array([0, 2, 3])
FIELDS = {
    "values": VALUES,
    "columns": COLUMNS,
    "row_starts": STARTS,
    "shape": np.array([2, 3]),
    "bias": np.zeros(2, np.float32),
    "version": 1,
}
CONTRADICTIONS = [
    ({"version": 2}, "version is 2; this version of esl-neuro reads 1"),
    ({"version": 1.0}, "version is 1.0; this version"),
    ({"version": np.array([1])}, "version is [1]; this version"),
    ({"shape": np.array([2])}, "shape is [2]; expected the numbers of outputs and inputs"),
    ({"shape": np.array([2.0, 3.0])}, "shape is [2.0, 3.0]; expected"),
    ({"shape": np.array([2, 0])}, "shape is [2, 0]; expected"),
    ({"shape": np.array([2, 10**12])}, "shape is [2, 1000000000000]; expected"),
    ({"shape": np.array([3, 3])}, "connections: row_starts has 3 entries; expected 4, one more than the 3 targets"),
    ({"shape": np.array([10**8, 10**8])}, "connections: row_starts has 3 entries; expected 100000001"),
    ({"columns": np.array([0, 3, 1])}, "connections: source 3 does not exist (1 of 3 synapses); sources are 0 to 2"),
    ({"columns": np.array([0, -1, 1])}, "connections: source -1 does not exist"),
    ({"columns": np.array([2, 0, 1])}, "connections: the sources of a target are not in ascending order"),
    ({"columns": np.array([0, 0, 1])}, "connections: the sources of a target are not in ascending order"),
    ({"columns": np.array([0.0, 2.0, 1.0])}, "connections: columns are float64 of shape (3,); expected integers"),
    ({"columns": np.array([0, 2])}, "connections: row_starts ends at 3, with 2 columns and 3 weights"),
    ({"row_starts": np.array([0, 2, 2])}, "connections: row_starts ends at 2, with 3 columns and 3 weights"),
    ({"row_starts": np.array([0, 4, 3])}, "connections: row_starts does not ascend from 0"),
    ({"row_starts": np.array([1, 2, 3])}, "connections: row_starts does not ascend from 0"),
    ({"row_starts": np.array([[0, 2, 3]])}, "connections: row_starts are int64 of shape (1, 3); expected integers"),
    ({"values": np.array([1, 2, 3])}, "values is int64 of shape (3,); expected floating point numbers"),
    ({"values": np.array([1.0, np.nan, 3.0])}, "values contains values that are not finite"),
    ({"values": np.ones((3, 1))}, "values is float64 of shape (3, 1); expected floating point numbers"),
    ({"bias": np.zeros(3)}, "bias is float64 of shape (3,); expected floating point numbers, 2"),
    ({"bias": np.array([0.0, np.inf])}, "bias contains values that are not finite"),
]


@pytest.mark.parametrize(("changed", "said"), CONTRADICTIONS)
def test_a_contradiction_is_refused_where_it_is_made_where_it_is_read_and_where_it_is_used(tmp_path, changed, said):
    with pytest.raises(BadInput) as caught:
        SparseAffine(**FIELDS | changed)
    assert said in str(caught.value)

    write_nir(tmp_path / "x.nir", chain(SparseAffine(**FIELDS)))
    with h5py.File(tmp_path / "x.nir", "r+") as file:
        for field, value in changed.items():
            del file[f"node/nodes/fc/{field}"]
            file[f"node/nodes/fc/{field}"] = value
    with pytest.raises(BadInput) as caught:
        read_nir(tmp_path / "x.nir")
    assert "node 'fc': SparseAffine is inconsistent" in str(caught.value)
    assert said in str(caught.value)

    node = SparseAffine(**FIELDS)
    graph = chain(node)
    for field, value in changed.items():
        setattr(node, field, value)
    findings = check_graph(graph, "loihi2").findings
    assert {(finding.kind, finding.place) for finding in findings} == {("malformed", "node 'fc'")}
    assert any(said in finding.message for finding in findings)


def test_a_node_of_another_size_than_its_input_is_refused():
    graph = chain(SparseAffine(**FIELDS))
    graph.nodes["input"] = nir.Input({"input": np.array([4])})
    (finding,) = check_graph(graph, "loihi2").findings
    assert finding.message == "shape is (2, 3), the input has shape (4,) (4 elements)"


def test_arrays_above_the_limit_are_refused_before_they_are_read(tmp_path, monkeypatch):
    write_nir(tmp_path / "x.nir", chain(SparseAffine(**FIELDS)))
    with h5py.File(tmp_path / "x.nir", "r+") as file:
        del file["node/nodes/fc/values"]
        file["node/nodes/fc"].create_dataset("values", shape=(10**12,), dtype="f4", chunks=(1024,), compression="gzip")
    monkeypatch.setenv(CONTENT_VARIABLE, "100")
    with pytest.raises(BadInput, match="declares the shape"):
        read_nir(tmp_path / "x.nir")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({NOTE_VERSION: 2}, "metadata: sparse_version is 2; this version reads 1"),
        ({NOTE_COLUMNS: np.array([0, 5, 1])}, "metadata: source 5 does not exist"),
        ({NOTE_COLUMNS: np.array([2, 0, 1])}, "metadata: the sources of a target are not in ascending order"),
        ({NOTE_COLUMNS: "many"}, "metadata: sparse_columns are <U4 of shape (); expected integers"),
        ({NOTE_STARTS: np.array([0, 3])}, "metadata: sparse_row_starts has 2 entries; expected 3"),
        (
            {NOTE_COLUMNS: np.array([0, 1, 1])},
            "metadata: 1 weights are not zero where sparse_columns has no connection",
        ),
    ],
)
def test_a_note_that_contradicts_its_matrix_is_refused(changed, said):
    weight = np.array([[0.5, 0, -0.5], [0, 0.25, 0]])
    graph = chain(nir.Linear(weight, metadata=note_of(COLUMNS, STARTS)))
    assert check_graph(graph, "loihi2", 4).compiles
    graph.nodes["fc"].metadata |= changed
    (finding,) = check_graph(graph, "loihi2").findings
    assert (finding.kind, finding.place) == ("malformed", "node 'fc'")
    assert said in finding.message


def test_a_note_without_its_arrays_is_refused():
    graph = chain(nir.Linear(np.ones((2, 3)), metadata={NOTE_VERSION: 1}))
    (finding,) = check_graph(graph, "loihi2").findings
    assert "metadata: sparse_columns are object" in finding.message


def test_nir_1_0_4_has_no_such_node(tmp_path):
    with pytest.raises(BadInput, match="nodes 'fc' are stored by their connections"):
        write_nir(tmp_path / "x.nir", chain(SparseAffine(**FIELDS)), "1.0.4")
    noted = with_note(np.ones((2, 3)), np.ones((2, 3), bool), np.zeros(2))
    write_nir(tmp_path / "x.nir", chain(noted), "1.0.4")  # the older format has the matrix and no notes
    assert read_nir(tmp_path / "x.nir").nodes["fc"].metadata == {}


@given(layers())
def test_a_diagonal_is_recognised(layer):
    weight, mask, _ = layer
    factors = by_connections(*layer).diagonal
    one_to_one = np.array_equal(mask, np.eye(len(mask), dtype=bool))
    assert (factors is not None) == one_to_one
    assert factors is None or np.array_equal(factors, np.diag(weight))


def test_a_diagonal_that_no_file_holds_as_a_matrix_is_stored_by_its_connections():
    small, large = diagonal_node(np.array([1.0, 2.0])), diagonal_node(np.arange(10_000.0))
    assert np.array_equal(small.weight, [[1, 0], [0, 2]])
    assert np.array_equal(large.diagonal, np.arange(10_000.0))
