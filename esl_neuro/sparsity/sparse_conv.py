"""A convolution that stores its connections only: no dense kernel, and no image with a column for each position."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_weight

from esl_neuro.errors import BadInput
from esl_neuro.neuron_major import LANES, empty_image, repeated, rows_of
from esl_neuro.random_streams import stream
from esl_neuro.sparsity import conv_kernels as kernels
from esl_neuro.sparsity import sparse_kernels
from esl_neuro.sparsity.conv_kernels import Geometry, Pair
from esl_neuro.sparsity.sparse_weights import ConnectionIndex, SignalErrors, SparseWeights, refuse_arguments
from esl_neuro.sparsity.topology import Topology
from esl_neuro.spike_bits import kept_bits
from esl_neuro.torch_threads import use_torch_threads


class SparseConv2d(SparseWeights):
    """Convolution whose weights, gradients and moments exist for its connections only.

    A connection is a weight of the kernel: output channel, input channel, row and column. Use it in place of
    ``nn.Conv2d`` in any loop, with any optimiser. Its result is the convolution with the kernel :meth:`to_dense`; in
    memory it has one row per neuron (:mod:`esl_neuro.neuron_major`), which pooling, batch norm and neurons of this
    package keep. Only the CPU is supported, without groups and dilation.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of input and output.
    kernel_size, stride, padding : int or tuple of int
        Of rows and columns, as in ``nn.Conv2d``. Padding is with zeros.
    bias : bool
        Whether there is a bias.
    density : float, optional
        Share of the possible connections, drawn at random, exactly ``round(density * weights of the dense kernel)``.
        Without it there is no connection yet.
    seed : int
        Seed of the connections and the weights, which are uniform in ``+-1 / sqrt(inputs of a neuron * density)``, as
        those of a masked layer.
    dtype : torch.dtype
        float32 or float64.

    Attributes
    ----------
    in_features, out_features : int
        Sizes of the matrix of connections: weights of an output channel in the dense kernel, and output channels. The
        other attributes are those of :class:`~esl_neuro.sparsity.sparse_weights.SparseWeights`.

    Raises
    ------
    BadInput
        If a size, a density or a type is not allowed.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        bias: bool = True,
        *,
        density: float | None = None,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        kernel, steps, border = map(_pair, (kernel_size, stride, padding))
        _refuse_sizes(in_channels, kernel, steps, border)
        inputs = in_channels * math.prod(kernel)
        refuse_arguments("SparseConv2d", inputs, out_channels, density, None, dtype)
        super().__init__(inputs, out_channels, bias, density, None, stream(seed, "sparse convolution"), dtype)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.padding = kernel, steps, border

    @classmethod
    def from_dense(cls, layer: nn.Conv2d, mask: Tensor | None = None) -> SparseConv2d:
        """Return a layer with the weights of a dense convolution.

        Parameters
        ----------
        layer : nn.Conv2d
            The convolution.
        mask : bool Tensor, optional
            Where the connections are; by default, where the weight is not zero.

        Raises
        ------
        BadInput
            If it has groups, dilation, or padding that is not a number of zeros; with all findings.
        """
        unsupported = (
            ("groups", layer.groups, 1),
            ("dilation", tuple(layer.dilation), (1, 1)),
            ("padding_mode", layer.padding_mode, "zeros"),
        )
        findings = [f"{name} is {value!r}; allowed: {only!r}" for name, value, only in unsupported if value != only]
        if isinstance(layer.padding, str):
            findings.append(f"padding is '{layer.padding}'; give it as numbers")
        if findings:
            raise BadInput(f"SparseConv2d: {'; '.join(findings)}; use a masked nn.Conv2d")
        weight = layer.weight.detach()
        sizes = layer.in_channels, layer.out_channels, _pair(layer.kernel_size), _pair(layer.stride)
        made = cls(*sizes, _pair(layer.padding), layer.bias is not None, dtype=weight.dtype)  # type: ignore[arg-type]
        positions = np.flatnonzero(((weight != 0) if mask is None else mask).numpy())
        made.connect(positions, weight.numpy().ravel()[positions])
        if made.bias is not None and layer.bias is not None:
            made.bias.data.copy_(layer.bias.detach())
        return made

    def draw_topology(self, topology: Topology, rng: np.random.Generator) -> None:
        """Replace all connections by as many random ones for each output channel, with new weights.

        Raises
        ------
        BadInput
            If the topology has a window: input lines of a kernel are no places of a sheet.
        """
        if topology.window is not None:
            raise BadInput(
                f"sparsity.window: {topology.window} lines around a neuron do not exist in the kernel of a convolution "
                "(SparseConv2d); omit window and long_range, or name linear layers in sparsity.layers"
            )
        super().draw_topology(topology, rng)

    def fan_out(self) -> NDArray[np.int64]:
        """Return the connections that leave each input channel."""
        return np.bincount(self.index.lines // math.prod(self.kernel_size), minlength=self.in_channels)

    def to_dense(self) -> Tensor:
        """Return the kernel of shape (output channels, input channels, height, width)."""
        return super().to_dense().view(self.out_channels, self.in_channels, *self.kernel_size)

    def size_of(self, height: int, width: int) -> Pair:
        """Return height and width of the result for an image."""
        sizes = zip((height, width), self.kernel_size, self.stride, self.padding, strict=True)
        rows, columns = ((side + 2 * pad - k) // step + 1 for side, k, step, pad in sizes)
        return rows, columns

    def forward(self, signal: Tensor) -> Tensor:
        """Return the convolution, shape (..., channels, height, width), of a signal of such a shape.

        A signal of 5 or more axes that is constant over the first, recognised by steps that share memory, is processed
        once.
        """
        if signal.dim() < 4 or signal.shape[-3] != self.in_channels:
            raise BadInput(
                f"SparseConv2d: the signal has the shape {tuple(signal.shape)}; expected (..., {self.in_channels}, "
                "height, width)"
            )
        if min(self.size_of(*signal.shape[-2:])) < 1:
            raise BadInput(
                f"SparseConv2d: an image of {signal.shape[-2]}x{signal.shape[-1]} is smaller than the kernel "
                f"{self.kernel_size} with padding {self.padding}"
            )
        if signal.device.type != "cpu" or self.values.device.type != "cpu":
            raise BadInput("SparseConv2d: only the CPU is supported; use a masked layer on other devices")
        if signal.dim() > 4 and len(signal) > 1 and signal.stride(0) == 0:
            once = self.forward(signal[:1])
            return repeated(once, len(signal)) if signal.dim() == 5 else once.expand(len(signal), *once.shape[1:])
        if signal.dtype != self.values.dtype:
            signal = signal.to(self.values.dtype)
        result: Tensor = _Convolution.apply(  # type: ignore[no-untyped-call]
            signal, self.values, self.bias, self.index, self
        )
        return result

    def extra_repr(self) -> str:
        """Return sizes and connections."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, bias={self.bias is not None}, connections={self.connections}, "
            f"density={self.connections / self.possible:.3g}"
        )


class ImageErrors(SignalErrors):
    """What a backward pass knows of a convolution.

    Attributes
    ----------
    layer : SparseConv2d
        The convolution.
    source : tuple of int
        Height and width of the image; x has one row for each input channel and position, ``errors`` one for each output
        channel and position.
    """

    def __init__(self, x: NDArray[Any], errors: NDArray[Any], columns: int, layer: SparseConv2d, source: Pair) -> None:
        super().__init__(x, errors, columns)
        self.layer, self.source = layer, source

    def gradients(self) -> Callable[[int, int], Tensor]:
        """Return a function that returns the gradients of all positions of some output channels."""
        layer, dtype = self.layer, torch.from_numpy(self.errors[:0]).dtype
        image = _samples(torch.from_numpy(self.signal()).to(dtype), self.source)
        errors = _samples(torch.from_numpy(self.errors[:, : self.columns]), layer.size_of(*self.source))

        def some(first: int, last: int) -> Tensor:
            shape = last - first, layer.in_channels, *layer.kernel_size
            part = errors[:, first:last]
            found: Tensor = conv2d_weight(image, shape, part, layer.stride, layer.padding)  # type: ignore[no-untyped-call]
            return found.view(last - first, -1)

        return some

    def gradient_at(self, index: ConnectionIndex) -> NDArray[Any]:
        """Return the gradients of connections, which need not be those of the layer."""
        layer = self.layer
        geometry = kernels.forward_geometry(self.source, layer.kernel_size, layer.stride, layer.padding)
        return _weight_gradient(index, geometry, self.x, self.errors, self.columns)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, signal: Tensor, values: Tensor, bias: Tensor | None, index: ConnectionIndex, layer: SparseConv2d
    ) -> Tensor:
        use_torch_threads()
        leading, source = tuple(signal.shape[:-3]), (signal.shape[-2], signal.shape[-1])
        geometry = kernels.forward_geometry(source, layer.kernel_size, layer.stride, layer.padding)
        result = empty_image(leading, (layer.out_channels, geometry.height, geometry.width), values.dtype)
        spikes, weights = kept_bits(signal), values.detach().numpy()
        x = rows_of(signal.flatten(-3)) if spikes is None else spikes
        start = np.zeros(layer.out_channels, weights.dtype) if bias is None else bias.detach().numpy()
        into = rows_of(result.flatten(-3))
        kernels.convolve(weights, index.lines, index.starts, geometry, x, start, into, math.prod(leading))
        ctx.save_for_backward(values, signal if spikes is None else None)
        ctx.spikes, ctx.index, ctx.layer, ctx.shape, ctx.geometry = spikes, index, layer, signal.shape, geometry
        ctx.errors = layer.errors  # a pass that counts is not recorded, also if its backward pass comes later
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        values, signal = ctx.saved_tensors
        index, layer, geometry, (gradient,) = ctx.index, ctx.layer, ctx.geometry, grads
        if layer.index is not index:
            raise RuntimeError("SparseConv2d: the connections changed between the forward and the backward pass")
        use_torch_threads()
        columns, errors = gradient.shape[:-3].numel(), rows_of(gradient.flatten(-3))
        of_values = of_signal = of_bias = None
        x = ctx.spikes if signal is None else rows_of(signal.flatten(-3))
        source = geometry.source_height, geometry.source_width
        if ctx.errors is not None:
            ctx.errors.append(ImageErrors(x, errors, columns, layer, source))
        if ctx.needs_input_grad[1]:
            of_values = torch.from_numpy(_weight_gradient(index, geometry, x, errors, columns))
        if ctx.needs_input_grad[2]:
            of_bias = torch.from_numpy(errors[:, :columns]).view(layer.out_channels, -1, columns).sum((1, 2))
        if ctx.needs_input_grad[0]:
            of_signal = empty_image(tuple(ctx.shape[:-3]), tuple(ctx.shape[-3:]), values.dtype)
            back, places = by_input_channel(index, layer)
            moved = np.empty(len(places), errors.dtype)
            sparse_kernels.move(values.detach().numpy(), places, moved)
            size = geometry.height, geometry.width
            reads = kernels.backward_geometry(size, layer.kernel_size, layer.stride, layer.padding, source)
            nothing = np.zeros(layer.in_channels, errors.dtype)
            into = rows_of(of_signal.flatten(-3))
            kernels.convolve(moved, back.lines, back.starts, reads, errors, nothing, into, columns)
        return of_signal, of_values, of_bias, None, None


def by_input_channel(index: ConnectionIndex, layer: SparseConv2d) -> tuple[ConnectionIndex, NDArray[Any]]:
    """Return the index of the connections that leave each input channel, and the place of each connection in it.

    Its lines are those of a kernel whose input channels are the output channels of the layer.
    """
    if index.reordered is None:
        taps = math.prod(layer.kernel_size)
        by_channel = ConnectionIndex(index.lines // np.int32(taps), index.starts, layer.in_channels)
        back, places = by_channel.transposed()
        lines = np.empty_like(back.lines)
        lines[places] = index.lines % taps
        lines += back.lines * np.int32(taps)
        index.reordered = ConnectionIndex(lines, back.starts, layer.out_channels * taps), places
    return index.reordered


def _weight_gradient(
    index: ConnectionIndex, geometry: Geometry, x: NDArray[Any], errors: NDArray[Any], columns: int
) -> NDArray[Any]:
    """Return the gradients of connections."""
    gradient = np.empty(len(index.lines), errors.dtype)
    if columns % LANES:  # what follows the last column has no meaning, and is added
        errors = _with_zeros(errors, columns)
        x = x if x.dtype == np.uint16 else _with_zeros(x, columns)
    tasks = min(torch.get_num_threads(), len(index.starts) - 1)
    kernels.weight_gradient(index.lines, index.starts, geometry, x, errors, gradient, columns, tasks)
    return gradient


def _with_zeros(rows: NDArray[Any], columns: int) -> NDArray[Any]:
    copy = np.zeros((len(rows), -(-columns // LANES) * LANES), rows.dtype)
    copy[:, :columns] = rows[:, :columns]
    return copy


def _samples(rows: Tensor, size: Pair) -> Tensor:
    """Return the images of rows, shape (samples, channels, height, width)."""
    return rows.view(-1, *size, rows.shape[1]).permute(3, 0, 1, 2).contiguous()


def _pair(value: int | tuple[int, ...]) -> Pair:
    first, second = (value, value) if isinstance(value, int) else value
    return first, second


def _refuse_sizes(in_channels: int, kernel: Pair, stride: Pair, padding: Pair) -> None:
    lowest = (
        ("in_channels", (in_channels,), 1),
        ("kernel_size", kernel, 1),
        ("stride", stride, 1),
        ("padding", padding, 0),
    )
    findings = [f"{name} is {sizes}; allowed: {least} and above" for name, sizes, least in lowest if min(sizes) < least]
    if findings:
        raise BadInput(f"SparseConv2d: {'; '.join(findings)}")
