"""Messages and hops of a placement, against sets of cores."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from esl_neuro.compiler.placement import place
from esl_neuro.compiler.program import Connection, Group, Program
from esl_neuro.energy.core_map import CoreMap, compiled_placement, message_fans, read_placement
from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target
from esl_neuro.nirgraph.kernel import Kernel


def brute_force(matrix, origin, cores):
    """One message for each core that has a target, and the way to it, line by line."""
    fans = []
    for line in range(matrix.shape[1]):
        reached = {int(cores[target]) for target in np.flatnonzero(matrix[:, line])}
        x, y = divmod(int(origin[line]) // 4, 4)
        ways = [(abs(x - core // 4 // 4), abs(y - core // 4 % 4)) for core in reached]
        fans.append([len(reached), sum(east for east, _ in ways), sum(north for _, north in ways)])
    return fans


def only(fans):
    (fan,) = fans
    return fan.tolist()


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("stride", "padding", "dilation"), [((1, 1), (1, 1), (1, 1)), ((2, 1), (0, 2), (1, 2))])
def test_a_kernel_sends_what_its_synapses_one_by_one_send(groups, stride, padding, dilation):
    rng = np.random.default_rng(0)
    weights = 2 * rng.integers(-1, 2, (4, 4 // groups, 3, 2))
    kernel = Kernel(weights, (4, 6, 5), stride, padding, dilation, groups)
    targets, sources = kernel.shape
    origin, cores = rng.integers(0, 128, sources), rng.integers(0, 128, targets)
    expected = brute_force(kernel.matrix().toarray(), origin, cores)
    assert np.sum(expected) > 0
    assert only(message_fans([kernel], "a", "b", CoreMap({"a": origin, "b": cores}))) == expected
    # Lines on no core: their messages are counted, their ways are not known.
    unplaced = only(message_fans([kernel], "a", "b", CoreMap({"b": cores})))
    assert unplaced == [[messages, 0, 0] for messages, _, _ in expected]


def test_stored_zeros_of_a_matrix_are_sent_to_as_well():
    stored = sp.csr_matrix((np.array([0, 2]), ([0, 1], [0, 0])), shape=(2, 1))
    assert only(message_fans([stored], "a", "b", CoreMap({"b": np.array([3, 70])}))) == [[2, 0, 0]]


@pytest.mark.parametrize(
    ("cores", "words"),
    [
        ([0, 128], "contain 128; the mesh has cores 0 to 127"),
        ([-1, 0], "contain -1"),
        ([0], r"expected \(2,\)"),
    ],
)
def test_cores_that_the_chip_does_not_have_are_refused(cores, words):
    with pytest.raises(BadInput, match=words):
        message_fans([sp.csr_matrix(np.ones((2, 1)))], "a", "b", CoreMap({"b": np.array(cores)}))


def test_a_file_that_is_no_placement_is_refused(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(BadInput, match=r"np\.savez"):
        read_placement(tmp_path / "one.npy")
    np.savez(tmp_path / "words.npz", lif1=np.array(["a"]))
    with pytest.raises(BadInput, match="not a readable"):
        read_placement(tmp_path / "words.npz")


def test_a_mesh_of_another_geometry_has_other_ways():
    """Six cores in three columns of one tile of two cores: core 5 is two columns away from core 0."""
    mesh = CoreMap({"a": np.array([0, 5]), "b": np.array([5, 4])}, cores_per_tile=2, tiles_per_column=1, columns=3)
    assert mesh.size == 6
    assert mesh.mesh == "a mesh of 3 columns of 1 tiles of 2 cores, numbered column by column, as of Loihi"
    fans = only(message_fans([sp.csr_matrix(np.array([[2, 2], [2, 0]]))], "a", "b", mesh))
    assert fans == [[2, 4, 0], [1, 0, 0]]
    with pytest.raises(BadInput) as caught:
        message_fans([sp.csr_matrix(np.ones((2, 1)))], "a", "c", mesh)
    assert str(caught.value) == "placement: group 'c' has no cores; give an array of 2 core numbers"
    with pytest.raises(BadInput) as caught:
        CoreMap({"a": np.array([1, 6, 7])}, 2, 1, 3).cores("a", 3)
    said = "placement: cores of 'a' contain 6; the mesh has cores 0 to 5; hops between chips are unknown"
    assert str(caught.value) == said


def test_the_placement_of_the_compiler_is_that_of_its_chip():
    zeros = np.zeros(300, dtype=np.int64)
    matrix = sp.csr_matrix(np.full((300, 4000), 2))
    groups = (Group("a", zeros, zeros, zeros + 1, zeros, zeros, 1.0),)
    used = {}
    for name in ("loihi", "loihi2"):
        program = Program(name, 4000, 5, 1e-3, (Connection("input", "a", matrix, 0, 0),), groups)
        found = compiled_placement(program)
        assert list(found.core_of) == ["a"]
        assert found.core_of["a"].tolist() == place(program, load_target(name)).core_of_neuron["a"].tolist()
        used[name] = len(np.unique(found.core_of["a"]))
    assert used["loihi"] > used["loihi2"]
