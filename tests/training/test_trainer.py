"""Training runs: what they leave behind, that they learn, and that they resume bit for bit."""

from __future__ import annotations

import json
import math
import os
import pickletools
import signal

import pytest
import torch
from safetensors.torch import load_file

from esl_neuro.data import Split, load_dataset
from esl_neuro.errors import BadInput
from esl_neuro.recipe import load_recipe
from esl_neuro.snn import neuron_layers, observe, weighted_layers
from esl_neuro.training.checkpoint import Checkpoint
from esl_neuro.training.run_folder import RunFolder, create_run_folder
from esl_neuro.training.trainer import Trainer, accuracy, load_network

EPOCHS, BATCH = 3, 100
BATCHES = math.ceil(len(load_dataset("digits").train) / BATCH)
CONNECTIONS = round(0.2 * 64 * 24)
SHORT = (
    "network.notation=64-24-10",
    "data.steps=4",
    "data.encoding=bernoulli_rate",
    "sparsity.density=0.2",
    "sparsity.update_every=4",
    "training.learning_rate=3e-2",
    f"training.epochs={EPOCHS}",
    f"training.batch={BATCH}",
    "training.threads=1",
)


def nothing(*_):
    pass


def start(root, *overrides):
    recipe = load_recipe("mlp-digits", (*SHORT, *overrides))
    return Trainer.start(recipe, lambda: create_run_folder(root, recipe))


def train(root, *overrides, on_batch=nothing, on_epoch=nothing):
    trainer = start(root, *overrides)
    return trainer, trainer.run(on_batch, on_epoch)


def interrupt_at(iteration):
    def on_batch(done, total, loss):  # noqa: ARG001 (signature of the trainer)
        if done == iteration:
            os.kill(os.getpid(), signal.SIGINT)

    return on_batch


