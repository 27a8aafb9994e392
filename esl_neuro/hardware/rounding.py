"""Rounding of the numbers of a network to integers of a chip.

One set of rules for arrays and tensors: the compiler, which does not use torch, and training on the chip's integers use
these functions. The *scale* ``S`` of a neuron is integers per unit of the float network; its weights, its threshold and
its bias share it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from esl_neuro.hardware.arithmetic import DECAY_ONE, POTENTIAL_SHIFT, Arithmetic

if TYPE_CHECKING:
    from torch import Tensor

EXACT_EXPONENT = -1  # half a sum of even weights is an integer; below -1 the chip rounds sums down
ROOM = 4  # thresholds by which the potential can be below zero at least
COARSEST_VTH = 32  # a threshold may become as coarse as this to rule out that the current wraps

# What the largest integer of few bits stands for, in root mean squares of the weights: that of the uniform quantiser
# with the least mean square error for normally distributed values (Max 1960, https://doi.org/10.1109/TIT.1960.1057548).
CLIPPED_AT = {2: 1.224, 3: 1.952, 4: 2.474, 5: 2.899, 6: 3.270, 7: 3.607}

TIE = 0.01  # of a threshold unit: closer values are equal in single precision
SMALLEST_DECAY = 1e-12

Values = TypeVar("Values", "NDArray[np.float64]", "Tensor")


@dataclass(frozen=True)
class InputFormat:
    """Format of the input: how values become payloads of spikes.

    Attributes
    ----------
    bits : int
        1 for spikes of 0 and 1, else payloads are from 0 to ``2**bits - 1``.
    scale : float
        Payload per unit of the float network's input; 1 for spikes of 0 and 1.
    """

    bits: int = 1
    scale: float = 1.0

    @property
    def largest(self) -> int:
        """Largest payload."""
        return int(2**self.bits) - 1

    def payloads(self, values: Values) -> Values:
        """Round inputs to payloads, and clip them to the range."""
        return (values * self.scale).round().clip(0, self.largest)


SPIKES = InputFormat()


def wrapping_sum(arithmetic: Arithmetic) -> int:
    """Return the smallest sum of integer weights that overflows the synaptic current."""
    return int(2 ** (arithmetic.potential_bits - 1 - POTENTIAL_SHIFT))


@dataclass(frozen=True)
class Rows:
    """What determines the integer formats of a group of neurons.

    A row is the neurons that share weights: one neuron of a matrix, or all positions of a channel of a convolution.

    Attributes
    ----------
    largest : float64 array, shape (connections, rows)
        Largest ``|W|``, per unit of payload.
    thresholds : float64 array, shape (2, rows)
        Smallest and largest threshold; 0 for a readout that never fires.
    bias : float64 array, shape (rows,)
        Largest ``|bias|``.
    steps_kept : float64 array, shape (rows,)
        Synaptic current of a constant input, relative to the current of one step.
    sums : callable
        ``(unit, exponents) -> float64 array, shape (rows,)``: the largest sum that can arrive in a step, of the integer
        weights ``round_weights(W, unit / 2**exponent)`` times ``2**exponent`` and the largest payload.
    graded : bool
        Whether spikes carry payloads.
    """

    largest: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    bias: NDArray[np.float64]
    steps_kept: NDArray[np.float64]
    sums: Callable[[NDArray[np.float64], Sequence[int]], NDArray[np.float64]]
    graded: bool = False


def row_formats(rows: Rows, arithmetic: Arithmetic) -> tuple[NDArray[np.float64], list[int]]:
    """Return the scale of each row and the weight exponent of each connection.

    A reset to zero lets the numbers of each neuron have a unit of their own. So the largest weight of each row uses the
    whole weight range, ``S_i = weight_max 2**e / max_j|W_ij|``, and a row of large weights does not make the others
    coarse. All connections of a group have exponent 0, but one that is weaker in every row by a power of two has a
    negative one. They move together, by a shift:

    - up, where an exponent is below -1, as far as thresholds, biases and currents leave room: the chip rounds sums down
      below -1, and half a sum of even weights is an integer;
    - down, where a threshold or bias does not fit, or a current might wrap, as long as thresholds remain fine. A row
      that still does not fit has a smaller scale, and so coarser weights.

    Spikes of 0 and 1 rarely arrive all at once, so for them a possible wrap that remains is accepted. The shift depends
    on whole numbers only, so a network with rounded numbers has the same formats.

    Returns
    -------
    scale : float64 array, shape (rows,)
    exponents : list of int
    """
    strongest = rows.largest.max(axis=0, initial=0.0)
    exponents = _relative_exponents(rows.largest, strongest, arithmetic)
    weighted = strongest > 0
    unit = np.where(weighted, arithmetic.weight_max / np.where(weighted, strongest, 1.0), np.inf)
    fitting = _fitting_scale(rows, arithmetic)
    arriving = np.where(weighted, rows.sums(np.where(weighted, unit, 1.0), exponents), 0.0)
    shift = _shift(rows, weighted, unit, arriving, exponents, arithmetic)
    scale = np.minimum(unit * 2.0**shift, fitting)
    scale = np.where(np.isfinite(scale), scale, 1.0)
    if rows.graded:
        current = (np.where(weighted, arriving * scale / unit, 0) + len(exponents)) * rows.steps_kept
        scale = np.where(current < wrapping_sum(arithmetic), scale, scale * (wrapping_sum(arithmetic) - 1) / current)
    low, high = arithmetic.weight_exp_min, arithmetic.weight_exp_max
    return scale, [min(max(exponent + shift, low), high) for exponent in exponents]


def largest_vth(arithmetic: Arithmetic) -> int:
    """Return the largest threshold: the potential needs the range of :data:`ROOM` thresholds, up and down."""
    return int(min(2**arithmetic.threshold_bits, wrapping_sum(arithmetic) // ROOM) - 1)


def largest_bias(arithmetic: Arithmetic) -> int:
    """Return the largest bias, in units of ``v``."""
    return int((2 ** (arithmetic.bias_mantissa_bits - 1) - 1) << (2**arithmetic.bias_exponent_bits - 1))


def _relative_exponents(
    largest: NDArray[np.float64], strongest: NDArray[np.float64], arithmetic: Arithmetic
) -> list[int]:
    """Return the power of two by which each connection is weaker than the strongest one, in every row."""
    if arithmetic.weight_exp_per == "group":
        return [0] * len(largest)
    shares = [float((row[row > 0] / strongest[row > 0]).max(initial=0)) for row in largest]
    return [max(math.ceil(math.log2(share) - 1e-6), arithmetic.weight_exp_min) if share else 0 for share in shares]


def _fitting_scale(rows: Rows, arithmetic: Arithmetic) -> NDArray[np.float64]:
    """Return the largest scale of each row with which thresholds and biases fit."""
    with np.errstate(divide="ignore"):
        of_thresholds = largest_vth(arithmetic) / rows.thresholds[1]
        of_biases = largest_bias(arithmetic) / 2.0**POTENTIAL_SHIFT / rows.bias
    return np.asarray(np.minimum(of_thresholds, of_biases))


def _shift(
    rows: Rows,
    weighted: NDArray[np.bool_],
    unit: NDArray[np.float64],
    arriving: NDArray[np.float64],
    exponents: Sequence[int],
    arithmetic: Arithmetic,
) -> int:
    """Return what is added to all exponents; see :func:`row_formats`."""
    if not weighted.any():
        return 0
    unit, arriving = unit[weighted], arriving[weighted]
    smallest, largest = rows.thresholds[:, weighted] * unit
    bias, steps_kept = rows.bias[weighted] * unit * 2**POTENTIAL_SHIFT, rows.steps_kept[weighted]
    fine, coarse = 2 * arithmetic.weight_max, min(2 * arithmetic.weight_max, 2 * COARSEST_VTH)
    first = min(max(EXACT_EXPONENT - min(exponents), 0), arithmetic.weight_exp_max)
    for shift in range(first, arithmetic.weight_exp_min, -1):
        factor = 2.0**shift
        too_large = (largest * factor).round() > largest_vth(arithmetic)
        too_large |= (bias * factor).round() > largest_bias(arithmetic)
        wraps = (arriving * factor + len(exponents)) * steps_kept >= wrapping_sum(arithmetic)
        threshold = (smallest * factor).round().min()
        if shift > 0:
            lower = too_large.any() or wraps.any()
        else:
            lower = (too_large.any() and threshold >= fine) or (wraps.any() and threshold >= coarse)
        if not lower:
            return shift
    return arithmetic.weight_exp_min


def one_threshold(thresholds: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scales with which all thresholds are the same odd integer, for a chip with one threshold for a group.

    It is the largest one with which all weights fit, but at least 33: weights of many thresholds are rather clipped.
    """
    common = max(float((thresholds * scale).min() + TIE), COARSEST_VTH + 1.0) // 1
    return np.asarray((common - (common % 2 == 0)) / thresholds)


