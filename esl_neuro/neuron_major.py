"""Signals whose memory has one row per neuron, which sparse layers and the neurons behind them share.

A signal of shape (steps, batch, neurons) usually has the neurons of a sample next to each other. Sparse kernels add
whole rows instead: all columns of one neuron, one for each step and sample, are next to each other. Such a signal is an
ordinary tensor with other strides, so every operation of torch accepts it, and no copy is needed between layers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from esl_neuro.signal_memory import empty

LANES = 16
"""Kernels process this many columns at a time, so rows have room for a multiple of it."""


def empty_signal(leading: tuple[int, ...], neurons: int, dtype: torch.dtype) -> Tensor:
    """Return an uninitialised signal of shape (*leading, neurons) with one row per neuron.

    The length of a row is an odd multiple of 16, because rows a power of two apart compete for the same few lines of
    the caches.
    """
    columns = math.prod(leading)
    rows = empty(neurons, (-(-columns // LANES) | 1) * LANES, dtype)
    return rows[:, :columns].t().view(*leading, neurons)


def empty_image(leading: tuple[int, ...], shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return an uninitialised signal of shape (*leading, channels, height, width) with one row per neuron.

    Rows follow each other without gaps if there are a multiple of 16 columns, so that torch's own layers process such
    images as contiguous memory.
    """
    columns = math.prod(leading)
    rows = empty(math.prod(shape), -(-columns // LANES) * LANES, dtype)
    return rows[:, :columns].t().view(*leading, *shape)


def is_neuron_major(signal: Tensor) -> bool:
    """Return whether a signal of shape (steps, batch, ...) has one row per neuron."""
    if signal.dim() < 3 or signal.is_contiguous():
        return False
    (steps, batch, *sizes), (of_steps, of_batch, *strides) = signal.shape, signal.stride()
    expected = strides[-1]
    for size, stride in zip(sizes[:0:-1], strides[-2::-1], strict=True):
        expected *= size
        if stride != expected:
            return False
    return (batch == 1 or of_batch == 1) and (steps == 1 or of_steps == batch)


def empty_like_rows(signal: Tensor, steps: int) -> Tensor:
    """Return an uninitialised signal of so many steps, which has one row per neuron as another one has."""
    _, batch, *shape = signal.shape
    if len(shape) == 1:
        return empty_signal((steps, batch), shape[0], signal.dtype)
    return empty_image((steps, batch), tuple(shape), signal.dtype)


def columns_last(images: Tensor) -> Tensor:
    """Return images of shape (steps, batch, channels, height, width) as (channels, height, width, columns).

    It is contiguous, and no copy if the rows of the images follow each other.
    """
    return images.permute(2, 3, 4, 0, 1).flatten(3).contiguous()


def columns_first(rows: Tensor, leading: tuple[int, int]) -> Tensor:
    """Undo :func:`columns_last`, without a copy."""
    return rows.permute(3, 0, 1, 2).unflatten(0, leading)  # type: ignore[no-untyped-call,no-any-return]


def rows_of(signal: Tensor) -> NDArray[Any]:
    """Return the rows of a signal, shape (neurons, length); without a copy if it has one row per neuron.

    Column ``c`` is sample ``c`` of the signal flattened to (columns, neurons). A row is at least as long as the next
    multiple of 16 columns; what follows the last column has no meaning.
    """
    columns = signal.detach().reshape(-1, signal.shape[-1])
    count, neurons = columns.shape
    length = columns.stride(1)
    fits = columns.storage_offset() + neurons * length <= columns.untyped_storage().nbytes() // columns.element_size()
    if (count != 1 and columns.stride(0) != 1) or length < -(-count // LANES) * LANES or not fits:
        columns = empty_signal((count,), neurons, columns.dtype).copy_(columns)
        length = columns.stride(1)
    rows: NDArray[Any] = columns.as_strided((neurons, length), (length, 1)).numpy()
    return rows


def repeated(signal: Tensor, steps: int) -> Tensor:
    """Return a signal of shape (1, batch, ...) at each of so many steps, which share its memory."""
    result: Tensor = _Repeated.apply(signal, steps)  # type: ignore[no-untyped-call]
    return result


class _Repeated(torch.autograd.Function):
    """``expand`` whose backward pass adds the steps row by row, several times as fast as torch's sum."""

    @staticmethod
    def forward(ctx: Any, signal: Tensor, steps: int) -> Tensor:
        del ctx
        return signal.expand(steps, *signal.shape[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        del ctx
        (errors,) = grads
        total = empty_like_rows(errors, 1)
        torch.sum(errors.flatten(2).permute(2, 0, 1), 1, out=total.flatten(2)[0].t())
        return total, None
