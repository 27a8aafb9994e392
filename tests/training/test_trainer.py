"""Training runs: what they leave behind, that they learn, and that they resume bit for bit."""

from __future__ import annotations

import json
import math
import os
import pickletools
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from esl_neuro.data import Split, load_dataset
from esl_neuro.errors import BadInput, CheckFailed
from esl_neuro.interchange import to_nir
from esl_neuro.recipes import load_recipe
from esl_neuro.snn import neuron_layers, observe, weighted_layers
from esl_neuro.sparsity import LEARNERS
from esl_neuro.training import evaluation
from esl_neuro.training import trainer as training_loop
from esl_neuro.training.checkpoint import Checkpoint
from esl_neuro.training.evaluation import accuracy, load_network, spike_count
from esl_neuro.training.run_folder import RunFolder, create_run_folder
from esl_neuro.training.trainer import Trainer
from training.short_runs import (
    BATCH,
    BATCHES,
    CONNECTIONS,
    EPOCHS,
    LEARNER_SECTIONS,
    nothing,
    start,
    train,
    with_learner,
)

SINGLE_SPIKES = (
    'network={neuron="single_spike", notation="64-24-10"}',
    "data.encoding=binary_single_spike",
    "data.steps=2",
    "training.loss=first_spike",
)


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
    assert one.structure.exists() == other.structure.exists()
    if one.structure.exists():
        assert one.structure.read_text() == other.structure.read_text()
    assert one.connections.read_text() == other.connections.read_text()
    measured = {"seconds": 0, "memory": None}
    results = [json.loads(folder.result.read_text()) | measured for folder in (one, other)]
    assert results[0] == results[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never interrupted, with what its callbacks heard."""
    heard = {"batches": [], "epochs": [], "connections": set(), "thresholds": [], "updates": []}
    trainer = start(tmp_path_factory.mktemp("whole"))
    step = trainer.learner.step

    def listen():
        updates = step()
        heard["updates"] += updates
        return updates

    trainer.learner.step = listen
    heard["thresholds"] = [lif.threshold.detach().clone() for lif in neuron_layers(trainer.network).values()]

    def on_batch(*values):
        heard["batches"].append(values)
        mask = trainer.learner.layers[0].mask
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
        "connections.jsonl",
        "environment.json",
        "last.json",
        "last.safetensors",
        "metrics.jsonl",
        "result.json",
        "structure.jsonl",
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


def structure_of(folder):
    return [json.loads(line) for line in folder.structure.read_text().splitlines()]


def test_structure_has_a_line_for_every_update(whole):
    trainer, _, heard = whole
    lines, updates = structure_of(trainer.folder), heard["updates"]
    assert lines == [json.loads(json.dumps(update.to_dict())) for update in updates]
    end = int(0.75 * EPOCHS * BATCHES)
    assert [(line["layer"], line["iteration"]) for line in lines] == [("fc1", done) for done in range(4, end, 4)]
    assert {line["connections"] for line in lines} == {CONNECTIONS}
    births = [0] * EPOCHS
    for line in lines:
        births[(line["iteration"] - 1) // BATCHES] += line["births"]
    assert births == [entry["births"] for entry in metrics_of(trainer.folder)]


def test_pictures_of_the_connections_are_of_the_start_the_end_and_between(whole):
    trainer, _, _ = whole
    pictures = [json.loads(line) for line in trainer.folder.connections.read_text().splitlines()]
    moments = [picture["iteration"] for picture in pictures]
    assert moments[0] == 0
    assert moments[-1] == trainer.iterations
    assert moments == sorted({round(share * trainer.iterations / 12) for share in range(13)})
    mask = trainer.learner.layers[0].mask
    assert sum(map(sum, pictures[-1]["counts"])) == int(mask.sum())
    assert pictures[0]["counts"] != pictures[-1]["counts"]


def test_structure_that_never_changes_leaves_no_history(tmp_path):
    trainer, _ = train(tmp_path, *with_learner("static", epochs=1))
    assert not trainer.folder.structure.exists()


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


def test_final_test_is_of_the_best_epoch_even_if_the_last_is_far_worse(tmp_path):
    trainer = start(tmp_path)

    def turn_the_weights_round_at_the_end(done, total, loss):  # noqa: ARG001 (signature of the trainer)
        if done == total:
            with torch.no_grad():
                for layer in weighted_layers(trainer.network).values():
                    layer.weight.neg_()

    result = trainer.run(turn_the_weights_round_at_the_end, nothing)
    best = load_network(trainer.folder, trainer.dataset)
    kept, last = (
        accuracy(network, trainer.dataset, trainer.dataset.test, trainer.recipe.data)
        for network in (best, trainer.network)
    )
    assert result.best_epoch < EPOCHS
    assert last < 0.5 * kept
    assert result.test_accuracy == kept


def test_of_epochs_that_are_equally_good_the_last_is_the_best(tmp_path):
    """A rate too small to change anything makes all epochs equal; the last one has seen most data."""
    trainer, result = train(tmp_path, *with_learner("static", epochs=3), "training.learning_rate=1e-30")
    accuracies = [entry["validation_accuracy"] for entry in metrics_of(trainer.folder)]
    assert len(set(accuracies)) == 1
    assert result.best_epoch == 3


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


# Structure learners.


def connected(name, tensors, iterations):
    """Connections of fc1 as the learner's own state in a checkpoint has them."""
    if "learner/fc1/mask" in tensors:
        return tensors["learner/fc1/mask"]
    theta = tensors["learner/fc1/theta"]
    if name == "stds":
        progress = int(tensors["learner/iteration"]) / iterations
        return theta.abs() > 0.05 * (1 + math.sin(math.pi * (progress - 0.5))) / 2
    return theta > 0


def test_every_learner_is_tested_here():
    assert sorted(LEARNER_SECTIONS) == LEARNERS.names()


@pytest.mark.parametrize("name", LEARNER_SECTIONS)
def test_every_learner_runs_and_leaves_zeros_where_nothing_is_connected(tmp_path, name):
    trainer, result = train(tmp_path, *with_learner(name))
    entries = metrics_of(trainer.folder)
    assert all(math.isfinite(entry["loss"]) for entry in entries)
    assert entries[1]["loss"] < entries[0]["loss"]
    assert result.test_accuracy > 0.15  # chance is 0.1
    for checkpoint in ("best", "last"):
        tensors = load_file(str(trainer.folder.path / f"{checkpoint}.safetensors"))
        weight, mask = tensors["network/fc1.weight"], connected(name, tensors, 2 * BATCHES)
        assert (weight[~mask] == 0).all()
        assert 0 < int((weight != 0).sum()) <= int(mask.sum())
        assert mask.all() == (name == "dense")
    assert torch.equal(trainer.learner.layers[0].mask, mask)
    assert result.density == int(mask.sum()) / mask.numel()
    assert result.connections == int(mask.sum()) + 240
    loaded = weighted_layers(load_network(trainer.folder, trainer.dataset))["fc1"].weight
    assert torch.equal(loaded, load_file(str(trainer.folder.path / "best.safetensors"))["network/fc1.weight"])


def gradient_of_the_first_batch(root, *overrides):
    """Gradient of fc1 as the learner meets it, and the weight that it was taken at."""
    trainer = start(root, *overrides)
    layer, met = trainer.learner.layers[0], []
    before, step = layer.weight.detach().clone(), trainer.learner.step

    def listen():
        met.append(layer.weight.grad.clone())
        return step()

    trainer.learner.step = listen
    with pytest.raises(KeyboardInterrupt):
        trainer.run(interrupt_at(1), nothing)
    return met[0], before


@pytest.mark.parametrize("rho", [1e-3, 0.5])
def test_penalty_of_admm_reaches_the_gradient(tmp_path, rho):
    admm = f'sparsity={{learner="admm", layers=["fc1"], density=0.2, rho={rho}}}'
    plain, weight = gradient_of_the_first_batch(tmp_path, *with_learner("dense"))
    pulled, same = gradient_of_the_first_batch(tmp_path, admm)
    assert torch.equal(weight, same)
    kept = weight.abs() >= weight.abs().flatten().topk(CONNECTIONS).values[-1]
    assert int(kept.sum()) == CONNECTIONS
    torch.testing.assert_close(pulled, plain + rho * torch.where(kept, 0, weight), rtol=1e-5, atol=1e-8)
    assert not torch.equal(pulled, plain)


@pytest.mark.parametrize("loss", ["tet", "mean_cross_entropy", "rate_mse"])
def test_every_loss_over_time_trains(tmp_path, loss):
    trainer, _ = train(tmp_path, f"training.loss={loss}", "training.tet_lambda=0.1", "training.epochs=2")
    losses = [entry["loss"] for entry in metrics_of(trainer.folder)]
    assert losses[1] < losses[0]


@pytest.mark.parametrize("neuron", ['neuron="cuba_lif", tau=0.5, tau_syn=0.5', 'neuron="if"', 'neuron="liaf", tau=0.3'])
def test_every_neuron_over_time_trains(tmp_path, neuron):
    network = (
        f'network={{{neuron}, notation="64-24-10", threshold=1.0, surrogate="arctan", surrogate_width=1.0, mode="stl"}}'
    )
    _, result = train(tmp_path, network)
    assert result.test_accuracy > 0.5


def test_samples_of_a_small_budget_are_all_that_is_trained_on(tmp_path):
    trainer, result = train(tmp_path, "data.samples=120", "training.epochs=1")
    assert trainer.batches == 2
    assert result.test_samples == 120


# Precision, device and the form of the input.


def test_mixed_precision_keeps_weights_and_potentials_in_float32(tmp_path):
    trainer = start(tmp_path, "training.precision=bfloat16", "training.epochs=2")
    met = {"fc1": set(), "lif1": set()}
    for name, dtypes in met.items():
        trainer.network.get_submodule(name).register_forward_hook(
            lambda module, _inputs, output, dtypes=dtypes: dtypes.add(output.dtype) if module.training else None
        )
    losses = []
    trainer.run(lambda _done, _total, loss: losses.append(loss), nothing)
    assert met == {"fc1": {torch.bfloat16}, "lif1": {torch.float32}}
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0]
    for name in ("last", "best"):
        tensors = load_file(str(trainer.folder.path / f"{name}.safetensors"))
        assert not [key for key, value in tensors.items() if value.dtype in (torch.bfloat16, torch.float16)]
        assert tensors["network/fc1.weight"].dtype == torch.float32
    assert (trainer.learner.layers[0].weight[~trainer.learner.layers[0].mask] == 0).all()


