"""The core of each neuron, and the messages and hops of a spike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from esl_neuro.compiler.placement import place
from esl_neuro.compiler.program import IntArray, Program
from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target
from esl_neuro.nirgraph.kernel import Kernel
from esl_neuro.reading.arrays import SINGLE, read_arrays
from esl_neuro.reading.names import printable

# Loihi: 32 tiles of four cores, eight columns of four tiles, numbered as SANA-FE does (arch/loihi.yaml).
CORES_PER_TILE = 4
TILES_PER_COLUMN = 4
COLUMNS = 8


@dataclass(frozen=True)
class CoreMap:
    """Neurons on cores, cores on tiles, tiles on a mesh.

    Core ``c`` is on tile ``c // cores_per_tile``, tile ``t`` at column ``t // tiles_per_column`` and row
    ``t % tiles_per_column``. A message is one spike sent to one core that has at least one of its targets; it travels
    ``|dx|`` hops east or west and ``|dy|`` hops north or south.

    Attributes
    ----------
    core_of : mapping of str to int64 array, shape (neurons,)
        Core of each neuron of each group. Without an entry ``"input"`` the input lines are on no core: their spikes
        count as messages, but not as hops.
    cores_per_tile, tiles_per_column, columns : int
        Geometry of the mesh of one chip; distances between chips are unknown.
    """

    core_of: Mapping[str, IntArray]
    cores_per_tile: int = CORES_PER_TILE
    tiles_per_column: int = TILES_PER_COLUMN
    columns: int = COLUMNS

    @property
    def size(self) -> int:
        """Number of cores of the mesh."""
        return self.cores_per_tile * self.tiles_per_column * self.columns

    @property
    def mesh(self) -> str:
        """Description of the mesh."""
        return (
            f"a mesh of {self.columns} columns of {self.tiles_per_column} tiles of {self.cores_per_tile} cores, "
            "numbered column by column, as of Loihi"
        )

    def cores(self, name: str, neurons: int) -> IntArray:
        """Return the cores of a group.

        Raises
        ------
        BadInput
            If the group is missing, has another number of neurons, or is on a core outside the mesh.
        """
        if name not in self.core_of:
            raise BadInput(f"placement: group '{name}' has no cores; give an array of {neurons} core numbers")
        cores = np.asarray(self.core_of[name], dtype=np.int64)
        if cores.shape != (neurons,):
            raise BadInput(f"placement: cores of '{name}' have shape {cores.shape}; expected ({neurons},)")
        outside = cores[(cores < 0) | (cores >= self.size)]
        if outside.size:
            raise BadInput(
                f"placement: cores of '{name}' contain {outside[0]}; the mesh has cores 0 to {self.size - 1}; hops "
                "between chips are unknown"
            )
        return cores


def read_placement(path: Path) -> CoreMap:
    """Read a ``.npz`` file with the core numbers of each group under its name.

    Raises
    ------
    BadInput
        If the file cannot be read.
    """
    problem = "not a readable .npz file of core numbers"
    arrays = read_arrays(path, problem)
    if arrays.keys() == {SINGLE}:
        raise BadInput(f"{path}: {problem}: it contains a single array; write the file with np.savez")
    wrong = [
        f"cores of '{printable(name)}' are {cores.dtype} in {cores.ndim} dimensions; give one integer per neuron"
        for name, cores in arrays.items()
        if cores.dtype.kind not in "iu" or cores.ndim != 1
    ]
    if wrong:
        raise BadInput(f"{path}: {problem}: {'; '.join(wrong)}")
    return CoreMap({name: cores.astype(np.int64) for name, cores in arrays.items()})


def compiled_placement(program: Program) -> CoreMap:
    """Return the core map of the compiler for a program; the input lines are on no core."""
    return CoreMap(place(program, load_target(program.target)).core_of_neuron)


def distances(placement: CoreMap) -> IntArray:
    """Return the hops between each two cores of a mesh, int64, shape (cores, cores)."""
    columns, rows = _place(np.arange(placement.size), placement)
    return np.asarray(np.abs(columns[:, None] - columns) + np.abs(rows[:, None] - rows))


def message_fans(
    several: Sequence[sp.csr_matrix | Kernel], source: str, target: str, placement: CoreMap
) -> list[IntArray]:
    """Return the messages, hops east-west and hops north-south of one event of each source.

    A spike is one message to each core, however many delays its synapses there have: the core delays it at the
    synapses. So a message counts with the shortest of these delays.

    Parameters
    ----------
    several : sequence of scipy.sparse.csr_matrix, shape (targets, sources), or Kernel
        Stored connections from one group to another, by ascending delay.
    source, target : str
        Names of the groups.
    placement : CoreMap
        Cores of the neurons.

    Returns
    -------
    list of int64 array, shape (sources, 3)
        For each delay, of the messages to cores that no shorter delay reaches.
    """
    targets, sources = several[0].shape
    used, place = np.unique(placement.cores(target, targets), return_inverse=True)
    starts = _place(placement.cores(source, sources), placement) if source in placement.core_of else None
    before, found = np.zeros((len(used), sources), dtype=bool), []
    for weights in several:
        sends = np.zeros((len(used), sources), dtype=bool)
        for first_target, first_source, part in parts(weights):
            entries = part.tocoo()
            sends[place[first_target + entries.row], first_source + entries.col] = True
        sends &= ~before
        before |= sends
        fans = np.zeros((sources, 3), dtype=np.int64)
        fans[:, 0] = sends.sum(axis=0)
        for core, reached in zip(used, sends, strict=True):
            for axis, (start, end) in enumerate(zip(starts or (), _place(core, placement), strict=starts is not None)):
                fans[reached, 1 + axis] += np.abs(start[reached] - end)
        found.append(fans)
    return found


def parts(weights: sp.csr_matrix | Kernel) -> Iterator[tuple[int, int, sp.csr_matrix]]:
    """Yield the synapses in parts that fit into memory, each with its first target and first source."""
    if not isinstance(weights, Kernel):
        yield 0, 0, weights
        return
    out, per_group = weights.weights.shape[:2]
    image, positions = weights.input_shape[1:], int(np.prod(weights.output_shape[1:]))
    for channel in range(out):
        group = channel // (out // weights.groups)
        one = replace(
            weights, weights=weights.weights[channel : channel + 1], input_shape=(per_group, *image), groups=1
        )
        yield channel * positions, group * per_group * int(np.prod(image)), one.matrix()


def _place(core: IntArray, placement: CoreMap) -> tuple[IntArray, IntArray]:
    tile = core // placement.cores_per_tile
    return tile // placement.tiles_per_column, tile % placement.tiles_per_column
