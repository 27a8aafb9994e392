"""Compiled neurons of the batched processes: one time step of many samples.

This module is outside the folder of the processes, whose files Lava executes repeatedly. It is compiled before Lava
forks its child processes, so each of them has the compiled code.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from esl_neuro.backends.synapses import Batch
from esl_neuro.compiled import compiled_for_forks
from esl_neuro.compiler.program import Group, IntArray
from esl_neuro.hardware.arithmetic import HALF_RANGE


class BatchConstants(NamedTuple):
    """Parameters of a group for :func:`advance`, int64, shape (neurons,).

    Attributes
    ----------
    keep_u, keep_v : int64 array
        What remains of ``u`` and ``v`` after a step, in 1/4096.
    bias : int64 array
        ``bias_mant << bias_exp``.
    threshold : int64 array
        ``vth << 6``.
    reset_by : int64 array
        What a spike subtracts from ``v``, -1 for a reset to zero.
    """

    keep_u: IntArray
    keep_v: IntArray
    bias: IntArray
    threshold: IntArray
    reset_by: IntArray

    @classmethod
    def of(cls, group: Group) -> BatchConstants:
        """Take the constants from a group."""
        du, dv, vth, mantissa, exponent = (
            np.asarray(values, dtype=np.int64)
            for values in (group.du, group.dv, group.vth, group.bias_mant, group.bias_exp)
        )
        reset_by = np.full_like(vth, -1) if group.reset_by is None else np.asarray(group.reset_by, dtype=np.int64)
        return cls(4096 - (du + 1), 4096 - dv, mantissa << exponent, vth << 6, reset_by)


@compiled_for_forks(
    "void(int32[:,::1], int32[:,::1], int32[:,::1], int32[:,:], "
    "int64[::1], int64[::1], int64[::1], int64[::1], int64[::1])"
)
def advance(
    u: Batch,
    v: Batch,
    fired: Batch,
    a: Batch,
    keep_u: IntArray,
    keep_v: IntArray,
    bias: IntArray,
    threshold: IntArray,
    reset_by: IntArray,
) -> None:
    """Advance neurons by one step, in place: the equations of :class:`~esl_neuro.compiler.program.Group`.

    Parameters
    ----------
    u, v : int32 array, shape (batch, neurons)
        State.
    fired : int32 array, shape (batch, neurons)
        Set to 1 where a neuron spikes, else to 0.
    a : int32 array, shape (batch, neurons)
        Sum of the arriving weights.
    keep_u, keep_v, bias, threshold, reset_by : int64 array, shape (neurons,)
        See :class:`BatchConstants`.
    """
    for sample in range(u.shape[0]):
        for neuron in range(u.shape[1]):
            product = u[sample, neuron] * keep_u[neuron]
            # The shift rounds down; decay rounds toward zero, so negative products get 4095 first.
            current = ((product + ((product >> 63) & 4095)) >> 12) + (np.int64(a[sample, neuron]) << 6)
            if current > HALF_RANGE:
                current -= 2 * HALF_RANGE
            elif current <= -HALF_RANGE:
                current += 2 * HALF_RANGE
            product = v[sample, neuron] * keep_v[neuron]
            potential = ((product + ((product >> 63) & 4095)) >> 12) + current + bias[neuron]
            potential = min(max(potential, -(HALF_RANGE - 1)), HALF_RANGE - 1)
            spike = potential > threshold[neuron]
            fired[sample, neuron] = spike
            u[sample, neuron] = current
            after = potential - reset_by[neuron] if reset_by[neuron] >= 0 else 0
            v[sample, neuron] = after if spike else potential
