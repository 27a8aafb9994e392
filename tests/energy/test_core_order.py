"""An order of the cores on the mesh, against its hops counted spike by spike."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.compiler.program import Connection, Group, Program
from esl_neuro.energy.core_map import CoreMap, distances, message_fans
from esl_neuro.energy.core_order import fewer_hops, messages_between_cores, ordered_placement, swapped
from esl_neuro.errors import BadInput


def network(rng, sizes, density, delays=(0,)):
    """Layers in a row, the last of which also feeds the first, with several delays between each two."""
    names = [f"lif{at}" for at in range(len(sizes))]
    groups = []
    for name, neurons in zip(names, sizes, strict=True):
        zeros = np.zeros(neurons, dtype=np.int64)
        groups.append(Group(name, zeros, zeros, zeros + 1, zeros, zeros, 1.0))
    pairs = [("input", 5, names[0], sizes[0]), (names[-1], sizes[-1], names[0], sizes[0])]
    pairs += [(names[at], sizes[at], names[at + 1], sizes[at + 1]) for at in range(len(sizes) - 1)]
    connections = tuple(
        Connection(source, target, sp.csr_matrix(2 * (rng.random((many, few)) < density)), 0, 0, delay)
        for source, few, target, many in pairs
        for delay in delays
    )
    return Program("loihi", 5, 5, 1e-3, connections, tuple(groups))


def placed(rng, program, **mesh):
    """Cores of all neurons at random."""
    size = CoreMap({}, **mesh).size
    return CoreMap({group.name: rng.integers(0, size, group.neurons) for group in program.groups}, **mesh)


def totals(program, placement):
    """Messages and hops of one spike of each neuron, as a run counts them."""
    pairs = {}
    for each in program.connections:
        pairs.setdefault((each.source, each.target), []).append(each.weights)
    fans = [fan for pair, several in pairs.items() for fan in message_fans(several, *pair, placement)]
    messages, east, north = np.sum([fan.sum(axis=0) for fan in fans], axis=0).tolist()
    return messages, east + north


MESHES = st.fixed_dictionaries(
    {
        "cores_per_tile": st.integers(1, 3),
        "tiles_per_column": st.integers(1, 3),
        "columns": st.integers(1, 4),
    }
)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32), MESHES, st.lists(st.integers(1, 30), min_size=2, max_size=4), st.sampled_from([0.05, 0.4])
)
def test_an_order_has_the_same_messages_and_never_more_hops(seed, mesh, sizes, density):
    rng = np.random.default_rng(seed)
    program = network(rng, sizes, density, delays=(0, 3))
    before = placed(rng, program, **mesh)
    after = fewer_hops(program, before)
    messages, hops = totals(program, before)
    assert int((messages_between_cores(program, before) * distances(before)).sum()) == hops
    assert totals(program, after)[0] == messages
    assert totals(program, after)[1] <= hops
    # Neurons share a core after exactly if they did before.
    ends = [np.concatenate([each.core_of[group.name] for group in program.groups]) for each in (before, after)]
    assert len(np.unique(ends[0])) == len(np.unique(ends[1])) == len(np.unique(np.stack(ends), axis=1).T)
    assert (ends[1] >= 0).all()
    assert (ends[1] < before.size).all()


@pytest.mark.parametrize("seed", range(5))
def test_no_swap_of_two_cores_is_left_that_saves_hops(seed):
    rng = np.random.default_rng(seed)
    mesh = CoreMap({}, 2, 2, 3)
    one_way = rng.integers(0, 9, (mesh.size, mesh.size)) * (rng.random((mesh.size, mesh.size)) < 0.3)
    messages, distance = one_way + one_way.T, distances(mesh)

    def hops(place_of):
        return int((messages * distance[np.ix_(place_of, place_of)]).sum())

    found = swapped(messages, distance)
    assert sorted(found) == list(range(mesh.size))
    assert hops(found) < hops(np.arange(mesh.size))
    for one, other in itertools.combinations(range(mesh.size), 2):
        tried = found.copy()
        tried[[one, other]] = tried[[other, one]]
        assert hops(tried) >= hops(found)


def test_a_layer_far_from_its_source_moves_to_its_tile():
    """Core 0 sends to core 127 only, ten hops away; the cores between are not in use."""
    program = network(np.random.default_rng(0), [4, 4], 1.0)
    before = CoreMap({"lif0": np.zeros(4, dtype=np.int64), "lif1": np.full(4, 127)})
    assert totals(program, before) == (13, 80)  # five input lines, and four neurons of each layer
    assert totals(program, fewer_hops(program, before)) == (13, 0)


def test_the_order_of_the_compilers_cores_is_the_same_each_time():
    program = network(np.random.default_rng(0), [3000, 2500], 0.02, delays=(1,))
    first, second = ordered_placement(program), ordered_placement(program)
    assert all((first.core_of[name] == second.core_of[name]).all() for name in first.core_of)


def test_cores_outside_the_mesh_are_refused():
    program = network(np.random.default_rng(0), [2, 2], 1.0)
    with pytest.raises(BadInput, match="contain 6; the mesh has cores 0 to 5"):
        fewer_hops(program, CoreMap({"lif0": np.array([0, 6]), "lif1": np.array([1, 2])}, 2, 1, 3))
