"""Floating-point layers to integers that the chip can hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from esl_neuro.compiler.frontend import FloatLayer
from esl_neuro.compiler.program import Connection, Group
from esl_neuro.hardware import Arithmetic
from esl_neuro.rounding import (
    DECAY_ONE,
    POTENTIAL_SHIFT,
    bias_format,
    group_scale,
    round_current_decay,
    round_potential_decay,
    round_thresholds,
    round_weights,
)


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

    The rules are those of :mod:`esl_neuro.rounding`, by which training can round as well::

        S = min(254 / max|W|, (2**17 - 1) / max(threshold))
        W_int = 2 round(S W / 2);  vth = round(S threshold);  du = round(4096 du) - 1;  dv = round(4096 dv)

    Parameters
    ----------
    layer : FloatLayer
        The layer.
    source : str
        Name of the group that feeds it.
    arithmetic : Arithmetic
        Integer formats of the chip.
    """
    scale = group_scale(float(np.abs(layer.weights).max(initial=0)), float(layer.threshold.max()), arithmetic)
    weights = round_weights(layer.weights, scale, arithmetic).astype(np.int32)
    bias_mant, bias_exp = bias_format(layer.bias * scale * (1 << POTENTIAL_SHIFT), arithmetic)
    group = Group(
        name=layer.name,
        du=round_current_decay(layer.du).astype(np.int64),
        dv=round_potential_decay(layer.dv).astype(np.int64),
        vth=round_thresholds(layer.threshold, scale, arithmetic).astype(np.int64),
        bias_mant=bias_mant.astype(np.int64),
        bias_exp=bias_exp.astype(np.int64),
        scale=scale,
    )
    declared = int(np.count_nonzero(layer.weights))
    connection = Connection(source, layer.name, sp.csr_matrix(weights), 0, declared)
    return connection, group, measure_error(layer, connection, group, arithmetic)


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