def test_mixed_precision_is_near_full_precision(tmp_path):
    runs = [train(tmp_path, f"training.precision={name}", "training.epochs=1")[0] for name in ("float32", "bfloat16")]
    losses = [metrics_of(trainer.folder)[0]["loss"] for trainer in runs]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_full_precision_means_no_mixed_precision(tmp_path):
    trainer, met = start(tmp_path, "training.epochs=1"), set()
    trainer.network.fc1.register_forward_hook(lambda _module, _inputs, output: met.add(output.dtype))
    trainer.run(nothing, nothing)
    assert met == {torch.float32}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.precision=float16", "'float16' needs training.device = 'cuda'; on the CPU use 'bfloat16'"),
        (
            "training.device=cuda",
            "training.device: 'cuda' needs a GPU and a CUDA build of torch; none was found, use 'cpu'",
        ),
    ],
)
def test_what_this_machine_cannot_do_is_refused_with_the_fix(tmp_path, monkeypatch, override, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput) as caught:
        start(tmp_path, override)
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


REPEATED = ("data.encoding=direct", "network.readout=accumulate", "training.epochs=1")


def test_input_that_stays_the_same_is_one_copy_for_all_steps(tmp_path):
    trainer, met = start(tmp_path, *REPEATED), []
    trainer.network.register_forward_pre_hook(lambda module, inputs: met.append((module.training, inputs[0])))
    trainer.run(nothing, nothing)
    assert {inputs.shape[1] for training, inputs in met if training} == {100, len(trainer.dataset.train) % 100}
    for _, inputs in met:
        if inputs.shape[1] > 1:  # not the probe of one silent sample
            assert inputs.shape[0] == 4
            assert inputs.stride(0) == 0


