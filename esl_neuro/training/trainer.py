"""The training loop: evolutionary structure learning with learned thresholds."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from types import FrameType

import torch
from torch import Tensor, nn

from esl_neuro.data import Dataset, FrameSettings, Split, load_dataset
from esl_neuro.data.encodings import ENCODINGS
from esl_neuro.data.inputs import Disturbance, evaluation_inputs, training_inputs
from esl_neuro.errors import BadInput
from esl_neuro.random_streams import stream
from esl_neuro.recipe import DataSection, Recipe
from esl_neuro.snn import build_network, neuron_layers, observe, probe, weighted_layers
from esl_neuro.sparsity import Rewirer
from esl_neuro.training.checkpoint import OPTIMIZER, Checkpoint, load_optimizer_tensors, optimizer_tensors
from esl_neuro.training.losses import LOSSES
from esl_neuro.training.optimisers import OPTIMISERS, RATE_SCHEDULES
from esl_neuro.training.run_folder import RunFolder, write_atomically


@dataclass
class EpochSums:
    """Running sums of the epoch in progress; part of the checkpoint, so that a resumed epoch reports the same."""

    loss: float = 0.0
    correct: int = 0
    spikes: int = 0
    samples: int = 0
    births: int = 0


@dataclass(frozen=True)
class EpochMetrics:
    """What one epoch showed.

    Attributes
    ----------
    spikes_per_neuron : float
        Mean spikes per neuron and training sample, all layers.
    density : float
        Connections as a share of the possible ones, in the masked layers.
    births : int
        Connections born (and as many pruned) in this epoch.
    explored : float
        Share of possible connections that were ever active, in the masked layers.
    thresholds : dict of str to list of float
        Minimum, mean and maximum threshold of each layer.
    """

    epoch: int
    iteration: int
    loss: float
    train_accuracy: float
    validation_accuracy: float
    spikes_per_neuron: float
    density: float
    connections: int
    births: int
    explored: float
    learning_rate: float
    thresholds: dict[str, list[float]]


@dataclass(frozen=True)
class TrainingResult:
    """Final figures of a run; the test part is used here, once, with the best epoch on validation."""

    recipe: str
    seed: int
    test_accuracy: float
    test_samples: int
    validation_accuracy: float
    best_epoch: int
    epochs: int
    connections: int
    density: float
    spikes_per_neuron: float
    seconds: float


OnBatch = Callable[[int, int, float], None]
OnEpoch = Callable[[EpochMetrics], None]


@dataclass
class Trainer:
    """A run in progress. Make one with :meth:`start` or :meth:`resume`, then call :meth:`run`."""

    recipe: Recipe
    folder: RunFolder
    dataset: Dataset
    network: nn.Module
    optimizer: torch.optim.Optimizer
    rewirer: Rewirer
    epoch: int = 0
    batch: int = 0
    best_accuracy: float = -1.0
    best_epoch: int = 0
    seconds: float = 0.0
    sums: EpochSums = field(default_factory=EpochSums)

    @classmethod
    def start(cls, recipe: Recipe, make_folder: Callable[[], RunFolder]) -> Trainer:
        """Begin a run; its folder is made once the recipe has proved to be possible."""
        # Looked up here, so that a wrong name is found before a folder is made.
        ENCODINGS[recipe.data.encoding], LOSSES[recipe.training.loss], RATE_SCHEDULES[recipe.training.rate_schedule]
        dataset = load_dataset(
            recipe.data.name, seed=recipe.training.seed, frames=FrameSettings(steps=recipe.data.steps)
        )
        network = _network(recipe, dataset)
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimizer = OPTIMISERS[recipe.training.optimiser](parameters, recipe.training)
        iterations = recipe.training.epochs * _batches(len(dataset.train), recipe.training.batch)
        sparsity = recipe.sparsity
        rewirer = Rewirer(
            network,
            optimizer,
            density=sparsity.density,
            layers=sparsity.layers,
            end=int(sparsity.end * iterations),
            alpha=sparsity.alpha,
            update_every=sparsity.update_every,
            prune=sparsity.prune,
            growth=sparsity.growth,
            seed=recipe.training.seed,
        )
        return cls(recipe, make_folder(), dataset, network, optimizer, rewirer)

    @classmethod
    def resume(cls, folder: RunFolder) -> Trainer:
        """Continue an interrupted run; on the CPU it ends bit for bit as if it had never stopped."""
        trainer = cls.start(folder.recipe(), lambda: folder)
        if folder.result.exists():
            raise BadInput(f"{folder.path}: the run is complete, there is nothing to resume")
        checkpoint = Checkpoint.load(folder.path, "last")
        try:
            trainer._take_over(checkpoint)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise BadInput(
                f"{folder.path}: the last checkpoint is not of this recipe ({reason}); train again"
            ) from error
        folder.keep_metrics(trainer.epoch)
        return trainer

    def _take_over(self, checkpoint: Checkpoint) -> None:
        progress = dict(checkpoint.progress)
        self.network.load_state_dict(checkpoint.part("network"))
        load_optimizer_tensors(self.optimizer, checkpoint.part(OPTIMIZER))
        self.rewirer.load_state_dict(checkpoint.part("rewirer"))
        self.sums = EpochSums(**progress.pop("sums"))
        for name, value in progress.items():
            setattr(self, name, value)

    @property
    def batches(self) -> int:
        """Batches per epoch; the last one may be smaller."""
        return _batches(len(self.dataset.train), self.recipe.training.batch)

    @property
    def neurons(self) -> int:
        """Neurons that can fire, input lines not counted."""
        return sum(fired.numel() for fired in probe(self.network, self.dataset.shape).spikes.values())

    @property
    def iterations(self) -> int:
        """Iterations of the whole run."""
        return self.recipe.training.epochs * self.batches

    def run(self, on_batch: OnBatch, on_epoch: OnEpoch) -> TrainingResult:
        """Train to the end.

        Parameters
        ----------
        on_batch : callable
            Called with iteration, total iterations and loss after every batch.
        on_epoch : callable
            Called with the metrics after every epoch.

        Raises
        ------
        KeyboardInterrupt
            On Ctrl-C, after the state was saved; :meth:`resume` continues from there.
        """
        started = time.perf_counter() - self.seconds
        with _threads(self.recipe.training.threads), _interrupt_after_batch() as interrupted:
            while self.epoch < self.recipe.training.epochs:
                for indices in self._remaining_batches():
                    loss = self._train_batch(indices)
                    self.batch += 1
                    on_batch(self.epoch * self.batches + self.batch, self.iterations, loss)
                    if interrupted():
                        self.seconds = time.perf_counter() - started
                        self._save("last")
                        raise KeyboardInterrupt
                metrics = self._finish_epoch()
                self.seconds = time.perf_counter() - started
                self._save("last")
                on_epoch(metrics)
        return self._finish()

    def _remaining_batches(self) -> Iterator[Tensor]:
        order = stream(self.recipe.training.seed, "order", self.epoch).permutation(len(self.dataset.train))
        size = self.recipe.training.batch
        for first in range(self.batch * size, order.size, size):
            yield torch.from_numpy(order[first : first + size])

    def _train_batch(self, indices: Tensor) -> float:
        data, seed = self.recipe.data, self.recipe.training.seed
        labels = torch.from_numpy(self.dataset.train.labels)[indices]
        inputs = _time_first(
            training_inputs(self.dataset, indices.numpy(), data.encoding, data.steps, seed, self.epoch, self.batch)
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.network.train()
        with torch.random.fork_rng(devices=[]):
            # Dropout draws from torch's own generator, which a resumed run would find in another state.
            torch.manual_seed(int(stream(seed, "dropout", self.epoch, self.batch).integers(2**63)))
            activity = observe(self.network, inputs)
        loss = LOSSES[self.recipe.training.loss](activity.outputs, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        updates = self.rewirer.step()
        self.sums.loss += loss.item() * len(indices)
        self.sums.correct += int((activity.predictions() == labels).sum())
        self.sums.spikes += sum(int(spikes.detach().sum()) for spikes in activity.spikes.values())
        self.sums.samples += len(indices)
        self.sums.births += sum(update.replaced for update in updates)
        return loss.item()

    def _learning_rate(self) -> float:
        training = self.recipe.training
        done = (self.epoch * self.batches + self.batch) / self.iterations
        return training.learning_rate * RATE_SCHEDULES[training.rate_schedule](done, training.final_rate)

    def _finish_epoch(self) -> EpochMetrics:
        sums, learning_rate = self.sums, self._learning_rate()
        validation = accuracy(self.network, self.dataset, self.dataset.validation, self.recipe.data)
        if validation >= self.best_accuracy:
            self.best_accuracy, self.best_epoch = validation, self.epoch + 1
            self._save("best")
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, EpochSums()
        metrics = EpochMetrics(
            epoch=self.epoch,
            iteration=self.epoch * self.batches,
            loss=sums.loss / sums.samples,
            train_accuracy=sums.correct / sums.samples,
            validation_accuracy=validation,
            spikes_per_neuron=sums.spikes / (sums.samples * self.neurons),
            density=self.rewirer.density,
            connections=sum(layer.connections for layer in self.rewirer.layers),
            births=sums.births,
            explored=sum(layer.explored * layer.mask.numel() for layer in self.rewirer.layers)
            / sum(layer.mask.numel() for layer in self.rewirer.layers),
            learning_rate=learning_rate,
            thresholds={
                name: [round(float(value), 6) for value in (levels.min(), levels.mean(), levels.max())]
                for name, levels in (
                    (name, lif.threshold.detach()) for name, lif in neuron_layers(self.network).items()
                )
            },
        )
        self.folder.append_metrics(asdict(metrics))
        return metrics

    def _finish(self) -> TrainingResult:
        network = load_network(self.folder, self.dataset)
        activity_spikes, test_accuracy = _evaluate(network, self.dataset, self.dataset.test, self.recipe.data)
        result = TrainingResult(
            recipe=self.recipe.name,
            seed=self.recipe.training.seed,
            test_accuracy=test_accuracy,
            test_samples=len(self.dataset.test),
            validation_accuracy=self.best_accuracy,
            best_epoch=self.best_epoch,
            epochs=self.recipe.training.epochs,
            connections=self._connections(),
            density=self.rewirer.density,
            spikes_per_neuron=activity_spikes / (len(self.dataset.test) * self.neurons),
            seconds=round(self.seconds, 2),
        )
        write_atomically(self.folder.result, json.dumps(asdict(result), indent=2) + "\n")
        return result

    def _connections(self) -> int:
        masked = {layer.name: layer.connections for layer in self.rewirer.layers}
        return sum(masked.get(name, layer.weight.numel()) for name, layer in weighted_layers(self.network).items())

    def _save(self, name: str) -> None:
        tensors = {f"network/{key}": value for key, value in self.network.state_dict().items()}
        tensors |= {f"rewirer/{key}": value for key, value in self.rewirer.state_dict().items()}
        tensors |= {f"{OPTIMIZER}/{key}": value for key, value in optimizer_tensors(self.optimizer).items()}
        progress = {
            "epoch": self.epoch,
            "batch": self.batch,
            "best_accuracy": self.best_accuracy,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "sums": asdict(self.sums),
        }
        Checkpoint(tensors, progress).save(self.folder.path, name)


def _network(recipe: Recipe, dataset: Dataset) -> nn.Module:
    """Build the network of a recipe, which must have as many outputs as the data have classes."""
    network = build_network(recipe.network, dataset.shape, recipe.training.seed)
    outputs = probe(network, dataset.shape).outputs.shape[-1]
    if outputs != dataset.classes:
        raise BadInput(
            f"network.notation: '{recipe.network.notation}' has {outputs} outputs; data set '{dataset.name}' has "
            f"{dataset.classes} classes"
        )
    return network


def load_network(folder: RunFolder, dataset: Dataset) -> nn.Module:
    """Load the network of a run at its best epoch on validation."""
    recipe = folder.recipe()
    network = _network(recipe, dataset)
    network.load_state_dict(Checkpoint.load(folder.path, "best").part("network"))
    return network


def accuracy(
    network: nn.Module, dataset: Dataset, split: Split, data: DataSection, disturbance: Disturbance | None = None
) -> float:
    """Share of correctly classified samples, encoded as every evaluation encodes them, disturbed on request."""
    return _evaluate(network, dataset, split, data, disturbance)[1]


def _evaluate(
    network: nn.Module, dataset: Dataset, split: Split, data: DataSection, disturbance: Disturbance | None = None
) -> tuple[int, float]:
    """Total spikes of all layers, and accuracy."""
    inputs = _time_first(evaluation_inputs(dataset, split, data.encoding, data.steps, disturbance))
    labels = torch.from_numpy(split.labels)
    spikes, correct = 0, 0
    network.eval()
    with torch.no_grad():
        for first in range(0, len(split), 256):
            activity = observe(network, inputs[:, first : first + 256])
            spikes += sum(int(fired.sum()) for fired in activity.spikes.values())
            correct += int((activity.predictions() == labels[first : first + 256]).sum())
    return spikes, correct / len(split)


def _time_first(spikes: object) -> Tensor:
    return torch.as_tensor(spikes).transpose(0, 1).contiguous().float()


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


@contextmanager
def _interrupt_after_batch() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a flag, so that no batch is left half applied; a second one acts at once."""
    pressed = False

    def remember(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (signal handler)
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, previous)

    try:
        previous = signal.signal(signal.SIGINT, remember)
    except ValueError:  # not the main thread: Ctrl-C does not arrive here anyway
        yield lambda: False
        return
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, previous)
