"""Which core each neuron lives on, and what that makes of a spike: messages and hops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import scipy.sparse as sp

from esl_neuro.compiler.program import IntArray
from esl_neuro.errors import BadInput

# Loihi: 32 tiles of four cores, eight columns of four tiles, numbered as SANA-FE does (arch/loihi.yaml).
CORES_PER_TILE = 4
TILES_PER_COLUMN = 4


@dataclass(frozen=True)
class Placement:
    """Neurons on cores, cores on tiles, tiles on a mesh.

    Core ``c`` is on tile ``c // cores_per_tile``, tile ``t`` at column ``t // tiles_per_column`` and row
    ``t % tiles_per_column``. A message is one spike sent to one core that has at least one of its targets; it travels
    ``|dx|`` hops east or west and ``|dy|`` hops north or south.

    Attributes
    ----------
    core_of : mapping of str to int64 array, shape (neurons,)
        Core of each neuron of each group. Without an entry ``"input"`` the input lines are on no core: their spikes
        are messages, but have no known way to go.
    cores_per_tile, tiles_per_column : int
        The mesh.
    """

    core_of: Mapping[str, IntArray]
    cores_per_tile: int = CORES_PER_TILE
    tiles_per_column: int = TILES_PER_COLUMN

    def cores(self, name: str, neurons: int) -> IntArray:
        """Cores of a group.

        Raises
        ------
        BadInput
            If the group is not placed, or not with this number of neurons.
        """
        if name not in self.core_of:
            raise BadInput(f"placement: group '{name}' has no cores; give an array of {neurons} core numbers")
        cores = np.asarray(self.core_of[name], dtype=np.int64)
        if cores.shape != (neurons,) or cores.min(initial=0) < 0:
            raise BadInput(
                f"placement: cores of '{name}' have shape {cores.shape}; needed: {neurons} numbers from 0 on"
            )
        return cores


def read_placement(path: Path) -> Placement:
    """Read a ``.npz`` file that has the core numbers of each group under its name.

    Raises
    ------
    BadInput
        If the file cannot be read.
    """
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it holds one array; write a file with np.savez")
        with file:
            return Placement({name: np.asarray(file[name], dtype=np.int64) for name in file.files})
    except (OSError, ValueError, BadZipFile) as error:
        raise BadInput(f"{path}: no readable .npz file of core numbers: {error}") from error


def message_fans(pattern: sp.csr_matrix, source: str, target: str, placement: Placement) -> IntArray:
    """Messages, hops east-west and hops north-south that one event of each source causes.

    Parameters
    ----------
    pattern : scipy.sparse.csr_matrix, shape (targets, sources)
        Stored connections.
    source, target : str
        Names of the groups.
    placement : Placement
        Where they are.

    Returns
    -------
    int64 array, shape (sources, 3)
    """
    targets, sources = pattern.shape
    cores = placement.cores(target, targets)
    entries = pattern.tocoo()
    pairs = np.unique(np.stack([entries.col.astype(np.int64), cores[entries.row]]), axis=1)
    sender, core = pairs
    fans = np.zeros((sources, 3), dtype=np.int64)
    np.add.at(fans[:, 0], sender, 1)
    if source in placement.core_of:
        origin = placement.cores(source, sources)[sender]
        for axis, (start, end) in enumerate(zip(_place(origin, placement), _place(core, placement), strict=True)):
            np.add.at(fans[:, 1 + axis], sender, np.abs(start - end))
    return fans


def _place(core: IntArray, placement: Placement) -> tuple[IntArray, IntArray]:
    tile = core // placement.cores_per_tile
    return tile // placement.tiles_per_column, tile % placement.tiles_per_column
