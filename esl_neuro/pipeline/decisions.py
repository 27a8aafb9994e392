"""Choices that the compiler makes by trying them on samples: time step, calibrated scales and bits of weights.

Never on the test set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from esl_neuro.backends.integer import run_integer
from esl_neuro.backends.trace import Payloads
from esl_neuro.compiler.calibrate import group_error, search_scalings
from esl_neuro.compiler.compile import quantise_network
from esl_neuro.compiler.fidelity import Fidelity, Trial, compare_layers
from esl_neuro.compiler.float_groups import run_groups
from esl_neuro.compiler.network import FloatNetwork
from esl_neuro.compiler.placement import place
from esl_neuro.compiler.program import Program
from esl_neuro.compiler.quantise import Scaling
from esl_neuro.compiler.weight_bits import Width, as_scalings, choose_weight_bits
from esl_neuro.hardware import Arithmetic, HardwareTarget, arithmetic_of
from esl_neuro.hardware.rounding import InputFormat
from esl_neuro.hardware.weight_bits import Bits, bits_of_layers
from esl_neuro.pipeline.inputs import Samples

TIME_STEPS_S = (1e-3, 5e-4, 2e-4, 1e-4)
"""Time steps that are tried for single-spike networks: a tenth to a hundredth of the synaptic time constant."""

ACCEPTED_LOSS = 0.005
"""Accuracy loss at which no finer time step is tried."""

SAMPLES = 4000  # of the validation part, at most
BATCH = 250  # samples that run at once


@dataclass(frozen=True)
class Candidate:
    """One of the alternatives that were tried.

    Attributes
    ----------
    name : str
        The alternative.
    accuracy_loss : float or None
        Accuracy of the float network minus that of the integers, as a fraction of the samples; None without labels.
    moved : dict of str to float
        Differing entries of the spike trains of each layer per spike of the float network, if compared.
    output_error : float or None
        Error of the output, :func:`~esl_neuro.compiler.calibrate.group_error`, if compared.
    """

    name: str
    accuracy_loss: float | None = None
    moved: dict[str, float] = field(default_factory=dict)
    output_error: float | None = None

    def __str__(self) -> str:
        costs = [] if self.accuracy_loss is None else [f"{100 * self.accuracy_loss:.2f} points"]
        costs += [] if self.output_error is None else [f"error of the output {100 * self.output_error:.2f} %"]
        if self.moved:
            layers = ", ".join(f"{layer} {100 * share:.2f} %" for layer, share in self.moved.items())
            costs.append(f"spikes moved {layers}")
        return f"{self.name} {', '.join(costs)}"


@dataclass(frozen=True)
class Decision:
    """A choice of the compiler, with what each alternative costs.

    Attributes
    ----------
    subject : str
        What was chosen: ``"time step"``, ``"scales"`` or ``"weight bits"``.
    chosen : str
        Name of the chosen candidate.
    samples : str
        The samples on which the candidates were tried.
    candidates : tuple of Candidate
        In the order in which they were tried.
    """

    subject: str
    chosen: str
    samples: str
    candidates: tuple[Candidate, ...]

    def __str__(self) -> str:
        return f"{self.subject}: {self.chosen}; cost on {self.samples}: {'; '.join(map(str, self.candidates))}"


def read_decision(document: dict[str, Any]) -> Decision:
    """Return a decision that was saved as JSON."""
    return Decision(**{**document, "candidates": tuple(Candidate(**each) for each in document["candidates"])})


# Time step.


class Compiled(Protocol):
    """A compiled network that accepts samples."""

    @property
    def program(self) -> Program:
        """The integers."""

    def payloads(self, inputs: Samples) -> tuple[Samples, Payloads]:
        """Return the samples and what enters the program."""


def choose_time_step(
    compiled_with: Callable[[float], Compiled], samples: Samples, accuracy: float
) -> tuple[float, Decision]:
    """Return the longest time step that costs at most :data:`ACCEPTED_LOSS`, else the one that costs least.

    Parameters
    ----------
    compiled_with : callable
        Compiles the network with a time step in seconds.
    samples : Samples
        Validation samples with labels.
    accuracy : float
        Accuracy of the float network on them.
    """
    tried: dict[float, float] = {}
    for dt_s in TIME_STEPS_S:
        predictions, _ = predict(compiled_with(dt_s), samples)
        tried[dt_s] = accuracy - float((predictions == samples.labels).mean())
        if tried[dt_s] <= ACCEPTED_LOSS:
            break
    best = min(tried, key=lambda dt_s: (tried[dt_s] > ACCEPTED_LOSS, tried[dt_s]))
    candidates = tuple(Candidate(f"{dt_s:g} s", loss) for dt_s, loss in tried.items())
    return best, Decision("time step", f"{best:g} s", samples.name, candidates)


def predict(compiled: Compiled, samples: Samples) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Run samples in the integer simulator, some at a time; return the class of each, and whether several tie."""
    classes, ties = [], []
    for start in range(0, len(samples), BATCH):
        part = replace(samples, values=samples.values[start : start + BATCH], labels=None)
        trace = run_integer(compiled.program, compiled.payloads(part)[1])
        classes.append(trace.predictions())
        ties.append(trace.ties())
    return np.concatenate(classes), np.concatenate(ties)


