"""Number the cores of a placement anew, so that messages travel fewer hops on the mesh."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from esl_neuro.compiler.program import IntArray, Program
from esl_neuro.energy.core_map import CoreMap, compiled_placement, distances, parts
from esl_neuro.nirgraph.kernel import Kernel

MOST_SWAPS = 1000  # bounds the time; a mesh of 128 cores needs fewer


def ordered_placement(program: Program) -> CoreMap:
    """Return the core map of the compiler with its cores in an order of fewer hops; see :func:`fewer_hops`."""
    return fewer_hops(program, compiled_placement(program))


def fewer_hops(program: Program, placement: CoreMap) -> CoreMap:
    """Swap cores of a placement until no swap of two of them saves hops.

    Which neurons share a core does not change, so messages and the use of each core do not either. Hops are those of
    one spike of each neuron: ``sum over cores a, b of messages[a, b] * distance(a, b)``. Each step makes the swap that
    saves most, also with a core that is not in use; the given order is the start, so the result never has more such
    hops. The spikes of a run are not known here: where neurons spike at unequal rates, its hops can differ.

    Parameters
    ----------
    program : Program
        Its synapses determine the messages.
    placement : CoreMap
        Cores of its groups.

    Raises
    ------
    BadInput
        If a group has no cores, or one outside the mesh.
    """
    one_way = messages_between_cores(program, placement)
    place_of = swapped(one_way + one_way.T, distances(placement))
    return replace(placement, core_of={name: place_of[cores] for name, cores in placement.core_of.items()})


def messages_between_cores(program: Program, placement: CoreMap) -> IntArray:
    """Count the messages of one spike of each neuron, by the core that sends and the core that receives.

    A spike is one message to each core of a group that has at least one of its targets, whatever the delays of its
    synapses are. Sources on no core are left out.

    Returns
    -------
    int64 array, shape (cores of the mesh, cores of the mesh)
    """
    messages = np.zeros((placement.size, placement.size), dtype=np.int64)
    between: dict[tuple[str, str], list[sp.csr_matrix | Kernel]] = {}
    for each in program.connections:
        between.setdefault((each.source, each.target), []).append(each.weights)
    for (source, target), several in between.items():
        targets, sources = several[0].shape
        receiving = placement.cores(target, targets)
        if source not in placement.core_of:
            continue
        sends = np.zeros((placement.size, sources), dtype=bool)
        for weights in several:
            for first_target, first_source, part in parts(weights):
                entries = part.tocoo()
                sends[receiving[first_target + entries.row], first_source + entries.col] = True
        sending = placement.cores(source, sources)
        for core, reached in enumerate(sends):
            messages[:, core] += np.bincount(sending[reached], minlength=placement.size)
    return messages


def swapped(messages: IntArray, distance: IntArray) -> IntArray:
    """Return the place of each core after the swaps that save most, one after the other.

    With ``P[a, b]`` the distance between the places of ``a`` and ``b``, and ``S = messages @ P``, a swap of ``a`` and
    ``b`` changes the hops by ``S[a, b] - S[a, a] + S[b, a] - S[b, b] + 2 messages[a, b] P[a, b]``.

    Parameters
    ----------
    messages : int64 array, shape (cores, cores)
        Symmetric: messages between two cores, in both directions.
    distance : int64 array, shape (cores, cores)
        Symmetric: hops between two places, 0 on the diagonal.

    Returns
    -------
    int64 array, shape (cores,)
        A permutation.
    """
    messages = messages - np.diag(np.diag(messages))  # those of a core to itself travel no hop wherever it is
    place_of = np.arange(len(messages))
    for _ in range(MOST_SWAPS):
        apart = distance[np.ix_(place_of, place_of)]
        seen = messages @ apart
        own = np.diag(seen)
        change = seen + seen.T - own - own[:, None] + 2 * messages * apart
        np.fill_diagonal(change, 0)
        one, other = np.unravel_index(np.argmin(change), change.shape)
        if change[one, other] >= 0:
            break
        place_of[[one, other]] = place_of[[other, one]]
    return place_of
