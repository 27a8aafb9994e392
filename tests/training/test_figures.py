"""Every figure that a run reports, and every draw that it makes, recomputed from what the network did."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from esl_neuro.data import load_dataset
from esl_neuro.data.inputs import Disturbance, evaluation_inputs
from esl_neuro.errors import BadInput, CheckFailed
from esl_neuro.neuron_major import empty_signal, is_neuron_major, rows_of
from esl_neuro.snn import neuron_layers, observe
from esl_neuro.snn.functional import arctan, lif
from esl_neuro.spike_bits import kept_bits
from esl_neuro.training import trainer as training_loop
from esl_neuro.training.checkpoint import Checkpoint
from esl_neuro.training.evaluation import (
    EVALUATION_BATCH,
    accuracy,
    load_network,
    spike_count,
    time_first,
    total_spikes,
)
from esl_neuro.training.run_folder import RunFolder
from esl_neuro.training.trainer import Trainer, read_progress
from training.short_runs import BATCH, nothing, start, train

EPOCHS = 2
# Two masked layers of different size, so that a mean over layers and one over connections differ.
TWO_LAYERS = (
    'sparsity={learner="esl", layers=["fc1", "fc2"], density=0.4, update_every=4}',
    f"training.epochs={EPOCHS}",
    "training.rate_schedule=exponential",
    "training.final_rate=0.1",
)
NEURONS = 24 + 10


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run, what the network did in each batch of training, and what the inputs and the random numbers depended on."""
    trainer = start(tmp_path_factory.mktemp("run"), *TWO_LAYERS)
    heard = {"indices": [], "activities": [], "drawn": [], "seeds": [], "epochs": []}
    train_batch, make_inputs, look = trainer._train_batch, training_loop.training_inputs, training_loop.observe

    def listen_to_batch(indices):
        heard["indices"].append(indices)
        return train_batch(indices)

    def listen_to_inputs(dataset, indices, *given):
        heard["drawn"].append(given)
        return make_inputs(dataset, indices, *given)

    def listen_to_network(network, inputs, keep):
        activity = look(network, inputs)
        if network.training:
            heard["activities"].append(activity)
            heard["seeds"].append(torch.initial_seed())
        return replace(activity, spikes={name: keep(fired) for name, fired in activity.spikes.items()})

    def end_of_epoch(metrics):
        levels = [lif.threshold.detach() for lif in neuron_layers(trainer.network).values()]
        heard["epochs"].append((metrics, [(each.min(), each.mean(), each.max()) for each in levels]))

    trainer._train_batch = listen_to_batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_loop, "training_inputs", listen_to_inputs)
        patch.setattr(training_loop, "observe", listen_to_network)
        result = trainer.run(nothing, end_of_epoch)
    return trainer, result, heard


def of_epoch(run, values, epoch):
    return values[epoch * run[0].batches : (epoch + 1) * run[0].batches]


def spikes_of(activity):
    return sum(int(fired.detach().double().sum()) for fired in activity.spikes.values())


@pytest.mark.parametrize("epoch", range(EPOCHS))
def test_accuracy_and_spikes_of_an_epoch_are_those_of_its_batches(run, epoch):
    trainer, _, heard = run
    right = spikes = 0
    for indices, activity in zip(
        of_epoch(run, heard["indices"], epoch), of_epoch(run, heard["activities"], epoch), strict=True
    ):
        labels = trainer.dataset.train.labels[indices.numpy()]
        right += int((activity.predictions().numpy() == labels).sum())
        spikes += spikes_of(activity)
    metrics, _ = heard["epochs"][epoch]
    samples = len(trainer.dataset.train)
    assert metrics.train_accuracy == right / samples
    assert metrics.spikes_per_neuron == spikes / (samples * NEURONS)


@pytest.mark.parametrize("epoch", range(EPOCHS))
def test_thresholds_are_minimum_mean_and_maximum_of_each_layer(run, epoch):
    metrics, levels = run[2]["epochs"][epoch]
    assert list(metrics.thresholds) == ["lif1", "lif2"]
    for found, expected in zip(metrics.thresholds.values(), levels, strict=True):
        assert found == [round(float(value), 6) for value in expected]