# Scales.


def calibrate(
    network: FloatNetwork,
    arithmetic: Arithmetic,
    steps: int,
    payload: InputFormat,
    searched: Samples,
    judged: Samples,
    accuracy: float | None,
    narrowed: Mapping[str, Scaling],
) -> tuple[Mapping[str, Scaling], Decision]:
    """Search the scale of each layer, and keep the result only if it is better than the compiler's formula.

    It is kept if no layer moves more, the accuracy is not lower, and one of these figures is better.

    Parameters
    ----------
    network, arithmetic, steps, payload
        As in :func:`~esl_neuro.compiler.calibrate.search_scalings`.
    searched : Samples
        On which scales are searched, shape (samples, steps, lines).
    judged : Samples
        On which both are compared, with labels if known.
    accuracy : float or None
        Accuracy of the float network on ``judged``, with labels.
    narrowed : mapping of str to Scaling
        By the formula: the layers with fewer bits than the chip's.
    """
    run = partial(run_integer, record_potentials=True)
    found = search_scalings(network, arithmetic, steps, searched.values, run, payload, narrowed=narrowed)
    scalings = {each.group: each.scaling for each in found}
    costs = {}
    for name, chosen in (("by formula", narrowed), ("calibrated", scalings)):
        program, _ = quantise_network(network, "", arithmetic, steps, payload, chosen)
        if network.single_spikes:
            program = replace(program, readout="first_spike")
        costs[name] = _cost(network, program, payload, judged, accuracy)
    better = costs["calibrated"].better_than(costs["by formula"])
    name = "calibrated" if better else "by formula"
    candidates = tuple(Candidate(each, cost.loss, cost.moved) for each, cost in costs.items())
    return (scalings if better else narrowed), Decision("scales", name, judged.name, candidates)


# Bits of the weights.


def choose_bits(
    network: FloatNetwork,
    chip: HardwareTarget,
    steps: int,
    payload: InputFormat,
    searched: Samples,
    most_bits: int,
) -> tuple[dict[str, int], Decision]:
    """Choose the bits of each layer's weights so that the synapses fit a limit of memory.

    The loss is how far the output is from that of the float network, :func:`~esl_neuro.compiler.calibrate.group_error`.

    Parameters
    ----------
    network, steps, payload
        As in :func:`~esl_neuro.compiler.calibrate.search_scalings`.
    chip : HardwareTarget
        Counts the memory, with its headers and indices.
    searched : Samples
        On which the loss is measured, shape (samples, steps, lines).
    most_bits : int
        Limit of the synaptic memory of all cores.
    """
    arithmetic = arithmetic_of(chip)
    layers = [group.name for group in network.groups]
    wanted = run_groups(network, searched.values)
    arriving = payload.payloads(np.asarray(searched.values, dtype=np.float64)).astype(np.int32)

    def program(bits: Bits) -> Program:
        narrowed = as_scalings(bits_of_layers(bits, layers, arithmetic, "weight_bits"))
        return quantise_network(network, chip.name, arithmetic, steps, payload, narrowed)[0]

    def stored(bits: Bits) -> int:
        return int(place(program(bits), chip).used["synaptic_memory"].sum())

    def loss(bits: Bits) -> float:
        made = program(bits)
        return group_error(wanted, run_integer(made, arriving, record_potentials=True), made, layers[-1])

    path = choose_weight_bits(layers, arithmetic.weight_bits, most_bits, stored, loss)
    candidates = tuple(
        Candidate(f"{_widths(each)} ({each.stored_bits:,} bits stored)", output_error=each.loss) for each in path
    )
    return path[-1].bits, Decision("weight bits", _widths(path[-1]), searched.name, candidates)


def _widths(width: Width) -> str:
    return ", ".join(f"{layer} {bits}" for layer, bits in width.bits.items())


@dataclass(frozen=True)
class _Cost:
    loss: float | None
    fidelity: Fidelity

    @property
    def moved(self) -> dict[str, float]:
        """Share of each layer that fires."""
        return {each.layer: each.moved_share for each in self.fidelity.layers if each.moved_share is not None}

    def better_than(self, other: _Cost) -> bool:
        """Tell whether no figure is worse, and one is better."""
        mine, theirs = self._figures(), other._figures()
        return all(one <= two for one, two in zip(mine, theirs, strict=True)) and mine != theirs

    def _figures(self) -> Sequence[float]:
        layers = self.fidelity.layers
        return (self.loss or 0.0, *(each.moved + (each.potential_error or 0.0) for each in layers))


def _cost(
    network: FloatNetwork, program: Program, payload: InputFormat, samples: Samples, accuracy: float | None
) -> _Cost:
    arriving = payload.payloads(np.asarray(samples.values, dtype=np.float64)).astype(np.int32)
    wanted = run_groups(network, samples.values)
    trace = run_integer(program, arriving, record_potentials=True)
    fidelity = compare_layers(network, program, Trial(samples.values, arriving, samples.name), wanted, trace)
    if samples.labels is None or accuracy is None:
        return _Cost(None, fidelity)
    return _Cost(accuracy - float((trace.predictions() == samples.labels).mean()), fidelity)
