"""Round floating-point groups to the integers of the chip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from esl_neuro.compiler.network import FloatConnection, FloatGroup
from esl_neuro.compiler.program import INPUT, Connection, Group, Weights
from esl_neuro.hardware.arithmetic import DECAY_ONE, POTENTIAL_SHIFT, Arithmetic
from esl_neuro.hardware.rounding import (
    SPIKES,
    InputFormat,
    bias_format,
    group_scale,
    round_current_decay,
    round_potential_decay,
    round_thresholds,
    round_weights,
    weight_exponent,
)
from esl_neuro.nirgraph.kernel import Kernel
from esl_neuro.nirgraph.linear_maps import Floats

EXACT_EXPONENT = -1  # half a sum of even weights is an integer; below -1 the chip rounds sums down
RANGE_USED = 0.95  # share of the range of u or v that a bound may use; rounding may use the rest


@dataclass(frozen=True)
class QuantisationError:
    """Rounding errors of one layer.

    Attributes
    ----------
    layer : str
        Name of the layer.
    scale : float
        Integer units per unit of the float network.
    weight_error : float
        Root mean square weight error over root mean square weight, over existing connections.
    threshold_error : float
        Largest relative threshold error; 0 for a layer that never fires.
    decay_error : float
        Largest absolute error of a decay per step.
    bias_error : float
        Largest bias error over the threshold of its neuron (for a layer that never fires, over the largest potential in
        range); large if a bias was clipped.
    declared, lost : int
        Connections of the float network, and those rounded to zero.
    headroom : float
        Largest possible synaptic current, as a share of the range; above 1 it may wrap.
    reset_error : float
        Largest error of what a spike subtracts, over the threshold of its neuron; 0 for a reset to zero.
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
    reset_error: float = 0.0


@dataclass(frozen=True)
class Scaling:
    """Scaling of a group relative to the formula of :func:`scale_and_exponents`.

    Attributes
    ----------
    factor : float
        Multiplies the scale; above 1 the largest weights are clipped unless ``shift`` makes room.
    shift : int
        Added to the exponents of all connections.
    """

    factor: float = 1.0
    shift: int = 0


BY_FORMULA = Scaling()


def quantise(
    group: FloatGroup,
    incoming: Sequence[FloatConnection],
    arithmetic: Arithmetic,
    steps: int = 1,
    payload: InputFormat = SPIKES,
    scaling: Scaling = BY_FORMULA,
    *,
    single_spikes: bool = False,
) -> tuple[tuple[Connection, ...], Group, QuantisationError]:
    """Round one group and the connections that feed it to integers.

    With the scale ``S`` and the exponents ``e`` of :func:`scale_and_exponents`::

        W_int = 2 round(S W / 2**e / 2);  vth = round(S threshold);  du = round(4096 du) - 1;  dv = round(4096 dv)

    Even weights pass through the chip's 8-bit formats unchanged, whatever their signs.

    Parameters
    ----------
    group : FloatGroup
        The neurons.
    incoming : sequence of FloatConnection
        All connections that feed them.
    arithmetic : Arithmetic
        Integer formats of the chip.
    steps : int
        Time steps per sample, during which a potential readout accumulates.
    payload : InputFormat
        Format of the input.
    scaling : Scaling
        Deviation from the formula.
    single_spikes : bool
        Whether all sources fire at most once per sample.
    """
    wanted = tuple(per_payload(connection, payload) for connection in incoming)
    scale, exponents = scale_and_exponents(group, wanted, arithmetic, steps, payload, single_spikes=single_spikes)
    scale *= scaling.factor
    exponents = [_within(exponent + scaling.shift, arithmetic) for exponent in exponents]
    rounded = [
        _round_connection(each, scale, exponent, arithmetic) for each, exponent in zip(wanted, exponents, strict=True)
    ]
    connections = tuple(connection for connection, _ in rounded)
    pairs = [(_values(each.weights), values) for each, (_, values) in zip(wanted, rounded, strict=True)]
    neurons = _round_group(group, scale, arithmetic)
    return connections, neurons, measure_error(group, pairs, connections, neurons, arithmetic, payload)


def _round_connection(
    connection: FloatConnection, scale: float, exponent: int, arithmetic: Arithmetic
) -> tuple[Connection, Floats]:
    """Round the weights of a connection; return them also in float units."""
    values = round_weights(_values(connection.weights), scale / 2.0**exponent, arithmetic).astype(np.int32)
    weights = _with_values(connection.weights, values)
    rounded = Connection(connection.source, connection.target, weights, exponent, connection.declared, connection.delay)
    return rounded, np.asarray(values * 2.0**exponent / scale, dtype=np.float64)