def test_structure_figures_count_connections_and_not_layers(run):
    trainer, result, heard = run
    first, second = trainer.learner.layers
    possible = 64 * 24 + 24 * 10
    metrics, _ = heard["epochs"][-1]
    assert metrics.connections == first.connections + second.connections == round(0.4 * 64 * 24) + round(0.4 * 24 * 10)
    assert metrics.density == result.density == metrics.connections / possible
    ever = int(first.ever_active.sum()) + int(second.ever_active.sum())
    assert metrics.explored == pytest.approx(ever / possible, rel=1e-12)
    assert first.explored != second.explored
    assert result.connections == metrics.connections


def test_every_epoch_has_every_sample_once_in_an_order_of_its_own(run):
    trainer, _, heard = run
    samples = len(trainer.dataset.train)
    orders = [torch.cat(of_epoch(run, heard["indices"], epoch)).tolist() for epoch in range(EPOCHS)]
    for order in orders:
        assert sorted(order) == list(range(samples))
    assert orders[0] != orders[1]
    assert orders[0] != list(range(samples))
    sizes = [len(indices) for indices in of_epoch(run, heard["indices"], 0)]
    assert sizes == [BATCH] * (samples // BATCH) + [samples % BATCH] * (samples % BATCH > 0)


def test_order_depends_on_the_seed(run, tmp_path):
    other = start(tmp_path, *TWO_LAYERS, "training.seed=1")
    assert next(other._remaining_batches()).tolist() != run[2]["indices"][0].tolist()


def test_inputs_of_a_batch_depend_on_seed_epoch_and_batch(run):
    trainer, _, heard = run
    assert heard["drawn"] == [
        ("bernoulli_rate", 4, trainer.recipe.training.seed, epoch, batch)
        for epoch in range(EPOCHS)
        for batch in range(trainer.batches)
    ]


def test_dropout_of_a_batch_depends_on_seed_epoch_and_batch(run, tmp_path):
    _, _, heard = run
    assert max(Counter(heard["seeds"]).values()) == 1
    assert max(heard["seeds"]) > 2**60  # the whole range
    seeds, look = [], training_loop.observe
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_loop, "observe", lambda *given: (seeds.append(torch.initial_seed()), look(*given))[1])
        trainer = start(tmp_path, *TWO_LAYERS, "training.seed=1")
        trainer._train_batch(torch.arange(4))
    assert seeds[-1] not in heard["seeds"]


def test_learning_rate_falls_to_its_final_share(run):
    trainer, _, heard = run
    rates = [metrics.learning_rate for metrics, _ in heard["epochs"]]
    assert rates == pytest.approx([3e-2 * 0.1 ** (1 / 2), 3e-2 * 0.1], rel=1e-12)
    last = 0.1 ** ((trainer.iterations - 1) / trainer.iterations)
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(3e-2 * last, rel=1e-12)


def test_result_is_of_the_test_part(run):
    trainer, result, _ = run
    network, dataset, data = load_network(trainer.folder, trainer.dataset), trainer.dataset, trainer.recipe.data
    inputs = torch.from_numpy(evaluation_inputs(dataset, dataset.test, data.encoding, data.steps)).float()
    network.eval()
    with torch.no_grad():
        activity = observe(network, inputs.transpose(0, 1))
    right = int((activity.predictions().numpy() == dataset.test.labels).sum())
    assert len(dataset.test) > EVALUATION_BATCH
    assert (result.test_accuracy, result.test_samples) == (right / len(dataset.test), len(dataset.test))
    assert result.test_accuracy > 0.3  # chance is 0.1
    assert result.spikes_per_neuron == spikes_of(activity) / (len(dataset.test) * NEURONS) > 0
    assert (result.recipe, result.seed, result.epochs) == ("mlp-digits", 0, EPOCHS)
    written = json.loads(trainer.folder.result.read_text())
    assert {key: written[key] for key in ("recipe", "seed", "epochs", "seconds")} == {
        "recipe": "mlp-digits",
        "seed": 0,
        "epochs": EPOCHS,
        "seconds": round(trainer.seconds, 2),
    }


def test_noise_reaches_the_evaluation(run):
    trainer, _, _ = run
    network, dataset, data = load_network(trainer.folder, trainer.dataset), trainer.dataset, trainer.recipe.data
    noise = Disturbance("gaussian", 0.5, seed=3)
    inputs = evaluation_inputs(dataset, dataset.test, data.encoding, data.steps, noise)
    with torch.no_grad():
        predictions = observe(network.eval(), torch.from_numpy(inputs).float().transpose(0, 1)).predictions().numpy()
    expected = float((predictions == dataset.test.labels).mean())
    assert accuracy(network, dataset, dataset.test, data, noise) == pytest.approx(expected, abs=1e-12)
    assert expected != accuracy(network, dataset, dataset.test, data)


