"""Products of an activation and weights: which torch functions are one, and which connections they have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from esl_neuro.errors import BadInput
from esl_neuro.interchange.origins import Origin, tensors_in

LAYERS = ("linear", "conv1d", "conv2d")
MATRIX = ("matmul", "mm", "mv", "inner", "sparse_mm", "addmm", "addmv")
EACH = "mul"
COUNTABLE = "linear, conv1d, conv2d, matmul, mm, mv, inner, sparse.mm, addmm, and spikes times one weight a line"
# Functions that multiply by weights in a way that is not followed.
REFUSED = frozenset(
    (
        *("bmm", "baddbmm", "addbmm", "einsum", "tensordot", "dot", "vdot", "linalg_vecdot", "outer", "ger", "kron"),
        *("chain_matmul", "multi_dot", "linalg_multi_dot", "sspaddmm", "smm", "hspmm", "sparse_addmm", "cdist"),
        *("bilinear", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "conv_tbc"),
        *("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
        *("embedding", "embedding_bag"),
    )
)
ATTENTION = frozenset(
    ("scaled_dot_product_attention", "multi_head_attention_forward", "native_multi_head_attention", "cosine_similarity")
)
# Functions of neurons and of normalisation, which may combine activations with parameters and are no connections.
ARITHMETIC = frozenset(
    (
        *("add", "sub", "subtract", "rsub", "mul", "multiply", "div", "divide", "true_divide", "truediv", "rdiv"),
        *("floordiv", "floor_divide", "pow", "float_power", "maximum", "minimum", "max", "min", "fmax", "fmin"),
        *("clamp", "clip", "clamp_min", "clamp_max", "where", "lerp", "remainder", "mod", "fmod", "copysign", "hypot"),
        *("gt", "ge", "lt", "le", "eq", "ne", "greater", "greater_equal", "less", "less_equal", "heaviside", "isclose"),
        *("addcmul", "addcdiv", "logical_and", "logical_or", "logical_xor", "and", "or", "xor", "atan2", "logaddexp"),
        *("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "prelu", "normalize"),
        *("stack", "cat", "concat", "concatenate", "hstack", "vstack", "setitem", "getitem", "copy", "set", "pad"),
        *("expand_as", "view_as", "reshape_as", "type_as", "to", "masked_fill", "broadcast_tensors", "get", "equal"),
        *(
            "dropout",
            "size",
            "dim",
            "allclose",
            "zeros_like",
            "ones_like",
            "empty_like",
            "rand_like",
            "randn_like",
            "full_like",
            "rrelu",
        ),
    )
)
THRESHOLDS = frozenset(
    ("sub", "subtract", "rsub", "gt", "ge", "lt", "le", "greater", "greater_equal", "less", "less_equal", "heaviside")
)


class Uncountable(Exception):
    """A function whose operations cannot be counted; the message is the reason."""


@dataclass
class Product:
    """An activation times weights.

    Attributes
    ----------
    operation : str
        One of ``LAYERS``, or ``"mul"`` for one weight a line.
    signal, weight : Tensor
        Activations (..., inputs) or images, and weights: (outputs, inputs), those of a convolution, or any shape that
        broadcasts with the signal.
    bias : Tensor or None
        Biases of the outputs.
    options : dict
        Geometry of a convolution.
    columns : bool
        Whether the samples are the columns of the output.
    """

    operation: str
    signal: Tensor
    weight: Tensor
    bias: Tensor | None = None
    options: dict[str, Any] = field(default_factory=dict)
    columns: bool = False

    def reached(self, output: Tensor) -> Tensor:
        """Return which outputs an event reaches through a non-zero weight, of the shape of the output."""
        events, pattern = (self.signal != 0).to(torch.float64), (self.weight != 0).to(torch.float64)
        if self.operation == "linear":
            sums = events @ pattern.T
            sums = sums.transpose(-1, -2) if self.columns else sums
        elif self.operation == EACH:
            sums = events * pattern
        else:
            sums = getattr(nn.functional, self.operation)(events, pattern, None, **self.options)
        return (sums > 0).reshape(output.shape)

    def biased(self, output: Tensor) -> Tensor:
        """Return which outputs have a bias, of the shape of the output."""
        if self.bias is None:
            return torch.zeros((), dtype=torch.bool).expand(output.shape)
        bias = self.bias.detach() != 0
        if self.operation in ("conv1d", "conv2d"):
            bias = bias.reshape(-1, *[1] * (self.weight.ndim - 2))
        return bias.expand(output.shape)


def read_product(
    name: str, args: tuple[Any, ...], options: Mapping[str, Any], origin_of: Callable[[Tensor], Origin]
) -> Product | None:
    """Return the product that a torch function computes; None if it multiplies no activation by weights.

    Raises
    ------
    Uncountable
        If it multiplies by weights in a way that cannot be counted.
    """
    if name in LAYERS:
        return _layer(name, args, options, origin_of)
    given = list(tensors_in((args, dict(options))))
    signals = [tensor for tensor in given if origin_of(tensor).signal]
    if name in ATTENTION and signals:
        raise Uncountable(_two_activations(name))
    if name in MATRIX:
        return _matrix(name, args, options, origin_of)
    if name in REFUSED:
        if len(signals) > 1 and not any(origin_of(tensor).parameters for tensor in given):
            raise Uncountable(_two_activations(name))
        if signals:
            raise Uncountable(f"'{name}' cannot be counted; countable: {COUNTABLE}")
        return None
    if name in ("mul", "multiply", "addcmul"):
        operands = args[1:3] if name == "addcmul" else args[:2]
        return _each(name, operands, origin_of)
    return None


def _two_activations(name: str) -> str:
    return (
        f"'{name}' multiplies activations by activations, as attention does; only activations times stored weights are "
        "synaptic operations, so it cannot be counted"
    )


def _layer(
    name: str, args: tuple[Any, ...], options: Mapping[str, Any], origin_of: Callable[[Tensor], Origin]
) -> Product:
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    given = dict(zip(names, args, strict=False)) | dict(options)
    signal, weight = given["input"], given["weight"]
    if origin_of(weight).signal:
        raise Uncountable(_two_activations(name))
    geometry = {key: given[key] for key in names[3:] if key in given}
    if name != "linear" and isinstance(geometry.get("padding"), str):
        raise Uncountable(f"convolutions with padding '{geometry['padding']}' cannot be counted; give a number")
    if name != "linear" and signal.ndim == weight.ndim - 1:
        signal = signal[None]
    return Product(name, signal, weight, given.get("bias"), geometry)


def _matrix(
    name: str, args: tuple[Any, ...], options: Mapping[str, Any], origin_of: Callable[[Tensor], Origin]
) -> Product | None:
    """Write a matrix product as a linear layer."""
    given = [value for value in (*args, *options.values()) if isinstance(value, Tensor)]
    bias = given.pop(0) if name in ("addmm", "addmv") else None
    if len(given) < 2:
        return None
    first, second = given[:2]
    if not (origin_of(first).signal or origin_of(second).signal):
        return None
    if origin_of(first).signal and origin_of(second).signal:
        raise Uncountable(_two_activations(name))
    if options.get("alpha", 1) == 0:
        return None
    bias = None if bias is None or origin_of(bias).signal else bias
    behind = origin_of(first).signal
    signal, weight = (first, second) if behind else (second, first)
    weight = weight.to_dense() if weight.layout != torch.strided else weight
    if weight.ndim > 2:
        raise Uncountable(
            f"'{name}' with weights of shape {tuple(weight.shape)} cannot be counted; countable: {COUNTABLE}"
        )
    turned = weight.T if behind and name != "inner" and weight.ndim == 2 else weight
    matrix = turned if weight.ndim == 2 else weight[None]
    columns = not behind and weight.ndim > 1
    if columns and name != "inner" and signal.ndim > 1:
        signal = signal.transpose(-1, -2)
    elif signal.ndim == 1:
        signal = signal[None]
    elif weight.ndim == 1 and not behind and name != "inner":
        signal = signal.transpose(-1, -2)
    if columns and bias is not None:
        bias = bias.reshape(-1)[: matrix.shape[0]] if bias.ndim < 2 or bias.shape[-1] == 1 else None
    return Product("linear", signal, matrix, bias, columns=columns)


def _each(name: str, operands: tuple[Any, ...], origin_of: Callable[[Tensor], Origin]) -> Product | None:
    """Return spikes times one weight a line; other elementwise products are arithmetic of neurons."""
    first, second = operands
    if not (isinstance(first, Tensor) and isinstance(second, Tensor)):
        return None
    origins = origin_of(first), origin_of(second)
    if origins[0].signal and origins[1].signal:
        if all(origin.spikes for origin in origins) and not origins[0].sources & origins[1].sources:
            raise Uncountable(_two_activations(name))
        return None
    if not (origins[0].signal or origins[1].signal):
        return None
    signal, weight = (first, second) if origins[0].signal else (second, first)
    if not origin_of(weight).parameters:
        return None
    if signal.numel() > 1 and np.broadcast_shapes(signal.shape, weight.shape) != tuple(signal.shape):
        raise Uncountable(
            f"'{name}' spreads an activation over weights, which cannot be counted; countable: {COUNTABLE}"
        )
    return Product(EACH, signal, weight) if origin_of(signal).spikes else None


# Connections.


@dataclass(frozen=True)
class Connections:
    """Connections of a layer.

    Attributes
    ----------
    fan_out, fan_out_dense : int64 Tensor, shape (inputs,)
        Connections of each input line with a non-zero weight, and all of them. Of one weight a line, of all samples.
    weights : int
        Non-zero weights; those of a convolution count once.
    """

    fan_out: Tensor
    fan_out_dense: Tensor
    weights: int


def connections(product: Product, output: Tensor) -> Connections:
    """Return the connections of one sample, whose output has this shape."""
    weight = product.weight
    pattern = (weight != 0).to(torch.float64)
    stored = int(torch.count_nonzero(weight))
    if product.operation == "linear":
        dense = torch.full((weight.shape[1],), weight.shape[0], dtype=torch.float64)
        return Connections(pattern.sum(0).long(), dense.long(), stored)
    if product.operation == EACH:
        flat = pattern.expand(product.signal.shape).flatten().long()
        return Connections(flat, torch.ones_like(flat), stored)
    return Connections(_fan_out(product, output, pattern), _fan_out(product, output, torch.ones_like(pattern)), stored)


def _fan_out(product: Product, output: Tensor, kernel: Tensor) -> Tensor:
    """Count the fan-out of every position of an image; positions at the border have fewer targets."""
    spatial = product.weight.ndim - 2
    transpose: Any = nn.functional.conv_transpose1d if spatial == 1 else nn.functional.conv_transpose2d
    wide = _wide(product.options, spatial)
    ones = torch.ones(1, len(kernel), *output.shape[-spatial:], dtype=torch.float64)
    full: Tensor = transpose(
        ones, kernel, stride=wide["stride"], dilation=wide["dilation"], groups=product.options.get("groups", 1)
    )
    for axis, (size, padding) in enumerate(
        zip(product.signal.shape[-spatial:], wide["padding"], strict=True), -spatial
    ):
        # No padding on the left; on the right, positions that no kernel reaches get a fan-out of zero.
        missing = max(0, padding + size - full.shape[axis])
        full = nn.functional.pad(full, [0] * (2 * (-axis - 1)) + [0, missing]).narrow(axis, padding, size)
    return full.flatten().long()


def _wide(options: Mapping[str, Any], spatial: int) -> dict[str, tuple[int, ...]]:
    """Return stride, padding and dilation with one number per direction."""
    given = {
        "stride": options.get("stride", 1),
        "padding": options.get("padding", 0),
        "dilation": options.get("dilation", 1),
    }
    return {
        key: (value,) * spatial if isinstance(value, int) else tuple(value) * (spatial // len(tuple(value)))
        for key, value in given.items()
    }


# Order of the rows.


def in_order(name: str, calls: list[Tensor], steps: int, batch: int) -> tuple[np.ndarray[Any, Any], bool]:
    """Arrange the values of all calls of a layer by sample and step.

    A layer is called once with all steps, once for a constant input, or once for each step; a loop may leave out the
    first step, in which no neuron has spiked yet. Other axes, such as those of tokens, belong to a sample.

    Parameters
    ----------
    name : str
        The layer, for messages.
    calls : list of Tensor
        Values of each call, shape (steps, batch, ...), (batch, steps, ...), (steps * batch, ...) or (batch, ...).

    Returns
    -------
    array, shape (samples, steps, values)
        The values; those of a constant input are in the first step.
    bool
        Whether it was called once for a constant input.

    Raises
    ------
    BadInput
        If the calls do not add up to steps and batch.
    """
    shapes = [tuple(values.shape) for values in calls]
    first = calls[0]
    if len(calls) == 1:
        if shapes[0][:2] == (steps, batch) or shapes[0][0] == steps * batch:
            return _samples_first(first.reshape(steps, batch, -1)), False
        if shapes[0][:2] == (batch, steps):
            return _numpy(first.reshape(batch, steps, -1)), False
        if first.ndim == 2 and shapes[0][0] % (steps * batch) == 0:
            return _samples_first(first.reshape(steps, batch, -1)), False
        if shapes[0][0] == batch or shapes[0][:2] == (1, batch):
            once = first.reshape(batch, 1, -1)
            later = once.new_zeros(batch, steps - 1, once.shape[2])
            return _numpy(torch.cat([once, later], 1)), True
        raise BadInput(_wrong_rows(name, calls, steps, batch))
    rows = [_one_step(values, steps, batch) for values in calls]
    if len(calls) in (steps, steps - 1) and all(row is not None for row in rows):
        looped = torch.stack([row for row in rows if row is not None], 1)
        return _numpy(nn.functional.pad(looped, (0, 0, steps - len(calls), 0))), False
    if all(shape[1:2] == (batch,) for shape in shapes) and sum(shape[0] for shape in shapes) == steps:
        return _samples_first(torch.cat([values.flatten(2) for values in calls])), False
    if sum(shape[0] for shape in shapes) == steps * batch and all(shape[0] % batch == 0 for shape in shapes):
        return _samples_first(torch.cat([values.flatten(1) for values in calls]).reshape(steps, batch, -1)), False
    raise BadInput(_wrong_rows(name, calls, steps, batch))


def _one_step(values: Tensor, steps: int, batch: int) -> Tensor | None:
    """Return the values of one step, shape (batch, ...); None if it is not one step."""
    if values.shape[:2] == (steps, batch) and steps > 1:
        return None
    if values.shape[:2] == (1, batch):
        values = values[0]
    if values.shape[0] == batch:
        return values.reshape(batch, -1)
    if values.shape[0] == 1 and not values.any():
        return values.reshape(1, -1).expand(batch, -1)  # a state before the first step, without an axis of samples
    if values.ndim == 2 and values.shape[0] % batch == 0 and values.shape[0] != steps * batch:
        return values.reshape(batch, -1)
    return None


def _wrong_rows(name: str, calls: list[Tensor], steps: int, batch: int) -> str:
    rows = sum(values.reshape(-1, values.shape[-1]).shape[0] for values in calls)
    return (
        f"layer '{name}' received {rows} rows in {len(calls)} call(s), the first of shape {tuple(calls[0].shape)}, "
        f"expected {steps} steps x {batch} samples; layers that are used twice in a step are not supported"
    )


def _samples_first(values: Tensor) -> np.ndarray[Any, Any]:
    return _numpy(values.swapaxes(0, 1))


def _numpy(tensor: Tensor) -> np.ndarray[Any, Any]:
    return np.asarray(tensor.detach().cpu().numpy())
