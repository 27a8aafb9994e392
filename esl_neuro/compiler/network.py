"""The network between NIR graph and program: discrete time, floating-point numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from esl_neuro.compiler.core_plan import CorePlan
from esl_neuro.compiler.program import Weights
from esl_neuro.nirgraph.linear_maps import Floats


@dataclass(frozen=True)
class FloatGroup:
    """A population of neurons in discrete time.

    ``u[t] = (1 - du) u[t-1] + x[t]``; ``v[t] = (1 - dv) v[t-1] + u[t] + bias``; spike when ``v > threshold``, then ``v
    = 0`` or, in a reset by subtraction, ``v = v - reset_by``. ``x`` is the sum over all connections; the gains of the
    NIR nodes are folded into their weights.

    Attributes
    ----------
    name : str
        Name of the neuron node; nested ones as ``"subgraph.node"``.
    bias, du, dv, threshold : float64 array, shape (neurons,)
        An infinite threshold means that the group never fires and its potential is read.
    reset_by : float64 array, shape (neurons,), or None
        What a spike subtracts from ``v``: the threshold, or ``threshold / (1 - dv)`` to subtract it after the next
        leak. It scales with weights, bias and threshold. None for a reset to zero.
    """

    name: str
    bias: Floats
    du: Floats
    dv: Floats
    threshold: Floats
    reset_by: Floats | None = None

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return int(self.bias.size)

    @property
    def fires(self) -> bool:
        """False for a group whose potential is read."""
        return bool(np.isfinite(self.threshold).all())


@dataclass(frozen=True)
class FloatConnection:
    """All linear operations between two groups, as one map.

    Attributes
    ----------
    source, target : str
        Names of the groups; ``"input"`` is the input.
    weights : scipy.sparse.csr_matrix or Kernel of float64, shape (target neurons, source neurons)
    delay : int
        Spikes of step ``t`` arrive in step ``t + delay``.
    """

    source: str
    target: str
    weights: Weights
    delay: int = 0

    @property
    def declared(self) -> int:
        """Number of non-zero weights; those of a kernel are counted at every position."""
        return int(self.weights.nnz)


@dataclass(frozen=True)
class FloatNetwork:
    """Groups of neurons and the connections between them.

    Attributes
    ----------
    input_shape : tuple of int
        Shape of the input; its lines are in row-major order.
    dt_s : float
        Time step in seconds.
    groups : tuple of FloatGroup
        No group comes before one that feeds it without delay; the last one is the output.
    connections : tuple of FloatConnection
        In the order of the groups that they feed; one for each source, target and delay.
    single_spikes : bool
        Whether each input line and each neuron fires at most once per sample, according to the graph's metadata.
    core_plan : CorePlan or None
        The cores that it was trained for, according to the graph's metadata.
    """

    input_shape: tuple[int, ...]
    dt_s: float
    groups: tuple[FloatGroup, ...]
    connections: tuple[FloatConnection, ...]
    single_spikes: bool = False
    core_plan: CorePlan | None = None

    @property
    def input_size(self) -> int:
        """Number of input lines."""
        return math.prod(self.input_shape)

    @property
    def readout(self) -> str:
        """What determines the class, as in :class:`~esl_neuro.compiler.program.Program`."""
        return "spikes" if self.groups[-1].fires else "potential"

    def incoming(self, name: str) -> tuple[FloatConnection, ...]:
        """Return the connections that feed a group."""
        return tuple(connection for connection in self.connections if connection.target == name)