def test_evaluation_switches_dropout_off(tmp_path):
    trainer, result = train(tmp_path, "network.notation=64-24-DP-10", "training.epochs=1")
    network = load_network(trainer.folder, trainer.dataset).train()
    assert accuracy(network, trainer.dataset, trainer.dataset.test, trainer.recipe.data) == result.test_accuracy


def test_the_last_of_equally_good_epochs_is_the_best(tmp_path):
    """Structure learning goes on after the first good epoch, so the last one is what was asked for."""
    _, result = train(tmp_path, "training.learning_rate=1e-30", "sparsity.update_every=1000", "training.epochs=3")
    assert result.best_epoch == 3


def test_seconds_of_earlier_sessions_count(tmp_path):
    trainer = start(tmp_path, "training.epochs=1")
    trainer.seconds = 5000.0
    result = trainer.run(nothing, nothing)
    assert 5000 < result.seconds < 5600
    assert result.seconds == round(trainer.seconds, 2) != trainer.seconds


def test_counts_of_spikes_are_exact_beyond_single_precision():
    fired = torch.ones(2, 3, 5, 7)
    fired[0, 0, 0, 0] = 0
    assert spike_count(fired) == 2 * 3 * 35 - 1
    many = torch.ones(()).expand(64, 64, 2**13)  # 2**25 spikes and one
    counts = {"one": torch.ones(1, 1, 1), "many": many}
    counts = {name: spike_count(spikes) for name, spikes in counts.items()}
    assert total_spikes(counts) == 2**25 + 1


def test_spikes_with_one_row_per_neuron_are_counted_alike():
    """Rows have room for more columns than there are, with anything in it."""
    rows = empty_signal((3, 5), 1000, torch.float32)
    rows_of(rows)[:] = 7
    spikes = (torch.rand(3, 5, 1000) < 0.3).float()
    rows.copy_(spikes)
    assert is_neuron_major(rows)
    assert spike_count(rows) == spike_count(spikes) == spikes.sum(dtype=torch.float64)


def test_spikes_are_counted_by_the_bits_that_neurons_keep():
    currents = empty_signal((4, 9), 500, torch.float32).copy_(torch.randn(4, 9, 500))
    spikes = lif(currents, 0.5, torch.full((500,), 0.3), arctan, 1.0)
    assert kept_bits(spikes) is not None
    assert spike_count(spikes) == spikes.sum(dtype=torch.float64) > 0
    spikes[:, 3] = 0
    assert spike_count(spikes) == spikes.sum(dtype=torch.float64)


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.float64, np.float32])
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 1, 4), (1, 3, 2, 2)])
def test_the_network_gets_time_first(shape, dtype):
    encoded = (np.arange(math.prod(shape)).reshape(shape) % 5).astype(dtype)
    found = time_first(encoded, torch.device("cpu"))
    assert (found.dtype, found.is_contiguous()) == (torch.float32, True)
    assert found.tolist() == encoded.swapaxes(0, 1).astype(float).tolist()


@pytest.mark.parametrize("steps", [2, 5])
def test_a_constant_input_is_stored_once(steps):
    images = np.arange(6, dtype=np.float64).reshape(2, 3)
    found = time_first(np.broadcast_to(images[:, None], (2, steps, 3)), torch.device("cpu"))
    assert (found.dtype, found.shape) == (torch.float32, (steps, 2, 3))
    assert all(step.tolist() == images.tolist() for step in found)
    assert found.stride(0) == 0


# What stops a run, and what it says.


def test_data_are_downloaded_only_on_request(tmp_path, monkeypatch):
    asked, prepare = [], training_loop.prepare
    monkeypatch.setattr(
        training_loop, "prepare", lambda *given, download: (asked.append((given[1], download)), prepare(*given))[1]
    )
    trainer = start(tmp_path, "training.seed=7")
    Trainer.start(trainer.recipe, lambda: trainer.folder, download=True)
    assert asked == [(7, False), (7, True)]


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("training.quantize=loihi9", "loihi9"),
        ("training.loss=te", "te"),
        ("training.rate_schedule=cosin", "cosin"),
        ("data.encoding=even_rat", "even_rat"),
    ],
)
def test_names_are_refused_before_the_data_are_loaded(tmp_path, monkeypatch, override, name):
    monkeypatch.setattr(training_loop, "prepare", lambda *_, **__: pytest.fail("the data were loaded"))
    with pytest.raises(BadInput, match=f"'{name}'"):
        start(tmp_path, override)


