"""The training loop, with structure learning, learned thresholds, checkpoints and metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, ValidationError
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from esl_neuro.budget.energy import EnergyBudget, EnergyState, Meter, SampleEnergy, Tally, parse_energy
from esl_neuro.budget.fan_in import fan_in_caps
from esl_neuro.data import Dataset, Split, prepare
from esl_neuro.data.augment import AUGMENTATIONS
from esl_neuro.data.encodings import ENCODINGS
from esl_neuro.data.inputs import Disturbance, evaluation_inputs, training_inputs
from esl_neuro.data.own import recorded
from esl_neuro.errors import BadInput, CheckFailed
from esl_neuro.hardware import HardwareTarget, load_target
from esl_neuro.interruption import held_back
from esl_neuro.neuron_major import is_neuron_major, rows_of
from esl_neuro.random_streams import stream
from esl_neuro.reading.documents import problems, reason
from esl_neuro.recipes import Recipe, save_recipe
from esl_neuro.recipes.sections import DataSection, TrainingSection
from esl_neuro.snn import build_network, neuron_layers, observe, probe, weighted_layers
from esl_neuro.snn.temporal import TemporalNetwork
from esl_neuro.sparsity import Learner, Rewirer, RewiringUpdate, SparseLinear, make_learner
from esl_neuro.sparsity.growth import shares_of
from esl_neuro.sparsity.masks import Layer
from esl_neuro.sparsity.telemetry import picture_connections
from esl_neuro.storage import Lock, flush, remove_unfinished
from esl_neuro.training.checkpoint import (
    OPTIMIZER,
    Checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    refuse_misfit,
)
from esl_neuro.training.cost import (
    Amount,
    Memory,
    Rule,
    TrainingCost,
    TrainingWork,
    parameter_bytes,
    rewiring_work,
    training_work,
)
from esl_neuro.training.epoch_metrics import EpochMetrics
from esl_neuro.training.freed_memory import keep_freed_memory
from esl_neuro.training.integer_training import formats_of, quantised
from esl_neuro.training.losses import Loss, make_loss
from esl_neuro.training.optimisers import OPTIMISERS, RATE_SCHEDULES
from esl_neuro.training.peak_memory import peak_bytes, reset_peak, resident_bytes
from esl_neuro.training.result import EnergyFigures, TrainingResult, write_result
from esl_neuro.training.run_folder import RunFolder
from esl_neuro.training.single_spikes import Stabiliser, make_stabiliser
from esl_neuro.training.sparse_storage import (
    connections_in_sparse_storage,
    has_sparse_storage,
    linear_of,
    names_of_any_length,
)
from esl_neuro.training.warm_start import source_of, warm_start
from esl_neuro.training.work_of_network import NetworkWork, rule_of, work_of


@dataclass
class EpochSums:
    """Running sums of the epoch in progress; part of the checkpoint, so that a resumed epoch reports the same."""

    loss: float = 0.0
    correct: int = 0
    spikes: int = 0
    samples: int = 0
    births: int = 0


class Progress(BaseModel):
    """Where a run stands; part of the checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epoch: NonNegativeInt
    batch: NonNegativeInt
    best_accuracy: float
    best_epoch: NonNegativeInt
    seconds: NonNegativeFloat
    sums: EpochSums
    scaler: dict[str, Any]
    work: TrainingWork | None = None  # of runs that an earlier version began
    energy: EnergyState | None = None


def read_progress(document: dict[str, Any]) -> Progress:
    """Check the progress of a checkpoint.

    Raises
    ------
    ValueError
        With all findings.
    """
    try:
        return Progress.model_validate(document)
    except ValidationError as error:
        raise ValueError("; ".join(map(problems, error.errors()))) from error


EVALUATION_BATCH = 256
COUNTED_SAMPLES = 32  # of the validation part, whose signals are counted after every epoch
EVALUATED_SPIKES = 2**27  # neurons x steps x samples of a network with sparse storage: 512 MB of spikes
PICTURES = 12  # of the connections of each layer, and one before the first iteration

