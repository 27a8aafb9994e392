"""A linear layer that stores its connections only, for training without any dense copy of the weights."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from esl_neuro.errors import BadInput
from esl_neuro.neuron_major import empty_signal, is_neuron_major, repeated, rows_of
from esl_neuro.random_streams import stream
from esl_neuro.sparsity import sparse_kernels as kernels
from esl_neuro.sparsity.sparse_weights import ConnectionIndex, SignalErrors, SparseWeights, refuse_arguments
from esl_neuro.spike_bits import bits_of
from esl_neuro.torch_threads import use_torch_threads


class SparseLinear(SparseWeights):
    """Linear layer whose weights, gradients and moments exist for its connections only.

    Use it in place of ``nn.Linear`` in any loop, with any optimiser. Its result is ``x W^T + b`` with the matrix
    :meth:`to_dense`; in memory it has one row per neuron (:mod:`esl_neuro.neuron_major`). Only the CPU is supported.

    Parameters
    ----------
    inputs, outputs : int
        Sizes of the dense matrix, each below 2**31.
    bias : bool
        Whether there is a bias.
    density : float, optional
        Share of the possible connections, drawn at random, exactly ``round(density * inputs * outputs)``.
    fan_in : int, optional
        Connections of each neuron, drawn at random, instead of the density. Without both there is no connection yet.
    seed : int
        Seed of the connections and the weights, which are uniform in ``+-1 / sqrt(inputs * density)``, as those of a
        masked layer.
    dtype : torch.dtype
        float32 or float64.

    Raises
    ------
    BadInput
        If a size, a density or a type is not allowed.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bias: bool = True,
        *,
        density: float | None = None,
        fan_in: int | None = None,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        refuse_arguments("SparseLinear", inputs, outputs, density, fan_in, dtype)
        super().__init__(inputs, outputs, bias, density, fan_in, stream(seed, "sparse linear"), dtype)

    @classmethod
    def from_dense(cls, weight: Tensor, mask: Tensor | None = None, bias: Tensor | None = None) -> SparseLinear:
        """Return a layer with the weights of a matrix of shape (outputs, inputs).

        Parameters
        ----------
        weight : Tensor
            Weights.
        mask : bool Tensor, optional
            Where the connections are; by default, where the weight is not zero.
        bias : Tensor, optional
            Bias.
        """
        outputs, inputs = weight.shape
        layer = cls(inputs, outputs, bias is not None, dtype=weight.dtype)
        present = (weight != 0) if mask is None else mask
        positions = np.flatnonzero(present.detach().numpy())
        layer.connect(positions, weight.detach().numpy().ravel()[positions])
        if layer.bias is not None and bias is not None:
            layer.bias.data.copy_(bias.detach())
        return layer

    def forward(self, signal: Tensor) -> Tensor:
        """Return ``x W^T + b``, shape (..., outputs), of a signal of shape (..., inputs).

        A signal of 3 or more axes that is constant over the first, recognised by steps that share memory, is processed
        once.
        """
        if signal.shape[-1] != self.in_features:
            raise BadInput(f"SparseLinear: the signal has {signal.shape[-1]} features, expected {self.in_features}")
        if signal.device.type != "cpu" or self.values.device.type != "cpu":
            raise BadInput("SparseLinear: only the CPU is supported; use a masked layer on other devices")
        if signal.dim() > 2 and len(signal) > 1 and signal.stride(0) == 0:
            once = self.forward(signal[:1])
            return repeated(once, len(signal)) if signal.dim() == 3 else once.expand(len(signal), *once.shape[1:])
        result: Tensor = _Product.apply(  # type: ignore[no-untyped-call]
            signal.to(self.values.dtype), self.values, self.bias, self.index, self
        )
        return result

    def extra_repr(self) -> str:
        """Return sizes and connections."""
        density = self.connections / self.possible
        return (
            f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, connections={self.connections}, "
            f"density={density:.3g}"
        )


FEW_OUTPUTS = 32
"""Most outputs of a dense layer whose products these kernels compute faster than a general matrix product."""


class FewOutputs(nn.Linear):
    """Dense layer of few outputs, such as a readout, which reads the bits of spikes that have one row per neuron.

    Parameters, results and other signals are those of ``nn.Linear``.
    """

    errors: list[SignalErrors] | None = None

    @cached_property
    def index(self) -> ConnectionIndex:
        """All connections."""
        return ConnectionIndex.of(np.arange(self.weight.numel()), self.in_features, self.out_features)

    def forward(self, signal: Tensor) -> Tensor:
        """Return ``x W^T + b``, shape (..., outputs)."""
        if not is_neuron_major(signal) or self.weight.dtype != signal.dtype:
            return super().forward(signal)
        result: Tensor = _Product.apply(  # type: ignore[no-untyped-call]
            signal, self.weight.view(-1), self.bias, self.index, self
        )
        return result


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        signal: Tensor,
        values: Tensor,
        bias: Tensor | None,
        index: ConnectionIndex,
        layer: SparseLinear | FewOutputs,
    ) -> Tensor:
        use_torch_threads()
        columns = signal.shape[:-1].numel()
        spikes, weights = bits_of(signal), values.detach().numpy()
        result = empty_signal(tuple(signal.shape[:-1]), layer.out_features, values.dtype)
        start = np.zeros(layer.out_features, weights.dtype) if bias is None else bias.detach().numpy()
        product, x = (kernels.multiply, rows_of(signal)) if spikes is None else (kernels.add_spikes, spikes)
        product(weights, index.lines, index.starts, x, start, rows_of(result), columns)
        ctx.save_for_backward(values, signal if spikes is None else None)
        ctx.spikes, ctx.index, ctx.layer, ctx.shape = spikes, index, layer, signal.shape
        ctx.errors = layer.errors  # a pass that counts is not recorded, also if its backward pass comes later
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        values, signal = ctx.saved_tensors
        index, layer, (gradient,) = ctx.index, ctx.layer, grads
        if layer.index is not index:
            raise RuntimeError("SparseLinear: the connections changed between the forward and the backward pass")
        use_torch_threads()
        columns, errors = gradient.shape[:-1].numel(), rows_of(gradient)
        of_values = of_signal = of_bias = None
        x = ctx.spikes if signal is None else rows_of(signal)
        if ctx.errors is not None:
            ctx.errors.append(SignalErrors(x, errors, columns))
        if ctx.needs_input_grad[1]:
            of_values = torch.empty_like(values)
            kernels.weight_gradient(index.lines, index.starts, x, errors, of_values.numpy(), columns)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.reshape(-1, layer.out_features).sum(0)
        if ctx.needs_input_grad[0]:
            of_signal = empty_signal(tuple(ctx.shape[:-1]), layer.in_features, values.dtype)
            back, places = index.transposed()
            by_line = np.empty(len(places), errors.dtype)
            kernels.move(values.detach().numpy(), places, by_line)
            nothing = np.zeros(layer.in_features, errors.dtype)
            kernels.multiply(by_line, back.lines, back.starts, errors, nothing, rows_of(of_signal), columns)
        return of_signal, of_values, of_bias, None, None
