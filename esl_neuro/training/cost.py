"""What training costs: operations and bytes, counted from connections, shapes and samples. No torch here.

A multiply-add of a product is one operation, and so is each addition, multiplication, comparison or root elsewhere.
Bytes are those that every phase must read and write at least once, with numbers of 4 bytes; caches may save some of
them. Products, neurons, optimiser and rewiring are counted; normalisation, pooling, loss and data are not.
docs/methods.md has the formulas as a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt

NUMBER, INDEX = 4, 4
"""Bytes of a number, and of the input line of a connection."""
BITS_PER_BYTE = 8
ADAM = frozenset({"adam", "adamw"})
CANDIDATES_PER_BIRTH = 4
"""Of the growth rule ``gradient_on_candidates``."""


class Work(BaseModel):
    """Operations, and bytes read and written."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    operations: NonNegativeInt = 0
    bytes: NonNegativeInt = 0

    def __add__(self, other: Work) -> Work:
        """Return both together."""
        return Work(operations=self.operations + other.operations, bytes=self.bytes + other.bytes)

    def times(self, count: int) -> Work:
        """Return the work of so many times."""
        return Work(operations=self.operations * count, bytes=self.bytes * count)


class Phases(BaseModel):
    """Work of the parts of training."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    forward: Work = Work()
    backward: Work = Work()
    optimiser: Work = Work()
    rewiring: Work = Work()

    def __add__(self, other: Phases) -> Phases:
        """Return both together."""
        return Phases(**{name: getattr(self, name) + getattr(other, name) for name in type(self).model_fields})

    def times(self, count: int) -> Phases:
        """Return the work of so many times."""
        return Phases(**{name: getattr(self, name).times(count) for name in type(self).model_fields})

    @property
    def total(self) -> Work:
        """Work of all parts."""
        return sum((getattr(self, name) for name in type(self).model_fields), Work())


class TrainingWork(BaseModel):
    """Work of training so far.

    Attributes
    ----------
    run : Phases
        As the run stores its layers: masked layers compute with all positions.
    alone : Phases
        As sparse storage would compute with the same connections.
    dense : Phases
        As the same network would without sparsity.
    events : int
        Operations of the forward products of the connections whose input is not zero, by the mean number of
        connections of an input line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    run: Phases = Phases()
    alone: Phases = Phases()
    dense: Phases = Phases()
    events: NonNegativeInt = 0

    def times(self, count: int) -> TrainingWork:
        """Return the work of so many times."""
        return TrainingWork(
            run=self.run.times(count),
            alone=self.alone.times(count),
            dense=self.dense.times(count),
            events=self.events * count,
        )

    def __add__(self, other: TrainingWork) -> TrainingWork:
        """Return both together."""
        return TrainingWork(
            run=self.run + other.run,
            alone=self.alone + other.alone,
            dense=self.dense + other.dense,
            events=self.events + other.events,
        )


class TrainingCost(BaseModel):
    """What a run took, counted.

    Attributes
    ----------
    work : TrainingWork
        Operations and bytes.
    parameter_bytes, dense_parameter_bytes : int
        Bytes of weights, gradients, states of the optimiser, masks and indices at the end, and of a dense network.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    work: TrainingWork
    parameter_bytes: NonNegativeInt
    dense_parameter_bytes: NonNegativeInt


class Memory(BaseModel):
    """Memory of a process, measured; a resumed run measures its last part.

    Attributes
    ----------
    peak_bytes : int
        Largest memory during training, of the process that took most.
    start_bytes : int
        Memory before the data were loaded and the network was built.
    processes : int
        How many trained the run together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    peak_bytes: NonNegativeInt
    start_bytes: NonNegativeInt
    processes: PositiveInt = 1


@dataclass(frozen=True)
class Product:
    """A weighted layer.

    Attributes
    ----------
    possible, connections : int
        Weights of the dense layer, and those that exist.
    indexed : bool
        Whether the run stores connections only.
    inputs, outputs : int
        Numbers of an input and of an output.
    positions : int
        Outputs that use a weight, such as the pixels of a convolution.
    columns : int
        Inputs of a sample: its steps, or 1 if it is constant.
    reads_data : bool
        Whether its input is that of the network, which needs no gradient.
    binary : bool
        Whether its input is spikes.
    rate : float
        Share of its inputs that are not zero.
    trained : bool
        Whether its weights are trained.
    """

    possible: int
    connections: int
    indexed: bool
    inputs: int
    outputs: int
    positions: int
    columns: int
    reads_data: bool
    binary: bool
    rate: float
    trained: bool = True


@dataclass(frozen=True)
class Amount:
    """How much was trained: samples, passes through the network, and updates of the optimiser."""

    samples: int
    passes: int
    updates: int


@dataclass(frozen=True)
class Rule:
    """An optimiser: its name, and the numbers that it keeps of a weight."""

    name: str
    states: int

    def work(self, weights: int) -> Work:
        """Return the work of an update: gradient and weight are read, states read and written, the weight written."""
        operations = 14 if self.name in ADAM else 2 + 2 * self.states
        return Work(operations=operations * weights, bytes=NUMBER * (3 + 2 * self.states) * weights)