def test_a_diverged_run_names_batch_and_epoch(tmp_path):
    heard = []
    with pytest.raises(CheckFailed) as caught:
        train(
            tmp_path,
            "network.readout=accumulate",
            "training.learning_rate=1e36",
            on_batch=lambda done, *_: heard.append(done),
        )
    assert f"in batch {len(heard) + 1} of epoch 1, " in str(caught.value)


def test_no_other_process_can_train_a_run_in_progress(tmp_path):
    trainer = start(tmp_path, "training.epochs=1")

    def try_too(*_):
        with pytest.raises(BadInput, match="another process is training this run"):
            RunFolder(trainer.folder.path).lock()

    trainer.run(try_too, nothing)
    assert trainer.lock is None
    trainer.folder.lock().release()


@pytest.fixture
def interrupted(tmp_path):
    trainer = start(tmp_path)

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run(nothing, stop)
    return trainer.folder


def save_again(folder, tensors=None, **progress):
    checkpoint = Checkpoint.load(folder.path, "last")
    Checkpoint(tensors or checkpoint.tensors, checkpoint.progress | progress).save(folder.path, "last")


@pytest.mark.parametrize(
    ("progress", "reason"),
    [
        ({"epoch": 4}, "it is at epoch 4, batch 0"),
        ({"batch": 1000}, "it is at epoch 1, batch 1000"),
        ({"epoch": -1}, "epoch"),
    ],
)
def test_a_checkpoint_beyond_the_run_is_refused_and_leaves_the_folder_free(interrupted, progress, reason):
    save_again(interrupted, **progress)
    for _ in range(2):  # the second time as well, so the lock was released
        with pytest.raises(BadInput) as caught:
            Trainer.resume(interrupted)
        message = str(caught.value)
        assert message.startswith(f"{interrupted.path}: the last checkpoint does not fit the recipe (")
        assert message.endswith("); train again")
        assert reason in message


def test_every_finding_of_a_progress_is_reported(interrupted):
    progress = Checkpoint.load(interrupted.path, "last").progress
    assert read_progress(progress).epoch == 1
    with pytest.raises(ValueError, match=r"^epoch.*; .*seconds|^seconds.*; .*epoch"):
        read_progress(progress | {"epoch": -1, "seconds": -1.0})


def test_a_run_whose_last_checkpoint_is_the_end_only_needs_its_result(tmp_path):
    trainer, result = train(tmp_path, "training.epochs=1")
    trainer.folder.result.unlink()
    resumed = Trainer.resume(trainer.folder).run(nothing, nothing)
    assert (resumed.test_accuracy, resumed.best_epoch, resumed.epochs) == (result.test_accuracy, 1, 1)


def test_the_text_of_a_checkpoint_is_written_again(interrupted):
    """A crash may have come between the tensors and their text."""
    texts = {name: (interrupted.path / name).read_text() for name in ("last.json", "best.json")}
    for name in texts:
        (interrupted.path / name).write_text("{}")
    Trainer.resume(interrupted).lock.release()
    assert {name: (interrupted.path / name).read_text() for name in texts} == texts


def test_a_best_checkpoint_of_another_network_is_refused(run, tmp_path):
    other = start(tmp_path, "network.notation=64-25-10")
    other._save("best")
    other.folder.config.write_text(other.folder.config.read_text().replace("64-25-10", "64-24-10"))
    with pytest.raises(BadInput, match=r"the best checkpoint does not fit the recipe \(fc1.* has shape .*25, 64"):
        load_network(RunFolder(other.folder.path), run[0].dataset)


def test_every_empty_part_of_the_data_is_named(tmp_path, monkeypatch):
    digits = load_dataset("digits")
    none = digits.test.select(np.arange(0))
    monkeypatch.setattr(training_loop, "prepare", lambda *_, **__: replace(digits, validation=none, test=none))
    with pytest.raises(BadInput, match="'digits' has no validation and no test samples; at least ten per class"):
        start(tmp_path)
