"""Memory of large signals is used again only when nothing reads it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from esl_neuro import signal_memory
from esl_neuro.neuron_major import empty_signal
from esl_neuro.signal_memory import IDLE_REQUESTS, Blocks, keep_blocks

SIZE = 1000


@pytest.fixture
def blocks_kept(monkeypatch):
    monkeypatch.setattr(signal_memory, "_BLOCKS", Blocks())
    keep_blocks()


def address(view):
    return view.ctypes.data


def test_a_block_is_used_again_when_all_that_share_it_are_gone():
    blocks = Blocks()
    first = blocks.take(SIZE)
    tensor, place = torch.from_numpy(first).view(torch.float32).view(10, 25)[3:], address(first)
    del first
    assert address(blocks.take(SIZE)) != place  # the tensor still reads it
    del tensor
    again = blocks.take(SIZE)
    assert address(again) == place


def test_signals_that_live_together_share_nothing():
    blocks = Blocks()
    views = [blocks.take(SIZE) for _ in range(5)]
    for number, view in enumerate(views):
        view[:] = number
    assert [set(view.tolist()) for view in views] == [{number} for number in range(5)]


def test_a_block_of_another_size_is_not_used():
    blocks = Blocks()
    blocks.take(SIZE)
    assert len(blocks.take(SIZE - 4)) == SIZE - 4
    assert len(blocks.take(SIZE)) == SIZE


def test_blocks_that_were_not_used_for_long_are_given_back():
    blocks = Blocks()
    blocks.take(SIZE)
    for _ in range(IDLE_REQUESTS):
        blocks.take(2 * SIZE)
    assert set(blocks.idle) == {SIZE, 2 * SIZE}
    blocks.take(3 * SIZE)
    assert set(blocks.idle) == {2 * SIZE, 3 * SIZE}


@pytest.mark.usefixtures("blocks_kept")
def test_a_large_signal_keeps_its_values_while_any_part_of_it_is_read():
    signal = empty_signal((2, 8), 2**17, torch.float32)
    signal.copy_(torch.arange(16).view(2, 8, 1).expand_as(signal))
    last = signal[1]
    del signal
    for _ in range(3):
        empty_signal((2, 8), 2**17, torch.float32).zero_()
    assert (last == torch.arange(8, 16).view(8, 1)).all()


@pytest.mark.usefixtures("blocks_kept")
def test_large_signals_use_the_memory_of_earlier_ones():
    place = empty_signal((2, 8), 2**17, torch.float32).data_ptr()
    assert empty_signal((2, 8), 2**17, torch.float32).data_ptr() == place


def test_a_process_that_gives_memory_back_keeps_no_blocks(monkeypatch):
    monkeypatch.setattr(signal_memory, "_BLOCKS", Blocks())
    empty_signal((2, 8), 2**17, torch.float32)
    assert not signal_memory._BLOCKS.idle


@pytest.mark.usefixtures("blocks_kept")
def test_a_large_signal_takes_part_in_gradients():
    signal = empty_signal((2, 8), 2**17, torch.float32).fill_(2).requires_grad_()
    (signal.square().sum() / 4).backward()
    assert np.unique(signal.grad.numpy()).tolist() == [1.0]
