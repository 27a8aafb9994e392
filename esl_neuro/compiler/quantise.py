"""Floating-point layers to integers that the chip can hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from esl_neuro.compiler.frontend import FloatLayer, Floats
from esl_neuro.compiler.program import Connection, Group, IntArray
from esl_neuro.hardware import Arithmetic

DECAY_ONE = 4096  # decays are multiples of 1 / 4096
POTENTIAL_SHIFT = 6  # weights and thresholds enter u and v shifted left by 6 bits


@dataclass(frozen=True)
class QuantisationError:
    """What rounding did to one layer.

    Attributes
    ----------
    layer : str
        Name of the layer.
    scale : float
        Integer units per unit of the float network.
    weight_error : float
        Root mean square weight error over the root mean square weight, connections only.
    threshold_error : float
        Largest relative threshold error.
    decay_error : float
        Largest absolute error of a decay per step.
    bias_error : float
        Largest bias error over the threshold of its neuron; large where a bias had to be clipped.
    declared, lost : int
        Connections of the float network, and those that were rounded to zero.
    headroom : float
        Largest synaptic current that can ever occur, as a share of the range; above 1 it may wrap.
    """

    layer: str
    scale: float
    weight_error: float
    threshold_error: float
    decay_error: float
    bias_error: float
    declared: int
    lost: int
    headroom: float


def quantise(layer: FloatLayer, source: str, arithmetic: Arithmetic) -> tuple[Connection, Group, QuantisationError]:
    """Round one layer to integers.

    The scale makes the largest weight use the whole weight range, unless a threshold would then not fit::

        S = min(254 / max|W|, (2**17 - 1) / max(threshold))
        W_int = 2 round(S W / 2);  vth = round(S threshold);  du = round(4096 du) - 1;  dv = round(4096 dv)

    Even weights pass through the chip's 8-bit formats unchanged whatever their signs are.

    Parameters
    ----------
    layer : FloatLayer
        The layer.
    source : str
        Name of the group that feeds it.
    arithmetic : Arithmetic
        Integer formats of the chip.
    """
    scale = layer_scale(layer, arithmetic)
    step = arithmetic.weight_step
    weights = (step * np.rint(layer.weights * scale / step)).astype(np.int32)
    bias_mant, bias_exp = bias_format(layer.bias * scale * (1 << POTENTIAL_SHIFT), arithmetic)
    group = Group(
        name=layer.name,
        du=np.rint(layer.du * DECAY_ONE).astype(np.int64) - 1,
        dv=np.minimum(np.rint(layer.dv * DECAY_ONE), DECAY_ONE - 1).astype(np.int64),
        vth=np.rint(layer.threshold * scale).astype(np.int64),
        bias_mant=bias_mant,
        bias_exp=bias_exp,
        scale=scale,
    )
    declared = int(np.count_nonzero(layer.weights))
    connection = Connection(source, layer.name, sp.csr_matrix(weights), 0, declared)
    return connection, group, measure_error(layer, connection, group, arithmetic)


def layer_scale(layer: FloatLayer, arithmetic: Arithmetic) -> float:
    """Return integer units per float unit; see :func:`quantise`."""
    largest_weight = float(np.abs(layer.weights).max(initial=0))
    by_threshold = float(2**arithmetic.threshold_bits - 1) / float(layer.threshold.max())
    return min(arithmetic.weight_max / largest_weight, by_threshold) if largest_weight else by_threshold


def bias_format(bias: Floats, arithmetic: Arithmetic) -> tuple[IntArray, IntArray]:
    """Write biases as ``mantissa << exponent``, each with the smallest exponent that holds it.

    Parameters
    ----------
    bias : float64 array, shape (neurons,)
        Biases in units of ``v``. One that is too large for any exponent is clipped.
    """
    largest = 2 ** (arithmetic.bias_mantissa_bits - 1) - 1
    exponents = np.zeros(bias.shape, dtype=np.int64)
    for _ in range(2**arithmetic.bias_exponent_bits - 1):
        exponents += np.abs(np.rint(bias / 2.0**exponents)) > largest
    mantissa = np.clip(np.rint(bias / 2.0**exponents), -largest, largest).astype(np.int64)
    return mantissa, exponents


def measure_error(layer: FloatLayer, connection: Connection, group: Group, arithmetic: Arithmetic) -> QuantisationError:
    """Compare a rounded layer with the one it was made from."""
    wanted, got = layer.weights, connection.matrix.toarray() / group.scale
    there = wanted != 0
    size = float(np.sqrt(np.mean(wanted[there] ** 2))) if there.any() else 1.0
    weight_error = float(np.sqrt(np.mean((got - wanted)[there] ** 2))) / size if there.any() else 0.0
    bias = (group.bias_mant << group.bias_exp) / 2.0**POTENTIAL_SHIFT
    decays = [(group.du + 1) / DECAY_ONE - layer.du, group.dv / DECAY_ONE - layer.dv]
    return QuantisationError(
        layer=layer.name,
        scale=group.scale,
        weight_error=weight_error,
        threshold_error=float(np.max(np.abs(group.vth / group.scale / layer.threshold - 1))),
        decay_error=float(max(np.max(np.abs(decay)) for decay in decays)),
        bias_error=float(np.max(np.abs(bias / group.scale - layer.bias) / layer.threshold)),
        declared=connection.declared,
        lost=connection.declared - connection.stored,
        headroom=largest_current(connection, group) / 2 ** (arithmetic.potential_bits - 1),
    )


def largest_current(connection: Connection, group: Group) -> float:
    """Bound the synaptic current ``|u|``: every source fires at every step for ever."""
    positive = connection.matrix.maximum(0).sum(axis=1)
    negative = -connection.matrix.minimum(0).sum(axis=1)
    arriving = np.maximum(np.asarray(positive), np.asarray(negative)).ravel().astype(np.float64)
    kept = 1 - (group.du + 1) / DECAY_ONE
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = np.where(arriving > 0, arriving * 2.0 ** (connection.weight_exp + POTENTIAL_SHIFT) / (1 - kept), 0)
    return float(bound.max(initial=0))