def assert_same_run(one, other):
    """Weights, moments, masks, progress and metrics, all with ``==``; wall-clock seconds aside."""
    for name in ("last", "best"):
        tensors, others = (load_file(str(folder.path / f"{name}.safetensors")) for folder in (one, other))
        assert tensors.keys() == others.keys()
        for key, value in tensors.items():
            assert torch.equal(value, others[key]), (name, key)
        progress = [Checkpoint.load(folder.path, name).progress | {"seconds": 0} for folder in (one, other)]
        assert progress[0] == progress[1]
    assert one.metrics.read_text() == other.metrics.read_text()
    results = [json.loads(folder.result.read_text()) | {"seconds": 0} for folder in (one, other)]
    assert results[0] == results[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never interrupted, with what its callbacks heard."""
    heard = {"batches": [], "epochs": [], "connections": set(), "thresholds": []}
    trainer = start(tmp_path_factory.mktemp("whole"))
    heard["thresholds"] = [lif.threshold.detach().clone() for lif in neuron_layers(trainer.network).values()]

    def on_batch(*values):
        heard["batches"].append(values)
        mask = trainer.rewirer.layers[0].mask
        weight = weighted_layers(trainer.network)["fc1"].weight
        heard["connections"].add((int(mask.sum()), int((weight[~mask] != 0).sum())))

    result = trainer.run(on_batch, heard["epochs"].append)
    return trainer, result, heard


def metrics_of(folder):
    return [json.loads(line) for line in folder.metrics.read_text().splitlines()]


def test_run_leaves_these_files_and_no_others(whole):
    assert sorted(path.name for path in whole[0].folder.path.iterdir()) == [
        "best.json",
        "best.safetensors",
        "config.toml",
        "environment.json",
        "last.json",
        "last.safetensors",
        "metrics.jsonl",
        "result.json",
    ]


def test_no_file_is_a_pickle(whole):
    for path in whole[0].folder.path.iterdir():
        assert not path.suffix.startswith((".p", ".ckpt"))
        assert not path.read_bytes().startswith((b"\x80", b"PK"))
        with pytest.raises(ValueError, match=r"pickle|opcode|exhausted|newline|expected"):
            list(pickletools.genops(path.read_bytes()))


def test_every_batch_and_epoch_is_heard(whole):
    _, _, heard = whole
    total = EPOCHS * BATCHES
    assert [(done, of) for done, of, _ in heard["batches"]] == [(i, total) for i in range(1, total + 1)]
    assert [metrics.epoch for metrics in heard["epochs"]] == [1, 2, 3]
    assert all(math.isfinite(loss) for _, _, loss in heard["batches"])


def test_connection_count_is_exact_after_every_step(whole):
    assert whole[2]["connections"] == {(CONNECTIONS, 0)}


def test_metrics_add_up(whole):
    trainer, _, heard = whole
    entries = metrics_of(trainer.folder)
    assert [entry["epoch"] for entry in entries] == [1, 2, 3]
    losses = [loss for _, _, loss in heard["batches"]]
    samples = len(trainer.dataset.train)
    sizes = [BATCH] * (BATCHES - 1) + [samples - BATCH * (BATCHES - 1)]
    explored = 0.0
    for number, entry in enumerate(entries):
        own = losses[number * BATCHES : (number + 1) * BATCHES]
        mean = sum(loss * size for loss, size in zip(own, sizes, strict=True)) / samples
        assert entry["loss"] == pytest.approx(mean, rel=1e-12)
        assert entry["iteration"] == (number + 1) * BATCHES
        assert entry["connections"] == CONNECTIONS
        assert entry["density"] == CONNECTIONS / (64 * 24)
        assert 0 < entry["spikes_per_neuron"] < 4
        assert entry["explored"] >= explored
        explored = entry["explored"]
        for low, mean, high in entry["thresholds"].values():
            assert 0 < low <= mean <= high


def test_births_follow_the_schedule(whole):
    births, end = [0] * EPOCHS, int(0.75 * EPOCHS * BATCHES)
    for iteration in range(4, end, 4):
        share = 0.15 * (1 + math.cos(math.pi * iteration / end))
        births[(iteration - 1) // BATCHES] += math.ceil(share * CONNECTIONS)
    assert [entry["births"] for entry in metrics_of(whole[0].folder)] == births


def test_learning_rate_falls_as_a_cosine_to_zero(whole):
    rates = [entry["learning_rate"] for entry in metrics_of(whole[0].folder)]
    assert rates == pytest.approx([0.0225, 0.0075, 0], abs=1e-9)


def test_result_is_of_the_best_epoch_on_validation(whole):
    trainer, result, _ = whole
    written = json.loads(trainer.folder.result.read_text())
    validation = [entry["validation_accuracy"] for entry in metrics_of(trainer.folder)]
    assert result.validation_accuracy == written["validation_accuracy"] == max(validation)
    assert validation[result.best_epoch - 1] == max(validation)
    assert result.connections == CONNECTIONS + 24 * 10
    assert result.test_samples == len(trainer.dataset.test)
    network = load_network(trainer.folder, trainer.dataset)
    assert accuracy(network, trainer.dataset, trainer.dataset.validation, trainer.recipe.data) == max(validation)
    assert accuracy(network, trainer.dataset, trainer.dataset.test, trainer.recipe.data) == result.test_accuracy


def test_accuracy_counts_the_samples_that_are_right(whole):
    trainer = whole[0]
    network, test = load_network(trainer.folder, trainer.dataset), trainer.dataset.test
    split = Split(test.values[:100], test.labels[:100])
    deterministic = trainer.recipe.data.model_copy(update={"encoding": "even_rate"})
    right = 0
    for values, label in zip(split.values, split.labels, strict=True):
        spikes = torch.zeros(4, 1, 64)
        for pixel, value in enumerate(values):
            count = round(float(value) * 4)
            passed = [math.floor(t * count / 4 + 0.5) for t in range(5)]
            spikes[:, 0, pixel] = torch.tensor([float(passed[t + 1] - passed[t]) for t in range(4)])
        counts = observe(network, spikes).outputs.sum(0)[0].tolist()
        right += counts.index(max(counts)) == label
    assert accuracy(network, trainer.dataset, split, deterministic) == right / len(split)


def test_thresholds_are_learned_and_positive(whole):
    trainer, _, heard = whole
    for lif, before in zip(neuron_layers(trainer.network).values(), heard["thresholds"], strict=True):
        assert (lif.threshold > 0).all()
        assert (lif.threshold.detach() != before).float().mean() > 0.9


def test_thresholds_stay_where_they_are_not_learned(tmp_path):
    trainer, _ = train(tmp_path, "network.mode=sl", "training.epochs=1")
    for lif in neuron_layers(trainer.network).values():
        assert torch.allclose(lif.threshold, torch.ones(()), rtol=1e-6)


def test_run_really_learns(whole):
    losses = [entry["loss"] for entry in metrics_of(whole[0].folder)]
    assert losses == sorted(losses, reverse=True)
    assert whole[1].test_accuracy > 0.5  # chance is 0.1


def test_config_replays_the_run_bit_for_bit(whole, tmp_path):
    recipe = load_recipe(str(whole[0].folder.config))
    torch.manual_seed(12345)
    trainer = Trainer.start(recipe, lambda: create_run_folder(tmp_path, recipe))
    trainer.run(nothing, nothing)
    assert_same_run(trainer.folder, whole[0].folder)


def test_other_seed_is_another_run(whole, tmp_path):
    trainer, _ = train(tmp_path, "training.seed=1", "training.epochs=1")
    assert metrics_of(trainer.folder)[0]["loss"] != metrics_of(whole[0].folder)[0]["loss"]


@pytest.mark.parametrize(
    "places",
    [(1,), (BATCHES - 1,), (BATCHES,), (BATCHES + 1,), (2 * BATCHES + 4,), (3 * BATCHES,), (5, 6, 2 * BATCHES)],
    ids=str,
)
def test_interrupted_run_ends_as_if_it_had_never_stopped(whole, tmp_path, places):
    trainer = start(tmp_path)
    folder = trainer.folder
    for place in places:
        with pytest.raises(KeyboardInterrupt):
            trainer.run(interrupt_at(place), nothing)
        assert not folder.result.exists()
        trainer = Trainer.resume(RunFolder(folder.path))
    iterations = []
    trainer.run(lambda done, *_: iterations.append(done), nothing)
    assert iterations == list(range(places[-1] + 1, EPOCHS * BATCHES + 1))
    assert_same_run(folder, whole[0].folder)


def test_dropout_is_the_same_in_a_resumed_run(tmp_path):
    options = ("network.notation=64-24-DP-10", "training.epochs=1")
    torch.manual_seed(1)
    straight, _ = train(tmp_path, *options)
    torch.manual_seed(2)  # another process would find torch's generator in any state
    trainer = start(tmp_path, *options)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(interrupt_at(3), nothing)
    torch.manual_seed(3)
    Trainer.resume(RunFolder(trainer.folder.path)).run(nothing, nothing)
    assert_same_run(trainer.folder, straight.folder)


def test_run_that_was_killed_resumes_from_the_last_epoch(whole, tmp_path):
    class Killed(Exception):
        pass

    def kill(done, *_):
        if done == BATCHES + 3:
            raise Killed

    trainer = start(tmp_path)
    with pytest.raises(Killed):
        trainer.run(kill, nothing)
    trainer.folder.append_metrics({"epoch": "written, but its checkpoint was not"})
    Trainer.resume(trainer.folder).run(nothing, nothing)
    assert_same_run(trainer.folder, whole[0].folder)


def test_interrupt_gives_ctrl_c_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path).run(interrupt_at(1), nothing)
    assert signal.getsignal(signal.SIGINT) is before
    train(tmp_path, "training.epochs=1")
    assert signal.getsignal(signal.SIGINT) is before


def test_run_leaves_the_number_of_threads_alone(tmp_path):
    threads = torch.get_num_threads()
    during = set()
    train(tmp_path, "training.epochs=1", "training.threads=2", on_batch=lambda *_: during.add(torch.get_num_threads()))
    assert during == {2}
    assert torch.get_num_threads() == threads


def test_finished_run_has_nothing_to_resume(whole):
    with pytest.raises(BadInput, match="the run is complete, there is nothing to resume"):
        Trainer.resume(whole[0].folder)


def test_folder_that_is_no_run_cannot_be_resumed(tmp_path):
    with pytest.raises(BadInput, match="not a run"):
        Trainer.resume(RunFolder(tmp_path))


@pytest.fixture
def interrupted(tmp_path):
    trainer = start(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(interrupt_at(2), nothing)
    return trainer.folder


def test_missing_checkpoint_cannot_be_resumed(interrupted):
    (interrupted.path / "last.safetensors").unlink()
    with pytest.raises(BadInput, match="no such checkpoint"):
        Trainer.resume(interrupted)


def test_corrupted_checkpoint_cannot_be_resumed(interrupted):
    path = interrupted.path / "last.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadInput, match="the checkpoint is damaged") as caught:
        Trainer.resume(interrupted)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["network/", "optimizer/", "rewirer/"])
def test_checkpoint_without_a_part_cannot_be_resumed(interrupted, part):
    checkpoint = Checkpoint.load(interrupted.path, "last")
    tensors = {key: value for key, value in checkpoint.tensors.items() if not key.startswith(part)}
    Checkpoint(tensors, checkpoint.progress).save(interrupted.path, "last")
    with pytest.raises(BadInput):
        Trainer.resume(interrupted)


def test_checkpoint_of_another_architecture_cannot_be_resumed(interrupted):
    text = interrupted.config.read_text()
    interrupted.config.write_text(text.replace("64-24-10", "64-25-10"))
    with pytest.raises(BadInput):
        Trainer.resume(interrupted)


@pytest.mark.parametrize(
    ("notation", "reason"),
    [
        ("63-24-10", "begins with 63 inputs, the data have 64"),
        ("64-24-11", "has 11 outputs; data set 'digits' has 10 classes"),
    ],
)
def test_notation_must_match_the_data(tmp_path, notation, reason):
    with pytest.raises(BadInput) as caught:
        start(tmp_path, f"network.notation={notation}")
    message = str(caught.value)
    assert f"'{notation}'" in message
    assert reason in message


@pytest.mark.parametrize(
    "override",
    [
        "data.name=digit",
        "network.notation=64-0-10",
        "network.surrogate=arctn",
        "sparsity.prune=magnitud",
        "sparsity.growth={momentun=1.0}",
        'sparsity.layers=["fc9"]',
        "sparsity.density=1e-9",
    ],
)
def test_impossible_recipe_leaves_no_folder(tmp_path, override):
    with pytest.raises(BadInput):
        start(tmp_path, override)
    assert list(tmp_path.iterdir()) == []


def test_unknown_encoding_leaves_no_folder(tmp_path):
    with pytest.raises(BadInput):
        train(tmp_path, "data.encoding=even_rat")
    assert list(tmp_path.iterdir()) == []
