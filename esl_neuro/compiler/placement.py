"""Place neurons on cores, and find what does not fit.

A core holds neurons of one group, unless the network was trained for cores that several groups share. For an image,
these are a range of channels of one patch, so that the messages of a source reach few cores; for other groups,
consecutive neurons. A group uses as many cores as the published limits of a core require; unpublished limits are
reported as unknown and not enforced. A network that was trained for cores of this chip keeps them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

from esl_neuro.compiler.core_load import (
    NAMES,
    WORD_BITS,
    KernelWires,
    Limits,
    Load,
    Wires,
    exceeds,
    synapse_pattern,
    wires,
)
from esl_neuro.compiler.core_plan import CorePlan, Parts
from esl_neuro.compiler.program import INPUT, Connection, Group, IntArray, Program
from esl_neuro.compiler.tiling import Tiling, patches
from esl_neuro.compiler.timing import timing
from esl_neuro.hardware import HardwareTarget, Limit
from esl_neuro.nirgraph.findings import WARNING, Finding
from esl_neuro.nirgraph.kernel import Kernel

PER_CORE = ("neurons", "synapses", "synaptic_memory", "input_axons", "output_axons")


@dataclass(frozen=True)
class Placement:
    """The core of each neuron, and what every core holds.

    Attributes
    ----------
    core_of_neuron : dict of str to int64 array, shape (neurons,)
        Core of each neuron of each group; core ``c`` is on chip ``c // cores_per_chip``. Input lines are on no core.
    used : dict of str to int64 array, shape (cores,)
        ``"neurons"``, ``"synapses"``, ``"synaptic_memory"`` (bits), ``"input_axons"`` (sources of a connection that
        reach the core) and ``"output_axons"`` (cores reached, for each neuron and outgoing connection).
    parts : dict of str to (int, int, int)
        Parts of the rows, of the columns and of the channels of each group.
    planned : bool
        Whether the parts are those of the plan of the program.
    """

    core_of_neuron: dict[str, IntArray]
    used: dict[str, IntArray]
    parts: dict[str, Parts]
    planned: bool = False

    @property
    def cores(self) -> int:
        """Number of cores in use."""
        return int(self.used["neurons"].size)


@dataclass(frozen=True)
class Utilisation:
    """Use of one resource.

    Attributes
    ----------
    resource : str
        Name of the limit, as in ``hw_targets/``.
    used : int
        For a resource of a core, the use of the fullest core.
    mean : float
        For a resource of a core, the mean over all cores in use; else ``used``.
    limit : float or None
        None if not published.
    unit : str
    """

    resource: str
    used: int
    mean: float
    limit: float | None
    unit: str


def place(program: Program, target: HardwareTarget) -> Placement:
    """Place the groups of a program on cores so that no published limit of a core is exceeded, if possible.

    Groups are placed from the output backward, because the output axons of a core depend on the cores of its targets.
    In a loop over several groups, one group is placed before its targets. All are then placed again with the axons of
    the first pass. The plan of a program that was trained for this chip is kept where its cores are within the limits.
    """
    limits = {name: _known(target, f"{name}_per_core") for name in PER_CORE}
    holds = {id(each): hold for each, hold in zip(program.connections, timing(program).hold, strict=True)}
    layers = [_layer(program, group, holds) for group in program.groups]
    planned = _planned(layers, program.core_plan, limits) if _applies(program.core_plan, target) else None
    cuts = planned or _cut_all(layers, {}, limits)
    back = {} if planned else _axons_back(layers, cuts)
    if back:
        cuts = _cut_all(layers, back, limits)
    numbers = _numbers(
        {layer.group.name: cuts[layer.group.name].tiling for layer in layers}, program.core_plan if planned else None
    )
    cores = {
        layer.group.name: numbers[layer.group.name][cuts[layer.group.name].tiling.tile_of_neuron()] for layer in layers
    }
    parts = {layer.group.name: cuts[layer.group.name].tiling.parts for layer in layers}
    return Placement(cores, _used(layers, cuts, numbers), parts, planned is not None)


def utilisation(program: Program, placement: Placement, target: HardwareTarget) -> list[Utilisation]:
    """Compare the resources that a program uses with those of one chip."""
    rows = [
        _utilisation(target, f"{name}_per_core", int(placement.used[name].max()), float(placement.used[name].mean()))
        for name in PER_CORE
    ]
    whole = {
        "cores_per_chip": placement.cores,
        "neurons_per_chip": program.neurons,
        "synapses_per_chip": program.synapses,
        "delay_steps": max(timing(program).hold, default=0),
    }
    return rows + [_utilisation(target, name, needed, needed) for name, needed in whole.items()]


def check_limits(program: Program, placement: Placement, target: HardwareTarget) -> list[Finding]:
    """Find everything that does not fit on one chip; unpublished limits are not checked."""
    findings = [*_check_thresholds(program), *_check_plan(program, placement, target)]
    findings += _check_cores(program, placement, target)
    for row in utilisation(program, placement, target):
        if row.resource.endswith("_per_core") or row.limit is None or row.used <= row.limit:
            continue
        over = row.used - row.limit
        what, change = "", f"remove {over:,.0f}"
        if row.resource == "cores_per_chip":
            per_core = program.neurons / placement.cores
            change += f" (about {math.ceil(over * per_core):,} neurons), or use {math.ceil(row.used / row.limit)} chips"
        elif row.resource == "synapses_per_chip":
            change += f" (multiply the density by {row.limit / row.used:.3g})"
        elif row.resource == "delay_steps":
            what = "connection '{}' -> '{}' ".format(*_longest_hold(program))
            change = f"shorten its longest delay, or the longer parallel path, by {over:,.0f} step{'s' * (over != 1)}"
        source = target.limits[row.resource].source
        message = f"{what}needs {row.used:,}, the limit is {row.limit:,} ({source}); {change}"
        findings.append(Finding("too-large", f"{target.name} {row.resource}", message))
    return findings


def _longest_hold(program: Program) -> tuple[str, str]:
    """Return source and target of the connection that holds its spikes longest."""
    _, connection = max(zip(timing(program).hold, program.connections, strict=True), key=lambda pair: pair[0])
    return connection.source, connection.target


def _check_thresholds(program: Program) -> Iterator[Finding]:
    """Find layers with several integer thresholds on a chip that has one for a layer.

    Rows of weights are scaled until their thresholds are one integer; positions of a channel share their weights.
    """
    if program.formats.thresholds_per != "group":
        return
    for group in program.groups:
        if len(several := np.unique(group.vth)) > 1:
            yield Finding(
                "several-thresholds",
                f"layer '{group.name}'",
                f"its neurons have {len(several):,} thresholds, and those of neurons that share their weights differ; "
                f"'{program.target}' has one for a layer: give all positions of a channel the same threshold",
            )


def _check_plan(program: Program, placement: Placement, target: HardwareTarget) -> Iterator[Finding]:
    """Warn of a network that was trained for cores of this chip and does not fit on them any more."""
    if _applies(program.core_plan, target) and not placement.planned:
        yield Finding(
            "core-plan",
            f"{target.name} cores_per_chip",
            "the cores that the network was trained for do not hold it, or are those of other layers, so the compiler "
            "chose others; export the run again",
            WARNING,
        )


def _check_cores(program: Program, placement: Placement, target: HardwareTarget) -> Iterator[Finding]:
    """Find layers with a core above a limit that could not be split further."""
    for name in PER_CORE:
        limit = _known(target, f"{name}_per_core")
        if limit is None:
            continue
        for group in program.groups:
            cores = placement.core_of_neuron[group.name]
            fullest = cores[np.argmax(placement.used[name][cores])]
            used = int(placement.used[name][fullest])
            if used <= limit:
                continue
            alone = _alone(int(_fan_in(program, group).max()), int(_axons_in(program, group).max()), 0)[name]
            neurons, needed = (1, alone) if alone > limit else (int(placement.used["neurons"][fullest]), used)
            yield Finding(
                "too-large",
                f"layer '{group.name}'",
                f"a core with {neurons:,} of its neurons needs {needed:,} {_unit(target, name)}, the limit is "
                f"{limit:,.0f} ({target.name} {name}_per_core); {_change(name)} by {needed - limit:,.0f}",
            )


def _change(name: str) -> str:
    return {
        "neurons": "reduce the neurons of a core",
        "synapses": "lower the density of its inputs to reduce its synapses",
        "synaptic_memory": "lower the density of its inputs to reduce its bits",
        "input_axons": "reduce the sources that feed one neuron",
        "output_axons": "reduce the cores that its neurons reach",
    }[name]


def _utilisation(target: HardwareTarget, resource: str, used: int, mean: float) -> Utilisation:
    limit = target.limits.get(resource)
    unit = limit.unit if limit else resource.split("_per_")[0]
    return Utilisation(resource, used, mean, _value(limit), unit)


def _unit(target: HardwareTarget, name: str) -> str:
    return target.limits[f"{name}_per_core"].unit


def _known(target: HardwareTarget, name: str) -> float | None:
    return _value(target.limits.get(name))


def _value(limit: Limit | None) -> float | None:
    return None if limit is None or limit.value is None else limit.value


# --- one group ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layer:
    """A layer to be divided over cores.

    Attributes
    ----------
    group : Group
    shape : tuple of int
        (channels, rows, columns); without an image, the neurons are channels of one position.
    fan_in : int64 array, shape (neurons,)
        Synapses of each neuron.
    axons_in : int64 array, shape (neurons,)
        Sources of each neuron, which are fewer than its synapses if these have several delays.
    incoming : tuple of wires
        Incoming connections.
    """

    group: Group
    shape: tuple[int, int, int]
    fan_in: IntArray
    axons_in: IntArray
    incoming: tuple[Wires, ...]


@dataclass(frozen=True)
class _Cut:
    """A layer on its cores.

    Attributes
    ----------
    tiling : Tiling
    used : dict of str to int64 array, shape of the tiling's parts
    reached : tuple of (str, int64 array of shape (source neurons,))
        For each connection, its source and the number of cores that each source neuron reaches.
    """

    tiling: Tiling
    used: dict[str, IntArray]
    reached: tuple[tuple[str, IntArray], ...]

    def axons(self, source: str, neurons: int) -> IntArray:
        """Return the number of cores of this layer that each neuron of a group reaches, shape (neurons,)."""
        return sum((reached for name, reached in self.reached if name == source), np.zeros(neurons, dtype=np.int64))

    def cost(self, limits: Limits) -> tuple[float, int]:
        """Return the cores used, with those that its sources need for their axons, and the axons as tie-breaker."""
        axons = sum(int(reached.sum()) for name, reached in self.reached if name != INPUT)
        return self.tiling.tiles + axons / (limits["output_axons"] or math.inf), axons


def _layer(program: Program, group: Group, holds: Mapping[int, int]) -> _Layer:
    incoming, shape = program.incoming(group.name), image_of(program, group)
    fan_in = _fan_in(program, group)
    return _Layer(group, shape, fan_in, _axons_in(program, group), wires(incoming, shape, holds))


def image_of(program: Program, group: Group) -> tuple[int, int, int]:
    """Return (channels, rows, columns) of a group; without an image, the neurons are channels of one position."""
    shapes = [each.weights.output_shape for each in program.incoming(group.name) if isinstance(each.weights, Kernel)]
    shapes += [
        each.weights.input_shape
        for each in program.connections
        if each.source == group.name and isinstance(each.weights, Kernel)
    ]
    return shapes[0] if shapes else (group.neurons, 1, 1)


def _fan_in(program: Program, group: Group) -> IntArray:
    """Count the synapses of each neuron, shape (neurons,)."""
    return sum((each.fan_in for each in program.incoming(group.name)), np.zeros(group.neurons, dtype=np.int64))


def _axons_in(program: Program, group: Group) -> IntArray:
    """Count the axons that reach each neuron, shape (neurons,); synapses of several delays share theirs."""
    axons = np.zeros(group.neurons, dtype=np.int64)
    matrices: dict[str, list[Connection]] = {}
    for each in program.incoming(group.name):
        if isinstance(each.weights, Kernel):
            axons += each.fan_in
        else:
            matrices.setdefault(each.source, []).append(each)
    for delays in matrices.values():
        axons += np.diff(synapse_pattern(delays).indptr) if len(delays) > 1 else delays[0].fan_in
    return axons


def _cut_all(layers: Sequence[_Layer], back: Mapping[str, IntArray], limits: Limits) -> dict[str, _Cut]:
    """Divide all layers, the last one first; ``back`` has the axons to layers that are divided after their source."""
    cuts: dict[str, _Cut] = {}
    for layer in reversed(layers):
        axons = _axons(layer, cuts.values()) + back.get(layer.group.name, 0)
        cuts[layer.group.name] = _cut(layer, axons, limits)
    return cuts


def _applies(plan: CorePlan | None, target: HardwareTarget) -> TypeGuard[CorePlan]:
    return plan is not None and plan.target == target.name


def _planned(layers: Sequence[_Layer], plan: CorePlan, limits: Limits) -> dict[str, _Cut] | None:
    """Divide the layers as planned; None if the plan is one of other layers, or a core exceeds a limit."""
    tilings = {}
    for layer in layers:
        parts = plan.parts.get(layer.group.name)
        if parts is None or any(count > size for count, size in zip(parts, _sizes(layer), strict=True)):
            return None
        tilings[layer.group.name] = Tiling.even(layer.shape, parts)
    numbers = _numbers(tilings, plan)
    neurons = _by_core(numbers, {name: tiling.neurons for name, tiling in tilings.items()})
    cuts = {}
    for layer in layers:
        tiling, nothing = tilings[layer.group.name], np.zeros(layer.group.neurons, dtype=np.int64)
        on_core = neurons[numbers[layer.group.name]].reshape(tiling.parts)
        if any(isinstance(each, KernelWires) for each in layer.incoming) and (on_core != tiling.neurons).any():
            return None  # axons of a convolution are counted for cores of its own only
        cut = _measure(layer, tiling, nothing, {**limits, "output_axons": None}, on_core)
        if cut is None:
            return None
        cuts[layer.group.name] = cut
    return None if exceeds(_used(layers, cuts, numbers), limits) else cuts


def _numbers(tilings: Mapping[str, Tiling], plan: CorePlan | None) -> dict[str, IntArray]:
    """Return the core of each tile of each group: as planned, or its own, one after the other."""
    names = list(tilings)
    ends = np.cumsum([tilings[name].tiles for name in names])
    cores = np.arange(ends[-1])
    if plan is not None and plan.cores:
        cores = np.unique([core for name in names for core in plan.cores[name]], return_inverse=True)[1].ravel()
    return dict(zip(names, np.split(cores, ends[:-1]), strict=True))


def _by_core(numbers: Mapping[str, IntArray], amounts: Mapping[str, IntArray]) -> IntArray:
    """Add up amounts of the tiles of all groups over the cores."""
    total = np.zeros(1 + max(int(cores.max()) for cores in numbers.values()), dtype=np.int64)
    for name, cores in numbers.items():
        np.add.at(total, cores, amounts[name].ravel())
    return total


def _used(layers: Sequence[_Layer], cuts: Mapping[str, _Cut], numbers: Mapping[str, IntArray]) -> dict[str, IntArray]:
    """Return what every core holds."""
    used = {
        name: _by_core(numbers, {group: cut.used[name] for group, cut in cuts.items()}) for name in ("neurons", *NAMES)
    }
    leaving = {layer.group.name: cuts[layer.group.name].tiling.sums(_axons(layer, cuts.values())) for layer in layers}
    return used | {"output_axons": _by_core(numbers, leaving)}


def _sizes(layer: _Layer) -> Parts:
    channels, rows, columns = layer.shape
    return rows, columns, channels


def _axons(layer: _Layer, cuts: Iterable[_Cut]) -> IntArray:
    """Count the cores that each neuron reaches."""
    neurons = layer.group.neurons
    return sum((cut.axons(layer.group.name, neurons) for cut in cuts), np.zeros(neurons, dtype=np.int64))


def _axons_back(layers: Sequence[_Layer], cuts: Mapping[str, _Cut]) -> dict[str, IntArray]:
    """Count the cores of earlier layers that the neurons of a later layer reach, for layers that reach any."""
    back = {}
    for at, layer in enumerate(layers):
        earlier = [cuts[each.group.name] for each in layers[:at]]
        if any(name == layer.group.name for cut in earlier for name, _ in cut.reached):
            back[layer.group.name] = _axons(layer, earlier)
    return back


def _cut(layer: _Layer, axons: IntArray, limits: Limits) -> _Cut:
    """Divide a layer at the least cost among the tried patches, each with the fewest channel parts that fit.

    Limits that even a core with a single neuron exceeds cannot be met by dividing; they are reported later.
    """
    alone = _alone(int(layer.fan_in.max()), int(layer.axons_in.max()), int(axons.max()))
    limits = {name: limit if limit is not None and alone[name] <= limit else None for name, limit in limits.items()}
    best = None
    for patch in patches(*layer.shape[1:]):
        most = math.inf if best is None else best.cost(limits)[0]  # a cut of more tiles costs more
        cut = _fewest_parts(layer, patch, axons, limits, most)
        if cut is not None and (best is None or cut.cost(limits) < best.cost(limits)):
            best = cut
    if best is None:  # the recurrent axons exceed the limit however the layer is divided
        return _cut(layer, axons, {**limits, "output_axons": None})
    return best


def _alone(fan_in: int, axons_in: int, axons: int) -> dict[str, int]:
    """Return the resources of a core with one neuron."""
    return {
        "neurons": 1,
        "synapses": fan_in,
        "synaptic_memory": fan_in * WORD_BITS,
        "input_axons": axons_in,
        "output_axons": axons,
    }


def _fewest_parts(
    layer: _Layer, patch: tuple[int, int], axons: IntArray, limits: Limits, most_tiles: float
) -> _Cut | None:
    """Divide the channels of a patch into the fewest parts that fit on cores; None if no number of parts fits.

    The number is doubled until it fits, then bisected.
    """
    patches = patch[0] * patch[1]
    most = int(min(layer.shape[0], most_tiles // patches))
    parts, too_few = _least_tiles(layer, limits) // patches or 1, 0
    fitting = None
    while fitting is None or parts - too_few > 1:
        tried = parts if fitting is None else (too_few + parts) // 2
        if tried > most:
            return None
        cut = _measure(layer, Tiling.even(layer.shape, (*patch, tried)), axons, limits)
        if cut is not None:
            fitting, parts = cut, tried
        else:
            too_few = tried
            if fitting is None:
                parts = min(2 * tried, max(most, tried + 1))
    return fitting


def _least_tiles(layer: _Layer, limits: Limits) -> int:
    """Return a lower bound on the number of cores."""
    total = {"neurons": layer.group.neurons, "synapses": int(layer.fan_in.sum())}
    return max(math.ceil(amount / (limits[name] or math.inf)) for name, amount in total.items())


def _measure(
    layer: _Layer, tiling: Tiling, axons: IntArray, limits: Limits, on_core: IntArray | None = None
) -> _Cut | None:
    """Count what the layer takes of each core; None if it exceeds a limit.

    ``on_core`` has the neurons of all layers on the core of each tile, if there are others: an index of a neuron then
    takes more bits.
    """
    used = {"neurons": tiling.neurons}
    if exceeds(used | {"output_axons": tiling.sums(axons)}, limits):
        return None
    loads: list[tuple[str, Load]] = []
    for connection in layer.incoming:
        load = connection.load(tiling, limits, on_core)
        if load is None:
            return None
        loads.append((connection.source, load))
    for name in NAMES:
        used[name] = np.sum([load.used[name] for _, load in loads] or [np.zeros(tiling.parts, dtype=np.int64)], axis=0)
    cut = _Cut(tiling, used, tuple((source, load.reached) for source, load in loads))
    leaving = {"output_axons": tiling.sums(axons + cut.axons(layer.group.name, axons.size))}
    return None if exceeds(used | leaving, limits) else cut
