"""Compile a NIR graph to an integer program with its quantisation errors and its placement on the chip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import nir
import numpy as np

from esl_neuro.compiler.chip_checks import check_resets
from esl_neuro.compiler.frontend import analyse
from esl_neuro.compiler.losses import LOSSES, check_losses
from esl_neuro.compiler.network import FloatNetwork
from esl_neuro.compiler.placement import Placement, check_limits, place
from esl_neuro.compiler.program import Program
from esl_neuro.compiler.quantise import BY_FORMULA, QuantisationError, Scaling, quantise
from esl_neuro.errors import BadInput
from esl_neuro.hardware import Arithmetic, HardwareTarget, arithmetic_of, as_target
from esl_neuro.hardware.rounding import EXACT_EXPONENT, SPIKES, InputFormat
from esl_neuro.nirgraph.findings import WARNING, Finding, refuse_too_large, refuse_unsupported
from esl_neuro.nirgraph.kernel import Kernel

LARGEST_PAYLOAD_BITS = 16  # so that a weighted sum stays within Lava's 32-bit integers
FINE_ENOUGH = 64  # of 254: with a smaller largest weight, the other weights have too few levels


@dataclass(frozen=True)
class Compilation:
    """What the compiler returns.

    Attributes
    ----------
    program : Program
        Ready for a backend.
    errors : tuple of QuantisationError
        One per layer, input to output.
    findings : tuple of Finding
        Warnings, and errors of the kinds :data:`~esl_neuro.compiler.losses.LOSSES`, where the integers are far from the
        float network; from :func:`compile_any_size` also what does not fit.
    placement : Placement
        Core of each neuron.
    """

    program: Program
    errors: tuple[QuantisationError, ...]
    findings: tuple[Finding, ...]
    placement: Placement


def compile_graph(
    graph: nir.NIRGraph,
    target: HardwareTarget | str | Path,
    steps: int,
    dt_s: float | None = None,
    *,
    input_bits: int = 1,
    input_scale: float | None = None,
    scalings: Mapping[str, Scaling] | None = None,
    reset: str | None = None,
) -> Compilation:
    """Compile a NIR graph for a chip.

    Parameters
    ----------
    graph : nir.NIRGraph
        The network.
    target : HardwareTarget, str or Path
        The chip: its name, the path of a TOML file, or the target itself.
    steps : int
        Time steps per sample.
    dt_s : float, optional
        Time step in seconds, if the graph has none in its metadata.
    input_bits : int
        Bits of the payload of an input spike: 1 for 0/1 spikes, else unsigned integers.
    input_scale : float, optional
        Payload per unit of the graph's input. Default: an input of 1 becomes the largest payload.
    scalings : mapping of str to Scaling, optional
        Scalings of some groups, from :func:`~esl_neuro.compiler.calibrate.search_scalings`.
    reset : {"zero", "subtract", "subtract_next_step"}, optional
        Reset of all neurons, if the metadata of the graph do not note it; see :mod:`~esl_neuro.resets`.

    Raises
    ------
    BadInput
        If a part of the graph has no integer form, or the target declares no integer arithmetic.
    LimitExceeded
        If the network does not fit on the chip.
    """
    compilation = compile_any_size(
        graph, target, steps, dt_s, input_bits=input_bits, input_scale=input_scale, scalings=scalings, reset=reset
    )
    refuse_too_large([finding for finding in compilation.findings if finding.kind not in LOSSES])
    return compilation


def compile_any_size(
    graph: nir.NIRGraph,
    target: HardwareTarget | str | Path,
    steps: int,
    dt_s: float | None = None,
    *,
    input_bits: int = 1,
    input_scale: float | None = None,
    scalings: Mapping[str, Scaling] | None = None,
    reset: str | None = None,
) -> Compilation:
    """Compile a graph like :func:`compile_graph`, for simulation even if it does not fit on one chip.

    The findings list what does not fit.
    """
    chip = as_target(target)
    arithmetic_of(chip)
    payload = input_payload(input_bits, input_scale)
    network, findings = analyse(graph, dt_s, reset)
    refuse_unsupported(findings)
    assert network is not None  # analyse returns one unless it found an error
    compilation = compile_network(network, chip, steps, payload, scalings)
    return replace(compilation, findings=(*findings, *compilation.findings))


def compile_network(
    network: FloatNetwork,
    target: HardwareTarget,
    steps: int,
    payload: InputFormat = SPIKES,
    scalings: Mapping[str, Scaling] | None = None,
) -> Compilation:
    """Compile a network that has been read from a graph, whether or not it fits on one chip.

    Raises
    ------
    BadInput
        If the target declares no integer arithmetic, or does not have the reset of a group.
    """
    refuse_unsupported(check_resets(network, target))
    program, errors = quantise_network(network, target.name, arithmetic_of(target), steps, payload, scalings)
    placement = place(program, target)
    findings = (
        *check_losses(network, program),
        *check_rounding(errors),
        *check_time_step(network, program),
        *check_limits(program, placement, target),
    )
    return Compilation(program, errors, findings, placement)


def input_payload(input_bits: int, input_scale: float | None = None) -> InputFormat:
    """Return the format of the input.

    Raises
    ------
    BadInput
        If the bits or the scale are out of range.
    """
    if not 1 <= input_bits <= LARGEST_PAYLOAD_BITS:
        raise BadInput(f"input_bits is {input_bits}; allowed: 1 to {LARGEST_PAYLOAD_BITS}")
    if input_scale is not None and not 0 < input_scale < float("inf"):
        raise BadInput(f"input_scale is {input_scale}; it must be positive and finite")
    payload = InputFormat(input_bits)
    return replace(payload, scale=float(payload.largest) if input_scale is None else input_scale)


def quantise_network(
    network: FloatNetwork,
    target: str,
    arithmetic: Arithmetic,
    steps: int,
    payload: InputFormat,
    scalings: Mapping[str, Scaling] | None = None,
) -> tuple[Program, tuple[QuantisationError, ...]]:
    """Round every group of a network to integers; see :func:`~esl_neuro.compiler.quantise.quantise`."""
    chosen = scalings or {}
    parts = [
        quantise(
            group,
            network.incoming(group.name),
            arithmetic,
            steps,
            payload,
            chosen.get(group.name, BY_FORMULA),
            single_spikes=network.single_spikes,
        )
        for group in network.groups
    ]
    program = Program(
        target=target,
        input_size=network.input_size,
        steps=steps,
        dt_s=network.dt_s,
        connections=tuple(connection for connections, _, _ in parts for connection in connections),
        groups=tuple(group for _, group, _ in parts),
        readout=network.readout,
        input_bits=payload.bits,
        input_scale=payload.scale,
        arithmetic=arithmetic,
        core_plan=network.core_plan,
    )
    return program, tuple(error for _, _, error in parts)


def check_rounding(errors: tuple[QuantisationError, ...]) -> list[Finding]:
    """Warn of biases that do not fit their registers."""
    findings = []
    for error in errors:
        place = f"layer '{error.layer}'"
        if error.bias_error > 0.5:
            message = f"a bias was clipped, with an error of {error.bias_error:.2g} thresholds; scale the layer down"
            findings.append(Finding("clipped-bias", place, message, WARNING))
        if error.reset_error > 0.01:
            message = (
                f"what a spike subtracts was clipped, with an error of {error.reset_error:.2g} thresholds; "
                "use a longer membrane time constant or a shorter time step"
            )
            findings.append(Finding("clipped-reset", place, message, WARNING))
    return findings


def check_time_step(network: FloatNetwork, program: Program) -> list[Finding]:
    """Warn of time steps so short that the effect of one spike per step is below the integer resolution."""
    findings = []
    for connection in program.connections if network.single_spikes else ():
        weights = connection.weights
        values = weights.weights if isinstance(weights, Kernel) else weights.data
        largest = int(np.abs(values).max(initial=0))
        if connection.weight_exp == EXACT_EXPONENT and 0 < largest < FINE_ENOUGH:
            place = f"layer '{connection.target}'"
            message = (
                f"with time steps of {program.dt_s:g} s the largest weight from '{connection.source}' is {largest} "
                f"of {program.formats.weight_max}, "
                f"so small weights are coarse; use --dt {program.dt_s * FINE_ENOUGH / largest:.2g} or longer"
            )
            findings.append(Finding("short-steps", place, message, WARNING))
    return findings
