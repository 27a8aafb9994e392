"""Keep the connections of a network within what the cores of a chip hold, by exact counters.

A core has a number of synapses, the bits of its synaptic memory, input axons (sources with a synapse on the core, for
each connection of the chip) and output axons (cores that its neurons reach). All are functions of which connections
exist. Removing a connection never raises one of them; adding one may, and is done only where each core stays within its
limits. A connection whose source already reaches the core needs no axon. Arrays only: what the synapses of a connection
are, and what a core holds, is given.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esl_neuro.compiled import compiled_for_threads
from esl_neuro.errors import BadInput, CheckFailed
from esl_neuro.sparsity.capped_choice import IntArray, Ranked, nth_free

SYNAPSES, MEMORY, INPUT_AXONS, OUTPUT_AXONS = range(4)
RESOURCES = ("synapses", "synaptic_memory", "input_axons", "output_axons")
UNLIMITED = np.iinfo(np.int64).max
TURNS = 16  # in which several layers draw their connections one after the other


class Synapses(NamedTuple):
    """The synapses that each connection of a layer makes.

    Attributes
    ----------
    starts : int64 array, shape (inputs + 1,)
        Where the synapses of each input of an output begin in the next two.
    places, lines : int64 array, shape (synapses of an output that has all inputs,)
        Neuron of the output that the synapse reaches, and line of the source among all lines into its group.
    shift : int64 array, shape (outputs,)
        Added to the line, for the groups of a convolution.
    part : int64 array, shape (outputs, neurons of an output)
        Part of each neuron.
    """

    starts: IntArray
    places: IntArray
    lines: IntArray
    shift: IntArray
    part: IntArray


class CoreLines(NamedTuple):
    """The sources of the synapses of each part, and what an axon needs.

    A part is what a core holds of one group; several may share a core. The lines of a group are the sources of all
    connections of the chip into it, one after the other; its links are these connections.

    Attributes
    ----------
    first_count, first_line, first_link : int64 array, shape (parts,)
        Where the counts, the lines of the group and the links of a part begin.
    core : int64 array, shape (parts,)
        Core of each part.
    link : int64 array, shape (lines of all groups,)
        Link of each line, counted in its group.
    source_core : int64 array, shape (lines of all groups,)
        Core of the source; -1 for an input of the network.
    bits : int64 array, shape (kinds of axons, most synapses + 1)
        Bits of an axon with a number of synapses in the sparse format.
    kind, dense_bits : int64 array, shape (links of all parts,)
        Row of ``bits`` for the axons of a link of a part, and the bits of one in the dense format.
    """

    first_count: IntArray
    first_line: IntArray
    first_link: IntArray
    core: IntArray
    link: IntArray
    source_core: IntArray
    bits: IntArray
    kind: IntArray
    dense_bits: IntArray


class Counters(NamedTuple):
    """What the cores hold now.

    Attributes
    ----------
    counts : int32 array, shape (lines of all parts,)
        Synapses of each source in each part.
    used : int64 array, shape (4, cores)
        Use of each resource.
    axons, sparse_bits : int64 array, shape (links of all parts,)
        Axons, and their bits in the sparse format.
    total : int64 array, shape (1,)
        Synapses of all cores.
    """

    counts: NDArray[np.int32]
    used: IntArray
    axons: IntArray
    sparse_bits: IntArray
    total: IntArray


@dataclass
class Cores:
    """The cores of a chip with the connections of some layers, and what they may hold.

    Attributes
    ----------
    layers : dict of str to Synapses
        By the names of the sparse layers.
    lines : CoreLines
        Sources and formats.
    limits : int64 array, shape (4,)
        Largest use of each resource of a core.
    most_synapses : int
        Largest number of synapses of all cores.
    counters : Counters
        At first those of the synapses that do not change.
    """

    layers: Mapping[str, Synapses]
    lines: CoreLines
    limits: IntArray
    most_synapses: int
    counters: Counters

    def __post_init__(self) -> None:
        self._fixed = copy.deepcopy(self.counters)

    def clear(self) -> None:
        """Remove all connections."""
        for name in Counters._fields:
            getattr(self.counters, name)[...] = getattr(self._fixed, name)

    def add(self, name: str, positions: IntArray) -> None:
        """Count connections of a layer, also beyond the limits."""
        _change_all(positions, 1, self.layers[name], self.lines, self.counters)

    def remove(self, name: str, positions: IntArray) -> None:
        """Stop counting connections of a layer."""
        _change_all(positions, -1, self.layers[name], self.lines, self.counters)

    def within(self) -> bool:
        """Whether every core holds its connections."""
        return not (self.counters.used > self.limits[:, None]).any() and self.counters.total[0] <= self.most_synapses

    def refuse_above(self) -> None:
        """Reject connections from elsewhere that the cores do not hold.

        Raises
        ------
        BadInput
            With the use of the fullest core and the limit of each resource that is exceeded.
        """
        pairs = zip(RESOURCES, self.counters.used.max(axis=1).tolist(), self.limits.tolist(), strict=True)
        above = [f"{name}_per_core {most:,}, allowed {limit:,}" for name, most, limit in pairs if most > limit]
        if (total := int(self.counters.total[0])) > self.most_synapses:
            above.append(f"synapses_per_chip {total:,}, allowed {self.most_synapses:,}")
        if above:
            raise BadInput(f"budget: the connections to start from exceed it: {'; '.join(above)}; raise the budget")

    def add_fitting(self, name: str, positions: IntArray, count: int, room: IntArray) -> IntArray:
        """Add connections from the first to the last, each if all its cores can hold it, until there are ``count``.

        Parameters
        ----------
        name : str
            Name of the layer.
        positions : int64 array
            Positions ``output * inputs + input`` without a connection, distinct.
        count : int
            Number of connections to add.
        room : int64 array, shape (outputs,)
            Connections that each output may gain.

        Returns
        -------
        int64 array
            Places of the added ones among the positions, ascending.
        """
        added = np.zeros(len(positions), np.bool_)
        parts = self.layers[name], self.lines, self.counters
        _add_fitting(positions, count, room.copy(), self.limits, self.most_synapses, added, *parts)
        return np.flatnonzero(added)

    def prices(self, name: str, positions: IntArray) -> NDArray[np.float64]:
        """Return the price of connections that exist, in synapses.

        Each of its synapses counts 1. A synapse that alone holds an axon of a core whose axons are all in use counts as
        many as an axon of that core has on average, because that many could take its place.
        """
        prices = np.empty(len(positions))
        _prices(positions, prices, self.limits, self.layers[name], self.lines, self.counters)
        return prices

    def blocks(self, name: str) -> IntArray:
        """Return a number for each output of a layer that is the same for outputs on the same cores."""
        return np.unique(self.layers[name].part, axis=0, return_inverse=True)[1].ravel()


Plan = Callable[[Mapping[str, int]], Cores]
"""Returns the empty cores for layers with these numbers of connections."""


@dataclass(frozen=True)
class CoreRoom:
    """What an update of a layer may create within the cores of a chip.

    Attributes
    ----------
    cores : Cores
        Without the connections that die in the update.
    name : str
        The layer.
    left : int64 array, shape (outputs,)
        Connections that each output may gain by its fan-in.
    born : int64 array
        Positions that are already chosen.
    """

    cores: Cores
    name: str
    left: IntArray
    born: IntArray

    def accept(self, positions: IntArray, count: int) -> IntArray:
        """Return which positions, from the best to the worst, are chosen: ``count`` of them, or all that fit."""
        self.cores.add(self.name, self.born)
        chosen = self.cores.add_fitting(self.name, positions, count, self.left)
        self.cores.remove(self.name, np.concatenate([self.born, positions[chosen]]))
        return chosen

    def after(self, chosen: IntArray, rule: str) -> CoreRoom:
        """Return the room that positions leave.

        Raises
        ------
        CheckFailed
            If a rule of your own ignored the room.
        """
        inputs = len(self.cores.layers[self.name].starts) - 1
        born = np.concatenate([self.born, chosen])
        left = self.left - np.bincount(chosen // inputs, minlength=len(self.left))
        self.cores.add(self.name, born)
        fits = self.cores.within()
        self.cores.remove(self.name, born)
        if left.min() < 0 or not fits:
            raise CheckFailed(
                f"growth rule '{rule}': the cores of layer '{self.name}' do not hold the connections that it chose; "
                "choose by layer.room.accept"
            )
        return CoreRoom(self.cores, self.name, left, born)

    def open(self) -> NDArray[np.bool_]:
        """Return which outputs may gain a connection."""
        return np.asarray(self.left > 0)

    def most(self, free: IntArray) -> int:
        """Return how many of the free positions of each output can be chosen at most; the cores may hold fewer."""
        return int(np.minimum(free, np.maximum(self.left, 0)).sum())

    def draw(self, free: IntArray, ranked: Ranked, count: int, rng: np.random.Generator) -> IntArray:
        """Draw free positions one after the other, each if it fits; ``count`` of them, or all that fit."""
        chosen = np.empty(0, np.int64)
        for ranks in random_order(int(free.sum()), count, rng):
            positions = ranked(ranks)
            chosen = positions[self.accept(positions, count)]
            if len(chosen) == count:
                break
        return np.sort(chosen)


def random_order(total: int, count: int, rng: np.random.Generator) -> Iterator[IntArray]:
    """Yield distinct ranks below ``total`` in random order: a few for each wanted one, then more, then all."""
    tries = 4 * count
    while 2 * tries < total:
        drawn = rng.integers(total, size=tries)
        yield drawn[np.sort(np.unique(drawn, return_index=True)[1])]
        tries *= 8
    yield rng.permutation(total)


def draw_on_cores(
    cores: Cores, counts: Mapping[str, int], rooms: Mapping[str, IntArray], rngs: Mapping[str, np.random.Generator]
) -> dict[str, IntArray]:
    """Draw the connections of all layers at random, one after the other, each among those that its cores can hold.

    The layers take turns, so that none takes all axons of a core that several feed. Fewer than wanted are drawn where
    no more fit.

    Parameters
    ----------
    cores : Cores
        Without connections; it counts them afterwards.
    counts : mapping of str to int
        Connections of each layer.
    rooms : mapping of str to int64 array, shape (outputs,)
        Largest number of connections of each output.
    rngs : mapping of str to numpy.random.Generator
        Source of the draws of each layer.

    Returns
    -------
    dict of str to int64 array
        Sorted positions.
    """
    drawn = {name: np.empty(0, np.int64) for name in counts}
    for turn in range(1, TURNS + 1):
        for name, count in counts.items():
            inputs, outputs = len(cores.layers[name].starts) - 1, len(cores.layers[name].shift)
            taken, wanted = drawn[name], count * turn // TURNS - len(drawn[name])
            left = rooms[name] - np.bincount(taken // inputs, minlength=outputs)
            for ranks in random_order(inputs * outputs - len(taken), wanted, rngs[name]):
                positions = nth_free(taken, ranks)
                positions = positions[~np.isin(positions, drawn[name])]
                chosen = positions[cores.add_fitting(name, positions, wanted, left)]
                left -= np.bincount(chosen // inputs, minlength=outputs)
                drawn[name] = np.sort(np.concatenate([drawn[name], chosen]))
                wanted -= len(chosen)
                if not wanted:
                    break
    return drawn


def smallest_limits(cores: Cores, fits: Callable[[], bool]) -> list[str]:
    """Return, for each limit of a core, the smallest value with which something fits, all others as they are.

    Parameters
    ----------
    cores : Cores
        Its limits are the same afterwards.
    fits : callable
        Whether it fits within the limits of the cores.
    """
    found = []
    for resource in np.flatnonzero(cores.limits < UNLIMITED).tolist():
        given = int(cores.limits[resource])
        low, high = given, given
        cores.limits[resource] = UNLIMITED
        if fits():
            high = int(cores.counters.used[resource].max())
        while high - low > 1:
            cores.limits[resource] = middle = (low + high) // 2
            low, high = (low, middle) if fits() else (middle, high)
        cores.limits[resource] = given
        found += [f"{RESOURCES[resource]}_per_core to {high:,}"] if high > given else []
    return found


def spared(dead: IntArray, sizes: NDArray[Any], blocks: IntArray, born: IntArray) -> NDArray[np.bool_]:
    """Return which deaths to cancel, where fewer connections could be born than die.

    Parameters
    ----------
    dead, born : int64 array
        Blocks of outputs (:meth:`Cores.blocks`) in which connections die and are born.
    sizes : array, shape of ``dead``
        Sizes of the weights that die; the largest ones stay.
    blocks : int64 array
        All blocks.

    Returns
    -------
    bool array, shape of ``dead``
        At least one where there are more deaths than births: in each block with more deaths than births as many as are
        missing, and at least half, because a connection that stays takes room too.
    """
    number = int(blocks.max()) + 1
    died, came = np.bincount(dead, minlength=number), np.bincount(born, minlength=number)
    missing = np.maximum(died - came, 0)
    kept = np.where(missing > 0, np.maximum(missing, (died + 1) // 2), 0)
    order = np.lexsort((-sizes, dead))
    rank = np.arange(len(dead)) - np.searchsorted(dead[order], dead[order])
    stays = np.zeros(len(dead), np.bool_)
    stays[order] = rank < kept[dead[order]]
    return stays


# --- loops ----------------------------------------------------------------------------------------------------------


@compiled_for_threads
def _change(output: int, column: int, step: int, layer: Synapses, lines: CoreLines, now: Counters) -> None:
    last = lines.bits.shape[1] - 1  # more synapses occur only where axons are not counted
    for entry in range(layer.starts[column], layer.starts[column + 1]):
        part = layer.part[output, layer.places[entry]]
        core, line = lines.core[part], layer.lines[entry] + layer.shift[output]
        cell = lines.first_count[part] + line
        link = lines.first_link[part] + lines.link[lines.first_line[part] + line]
        before = now.counts[cell]
        after = before + step
        now.counts[cell] = after
        bits = min(now.sparse_bits[link], now.axons[link] * lines.dense_bits[link])
        now.sparse_bits[link] += lines.bits[lines.kind[link], min(after, last)]
        now.sparse_bits[link] -= lines.bits[lines.kind[link], min(before, last)]
        if before == 0 or after == 0:
            now.axons[link] += step
            now.used[INPUT_AXONS, core] += step
            source = lines.source_core[lines.first_line[part] + line]
            if source >= 0:
                now.used[OUTPUT_AXONS, source] += step
        now.used[MEMORY, core] += min(now.sparse_bits[link], now.axons[link] * lines.dense_bits[link]) - bits
        now.used[SYNAPSES, core] += step
        now.total[0] += step


@compiled_for_threads
def _fits(
    output: int, column: int, limits: IntArray, most: int, layer: Synapses, lines: CoreLines, now: Counters
) -> bool:
    if now.total[0] > most:
        return False
    for entry in range(layer.starts[column], layer.starts[column + 1]):
        part = layer.part[output, layer.places[entry]]
        core = lines.core[part]
        for resource in range(3):
            if now.used[resource, core] > limits[resource]:
                return False
        source = lines.source_core[lines.first_line[part] + layer.lines[entry] + layer.shift[output]]
        if source >= 0 and now.used[OUTPUT_AXONS, source] > limits[OUTPUT_AXONS]:
            return False
    return True


@compiled_for_threads
def _change_all(positions: IntArray, step: int, layer: Synapses, lines: CoreLines, now: Counters) -> None:
    columns = len(layer.starts) - 1
    for at in range(len(positions)):
        _change(positions[at] // columns, positions[at] % columns, step, layer, lines, now)


@compiled_for_threads
def _add_fitting(
    positions: IntArray,
    count: int,
    room: IntArray,
    limits: IntArray,
    most: int,
    added: NDArray[np.bool_],
    layer: Synapses,
    lines: CoreLines,
    now: Counters,
) -> None:
    columns, found = len(layer.starts) - 1, 0
    for at in range(len(positions)):
        if found >= count:
            break
        output, column = positions[at] // columns, positions[at] % columns
        if room[output] <= 0:
            continue
        _change(output, column, 1, layer, lines, now)
        if _fits(output, column, limits, most, layer, lines, now):
            room[output] -= 1
            added[at] = True
            found += 1
        else:
            _change(output, column, -1, layer, lines, now)


@compiled_for_threads
def _prices(
    positions: IntArray,
    prices: NDArray[np.float64],
    limits: IntArray,
    layer: Synapses,
    lines: CoreLines,
    now: Counters,
) -> None:
    columns = len(layer.starts) - 1
    for at in range(len(positions)):
        output, column = positions[at] // columns, positions[at] % columns
        price = 0.0
        for entry in range(layer.starts[column], layer.starts[column + 1]):
            part = layer.part[output, layer.places[entry]]
            core, cell = lines.core[part], lines.first_count[part] + layer.lines[entry] + layer.shift[output]
            alone = now.counts[cell] == 1 and now.used[INPUT_AXONS, core] >= limits[INPUT_AXONS]
            price += now.used[SYNAPSES, core] / now.used[INPUT_AXONS, core] if alone else 1.0
        prices[at] = max(price, 1e-9)  # a weight that makes no synapse, as one that only reads the padding
