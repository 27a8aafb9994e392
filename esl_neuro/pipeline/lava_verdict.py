"""The verdict of Lava on a NIR file.

Lava cannot read NIR. It runs the integer program that the compiler makes from the file, and its spikes, currents and
potentials are compared with those of the integer simulator. Both differ from the equations of the file by quantisation.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from esl_neuro.backends import divergence, integer, lava, lava_session
from esl_neuro.backends.trace import Payloads, Trace
from esl_neuro.compiler.compile import compile_any_size
from esl_neuro.compiler.program import Program
from esl_neuro.errors import BadInput
from esl_neuro.interchange.comparison import ReaderDivergence
from esl_neuro.interchange.readers import MINIMUM, ReaderCase, Verdict
from esl_neuro.nirgraph.files import read_nir
from esl_neuro.pipeline.choices import CHIP, LAVA


def ask_lava(case: ReaderCase, file: Path) -> Verdict:
    """Compile a file and run it on the inputs of a case, in Lava and in the integer simulator."""
    if not lava_session.lava_installed():
        return Verdict(LAVA, "", "absent", f"install it with: {lava_session.INSTALL}")
    release = metadata.version("lava-nc")
    try:
        program, inputs = _compile(case, file)
        expected = integer.run_integer(program, inputs, record_potentials=True)
        _demand_spikes(program, expected.spikes)
    except BadInput as error:
        return Verdict(LAVA, release, "refused", str(error))
    found = lava.run_lava(program, inputs, record_potentials=True)
    return _verdict(release, program, expected, found)


def _compile(case: ReaderCase, file: Path) -> tuple[Program, Payloads]:
    if not np.isin(case.inputs, (0, 1)).all():
        raise BadInput("the inputs are graded; only 'esl-neuro export' turns graded inputs into payloads")
    samples, steps = case.inputs.shape[:2]
    dt_s = case.graph.metadata["dt_s"]
    program = compile_any_size(read_nir(file), CHIP, steps, dt_s, reset=case.reset).program
    return program, case.inputs.reshape(samples, steps, -1).astype(np.uint8)


def _demand_spikes(program: Program, spikes: dict[str, Any]) -> None:
    firing = [group.name for group in program.groups if program.readout != "potential" or group is not program.output]
    quiet = [f"'{name}' {spikes[name].sum()}" for name in firing if spikes[name].sum() < MINIMUM]
    if quiet:
        raise BadInput(f"layers fire fewer than {MINIMUM} spikes in the compiled program: {', '.join(quiet)}")


def _verdict(release: str, program: Program, expected: Trace, found: Trace) -> Verdict:
    part = divergence.diverge(expected, found, program)
    return Verdict(
        LAVA,
        release,
        status="different" if part else "equal",
        compared=sum(fired.size for fired in expected.spikes.values()),
        spikes=sum(int(fired.sum()) for fired in expected.spikes.values()),
        differing=sum(int((fired != found.spikes[name]).sum()) for name, fired in expected.spikes.items()),
        divergence=None if part is None else _as_reader_divergence(part, program),
    )


def _as_reader_divergence(part: divergence.TraceDivergence, program: Program) -> ReaderDivergence:
    unknown = float("nan")
    vth = next(group.vth for group in program.groups if group.name == part.layer)
    return ReaderDivergence(
        part.layer,
        part.step,
        part.sample,
        part.neuron,
        expected=part.first.spike,
        found=part.second.spike,
        potential=unknown if part.first.v is None else part.first.v,
        threshold=int(vth[part.neuron]) << 6,
        reader_potential=unknown if part.second.v is None else part.second.v,
        cause=part.cause,
    )
