"""Choose scales on data, and measure what rounding does to a running network.

The simulator is an argument, so any backend works.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from esl_neuro.compiler.compile import quantise_network
from esl_neuro.compiler.float_groups import FloatTrace, run_groups
from esl_neuro.compiler.network import FloatGroup, FloatNetwork
from esl_neuro.compiler.program import INPUT, Connection, Group, IntArray, Program, Weights
from esl_neuro.compiler.quantise import BY_FORMULA, Scaling, biases
from esl_neuro.hardware import Arithmetic
from esl_neuro.hardware.arithmetic import DECAY_BITS, DECAY_ONE, HALF_RANGE, POTENTIAL_SHIFT
from esl_neuro.hardware.rounding import SPIKES, InputFormat
from esl_neuro.nirgraph.findings import WARNING, Finding
from esl_neuro.nirgraph.kernel import Kernel
from esl_neuro.nirgraph.linear_maps import Floats, apply


class SimulationResult(Protocol):
    """What a simulator returns, for example :class:`esl_neuro.backends.trace.Trace`.

    Spikes, currents and potentials have shape (samples, steps, neurons); ``u`` and ``v`` are those after each step.
    """

    @property
    def spikes(self) -> Mapping[str, NDArray[np.uint8]]:
        """Spikes of each group."""

    @property
    def u(self) -> Mapping[str, IntArray]:
        """Synaptic currents."""

    @property
    def v(self) -> Mapping[str, IntArray]:
        """Membrane potentials."""

    @property
    def potential(self) -> IntArray | None:
        """Last potentials of the output, shape (samples, neurons), if the readout is the potential."""


Runner = Callable[[Program, NDArray[Any]], SimulationResult]

# First the formula, then finer and coarser scales. A factor of 2 with a shift of 1 leaves the weights and halves the
# error of the threshold; a factor without a shift clips the largest weights to represent the others better.
CANDIDATES = (
    BY_FORMULA,
    *(Scaling(2.0**shift, shift) for shift in (1, 2, 3, 4, -1)),
    *(Scaling(factor) for factor in (0.5, 0.71, 0.84, 1.19, 1.41, 2.0)),
)


@dataclass(frozen=True)
class Calibration:
    """The scaling that calibration chose for one group.

    Attributes
    ----------
    group : str
    scaling : Scaling
    error, error_by_formula : float
        See :func:`group_error`: with the chosen scaling, and with the formula.
    """

    group: str
    scaling: Scaling
    error: float
    error_by_formula: float


def search_scalings(
    network: FloatNetwork,
    arithmetic: Arithmetic,
    steps: int,
    inputs: NDArray[Any],
    run: Runner,
    payload: InputFormat = SPIKES,
    candidates: Sequence[Scaling] = CANDIDATES,
    narrowed: Mapping[str, Scaling] | None = None,
) -> tuple[Calibration, ...]:
    """Choose the scaling of each group with the least error on data, from input to output.

    Each group is evaluated with the chosen scalings of the groups before it, so it compensates their errors. Ties go to
    the first candidate: the formula is replaced only by a better scaling.

    Parameters
    ----------
    network : FloatNetwork
        The network.
    arithmetic : Arithmetic
        Integer formats of the chip.
    steps : int
        Time steps per sample.
    inputs : array, shape (samples, steps, input lines)
        Calibration data in units of the network.
    run : callable
        Simulates a program on payloads.
    payload : InputFormat
        What input spikes carry.
    candidates : sequence of Scaling
        Scalings to try; the first one is the default.
    narrowed : mapping of str to Scaling, optional
        Groups with fewer bits than the chip's, which they keep.
    """
    wanted = run_groups(network, inputs)
    fed = payload.payloads(np.asarray(inputs, dtype=np.float64)).astype(np.int32)
    chosen: dict[str, Scaling] = dict(narrowed or {})
    results = []
    for group in network.groups:
        bits = chosen.get(group.name, BY_FORMULA).weight_bits
        scalings = [replace(each, weight_bits=bits) for each in candidates]
        tried = []
        for candidate in scalings:
            program, _ = quantise_network(network, "", arithmetic, steps, payload, {**chosen, group.name: candidate})
            tried.append(group_error(wanted, run(program, fed), program, group.name))
        best = int(np.argmin(tried))
        chosen[group.name] = scalings[best]
        results.append(Calibration(group.name, scalings[best], tried[best], tried[0]))
    return tuple(results)


def group_error(wanted: FloatTrace, got: SimulationResult, program: Program, name: str) -> float:
    """Measure how far a group is from the float network.

    For a group that fires, the share of entries (sample, step, neuron) whose spikes differ. For a group whose potential
    is read, the root mean square error of its last potentials over their standard deviation.
    """
    if name != program.output.name or got.potential is None:
        return float(np.mean(got.spikes[name] != wanted.spikes[name]))
    expected = wanted.v[name][:, -1]
    potential = got.potential / (program.output.scale * (1 << POTENTIAL_SHIFT))
    spread = float(expected.std()) or 1.0
    return float(np.sqrt(np.mean((potential - expected) ** 2))) / spread


def check_activity(program: Program, inputs: NDArray[Any], got: SimulationResult) -> list[Finding]:
    """Warn of silent layers, wrapped currents and saturated potentials on data.

    Parameters
    ----------
    program : Program
        What ran.
    inputs : integer array, shape (samples, steps, input lines)
        The payloads that it received.
    got : SimulationResult
        Spikes, ``u`` and ``v`` of every group.
    """
    findings = []
    signals: dict[str, NDArray[Any]] = {INPUT: np.asarray(inputs, dtype=np.int64), **got.spikes}
    for group in program.groups:
        place = f"layer '{group.name}'"
        reads = group.name == program.output.name and program.readout == "potential"
        silent = np.mean(got.spikes[group.name].sum(axis=(0, 1)) == 0)
        if reads and silent < 1:
            message = "is a potential readout but fired, which reset its potential; scale the layer down"
            findings.append(Finding("readout-fires", place, message, WARNING))
        if not reads and silent == 1:
            message = "no neuron fires on these data; lower its thresholds or scale its inputs up"
            findings.append(Finding("silent-layer", place, message, WARNING))
        wrapped = int(np.count_nonzero(wraps(program, group, signals, got.u[group.name])))
        if wrapped:
            message = f"the synaptic current wrapped {wrapped:,} times; scale the layer down"
            findings.append(Finding("current-wraps", place, message, WARNING))
        saturated = int(np.count_nonzero(np.abs(got.v[group.name]) >= HALF_RANGE - 1))
        if saturated:
            message = f"the potential saturated {saturated:,} times; scale the layer down"
            findings.append(Finding("potential-saturates", place, message, WARNING))
    return findings


def wraps(program: Program, group: Group, signals: Mapping[str, NDArray[Any]], u: IntArray) -> NDArray[np.bool_]:
    """Find where the synaptic current overflowed its 24 bits: where ``u`` differs from decay plus input.

    Parameters
    ----------
    program, group : Program, Group
        The group, and the program that contains it.
    signals : mapping of str to array, shape (samples, steps, neurons)
        Spikes of all groups and payloads of the input.
    u : int64 array, shape (samples, steps, neurons)
        Currents after each step.
    """
    arriving = np.zeros(u.shape, dtype=np.int64)
    for connection in program.incoming(group.name):
        sent = signals[connection.source]
        steps = u.shape[1] - connection.delay
        if steps <= 0:
            continue
        columns = sent[:, :steps].reshape(-1, sent.shape[2]).T.astype(np.float64)
        sums = np.rint(apply(connection.weights, columns)).astype(np.int64).T.reshape(u.shape[0], steps, -1)
        shift = connection.weight_exp
        arriving[:, connection.delay :] += sums << shift if shift >= 0 else sums >> -shift
    before = np.concatenate([np.zeros_like(u[:, :1]), u[:, :-1]], axis=1)
    kept = before * (DECAY_ONE - (group.du + 1))
    expected = np.sign(kept) * (np.abs(kept) >> DECAY_BITS) + (arriving << POTENTIAL_SHIFT)
    return np.asarray(expected != u)


def accuracy_loss_by_layer(
    groups: Iterable[str], accuracy: Callable[[frozenset[str]], float]
) -> dict[str, tuple[float, float]]:
    """Return the accuracy loss of each layer.

    Parameters
    ----------
    groups : iterable of str
        The layers.
    accuracy : callable
        Accuracy of the network with this set of layers in integers, the others in floating point.

    Returns
    -------
    dict of str to (float, float)
        For each layer, the accuracy lost when only this layer is rounded, and the accuracy regained when only this
        layer is not rounded.
    """
    names = tuple(groups)
    everything = frozenset(names)
    exact, rounded = accuracy(frozenset()), accuracy(everything)
    return {name: (exact - accuracy(frozenset({name})), accuracy(everything - {name}) - rounded) for name in names}


def rounded_network(network: FloatNetwork, program: Program, layers: frozenset[str]) -> FloatNetwork:
    """Return the network with the rounded numbers of some layers, and the original numbers of the others.

    :func:`accuracy_loss_by_layer` compares such networks, run by
    :func:`~esl_neuro.compiler.float_groups.run_groups`. They show the rounding of weights, thresholds, decays and
    biases, and not that of ``u`` and ``v``.
    """
    scales = {group.name: group.scale for group in program.groups}
    groups = tuple(
        _rounded_group(group, next(each for each in program.groups if each.name == group.name), program)
        if group.name in layers
        else group
        for group in network.groups
    )
    connections = tuple(
        replace(each, weights=_unscaled(got, scales[got.target], program)) if each.target in layers else each
        for each, got in zip(network.connections, program.connections, strict=True)
    )
    return replace(network, groups=groups, connections=connections)


def _rounded_group(group: FloatGroup, got: Group, program: Program) -> FloatGroup:
    return replace(
        group,
        bias=biases(program, got) / (got.scale * (1 << POTENTIAL_SHIFT)),
        du=(got.du + 1) / DECAY_ONE,
        dv=got.dv / DECAY_ONE,
        threshold=got.vth / got.scale if group.fires else group.threshold,
        reset_by=None if got.reset_by is None else got.reset_by / (got.scale * (1 << POTENTIAL_SHIFT)),
    )


def _unscaled(connection: Connection, scale: Floats, program: Program) -> Weights:
    unit = 2.0**connection.weight_exp / scale * (program.input_scale if connection.source == INPUT else 1)
    weights = connection.weights
    if isinstance(weights, Kernel):
        channels = unit.reshape(weights.output_shape)[:, :1, :1, None]
        return replace(weights, weights=weights.weights * channels)
    return sp.csr_matrix(sp.diags(unit) @ weights)
