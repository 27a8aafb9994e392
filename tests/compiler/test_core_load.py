"""What axons take of a core: by hand, and at the edges of an image synapse by synapse."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.compiler.core_load import memory_bits, wires
from esl_neuro.compiler.program import Connection
from esl_neuro.compiler.tiling import Tiling
from esl_neuro.nirgraph.kernel import Kernel

UNLIMITED = {"synapses": None, "synaptic_memory": None, "input_axons": None}


@pytest.mark.parametrize(
    ("axons", "neurons", "delay_bits", "bits"),
    [
        ([0], 10, 0, 0),
        ([0, 1], 1, 0, 64),
        ([0, 0, 0, 1], 8, 0, 64),  # 3 * (8 + 6) + 10 = 52
        ([0, 0, 0, 0, 1], 8, 0, 128),  # 4 * (8 + 6) + 10 = 66; dense: 8 * 8 + 10 = 74, two words as well
        ([0] * 6 + [1], 6, 0, 64),  # dense: 6 * 8 + 10 = 58
        ([0] * 64 + [1], 64, 0, 576),  # dense: 64 * 8 + 10 = 522
        ([0] * 65 + [1], 1000, 0, 1216 + 64),  # 64 * (8 + 10) + 10 = 1162, and one more: 28
        ([0, 2], 100, 6, 128),  # 8 + 6 + 7 + 10 = 31 each
    ],
)
def test_memory_by_hand(axons, neurons, delay_bits, bits):
    assert memory_bits(np.array(axons), neurons, delay_bits) == bits


def test_memory_of_weights_of_few_bits_by_hand():
    axons = np.array([0, 0, 0, 0, 0, 0, 0, 0, 1])
    assert memory_bits(axons, 100, weight_bits=8) == 192  # 8 * (8 + 7) + 10 = 130
    assert memory_bits(axons, 100, weight_bits=4) == 128  # 8 * (4 + 7) + 10 = 98
    assert memory_bits(axons, 8, weight_bits=2) == 64  # dense: 8 * 2 + 10 = 26


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_kernel_and_its_matrix_take_the_same(data):
    """Strides, dilations, groups, and patches that see nothing but padding."""
    draw = data.draw
    groups, stride, dilation = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    taps = 2 * rng.integers(-1, 2, (2 * draw(st.integers(1, 2)), 4 // groups, 3, 2)).astype(np.int32)
    padding = draw(st.integers(0, 6)), draw(st.integers(0, 6))
    kernel = Kernel(taps, (4, 5, 6), (stride, 1), padding, (1, dilation), groups)
    channels, rows, columns = kernel.output_shape
    sizes = (rows, columns, channels)
    tiling = Tiling.even((channels, rows, columns), tuple(draw(st.integers(1, size)) for size in sizes))
    bits = draw(st.sampled_from([None, 2, 6]))
    connections = [Connection("a", "b", each, 0, 0, weight_bits=bits) for each in (kernel, kernel.matrix())]
    as_kernel, as_matrix = wires(connections, (channels, rows, columns), {id(each): 3 for each in connections})
    loads = [each.load(tiling, UNLIMITED) for each in (as_kernel, as_matrix)]
    assert np.array_equal(loads[0].reached, loads[1].reached)
    for name in UNLIMITED:
        assert np.array_equal(loads[0].used[name], loads[1].used[name])
        most = int(loads[0].used[name].max())
        for each in (as_kernel, as_matrix):
            assert each.load(tiling, {name: most}) is not None
            assert most == 0 or each.load(tiling, {name: most - 1}) is None
    assert np.array_equal(kernel.fan_in(), np.diff(kernel.matrix().indptr))


def test_synapses_of_several_delays_share_an_axon_and_need_the_sparse_format():
    first, second = sp.csr_matrix([[2, 0], [4, 0], [2, 2]]), sp.csr_matrix([[6, 0], [0, 0], [0, 2]])
    delays = [Connection("a", "b", first, 0, 0), Connection("a", "b", second, 0, 0, 5)]
    (both,) = wires(delays, (3, 1, 1), {id(delays[0]): 0, id(delays[1]): 5})
    load = both.load(Tiling.even((3, 1, 1), (1, 1, 1)), UNLIMITED)
    # source 0: four synapses of 8 + 3 + 6 bits and a header, source 1: two; as a matrix of pairs they would fit in less
    assert {name: values.ravel().tolist() for name, values in load.used.items()} == {
        "synapses": [6],
        "synaptic_memory": [128 + 64],
        "input_axons": [2],
    }
    assert load.reached.tolist() == [1, 1]
    assert memory_bits(np.array([0, 0, 1, 0, 1]), 3, 3) == 128