def largest_used(largest: NDArray[np.float64], root_mean_square: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    """Return the weight of each row that becomes the largest integer: with few bits, larger ones are clipped.

    With the whole range for the largest weight, most weights of a row would be less than half a step, and lost.

    Parameters
    ----------
    largest, root_mean_square : float64 array
        Of the weights of each row that are not zero.
    bits : int
        Bits of a weight; from 8 on, there are steps enough for the largest one.
    """
    clipped = CLIPPED_AT.get(bits)
    return largest if clipped is None else np.minimum(largest, clipped * root_mean_square)


def round_weights(weights: Values, scale: float, arithmetic: Arithmetic) -> Values:
    """Return ``step round(scale W / step)`` within the range of the chip.

    Even weights pass through the chip's 8-bit formats unchanged, whatever their signs.
    """
    step = arithmetic.weight_step
    steps = (weights * scale / step).round()
    return (step * steps).clip(arithmetic.weight_min, arithmetic.weight_max)


def round_thresholds(thresholds: Values, scale: Values | float, arithmetic: Arithmetic) -> Values:
    """Return ``vth = round(scale threshold)``, clipped to the range of the chip."""
    return (thresholds * scale).round().clip(0, 2**arithmetic.threshold_bits - 1)


def lattice_thresholds(
    thresholds: Values, scale: Values | float, lattice: Values, bias: Values, arithmetic: Arithmetic
) -> Values:
    """Return thresholds between two points of the lattice on which potentials lie, and elsewhere rounded ones.

    The potential of a neuron without memory, or without leak, is a multiple of ``g`` (2 for even weights). As a spike
    needs ``v > vth``, a threshold that is a multiple acts like one that is larger by ``g / 2``; and what a chip with
    ``dv = 4095`` keeps, 1/4096 of the potential, passes it in a tie. The middle between two points has neither fault::

        vth = g floor(scale threshold / g) + g // 2

    Parameters
    ----------
    thresholds, scale : float64 array or Tensor
        Thresholds, and integers per unit.
    lattice : float64 array or Tensor, shape (neurons,)
        ``g``, from :func:`potential_lattice`; 0 for a potential that is not on a lattice.
    bias : float64 array or Tensor, shape (neurons,)
        Bias in units of ``v``, which shifts the lattice.
    arithmetic : Arithmetic
        Integer formats of the chip; the result is clipped to its range.
    """
    on = lattice > 0
    spacing = lattice + ~on  # 1 where there is none
    offset = bias / 2.0**POTENTIAL_SHIFT
    points = (thresholds * scale - offset + TIE) // spacing
    middle = points * spacing + spacing // 2 - (-offset) // 1
    vth = on * middle + ~on * (thresholds * scale).round()
    return vth.clip(0, 2**arithmetic.threshold_bits - 1)


def potential_lattice(du: Values, dv: Values, bias: Values, exponent: int, arithmetic: Arithmetic) -> Values:
    """Return the distance of the points on which potentials lie, 0 where they lie on no lattice.

    A chip with one threshold for a group cannot move that of one neuron, so :func:`one_threshold` chooses it: also 0.

    Parameters
    ----------
    du, dv, bias : float64 array or Tensor, shape (neurons,)
        Integers of the neurons; ``dv = 4095`` counts as no memory.
    exponent : int
        Smallest weight exponent of the connections that feed them.
    arithmetic : Arithmetic
        Integer formats of the chip.
    """
    regular = ((dv >= DECAY_ONE - 1) | ((dv == 0) & (bias == 0))) & (arithmetic.thresholds_per == "neuron")
    lattice: Values = ((du == DECAY_ONE - 1) & regular) * max(arithmetic.weight_step * 2.0**exponent, 1.0)
    return lattice


def rounding_loss(exponent: int, arithmetic: Arithmetic) -> float:
    """Return by how much a weighted sum is rounded down on average, ``(1 - step 2**e) / 2`` below exponent -1."""
    return max(0.0, (1 - arithmetic.weight_step * 2.0**exponent) / 2)


def rounding_bias(loss: Values, du: Values, dv: Values, thresholds: Values, steps: int | None) -> Values:
    """Return the bias, in units of ``v``, that makes up for weighted sums that are rounded down in each step.

    ``64 loss mean_t(sum of (1 - du)**k for k < t)``, the mean over the steps of a sample. Where this bias alone could
    make a neuron fire within a sample, it is 0.

    Parameters
    ----------
    loss : float64 array or Tensor, shape (neurons,)
        Sum of :func:`rounding_loss` over the connections with weights into a neuron.
    du, dv : float64 array or Tensor, shape (neurons,)
        Integer decays.
    thresholds : float64 array or Tensor, shape (neurons,)
        In integer units.
    steps : int or None
        Steps of a sample; None if there are many.
    """
    lost_u, lost_v = (du + 1) / DECAY_ONE, dv / DECAY_ONE
    bias = (loss * 2.0**POTENTIAL_SHIFT * _mean_kept(lost_u, steps)).round()
    return bias * (bias * steps_kept(lost_v, steps) <= thresholds * 2.0**POTENTIAL_SHIFT)


def steps_kept(decay: Values, steps: int | None) -> Values:
    """Sum of what remains of a constant input after ``steps`` steps: ``(1 - (1 - decay)**steps) / decay``."""
    small = decay < 1e-9
    if steps is None:
        return 1 / (decay + small * SMALLEST_DECAY)
    return ~small * (1 - (1 - decay) ** steps) / (decay + small) + small * float(steps)


def _mean_kept(decay: Values, steps: int | None) -> Values:
    """Return the mean of :func:`steps_kept` over the first ``steps`` steps."""
    if steps is None:
        return steps_kept(decay, None)
    small = decay < 1e-9
    leaking = (1 - (1 - decay) * steps_kept(decay, steps) / steps) / (decay + small)
    return ~small * leaking + small * (steps + 1) / 2


def round_current_decay(decay: Values, arithmetic: Arithmetic) -> Values:
    """Return ``du = step round(4096 decay / step) - 1``; 4095 is a current that lasts one step.

    The step is 1 on a chip with decays of 12 bits.
    """
    step = arithmetic.decay_step
    return (decay * (DECAY_ONE // step)).round() * step - 1


def round_potential_decay(decay: Values, arithmetic: Arithmetic) -> Values:
    """Return ``dv = step round(4096 decay / step)``, at most ``4096 - step``."""
    step = arithmetic.decay_step
    return (decay * (DECAY_ONE // step)).round().clip(0, DECAY_ONE // step - 1) * step


def bias_format(bias: Values, arithmetic: Arithmetic) -> tuple[Values, Values]:
    """Write biases as ``mantissa << exponent``, each with the smallest exponent that holds it.

    Parameters
    ----------
    bias : float64 array or Tensor, shape (neurons,)
        Biases in units of ``v``: ``2**6 scale b``. A bias that is too large for any exponent is clipped.

    Returns
    -------
    mantissa, exponent : float64 array or Tensor, shape (neurons,)
        Whole numbers.
    """
    largest = 2 ** (arithmetic.bias_mantissa_bits - 1) - 1
    exponents = bias * 0
    for _ in range(2**arithmetic.bias_exponent_bits - 1):
        exponents = exponents + (abs((bias / 2.0**exponents).round()) > largest)
    return (bias / 2.0**exponents).round().clip(-largest, largest), exponents
