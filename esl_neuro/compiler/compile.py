"""The whole compiler: NIR graph in, integer program and its quantisation errors out."""

from __future__ import annotations

from dataclasses import dataclass

import nir

from esl_neuro.compiler.findings import Finding, refuse_too_large
from esl_neuro.compiler.frontend import discretise, time_step
from esl_neuro.compiler.program import INPUT, Program
from esl_neuro.compiler.quantise import QuantisationError, quantise
from esl_neuro.errors import BadInput
from esl_neuro.hardware import HardwareTarget


@dataclass(frozen=True)
class Compilation:
    """What the compiler returns.

    Attributes
    ----------
    program : Program
        Ready for a backend.
    errors : tuple of QuantisationError
        One per layer, input to output.
    """

    program: Program
    errors: tuple[QuantisationError, ...]


def compile_graph(graph: nir.NIRGraph, target: HardwareTarget, steps: int, dt_s: float | None = None) -> Compilation:
    """Compile a NIR graph for a chip.

    Parameters
    ----------
    graph : nir.NIRGraph
        The network.
    target : HardwareTarget
        The chip.
    steps : int
        Time steps per sample.
    dt_s : float, optional
        Time step in seconds, if the graph has none in its metadata.

    Raises
    ------
    BadInput
        If the graph holds something that has no integer form, or the target declares no integer arithmetic.
    LimitExceeded
        If the network does not fit on the chip.
    """
    arithmetic = target.arithmetic
    if arithmetic is None:
        raise BadInput(f"hardware target '{target.name}' has no [arithmetic]; nothing can be compiled for it")
    layers = discretise(graph, dt_s)
    sources = [INPUT, *(layer.name for layer in layers)]
    parts = [quantise(layer, source, arithmetic) for layer, source in zip(layers, sources, strict=False)]
    program = Program(
        target=target.name,
        input_size=int(layers[0].weights.shape[1]),
        steps=steps,
        dt_s=time_step(graph, dt_s),
        connections=tuple(connection for connection, _, _ in parts),
        groups=tuple(group for _, group, _ in parts),
    )
    refuse_too_large(check_limits(program, target))
    return Compilation(program, tuple(error for _, _, error in parts))


def check_limits(program: Program, target: HardwareTarget) -> list[Finding]:
    """Compare what a program needs with what one chip has; limits that nobody published are not checked."""
    needs = {"neurons_per_chip": program.neurons, "synapses_per_chip": program.synapses}
    findings = []
    for name, needed in needs.items():
        limit = target.limits.get(name)
        if limit is not None and limit.value is not None and needed > limit.value:
            findings.append(
                Finding(
                    f"{target.name} {name}",
                    f"needs {needed:,} of {limit.value:,} ({limit.source}); take away {needed - limit.value:,.0f}",
                )
            )
    return findings