OnBatch = Callable[[int, int, float], None]
OnEpoch = Callable[[EpochMetrics], None]


@dataclass
class Trainer:
    """A run in progress. Create it with :meth:`start` or :meth:`resume`, then call :meth:`run`."""

    recipe: Recipe
    folder: RunFolder
    dataset: Dataset
    network: nn.Module
    loss: Loss
    optimizer: torch.optim.Optimizer
    learner: Learner
    stabiliser: Stabiliser
    scaler: GradScaler
    epoch: int = 0
    batch: int = 0
    best_accuracy: float = -1.0
    best_epoch: int = 0
    seconds: float = 0.0
    sums: EpochSums = field(default_factory=EpochSums)
    work: TrainingWork | None = field(default_factory=TrainingWork)
    start_bytes: int | None = None
    lock: Lock | None = field(default=None, repr=False)
    energy: EnergyBudget | None = None

    @classmethod
    def start(cls, recipe: Recipe, make_folder: Callable[[], RunFolder], *, download: bool = False) -> Trainer:
        """Start a run, from a finished one if the recipe says so.

        The folder is created after the recipe has been checked.
        """
        trainer = cls._begin(recipe, make_folder, source_of(recipe), download=download)
        trainer._picture_connections(0)
        return trainer

    @classmethod
    def _begin(
        cls, recipe: Recipe, make_folder: Callable[[], RunFolder], source: RunFolder | None, *, download: bool
    ) -> Trainer:
        training, device, before = recipe.training, _device(recipe.training), resident_bytes()
        _check_names(recipe)  # before the data are loaded
        dataset = prepare(recipe.data, training.seed, download=download)
        _refuse_empty_parts(dataset)
        network = _network(recipe, dataset).to(device)
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimizer = OPTIMISERS[training.optimiser](parameters, training)
        iterations = training.epochs * _batches(len(dataset.train), training.batch)
        learner = make_learner(
            recipe.sparsity,
            network,
            optimizer,
            iterations=iterations,
            seed=training.seed,
            fan_in=_fan_in(recipe, network, dataset),
        )
        if source is not None:
            warm_start(source, recipe, network, learner)
        energy = _energy_budget(recipe, network, learner, dataset)
        stabiliser = make_stabiliser(recipe.network, network, learner.layers)
        scaler = GradScaler(device.type, enabled=training.precision == "float16")
        folder, named = make_folder(), recorded(recipe.data, dataset)
        if named != recipe.data:
            recipe = recipe.model_copy(update={"data": named})
            save_recipe(recipe, folder.config)
        parts = network, make_loss(training), optimizer, learner, stabiliser, scaler
        return cls(recipe, folder, dataset, *parts, start_bytes=before, energy=energy)

    @classmethod
    def resume(cls, folder: RunFolder) -> Trainer:
        """Continue an interrupted run; on the CPU the result is bit for bit that of an uninterrupted run."""
        recipe, lock = folder.recipe(), folder.lock()
        try:
            trainer = cls._begin(recipe, lambda: folder, source=None, download=False)
            if folder.result.exists():
                raise BadInput(f"{folder.path}: the run is complete and cannot be resumed")
            checkpoint = Checkpoint.load(folder.path, "last")
            remove_unfinished(folder.path)
            _repeat_progress(folder)
            try:
                trainer._restore(checkpoint)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                raise BadInput(
                    f"{folder.path}: the last checkpoint does not fit the recipe ({reason(error)}); train again"
                ) from error
            folder.keep_metrics(trainer.epoch)
            folder.keep_structure(trainer.epoch * trainer.batches + trainer.batch)
            folder.keep_connections(trainer.epoch * trainer.batches + trainer.batch)
        except BaseException:
            lock.release()
            raise
        trainer.lock = lock  # released when the run has ended
        return trainer

    def _restore(self, checkpoint: Checkpoint) -> None:
        progress = read_progress(checkpoint.progress)
        if progress.epoch > self.recipe.training.epochs or progress.batch > self.batches:
            raise ValueError(f"it is at epoch {progress.epoch}, batch {progress.batch}")
        for part, holder in (("network", self.network), ("learner", self.learner)):
            refuse_misfit(checkpoint.part(part), holder.state_dict(), names_of_any_length(holder))
        self.network.load_state_dict(checkpoint.part("network"))
        load_optimizer_tensors(self.optimizer, checkpoint.part(OPTIMIZER))
        self.learner.load_state_dict(checkpoint.part("learner"))
        if self.energy is not None:
            if progress.energy is None:
                raise ValueError("it has no state of the energy budget")
            self.energy.state = progress.energy
            self.energy.meter.changed()
        self.scaler.load_state_dict(progress.scaler)
        self.sums, self.epoch, self.batch = progress.sums, progress.epoch, progress.batch
        self.best_accuracy, self.best_epoch = progress.best_accuracy, progress.best_epoch
        self.seconds, self.work = progress.seconds, progress.work

    @property
    def batches(self) -> int:
        """Number of batches per epoch; the last one may be smaller."""
        return _batches(len(self.dataset.train), self.recipe.training.batch)

    @property
    def neurons(self) -> int:
        """Number of neurons that can fire, without input lines; at least 1, as a divisor."""
        return max(1, sum(fired.numel() for fired in probe(self.network, self.dataset.shape).spikes.values()))

    @property
    def iterations(self) -> int:
        """Number of iterations of the whole run."""
        return self.recipe.training.epochs * self.batches

    def run(self, on_batch: OnBatch, on_epoch: OnEpoch) -> TrainingResult:
        """Train to the end.

        Parameters
        ----------
        on_batch : callable
            Called with iteration, total iterations and loss after every batch. It may raise ``KeyboardInterrupt``.
        on_epoch : callable
            Called with the metrics after every epoch.

        Raises
        ------
        KeyboardInterrupt
            On Ctrl-C, after the state is saved; :meth:`resume` continues from there. So does a request to terminate,
            in the commands; in other programs, it ends the process after the state is saved.
        CheckFailed
            If the loss is not finite.
        BadInput
            If another process trains the run, or its files cannot be written.
        """
        self.lock = self.lock or self.folder.lock()
        keep_freed_memory()
        try:
            measures = reset_peak()
            with _threads(self.recipe.training.threads):
                self._train(on_batch, on_epoch)
            return self._finish(self._memory() if measures else None)
        finally:
            self.lock.release()
            self.lock = None

    def _train(self, on_batch: OnBatch, on_epoch: OnEpoch) -> None:
        started = time.perf_counter() - self.seconds

        def save() -> None:
            self.seconds = time.perf_counter() - started
            self._save("last")

        # The first signal waits for the end of the batch, a second one does not.
        with held_back(second_passes=True) as interrupted:
            while self.epoch < self.recipe.training.epochs:
                for indices in self._remaining_batches():
                    loss = self._train_batch(indices)
                    self.batch += 1
                    try:
                        on_batch(self.epoch * self.batches + self.batch, self.iterations, loss)
                        if interrupted():
                            raise KeyboardInterrupt
                    except KeyboardInterrupt:
                        save()
                        raise
                try:
                    metrics = self._finish_epoch(interrupted)
                except KeyboardInterrupt:  # in the evaluation, which changes nothing
                    save()
                    raise
                save()
                on_epoch(metrics)
                if interrupted():
                    raise KeyboardInterrupt

    def _remaining_batches(self) -> Iterator[Tensor]:
        order = stream(self.recipe.training.seed, "order", self.epoch).permutation(len(self.dataset.train))
        size = self.recipe.training.batch
        for first in range(self.batch * size, order.size, size):
            yield torch.from_numpy(order[first : first + size])

    def _train_batch(self, indices: Tensor) -> float:
        seed, device = self.recipe.training.seed, _device_of(self.network)
        labels = torch.from_numpy(self.dataset.train.labels)[indices].to(device)
        inputs = self._inputs(indices, device)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.network.train()
        self.network.zero_grad(set_to_none=True)  # faster than the optimiser's own, which also calls the profiler
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            # Dropout uses torch's own generator, whose state differs in a resumed run.
            torch.manual_seed(int(stream(seed, "dropout", self.epoch, self.batch).integers(2**63)))
            with _autocast(self.recipe.training):
                # the energy of a sample needs the spikes, with their gradients
                activity = observe(self.network, inputs, _count if self.energy is None else _whole)
        loss = self.loss(activity.outputs.float(), labels)
        cost = loss + self.learner.penalty() + self.stabiliser.cost()
        if self.energy is not None:
            cost = cost + self.energy.cost(inputs, activity)
        self.scaler.scale(cost).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)  # growth rules and limits need the true gradients
        self.stabiliser.limit_gradients()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        batch_loss = loss.item()
        if not math.isfinite(batch_loss):
            raise CheckFailed(
                f"{self.folder.path}: loss is {batch_loss} in batch {self.batch + 1} of epoch {self.epoch + 1}, "
                f"training has diverged; lower training.learning_rate ({self.recipe.training.learning_rate:g})"
            )
        updates = self.learner.step()
        self._count_updates(updates)
        if updates and self.energy is not None:
            self.energy.meter.changed()
        for update in updates:
            self.folder.append_structure(update.to_dict())
        self._picture_connections(self.epoch * self.batches + self.batch + 1)
        self.sums.loss += batch_loss * len(indices)
        self.sums.correct += int((activity.predictions() == labels).sum())
        self.sums.spikes += _total(activity.spikes if self.energy is None else _counts(activity.spikes))
        self.sums.samples += len(indices)
        self.sums.births += sum(update.births for update in updates)
        return batch_loss

    def _picture_connections(self, done: int) -> None:
        """Keep a picture of the connections at the start, the end and between, the same moments in a resumed run."""
        if done in {round(share * self.iterations / PICTURES) for share in range(PICTURES + 1)}:
            for layer in self.learner.layers:
                self.folder.append_connections(picture_connections(layer, done).to_dict())

    def _inputs(self, indices: Tensor, device: torch.device) -> Tensor:
        data, seed = self.recipe.data, self.recipe.training.seed
        encoded = training_inputs(
            self.dataset, indices.numpy(), data.encoding, data.steps, seed, self.epoch, self.batch
        )
        return _time_first(encoded, device)

    def _learning_rate(self) -> float:
        training = self.recipe.training
        done = (self.epoch * self.batches + self.batch) / self.iterations
        return training.learning_rate * RATE_SCHEDULES[training.rate_schedule](done, training.final_rate)

    def _finish_epoch(self, interrupted: Callable[[], bool]) -> EpochMetrics:
        sums, learning_rate = self.sums, self._learning_rate()
        tally = None if self.energy is None else self.energy.meter.tally()
        self.network.zero_grad(set_to_none=True)  # the evaluation can use their memory
        _, validation = _evaluate(
            self.network, self.dataset, self.dataset.validation, self.recipe.data, interrupted=interrupted, tally=tally
        )
        energy = None if self.energy is None or tally is None else self.energy.priced(tally)
        if self._is_better(validation, energy):
            self.best_accuracy, self.best_epoch = validation, self.epoch + 1
            self._save("best")
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, EpochSums()
        self._count_epoch(sums.samples)
        metrics = EpochMetrics(
            epoch=self.epoch,
            iteration=self.epoch * self.batches,
            loss=sums.loss / sums.samples,
            train_accuracy=sums.correct / sums.samples,
            validation_accuracy=validation,
            spikes_per_neuron=sums.spikes / (sums.samples * self.neurons),
            density=self.learner.density,
            connections=sum(layer.connections for layer in self.learner.layers),
            births=sums.births,
            explored=_explored(self.learner.layers),
            learning_rate=learning_rate,
            thresholds={
                name: [round(float(value), 6) for value in (levels.min(), levels.mean(), levels.max())]
                for name, levels in (
                    (name, lif.threshold.detach()) for name, lif in neuron_layers(self.network).items()
                )
            },
            energy=None if self.energy is None or energy is None else self.energy.figures(energy),
        )
        if self.energy is not None and energy is not None:
            self.energy.finish_epoch(energy, metrics.loss, validation)
        entry = asdict(metrics)
        self.folder.append_metrics({name: value for name, value in entry.items() if name != "energy" or value})
        return metrics

    def _is_better(self, accuracy: float, energy: SampleEnergy | None) -> bool:
        if self.energy is None or energy is None:
            return accuracy >= self.best_accuracy
        return self.energy.keep_better(energy, accuracy, self.best_accuracy)

    def _network_work(self) -> NetworkWork | None:
        """Return what the network does for a sample, None where that is not counted."""
        if isinstance(self.network, TemporalNetwork):
            return None
        data, some = self.recipe.data, self.dataset.validation
        some = some.select(np.arange(min(COUNTED_SAMPLES, len(some))))
        inputs = evaluation_inputs(self.dataset, some, data.encoding, data.steps)[:]
        return work_of(self.network, self.learner, _time_first(inputs, _device_of(self.network)))

    def _rule(self) -> Rule:
        weight = max((each for each in self.network.parameters() if each.requires_grad), key=Tensor.numel)
        return rule_of(self.recipe.training.optimiser, self.optimizer, weight)

    def _count_epoch(self, samples: int) -> None:
        found = self._network_work()
        if found is None or self.work is None:
            self.work = None
            return
        amount = Amount(samples, self.batches)
        self.work += training_work(found.layers.values(), found.updates, found.others, self._rule(), amount)

    @cached_property
    def _shapes(self) -> NetworkWork | None:
        return self._network_work()

    def _count_updates(self, updates: Sequence[RewiringUpdate]) -> None:
        found = self._shapes if updates and self.work is not None else None
        learner, shares = self.learner, {str(self.recipe.sparsity.learner): 1.0}
        if isinstance(learner, Rewirer):
            shares = learner.growth
        for update in updates:
            if found is None or self.work is None or update.layer not in found.layers:
                continue
            layer = replace(found.layers[update.layer], connections=update.connections)
            births = shares_of(shares, update.births)
            self.work += rewiring_work(layer, births, self._rule(), self.recipe.training.batch)

    def _cost(self) -> TrainingCost | None:
        found = self._network_work()
        if found is None or self.work is None:
            return None
        stored, dense = parameter_bytes(found.layers.values(), found.others, self._rule())
        return TrainingCost(work=self.work, parameter_bytes=stored, dense_parameter_bytes=dense)

    def _memory(self) -> Memory | None:
        peak, start = peak_bytes(), self.start_bytes
        return None if peak is None or start is None else Memory(peak_bytes=peak, start_bytes=start)

    def _finish(self, memory: Memory | None) -> TrainingResult:
        network = load_network(self.folder, self.dataset).to(_device_of(self.network))
        tally = None if self.energy is None else Meter(network, self.dataset.shape).tally()
        activity_spikes, test_accuracy = _evaluate(
            network, self.dataset, self.dataset.test, self.recipe.data, tally=tally
        )
        result = TrainingResult(
            recipe=self.recipe.name,
            seed=self.recipe.training.seed,
            test_accuracy=test_accuracy,
            test_samples=len(self.dataset.test),
            validation_accuracy=self.best_accuracy,
            best_epoch=self.best_epoch,
            epochs=self.recipe.training.epochs,
            connections=self._connections(),
            density=self.learner.density,
            spikes_per_neuron=activity_spikes / (len(self.dataset.test) * self.neurons),
            seconds=round(self.seconds, 2),
            cost=self._cost(),
            memory=memory,
            energy=None if self.energy is None or tally is None else _energy_figures(self.energy, tally),
        )
        write_result(self.folder.result, result)
        return result

    def _connections(self) -> int:
        masked = {id(layer.weight): layer.connections for layer in self.learner.layers}
        weights = [layer.weight for layer in weighted_layers(self.network).values()]
        dense = sum(masked.get(id(weight), weight.numel()) for weight in weights)
        return dense + connections_in_sparse_storage(self.network)

    def _save(self, name: str) -> None:
        tensors = {f"network/{key}": value for key, value in self.network.state_dict().items()}
        tensors |= {f"learner/{key}": value for key, value in self.learner.state_dict().items()}
        tensors |= {f"{OPTIMIZER}/{key}": value for key, value in optimizer_tensors(self.optimizer).items()}
        progress = {
            "epoch": self.epoch,
            "batch": self.batch,
            "best_accuracy": self.best_accuracy,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "sums": asdict(self.sums),
            "scaler": self.scaler.state_dict(),
            "work": None if self.work is None else self.work.model_dump(),
        }
        if self.energy is not None:
            progress["energy"] = self.energy.state.model_dump()
        for history in (self.folder.metrics, self.folder.structure, self.folder.connections):
            flush(history)  # a checkpoint on the disk has all lines of its history there
        Checkpoint(tensors, progress).save(self.folder.path, name)