def _round_group(group: FloatGroup, scale: float, arithmetic: Arithmetic) -> Group:
    """Round decays, thresholds and biases."""
    bias_mant, bias_exp = bias_format(group.bias * scale * (1 << POTENTIAL_SHIFT), arithmetic)
    vth = round_thresholds(group.threshold, scale, arithmetic).astype(np.int64)
    dv = round_potential_decay(group.dv, arithmetic).astype(np.int64)
    return Group(
        name=group.name,
        du=round_current_decay(group.du, arithmetic).astype(np.int64),
        dv=dv,
        vth=vth,
        bias_mant=bias_mant.astype(np.int64),
        bias_exp=bias_exp.astype(np.int64),
        scale=scale,
        reset_by=_round_reset(group, vth, dv, arithmetic),
    )


def _round_reset(
    group: FloatGroup, vth: NDArray[np.int64], dv: NDArray[np.int64], arithmetic: Arithmetic
) -> NDArray[np.int64] | None:
    """Return what a spike subtracts, in units of ``v``: the rounded threshold, before or after a rounded leak."""
    if group.reset_by is None:
        return None
    kept = np.where(np.isclose(group.reset_by, group.threshold, rtol=1e-9, atol=0), DECAY_ONE, DECAY_ONE - dv)
    subtracted = np.rint((vth << POTENTIAL_SHIFT) / (kept / DECAY_ONE)).astype(np.int64)
    return np.minimum(subtracted, arithmetic.ranges["reset_by"][1])


def scale_and_exponents(
    group: FloatGroup,
    incoming: Sequence[FloatConnection],
    arithmetic: Arithmetic,
    steps: int,
    payload: InputFormat,
    *,
    single_spikes: bool = False,
) -> tuple[float, list[int]]:
    """Return integer units per float unit, and the weight exponent of each connection.

    All connections of a group share the scale. A connection whose largest weight is smaller by a power of two gets
    that power as a negative exponent, so that its weights use the whole range too. There are three cases:

    - Binary spikes into neurons that fire: the largest weight sets the scale; see :func:`_by_weights`.
    - Graded spikes, and groups whose potential is read: the largest potential bounds the scale; see
      :func:`_by_potential`.
    - Neurons that receive and emit one spike per sample: see :func:`_by_single_spikes`.
    """
    largest = [float(np.abs(_values(each.weights)).max(initial=0)) for each in incoming]
    if single_spikes and group.fires:
        return _by_single_spikes(group, incoming, largest, arithmetic, steps, payload)
    if group.fires and any(largest) and not _is_graded(incoming, payload):
        return _by_weights(group, incoming, largest, arithmetic, steps)
    return _by_potential(group, incoming, largest, arithmetic, steps, payload)


def _by_potential(
    group: FloatGroup,
    incoming: Sequence[FloatConnection],
    largest: Sequence[float],
    arithmetic: Arithmetic,
    steps: int,
    payload: InputFormat,
) -> tuple[float, list[int]]:
    """Bound the scale by the largest current or potential, and keep the weights fine with negative exponents."""
    graded, has_weights = _is_graded(incoming, payload), any(largest)
    bounds = [] if graded else _weight_bound(largest, arithmetic.weight_max)
    if group.fires:
        bounds += _threshold_bound(group, arithmetic)
    if graded or not group.fires:
        current, potential = _largest_potential(group, incoming, steps, payload)
        bounds += _range_bound(current if group.fires else potential, arithmetic)
    if graded or not has_weights:  # weights lose nothing by it, their exponents follow
        bounds += _bias_bound(group, arithmetic)
    scale = min(bounds, default=1.0)
    return scale, _exponents(largest, scale, arithmetic)


def _by_single_spikes(
    group: FloatGroup,
    incoming: Sequence[FloatConnection],
    largest: Sequence[float],
    arithmetic: Arithmetic,
    steps: int,
    payload: InputFormat,
) -> tuple[float, list[int]]:
    """Return the largest scale with which thresholds and potentials fit; the exponents follow it.

    These neurons have no leak, and their inputs arrive one by one. An exponent below -1 would round down in almost
    every step, by half a unit on average, and the sum of these errors would delay the neuron. So no exponent is below
    -1, and weights that are too small for that lose bits instead. A spike into a neuron without leak finally adds
    ``w / du``, as large as the current that it would cause if it were repeated in every step.
    """
    current, _ = _largest_potential(group, incoming, steps, payload)
    bounds = [*_threshold_bound(group, arithmetic), *_range_bound(current, arithmetic), *_bias_bound(group, arithmetic)]
    if not _is_graded(incoming, payload):
        bounds += _weight_bound(largest, arithmetic.weight_max * 2.0**arithmetic.weight_exp_max)
    scale = min(bounds)
    return scale, [max(each, EXACT_EXPONENT) for each in _exponents(largest, scale, arithmetic)]