def test_input_that_stays_the_same_gives_what_its_copies_give(tmp_path, monkeypatch):
    expanded, _ = gradient_of_the_first_batch(tmp_path, *REPEATED)
    trainer, result = train(tmp_path, *REPEATED)
    for module, name in ((training_loop, "training_inputs"), (evaluation, "evaluation_inputs")):
        make = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, make=make: np.ascontiguousarray(make(*given)))
    network = load_network(trainer.folder, trainer.dataset)
    assert accuracy(network, trainer.dataset, trainer.dataset.test, trainer.recipe.data) == result.test_accuracy
    copied, _ = gradient_of_the_first_batch(tmp_path, *REPEATED)
    # Sums over steps and samples are taken in another order.
    torch.testing.assert_close(expanded, copied, rtol=1e-4, atol=1e-7)
    assert copied.abs().max() > 1e-3


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


def test_a_callback_interrupts_a_run_as_a_signal_does_in_any_thread(whole, tmp_path):
    trainer, ended = start(tmp_path), []

    def stop(done, *_):
        if done == BATCHES + 2:
            raise KeyboardInterrupt

    def run():
        try:
            trainer.run(stop, nothing)
        except KeyboardInterrupt:
            ended.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert ended
    iterations = []
    Trainer.resume(RunFolder(trainer.folder.path)).run(lambda done, *_: iterations.append(done), nothing)
    assert iterations[0] == BATCHES + 3
    assert_same_run(trainer.folder, whole[0].folder)


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


