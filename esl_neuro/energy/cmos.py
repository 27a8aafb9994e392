"""Price models of a process technology: operations and memory accesses without a chip (Horowitz 2014)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from esl_neuro.energy.counts import Counts, LayerCounts
from esl_neuro.energy.estimate import Estimate, Term, left_out, operation
from esl_neuro.hardware import Constant, HardwareTarget

ACCESS_BITS = 64  # Horowitz prices one 64-bit access
# Size in bytes of the memory of each access constant; larger arrays are in DRAM.
MEMORIES = (("sram8k", 8 * 1024), ("sram32k", 32 * 1024), ("sram1m", 1024 * 1024))


@dataclass(frozen=True)
class Format:
    """Number format of a model.

    Attributes
    ----------
    add, multiply : str
        Names of the constants.
    weight_bits, state_bits : int
        Width of a stored weight and of a state variable.
    """

    add: str
    multiply: str
    weight_bits: int
    state_bits: int


FLOAT32 = Format("add_fp32", "mul_fp32", 32, 32)
INTEGER8 = Format("add_int8", "mul_int8", 8, 32)


def arithmetic(counts: Counts, target: HardwareTarget, _tick_s: float | None) -> Estimate:
    """0.9 pJ per SOP and 4.6 pJ per MAC in 32-bit floating point, as in the literature."""
    return _arithmetic(counts, target, "arithmetic", FLOAT32)


def arithmetic_int8(counts: Counts, target: HardwareTarget, _tick_s: float | None) -> Estimate:
    """0.03 pJ per SOP and 0.23 pJ per MAC in 8-bit integers."""
    return _arithmetic(counts, target, "arithmetic-int8", INTEGER8)


def _arithmetic(counts: Counts, target: HardwareTarget, model: str, numbers: Format) -> Estimate:
    return Estimate(
        target.name,
        target.target.kind,
        model,
        "per_term",
        "additions of effective SOPs and multiply-additions of other values, arithmetic only",
        _events(counts, target, numbers),
        best_case=True,
        notes=("arithmetic without a single memory access: reading one weight costs more than adding it",),
    )


def _events(counts: Counts, target: HardwareTarget, numbers: Format) -> tuple[Term, ...]:
    add, multiply = target.constant(numbers.add), target.constant(numbers.multiply)
    adds = operation("additions", counts, ("sop_effective", "macs_effective"), "SOP", add)
    multiplications = operation("multiplications", counts, "macs_effective", "MAC", multiply)
    return (adds, multiplications) if multiplications.count else (adds,)


def with_memory(counts: Counts, target: HardwareTarget, _tick_s: float | None) -> Estimate:
    """Arithmetic, one read of a weight per executed event, one read and one write of each state per update.

    The weights (and states) of a layer are in the smallest of Horowitz's memories that holds them; a 64-bit access
    reads two 32-bit words.
    """
    numbers = FLOAT32
    add, multiply = target.constant(numbers.add), target.constant(numbers.multiply)
    return Estimate(
        target.name,
        target.target.kind,
        "with-memory",
        "per_term",
        "arithmetic of events and state updates, reads of weights, reads and writes of states, 32 bits each",
        (
            *_events(counts, target, numbers),
            operation("decays of states", counts, "state_writes", "state operation", multiply),
            operation("additions of states", counts, ("state_writes", "bias_adds"), "state operation", add),
            *_accesses(
                counts,
                target,
                "weight reads",
                ("weight_words_read",),
                numbers.weight_bits,
                _weight_bytes,
                "weight read",
            ),
            *_accesses(
                counts,
                target,
                "state reads and writes",
                ("state_reads", "state_writes"),
                numbers.state_bits,
                _state_bytes,
            ),
        ),
        notes=("no control, clock, routing or leakage; row pointers and indices of sparse weights are not read",),
    )


def _weight_bytes(layer: LayerCounts) -> float:
    return layer.weights * FLOAT32.weight_bits / 8


def _state_bytes(layer: LayerCounts) -> float:
    return layer.neurons * FLOAT32.state_bits / 8


def _memory(target: HardwareTarget, size_bytes: float) -> Constant:
    """Return the access constant of the smallest memory that holds this many bytes."""
    for key, capacity in MEMORIES:
        if size_bytes <= capacity:
            return target.constant(key)
    return target.constant("dram")


def _accesses(
    counts: Counts,
    target: HardwareTarget,
    what: str,
    names: tuple[str, ...],
    bits: int,
    size: Callable[[LayerCounts], float],
    unit: str = "access",
) -> list[Term]:
    """Return the terms of memory accesses, one for each memory that the layers use."""
    layers_in: dict[str, list[LayerCounts]] = {}
    for layer in counts.layers:
        layers_in.setdefault(_memory(target, size(layer)).id, []).append(layer)
    terms = []
    for identity, layers in layers_in.items():
        constant = target.constant(identity.rsplit(".", 1)[1])
        part = Counts(counts.samples, counts.steps, tuple(layers))
        whole = operation(f"{what} ({constant.quantity})", part, names, unit, constant)
        share = bits / ACCESS_BITS
        each = None if whole.each_sample is None else np.asarray(whole.each_sample * share)
        by_layer = {name: count * share for name, count in whole.by_layer.items()}
        terms.append(Term(whole.what, whole.count * share, unit, whole.price, whole.price_text, each, by_layer))
    return terms


def lemaire(counts: Counts, target: HardwareTarget, _tick_s: float | None) -> Estimate:
    """Operations, addressing and memory of an event-driven accelerator (Lemaire et al. 2022), int32.

    For a layer with ``theta_in`` incoming and ``theta_out`` outgoing spikes, fan-out ``N`` and ``T N`` updates::

        additions = addressing = theta_in N + T N + theta_out
        parameters read        = theta_in N + T N
        potentials read, written = theta_in N + T N + theta_out
        events read, written   = theta_in + theta_out

    Two corrections to the printed equation 2.4: ``theta_in N`` has no extra factor of the number of inputs, which the
    authors' own code calls an error, and the third term, ``theta_out``, is added. Zero weights are not skipped, as in
    the original.
    """
    add = target.constant("add_int32")
    events, updates, out = "sop_executed_dense", "neuron_updates", "spikes_out"
    potentials = (events, updates, out)
    return Estimate(
        target.name,
        target.target.kind,
        "lemaire",
        "per_term",
        "additions, addressing and every memory access of an event-driven accelerator that does not skip zero weights",
        (
            operation("additions", counts, potentials, "operation", add),
            operation("addressing", counts, potentials, "operation", add),
            *_accesses(counts, target, "parameter reads", (events, updates), 32, _dense_bytes),
            *_accesses(counts, target, "potential reads and writes", potentials * 2, 32, _state_bytes),
            *_accesses(counts, target, "event reads and writes", ("spikes_in", out), 32, _state_bytes),
        ),
        left_out(multiply_accumulates_of_values_that_are_no_spikes=counts.per_sample("macs_effective")),
        notes=("written from the equations with their published corrections, not from the authors' code",),
    )


def _dense_bytes(layer: LayerCounts) -> float:
    return layer.inputs * layer.neurons * 4.0