def _repeat_progress(folder: RunFolder) -> None:
    """Write the JSON of each checkpoint again: a crash may have come between the tensors and their JSON."""
    for name in ("last", "best"):
        if (folder.path / f"{name}.safetensors").exists():
            Checkpoint.load(folder.path, name).save_progress(folder.path, name)


def _check_names(recipe: Recipe) -> None:
    """Reject names of rules and targets that do not exist."""
    for registry, name in ((ENCODINGS, recipe.data.encoding), (RATE_SCHEDULES, recipe.training.rate_schedule)):
        registry[name]
    if recipe.data.augment is not None:
        AUGMENTATIONS[recipe.data.augment]
    make_loss(recipe.training)
    if recipe.training.quantize is not None:
        formats_of(recipe.training.quantize)
    has_sparse_storage(recipe)


def _fan_in(recipe: Recipe, network: nn.Module, dataset: Dataset) -> dict[str, int] | None:
    """Return the cap of each sparse layer, None without a budget."""
    if recipe.budget is None or recipe.budget.fan_in is None:
        return None
    layers = "all" if recipe.sparsity.layers == ["all"] else recipe.sparsity.layers
    return fan_in_caps(network, dataset.shape, layers, recipe.budget.fan_in)


def _energy_budget(recipe: Recipe, network: nn.Module, learner: Learner, dataset: Dataset) -> EnergyBudget | None:
    """Return the energy budget of a recipe, None without one."""
    if recipe.budget is None or recipe.budget.energy is None:
        return None
    target, goal = load_target(recipe.budget.target), parse_energy(recipe.budget.energy)
    most_nj = goal.amount * (_reference_nj(recipe, dataset, target) if goal.relative else 1.0)
    meter = Meter(network, dataset.shape, learner.layers)
    budget = EnergyBudget(meter, target, most_nj, recipe.data.steps, recipe.budget.rate_floor)
    inputs = evaluation_inputs(dataset, dataset.validation, recipe.data.encoding, recipe.data.steps, None)
    arriving = sum(
        torch.from_numpy(np.count_nonzero(inputs[first : first + EVALUATION_BATCH], axis=(0, 1)).ravel())
        for first in range(0, len(inputs), EVALUATION_BATCH)
    )
    budget.leave_room_for_input(torch.as_tensor(arriving) / len(inputs), learner.density)
    return budget


