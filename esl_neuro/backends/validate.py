"""Validate a program and its input before a run, so that all backends compute the same integers.

Lava checks no ranges: it clips weights that are too large, wraps mantissas at 16 bits, and stops without an error on a
float threshold. A validated program has none of these cases, and no sum can exceed Lava's 32-bit integers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from esl_neuro.compiler.program import INPUT, READOUTS, Connection, Group, Program, Weights
from esl_neuro.compiler.program_document import unsound
from esl_neuro.compiler.timing import TooFast, timing
from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.hardware.arithmetic import (
    DECAY_BITS,
    DECAY_ONE,
    HALF_RANGE,
    POTENTIAL_BITS,
    POTENTIAL_SHIFT,
    Arithmetic,
)
from esl_neuro.nirgraph.kernel import Kernel

# Ranges of the simulators: Lava 0.10.0 `fixed_pt`. The registers of a chip may be narrower.
SIMULATED = Arithmetic(
    weight_min=-254,
    weight_max=254,
    weight_step=2,
    weight_exp_min=-8,
    weight_exp_max=7,
    decay_bits=DECAY_BITS,
    threshold_bits=17,
    bias_mantissa_bits=13,
    bias_exponent_bits=3,
    potential_bits=POTENTIAL_BITS,
    resets=["zero", "subtract"],
    source="Lava 0.10.0",
)
DELAY_RANGE = (0, 63)  # of Lava's DelayDense
INPUT_BITS_RANGE = (1, 24)  # of the ports of Lava's processes
# Lava stores u, v and their intermediate sums in int32. Of its range, 2**25 is reserved for v and the bias.
LARGEST_CURRENT = 2**31 - 2**25
LARGEST_SUM = 2**31 - 1


def validate(program: Program, input_spikes: NDArray[Any] | None = None) -> None:
    """Check every number of a program and, if given, of its input.

    Each number must fit the registers of the chip and the ranges of the simulators.

    Parameters
    ----------
    program : Program
        The program to run.
    input_spikes : array, shape (samples, steps, input lines), optional
        Integers or booleans from 0 to ``2**input_bits - 1``.

    Raises
    ------
    BadInput
        If anything is invalid. The message lists all findings with place, quantity, value and allowed range.
    """
    findings = wrong_numbers(program)
    if input_spikes is not None:
        findings += _input_findings(program, input_spikes)
    if findings:
        raise BadInput("the program is invalid:\n" + "\n".join(f"- {finding}" for finding in findings))


def wrong_numbers(program: Program) -> list[str]:
    """Return every number of a program that does not fit the chip or the simulators, as :func:`validate` reports it."""
    structure = [*_program_findings(program), *_order_findings(program)]
    registers = Registers.of(program)
    findings = structure or [*_timing_findings(program)]
    sizes = {INPUT: program.input_size, **{group.name: group.neurons for group in program.groups}}
    for group in program.groups:
        incoming = [each for each in program.incoming(group.name) if each.source in sizes]
        of_group = [*_group_findings(group, registers)]
        for connection in incoming:
            of_group += _connection_findings(connection, (group.neurons, sizes[connection.source]), registers)
        findings += of_group or _current_findings(program, group, incoming)
    return findings


@dataclass(frozen=True)
class Registers:
    """Allowed values of the quantities of a program.

    Attributes
    ----------
    target : str
        The chip.
    chip, simulated : dict of str to (int, int, int)
        Smallest value, largest value and step of each quantity, in the chip's registers and in the simulators.
    """

    target: str
    chip: dict[str, tuple[int, int, int]]
    simulated: dict[str, tuple[int, int, int]]

    @classmethod
    def of(cls, program: Program) -> Registers:
        """Return the registers that a program was compiled for."""
        return cls(program.target, program.formats.ranges, SIMULATED.ranges)

    def outside(self, quantity: str, values: NDArray[Any], where: str) -> Iterator[str]:
        """Find values that do not fit the chip, otherwise those outside the ranges of the simulators."""
        held = _wrong(values, self.chip[quantity])
        if held.any():
            yield from _outside(where, values, held, f"{_allowed(self.chip[quantity])} (registers of '{self.target}')")
        elif self.chip[quantity] != self.simulated[quantity]:
            simulated = _allowed(self.simulated[quantity])
            yield from _outside(where, values, _wrong(values, self.simulated[quantity]), f"{simulated} (simulators)")


def _wrong(values: NDArray[Any], allowed: tuple[int, int, int]) -> NDArray[np.bool_]:
    low, high, step = allowed
    wrong: NDArray[np.bool_] = (values < low) | (values > high)
    return wrong if step == 1 else wrong | (values % step != low % step)


def _allowed(allowed: tuple[int, int, int]) -> str:
    low, high, step = allowed
    kind = {1: "", 2: "even, "}.get(step, f"in steps of {step}, ")
    return f"{kind}from {low} to {high}"


def largest_sum(weights: Weights) -> NDArray[np.int64]:
    """Return a bound on every partial sum of the weights of each target neuron: the sum of their magnitudes."""
    if isinstance(weights, Kernel):
        _, rows, columns = weights.output_shape
        # Channel by channel, because int64 copies of all weights leave the cache.
        per_channel = [np.abs(channel.astype(np.int64)).sum() for channel in weights.weights]
        return np.repeat(per_channel, rows * columns)
    return np.asarray(abs(weights).sum(axis=1), dtype=np.int64).ravel()


def _program_findings(program: Program) -> Iterator[str]:
    if not program.groups or not program.connections:
        raise BadInput(
            f"number of groups: {len(program.groups)}, of connections: {len(program.connections)}; "
            "a program needs at least one of each"
        )
    for quantity, value in (("steps", program.steps), ("input_size", program.input_size)):
        if value < 1:
            raise BadInput(f"the program's {quantity} is {value}; it must be at least 1")
    for quantity, number in (("dt_s", program.dt_s), ("input_scale", program.input_scale)):
        if not 0 < number < math.inf:
            yield f"{quantity} is {number}; it must be positive and finite"
    low, high = INPUT_BITS_RANGE
    if not low <= program.input_bits <= high:
        yield f"input_bits is {program.input_bits}; allowed: from {low} to {high}"
    bits = program.formats.potential_bits
    if bits != POTENTIAL_BITS:
        yield (
            f"target '{program.target}' has currents and potentials of {bits} bits; the simulators use "
            f"{POTENTIAL_BITS} bits and would wrap and saturate at other values"
        )
    subtracting = [f"'{group.name}'" for group in program.groups if group.reset == "subtract"]
    if subtracting and "subtract" not in program.formats.resets:
        yield (
            f"layers {', '.join(subtracting)} reset by subtraction; the neurons of target '{program.target}' do not "
            f"(arithmetic.resets: {', '.join(program.formats.resets)})"
        )
    if program.readout not in READOUTS:
        yield f"readout is '{program.readout}'; {did_you_mean(program.readout, READOUTS)}"
    names = [group.name for group in program.groups]
    if len(set(names)) < len(names) or INPUT in names:
        yield f"groups are named {', '.join(names)}; names must be unique and not '{INPUT}'"


def _order_findings(program: Program) -> Iterator[str]:
    """Check that the inputs of a group in a step are computed before the group."""
    place = {INPUT: -1, **{group.name: index for index, group in enumerate(program.groups)}}
    known = []
    for connection in program.connections:
        where = _place(connection)
        for end in (connection.source, connection.target):
            if end not in place or (end == INPUT and end == connection.target):
                yield f"{where}: group '{end}' does not exist; {did_you_mean(end, place)}"
        if connection.source in place and connection.target in place:
            known.append(place[connection.target])
            if connection.delay == 0 and place[connection.source] >= place[connection.target]:
                yield (
                    f"{where} has no delay, so '{connection.source}' must come before '{connection.target}'; "
                    "reorder the groups, or give a loop a delay of at least 1"
                )
    if known != sorted(known):
        yield "connections must be in the order of the groups that they feed"
    for group in program.groups:
        if not program.incoming(group.name):
            yield f"layer '{group.name}': has no incoming connection; add one"


def _timing_findings(program: Program) -> Iterator[str]:
    try:
        timing(program)
    except TooFast as error:
        yield f"{error}; give its connections more delay"


def _group_findings(group: Group, registers: Registers) -> Iterator[str]:
    if group.neurons == 0:
        yield f"layer '{group.name}': has 0 neurons; at least 1 is needed"
    quantities = ["du", "dv", "vth", "bias_mant", "bias_exp"] + ["reset_by"] * (group.reset_by is not None)
    for quantity in quantities:
        values = np.asarray(getattr(group, quantity))
        where = f"layer '{group.name}': {quantity}"
        if values.shape != (group.neurons,):
            yield f"{where} has shape {values.shape}; expected ({group.neurons},), one value per neuron"
        elif values.dtype.kind not in "iu":
            yield f"{where} has type {values.dtype}; only integers are allowed"
        else:
            yield from registers.outside(quantity, values, where)


def _connection_findings(connection: Connection, shape: tuple[int, int], registers: Registers) -> Iterator[str]:
    weights, where = connection.weights, _place(connection)
    for whose in (registers.chip, registers.simulated):
        low, high, _ = whose["weight_exp"]
        if not low <= connection.weight_exp <= high:
            yield f"{where}: weight_exp is {connection.weight_exp}; allowed: from {low} to {high}"
            break
    low, high = DELAY_RANGE
    if not low <= connection.delay <= high:
        yield f"{where}: delay is {connection.delay}; allowed: from {low} to {high}"
    # Lava accepts the matrix class, not scipy's newer csr_array.
    if not isinstance(weights, (sp.csr_matrix, Kernel)):
        yield f"{where}: weights are a {type(weights).__name__}; expected a scipy.sparse.csr_matrix or a Kernel"
        return
    values = weights.weights if isinstance(weights, Kernel) else weights.data
    if isinstance(weights, Kernel):
        wrong = [f"{where}: {weights.misfit}"] if weights.misfit else []
    else:
        wrong = unsound(weights, where)
    if wrong:
        yield from wrong
        return
    if weights.shape != shape:
        yield f"{where}: weights have shape {weights.shape}; expected {shape} (targets, sources)"
    if values.dtype.kind not in "iu":
        yield f"{where}: weights have type {values.dtype}; only integers are allowed"
        return
    yield from registers.outside("weights", values, f"{where}: weights")
    if isinstance(weights, sp.csr_matrix) and not weights.has_canonical_format and _has_duplicates(weights):
        yield f"{where}: weights contain a duplicate synapse; call sum_duplicates() on them"


def _has_duplicates(weights: sp.csr_matrix) -> bool:
    merged = weights.copy()
    merged.sum_duplicates()
    return bool(merged.nnz < weights.nnz)


def _current_findings(program: Program, group: Group, incoming: list[Connection]) -> Iterator[str]:
    """Find weights whose sums or synaptic current could exceed int32, where Lava would wrap a second time.

    No partial sum of a connection exceeds the magnitudes of its weights times the largest payload, and this must hold
    before the shift. Together, a step adds at most ``drive`` to ``u``, and from beyond ``2**23`` the wrap takes
    ``2**24`` off again. So what a step leaves to the next grows by at most ``drive - 2**24`` and shrinks by ``keep``:
    a geometric series.
    """
    drive = np.zeros(group.neurons)
    for connection in incoming:
        payload = 2**program.input_bits - 1 if connection.source == INPUT else 1
        sums = largest_sum(connection.weights).astype(np.float64) * payload
        if sums.max() > LARGEST_SUM:
            yield (
                f"{_place(connection)}: the weighted sum of neuron {int(np.argmax(sums))} can reach {sums.max():.3g}, "
                f"the limit of Lava's 32-bit sums is {LARGEST_SUM:.3g}; "
                f"lower input_bits ({program.input_bits}) or the weights"
            )
        # Rounding down makes a negative sum larger by less than 1.
        drive += 2**POTENTIAL_SHIFT * (sums * 2.0**connection.weight_exp + (connection.weight_exp < 0))
    keep = (DECAY_ONE - (group.du + 1)) / DECAY_ONE
    series = np.where(keep < 1, (1 - keep ** (program.steps - 1)) / np.where(keep < 1, 1 - keep, 1), program.steps - 1)
    current = drive + np.maximum(drive - 2 * HALF_RANGE, 0) * series
    worst = int(np.argmax(current))
    if current[worst] > LARGEST_CURRENT:
        exponents = ", ".join(str(connection.weight_exp) for connection in incoming)
        yield (
            f"layer '{group.name}': the synaptic current of neuron {worst} can reach {current[worst]:.3g} within "
            f"{program.steps} steps, the limit of Lava's 32-bit sums is {LARGEST_CURRENT:.3g}; "
            f"lower weight_exp ({exponents})"
        )


def _input_findings(program: Program, spikes: NDArray[Any]) -> Iterator[str]:
    if spikes.ndim != 3 or spikes.shape[0] < 1 or spikes.shape[1:] != (program.steps, program.input_size):
        yield (
            f"input spikes have shape {spikes.shape}; expected (samples, steps, input lines) = "
            f"(1 or more, {program.steps}, {program.input_size})"
        )
    if spikes.dtype.kind not in "iub":
        yield f"input spikes have type {spikes.dtype}; only integers or booleans are allowed"
        return
    high = 2**program.input_bits - 1
    # Testing the extremes first is several times faster than testing every value.
    if spikes.dtype.kind != "b" and spikes.size and (spikes.max() > high or spikes.min() < 0):
        allowed = "0 or 1" if program.input_bits == 1 else f"from 0 to {high} ({program.input_bits} bits)"
        yield from _outside("input spikes", spikes, (spikes < 0) | (spikes > high), allowed)


def _place(connection: Connection) -> str:
    return f"connection '{connection.source}' -> '{connection.target}'"


def _outside(where: str, values: NDArray[Any], wrong: NDArray[np.bool_], allowed: str) -> Iterator[str]:
    count = int(np.count_nonzero(wrong))
    if count:
        first = values[wrong].flat[0]
        yield f"{where}: {first} is not allowed ({count} of {values.size} values); allowed: {allowed}"
