"""What a report page shows, as plain data: numbers, names and sentences, without their look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

MEASURED = "measured"  # model of a row that is no estimate


@dataclass(frozen=True)
class Accuracies:
    """Test accuracy in each arithmetic, as fractions; None where it is unknown.

    Attributes
    ----------
    in_float, in_integer, in_lava : float or None
        Of the float network, of the integers, of the integers in Lava.
    samples_float, samples_integer, samples_lava : int
        Samples of each; 0 where it is unknown.
    """

    in_float: float | None = None
    in_integer: float | None = None
    in_lava: float | None = None
    samples_float: int = 0
    samples_integer: int = 0
    samples_lava: int = 0


@dataclass(frozen=True)
class Epoch:
    """One epoch of training; shares as fractions."""

    epoch: int
    loss: float
    train_accuracy: float
    validation_accuracy: float
    density: float
    explored: float | None
    spikes_per_neuron: float
    connections: int


@dataclass(frozen=True)
class Span:
    """Smallest, mean and largest number of connections of a neuron, and their standard deviation."""

    min: float
    mean: float
    max: float
    std: float


@dataclass(frozen=True)
class Update:
    """One change of a layer's connections; shares as fractions."""

    iteration: int
    births: int
    deaths: int
    connections: int
    density: float
    explored: float | None
    fan_in: Span | None


@dataclass(frozen=True)
class Rewiring:
    """All changes of the connections of one layer, in the order of the iterations."""

    layer: str
    updates: tuple[Update, ...]


@dataclass(frozen=True)
class Picture:
    """The connections of a layer at one moment, as shares of all possible ones in each cell.

    Attributes
    ----------
    iteration : int
        Iterations done; 0 before the first one.
    cells : tuple of tuple of float
        Density of each cell, by row.
    """

    iteration: int
    cells: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Film:
    """Pictures of one layer, in the order of the iterations.

    Attributes
    ----------
    layer : str
    cell : str
        What a cell stands for.
    pictures : tuple of Picture
        All of one size.
    """

    layer: str
    cell: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Work:
    """Operations of training, and bytes that they read and write."""

    operations: int
    bytes: int


@dataclass(frozen=True)
class TrainingPhase:
    """Work of one part of training: in this run, with its connections alone, and of the dense network."""

    name: str
    run: Work
    alone: Work
    dense: Work


@dataclass(frozen=True)
class TrainingCost:
    """What the training of a run took.

    Attributes
    ----------
    phases : tuple of TrainingPhase
        Forward, backward, optimiser, rewiring.
    parameter_bytes, dense_parameter_bytes : int
        Weights, gradients, states of the optimiser, masks and indices at the end; those of a dense network.
    peak_bytes, start_bytes : int or None
        Largest memory of a process, and its memory before training; None where it was not measured.
    """

    phases: tuple[TrainingPhase, ...]
    parameter_bytes: int
    dense_parameter_bytes: int
    peak_bytes: int | None = None
    start_bytes: int | None = None


