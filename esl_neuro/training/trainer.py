"""The training loop, with structure learning, learned thresholds, checkpoints and metrics."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from esl_neuro.budget.cores import CoreBudget
from esl_neuro.budget.energy import EnergyBudget, EnergyState, Meter, SampleEnergy
from esl_neuro.data import Dataset, prepare
from esl_neuro.data.augment import AUGMENTATIONS
from esl_neuro.data.encodings import ENCODINGS
from esl_neuro.data.inputs import training_inputs
from esl_neuro.data.own import recorded
from esl_neuro.errors import BadInput, CheckFailed
from esl_neuro.interruption import held_back
from esl_neuro.random_streams import stream
from esl_neuro.reading.documents import problems, reason
from esl_neuro.recipes import Recipe, save_recipe
from esl_neuro.recipes.sections import TrainingSection
from esl_neuro.snn import neuron_layers, observe, probe, weighted_layers
from esl_neuro.snn.network import NetworkActivity
from esl_neuro.sparsity import Learner, make_learner
from esl_neuro.sparsity.indexed_layer import IndexedLayer
from esl_neuro.sparsity.masks import Layer
from esl_neuro.sparsity.telemetry import picture_connections
from esl_neuro.storage import Lock, flush, remove_unfinished, write
from esl_neuro.training.budgets import core_budget_of, core_figures, energy_budget_of, energy_figures, fan_in_of
from esl_neuro.training.checkpoint import (
    OPTIMIZER,
    Checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    refuse_misfit,
)
from esl_neuro.training.cost import Memory, TrainingWork
from esl_neuro.training.epoch_metrics import EpochMetrics
from esl_neuro.training.evaluation import (
    device_of,
    evaluate,
    load_network,
    network_of,
    spike_count,
    spike_counts,
    time_first,
    total_spikes,
    whole_spikes,
)
from esl_neuro.training.freed_memory import keep_freed_memory
from esl_neuro.training.integer_training import formats_of
from esl_neuro.training.losses import Loss, make_loss
from esl_neuro.training.optimisers import OPTIMISERS, RATE_SCHEDULES
from esl_neuro.training.peak_memory import reset_peak, resident_bytes
from esl_neuro.training.ranks import ALONE, Ranks, digest
from esl_neuro.training.result import TrainingResult, write_result
from esl_neuro.training.run_cost import RunCost
from esl_neuro.training.run_folder import RunFolder
from esl_neuro.training.single_spikes import Stabiliser, make_stabiliser
from esl_neuro.training.sparse_storage import (
    connections_in_sparse_storage,
    has_sparse_storage,
    names_of_any_length,
)
from esl_neuro.training.warm_start import source_of, warm_start
from esl_neuro.training.whole_batch import Part, parts_of, refuse_small_batches, whole_batch
from esl_neuro.version import __version__


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
    processes: PositiveInt = 1


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
    cost: RunCost
    epoch: int = 0
    batch: int = 0
    best_accuracy: float = -1.0
    best_epoch: int = 0
    seconds: float = 0.0
    sums: EpochSums = field(default_factory=EpochSums)
    lock: Lock | None = field(default=None, repr=False)
    energy: EnergyBudget | None = None
    ranks: Ranks = ALONE
    notes: tuple[str, ...] = ()
    cores: CoreBudget | None = None

    @classmethod
    def start(
        cls, recipe: Recipe, make_folder: Callable[[], RunFolder], *, download: bool = False, ranks: Ranks = ALONE
    ) -> Trainer:
        """Start a run, from a finished one if the recipe says so.

        The folder is created after the recipe has been checked. Where several processes train the run, each calls this
        with its rank.
        """
        if download and ranks.count > 1:  # by one process of each machine
            ranks.together(lambda: None if ranks.local_rank else _data(recipe, ranks, download=True))
        parts = ranks.together(partial(_parts, recipe, ranks, download=download and ranks.count == 1, begins=True))
        trainer = cls(folder=_made(make_folder, recipe, parts["recipe"], ranks), **parts)
        trainer._refuse_differing_ranks()
        ranks.on_first(trainer._note_cores)
        trainer._picture_connections(0)
        return trainer

    @classmethod
    def resume(cls, folder: RunFolder, ranks: Ranks = ALONE) -> Trainer:
        """Continue an interrupted run; on the CPU the result is bit for bit that of an uninterrupted run.

        Another number of processes may continue it: then sums have another order, and the last bits may differ.
        """
        recipe = ranks.together(folder.recipe)
        lock = ranks.on_first(folder.lock)
        try:
            trainer = cls(folder=folder, **ranks.together(partial(_parts, recipe, ranks)))
            ranks.together(trainer._load)
            ranks.on_first(lambda: trainer._tidy(recipe))
            trainer._refuse_differing_ranks()
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        trainer.lock = lock  # released when the run has ended
        return trainer

    def _load(self) -> None:
        if self.folder.result.exists():
            raise BadInput(f"{self.folder.path}: the run is complete and cannot be resumed")
        checkpoint = Checkpoint.load(self.folder.path, "last")
        try:
            self._restore(checkpoint)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise BadInput(
                f"{self.folder.path}: the last checkpoint does not fit the recipe ({reason(error)}); train again"
            ) from error

    def _note_cores(self) -> None:
        if self.cores is not None:
            write(self.folder.cores, json.dumps(self.cores.core_plan.to_document(), indent=2) + "\n")

    def _tidy(self, recipe: Recipe) -> None:
        """Remove what is behind the checkpoint of the run, or unfinished."""
        remove_unfinished(self.folder.path)
        self._note_cores()
        _repeat_progress(self.folder)
        if self.recipe != recipe:
            save_recipe(self.recipe, self.folder.config)
        self.folder.keep_metrics(self.epoch)
        self.folder.keep_structure(self.epoch * self.batches + self.batch)
        self.folder.keep_connections(self.epoch * self.batches + self.batch)

    def _refuse_differing_ranks(self) -> None:
        """Check that all processes train the same network with the same data."""
        if self.ranks.count == 1:
            return
        labels = torch.from_numpy(self.dataset.train.labels)
        state = self.network.state_dict(), self.learner.state_dict(), optimizer_tensors(self.optimizer)
        self.ranks.refuse_differing(
            {
                "esl-neuro": __version__,
                "torch": torch.__version__,
                "the recipe": repr(self.recipe.model_dump(exclude={"expected", "published"})),
                "the training samples": digest([{"labels": labels}]),
                "weights, connections or moments": digest(state),
            }
        )

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
        self.seconds, self.cost.done = progress.seconds, progress.work
        if progress.processes != self.ranks.count:
            self.notes += (
                f"{self.folder.path}: the number of processes is {self.ranks.count}, it was {progress.processes} so "
                "far; sums have another order, so the last bits may differ",
            )

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
        with self._alone():
            measures = reset_peak()
            self._train(on_batch, on_epoch, self.recipe.training.epochs)
            return self._finish(self.cost.memory() if measures else None)

    def run_to(self, epoch: int, on_batch: OnBatch, on_epoch: OnEpoch) -> None:
        """Train to the end of an epoch, with the state saved; :meth:`resume` continues. See :meth:`run`."""
        with self._alone():
            self._train(on_batch, on_epoch, min(epoch, self.recipe.training.epochs))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let no other process train the run, with the threads of the recipe."""
        self.lock = self.ranks.on_first(lambda: self.lock or self.folder.lock())
        keep_freed_memory()
        try:
            with _threads(max(1, self.recipe.training.threads // self.ranks.local_count)):
                yield
        finally:
            if self.lock is not None:
                self.lock.release()
            self.lock = None

    def _train(self, on_batch: OnBatch, on_epoch: OnEpoch, last: int) -> None:
        started = time.perf_counter() - self.seconds

        def save() -> None:
            self.seconds = time.perf_counter() - started
            self.ranks.on_first(lambda: self._save("last"))  # all wait until it is on the disk

        # The first signal waits for the end of the batch, a second one does not.
        with held_back(second_passes=True) as interrupted:
            while self.epoch < last:
                for indices in self._remaining_batches():
                    loss = self._train_batch(indices)
                    self.batch += 1
                    unwanted = False
                    try:
                        on_batch(self.epoch * self.batches + self.batch, self.iterations, loss)
                    except KeyboardInterrupt:
                        unwanted = True
                    if self.ranks.any(unwanted or interrupted()):
                        save()
                        raise KeyboardInterrupt
                try:
                    metrics = self._finish_epoch(interrupted)
                except KeyboardInterrupt:  # in the evaluation, which changes nothing
                    save()
                    raise
                save()
                on_epoch(metrics)
                if self.ranks.any(interrupted()):
                    raise KeyboardInterrupt

    def _remaining_batches(self) -> Iterator[Tensor]:
        order = stream(self.recipe.training.seed, "order", self.epoch).permutation(len(self.dataset.train))
        size = self.recipe.training.batch
        for first in range(self.batch * size, order.size, size):
            yield torch.from_numpy(order[first : first + size])

    def _train_batch(self, indices: Tensor) -> float:
        device = device_of(self.network)
        inputs, labels = self._inputs(indices), torch.from_numpy(self.dataset.train.labels)[indices].to(device)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.network.train()
        self.network.zero_grad(set_to_none=True)  # faster than the optimiser's own, which also calls the profiler
        loss_sum = correct = spikes = 0.0
        for part in parts_of(len(indices), self.ranks, self.recipe.training.accumulation):
            signal, targets = time_first(inputs[part.samples], device), labels[part.samples]
            activity, loss = self._train_part(part, signal, targets)
            loss_sum += part.share * loss
            correct += int((activity.predictions() == targets).sum())
            spikes += total_spikes(activity.spikes if self.energy is None else spike_counts(activity.spikes))
        self.ranks.add_gradients(self.network.parameters())
        self.scaler.unscale_(self.optimizer)  # growth rules and limits need the true gradients
        self.stabiliser.limit_gradients()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        figures = self.ranks.total(torch.tensor([loss_sum, correct, spikes], dtype=torch.float64))
        batch_loss = float(figures[0])
        if not math.isfinite(batch_loss):
            raise self.ranks.agreed(
                CheckFailed(
                    f"{self.folder.path}: loss is {batch_loss} in batch {self.batch + 1} of epoch {self.epoch + 1}, "
                    "training has diverged; lower training.learning_rate "
                    f"({self.recipe.training.learning_rate:g})"
                )
            )
        updates = self.learner.step()
        self.cost.count_updates(updates)
        if updates and self.energy is not None:
            self.energy.meter.changed()
        if self.ranks.first:
            for update in updates:
                self.folder.append_structure(update.to_dict())
        self._picture_connections(self.epoch * self.batches + self.batch + 1)
        self.sums.loss += batch_loss * len(indices)
        self.sums.correct += int(figures[1])
        self.sums.spikes += int(figures[2])
        self.sums.samples += len(indices)
        self.sums.births += sum(update.births for update in updates)
        return batch_loss

    def _train_part(self, part: Part, signal: Tensor, labels: Tensor) -> tuple[NetworkActivity, float]:
        """Add the gradients of a part of a batch, and return its activity and mean loss."""
        # Dropout uses torch's own generator, whose state differs in a resumed run.
        seed = int(stream(self.recipe.training.seed, "dropout", self.epoch, self.batch).integers(2**63))
        with (
            whole_batch(part, self.ranks, seed, device_of(self.network)),
            _autocast(self.recipe.training),
        ):
            # the energy of a sample needs the spikes, with their gradients
            activity = observe(self.network, signal, spike_count if self.energy is None else whole_spikes)
        loss = self.loss(activity.outputs.float(), labels)
        objective = loss + self.learner.penalty() + self.stabiliser.cost()
        if self.energy is not None:
            objective = objective + self.energy.cost(signal, activity, part.share, self.ranks.joint_total)
        self.scaler.scale(part.share * objective).backward()  # type: ignore[no-untyped-call]
        return activity, loss.item()

    def _picture_connections(self, done: int) -> None:
        """Keep a picture of the connections at the start, the end and between, the same moments in a resumed run."""
        moments = {round(share * self.iterations / PICTURES) for share in range(PICTURES + 1)}
        if self.ranks.first and done in moments:
            for layer in self.learner.layers:
                self.folder.append_connections(picture_connections(layer, done).to_dict())

    def _inputs(self, indices: Tensor) -> NDArray[Any]:
        """Encode the whole batch, also where this process takes a part, so that it gets the same random numbers."""
        data, seed = self.recipe.data, self.recipe.training.seed
        return training_inputs(self.dataset, indices.numpy(), data.encoding, data.steps, seed, self.epoch, self.batch)

    def _learning_rate(self) -> float:
        training = self.recipe.training
        done = (self.epoch * self.batches + self.batch) / self.iterations
        return training.learning_rate * RATE_SCHEDULES[training.rate_schedule](done, training.final_rate)

    def _finish_epoch(self, interrupted: Callable[[], bool]) -> EpochMetrics:
        self._refuse_differing_ranks()
        sums, learning_rate = self.sums, self._learning_rate()
        tally = None if self.energy is None else self.energy.meter.tally()
        self.network.zero_grad(set_to_none=True)  # the evaluation can use their memory
        _, validation = evaluate(
            self.network,
            self.dataset,
            self.dataset.validation,
            self.recipe.data,
            interrupted=interrupted,
            tally=tally,
            ranks=self.ranks,
        )
        energy = None if self.energy is None or tally is None else self.energy.priced(tally)
        if self.cores is not None:
            self.cores.check(self.learner.layers)
        if self._is_better(validation, energy):
            self.best_accuracy, self.best_epoch = validation, self.epoch + 1
            self.ranks.on_first(lambda: self._save("best"))
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, EpochSums()
        self.cost.count_epoch(sums.samples, self.batches)
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
        if self.ranks.first:
            self.folder.append_metrics({name: value for name, value in entry.items() if name != "energy" or value})
        return metrics

    def _is_better(self, accuracy: float, energy: SampleEnergy | None) -> bool:
        if self.energy is None or energy is None:
            return accuracy >= self.best_accuracy
        return self.energy.keep_better(energy, accuracy, self.best_accuracy)

    def _finish(self, memory: Memory | None) -> TrainingResult:
        network = load_network(self.folder, self.dataset).to(device_of(self.network))
        tally = None if self.energy is None else Meter(network, self.dataset.shape).tally()
        activity_spikes, test_accuracy = evaluate(
            network, self.dataset, self.dataset.test, self.recipe.data, tally=tally, ranks=self.ranks
        )
        result = TrainingResult(
            recipe=self.recipe.name,
            seed=self.recipe.training.seed,
            test_accuracy=test_accuracy,
            test_samples=len(self.dataset.test),
            validation_accuracy=self.best_accuracy,
            best_epoch=self.best_epoch,
            epochs=self.recipe.training.epochs,
            connections=self.connections,
            density=self.learner.density,
            spikes_per_neuron=activity_spikes / (len(self.dataset.test) * self.neurons),
            seconds=round(self.seconds, 2),
            cost=self.cost.figures(),
            memory=memory,
            energy=None if self.energy is None or tally is None else energy_figures(self.energy, tally),
            cores=None if self.cores is None else core_figures(self.cores, network),
        )
        self.ranks.on_first(lambda: write_result(self.folder.result, result))
        return result

    @property
    def connections(self) -> int:
        """Number of connections of the whole network now; a layer without a mask has all of its own."""
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
            "work": None if self.cost.done is None else self.cost.done.model_dump(),
            "processes": self.ranks.count,
        }
        if self.energy is not None:
            progress["energy"] = self.energy.state.model_dump()
        for history in self.folder.histories:
            flush(history)  # a checkpoint on the disk has all lines of its history there
        Checkpoint(tensors, progress).save(self.folder.path, name)


def _repeat_progress(folder: RunFolder) -> None:
    """Write the JSON of each checkpoint again: a crash may have come between the tensors and their JSON."""
    for name in ("last", "best"):
        if (folder.path / f"{name}.safetensors").exists():
            Checkpoint.load(folder.path, name).save_progress(folder.path, name)


def _data(recipe: Recipe, ranks: Ranks, *, download: bool) -> Dataset:
    """Load the data of a recipe, after what can be checked without them."""
    training = recipe.training
    _device(training, ranks)
    _check_names(recipe)
    dataset = prepare(recipe.data, training.seed, download=download)
    _refuse_empty_parts(dataset)
    if training.accumulation > 1 and recipe.budget is not None and recipe.budget.energy is not None:
        raise BadInput(
            f"training.accumulation: {training.accumulation} is not possible with budget.energy, whose term of the "
            "loss is of a whole batch; use 1, and several processes or a smaller training.batch to save memory"
        )
    refuse_small_batches(len(dataset.train), training.batch, ranks, training.accumulation)
    return dataset


def _parts(recipe: Recipe, ranks: Ranks, *, download: bool = False, begins: bool = False) -> dict[str, Any]:
    """Build all of a trainer but its folder; no process says a word to others."""
    training, device, before = recipe.training, _device(recipe.training, ranks), resident_bytes()
    source = source_of(recipe) if begins else None
    dataset = _data(recipe, ranks, download=download)
    network = network_of(recipe, dataset).to(device)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = OPTIMISERS[training.optimiser](parameters, training)
    iterations = training.epochs * _batches(len(dataset.train), training.batch)
    cores = core_budget_of(recipe, network, dataset)
    learner = make_learner(
        recipe.sparsity,
        network,
        optimizer,
        iterations=iterations,
        seed=training.seed,
        fan_in=fan_in_of(recipe, network, dataset),
        cores=None if cores is None else cores.plan,
    )
    for layer in learner.layers:
        if isinstance(layer, IndexedLayer):
            layer.total = ranks.total
    if source is not None:
        warm_start(source, recipe, network, learner)
    if cores is not None:
        cores.check(learner.layers)
    recipe = recipe.model_copy(update={"data": recorded(recipe.data, dataset)})
    return {
        "recipe": recipe,
        "dataset": dataset,
        "network": network,
        "loss": make_loss(training),
        "optimizer": optimizer,
        "learner": learner,
        "energy": energy_budget_of(recipe, network, learner, dataset, ranks.total),
        "cores": cores,
        "stabiliser": make_stabiliser(recipe.network, network, learner.layers),
        "scaler": GradScaler(device.type, enabled=training.precision == "float16"),
        "cost": RunCost(recipe, dataset, network, optimizer, learner, before, TrainingWork(), ranks),
        "ranks": ranks,
    }


def _made(make_folder: Callable[[], RunFolder], asked: Recipe, recipe: Recipe, ranks: Ranks) -> RunFolder:
    """Let the first process make the folder of a run, with the recipe that records its data, and tell the others."""

    def make() -> RunFolder:
        folder = make_folder()
        if recipe != asked:
            save_recipe(recipe, folder.config)
        return folder

    made = ranks.on_first(make)
    path = ranks.texts("" if made is None else str(made.path))[0]
    return made or RunFolder(Path(path), allow_code=True)  # the recipe is loaded already


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


def _refuse_empty_parts(dataset: Dataset) -> None:
    parts = {"training": dataset.train, "validation": dataset.validation, "test": dataset.test}
    empty = [name for name, part in parts.items() if not len(part)]
    if empty:
        raise BadInput(
            f"data set '{dataset.name}' has no {' and no '.join(empty)} samples; at least ten per class are needed to "
            "split off a validation part"
        )


def _explored(layers: Sequence[Layer]) -> float | None:
    """Return the share of possible connections that were ever active, None if a layer does not track them."""
    shares = [layer.explored for layer in layers]
    if None in shares:
        return None
    ever = sum(share * layer.possible for share, layer in zip(shares, layers, strict=True) if share is not None)
    return ever / sum(layer.possible for layer in layers)


def _device(training: TrainingSection, ranks: Ranks) -> torch.device:
    if training.device == "cuda" and not torch.cuda.is_available():
        raise BadInput("training.device: 'cuda' needs a GPU and a CUDA build of torch; none was found, use 'cpu'")
    if training.device == "cpu" and training.precision == "float16":
        raise BadInput("training.precision: 'float16' needs training.device = 'cuda'; on the CPU use 'bfloat16'")
    return torch.device(training.device, ranks.local_rank) if training.device == "cuda" else torch.device("cpu")


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
