"""The integer neuron of Loihi: the arithmetic of Lava 0.10.0 ``fixed_pt``, bit for bit.

This is the readable definition; :mod:`esl_neuro.backends.events` computes the same, faster. The equations are those of
the process ``LIFReset`` of lava-nc 0.10.0 (``lava/proc/lif/models.py``). Equality with that simulator is tested;
equality with silicon is not claimed. Lava has no reset by subtraction: for these neurons,
:mod:`esl_neuro.backends.lava_processes.subtracting_lif` changes one line of Lava's model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esl_neuro.compiler.program import Group, IntArray
from esl_neuro.hardware.arithmetic import HALF_RANGE


@dataclass(frozen=True)
class GroupConstants:
    """Constants of a group for :func:`lif_step`, int64, shape (neurons, 1).

    Attributes
    ----------
    keep_u, keep_v : int64 array
        What remains of ``u`` and ``v`` after a step, in 1/4096: ``4096 - (du + 1)`` and ``4096 - dv``.
    bias : int64 array
        ``bias_mant << bias_exp``; a negative exponent shifts right, rounding down.
    threshold : int64 array
        ``vth << 6``.
    reset_by : int64 array or None
        What a spike subtracts from ``v``, None for a reset to zero.
    """

    keep_u: IntArray
    keep_v: IntArray
    bias: IntArray
    threshold: IntArray
    reset_by: IntArray | None = None

    @classmethod
    def of(cls, group: Group) -> GroupConstants:
        """Compute the constants of a group; like Lava, store the bias mantissa in 16 bits."""
        du, dv, vth, exponent = (
            np.asarray(values, dtype=np.int64)[:, None] for values in (group.du, group.dv, group.vth, group.bias_exp)
        )
        mantissa = np.asarray(group.bias_mant).astype(np.int16).astype(np.int64)[:, None]
        bias = (mantissa << np.maximum(exponent, 0)) >> np.maximum(-exponent, 0)
        reset_by = None if group.reset_by is None else np.asarray(group.reset_by, dtype=np.int64)[:, None]
        return cls(keep_u=4096 - (du + 1), keep_v=4096 - dv, bias=bias, threshold=vth << 6, reset_by=reset_by)


def lif_step(
    u: IntArray, v: IntArray, a: IntArray, neurons: GroupConstants
) -> tuple[IntArray, IntArray, NDArray[np.bool_]]:
    """Advance neurons by one time step.

    With ``M = 2**23``, and ``trunc0`` rounding toward zero::

        u = trunc0(u * keep_u / 4096) + (a << 6)
        u = u - 2M  where u > M;   u = u + 2M  where u <= -M       (once: not a modulo)
        v = clip(trunc0(v * keep_v / 4096) + u + bias, -(M - 1), M - 1)
        spike = v > threshold;  v = 0 or v = v - reset_by where it spikes;  u stays

    Parameters
    ----------
    u, v : int64 array, shape (neurons, samples)
        Synaptic current and membrane potential after the previous step.
    a : int64 array, shape (neurons, samples)
        Sum over all connections.
    neurons : GroupConstants
        Constants of the group.

    Returns
    -------
    u, v : int64 array, shape (neurons, samples)
        State after the step.
    spikes : bool array, shape (neurons, samples)
        Which neurons spike.
    """
    u = _decay(u, neurons.keep_u)
    u += a << 6
    if u.max(initial=0) > HALF_RANGE or u.min(initial=0) <= -HALF_RANGE:  # rare, so test first
        u = np.where(u > HALF_RANGE, u - 2 * HALF_RANGE, np.where(u <= -HALF_RANGE, u + 2 * HALF_RANGE, u))
    v = _decay(v, neurons.keep_v)
    v += u
    v += neurons.bias
    np.clip(v, -(HALF_RANGE - 1), HALF_RANGE - 1, out=v)
    spikes = v > neurons.threshold
    if neurons.reset_by is None:
        v *= ~spikes
    else:
        v -= neurons.reset_by * spikes
    return u, v, spikes


def _decay(x: IntArray, keep: IntArray) -> IntArray:
    """Return ``x * keep / 4096`` rounded toward zero: the shift rounds down, so 4095 is added to negative products."""
    product = x * keep
    lift = product >> 63
    lift &= 4095
    product += lift
    product >>= 12
    return product
