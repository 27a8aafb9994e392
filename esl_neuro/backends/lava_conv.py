"""Arguments of Lava's ``Conv`` for a kernel, and the kernels that ``Conv`` computes correctly."""

from __future__ import annotations

from typing import Any

import numpy as np

from esl_neuro.backends.validate import largest_sum
from esl_neuro.nirgraph.kernel import Kernel

# Conv stores its sizes and its number of groups in 8 bits, and its sums in 24.
LARGEST_SIZE = 127
LARGEST_SUM = 2**23 - 1


def conv_computes(kernel: Kernel, weight_exp: int, largest_payload: int = 1, copies: int = 1) -> bool:
    """Return whether no register of ``Conv`` overflows, with ``copies`` of the image as groups of channels."""
    sides = (
        size + 2 * pad + dilation * taps
        for size, pad, dilation, taps in zip(
            kernel.input_shape[1:], kernel.padding, kernel.dilation, kernel.weights.shape[2:], strict=True
        )
    )
    largest = int(largest_sum(kernel).max(initial=0)) * largest_payload << max(weight_exp, 0)
    return max(*sides, *kernel.stride, kernel.groups * copies) <= LARGEST_SIZE and largest <= LARGEST_SUM


def conv_arguments(kernel: Kernel, weight_exp: int, copies: int = 1) -> dict[str, Any]:
    """Return the arguments of ``Conv``; its images are (column, row, channel), its kernel is rotated by 180 degrees.

    ``Conv`` ignores its weight exponent. A positive exponent is folded into the weights; the caller applies a negative
    one.
    """
    channels, rows, columns = kernel.input_shape
    turned = kernel.weights[:, :, ::-1, ::-1].transpose(0, 3, 2, 1).astype(np.int32) << max(weight_exp, 0)
    return {
        "weight": np.tile(turned, (copies, 1, 1, 1)),
        "input_shape": (columns, rows, copies * channels),
        "stride": kernel.stride[::-1],
        "padding": kernel.padding[::-1],
        "dilation": kernel.dilation[::-1],
        "groups": copies * kernel.groups,
    }
