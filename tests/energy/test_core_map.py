"""Messages and hops of a placement, against sets of cores."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from esl_neuro.energy.core_map import CoreMap, message_fans, read_placement
from esl_neuro.errors import BadInput
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
    assert message_fans(kernel, "a", "b", CoreMap({"a": origin, "b": cores})).tolist() == expected
    # Lines on no core: their messages are counted, their ways are not known.
    unplaced = message_fans(kernel, "a", "b", CoreMap({"b": cores}))
    assert unplaced.tolist() == [[messages, 0, 0] for messages, _, _ in expected]


def test_stored_zeros_of_a_matrix_are_sent_to_as_well():
    stored = sp.csr_matrix((np.array([0, 2]), ([0, 1], [0, 0])), shape=(2, 1))
    assert message_fans(stored, "a", "b", CoreMap({"b": np.array([3, 70])})).tolist() == [[2, 0, 0]]


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
        message_fans(sp.csr_matrix(np.ones((2, 1))), "a", "b", CoreMap({"b": np.array(cores)}))


def test_a_file_that_is_no_placement_is_refused(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(BadInput, match=r"np\.savez"):
        read_placement(tmp_path / "one.npy")
    np.savez(tmp_path / "words.npz", lif1=np.array(["a"]))
    with pytest.raises(BadInput, match="not a readable"):
        read_placement(tmp_path / "words.npz")