def assert_resumed_run_is_the_same(root, place, *options):
    straight, _ = train(root, *options)
    trainer = start(root, *options)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(interrupt_at(place), nothing)
    Trainer.resume(RunFolder(trainer.folder.path)).run(nothing, nothing)
    assert_same_run(trainer.folder, straight.folder)
    return straight


@pytest.mark.parametrize(("name", "place"), [*((name, BATCHES + 5) for name in LEARNER_SECTIONS), ("admm", 6)])
def test_every_learner_is_the_same_in_a_resumed_run(tmp_path, name, place):
    assert_resumed_run_is_the_same(tmp_path, place, *with_learner(name))


@pytest.mark.parametrize(
    "growth", ["{random_unfired=1.0}", "{gradient=0.5, gradient_on_candidates=0.5}"], ids=["unfired", "gradients"]
)
def test_sparse_storage_is_the_same_in_a_resumed_run(tmp_path, growth):
    options = ("training.epochs=2", "sparsity.storage=sparse", f"sparsity.growth={growth}", 'sparsity.layers=["all"]')
    straight = assert_resumed_run_is_the_same(tmp_path, BATCHES + 5, *options)
    weights = load_file(str(straight.folder.path / "best.safetensors"))
    assert weights["network/fc1.values"].shape == (CONNECTIONS,)
    assert max(value.numel() for name, value in weights.items() if "explored" not in name) == CONNECTIONS
    result = json.loads(straight.folder.result.read_text())
    losses = [entry["loss"] for entry in metrics_of(straight.folder)]
    assert losses == sorted(losses, reverse=True)
    assert result["connections"] == CONNECTIONS + round(0.2 * 24 * 10)
    network = load_network(straight.folder, straight.dataset)
    assert accuracy(network, straight.dataset, straight.dataset.test, straight.recipe.data) == result["test_accuracy"]
    node = to_nir(network, steps=4).nodes["fc1"]
    dense = network.fc1.to_dense()
    scaled = torch.from_numpy(node.weight) * (dense.abs().max() / float(np.abs(node.weight).max()))
    torch.testing.assert_close(scaled, dense)  # NIR's weights have a factor


IMAGES = (
    "data.name=digits_images",
    "network.notation=6C3-BN-AP2-8C3-BN-10",
    "network.readout=accumulate",
    "data.encoding=direct",
    "data.steps=2",
    "training.epochs=2",
    'sparsity.layers=["all"]',
    "sparsity.storage=sparse",
)


@pytest.mark.parametrize(
    "growth", ["{random_unfired=1.0}", "{gradient=0.5, gradient_on_candidates=0.5}"], ids=["unfired", "gradients"]
)
def test_sparse_convolutions_are_the_same_in_a_resumed_run(tmp_path, growth):
    straight = assert_resumed_run_is_the_same(tmp_path, BATCHES + 5, *IMAGES, f"sparsity.growth={growth}")
    connections = [round(0.2 * size) for size in (6 * 9, 8 * 6 * 9, 10 * 8 * 16)]
    weights = load_file(str(straight.folder.path / "best.safetensors"))
    assert [weights[f"network/{name}.values"].numel() for name in ("conv1", "conv2", "fc1")] == connections
    result = json.loads(straight.folder.result.read_text())
    assert result["connections"] == sum(connections)
    assert structure_of(straight.folder)
    losses = [entry["loss"] for entry in metrics_of(straight.folder)]
    assert losses == sorted(losses, reverse=True)
    network = load_network(straight.folder, straight.dataset)
    assert accuracy(network, straight.dataset, straight.dataset.test, straight.recipe.data) == result["test_accuracy"]