def _reference_nj(recipe: Recipe, dataset: Dataset, target: HardwareTarget) -> float:
    """Return the energy of the operations of a validation sample in the run that a budget refers to.

    Raises
    ------
    BadInput
        If there is none, it is not finished, or its network reads or computes something else.
    """
    named = None if recipe.budget is None else recipe.budget.reference
    if named is None:
        raise BadInput(
            "budget.energy: a share needs budget.reference, the folder of a finished run of the same recipe without "
            f'budget.energy; train it with: esl-neuro train {recipe.name}, or give an energy such as "400 nJ"'
        )
    folder = RunFolder(Path(named), allow_code=True)  # the network is that of this recipe
    before = folder.recipe()
    if not folder.result.exists():
        raise BadInput(
            f"budget.reference: the run {named} is not finished; finish it with: esl-neuro train --resume {named}"
        )
    for section in ("data", "network"):
        now, then = (getattr(each, section).model_dump(exclude={"sha256"}) for each in (recipe, before))
        differing = [f"{section}.{key}" for key in now if now[key] != then.get(key)]
        if differing:
            raise BadInput(f"budget.reference: {named} differs in {', '.join(differing)}; use a run of the same recipe")
    network = load_network(folder, dataset)
    tally = Meter(network, dataset.shape).tally()
    _evaluate(network, dataset, dataset.validation, recipe.data, tally=tally)
    return SampleEnergy.of(tally, target).operations_nj


