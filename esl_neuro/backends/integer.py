"""Run a program in numpy: the arithmetic of Lava 0.10.0 ``fixed_pt``, bit for bit, without Lava.

The equations are those of the processes ``Sparse`` and ``LIFReset`` of lava-nc 0.10.0 (``lava/proc/sparse/models.py``,
``lava/proc/lif/models.py``). Equality with that simulator is tested; equality with silicon is not claimed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esl_neuro.backends.trace import Payloads, Potentials, Spikes, Trace
from esl_neuro.backends.validate import largest_sum, validate
from esl_neuro.compiler.program import Connection, Group, IntArray, Program

HALF_RANGE = 2**23
# Bytes of the largest int64 array of a chunk of samples: small enough for the processor's cache to help.
CHUNK_BYTES = 2**24
# From this density on, a dense matrix product is faster than a sparse one; up to this size it is worth the memory.
DENSE_FROM = 0.03
DENSE_ENTRIES = 2**23


@dataclass(frozen=True)
class Neurons:
    """The constants of a group as the step needs them, int64, shape (neurons, 1).

    Attributes
    ----------
    keep_u, keep_v : int64 array
        What remains of ``u`` and ``v`` after a step, in 1/4096: ``4096 - (du + 1)`` and ``4096 - dv``.
    bias : int64 array
        ``bias_mant << bias_exp``; a negative exponent shifts right, rounding down.
    threshold : int64 array
        ``vth << 6``.
    """

    keep_u: IntArray
    keep_v: IntArray
    bias: IntArray
    threshold: IntArray

    @classmethod
    def of(cls, group: Group) -> Neurons:
        """Take the constants from a group; like Lava, store the bias mantissa in 16 bits."""
        du, dv, vth, exponent = (
            np.asarray(values, dtype=np.int64)[:, None] for values in (group.du, group.dv, group.vth, group.bias_exp)
        )
        mantissa = np.asarray(group.bias_mant).astype(np.int16).astype(np.int64)[:, None]
        bias = (mantissa << np.maximum(exponent, 0)) >> np.maximum(-exponent, 0)
        return cls(keep_u=4096 - (du + 1), keep_v=4096 - dv, bias=bias, threshold=vth << 6)


def lif_step(u: IntArray, v: IntArray, a: IntArray, neurons: Neurons) -> tuple[IntArray, IntArray, NDArray[np.bool_]]:
    """Advance neurons by one time step.

    With ``M = 2**23``, and ``trunc0`` rounding toward zero::

        u = trunc0(u * keep_u / 4096) + (a << 6)
        u = u - 2M  where u > M;   u = u + 2M  where u <= -M       (once: not a modulo)
        v = clip(trunc0(v * keep_v / 4096) + u + bias, -(M - 1), M - 1)
        spike = v > threshold;  v = 0 where it spikes;  u stays

    Parameters
    ----------
    u, v : int64 array, shape (neurons, samples)
        Synaptic current and membrane potential after the previous step.
    a : int64 array, shape (neurons, samples)
        Weighted sum of the arriving spikes, see :func:`synaptic_input`.
    neurons : Neurons
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
    if u.max(initial=0) > HALF_RANGE or u.min(initial=0) <= -HALF_RANGE:  # rare, so looked for before it is done
        u = np.where(u > HALF_RANGE, u - 2 * HALF_RANGE, np.where(u <= -HALF_RANGE, u + 2 * HALF_RANGE, u))
    v = _decay(v, neurons.keep_v)
    v += u
    v += neurons.bias
    np.clip(v, -(HALF_RANGE - 1), HALF_RANGE - 1, out=v)
    spikes = v > neurons.threshold
    v *= ~spikes
    return u, v, spikes


