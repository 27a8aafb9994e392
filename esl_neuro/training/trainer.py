"""The training loop, with structure learning, learned thresholds, checkpoints and metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, ValidationError
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

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
from esl_neuro.sparsity import Learner, make_learner
from esl_neuro.sparsity.masks import Layer
from esl_neuro.sparsity.telemetry import picture_connections
from esl_neuro.storage import Lock, flush, remove_unfinished
from esl_neuro.training.budgets import energy_budget_of, energy_figures, fan_in_of
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
        network = network_of(recipe, dataset).to(device)
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimizer = OPTIMISERS[training.optimiser](parameters, training)
        iterations = training.epochs * _batches(len(dataset.train), training.batch)
        learner = make_learner(
            recipe.sparsity,
            network,
            optimizer,
            iterations=iterations,
            seed=training.seed,
            fan_in=fan_in_of(recipe, network, dataset),
        )
        if source is not None:
            warm_start(source, recipe, network, learner)
        energy = energy_budget_of(recipe, network, learner, dataset)
        stabiliser = make_stabiliser(recipe.network, network, learner.layers)
        scaler = GradScaler(device.type, enabled=training.precision == "float16")
        folder, named = make_folder(), recorded(recipe.data, dataset)
        if named != recipe.data:
            recipe = recipe.model_copy(update={"data": named})
            save_recipe(recipe, folder.config)
        cost = RunCost(recipe, dataset, network, optimizer, learner, before, TrainingWork())
        parts = network, make_loss(training), optimizer, learner, stabiliser, scaler, cost
        return cls(recipe, folder, dataset, *parts, energy=energy)

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
        self.seconds, self.cost.done = progress.seconds, progress.work

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
            return self._finish(self.cost.memory() if measures else None)
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
        seed, device = self.recipe.training.seed, device_of(self.network)
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
                activity = observe(self.network, inputs, spike_count if self.energy is None else whole_spikes)
        loss = self.loss(activity.outputs.float(), labels)
        objective = loss + self.learner.penalty() + self.stabiliser.cost()
        if self.energy is not None:
            objective = objective + self.energy.cost(inputs, activity)
        self.scaler.scale(objective).backward()  # type: ignore[no-untyped-call]
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
        self.cost.count_updates(updates)
        if updates and self.energy is not None:
            self.energy.meter.changed()
        for update in updates:
            self.folder.append_structure(update.to_dict())
        self._picture_connections(self.epoch * self.batches + self.batch + 1)
        self.sums.loss += batch_loss * len(indices)
        self.sums.correct += int((activity.predictions() == labels).sum())
        self.sums.spikes += total_spikes(activity.spikes if self.energy is None else spike_counts(activity.spikes))
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
        return time_first(encoded, device)

    def _learning_rate(self) -> float:
        training = self.recipe.training
        done = (self.epoch * self.batches + self.batch) / self.iterations
        return training.learning_rate * RATE_SCHEDULES[training.rate_schedule](done, training.final_rate)

    def _finish_epoch(self, interrupted: Callable[[], bool]) -> EpochMetrics:
        sums, learning_rate = self.sums, self._learning_rate()
        tally = None if self.energy is None else self.energy.meter.tally()
        self.network.zero_grad(set_to_none=True)  # the evaluation can use their memory
        _, validation = evaluate(
            self.network, self.dataset, self.dataset.validation, self.recipe.data, interrupted=interrupted, tally=tally
        )
        energy = None if self.energy is None or tally is None else self.energy.priced(tally)
        if self._is_better(validation, energy):
            self.best_accuracy, self.best_epoch = validation, self.epoch + 1
            self._save("best")
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
            cost=self.cost.figures(),
            memory=memory,
            energy=None if self.energy is None or tally is None else energy_figures(self.energy, tally),
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
            "work": None if self.cost.done is None else self.cost.done.model_dump(),
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


def _device(training: TrainingSection) -> torch.device:
    if training.device == "cuda" and not torch.cuda.is_available():
        raise BadInput("training.device: 'cuda' needs a GPU and a CUDA build of torch; none was found, use 'cpu'")
    if training.device == "cpu" and training.precision == "float16":
        raise BadInput("training.precision: 'float16' needs training.device = 'cuda'; on the CPU use 'bfloat16'")
    return torch.device(training.device)


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
