"""Round floating-point groups to the integers of the chip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from esl_neuro.compiler.network import FloatConnection, FloatGroup, FloatNetwork
from esl_neuro.compiler.program import INPUT, Connection, Group, Program, Weights
from esl_neuro.hardware.arithmetic import DECAY_ONE, POTENTIAL_SHIFT, Arithmetic
from esl_neuro.hardware.rounding import (
    EXACT_EXPONENT,
    SPIKES,
    TIE,
    InputFormat,
    Rows,
    bias_format,
    largest_bias,
    largest_used,
    lattice_thresholds,
    one_threshold,
    potential_lattice,
    round_current_decay,
    round_potential_decay,
    round_thresholds,
    round_weights,
    rounding_bias,
    rounding_loss,
    row_formats,
    steps_kept,
)
from esl_neuro.nirgraph.kernel import Kernel
from esl_neuro.nirgraph.linear_maps import Floats

MOST_TRIED = 2**28  # weights times scales that are tried; takes a few seconds
SCALES_TRIED = 127  # between 0 and 1 times the weight range, also where few bits have few steps
LEAST_CLIPPED = 0.75  # of the largest weight used: one of the scales down to half of it is chosen
NO_ERROR = 1e-5  # of a weight step, squared: single precision
RANGE_USED = 0.95  # share of the range of u or v that a bound may use; rounding may use the rest


@dataclass(frozen=True)
class QuantisationError:
    """Rounding errors of one layer.

    Attributes
    ----------
    layer : str
        Name of the layer.
    scale : float
        Integer units per unit of the float network: the median over the neurons.
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
    factor : float or tuple of float
        Multiplies the scale of all neurons, or of each; above 1 the largest weights are clipped unless ``shift`` makes
        room.
    shift : int
        Added to the exponents of all connections.
    weight_bits : int, optional
        Bits of the weights of all connections, if fewer than the chip's.
    """

    factor: float | tuple[float, ...] = 1.0
    shift: int = 0
    weight_bits: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.factor, list):  # as JSON has it
            object.__setattr__(self, "factor", tuple(self.factor))


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

    With the scale ``S_i`` of each neuron and the exponents ``e`` of :func:`scale_and_exponents`::

        W_int = 2 round(S_i W / 2**e / 2);  vth = round(S_i threshold);  du = round(4096 du) - 1;  dv = round(4096 dv)

    Even weights pass through the chip's 8-bit formats unchanged, whatever their signs. Thresholds of potentials on a
    lattice lie between its points (:func:`~esl_neuro.hardware.rounding.lattice_thresholds`), and a bias makes up for
    sums that are rounded down (:func:`~esl_neuro.hardware.rounding.rounding_bias`).

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
    arithmetic = arithmetic.with_weight_bits(scaling.weight_bits)
    wanted = tuple(per_payload(connection, payload) for connection in incoming)
    scale, exponents = scale_and_exponents(
        group, wanted, arithmetic, steps, payload, scaling.weight_bits, single_spikes=single_spikes
    )
    scale = scale * np.asarray(scaling.factor)
    exponents = [_within(exponent + scaling.shift, arithmetic) for exponent in exponents]
    rounded = [
        _round_connection(each, scale, exponent, arithmetic) for each, exponent in zip(wanted, exponents, strict=True)
    ]
    connections = tuple(replace(connection, weight_bits=scaling.weight_bits) for connection, _ in rounded)
    pairs = [(_values(each.weights), values) for each, (_, values) in zip(wanted, rounded, strict=True)]
    neurons = _round_group(group, scale, connections, arithmetic, steps)
    return connections, neurons, measure_error(group, pairs, connections, neurons, arithmetic, payload, steps)


def round_as_0_1_0(
    network: FloatNetwork, stored: Program, payload: InputFormat
) -> tuple[tuple[Connection, ...], tuple[Group, ...]]:
    """Round a network with the scales and exponents of a program of version 0.1.0, by the rules of that version.

    It rounded every threshold to the nearest integer, and had no bias that makes up for rounded sums.
    """
    arithmetic, scales = stored.formats, {group.name: group.scale for group in stored.groups}
    connections = tuple(
        _round_connection(per_payload(each, payload), scales[each.target], rounded.weight_exp, arithmetic)[0]
        for each, rounded in zip(network.connections, stored.connections, strict=True)
    )
    groups = []
    for group in network.groups:
        scale = scales[group.name]
        bias_mant, bias_exp = bias_format(group.bias * scale * (1 << POTENTIAL_SHIFT), arithmetic)
        integers = {
            "du": round_current_decay(group.du, arithmetic),
            "dv": round_potential_decay(group.dv, arithmetic),
            "vth": round_thresholds(group.threshold, scale, arithmetic),
            "bias_mant": bias_mant,
            "bias_exp": bias_exp,
        }
        groups.append(
            Group(group.name, **{name: each.astype(np.int64) for name, each in integers.items()}, scale=scale)
        )
    return connections, tuple(groups)


def _round_connection(
    connection: FloatConnection, scale: Floats, exponent: int, arithmetic: Arithmetic
) -> tuple[Connection, Floats]:
    """Round the weights of a connection; return them also in float units."""
    unit = _of_weights(connection.weights, scale) / 2.0**exponent
    values = round_weights(_values(connection.weights) * unit, 1.0, arithmetic)
    weights = _with_values(connection.weights, values.astype(np.int32))
    rounded = Connection(connection.source, connection.target, weights, exponent, connection.declared, connection.delay)
    return rounded, np.asarray(values / unit, dtype=np.float64)


def _round_group(
    group: FloatGroup, scale: Floats, connections: Sequence[Connection], arithmetic: Arithmetic, steps: int
) -> Group:
    """Round decays, thresholds and biases."""
    du, dv = round_current_decay(group.du, arithmetic), round_potential_decay(group.dv, arithmetic)
    levels = group.threshold if group.fires else (2**arithmetic.threshold_bits - 1) / scale
    more = rounding_bias(_rounding_losses(connections, arithmetic), du, dv, levels * scale, steps)
    bias_mant, bias_exp = bias_format(group.bias * scale * (1 << POTENTIAL_SHIFT) + more, arithmetic)
    bias = bias_mant * 2.0**bias_exp
    lattice = _lattice(group, connections, du, dv, bias, arithmetic)
    vth = lattice_thresholds(levels, scale, lattice * group.fires, bias, arithmetic).astype(np.int64)
    return Group(
        name=group.name,
        du=du.astype(np.int64),
        dv=dv.astype(np.int64),
        vth=vth,
        bias_mant=bias_mant.astype(np.int64),
        bias_exp=bias_exp.astype(np.int64),
        scale=scale,
        reset_by=_round_reset(group, vth, dv, arithmetic),
    )


def _lattice(
    group: FloatGroup, connections: Sequence[Connection], du: Floats, dv: Floats, bias: Floats, arithmetic: Arithmetic
) -> Floats:
    """Return the distance of the points on which potentials lie, 0 for none: a subtracted threshold leaves any."""
    exponent = min((each.weight_exp for each in connections if each.stored), default=0)
    lattice = potential_lattice(du, dv, bias, exponent, arithmetic)
    return np.asarray(lattice * (group.reset_by is None), dtype=np.float64)


def _round_reset(
    group: FloatGroup, vth: NDArray[np.int64], dv: Floats, arithmetic: Arithmetic
) -> NDArray[np.int64] | None:
    """Return what a spike subtracts, in units of ``v``: the rounded threshold, before or after a rounded leak."""
    if group.reset_by is None:
        return None
    kept = np.where(np.isclose(group.reset_by, group.threshold, rtol=1e-9, atol=0), DECAY_ONE, DECAY_ONE - dv)
    subtracted = np.rint((vth << POTENTIAL_SHIFT) / (kept / DECAY_ONE)).astype(np.int64)
    return np.minimum(subtracted, arithmetic.ranges["reset_by"][1])


def _rounding_losses(connections: Sequence[Connection], arithmetic: Arithmetic) -> Floats:
    """Return by how much the sums of each neuron are rounded down on average, shape (neurons,)."""
    losses = [
        (each.fan_in > 0) * rounding_loss(each.weight_exp, arithmetic.with_weight_bits(each.weight_bits))
        for each in connections
    ]
    return np.asarray(np.sum(losses, axis=0), dtype=np.float64)


def biases(program: Program, group: Group) -> Floats:
    """Return the biases of a group in units of ``v``, without the part that makes up for rounding, shape (neurons,)."""
    loss = _rounding_losses(program.incoming(group.name), program.formats)
    du, dv, vth = (values.astype(np.float64) for values in (group.du, group.dv, group.vth))
    return (group.bias_mant << group.bias_exp) - rounding_bias(loss, du, dv, vth, program.steps)


def scale_and_exponents(
    group: FloatGroup,
    incoming: Sequence[FloatConnection],
    arithmetic: Arithmetic,
    steps: int,
    payload: InputFormat,
    weight_bits: int | None = None,
    *,
    single_spikes: bool = False,
) -> tuple[Floats, list[int]]:
    """Return integer units per float unit of each neuron, and the weight exponent of each connection.

    There are three cases:

    - Neurons that fire: each row has a scale of its own, see :func:`~esl_neuro.hardware.rounding.row_formats`.
    - Neurons that receive and emit one spike per sample: likewise, see :func:`_by_single_spikes`.
    - Groups whose potential is read: one scale, bounded by the largest potential; see :func:`_by_potential`.

    With fewer ``weight_bits`` than the chip's, whose range ``arithmetic`` has, the largest weights are clipped; see
    :func:`~esl_neuro.hardware.rounding.largest_used`.

    Connections from one source that differ in their delays have the same exponent.
    Neurons that share the weights of a kernel share their scale. Where the chip has one threshold for a group, each
    scale is such that all thresholds become the same integer.

    Returns
    -------
    scale : float64 array, shape (neurons,)
    exponents : list of int
    """
    shared = neurons_per_row(incoming)
    if not group.fires:
        common, exponents = _by_potential(group, incoming, arithmetic, steps, payload, weight_bits)
        return np.full(group.neurons, common), exponents
    if single_spikes:
        scale, exponents = _by_single_spikes(group, incoming, arithmetic, steps, payload, weight_bits)
    else:
        rows = _rows(group, incoming, shared, arithmetic, steps, payload, weight_bits)
        scale, exponents = row_formats(rows, arithmetic)
        scale = scale * _finest(group, incoming, scale, exponents, arithmetic)
    if arithmetic.thresholds_per == "group":
        scale = one_threshold(_per_row(group.threshold, shared).max(axis=1), scale)
    return np.repeat(scale, shared), exponents


def _finest(
    group: FloatGroup,
    incoming: Sequence[FloatConnection],
    scale: Floats,
    exponents: Sequence[int],
    arithmetic: Arithmetic,
) -> Floats:
    """Return by which factor a smaller scale makes the rounding errors of each row smallest, shape (rows,).

    Between 1/2 and 1 of the weight range, errors of one row differ from scale to scale. With errors ``d`` of weights
    whose sources fire independently in one step of three, the least mean square error of their sum has the least
    ``sum(d**2) + sum(d)**2 / 2``. What is clipped is an error like any other. Numbers that already are whole
    numbers, as after training on integers, have no error at some scale, and stay exact; of several such scales, one
    counts whose threshold is exact too.
    """
    shared = neurons_per_row(incoming)
    weights = sum(_values(each.weights).size for each in incoming)
    largest, spacing = arithmetic.weight_max, float(arithmetic.weight_step)
    levels = largest // arithmetic.weight_step
    finest = min(arithmetic.weight_step, max(1, largest // SCALES_TRIED))
    step = finest * max(1, weights * largest // (2 * finest * MOST_TRIED))
    factors = np.arange(largest, largest // 2, -step) / largest
    units = [2.0 ** (exponent - max(exponents)) for exponent in exponents]
    wanted = [
        _values(each.weights) * _of_weights(each.weights, np.repeat(scale, shared)) / 2.0**exponent / spacing
        for each, exponent in zip(incoming, exponents, strict=True)
    ]
    costs = np.zeros((len(factors), len(scale)))
    for cost, factor in zip(costs, factors, strict=True):
        sums, squares = np.zeros((2, len(scale)))
        for each, values, unit in zip(incoming, wanted, units, strict=True):
            errors = values * factor
            errors -= np.clip(np.rint(errors), -levels, levels)
            sums += _sums_of_rows(each.weights, errors, shared) * unit
            squares += _sums_of_rows(each.weights, np.square(errors, out=errors), shared) * unit**2
        level = _per_row(group.threshold, shared) * (scale * factor)[:, None]
        missed = np.abs(level - np.rint(level)).max(axis=1)
        cost[:] = (squares + sums**2 / 2) / factor**2
        cost[:] = np.where(cost < NO_ERROR, NO_ERROR * missed * (missed > TIE), cost)
    return np.asarray(factors[np.argmin(costs, axis=0)])


def _sums_of_rows(weights: Weights, values: Floats, shared: int) -> Floats:
    """Sum values of weights by row; a kernel's weights count once."""
    if isinstance(weights, Kernel):
        channels = values.sum(axis=(1, 2, 3))
        return np.asarray(channels.reshape(-1, shared * len(channels) // weights.shape[0]).sum(axis=1))
    sums = np.zeros(weights.shape[0])
    filled = np.diff(weights.indptr) > 0
    if filled.any():
        sums[filled] = np.add.reduceat(values, weights.indptr[:-1][filled])
    return np.asarray(_per_row(sums, shared).sum(axis=1))


def neurons_per_row(incoming: Sequence[FloatConnection]) -> int:
    """Return how many neurons share weights: the positions of the channels of kernels, else 1.

    If several kernels feed a group, blocks of neurons that share anything are merged.
    """
    positions = [math.prod(each.weights.output_shape[1:]) for each in incoming if isinstance(each.weights, Kernel)]
    return math.lcm(*positions)


def _rows(
    group: FloatGroup,
    incoming: Sequence[FloatConnection],
    shared: int,
    arithmetic: Arithmetic,
    steps: int,
    payload: InputFormat,
    weight_bits: int | None,
) -> Rows:
    """Return what determines the formats of a group that fires."""
    thresholds = _per_row(group.threshold, shared)

    def sums(unit: Floats, exponents: Sequence[int]) -> Floats:
        arriving = np.zeros(group.neurons)
        for each, exponent in zip(incoming, exponents, strict=True):
            factor = _of_weights(each.weights, np.repeat(unit, shared)) / 2.0**exponent
            integers = _with_values(each.weights, round_weights(_values(each.weights) * factor, 1.0, arithmetic))
            arriving += _largest_sum(integers) * 2.0**exponent * (payload.largest if each.source == INPUT else 1)
        return np.asarray(_per_row(arriving, shared).max(axis=1))

    return Rows(
        largest=_largest(group, incoming, shared, weight_bits) * (1 if weight_bits is None else LEAST_CLIPPED),
        thresholds=np.stack([thresholds.min(axis=1), thresholds.max(axis=1)]),
        bias=_per_row(np.abs(group.bias), shared).max(axis=1),
        steps_kept=_per_row(steps_kept(group.du, steps), shared).max(axis=1),
        sums=sums,
        graded=_is_graded(incoming, payload),
    )


def _largest(
    group: FloatGroup, incoming: Sequence[FloatConnection], shared: int, weight_bits: int | None = None
) -> Floats:
    """Return the largest weight of each source and row that few bits do not clip, shape (connections, rows).

    The synapses of a source are one list on the chip, whatever their delays, so its connections share their exponent.
    """
    largest: dict[str, Floats] = {}
    for each in incoming:
        own = _per_row(_largest_weights(each.weights), shared).max(axis=1)
        if weight_bits is not None:
            own = largest_used(own, _root_mean_squares(each.weights, shared), weight_bits)
        largest[each.source] = np.maximum(own, largest.get(each.source, 0.0))
    rows = [largest[each.source] for each in incoming]
    return np.array(rows, dtype=np.float64).reshape(len(incoming), group.neurons // shared)


def _root_mean_squares(weights: Weights, shared: int) -> Floats:
    """Return the root mean square of the weights of each row that are not zero, shape (rows,)."""
    values = _values(weights)
    squares, there = (_sums_of_rows(weights, each, shared) for each in (values**2, (values != 0).astype(np.float64)))
    return np.sqrt(squares / np.maximum(there, 1))


def _largest_weights(weights: Weights) -> Floats:
    """Return the largest ``|W|`` of each neuron, shape (neurons,)."""
    if isinstance(weights, Kernel):
        channels = np.abs(weights.weights).max(axis=(1, 2, 3), initial=0)
        return np.repeat(channels, math.prod(weights.output_shape[1:]))
    largest = np.zeros(weights.shape[0])
    if weights.nnz:
        filled = np.diff(weights.indptr) > 0
        largest[filled] = np.maximum.reduceat(np.abs(weights.data), weights.indptr[:-1][filled])
    return largest


def _per_row(values: Floats, shared: int) -> Floats:
    """Arrange values of neurons by row, shape (rows, neurons per row)."""
    return values.reshape(-1, shared)


def _of_weights(weights: Weights, values: Floats) -> Floats:
    """Repeat a value of each neuron for all weights into it, so that it broadcasts with :func:`_values`."""
    if isinstance(weights, Kernel):
        channels, rows, columns = weights.output_shape
        return values.reshape(channels, rows * columns)[:, 0].reshape(channels, 1, 1, 1)
    return np.repeat(values, np.diff(weights.indptr))


def _by_potential(
    group: FloatGroup,
    incoming: Sequence[FloatConnection],
    arithmetic: Arithmetic,
    steps: int,
    payload: InputFormat,
    weight_bits: int | None,
) -> tuple[float, list[int]]:
    """Bound the scale by the largest potential, and keep the weights fine with negative exponents.

    The potentials of the neurons are compared with each other, so they share the scale.
    """
    graded = _is_graded(incoming, payload)
    largest = _largest(group, incoming, neurons_per_row(incoming), weight_bits).max(axis=1, initial=0).tolist()
    _, potential = _largest_potential(group, incoming, steps, payload)
    bounds = [_range_scale(float(potential.max(initial=0)), arithmetic)]
    if not graded and any(largest):
        bounds.append(arithmetic.weight_max / max(largest))
    if graded or not any(largest):  # weights lose nothing by it, their exponents follow
        bounds.append(_bias_scale(float(np.abs(group.bias).max(initial=0)), arithmetic))
    scale = min(bounds)
    scale = scale if math.isfinite(scale) else 1.0
    return scale, [_exponent(value * scale / arithmetic.weight_max, arithmetic) if value else 0 for value in largest]


def _by_single_spikes(
    group: FloatGroup,
    incoming: Sequence[FloatConnection],
    arithmetic: Arithmetic,
    steps: int,
    payload: InputFormat,
    weight_bits: int | None,
) -> tuple[Floats, list[int]]:
    """Return the largest scale of each row with which thresholds and potentials fit; the exponents follow it.

    These neurons have no leak, and their inputs arrive one by one. An exponent below -1 would round down in almost
    every step, by half a unit on average, and the sum of these errors would delay the neuron. So no exponent is below
    -1, and weights that are too small for that lose bits instead. A spike into a neuron without leak finally adds
    ``w / du``, as large as the current that it would cause if it were repeated in every step.
    """
    shared = neurons_per_row(incoming)
    current, _ = _largest_potential(group, incoming, steps, payload)
    largest = _largest(group, incoming, shared, weight_bits)
    bounds = [
        (2**arithmetic.threshold_bits - 1) / _per_row(group.threshold, shared).max(axis=1),
        _range_scale(_per_row(current, shared).max(axis=1), arithmetic),
        _bias_scale(_per_row(np.abs(group.bias), shared).max(axis=1), arithmetic),
    ]
    if not _is_graded(incoming, payload):
        with np.errstate(divide="ignore"):
            bounds.append(arithmetic.weight_max * 2.0**arithmetic.weight_exp_max / largest.max(axis=0, initial=0))
    scale = np.minimum.reduce(bounds)
    ratios = [float((each * scale).max(initial=0)) / arithmetic.weight_max for each in largest]
    return scale, [max(_exponent(ratio, arithmetic), EXACT_EXPONENT) if ratio else 0 for ratio in ratios]


def _is_graded(incoming: Sequence[FloatConnection], payload: InputFormat) -> bool:
    return payload.bits > 1 and any(each.source == INPUT for each in incoming)


def _range_scale(reached: Any, arithmetic: Arithmetic) -> Any:
    """Return the scale with which the largest current or potential fits; infinite if it is 0."""
    with np.errstate(divide="ignore"):
        return RANGE_USED * (2**arithmetic.threshold_bits - 1) / np.float64(reached)


def _bias_scale(bias: Any, arithmetic: Arithmetic) -> Any:
    """Return the scale with which the largest bias fits; infinite if it is 0."""
    with np.errstate(divide="ignore"):
        return largest_bias(arithmetic) / 2.0**POTENTIAL_SHIFT / np.float64(bias)


def _exponent(ratio: float, arithmetic: Arithmetic) -> int:
    """Return the smallest exponent whose power of two is at least a ratio, within the range of the chip."""
    return _within(math.ceil(math.log2(ratio) - 1e-9), arithmetic)


def _within(exponent: int, arithmetic: Arithmetic) -> int:
    return min(max(exponent, arithmetic.weight_exp_min), arithmetic.weight_exp_max)


def _largest_potential(
    group: FloatGroup, incoming: Sequence[FloatConnection], steps: int, payload: InputFormat
) -> tuple[Floats, Floats]:
    """Bound the synaptic current and, for a group that is never reset, the potential of each neuron, in float units."""
    per_step = sum(
        (_signed_sums(each.weights) * (payload.largest if each.source == INPUT else 1) for each in incoming),
        np.zeros((2, group.neurons)),
    ).max(axis=0)
    current = per_step * steps_kept(group.du, steps)
    return current, (current + np.abs(group.bias)) * steps_kept(group.dv, steps)


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
    steps: int,
) -> QuantisationError:
    """Compare a rounded group with the original; ``pairs`` are the weights before and after rounding."""
    squares = sum(float(np.sum(values**2)) for values, _ in pairs)
    missed = sum(float(np.sum((got - values)[values != 0] ** 2)) for values, got in pairs)
    thresholds = group.threshold if group.fires else (2**arithmetic.threshold_bits - 1) / rounded.scale
    loss = _rounding_losses(connections, arithmetic)
    du, dv = rounded.du.astype(np.float64), rounded.dv.astype(np.float64)
    more = rounding_bias(loss, du, dv, thresholds * rounded.scale, steps)
    bias = ((rounded.bias_mant << rounded.bias_exp) - more) / 2.0**POTENTIAL_SHIFT
    decays = [(rounded.du + 1) / DECAY_ONE - group.du, rounded.dv / DECAY_ONE - group.dv]
    declared = sum(each.declared for each in connections)
    return QuantisationError(
        layer=group.name,
        scale=float(np.median(rounded.scale)),
        weight_error=math.sqrt(missed / squares) if squares else 0.0,
        threshold_error=largest_threshold_error(group, connections, rounded, arithmetic) if group.fires else 0.0,
        decay_error=float(max(np.max(np.abs(decay)) for decay in decays)),
        bias_error=float(np.max(np.abs(bias / rounded.scale - group.bias) / thresholds)),
        declared=declared,
        lost=declared - sum(each.stored for each in connections),
        headroom=largest_current(connections, rounded, payload) / 2 ** (arithmetic.potential_bits - 1),
        reset_error=_reset_error(group, rounded),
    )


def _narrowed(connections: Sequence[Connection], arithmetic: Arithmetic) -> Arithmetic:
    """Return the formats of the weights of a group, whose connections all have as many bits."""
    bits = {each.weight_bits for each in connections}
    return arithmetic.with_weight_bits(bits.pop() if bits else None)


def _reset_error(group: FloatGroup, rounded: Group) -> float:
    if group.reset_by is None or rounded.reset_by is None:
        return 0.0
    subtracted = rounded.reset_by / 2.0**POTENTIAL_SHIFT / rounded.scale
    return float(np.max(np.abs(subtracted - group.reset_by) / group.threshold))


def largest_threshold_error(
    group: FloatGroup, connections: Sequence[Connection], rounded: Group, arithmetic: Arithmetic
) -> float:
    """Return the largest relative threshold error; between two points of a lattice, a threshold has none."""
    bias = rounded.bias_mant * 2.0**rounded.bias_exp
    du, dv = rounded.du.astype(np.float64), rounded.dv.astype(np.float64)
    lattice = _lattice(group, connections, du, dv, bias, _narrowed(connections, arithmetic))
    wanted = group.threshold * rounded.scale
    free = (lattice > 0) * (np.maximum(lattice / 2, 1) + (bias != 0))
    return float(np.max(np.maximum(np.abs(rounded.vth - wanted) - free, 0) / wanted))


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
