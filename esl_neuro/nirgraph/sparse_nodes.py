"""Linear layers in NIR files by their connections: notes beside a matrix, and a node without any matrix.

NIR has matrices only. A matrix that a file can hold keeps its node, ``Affine`` or ``Linear``, which every reader
understands, and its metadata note which positions are connections, those of weight zero included. A larger one becomes
a :class:`SparseAffine`, which NIR does not define and other readers refuse. Both store the connections in CSR form:
``docs/sparse-nir.md`` describes the format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.linear_maps import LARGEST_SIGNAL
from esl_neuro.reading.matrices import matrix_findings

SCHEMA = 1
"""Version of the node and of the notes."""

MOST_IN_MATRIX = 2**26
"""Positions of a layer with sparse storage that is written as a matrix: 256 MB."""

NOTE_VERSION, NOTE_COLUMNS, NOTE_STARTS = "sparse_version", "sparse_columns", "sparse_row_starts"
NAMES = ("values", "columns", "row_starts")


@dataclass(eq=False)
class SparseAffine(nir.NIRNode):  # type: ignore[misc]
    """An affine map that is stored by its connections: ``y = W x + b`` with a sparse matrix ``W``.

    The connections of output ``i`` are ``row_starts[i]`` to ``row_starts[i + 1] - 1``; connection ``p`` comes from
    input ``columns[p]`` and has the weight ``values[p]``.

    Parameters
    ----------
    values : float array, shape (connections,)
        Weights; zero is allowed.
    columns : integer array, shape (connections,)
        Input of each connection, ascending within an output.
    row_starts : integer array, shape (outputs + 1,)
        Where the connections of each output begin.
    shape : integer array, shape (2,)
        Outputs and inputs.
    bias : float array, shape (outputs,)
        Bias.
    version : int
        Version of this node.

    Raises
    ------
    BadInput
        If the arrays are no such matrix; the message lists all findings.
    """

    values: NDArray[Any]
    columns: NDArray[Any]
    row_starts: NDArray[Any]
    shape: NDArray[Any]
    bias: NDArray[Any]
    version: int = SCHEMA

    def __post_init__(self) -> None:
        problems = problems_of(self)
        if problems:
            raise BadInput(f"SparseAffine: {'; '.join(problems)}")
        outputs, inputs = self.sizes
        self.input_type = {"input": np.array([inputs])}
        self.output_type = {"output": np.array([outputs])}

    @property
    def sizes(self) -> tuple[int, int]:
        """Outputs and inputs."""
        outputs, inputs = self.shape
        return int(outputs), int(inputs)

    def matrix(self) -> sp.csr_matrix:
        """Return the weights as a float64 matrix, shape (outputs, inputs); connections of weight zero stay."""
        parts = self.values.astype(np.float64), self.columns.astype(np.int32), self.row_starts.astype(np.int64)
        return sp.csr_matrix(parts, shape=self.sizes)

    @property
    def diagonal(self) -> NDArray[Any] | None:
        """The factor of each element if the map is one to one, None if it is not."""
        outputs, inputs = self.sizes
        alone = outputs == inputs == len(self.columns) and np.array_equal(self.columns, np.arange(outputs))
        return self.values if alone and bool(np.all(np.diff(self.row_starts) == 1)) else None


def diagonal_node(factors: NDArray[Any]) -> nir.NIRNode:
    """Return a one-to-one map, as a matrix if a file can hold it."""
    size = len(factors)
    if size**2 <= MOST_IN_MATRIX:
        return nir.Affine(weight=np.diag(factors), bias=np.zeros(size))
    own = np.arange(size + 1)
    return SparseAffine(np.array(factors), own[:-1], own, np.array([size, size]), np.zeros(size))


def problems_of(node: Any) -> list[str]:
    """Return everything that contradicts the definition of a node; sizes are compared before memory is taken."""
    version = _whole(node.version)
    if version != SCHEMA:
        return [
            f"version is {str(node.version)[:20]}; this version of esl-neuro reads {SCHEMA}: use the version that "
            "wrote the file, or write it again"
        ]
    sizes = [_whole(each) for each in np.ravel(node.shape)] if np.size(node.shape) == 2 else [None]
    if any(size is None or not 1 <= size <= LARGEST_SIGNAL for size in sizes):
        return [
            f"shape is {str(np.asarray(node.shape).tolist())[:60]}; expected the numbers of outputs and inputs, each "
            f"1 to {LARGEST_SIGNAL:,}"
        ]
    outputs, inputs = (int(size or 0) for size in sizes)
    parts = [np.asarray(getattr(node, name)) for name in NAMES]
    problems = list(matrix_findings(parts, (outputs, inputs), "connections", ordered=True, names=NAMES))
    for name, length in (("values", None), ("bias", outputs)):
        array = np.asarray(getattr(node, name))
        if array.dtype.kind != "f" or array.ndim != 1 or (length is not None and len(array) != length):
            wanted = "one for each connection" if length is None else f"{length}"
            problems.append(
                f"{name} is {array.dtype} of shape {array.shape}; expected floating point numbers, {wanted}"
            )
        elif not np.isfinite(array).all():
            problems.append(f"{name} contains values that are not finite")
    return problems


def _whole(value: Any) -> int | None:
    """Return a whole number, None if it is not one."""
    try:
        number = np.asarray(value)
        return int(number) if number.ndim == 0 and number.dtype.kind in "iu" else None
    except (TypeError, ValueError, OverflowError):
        return None


# Notes beside a matrix. They have no nested groups, which some readers cannot read in metadata.


def note_of(columns: NDArray[Any], row_starts: NDArray[Any]) -> dict[str, Any]:
    """Return metadata that list the connections of a matrix."""
    return {NOTE_VERSION: SCHEMA, NOTE_COLUMNS: np.array(columns), NOTE_STARTS: np.array(row_starts)}


def noted_connections(metadata: Mapping[str, Any]) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Return the noted columns and starts of the rows, None if nothing is noted, as in metadata that are no mapping."""
    if not isinstance(metadata, Mapping) or NOTE_VERSION not in metadata:
        return None
    return np.asarray(metadata.get(NOTE_COLUMNS)), np.asarray(metadata.get(NOTE_STARTS))


def note_problems(node: Any) -> list[str]:
    """Return what contradicts the matrix of a node in the note of its connections."""
    noted = noted_connections(getattr(node, "metadata", {}))
    if noted is None:
        return []
    version = _whole(node.metadata[NOTE_VERSION])
    if version != SCHEMA:
        return [f"metadata: {NOTE_VERSION} is {str(node.metadata[NOTE_VERSION])[:20]}; this version reads {SCHEMA}"]
    weight, (columns, starts) = np.asarray(node.weight), noted
    names = (NOTE_COLUMNS, NOTE_COLUMNS, NOTE_STARTS)
    found = matrix_findings((columns, columns, starts), weight.shape, "metadata", ordered=True, names=names)
    problems = list(found)
    if problems:
        return problems
    rows = np.repeat(np.arange(len(weight)), np.diff(starts))
    elsewhere = np.count_nonzero(weight) - np.count_nonzero(weight[rows, columns])
    if elsewhere:
        return [f"metadata: {elsewhere:,} weights are not zero where {NOTE_COLUMNS} has no connection; remove the note"]
    return []