def _energy_figures(budget: EnergyBudget, tally: Tally) -> EnergyFigures:
    energy = budget.priced(tally)
    return EnergyFigures(
        target=budget.target.name,
        budget_nj=budget.budget_nj,
        operations_nj=energy.operations_nj,
        beside_nj=energy.beside_nj,
        synaptic_operations=energy.synaptic_operations,
        within=energy.operations_nj <= budget.budget_nj,
        multiplier_per_nj=budget.multiplier_per_nj,
        points_per_nj=budget.points_per_nj(),
        quiet_layers=energy.below(budget.rate_floor),
    )


def _refuse_empty_parts(dataset: Dataset) -> None:
    parts = {"training": dataset.train, "validation": dataset.validation, "test": dataset.test}
    empty = [name for name, part in parts.items() if not len(part)]
    if empty:
        raise BadInput(
            f"data set '{dataset.name}' has no {' and no '.join(empty)} samples; at least ten per class are needed to "
            "split off a validation part"
        )


def _network(recipe: Recipe, dataset: Dataset) -> nn.Module:
    """Build the network of a recipe; it must have one output per class of the data."""
    network = build_network(recipe.network, dataset.shape, recipe.training.seed, linear_of(recipe))
    outputs = probe(network, dataset.shape).outputs.shape[-1]
    if outputs != dataset.classes:
        raise BadInput(
            f"network.notation: '{recipe.network.notation}' has {outputs} outputs, data set '{dataset.name}' has "
            f"{dataset.classes} classes"
        )
    return network if recipe.training.quantize is None else quantised(network, recipe, dataset)


