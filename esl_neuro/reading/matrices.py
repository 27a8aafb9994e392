"""Check sparse matrices in rows: loops over them use their integers as indices, so a wrong one would leave memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MATRIX_ARRAYS = ("data", "indices", "indptr")


def matrix_findings(
    parts: Sequence[NDArray[Any]],
    shape: tuple[int, int],
    where: str,
    *,
    ordered: bool = False,
    names: tuple[str, str, str] = MATRIX_ARRAYS,
) -> Iterator[str]:
    """Find what is wrong with a sparse matrix in rows.

    Parameters
    ----------
    parts : sequence of array
        Values, columns and starts of the rows: ``data``, ``indices`` and ``indptr`` of ``scipy.sparse.csr_matrix``.
    shape : tuple of int
        (rows, columns).
    where : str
        The matrix, for the message.
    ordered : bool
        Whether the columns of a row must ascend, and the arrays have no spare entries, as in a file.
    names : tuple of str
        Names of the parts, for the message.

    Yields
    ------
    str
        A finding.
    """
    (data, indices, indptr), (rows, columns) = parts, shape
    _, of_columns, of_starts = names
    for name, part in ((of_columns, indices), (of_starts, indptr)):
        if part.ndim != 1 or part.dtype.kind not in "iu":
            yield f"{where}: {name} are {part.dtype} of shape {part.shape}; expected integers in one dimension"
            return
    if data.ndim != 1 or len(indptr) != rows + 1:
        yield f"{where}: {of_starts} has {len(indptr)} entries; expected {rows + 1}, one more than the {rows} targets"
        return
    stored = int(indptr[-1])
    if indptr[0] != 0 or (indptr[1:] < indptr[:-1]).any():
        yield f"{where}: {of_starts} does not ascend from 0"
        return
    if stored > min(len(indices), len(data)) or (ordered and not stored == len(indices) == len(data)):
        yield f"{where}: {of_starts} ends at {stored}, with {len(indices)} {of_columns} and {len(data)} weights"
        return
    used = indices[:stored]
    outside = used[(used < 0) | (used >= columns)]
    if outside.size:
        yield (
            f"{where}: source {outside[0]} does not exist ({outside.size} of {stored} synapses); "
            f"sources are 0 to {columns - 1}"
        )
    elif ordered:
        begins = np.zeros(stored, dtype=bool)
        begins[indptr[:-1][indptr[:-1] < stored]] = True
        if (~begins[1:] & (used[1:] <= used[:-1])).any():
            yield f"{where}: the sources of a target are not in ascending order"