def synaptic_input(connection: Connection, spikes: NDArray[np.uint8]) -> IntArray:
    """Sum the weights of the arriving spikes, and shift the sum by the weight exponent.

    ``a = (W @ s) << weight_exp``; a negative exponent shifts the sum right, rounding down.

    Parameters
    ----------
    connection : Connection
        Weights W, shape (targets, sources), integers.
    spikes : uint8 array, shape (sources, columns)
        0 or 1; a column is one time step of one sample.

    Returns
    -------
    int64 array, shape (targets, columns)

    Notes
    -----
    The product runs in floating point, which numpy does far faster than integers, and is exact: no partial sum, in
    whatever order, exceeds the sum of the magnitudes of a row, and integers up to 2**24 are exact in float32, up to
    2**53 in float64.
    """
    weights = connection.matrix
    exact = np.float32 if largest_sum(weights).max(initial=0) <= 2**24 else np.float64
    matrix = weights.astype(exact)
    entries = matrix.shape[0] * matrix.shape[1]
    if DENSE_FROM * entries <= matrix.nnz and entries <= DENSE_ENTRIES:
        matrix = matrix.toarray()
    sums = (matrix @ spikes.astype(exact)).astype(np.int64)
    shift = connection.weight_exp
    shifted: IntArray = sums << shift if shift >= 0 else sums >> -shift
    return shifted


def run_integer(program: Program, input_spikes: Payloads, record_potentials: bool = False) -> Trace:
    """Run a program on samples, each from ``u = v = 0``.

    Parameters
    ----------
    program : Program
        What :mod:`esl_neuro.compiler` made.
    input_spikes : uint8 array, shape (samples, steps, input lines)
        0 or 1.
    record_potentials : bool
        Also keep ``u`` and ``v`` of every neuron after every step: 16 bytes each.

    Returns
    -------
    Trace
        Spikes of every layer; step ``t`` of every layer belongs to input step ``t``.

    Raises
    ------
    BadInput
        If the program or the input is not what :func:`~esl_neuro.backends.validate.validate` allows.
    """
    validate(program, input_spikes)
    spikes_in = np.asarray(input_spikes, dtype=np.uint8)
    samples, steps, _ = spikes_in.shape
    shapes = {group.name: (samples, steps, group.neurons) for group in program.groups}
    potentials = shapes if record_potentials else {}
    trace = Trace(
        "integer",
        spikes_in,
        spikes={name: np.empty(shape, np.uint8) for name, shape in shapes.items()},
        u={name: np.empty(shape, np.int64) for name, shape in potentials.items()},
        v={name: np.empty(shape, np.int64) for name, shape in potentials.items()},
    )
    for part in _chunks(program, samples):
        # Inside, neurons stand first and samples last: a step of all samples is one block, ready for the next product.
        spikes = np.ascontiguousarray(spikes_in[part].transpose(2, 1, 0))
        for connection, group in program.layers():
            columns = synaptic_input(connection, spikes.reshape(spikes.shape[0], -1))
            a = columns.reshape(group.neurons, steps, -1)
            u, v = (record[group.name][part] if record_potentials else None for record in (trace.u, trace.v))
            spikes = _run_group(group, a, u, v)
            trace.spikes[group.name][part] = spikes.transpose(2, 1, 0)
    return trace


def _run_group(group: Group, a: IntArray, u_record: Potentials | None, v_record: Potentials | None) -> Spikes:
    """Run all steps of one group; ``a`` and the spikes have shape (neurons, steps, samples)."""
    neurons = Neurons.of(group)
    u = v = np.zeros((a.shape[0], a.shape[2]), dtype=np.int64)
    spikes = np.empty(a.shape, dtype=np.uint8)
    for step in range(a.shape[1]):
        u, v, spikes[:, step] = lif_step(u, v, a[:, step], neurons)
        if u_record is not None and v_record is not None:
            u_record[:, step], v_record[:, step] = u.T, v.T
    return spikes


def _chunks(program: Program, samples: int) -> Iterator[slice]:
    widest = max(program.input_size, *(group.neurons for group in program.groups))
    size = max(1, CHUNK_BYTES // (8 * widest * program.steps))
    return (slice(start, start + size) for start in range(0, samples, size))


def _decay(x: IntArray, keep: IntArray) -> IntArray:
    """``x * keep / 4096`` rounded toward zero: the shift rounds down, so negative products get 4095 first."""
    product = x * keep
    lift = product >> 63
    lift &= 4095
    product += lift
    product >>= 12
    return product