# The growth rule that each optimiser allows: plain gradient descent keeps no momentum to grow by.
OPTIMISERS = {
    "sgd": ("training.optimiser=sgd",),
    "plain sgd": ("training.optimiser=sgd", "training.momentum=0.0", "sparsity.growth={gradient=1.0}"),
    "adamw": ("training.optimiser=adamw", "training.weight_decay=0.1"),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_is_the_same_in_a_resumed_run(tmp_path, name):
    assert_resumed_run_is_the_same(tmp_path, 6, *OPTIMISERS[name], "training.epochs=1")


@pytest.mark.parametrize("name", ["esl", "rigl"])
def test_single_spikes_are_the_same_in_a_resumed_run(tmp_path, name):
    trainer = assert_resumed_run_is_the_same(tmp_path, BATCHES + 5, *SINGLE_SPIKES, *with_learner(name))
    assert structure_of(trainer.folder)


def test_mixed_precision_is_the_same_in_a_resumed_run(tmp_path):
    assert_resumed_run_is_the_same(tmp_path, 5, "training.precision=bfloat16", "training.epochs=1")


def test_run_that_was_killed_resumes_from_the_last_epoch(whole, tmp_path):
    class Killed(Exception):
        pass

    def kill(done, *_):
        if done == BATCHES + 3:
            raise Killed

    trainer = start(tmp_path)
    with pytest.raises(Killed):
        trainer.run(kill, nothing)
    trainer.folder.append_metrics({"epoch": 2, "loss": "written, but its checkpoint was not"})
    assert structure_of(trainer.folder)[-1]["iteration"] > BATCHES  # it has to go, too
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


def test_run_that_stops_at_an_epoch_goes_on_as_if_it_had_not(whole, tmp_path):
    trainer = start(tmp_path)
    trainer.run_to(1, nothing, nothing)
    assert (trainer.epoch, trainer.folder.result.exists()) == (1, False)
    Trainer.resume(trainer.folder).run_to(1, nothing, nothing)  # it is there already
    Trainer.resume(trainer.folder).run(nothing, nothing)
    assert_same_run(whole[0].folder, trainer.folder)


def test_finished_run_has_nothing_to_resume(whole):
    with pytest.raises(BadInput, match="the run is complete and cannot be resumed"):
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


@pytest.mark.parametrize("part", ["network/", "optimizer/", "learner/"])
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
        ("64-24-11", "has 11 outputs, data set 'digits' has 10 classes"),
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
        "network.notation=VGGSNN-10",
        "network.notation=no_such_module:build",
        "data.shape=[1, 8, 8]",
        "data.encoding=even_rat",
        "training.loss=te",
        "training.optimiser=adams",
        "training.rate_schedule=cosin",
    ],
)
def test_impossible_recipe_leaves_no_folder(tmp_path, override):
    with pytest.raises(BadInput):
        start(tmp_path, override)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["esl", "sparse_momentum", "grad_r"])
def test_training_that_diverges_ends_there_with_the_fix(tmp_path, name):
    with pytest.raises(CheckFailed) as caught:
        train(tmp_path, *with_learner(name), "network.readout=accumulate", "training.learning_rate=1e36")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'mlp-digits-001'}: loss is ")
    assert "of epoch 1, training has diverged; lower training.learning_rate (1e+36)" in message


def test_growth_by_a_momentum_that_is_not_kept_is_refused_before_a_folder_is_made(tmp_path):
    with pytest.raises(BadInput, match="SGD keeps no momentum for layer 'fc1'"):
        start(tmp_path, "training.optimiser=sgd", "training.momentum=0.0")
    assert list(tmp_path.iterdir()) == []


def test_data_without_a_part_are_refused_before_a_folder_is_made(tmp_path, monkeypatch):
    digits = load_dataset("digits")
    monkeypatch.setattr(
        training_loop, "prepare", lambda *_, **__: replace(digits, validation=digits.validation.select(np.arange(0)))
    )
    with pytest.raises(BadInput, match="'digits' has no validation samples; at least ten per class are needed"):
        start(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_counts_of_spikes_are_exact_where_floats_are_not():
    many = torch.ones(17, 1, 2**20 + 1)  # an odd number of spikes above 2**24, which no float32 holds
    assert spike_count(many) == 17 * (2**20 + 1)
