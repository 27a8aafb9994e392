"""Rounding of the numbers of a network to integers of a chip.

One set of rules for arrays and tensors: the compiler, which does not use torch, and training on the chip's integers use
these functions. The *scale* ``S`` of a group of neurons is integers per unit of the float network; its weights,
thresholds and biases share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from esl_neuro.hardware.arithmetic import DECAY_ONE, POTENTIAL_SHIFT, Arithmetic

if TYPE_CHECKING:
    from torch import Tensor

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


def group_scale(
    largest_weight: float, largest_threshold: float, arithmetic: Arithmetic, *, payload: float = 1.0, exponent: int = 0
) -> float:
    """Return the scale at which the largest weight uses the whole range, or a smaller one if a threshold would not fit.

    ``S = min(weight_max 2**exponent payload / max|W|, (2**threshold_bits - 1) / max(threshold))``

    A network with rounded numbers has the same scale, so rounding is idempotent.

    Parameters
    ----------
    largest_weight, largest_threshold : float
        ``max|W|`` of the group, and the largest threshold, 0 for a readout that never fires.
    arithmetic : Arithmetic
        Integer formats of the chip.
    payload : float
        Payload of a source per unit of its signal.
    exponent : int
        Weight exponent of the connection.
    """
    limits = []
    if largest_weight > 0:
        limits.append(arithmetic.weight_max * 2.0**exponent * payload / largest_weight)
    if largest_threshold > 0:
        limits.append(float(2**arithmetic.threshold_bits - 1) / largest_threshold)
    return min(limits, default=1.0)


def wrapping_sum(arithmetic: Arithmetic) -> int:
    """Return the smallest sum of integer weights that overflows the synaptic current."""
    return int(2 ** (arithmetic.potential_bits - 1 - POTENTIAL_SHIFT))


def weight_exponent(
    largest_weight: float,
    thresholds: tuple[float, float],
    largest_sum: float,
    arithmetic: Arithmetic,
    *,
    steps_kept: float = 1.0,
    connections: int = 1,
    payload: float = 1.0,
    graded: bool = False,
) -> int:
    """Return the weight exponent with which thresholds fit and no input can make the synaptic current wrap.

    This is the largest such exponent, at most 0: weights keep their whole range, thresholds become smaller. Binary
    spikes rarely arrive all at once, so for them a possible wrap of the current is accepted rather than a threshold
    below ``weight_max``, which would be coarser than the weights. The exponent depends on whole numbers only, so a
    network with rounded numbers has the same exponent.

    Parameters
    ----------
    largest_weight : float
        ``max|W|`` of the group.
    thresholds : tuple of float
        The smallest and the largest one; 0 for a readout that never fires.
    largest_sum : float
        Largest possible sum of integer weights times payloads in a step, if the largest weight is ``weight_max``.
    arithmetic : Arithmetic
        Integer formats of the chip.
    steps_kept : float
        Largest synaptic current from a constant input, relative to the current of one step.
    connections : int
        Number of shifted sums; rounding down may change each by 1.
    payload : float
        Payload of a source per unit of its signal.
    graded : bool
        Whether spikes carry payloads.
    """
    if largest_weight <= 0:
        return 0
    unit = arithmetic.weight_max * payload / largest_weight
    for exponent in range(0, arithmetic.weight_exp_min, -1):
        shift = 2.0**exponent
        smallest, largest = (round(threshold * unit * shift) for threshold in thresholds)
        wraps = (largest_sum * shift + connections) * steps_kept >= wrapping_sum(arithmetic)
        fine = smallest >= 2 * arithmetic.weight_max
        if largest < 2**arithmetic.threshold_bits and not (wraps and (fine or graded)):
            return exponent
    return arithmetic.weight_exp_min


def round_weights(weights: Values, scale: float, arithmetic: Arithmetic) -> Values:
    """Return ``step round(scale W / step)`` within the range of the chip.

    Even weights pass through the chip's 8-bit formats unchanged, whatever their signs.
    """
    step = arithmetic.weight_step
    steps = (weights * scale / step).round()
    return (step * steps).clip(arithmetic.weight_min, arithmetic.weight_max)


def round_thresholds(thresholds: Values, scale: float, arithmetic: Arithmetic) -> Values:
    """Return ``vth = round(scale threshold)``, clipped to the range of the chip."""
    return (thresholds * scale).round().clip(0, 2**arithmetic.threshold_bits - 1)


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