def product_work(layer: Product, weights: int, indexed: bool, amount: Amount) -> Phases:
    """Return forward and backward work of a layer with so many weights, with an index or without."""
    columns = layer.columns * amount.samples
    products = weights * layer.positions * columns
    stored = weights * (NUMBER + (INDEX if indexed else 0)) * amount.passes
    bits = indexed and layer.binary
    signal = layer.inputs * columns // BITS_PER_BYTE if bits else NUMBER * layer.inputs * columns
    results = NUMBER * layer.outputs * columns
    forward = Work(operations=products, bytes=stored + signal + results)
    backward = forward if layer.trained else Work()
    if not layer.reads_data:
        sorted_by_line = weights * (2 * NUMBER + INDEX) * amount.passes if indexed else 0
        errors = NUMBER * layer.inputs * columns
        backward += Work(operations=products, bytes=stored + sorted_by_line + results + errors)
    return Phases(forward=forward, backward=backward)


def neuron_work(updates: int) -> Phases:
    """Return the work of so many updates of LIF neurons.

    Forward reads a current and writes a potential and a spike; backward reads the potential and an error, and writes an
    error.
    """
    return Phases(
        forward=Work(operations=5 * updates, bytes=3 * NUMBER * updates),
        backward=Work(operations=12 * updates, bytes=3 * NUMBER * updates),
    )


def training_work(layers: Iterable[Product], updates: int, others: int, rule: Rule, amount: Amount) -> TrainingWork:
    """Return the work of training without rewiring.

    Parameters
    ----------
    layers : iterable of Product
        All weighted layers.
    updates : int
        Updates of neurons for a sample: neurons times steps.
    others : int
        Trained parameters that are no weights of these layers, such as thresholds.
    rule : Rule
        The optimiser.
    amount : Amount
        What was trained.
    """
    common = neuron_work(updates * amount.samples)
    common += Phases(optimiser=rule.work(others).times(amount.updates))
    total = TrainingWork(run=common, alone=common, dense=common)
    for layer in layers:
        sparse = layer.connections < layer.possible
        masked = sparse and not layer.indexed
        mask = Phases(optimiser=Work(bytes=layer.possible * amount.updates if masked else 0))
        stored = layer.connections if layer.indexed else layer.possible
        total += TrainingWork(
            run=_layer_work(layer, stored, layer.indexed, rule, amount) + mask,
            alone=_layer_work(layer, layer.connections, layer.indexed or sparse, rule, amount),
            dense=_layer_work(layer, layer.possible, False, rule, amount),
            events=round(layer.rate * layer.connections * layer.positions * layer.columns * amount.samples),
        )
    return total


def _layer_work(layer: Product, weights: int, indexed: bool, rule: Rule, amount: Amount) -> Phases:
    optimiser = rule.work(weights).times(amount.updates) if layer.trained else Work()
    return product_work(layer, weights, indexed, amount) + Phases(optimiser=optimiser)


def rewiring_work(layer: Product, births: Mapping[str, int], rule: Rule, samples: int) -> TrainingWork:
    """Return the work of one change of the connections of a layer.

    Every weight is read and compared to find those that are pruned, and so is every position that the growth rule
    scores. Then a mask is read and written, or weights, states and index are moved.

    Parameters
    ----------
    layer : Product
        The layer.
    births : mapping of str to int
        New connections of each growth rule. Rules that are not named in this module score all positions.
    rule : Rule
        The optimiser.
    samples : int
        Samples of a batch, whose gradients some rules compute.
    """
    free = layer.possible - layer.connections
    multiplied = layer.positions * layer.columns * samples
    work = Work(operations=layer.connections, bytes=NUMBER * layer.connections)
    for name, count in births.items():
        scored = {"random": count, "random_unfired": count, "gradient_on_candidates": CANDIDATES_PER_BIRTH * count}
        positions = min(scored.get(name, free), free)
        gradients = name == "gradient_on_candidates" or (name == "gradient" and layer.indexed)
        work += Work(operations=positions * (1 + multiplied * gradients), bytes=NUMBER * positions)
    moved = Work(bytes=layer.connections * (2 * NUMBER * (1 + rule.states) + 2 * INDEX + 3 * INDEX))
    masked = Work(bytes=2 * layer.possible)
    return TrainingWork(
        run=Phases(rewiring=work + (moved if layer.indexed else masked)), alone=Phases(rewiring=work + moved)
    )


def parameter_bytes(layers: Iterable[Product], others: int, rule: Rule) -> tuple[int, int]:
    """Return the bytes of weights, gradients, states, masks and indices of a run, and those of the dense network."""
    each = NUMBER * (2 + rule.states)
    run = dense = each * others
    for layer in layers:
        dense += each * layer.possible
        if layer.indexed:  # line and place of each connection, and both of the transposed matrix
            run += (each + 3 * INDEX) * layer.connections
        else:
            run += each * layer.possible + (layer.possible if layer.connections < layer.possible else 0)
    return run, dense
