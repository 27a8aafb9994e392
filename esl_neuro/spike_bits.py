"""Spikes as bits: 16 of them in a number, which is the mask of one vector instruction.

The bits of a signal have one row per neuron (:mod:`esl_neuro.neuron_major`). Neurons keep the bits of the spikes that
they return, so that the layers behind them need not look for them again.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esl_neuro.bits import count_bits, packed
from esl_neuro.compiled import compiled, part_of_compiled
from esl_neuro.neuron_major import LANES, is_neuron_major, rows_of

Bits = NDArray[np.uint16]
"""Spikes of 16 columns in each number, the first one lowest, shape (neurons, ceil(columns / 16))."""


def empty_bits(neurons: int, columns: int) -> Tensor:
    """Return uninitialised bits, aligned to the lines of the cache."""
    return torch.empty(neurons, -(-columns // LANES), dtype=torch.uint16)


def keep_bits(signal: Tensor, bits: Tensor) -> None:
    """Keep the bits of a signal beside it, until something changes it."""
    signal.spike_bits = _identity(signal), bits.numpy()  # type: ignore[attr-defined]


def kept_bits(signal: Tensor) -> Bits | None:
    """Return the bits that :func:`keep_bits` put beside a signal, None if it changed since or has none."""
    kept: tuple[tuple[int, int], Bits] | None = getattr(signal, "spike_bits", None)
    return kept[1] if kept is not None and kept[0] == _identity(signal) else None


def flattened(signal: Tensor) -> Tensor:
    """Return a signal of shape (steps, batch, ...) as (steps, batch, neurons), with its bits."""
    flat, bits = signal.flatten(2), kept_bits(signal)
    if bits is not None:
        keep_bits(flat, torch.from_numpy(bits))
    return flat


def bits_of(signal: Tensor) -> Bits | None:
    """Return the bits of a signal of shape (..., neurons), None if it has other values than 0 and 1."""
    kept = kept_bits(signal)
    if kept is not None:
        return kept
    neurons, columns = signal.shape[-1], signal.shape[:-1].numel()
    bits: Bits = empty_bits(neurons, columns).numpy()
    if is_neuron_major(signal):
        binary = _rows_as_bits(rows_of(signal), bits, columns)
    else:
        binary = _as_bits(signal.detach().reshape(-1, neurons).numpy(), bits)
    return bits if binary else None


def _identity(signal: Tensor) -> tuple[int, int]:
    """Return what changes with the values of a signal: torch counts changes, and a copy has other memory."""
    return signal._version, signal.data_ptr()


def numbers_of(bits: Bits, columns: int) -> NDArray[np.uint8]:
    """Return the spikes as zeros and ones, shape (neurons, columns)."""
    return np.unpackbits(bits.view(np.uint8), axis=1, count=columns, bitorder="little")


@compiled
def count_ones(bits: Bits) -> int:
    """Return the number of spikes."""
    total = np.int64(0)
    for line in numba.prange(len(bits)):
        for place in range(bits.shape[1]):
            total += np.int64(count_bits(bits[line, place]))
    return int(total)


@part_of_compiled
def pack_row(signal: NDArray[Any], line: int, columns: int, bits: Bits) -> bool:
    """Write the bits of a row; return whether all of its values are 0 or 1. Bits after the last column are zero."""
    others = np.uint32(0)
    for place in range((columns + LANES - 1) // LANES):
        there = np.uint32(0xFFFF) if (place + 1) * LANES <= columns else np.uint32((1 << columns % LANES) - 1)
        both = packed(signal, line, place * LANES)
        bits[line, place] = both & there
        others |= (both >> np.uint32(LANES)) & there
    return bool(others == 0)


@compiled
def _rows_as_bits(signal: NDArray[Any], bits: Bits, columns: int) -> bool:
    """Write the bits of a signal that has one row per line; return False if a value is neither 0 nor 1."""
    others = 0
    for line in numba.prange(len(signal)):
        others += not pack_row(signal, line, columns, bits)
    return others == 0


@compiled
def _as_bits(signal: NDArray[Any], bits: Bits) -> bool:
    """Do the same for a signal of shape (columns, lines)."""
    columns, lines = signal.shape
    one, zero, wide = signal.dtype.type(1), signal.dtype.type(0), 64
    others = np.int64(0)
    for task in numba.prange((lines + wide - 1) // wide):
        first, last = task * wide, min((task + 1) * wide, lines)
        word, other = np.empty(wide, np.int32), np.zeros(wide, np.int32)
        for place in range(bits.shape[1]):
            word[:] = 0
            for bit in range(min(LANES, columns - place * LANES)):
                row = signal[place * LANES + bit, first:last]
                for k in range(last - first):
                    fired, silent = np.int32(row[k] == one), np.int32(row[k] == zero)
                    word[k] |= fired << bit
                    other[k] |= 1 - fired - silent
            for k in range(last - first):
                bits[first + k, place] = word[k]
        others += other.any()
    return bool(others == 0)
