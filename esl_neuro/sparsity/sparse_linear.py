"""A linear layer that stores its connections only, for training without any dense copy of the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from esl_neuro.errors import BadInput
from esl_neuro.neuron_major import empty_signal, is_neuron_major, repeated, rows_of
from esl_neuro.random_streams import stream
from esl_neuro.sparsity import sparse_kernels as kernels
from esl_neuro.sparsity.masks import positions_within
from esl_neuro.sparsity.topology import Positions, Topology
from esl_neuro.spike_bits import bits_of, numbers_of
from esl_neuro.torch_threads import use_torch_threads


class ConnectionIndex:
    """Where the connections of a matrix are; it never changes, a new structure has a new index.

    Parameters
    ----------
    lines : int32 array, shape (connections,)
        Input line of each connection, ascending within a neuron.
    starts : int64 array, shape (outputs + 1,)
        Where the connections of each neuron begin.
    inputs : int
        Number of input lines.
    """

    def __init__(self, lines: NDArray[np.int32], starts: NDArray[np.int64], inputs: int) -> None:
        self.lines, self.starts, self.inputs = lines, starts, inputs
        self._transposed: tuple[ConnectionIndex, NDArray[Any]] | None = None

    @classmethod
    def of(cls, positions: Positions, inputs: int, outputs: int) -> ConnectionIndex:
        """Return the index of connections at these positions."""
        starts = np.searchsorted(positions, np.arange(outputs + 1, dtype=np.int64) * inputs)
        return cls((positions % inputs).astype(np.int32), starts.astype(np.int64), inputs)

    def positions(self) -> Positions:
        """Return the positions of all connections; 8 bytes per connection."""
        neurons = np.repeat(np.arange(len(self.starts) - 1, dtype=np.int64), np.diff(self.starts))
        return neurons * self.inputs + self.lines

    def transposed(self) -> tuple[ConnectionIndex, NDArray[Any]]:
        """Return the index of the transposed matrix, and the place of each connection in it."""
        if self._transposed is None:
            count, outputs = len(self.lines), len(self.starts) - 1
            starts, free = np.zeros(self.inputs + 1, np.int64), np.empty(self.inputs, np.int64)
            neurons = np.empty(count, np.int32)
            places = np.empty(count, np.int32 if count < 2**31 else np.int64)
            kernels.transpose(self.lines, self.starts, starts, free, neurons, places)
            self._transposed = ConnectionIndex(neurons, starts, outputs), places
        return self._transposed


class SparseLinear(nn.Module):
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

    Attributes
    ----------
    values : nn.Parameter, shape (connections,)
        Weights, by neuron and, within a neuron, by input line.
    col_indices : int32 Tensor, shape (connections,)
        Input line of each connection.
    crow_indices : int64 Tensor, shape (outputs + 1,)
        Where the connections of each neuron begin. The three are a matrix in CSR.
    bias : nn.Parameter or None, shape (outputs,)
        Bias.
    errors : list or None
        If it is a list, each backward pass appends its signal and its errors, from which growth rules compute gradients
        of connections that do not exist.

    Raises
    ------
    BadInput
        If a size, a density or a type is not allowed.
    """

    values: nn.Parameter
    col_indices: Tensor
    crow_indices: Tensor
    _index: ConnectionIndex

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
        super().__init__()
        _check_arguments(inputs, outputs, density, fan_in, dtype)
        self.in_features, self.out_features = inputs, outputs
        self.values = nn.Parameter(torch.empty(0, dtype=dtype))
        rng = stream(seed, "sparse linear")
        bound = 1 / math.sqrt(inputs)
        self.bias = nn.Parameter(_uniform(outputs, bound, rng, dtype)) if bias else None
        self.errors: list[SignalErrors] | None = None
        self._set_index(ConnectionIndex.of(np.empty(0, np.int64), inputs, outputs))
        if fan_in is not None:
            self.draw_topology(Topology(fan_in), rng)
        elif density is not None:
            self.draw(density, rng)

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

    @property
    def index(self) -> ConnectionIndex:
        """Where the connections are."""
        lines: NDArray[np.int32] = self.col_indices.numpy()
        if lines.ctypes.data != self._index.lines.ctypes.data:  # a copy of the module has other buffers
            self._index = ConnectionIndex(lines, self.crow_indices.numpy(), self.in_features)
        return self._index

    @property
    def connections(self) -> int:
        """Number of connections."""
        return self.values.numel()

    @property
    def possible(self) -> int:
        """Number of positions of the dense matrix."""
        return self.in_features * self.out_features

    def draw(self, density: float, rng: np.random.Generator, cap: int | None = None) -> None:
        """Replace all connections by random ones with new weights, of each output at most ``cap``."""
        count = round(density * self.possible)
        if not 0 < density <= 1 or count < 1:
            raise BadInput(
                f"sparsity.density: {density} leaves no connection of {self.possible}; allowed: above "
                f"{0.5 / self.possible:.2g} up to 1"
            )
        if cap is None:
            self.connect_anew(distinct(self.possible, count, rng), rng)
        else:
            self.connect_anew(positions_within(self.possible, self.out_features, count, rng, cap), rng)

    def draw_topology(self, topology: Topology, rng: np.random.Generator) -> None:
        """Replace all connections by as many random ones for each neuron, with new weights."""
        self.connect_anew(topology.draw(self.in_features, self.out_features, rng), rng)

    def connect_anew(self, positions: Positions, rng: np.random.Generator) -> None:
        """Replace all connections by those at these sorted positions, with new weights."""
        bound = 1 / math.sqrt(self.in_features * len(positions) / self.possible)
        self.connect(positions, _uniform(len(positions), bound, rng, self.values.dtype).numpy())

    def connect(self, positions: Positions, values: NDArray[Any]) -> None:
        """Replace all connections; the parameter stays the same object, and loses its gradient.

        Parameters
        ----------
        positions : int64 array, shape (connections,)
            Sorted places in the dense matrix, ``neuron * inputs + line``, without duplicates.
        values : array, shape (connections,)
            Weights.
        """
        self._set_index(ConnectionIndex.of(positions, self.in_features, self.out_features))
        self.values.grad = None
        self.values.data = torch.from_numpy(values).to(self.values.dtype)

    def _set_index(self, index: ConnectionIndex) -> None:
        self._index = index
        self.register_buffer("col_indices", torch.from_numpy(index.lines))
        self.register_buffer("crow_indices", torch.from_numpy(index.starts))

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

    def to_dense(self) -> Tensor:
        """Return the matrix of shape (outputs, inputs), which takes memory for all possible connections."""
        dense = torch.zeros(self.possible, dtype=self.values.dtype)
        dense[torch.from_numpy(self.index.positions())] = self.values.detach()
        return dense.view(self.out_features, self.in_features)

    def extra_repr(self) -> str:
        """Return sizes and connections."""
        density = self.connections / self.possible
        return (
            f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, connections={self.connections}, "
            f"density={density:.3g}"
        )

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Load a state with any number of connections, if it is one of a matrix of this size."""
        parts = [state_dict.get(prefix + name) for name in ("values", "col_indices", "crow_indices")]
        values, lines, starts = parts
        if values is not None and lines is not None and starts is not None:
            problem = _index_problem(values, lines, starts, self.in_features, self.out_features)
            if problem:
                error_msgs.append(f"{prefix}col_indices: {problem}")
                return
            index = lines.numpy().copy(), starts.numpy().copy()
            if values.shape != self.values.shape:
                self.values.grad = None
                self.values.data = torch.empty(values.shape, dtype=self.values.dtype)
            self._set_index(ConnectionIndex(*index, self.in_features))
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
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


class SignalErrors:
    """What a backward pass knows of a layer: its signal and the errors of its outputs, one row per neuron each.

    Attributes
    ----------
    x : array, shape (inputs, length)
        Signal, or its bits (:mod:`esl_neuro.spike_bits`).
    errors : array, shape (outputs, length)
        Derivatives of the loss by the outputs.
    columns : int
        Columns of both.
    """

    def __init__(self, x: NDArray[Any], errors: NDArray[Any], columns: int) -> None:
        self.x, self.errors, self.columns = x, errors, columns

    def signal(self) -> NDArray[Any]:
        """Return the numbers of the signal, shape (inputs, columns)."""
        return numbers_of(self.x, self.columns) if self.x.dtype == np.uint16 else self.x[:, : self.columns]


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


def distinct(total: int, count: int, rng: np.random.Generator) -> Positions:
    """Return ``count`` of ``total`` positions, sorted, all sets with equal probability; memory follows the result."""
    if 2 * count > total:
        gaps = distinct(total, total - count, rng)
        return np.delete(np.arange(total, dtype=np.int64), gaps)
    found = np.empty(0, np.int64)
    while len(found) < count:
        more = rng.integers(total, size=count - len(found) + count // 50 + 8, dtype=np.int64)
        found = union(found, more)
    surplus = rng.choice(len(found), len(found) - count, replace=False)
    return np.delete(found, surplus)


def union(one: Positions, other: Positions) -> Positions:
    """Return the positions of either array, sorted; much faster than numpy's union where one array is sorted."""
    both = np.concatenate([one, other])
    both.sort(kind="stable")
    return both[np.diff(both, prepend=-1) > 0]