def _is_graded(incoming: Sequence[FloatConnection], payload: InputFormat) -> bool:
    return payload.bits > 1 and any(each.source == INPUT for each in incoming)


def _weight_bound(largest: Sequence[float], reach: float) -> list[float]:
    """Return the scale at which the largest weight is ``reach``, without weights nothing."""
    strongest = max(largest, default=0.0)
    return [reach / strongest] if strongest else []


def _threshold_bound(group: FloatGroup, arithmetic: Arithmetic) -> list[float]:
    return [(2**arithmetic.threshold_bits - 1) / float(group.threshold.max())]


def _range_bound(reached: float, arithmetic: Arithmetic) -> list[float]:
    return [RANGE_USED * (2**arithmetic.threshold_bits - 1) / reached] if reached > 0 else []


def _bias_bound(group: FloatGroup, arithmetic: Arithmetic) -> list[float]:
    if not np.any(group.bias != 0):
        return []
    largest = (2 ** (arithmetic.bias_mantissa_bits - 1) - 1) << (2**arithmetic.bias_exponent_bits - 1)
    return [float(largest / (np.abs(group.bias).max() * (1 << POTENTIAL_SHIFT)))]


def _exponents(largest: Sequence[float], scale: float, arithmetic: Arithmetic) -> list[int]:
    """Return the exponent with which each largest weight uses the weight range."""
    return [_exponent(value * scale / arithmetic.weight_max, arithmetic) if value else 0 for value in largest]


def _by_weights(
    group: FloatGroup, incoming: Sequence[FloatConnection], largest: Sequence[float], arithmetic: Arithmetic, steps: int
) -> tuple[float, list[int]]:
    """Let the largest weight use the whole weight range, ``S = 254 2**e / max|W|``.

    The exponent ``e`` is that of :func:`~esl_neuro.hardware.rounding.weight_exponent`: 0 unless a threshold would not
    fit or the current might wrap.
    """
    strongest = max(largest)
    exponents = [_exponent(value / strongest, arithmetic) if value else 0 for value in largest]
    arriving = np.zeros(group.neurons)
    for each, exponent in zip(incoming, exponents, strict=True):
        factor = arithmetic.weight_max / strongest / 2.0**exponent
        integers = round_weights(_values(each.weights), factor, arithmetic)
        arriving += _largest_sum(_with_values(each.weights, integers)) * 2.0**exponent
    shift = weight_exponent(
        strongest,
        (float(group.threshold.min()), float(group.threshold.max())),
        float(arriving.max()),
        arithmetic,
        steps_kept=float(_steps_kept(group.du, steps).max()),
        connections=len(incoming),
    )
    scale = group_scale(strongest, float(group.threshold.max()), arithmetic, exponent=shift)
    return scale, [max(exponent + shift, arithmetic.weight_exp_min) for exponent in exponents]


def _exponent(ratio: float, arithmetic: Arithmetic) -> int:
    """Return the smallest exponent whose power of two is at least a ratio, within the range of the chip."""
    return _within(math.ceil(math.log2(ratio) - 1e-9), arithmetic)


def _within(exponent: int, arithmetic: Arithmetic) -> int:
    return min(max(exponent, arithmetic.weight_exp_min), arithmetic.weight_exp_max)


def _largest_potential(
    group: FloatGroup, incoming: Sequence[FloatConnection], steps: int, payload: InputFormat
) -> tuple[float, float]:
    """Bound the synaptic current and, for a group that is never reset, the potential, in float units."""
    per_step = sum(
        (_signed_sums(each.weights) * (payload.largest if each.source == INPUT else 1) for each in incoming),
        np.zeros((2, group.neurons)),
    ).max(axis=0)
    current = per_step * _steps_kept(group.du, steps)
    potential = (current + np.abs(group.bias)) * _steps_kept(group.dv, steps)
    return float(current.max(initial=0)), float(potential.max(initial=0))


def _steps_kept(decay: Floats, steps: int) -> Floats:
    """Sum of what remains of a constant input after ``steps`` steps: ``(1 - (1 - decay)**steps) / decay``."""
    small = decay < 1e-9
    return np.where(small, steps, (1 - (1 - decay) ** steps) / np.where(small, 1, decay))