def load_network(folder: RunFolder, dataset: Dataset) -> nn.Module:
    """Load the network of a run at its best validation epoch, on the CPU."""
    recipe = folder.recipe()
    network = _network(recipe, dataset)
    weights = Checkpoint.load(folder.path, "best").part("network")
    try:
        refuse_misfit(weights, network.state_dict(), names_of_any_length(network))
        network.load_state_dict(weights)
    except (ValueError, RuntimeError) as error:
        raise BadInput(f"{folder.path}: the best checkpoint does not fit the recipe ({reason(error)})") from error
    return network


def accuracy(
    network: nn.Module, dataset: Dataset, split: Split, data: DataSection, disturbance: Disturbance | None = None
) -> float:
    """Return the share of correctly classified samples, with the encoding of all evaluations and optional noise."""
    return _evaluate(network, dataset, split, data, disturbance)[1]


def _evaluate(
    network: nn.Module,
    dataset: Dataset,
    split: Split,
    data: DataSection,
    disturbance: Disturbance | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    tally: Tally | None = None,
) -> tuple[int, float]:
    """Return the total spikes of all layers and the accuracy; a signal that is held back ends it."""
    inputs = evaluation_inputs(dataset, split, data.encoding, data.steps, disturbance)
    labels, device = torch.from_numpy(split.labels), _device_of(network)
    spikes, correct, batch = 0, 0, _evaluation_batch(network, data.steps)
    network.eval()
    with torch.no_grad():
        for first in range(0, len(split), batch):
            if interrupted():
                raise KeyboardInterrupt
            part = slice(first, first + batch)
            signal = _time_first(inputs[part], device)
            activity = observe(network, signal, _count if tally is None else _whole)
            if tally is not None:
                tally.add(signal, activity)
            spikes += _total(activity.spikes if tally is None else _counts(activity.spikes))
            correct += int((activity.predictions().cpu() == labels[part]).sum())
    return spikes, correct / len(split)