@dataclass(frozen=True)
class Histogram:
    """Counts of values between edges; one edge more than counts."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    min: float
    mean: float
    max: float


@dataclass(frozen=True)
class LayerStructure:
    """Degrees and thresholds of one layer of the program.

    Attributes
    ----------
    layer : str
    neurons, stored, possible : int
        Neurons, stored connections, connections of the dense layer.
    fan_in : Histogram
        Stored connections of each neuron.
    fan_out : Histogram
        Stored connections of each source of the layer.
    thresholds : Histogram
        Thresholds in units of the float network.
    """

    layer: str
    neurons: int
    stored: int
    possible: int
    fan_in: Histogram
    fan_out: Histogram
    thresholds: Histogram


@dataclass(frozen=True)
class Raster:
    """Spikes of one layer for one sample.

    Attributes
    ----------
    layer : str
    neurons, steps : int
    spikes : tuple of (int, int)
        Step and neuron of each spike, among the first neurons that are shown.
    shown : int
        Neurons that are shown.
    total : int
        Spikes of all neurons.
    """

    layer: str
    neurons: int
    steps: int
    spikes: tuple[tuple[int, int], ...]
    shown: int
    total: int


@dataclass(frozen=True)
class LayerAgreement:
    """Spikes of one layer in floats and in integers; shares as fractions, None for a layer that never fires."""

    layer: str
    spikes_float: int
    spikes_integer: int
    moved: int
    moved_share: float | None
    potential_error: float | None
    weights: int
    lost: int
    threshold_error: float


@dataclass(frozen=True)
class Agreement:
    """Floats and integers side by side on some input."""

    inputs: str
    layers: tuple[LayerAgreement, ...]


@dataclass(frozen=True)
class Resource:
    """Use of one resource of a chip; the fullest core for a resource of a core. A limit of None is not published."""

    name: str
    used: int
    mean: float
    limit: float | None
    unit: str

    @property
    def share(self) -> float | None:
        """Used share of the limit; None where there is none."""
        return self.used / self.limit if self.limit else None


@dataclass(frozen=True)
class Core:
    """One core: the layers that it holds, its neurons and synapses, and the fullest of its resources.

    Attributes
    ----------
    layers : tuple of str
        Several where layers share cores.
    share : float or None
        Used share of the resource that is fullest; None where no limit is published.
    fullest : str
        Name of that resource.
    """

    layers: tuple[str, ...]
    neurons: int
    synapses: int
    share: float | None
    fullest: str


@dataclass(frozen=True)
class Cores:
    """Placement of a program on one chip.

    Attributes
    ----------
    chip : str
    resources : tuple of Resource
    cores : tuple of Core
        In the order of their numbers.
    """

    chip: str
    resources: tuple[Resource, ...]
    cores: tuple[Core, ...]

    @property
    def too_large(self) -> tuple[Resource, ...]:
        """Resources above their limit."""
        return tuple(each for each in self.resources if each.share is not None and each.share > 1)

    @property
    def unpublished(self) -> tuple[str, ...]:
        """Resources without a published limit, which nothing is checked against."""
        return tuple(each.name for each in self.resources if each.limit is None)


@dataclass(frozen=True)
class EnergyRow:
    """One estimate in J per sample, median and 5-95 %; a lower bound says so. The notes say what it leaves out."""

    target: str
    model: str
    evidence: str
    median_j: float
    low_j: float
    high_j: float
    lower_bound: bool
    notes: tuple[str, ...] = ()

    @property
    def measured(self) -> bool:
        """Whether it is a measurement and no estimate."""
        return self.model == MEASURED


@dataclass(frozen=True)
class EnergyPart:
    """Dynamic, static and total energy of one target; None where nothing is published for a part."""

    target: str
    model: str
    dynamic: EnergyRow | None
    static: EnergyRow | None
    total: EnergyRow | None

    @property
    def rows(self) -> tuple[EnergyRow, ...]:
        """The parts that it has."""
        return tuple(each for each in (self.dynamic, self.static, self.total) if each is not None)


@dataclass(frozen=True)
class Meeting:
    """Where a chip and the board of a processor need the same energy; the rest as in ``BreakEven``."""

    chip: str
    processor: str
    probability: float | None
    rate: float
    rate_at: float | None
    density: float
    density_at: float | None


@dataclass(frozen=True)
class Curve:
    """Median energy of a chip against one quantity, and the level of a processor that it crosses, with their 5-95 %.

    Attributes
    ----------
    quantity : str
        ``"firing rate"`` or ``"density"``.
    now, at : float
        The quantity in this run, and where both medians are equal.
    places, chip_j, chip_low_j, chip_high_j : tuple of float
        The curve and its interval.
    processor_j, processor_low_j, processor_high_j : float
    """

    quantity: str
    chip: str
    processor: str
    now: float
    at: float
    places: tuple[float, ...]
    chip_j: tuple[float, ...]
    chip_low_j: tuple[float, ...]
    chip_high_j: tuple[float, ...]
    processor_j: float
    processor_low_j: float
    processor_high_j: float


@dataclass(frozen=True)
class Source:
    """One constant of a price and where it is from."""

    constant: str
    value: str
    evidence: str
    source: str


@dataclass(frozen=True)
class Energy:
    """Energies by scope, so that no row stands beside one of another scope.

    Attributes
    ----------
    pace : str
        Pace of the chips.
    scopes : mapping of str to tuple of EnergyRow
        Rows of each scope, by its name.
    parts : tuple of EnergyPart
    refused : tuple of (str, str)
        Targets without a figure, and why.
    meetings : tuple of Meeting
    curves : tuple of Curve
        Only those that cross.
    sources : tuple of Source
    warnings : tuple of str
    operations : float
        Effective synaptic operations per sample.
    """

    pace: str
    scopes: Mapping[str, tuple[EnergyRow, ...]]
    parts: tuple[EnergyPart, ...]
    refused: tuple[tuple[str, str], ...]
    meetings: tuple[Meeting, ...]
    curves: tuple[Curve, ...]
    sources: tuple[Source, ...]
    warnings: tuple[str, ...]
    operations: float


@dataclass(frozen=True)
class Check:
    """One comparison: what was compared, its outcome in words, and how to repeat it.

    Attributes
    ----------
    passed : bool or None
        None if it was not made.
    """

    what: str
    passed: bool | None
    outcome: str
    command: str


@dataclass(frozen=True)
class Command:
    """A command that repeats a step."""

    step: str
    line: str


@dataclass(frozen=True)
class Activity:
    """Counts of one layer, mean per sample."""

    layer: str
    spikes_in: float
    spikes_out: float
    operations: float


@dataclass(frozen=True)
class ReportData:
    """Everything on a report page.

    Attributes
    ----------
    name, kind, path : str
        Name of the network, what was opened (``"run"``, ``"export"`` or ``"NIR file"``), and its path.
    chip : str
        Chip that the program was compiled for.
    version : str
        Version of esl-neuro.
    ran_on, backend : str
        Inputs and simulator of the counts.
    inputs, neurons, stored, possible, steps : int
        Input lines, neurons, stored connections, connections of the dense network, time steps per sample.
    missing : mapping of str to str
        By section: what would give the data that are not there.
    others
        The sections.
    """

    name: str
    kind: str
    path: str
    chip: str
    version: str
    ran_on: str
    backend: str
    inputs: int
    neurons: int
    stored: int
    possible: int
    steps: int
    accuracies: Accuracies
    activity: tuple[Activity, ...]
    structure: tuple[LayerStructure, ...]
    rasters: tuple[Raster, ...]
    raster_of: str
    cores: Cores
    energy: Energy
    checks: tuple[Check, ...]
    commands: tuple[Command, ...]
    history: tuple[Epoch, ...] = ()
    training_cost: TrainingCost | None = None
    rewiring: tuple[Rewiring, ...] = ()
    films: tuple[Film, ...] = ()
    agreement: Agreement | None = None
    findings: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def density(self) -> float:
        """Stored share of the connections of the dense network."""
        return self.stored / self.possible if self.possible else 0.0

    @property
    def failed(self) -> tuple[Check, ...]:
        """Checks that did not pass."""
        return tuple(each for each in self.checks if each.passed is False)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)
