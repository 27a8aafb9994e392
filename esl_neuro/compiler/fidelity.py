"""Measure how closely the integers follow the float network: both run side by side on the same input.

The simulator of the integers is an argument, so any backend works.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.compiler.calibrate import Runner, SimulationResult, check_activity, group_error, rounded_network
from esl_neuro.compiler.float_groups import FloatTrace, run_groups
from esl_neuro.compiler.losses import BOUNDS, Rounding, measure_rounding
from esl_neuro.compiler.network import FloatGroup, FloatNetwork
from esl_neuro.compiler.program import Program
from esl_neuro.hardware.arithmetic import HALF_RANGE, POTENTIAL_SHIFT
from esl_neuro.nirgraph.findings import ERROR, WARNING, Finding

WORK = 400_000_000  # connections times steps times samples that a measurement may visit
ROUNDED = ("weights-lost", "coarse-threshold")
ENTRIES = 4_000_000  # entries of spike trains, each about 40 bytes


@dataclass(frozen=True)
class Trial:
    """Input on which floats and integers are compared.

    Attributes
    ----------
    values : array, shape (samples, steps, lines)
        In units of the network's input.
    payloads : integer array, shape (samples, steps, lines)
        The same, as they enter the program.
    name : str
        Description from which a reader can repeat the measurement.
    drawn : bool
        Whether the input is random, and not data of the network.
    rates : float array, shape (samples,), optional
        For input of several rates, that of each sample.
    """

    values: NDArray[Any]
    payloads: NDArray[Any]
    name: str
    drawn: bool = False
    rates: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class LayerFidelity:
    """How closely one layer of integers follows the float network.

    Attributes
    ----------
    layer : str
        Name of the layer.
    rounding : Rounding
        What rounding loses, on any input.
    spikes_float, spikes_integer : int
        Spikes of both runs.
    moved : int
        Entries (sample, step, neuron) at which one run has a spike and the other has none.
    entries : int
        All entries.
    moved_share : float or None
        ``moved / spikes_float``, at least one spike; None for a readout that never fires.
    moved_worst : float or None
        The same, of the samples of the rate at which it is largest.
    potential_error : float or None
        For such a readout, the root mean square error of its last potentials over their standard deviation.
    u_range, v_range : tuple of float
        Lowest and highest current and potential after each step, as shares of their ranges.
    """

    layer: str
    rounding: Rounding
    spikes_float: int
    spikes_integer: int
    moved: int
    entries: int
    moved_share: float | None
    moved_worst: float | None
    potential_error: float | None
    u_range: tuple[float, float]
    v_range: tuple[float, float]


@dataclass(frozen=True)
class Fidelity:
    """How closely the integers follow the float network on some input.

    Attributes
    ----------
    inputs : str
        The input; random input is described by rates and seed.
    drawn : bool
        Whether the input is random, and not data of the network.
    layers : tuple of LayerFidelity
        From input to output.
    """

    inputs: str
    drawn: bool
    layers: tuple[LayerFidelity, ...]


def affordable(program: Program, samples: int) -> int:
    """Return how many of some samples can be compared in a few seconds, at least one."""
    each = program.steps * max(1, program.synapses + program.neurons)
    entries = program.steps * (program.neurons + program.input_size)
    return max(1, min(samples, WORK // each, ENTRIES // entries))


def measure_fidelity(
    network: FloatNetwork, program: Program, trial: Trial, run: Runner
) -> tuple[Fidelity, list[Finding]]:
    """Run floats and integers on the same input; return the comparison, and what it finds above the bounds.

    Parameters
    ----------
    network : FloatNetwork
        The network.
    program : Program
        Its integers.
    trial : Trial
        The input.
    run : callable
        Simulates a program on payloads, and returns currents and potentials too.
    """
    wanted, got = run_groups(network, trial.values), run(program, trial.payloads)
    fidelity = compare_layers(network, program, trial, wanted, got)
    activity = check_activity(program, trial.payloads, got)
    findings = [_judged(finding, fidelity) for finding in activity]
    if not network.single_spikes:  # one spike, moved by one step, differs in two entries; accuracy measures these
        findings += _check_moved(network, program, trial, fidelity, (wanted, got), activity)
    return fidelity, findings


def compare_layers(
    network: FloatNetwork, program: Program, trial: Trial, wanted: FloatTrace, got: SimulationResult
) -> Fidelity:
    """Compare a run of the float network with a run of the integers on the same input."""
    parts = _parts(trial)
    layers = tuple(_compare(network, program, group, wanted, got, parts) for group in network.groups)
    return Fidelity(trial.name, trial.drawn, layers)


def _parts(trial: Trial) -> list[Any]:
    """Return what selects the samples of each rate."""
    return [slice(None)] if trial.rates is None else [trial.rates == rate for rate in np.unique(trial.rates)]


def _compare(
    network: FloatNetwork,
    program: Program,
    group: FloatGroup,
    wanted: FloatTrace,
    got: SimulationResult,
    parts: Sequence[Any],
) -> LayerFidelity:
    name = group.name
    floats, integers = wanted.spikes[name], got.spikes[name]
    return LayerFidelity(
        layer=name,
        rounding=measure_rounding(network, program, name),
        spikes_float=int(floats.sum(dtype=np.int64)),
        spikes_integer=int(integers.sum(dtype=np.int64)),
        moved=int(np.count_nonzero(floats != integers)),
        entries=floats.size,
        moved_share=_share(floats, integers) if group.fires else None,
        moved_worst=max(_share(floats[part], integers[part]) for part in parts) if group.fires else None,
        potential_error=None if group.fires else group_error(wanted, got, program, name),
        u_range=_ends(got.u[name]),
        v_range=_ends(got.v[name]),
    )


def _share(floats: NDArray[Any], integers: NDArray[Any]) -> float:
    """Return the number of differing entries per spike of the float network."""
    return float(np.count_nonzero(floats != integers)) / max(1, int(floats.sum(dtype=np.int64)))


def _ends(values: NDArray[Any]) -> tuple[float, float]:
    return float(values.min(initial=0)) / HALF_RANGE, float(values.max(initial=0)) / HALF_RANGE


# Findings.


def weigh(findings: Iterable[Finding], fidelity: Fidelity | None, output: str) -> list[Finding]:
    """Make rounded weights and thresholds a warning where the comparison shows that they cost almost nothing.

    Parameters
    ----------
    findings : iterable of Finding
        Of :func:`~esl_neuro.compiler.losses.check_losses`, among others.
    fidelity : Fidelity or None
        The comparison; without one, or for a layer that is silent in it, nothing changes.
    output : str
        Name of the output layer.
    """
    layers = () if fidelity is None else fidelity.layers
    calm = {
        f"layer '{layer.layer}'"
        for layer in layers
        if layer.spikes_float and not _differs(layer, output=layer.layer == output)
    }
    return [
        replace(each, severity=WARNING) if each.kind in ROUNDED and each.place in calm else each for each in findings
    ]


def _judged(finding: Finding, fidelity: Fidelity) -> Finding:
    """Make an observation an error if it happens on data; name silence that the float network shares."""
    layer = next(each for each in fidelity.layers if finding.place == f"layer '{each.layer}'")
    if finding.kind == "silent-layer":
        if layer.spikes_float == 0:
            message = "no neuron fires on this input, in floating point neither, so it shows nothing about the layer"
            return replace(finding, message=message)
        message = f"no neuron fires; in floating point there are {layer.spikes_float:,} spikes"
        return replace(finding, message=message, severity=WARNING if fidelity.drawn else ERROR)
    severe = finding.kind in ("current-wraps", "readout-fires") and not fidelity.drawn
    return replace(finding, severity=ERROR) if severe else finding


def _check_moved(
    network: FloatNetwork,
    program: Program,
    trial: Trial,
    fidelity: Fidelity,
    ran: tuple[FloatTrace, SimulationResult],
    activity: Sequence[Finding],
) -> list[Finding]:
    """Find layers whose spikes or potentials differ from the float network, with the causes that tests confirm."""
    findings: list[Finding] = []
    for layer in fidelity.layers:
        output = layer.layer == program.output.name
        differs, possible = _differs(layer, output=output), 0.0
        if not (differs or output):
            possible = _possible_share(ran, trial, layer.layer)
        if not differs and possible <= BOUNDS.moved_possible:
            continue
        causes = _causes(network, program, trial, layer.layer, ran, activity)
        if layer.moved_share is None:
            what = f"potentials differ by {100 * (layer.potential_error or 0):.1f} % of their standard deviation"
            findings.append(Finding("potentials-moved", f"layer '{layer.layer}'", f"{what}; {causes}", WARNING))
            continue
        share = f"{100 * layer.moved_share:.1f} % of its {layer.spikes_float:,} spikes{_at_worst(layer)}"
        share += "" if differs else f", in few of the samples, so other input may move {100 * possible:.1f} %"
        what = (
            f"{layer.moved:,} entries of its spike trains differ from the float network, "
            f"{share if layer.spikes_float else 'which never fires here'}"
        )
        severe = layer.moved_share >= BOUNDS.moved_error and not fidelity.drawn
        severity = ERROR if severe else WARNING
        findings.append(Finding("spikes-moved", f"layer '{layer.layer}'", f"{what}; {causes}", severity))
    return findings


def _possible_share(ran: tuple[FloatTrace, SimulationResult], trial: Trial, name: str) -> float:
    """Return the largest share of moved spikes that the samples of one rate do not exclude.

    It is two standard errors above the share: neurons in loops err in bursts, so most samples may show no error.
    """
    wanted, got = ran
    floats, integers = wanted.spikes[name], got.spikes[name]
    if not floats.any():
        return 0.0
    spikes, moved = (each.sum(axis=(1, 2), dtype=np.float64) for each in (floats, floats != integers))
    shares = []
    for part in _parts(trial):
        total = max(1.0, spikes[part].sum())
        share = moved[part].sum() / total
        shares.append(share + 2 * float(np.sqrt(np.sum((moved[part] - share * spikes[part]) ** 2))) / total)
    return float(max(shares))


def _at_worst(layer: LayerFidelity) -> str:
    worst, share = layer.moved_worst or 0.0, layer.moved_share or 0.0
    return f" (at the worst rate {100 * worst:.1f} %)" if worst > 1.2 * share else ""


def _differs(layer: LayerFidelity, *, output: bool) -> bool:
    if layer.moved_share is None:
        return (layer.potential_error or 0.0) > BOUNDS.potential
    if output:
        return layer.moved / max(1, layer.entries) > BOUNDS.moved_output
    return (layer.moved_worst or 0.0) > BOUNDS.moved_hidden


QUANTITIES: dict[str, tuple[str, ...]] = {
    "weights": (),
    "thresholds": ("threshold", "reset_by"),
    "decays": ("du", "dv"),
    "biases": ("bias",),
}
"""What is rounded before a run, with the fields of a group."""

# Causes. A cause is named if it alone explains at least half of the difference.


def _causes(
    network: FloatNetwork,
    program: Program,
    trial: Trial,
    name: str,
    ran: tuple[FloatTrace, SimulationResult],
    activity: Sequence[Finding],
) -> str:
    """Name the roundings of which each alone, all others switched off, moves at least half as much."""
    wanted, got = ran
    total = _distance(network, name, wanted, got.spikes[name], _potentials(program, name, got))
    everything = frozenset(group.name for group in network.groups)
    rounded = rounded_network(network, program, everything)
    by_all = run_groups(rounded, trial.values)
    alone = {f"rounded {quantity}": _alone(network, rounded, name, quantity) for quantity in QUANTITIES}
    if len(everything) > 1:
        alone["what other layers send"] = rounded_network(network, program, everything - {name})
    moved = {
        cause: _distance_of_runs(network, name, wanted, run_groups(changed, trial.values))
        for cause, changed in alone.items()
        if changed is not network
    }
    arithmetic = _distance(network, name, by_all, got.spikes[name], _potentials(program, name, got))
    moved[_arithmetic_cause(name, activity)] = arithmetic
    named = sorted((cause for cause, share in moved.items() if 2 * share >= total > 0), key=lambda each: -moved[each])
    if not named:
        return "no single rounding explains half of it: all of them together do"
    return f"cause, tested alone: {', '.join(named)}"


def _arithmetic_cause(name: str, activity: Sequence[Finding]) -> str:
    kinds = {finding.kind for finding in activity if finding.place == f"layer '{name}'"}
    if "current-wraps" in kinds:
        return "a synaptic current that wraps"
    if "potential-saturates" in kinds:
        return "a potential at the end of its range"
    return "rounding of current and potential in each step"


def _alone(network: FloatNetwork, rounded: FloatNetwork, name: str, quantity: str) -> FloatNetwork:
    """Return the network with one quantity of one layer rounded; the network itself if that changes nothing."""
    if quantity == "weights":
        pairs = zip(network.connections, rounded.connections, strict=True)
        return replace(network, connections=tuple(other if one.target == name else one for one, other in pairs))
    fields = QUANTITIES[quantity]
    groups = tuple(
        replace(one, **{field: getattr(other, field) for field in fields}) if one.name == name else one
        for one, other in zip(network.groups, rounded.groups, strict=True)
    )
    pairs_of_groups = list(zip(network.groups, groups, strict=True))
    same = all(
        np.array_equal(getattr(one, each), getattr(two, each)) for one, two in pairs_of_groups for each in fields
    )
    return network if same else replace(network, groups=groups)


def _distance_of_runs(network: FloatNetwork, name: str, wanted: FloatTrace, other: FloatTrace) -> float:
    return _distance(network, name, wanted, other.spikes[name], other.v[name][:, -1])


def _distance(
    network: FloatNetwork, name: str, wanted: FloatTrace, spikes: NDArray[Any], potentials: NDArray[Any] | None
) -> float:
    """Return the share of differing entries; for a readout, the root mean square difference of its last potentials."""
    group = next(group for group in network.groups if group.name == name)
    if group.fires or potentials is None:
        return float(np.mean(wanted.spikes[name] != spikes))
    return float(np.sqrt(np.mean((wanted.v[name][:, -1] - potentials) ** 2)))


def _potentials(program: Program, name: str, got: SimulationResult) -> NDArray[Any] | None:
    """Return the last potentials of a readout in units of the float network."""
    if got.potential is None or name != program.output.name:
        return None
    return np.asarray(got.potential / (program.output.scale * (1 << POTENTIAL_SHIFT)))