def _largest_sum(weights: Weights) -> Floats:
    """Bound ``|W s|`` of each target for 0/1 spikes, shape (targets,)."""
    largest: Floats = _signed_sums(weights).max(axis=0)
    return largest


def _signed_sums(weights: Weights) -> Floats:
    """Sum the positive weights of each target, and the sizes of the negative ones, shape (2, targets).

    For a kernel, away from the border.
    """
    if isinstance(weights, Kernel):
        parts = [part.sum(axis=(1, 2, 3)) for part in (np.maximum(weights.weights, 0), np.maximum(-weights.weights, 0))]
        _, rows, columns = weights.output_shape
        return np.repeat(np.array(parts, dtype=np.float64), rows * columns, axis=1)
    parts = [np.asarray(part.sum(axis=1)).ravel() for part in (weights.maximum(0), -weights.minimum(0))]
    return np.array(parts, dtype=np.float64)


def _values(weights: Weights) -> Floats:
    values = weights.weights if isinstance(weights, Kernel) else weights.data
    return np.asarray(values, dtype=np.float64)


def per_payload(connection: FloatConnection, payload: InputFormat) -> FloatConnection:
    """Write the weights of the input per unit of payload."""
    if connection.source != INPUT or payload.scale == 1:
        return connection
    weights = connection.weights
    if isinstance(weights, Kernel):
        return replace(connection, weights=replace(weights, weights=weights.weights / payload.scale))
    return replace(connection, weights=weights / payload.scale)


def _with_values(weights: Weights, values: NDArray[Any]) -> Weights:
    if isinstance(weights, Kernel):
        return replace(weights, weights=values)
    matrix = sp.csr_matrix((values, weights.indices, weights.indptr), shape=weights.shape, copy=True)
    matrix.eliminate_zeros()
    return matrix


def measure_error(
    group: FloatGroup,
    pairs: Sequence[tuple[Floats, Floats]],
    connections: Sequence[Connection],
    rounded: Group,
    arithmetic: Arithmetic,
    payload: InputFormat,
) -> QuantisationError:
    """Compare a rounded group with the original; ``pairs`` are the weights before and after rounding."""
    squares = sum(float(np.sum(values**2)) for values, _ in pairs)
    missed = sum(float(np.sum((got - values)[values != 0] ** 2)) for values, got in pairs)
    bias = (rounded.bias_mant << rounded.bias_exp) / 2.0**POTENTIAL_SHIFT
    largest = (2**arithmetic.threshold_bits - 1) / rounded.scale
    thresholds = group.threshold if group.fires else np.full(group.neurons, largest)
    decays = [(rounded.du + 1) / DECAY_ONE - group.du, rounded.dv / DECAY_ONE - group.dv]
    declared = sum(each.declared for each in connections)
    return QuantisationError(
        layer=group.name,
        scale=rounded.scale,
        weight_error=math.sqrt(missed / squares) if squares else 0.0,
        threshold_error=float(np.max(np.abs(rounded.vth / rounded.scale / thresholds - 1))) if group.fires else 0.0,
        decay_error=float(max(np.max(np.abs(decay)) for decay in decays)),
        bias_error=float(np.max(np.abs(bias / rounded.scale - group.bias) / thresholds)),
        declared=declared,
        lost=declared - sum(each.stored for each in connections),
        headroom=largest_current(connections, rounded, payload) / 2 ** (arithmetic.potential_bits - 1),
        reset_error=_reset_error(group, rounded),
    )


def _reset_error(group: FloatGroup, rounded: Group) -> float:
    if group.reset_by is None or rounded.reset_by is None:
        return 0.0
    subtracted = rounded.reset_by / 2.0**POTENTIAL_SHIFT / rounded.scale
    return float(np.max(np.abs(subtracted - group.reset_by) / group.threshold))


def largest_current(connections: Sequence[Connection], group: Group, payload: InputFormat) -> float:
    """Bound the synaptic current ``|u|`` for sources that fire at every step without end.

    A negative sum that is shifted right is rounded away from zero.
    """
    arriving = sum(
        (
            np.ceil(
                _signed_sums(each.weights) * 2.0**each.weight_exp * (payload.largest if each.source == INPUT else 1)
            )
            for each in connections
        ),
        np.zeros((2, group.neurons)),
    )
    lost = (group.du + 1) / DECAY_ONE
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = np.where(arriving > 0, arriving * 2.0**POTENTIAL_SHIFT / lost, 0)
    return float(bound.max(initial=0))
