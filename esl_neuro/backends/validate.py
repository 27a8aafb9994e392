"""Check that a program and its input are what every backend computes alike, before any of them starts.

Lava checks no range: a weight that is too large is clipped, a mantissa wraps at 16 bits, a float threshold stops the
simulator without a word. What passes here has none of these cases, and no sum can leave Lava's 32-bit integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from esl_neuro.compiler.kernel import Kernel
from esl_neuro.compiler.program import INPUT, READOUTS, Connection, Group, Program, Weights
from esl_neuro.compiler.timing import TooFast, timing
from esl_neuro.errors import BadInput, did_you_mean

# Registers of Loihi, smallest and largest value. du = -1 is a synaptic current without decay: no 12-bit value, but
# Lava computes it, and it is what Lava's own file format writes for that case.
GROUP_RANGES = {
    "du": (-1, 4095),
    "dv": (0, 4095),
    "vth": (0, 131_071),
    "bias_mant": (-4095, 4095),
    "bias_exp": (0, 7),
}
LARGEST_WEIGHT = 254
WEIGHT_EXP_RANGE = (-8, 7)
INPUT_BITS_RANGE = (1, 24)
# Lava keeps u, v and their intermediate sums in int32. Of its range, 2**25 is set aside for v and the bias.
LARGEST_CURRENT = 2**31 - 2**25


def validate(program: Program, input_spikes: NDArray[Any] | None = None) -> None:
    """Check every number of a program and, if given, of its input.

    Parameters
    ----------
    program : Program
        The program that shall run.
    input_spikes : array, shape (samples, steps, input lines), optional
        Integers or booleans: 0 or 1, or payloads up to ``2**input_bits - 1``.

    Raises
    ------
    BadInput
        With every finding in one message: the layer, the quantity, the value, the allowed range.
    """
    structure = [*_structure_findings(program)]
    sizes = {INPUT: program.input_size, **{group.name: group.neurons for group in program.groups}}
    findings = structure.copy()
    for group in program.groups:
        of_group = [*_group_findings(group)]
        for connection in program.incoming(group.name):
            if connection.source in sizes:
                of_group += _connection_findings(connection, group, sizes[connection.source])
        findings += of_group or ([] if structure else _current_findings(program, group))
    if not structure:
        findings += _timing_findings(program)
    if input_spikes is not None:
        findings += _input_findings(program, input_spikes)
    if findings:
        raise BadInput("the program cannot run:\n" + "\n".join(f"- {finding}" for finding in findings))


def largest_sum(weights: Weights) -> NDArray[np.int64]:
    """Return a bound, per target neuron, on every partial sum of its weights: the sum of their magnitudes."""
    if isinstance(weights, Kernel):
        per_channel = np.abs(weights.weights.astype(np.int64)).sum(axis=(1, 2, 3))
        return np.repeat(per_channel, weights.shape[0] // len(per_channel))
    return np.asarray(abs(weights).sum(axis=1), dtype=np.int64).ravel()


def _structure_findings(program: Program) -> Iterator[str]:
    if not program.groups or not program.connections:
        raise BadInput(
            f"the program has {len(program.connections)} connections and {len(program.groups)} groups; "
            "it needs at least one of each"
        )
    for quantity, value in (("steps", program.steps), ("input_size", program.input_size)):
        if value < 1:
            raise BadInput(f"the program's {quantity} is {value}; it must be at least 1")
    if program.readout not in READOUTS:
        yield f"the program's readout is '{program.readout}'; {did_you_mean(program.readout, READOUTS)}"
    low, high = INPUT_BITS_RANGE
    if not low <= program.input_bits <= high:
        yield f"the program's input_bits is {program.input_bits}; allowed: from {low} to {high}"
    names = [INPUT, *(group.name for group in program.groups)]
    if len(set(names)) < len(names):
        yield f"groups are named {', '.join(names[1:])}; each needs its own name, and none may be '{INPUT}'"
    place = {name: index for index, name in enumerate(names)}
    for connection in program.connections:
        where = f"connection '{connection.source}' -> '{connection.target}'"
        unknown = [end for end in (connection.source, connection.target) if end not in place]
        yield from (f"{where}: there is no group '{end}'; {did_you_mean(end, names)}" for end in unknown)
        if connection.target == INPUT:
            yield f"{where}: the input cannot be a target"
        elif not unknown and not connection.delay and place[connection.source] >= place[connection.target]:
            yield f"{where}: without delay, the source must come before the target"
        if connection.delay < 0:
            yield f"{where}: delay is {connection.delay}; it cannot be negative"
    for name in names[1:]:
        if not program.incoming(name):
            yield f"layer '{name}': no connection feeds it"


def _timing_findings(program: Program) -> Iterator[str]:
    try:
        timing(program)
    except TooFast as error:
        yield f"{error}; give its connections more delay"


def _group_findings(group: Group) -> Iterator[str]:
    if group.neurons == 0:
        yield f"layer '{group.name}': it has no neurons"
    for quantity, (low, high) in GROUP_RANGES.items():
        values = np.asarray(getattr(group, quantity))
        where = f"layer '{group.name}': {quantity}"
        if values.shape != (group.neurons,):
            yield f"{where} has shape {values.shape}; one value for each of {group.neurons} neurons is needed"
        elif values.dtype.kind not in "iu":
            yield f"{where} has type {values.dtype}; only integers are allowed"
        else:
            yield from _outside(where, values, (values < low) | (values > high), f"from {low} to {high}")


def _connection_findings(connection: Connection, group: Group, source_size: int) -> Iterator[str]:
    weights = connection.weights
    where = f"layer '{group.name}': weights"
    low, high = WEIGHT_EXP_RANGE
    if not low <= connection.weight_exp <= high:
        yield f"layer '{group.name}': weight_exp is {connection.weight_exp}; allowed: from {low} to {high}"
    # Lava takes the matrix class, not scipy's newer csr_array.
    if not isinstance(weights, (sp.csr_matrix, Kernel)):
        yield f"{where} are a {type(weights).__name__}; a scipy.sparse.csr_matrix or a Kernel is needed"
        return
    if weights.shape != (group.neurons, source_size):
        yield f"{where} have shape {weights.shape}; (targets, sources) must be {(group.neurons, source_size)}"
    stored = weights.weights if isinstance(weights, Kernel) else weights.data
    if stored.dtype.kind not in "iu":
        yield f"{where} have type {stored.dtype}; only integers are allowed"
        return
    values = stored.astype(np.int64)
    wrong = (np.abs(values) > LARGEST_WEIGHT) | (values % 2 != 0)
    yield from _outside(where, values, wrong, f"even, from {-LARGEST_WEIGHT} to {LARGEST_WEIGHT}")
    if isinstance(weights, sp.csr_matrix) and not weights.has_canonical_format and _has_duplicates(weights):
        yield f"{where} store a synapse twice; call sum_duplicates() on them"


def _has_duplicates(weights: sp.csr_matrix) -> bool:
    merged = weights.copy()
    merged.sum_duplicates()
    return bool(merged.nnz < weights.nnz)


def _current_findings(program: Program, group: Group) -> Iterator[str]:
    """Refuse weights whose synaptic current could leave int32, where Lava would wrap a second time.

    A step adds at most ``drive`` to ``u``, and from beyond ``2**23`` the wrap takes ``2**24`` off again. So what a step
    leaves to the next grows by at most ``drive - 2**24`` and shrinks by ``keep``: a geometric series.
    """
    drive = np.zeros(group.neurons)
    for connection in program.incoming(group.name):
        payload = 2**program.input_bits - 1 if connection.source == INPUT else 1
        drive += largest_sum(connection.weights) * float(payload) * 2.0 ** max(connection.weight_exp, 0) * 64
    keep = (4096 - (group.du + 1)) / 4096
    steps = program.steps
    series = np.where(keep < 1, (1 - keep ** (steps - 1)) / np.where(keep < 1, 1 - keep, 1), steps - 1)
    current = drive + np.maximum(drive - 2**24, 0) * series
    worst = int(np.argmax(current))
    if current[worst] > LARGEST_CURRENT:
        exponents = ", ".join(str(connection.weight_exp) for connection in program.incoming(group.name))
        yield (
            f"layer '{group.name}': the synaptic current of neuron {worst} can reach {current[worst]:.3g} within "
            f"{steps} steps; Lava's 32-bit sums hold {LARGEST_CURRENT:.3g}; lower weight_exp ({exponents})"
        )


def _input_findings(program: Program, spikes: NDArray[Any]) -> Iterator[str]:
    if spikes.ndim != 3 or spikes.shape[0] < 1 or spikes.shape[1:] != (program.steps, program.input_size):
        yield (
            f"input spikes have shape {spikes.shape}; (samples, steps, input lines) must be "
            f"(1 or more, {program.steps}, {program.input_size})"
        )
    largest = 2**program.input_bits - 1
    if spikes.dtype.kind not in "iub":
        yield f"input spikes have type {spikes.dtype}; only integers or booleans are allowed"
    else:
        allowed = "0 or 1" if largest == 1 else f"from 0 to {largest} ({program.input_bits} bits)"
        yield from _outside("input spikes", spikes, (spikes < 0) | (spikes > largest), allowed)


def _outside(where: str, values: NDArray[Any], wrong: NDArray[np.bool_], allowed: str) -> Iterator[str]:
    count = int(np.count_nonzero(wrong))
    if count:
        first = values[wrong].flat[0]
        yield f"{where}: {first} is not allowed ({count} of {values.size} values); allowed: {allowed}"
