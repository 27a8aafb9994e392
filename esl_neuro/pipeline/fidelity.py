"""Compare the integers of a network with the float network, on data or on drawn input."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from esl_neuro.backends.integer import run_integer
from esl_neuro.compiler.fidelity import Fidelity, Trial, affordable, measure_fidelity
from esl_neuro.compiler.losses import LOSSES
from esl_neuro.compiler.network import FloatNetwork
from esl_neuro.compiler.program import Program
from esl_neuro.errors import BadInput, CheckFailed, counted
from esl_neuro.nirgraph.findings import WARNING, Finding, errors
from esl_neuro.pipeline.inputs import Samples, payloads, spread
from esl_neuro.random_streams import stream
from esl_neuro.reading.limits import refuse_large

SAMPLES = 64  # of data that are compared, at most
DRAWN_SAMPLES = 400  # errors of neurons in loops come in bursts, of which few samples have none
DRAWN_RATES = (0.3, 0.1, 0.6, 0.9)  # spikes per line and step, ordinary first
SEED = 0


def compare(
    network: FloatNetwork,
    program: Program,
    samples: Samples | None = None,
    input_steps: tuple[int, ...] | None = None,
) -> tuple[Fidelity | None, list[Finding]]:
    """Run floats and integers on the first of some samples, or on drawn input.

    Parameters
    ----------
    network : FloatNetwork
        The network.
    program : Program
        Its integers.
    samples : Samples, optional
        Values in units of the network's input. Default: drawn input, see :func:`draw`.
    input_steps : tuple of int, optional
        Step of the program in which each step of the samples arrives.

    Returns
    -------
    fidelity : Fidelity or None
        None if the simulator does not accept the program; a finding says why.
    findings : list of Finding
        What differs more than the bounds allow.
    """
    trial = _trial(program, samples, input_steps) if samples else draw(program, single_spikes=network.single_spikes)
    try:
        return measure_fidelity(network, program, trial, partial(run_integer, record_potentials=True))
    except BadInput as refused:
        message = f"integers and floats cannot be compared: {refused}"
        return None, [Finding("fidelity-unknown", "network", message, WARNING)]


def _trial(program: Program, samples: Samples, input_steps: tuple[int, ...] | None) -> Trial:
    count = affordable(program, min(len(samples), SAMPLES))
    values = samples.values[:count].reshape(count, samples.steps, -1)
    arriving = payloads(values, program)
    if samples.steps != program.steps:
        values, arriving = (spread(each, program.steps, input_steps) for each in (values, arriving))
    name = samples.name if count == len(samples) else f"the first {count:,} of {samples.name}"
    return Trial(values, arriving, f"{name} x {program.steps:,} steps")


def draw(program: Program, *, single_spikes: bool = False) -> Trial:
    """Return random input for a program; repeated calls give the same input.

    Each line and step has a spike with the probability of the sample's rate, the rates taking turns, and a graded input
    a uniform payload with each spike. In a single-spike network each line fires once, in a step of the first half.
    """
    count, steps, lines = affordable(program, DRAWN_SAMPLES), program.steps, program.input_size
    refuse_large(f"{steps:,} steps of {lines:,} lines", "random input of them takes", 8 * count * steps * lines)
    generator = stream(SEED, "fidelity input")
    rates = None
    if single_spikes:
        spikes = generator.integers(0, max(1, steps // 2), (count, 1, lines)) == np.arange(steps)[:, None]
        how = "one spike a line at random"
    else:
        rates = np.resize(DRAWN_RATES, count)
        spikes = generator.random((count, steps, lines)) < rates[:, None, None]
        how = f"random spikes at rates {', '.join(f'{rate:g}' for rate in DRAWN_RATES[:count])}"
    if program.input_bits > 1:
        sent = spikes * generator.integers(1, 2**program.input_bits, spikes.shape)
        how += f" with payloads from 1 to {2**program.input_bits - 1}"
    else:
        sent = spikes
    arriving = sent.astype(np.uint8 if program.input_bits <= 8 else np.int32)
    name = f"{counted(count, 'drawn sample')} x {steps:,} steps ({how}, seed {SEED})"
    return Trial(arriving / program.input_scale, arriving, name, drawn=True, rates=rates)


def refuse_losses(findings: Sequence[Finding], what: str) -> None:
    """Raise an error if the integers lose too much.

    Raises
    ------
    CheckFailed
        With every loss above the error bounds.
    """
    lost = [finding for finding in errors(findings) if finding.kind in LOSSES]
    if lost:
        raise CheckFailed(
            f"{what}: the integers do not follow the float network: {'; '.join(map(str, lost))}; "
            "to go on with this loss, give --accept-loss (accept_loss=True)"
        )