def _evaluation_batch(network: nn.Module, steps: int) -> int:
    """Return how many samples are evaluated together: fewer where sparse storage allows more neurons than memory."""
    outputs = sum(layer.out_features for layer in network.modules() if isinstance(layer, SparseLinear))
    return max(1, min(EVALUATION_BATCH, EVALUATED_SPIKES // (steps * max(1, outputs))))


def _explored(layers: Sequence[Layer]) -> float | None:
    """Return the share of possible connections that were ever active, None if a layer does not track them."""
    shares = [layer.explored for layer in layers]
    if None in shares:
        return None
    ever = sum(share * layer.possible for share, layer in zip(shares, layers, strict=True) if share is not None)
    return ever / sum(layer.possible for layer in layers)


def _count(fired: Tensor) -> Tensor:
    """Count the spikes of a layer; float sums are fast, and exact below 2**24, so they are used per sample and step."""
    spikes = fired.detach()
    if is_neuron_major(spikes):  # add whole rows, since torch goes across them
        rows = rows_of(spikes)[:, : spikes.shape[:2].numel()]
        return torch.tensor(rows.sum(axis=0).sum(dtype=np.float64))
    return spikes.flatten(2).sum(2).sum(dtype=torch.float64)


def _whole(spikes: Tensor) -> Tensor:
    return spikes


def _counts(spikes: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: _count(fired) for name, fired in spikes.items()}


def _total(counts: dict[str, Tensor]) -> int:
    return sum(int(count) for count in counts.values())


def _time_first(encoded: NDArray[Any], device: torch.device) -> Tensor:
    """Return input of shape (steps, batch, ...), float32; a constant input remains an expanded view."""
    if encoded.shape[1] > 1 and encoded.strides[1] == 0:
        once = torch.from_numpy(encoded[:, 0].astype(np.float32)).to(device)
        return once.expand(encoded.shape[1], *once.shape)
    return torch.as_tensor(encoded).transpose(0, 1).contiguous().float().to(device)


def _device(training: TrainingSection) -> torch.device:
    if training.device == "cuda" and not torch.cuda.is_available():
        raise BadInput("training.device: 'cuda' needs a GPU and a CUDA build of torch; none was found, use 'cpu'")
    if training.device == "cpu" and training.precision == "float16":
        raise BadInput("training.precision: 'float16' needs training.device = 'cuda'; on the CPU use 'bfloat16'")
    return torch.device(training.device)


def _device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _autocast(training: TrainingSection) -> torch.autocast:
    return torch.autocast(training.device, getattr(torch, training.precision), enabled=training.precision != "float32")


def _batches(samples: int, size: int) -> int:
    return math.ceil(samples / size)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
