"""Weights that are stored for connections only: what linear layers and convolutions have in common.

Weights are a matrix with one row per output in CSR. A convolution is the matrix of its kernel: a weight of the kernel
is an input line of its own, as for masked layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from esl_neuro.errors import BadInput
from esl_neuro.sparsity import sparse_kernels as kernels
from esl_neuro.sparsity.masks import positions_within
from esl_neuro.sparsity.topology import Positions, Topology
from esl_neuro.spike_bits import numbers_of


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
        self.reordered: tuple[ConnectionIndex, NDArray[Any]] | None = None  # of a convolution, by input channel

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

    def gradients(self) -> Callable[[int, int], Tensor]:
        """Return a function that returns the gradients of all positions of some outputs, shape (outputs, inputs)."""
        signal = torch.from_numpy(self.signal()).to(torch.from_numpy(self.errors[:0]).dtype).t()
        return lambda first, last: torch.from_numpy(self.errors[first:last, : self.columns]) @ signal

    def gradient_at(self, index: ConnectionIndex) -> NDArray[Any]:
        """Return the gradients of connections, which need not be those of the layer."""
        gradient = np.empty(len(index.lines), self.errors.dtype)
        kernels.weight_gradient(index.lines, index.starts, self.x, self.errors, gradient, self.columns)
        return gradient


class SparseWeights(nn.Module):
    """Layer whose weights, gradients and moments exist for its connections only.

    Parameters
    ----------
    inputs, outputs : int
        Sizes of the matrix, each below 2**31.
    bias : bool
        Whether there is a bias.
    density : float, optional
        Share of the possible connections, drawn at random.
    fan_in : int, optional
        Connections of each output, drawn at random, instead of the density. Without both there is no connection yet.
    rng : numpy.random.Generator
        Source of connections and weights.
    dtype : torch.dtype
        float32 or float64.

    Attributes
    ----------
    values : nn.Parameter, shape (connections,)
        Weights, by output and, within an output, by input line.
    col_indices : int32 Tensor, shape (connections,)
        Input line of each connection.
    crow_indices : int64 Tensor, shape (outputs + 1,)
        Where the connections of each output begin. The three are a matrix in CSR.
    bias : nn.Parameter or None, shape (outputs,)
        Bias.
    errors : list or None
        If it is a list, each backward pass appends its signal and its errors, from which growth rules compute gradients
        of connections that do not exist.
    """

    values: nn.Parameter
    col_indices: Tensor
    crow_indices: Tensor
    _index: ConnectionIndex

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bias: bool,
        density: float | None,
        fan_in: int | None,
        rng: np.random.Generator,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = inputs, outputs
        self.values = nn.Parameter(torch.empty(0, dtype=dtype))
        self.bias = nn.Parameter(_uniform(outputs, 1 / math.sqrt(inputs), rng, dtype)) if bias else None
        self.errors: list[SignalErrors] | None = None
        self._set_index(ConnectionIndex.of(np.empty(0, np.int64), inputs, outputs))
        if fan_in is not None:
            self.draw_topology(Topology(fan_in), rng)
        elif density is not None:
            self.draw(density, rng)

    @property
    def index(self) -> ConnectionIndex:
        """Where the connections are."""
        lines: NDArray[np.int32] = self.col_indices.numpy()
        # A copy of the module has other buffers; without connections, torch has no memory to compare.
        if len(lines) and lines.ctypes.data != self._index.lines.ctypes.data:
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

    def fan_out(self) -> NDArray[np.int64]:
        """Return the connections that leave each input line."""
        return np.bincount(self.index.lines, minlength=self.in_features)

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

    def to_dense(self) -> Tensor:
        """Return the matrix of shape (outputs, inputs), which takes memory for all possible connections."""
        dense = torch.zeros(self.possible, dtype=self.values.dtype)
        dense[torch.from_numpy(self.index.positions())] = self.values.detach()
        return dense.view(self.out_features, self.in_features)

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


def refuse_arguments(
    layer: str, inputs: int, outputs: int, density: float | None, fan_in: int | None, dtype: torch.dtype
) -> None:
    """Reject sizes, densities and types that a layer cannot have, with all findings."""
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
        raise BadInput(f"{layer}: " + "; ".join(findings))


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
