"""What rounding to the integers of the chip loses, read from a network and its program without running them.

:data:`BOUNDS` holds every limit above which a loss becomes a finding; ``docs/fidelity.md`` gives the reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.compiler.network import FloatConnection, FloatGroup, FloatNetwork
from esl_neuro.compiler.program import INPUT, Connection, Group, Program
from esl_neuro.compiler.quantise import largest_threshold_error
from esl_neuro.hardware.arithmetic import DECAY_ONE, HALF_RANGE, POTENTIAL_SHIFT
from esl_neuro.nirgraph.findings import ERROR, WARNING, Finding
from esl_neuro.nirgraph.kernel import Kernel
from esl_neuro.nirgraph.linear_maps import Floats


@dataclass(frozen=True)
class Bounds:
    """Limits of what rounding may lose; above a ``warn`` limit a layer gets a warning, above ``error`` an error.

    Attributes
    ----------
    lost_warn, lost_error : float
        Share of the connections of a layer that are rounded to zero.
    threshold_steps_warn : float
        Smallest threshold in steps of the weights; a smaller one is coarse.
    threshold_error : float
        Largest relative error of a threshold.
    decay_warn, decay_error : float
        Largest relative error of a decay.
    decay_matters : float
        Share of a value that must decay within a sample; less is no decay to speak of, and its error is not reported.
    reach : float
        Largest possible current, and lowest possible potential, as a share of their range.
    moved_hidden : float
        Differing entries of the spike trains of a hidden layer, per spike of the float network.
    moved_possible : float
        The same, the largest share that the samples do not exclude.
    moved_output : float
        Differing entries of the spike trains of the output, as a share of all entries.
    moved_error : float
        Differing entries per spike of the float network, on data. At 1, silence would be as close to the float network.
    potential : float
        Root mean square error of the potentials of a readout, over their standard deviation.
    """

    lost_warn: float = 0.05
    lost_error: float = 0.5
    threshold_steps_warn: float = 8.0
    threshold_error: float = 0.5
    decay_warn: float = 0.05
    decay_error: float = 0.5
    decay_matters: float = 0.001
    reach: float = 1.0
    moved_hidden: float = 0.013
    moved_possible: float = 0.015
    moved_output: float = 0.01
    moved_error: float = 1.0
    potential: float = 0.05


BOUNDS = Bounds()
"""The limits of every command."""

LOSSES = frozenset(
    {
        "weights-lost",
        "coarse-threshold",
        "no-decay",
        "decay-error",
        "spikes-moved",
        "silent-layer",
        "current-wraps",
        "readout-fires",
    }
)
"""Kinds of findings that are errors where the integers lose too much; a caller may accept them."""


@dataclass(frozen=True)
class Rounding:
    """What rounding loses in one layer.

    Attributes
    ----------
    weights, lost : int
        Connections of the float network, and those rounded to zero.
    threshold_error : float
        Largest relative error of a threshold; 0 for a layer that never fires.
    threshold_steps : float or None
        Smallest threshold in steps of the weights that meet it; None for a layer without any or that never fires.
    decay_error : float
        Largest relative error of a decay of current or potential; 0 where nothing decays.
    current_reach : float
        Largest current that is possible within a sample, as a share of its range; above 1 it may wrap.
    potential_reach : float
        Lowest potential (for a readout, largest size) that is possible within a sample, as a share of its range; above
        1 it may saturate.
    """

    weights: int
    lost: int
    threshold_error: float
    threshold_steps: float | None
    decay_error: float
    current_reach: float
    potential_reach: float


def measure_rounding(network: FloatNetwork, program: Program, name: str) -> Rounding:
    """Return what rounding loses in one layer of a program."""
    group, rounded = _named(network.groups, name), _named(program.groups, name)
    incoming = program.incoming(name)
    current, potential = _reaches(network, program, rounded, fires=group.fires)
    return Rounding(
        weights=sum(each.declared for each in incoming),
        lost=sum(each.declared - each.stored for each in incoming),
        threshold_error=largest_threshold_error(group, incoming, rounded, program.formats) if group.fires else 0.0,
        threshold_steps=_threshold_steps(program, rounded, incoming) if group.fires else None,
        decay_error=max(float(error.max(initial=0)) for error in decay_errors(group, rounded, program.steps)),
        current_reach=current,
        potential_reach=potential,
    )


def check_losses(network: FloatNetwork, program: Program) -> list[Finding]:
    """Find what rounding loses above :data:`BOUNDS`, in all layers."""
    return [
        finding
        for group in network.groups
        for finding in (
            *_check_weights(network, program, group.name),
            *_check_rounding(group.name, measure_rounding(network, program, group.name), program),
            *_check_decays(group, _named(program.groups, group.name), program),
        )
    ]


def decay_errors(group: FloatGroup, rounded: Group, steps: int) -> tuple[Floats, Floats]:
    """Return the relative errors of the decays of current and potential, each of shape (neurons,).

    It is 0 where nothing decays, or almost nothing within the steps of a sample.
    """
    current, potential = (
        np.where(matters, np.abs(got / DECAY_ONE - wanted) / np.where(matters, wanted, 1), 0)
        for wanted, got in _decays(group, rounded)
        for matters in (1 - (1 - wanted) ** steps > BOUNDS.decay_matters,)
    )
    return current, potential


def _decays(group: FloatGroup, rounded: Group) -> tuple[tuple[Floats, Any], tuple[Floats, Any]]:
    return (group.du, rounded.du + 1), (group.dv, rounded.dv)


def _named(groups: Sequence[Any], name: str) -> Any:
    return next(group for group in groups if group.name == name)


def _threshold_steps(program: Program, rounded: Group, incoming: Sequence[Connection]) -> float | None:
    """Return the smallest threshold in steps of the coarsest weights that meet it."""
    step = np.zeros(rounded.neurons)
    for each in incoming:
        coarse = program.formats.weight_step * 2.0**each.weight_exp
        step = np.maximum(step, np.where(each.fan_in > 0, coarse, 0))
    heard = step > 0
    return float((rounded.vth[heard] / step[heard]).min()) if heard.any() else None


def _reaches(network: FloatNetwork, program: Program, rounded: Group, *, fires: bool) -> tuple[float, float]:
    """Bound current and potential within a sample, as shares of their ranges, if all sources of one sign always fire.

    ``|u| <= kept(du) sum of weights`` and ``|v| <= kept(dv) (|u| + bias)``; ``kept(d) = (1 - (1 - d)**steps) / d``.
    Sources that fire once per sample add their weight once. A neuron that fires is reset from above, so only the
    potential of a readout has an upper bound.
    """
    arriving = np.zeros((2, rounded.neurons))
    for each in program.incoming(rounded.name):
        payload = 2**program.input_bits - 1 if each.source == INPUT else 1
        arriving += np.ceil(_sums(each) * 2.0**each.weight_exp * payload)
    arriving *= 2**POTENTIAL_SHIFT
    current = arriving * _kept((rounded.du + 1) / DECAY_ONE, program.steps)
    kept = _kept(rounded.dv / DECAY_ONE, program.steps)
    bias = (rounded.bias_mant << rounded.bias_exp) * kept
    lowest, highest = current * (1.0 if network.single_spikes else kept)
    potential = lowest - bias if fires else np.maximum(lowest - bias, highest + bias)
    largest = arriving if network.single_spikes else current
    return float(largest.max(initial=0)) / HALF_RANGE, float(potential.max(initial=0)) / HALF_RANGE


def _sums(connection: Connection) -> Floats:
    """Return the sizes of the negative and of the positive weights of each target, summed, shape (2, targets)."""
    weights = connection.weights
    if isinstance(weights, Kernel):
        _, rows, columns = weights.output_shape
        parts = [part.sum(axis=(1, 2, 3)) for part in (np.maximum(-weights.weights, 0), np.maximum(weights.weights, 0))]
        return np.repeat(np.array(parts, dtype=np.float64), rows * columns, axis=1)
    return np.array([np.ravel(part.sum(axis=1)) for part in (-weights.minimum(0), weights.maximum(0))], np.float64)


def _kept(decay: Floats, steps: int) -> Floats:
    """Sum what remains of a constant input after some steps: ``(1 - (1 - decay)**steps) / decay``."""
    decays = decay > 0
    return np.where(decays, (1 - (1 - decay) ** steps) / np.where(decays, decay, 1), steps)


# Findings.


def _check_weights(network: FloatNetwork, program: Program, name: str) -> list[Finding]:
    """Find a layer that loses connections, and whether large weights or large thresholds are the cause."""
    pairs = list(zip(network.incoming(name), program.incoming(name), strict=True))
    declared = sum(got.declared for _, got in pairs)
    lost = declared - sum(got.stored for _, got in pairs)
    if not declared or lost / declared <= BOUNDS.lost_warn:
        return []
    few = next((got.weight_bits for _, got in pairs if got.weight_bits is not None), None)
    shared = np.unique(_named(program.groups, name).scale).size == 1
    largest = max(_largest_beside_lost(wanted, got, shared=shared) for wanted, got in pairs)
    if few is not None:
        reason = f"by weights of {few} bits; use more bits, or train with them: training.weight_bits"
    elif 2 * largest >= program.formats.weight_max:
        reason = "beside weights that are much larger; clip the largest weights"
    else:
        reason = "beside thresholds or biases that are much larger; scale these down or the weights up"
    share = lost / declared
    message = f"{lost:,} of {declared:,} connections ({100 * share:.1f} %) are rounded to zero, {reason}"
    return [Finding("weights-lost", f"layer '{name}'", message, _severity(share > BOUNDS.lost_error))]


def _largest_beside_lost(wanted: FloatConnection, got: Connection, *, shared: bool) -> int:
    """Return the largest stored weight that shares its scale with a lost one."""
    if not got.stored:
        return 0
    if shared or isinstance(got.weights, Kernel) or isinstance(wanted.weights, Kernel):
        return int(np.abs(got.weights.weights if isinstance(got.weights, Kernel) else got.weights.data).max())
    losing = got.weights[np.diff(wanted.weights.indptr) > got.fan_in]
    return int(abs(losing).max()) if losing.nnz else 0


def _check_rounding(name: str, rounding: Rounding, program: Program) -> list[Finding]:
    place, findings = f"layer '{name}'", []
    steps = rounding.threshold_steps
    if rounding.threshold_error > BOUNDS.threshold_error or (steps is not None and steps < BOUNDS.threshold_steps_warn):
        size = "" if steps is None else f"the smallest threshold is {steps:.3g} steps of the weights that meet it, and "
        message = (
            f"{size}thresholds are wrong by up to {100 * rounding.threshold_error:.3g} %; below "
            f"{BOUNDS.threshold_steps_warn:g} steps a threshold is coarse: scale the largest weights down"
        )
        coarse = rounding.threshold_error > BOUNDS.threshold_error
        findings.append(Finding("coarse-threshold", place, message, _severity(coarse)))
    if rounding.current_reach > BOUNDS.reach:
        message = (
            f"the synaptic current may wrap: if all sources of one sign fire in each of the {program.steps:,} steps of "
            f"a sample, it reaches {rounding.current_reach:.3g} times its range; lower the weights, the fan-in or the "
            "synaptic time constant"
        )
        findings.append(Finding("current-may-wrap", place, message, WARNING))
    if rounding.potential_reach > BOUNDS.reach:
        message = (
            f"the potential may saturate: if all sources of one sign fire in each of the {program.steps:,} steps of "
            f"a sample, it reaches {rounding.potential_reach:.3g} times its range; shorten the membrane time constant, "
            "or measure it on data"
        )
        findings.append(Finding("potential-may-saturate", place, message, WARNING))
    return findings


def _check_decays(group: FloatGroup, rounded: Group, program: Program) -> list[Finding]:
    """Find decays that the registers of the chip cannot represent, or only coarsely."""
    place, findings = f"layer '{group.name}'", []
    names = (("synaptic current", "du"), ("potential", "dv"))
    for (what, register), (wanted, got), error in zip(
        names, _decays(group, rounded), decay_errors(group, rounded, program.steps), strict=True
    ):
        if error.max(initial=0) <= BOUNDS.decay_warn:
            continue
        worst = int(error.argmax())
        exact, integer, tau_s = DECAY_ONE * wanted[worst], int(got[worst]), program.dt_s / wanted[worst]
        stored = integer - (register == "du")
        when = f"with time steps of {program.dt_s:g} s"
        fix = f"use --dt {tau_s / 410:.2g} or longer (410 steps per time constant), or check the time step"
        if integer <= 0:
            outside = ", which is outside its register (0 to 4095)" if stored < 0 else ""
            message = (
                f"the {what} of {_count(got <= 0, wanted > 0)} does not decay: {when} the time constant {tau_s:g} s "
                f"needs a decay of {exact:.2g} of {DECAY_ONE}, and {register} becomes {stored}{outside}; {fix}"
            )
            findings.append(Finding("no-decay", place, message, ERROR))
        else:
            message = (
                f"the decay of the {what} is wrong by {100 * error[worst]:.0f} %: {when} the time constant "
                f"{tau_s:g} s needs {exact:.2f} of {DECAY_ONE}, and gets {integer}; {fix}"
            )
            findings.append(Finding("decay-error", place, message, _severity(error[worst] > BOUNDS.decay_error)))
    return findings


def _count(stuck: NDArray[np.bool_], decaying: NDArray[np.bool_]) -> str:
    number, neurons = int(np.count_nonzero(stuck & decaying)), stuck.size
    return "every neuron" if number == neurons else f"{number:,} of {neurons:,} neurons"


def _severity(error: bool) -> str:
    return ERROR if error else WARNING