def _uniform(count: int, bound: float, rng: np.random.Generator, dtype: torch.dtype) -> Tensor:
    drawn = rng.random(count, np.float64 if dtype == torch.float64 else np.float32)
    return torch.from_numpy((2 * drawn - 1) * drawn.dtype.type(bound))


def _check_arguments(inputs: int, outputs: int, density: float | None, fan_in: int | None, dtype: torch.dtype) -> None:
    findings = [
        f"{name} is {size}; allowed: 1 to {2**31 - 1}"
        for name, size in (("inputs", inputs), ("outputs", outputs))
        if not 1 <= size < 2**31
    ]
    if dtype not in (torch.float32, torch.float64):
        findings.append(f"dtype is {dtype}; allowed: torch.float32 and torch.float64")
    if density is not None and fan_in is not None:
        findings.append(f"density {density} and fan_in {fan_in} are mutually exclusive; give one of them")
    if fan_in is not None and not 1 <= fan_in <= inputs:
        findings.append(f"fan_in is {fan_in}; allowed: 1 to {inputs}")
    if findings:
        raise BadInput("SparseLinear: " + "; ".join(findings))


def _index_problem(values: Tensor, lines: Tensor, starts: Tensor, inputs: int, outputs: int) -> str | None:
    """Return why arrays are no matrix of this size, or None: kernels do not check bounds."""
    if values.dim() != 1 or lines.shape != values.shape or starts.shape != (outputs + 1,):
        return (
            f"values, col_indices and crow_indices have the shapes {tuple(values.shape)}, {tuple(lines.shape)} and "
            f"{tuple(starts.shape)}; expected (n,), (n,) and ({outputs + 1},)"
        )
    if lines.dtype != torch.int32 or starts.dtype != torch.int64 or not values.is_floating_point():
        return (
            f"values, col_indices and crow_indices are {values.dtype}, {lines.dtype} and {starts.dtype}; expected "
            "floating point, torch.int32 and torch.int64"
        )
    bounds = starts.numpy()
    if bounds[0] != 0 or bounds[-1] != len(values) or (np.diff(bounds) < 0).any():
        return f"crow_indices do not ascend from 0 to {len(values)}"
    index = lines.numpy()
    if len(index) and (index.min() < 0 or index.max() >= inputs):
        return f"input lines are {index.min()} to {index.max()}; allowed: 0 to {inputs - 1}"
    descends = np.diff(index) <= 0
    inner = bounds[1:-1]
    descends[inner[(inner > 0) & (inner < len(index))] - 1] = False  # between two neurons
    return "the input lines of a neuron do not ascend" if descends.any() else None
