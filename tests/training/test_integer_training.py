"""Training on the integers of a chip, from the start or from a finished run."""

from __future__ import annotations

import json
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from esl_neuro.backends.integer import run_integer
from esl_neuro.compiler.compile import compile_graph
from esl_neuro.data import load_dataset
from esl_neuro.data.datasets import Normalisation
from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target
from esl_neuro.hardware.rounding import SPIKES, InputFormat
from esl_neuro.interchange import to_nir
from esl_neuro.pipeline.exports import export_run
from esl_neuro.pipeline.inputs import evaluation_samples, payloads
from esl_neuro.recipes import load_recipe
from esl_neuro.recipes.sections import DataSection
from esl_neuro.snn import build_layers, observe
from esl_neuro.snn.integer_network import QuantisedNetwork
from esl_neuro.snn.neurons import lif_per_channel
from esl_neuro.training.checkpoint import Checkpoint
from esl_neuro.training.evaluation import accuracy, load_network
from esl_neuro.training.integer_training import input_format, quantised
from esl_neuro.training.run_folder import create_run_folder
from esl_neuro.training.trainer import Trainer
from training.short_runs import BATCHES, nothing, start, train, with_learner

QUANTIZE = "training.quantize=loihi2"
ONE_EPOCH = ("training.epochs=1", "training.learning_rate=1e-3")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished float run."""
    trainer, result = train(tmp_path_factory.mktemp("float"))
    return trainer.folder, result


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, finished):
    """A run that fine-tuned it on the chip's integers."""
    trainer, result = train(tmp_path_factory.mktemp("tuned"), QUANTIZE, from_run(finished[0]), *ONE_EPOCH)
    return trainer.folder, result


def from_run(folder):
    return f'training.start_from="{folder.path}"'


def network_of(folder):
    return load_network(folder, load_dataset("digits"))


def test_every_spike_of_every_test_sample_is_the_exported_programs(tuned):
    folder, result = tuned
    recipe, dataset = folder.recipe(), load_dataset("digits")
    network = network_of(folder)
    program = compile_graph(to_nir(network, recipe.data.steps), load_target("loihi2"), recipe.data.steps).program
    inputs = payloads(evaluation_samples(recipe.data, dataset=dataset).values, program)
    trace = run_integer(program, inputs)
    with torch.no_grad():
        activity = observe(network, torch.from_numpy(inputs).transpose(0, 1).float())
    assert list(activity.spikes) == list(trace.spikes)
    for name, fired in activity.spikes.items():
        assert np.array_equal(fired.numpy().transpose(1, 0, 2), trace.spikes[name])
        assert fired.sum() > 1000  # silence would be equal too
    integer = float((trace.predictions() == dataset.test.labels).mean())
    assert accuracy(network, dataset, dataset.test, recipe.data) == integer == result.test_accuracy


def test_fine_tuning_starts_from_the_best_weights_thresholds_and_connections(tmp_path, finished):
    folder, _ = finished
    trainer = start(tmp_path, QUANTIZE, from_run(folder), "sparsity.end=0.0")
    best = Checkpoint.load(folder.path, "best")
    assert isinstance(trainer.network, QuantisedNetwork)
    for name, value in best.part("network").items():
        assert torch.equal(trainer.network.state_dict()[name], value)
    assert torch.equal(trainer.learner.layers[0].mask, best.part("learner")["fc1/mask"])


def test_connections_stay_or_are_rewired_as_the_recipe_says(tmp_path, finished):
    folder, _ = finished
    before = Checkpoint.load(folder.path, "best").part("learner")["fc1/mask"]
    for end, same in (("0.0", True), ("1.0", False)):
        trainer, _ = train(tmp_path, QUANTIZE, from_run(folder), f"sparsity.end={end}", "training.epochs=1")
        layer = trainer.learner.layers[0]
        assert torch.equal(layer.mask, before) is same
        assert layer.connections == before.sum()
        assert (layer.weight.detach()[~layer.mask] == 0).all()
        integers = trainer.network.integers(trainer.network.stages[0])
        assert (integers.weights[~layer.mask] == 0).all()


def test_weights_and_thresholds_learn_on_integers(tmp_path, finished):
    folder, _ = finished
    trainer, _ = train(tmp_path, QUANTIZE, from_run(folder), *ONE_EPOCH)
    before = Checkpoint.load(folder.path, "best").part("network")
    for name, parameter in trainer.network.named_parameters():
        assert not torch.equal(parameter.detach(), before[name]), name


@pytest.mark.parametrize("changes", [(), ("data.encoding=direct", "network.readout=accumulate")])
def test_training_on_integers_from_scratch_learns_like_training_in_float(tmp_path, changes):
    trainer, result = train(tmp_path, QUANTIZE, *changes)
    _, plain = train(tmp_path, *changes)
    assert trainer.network.inputs.bits == (8 if changes else 1)
    assert result.test_accuracy > plain.test_accuracy - 0.05
    assert result.test_accuracy > 0.5


def test_resumed_quantised_run_ends_bit_for_bit_the_same(tmp_path, finished):
    changes = (QUANTIZE, from_run(finished[0]), "training.epochs=2")
    whole, result = train(tmp_path / "whole", *changes)

    interrupted = start(tmp_path / "parts", *changes)

    def stop(done, _total, _loss):
        if done == BATCHES + 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupted.run(stop, nothing)
    resumed = Trainer.resume(interrupted.folder)
    again = resumed.run(nothing, nothing)
    assert again.test_accuracy == result.test_accuracy
    one, other = (Checkpoint.load(run.folder.path, "last").tensors for run in (whole, resumed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_resuming_does_not_need_the_run_that_it_started_from(tmp_path):
    source, _ = train(tmp_path / "source", "training.epochs=1")
    interrupted = start(tmp_path / "tuned", QUANTIZE, from_run(source.folder), *ONE_EPOCH)
    with pytest.raises(KeyboardInterrupt):
        interrupted.run(lambda *_: signal.raise_signal(signal.SIGINT), nothing)
    source.folder.path.rename(tmp_path / "moved")
    assert Trainer.resume(interrupted.folder).run(nothing, nothing).epochs == 1


@pytest.mark.parametrize("learner", ["esl", "deep_r", "grad_r", "stds", "admm"])  # one of each kind of memory
def test_every_learner_can_be_fine_tuned_and_its_connections_frozen(tmp_path, learner):
    source, _ = train(tmp_path / "source", *with_learner(learner))
    changes = (QUANTIZE, from_run(source.folder), *ONE_EPOCH)
    sparse = Checkpoint.load(source.folder.path, "best").part("network")["fc1.weight"] != 0
    frozen, _ = train(tmp_path / "frozen", *changes, 'sparsity={learner="static", layers=["fc1"], density=0.2}')
    assert ((frozen.learner.layers[0].weight.detach() != 0) <= (frozen.learner.layers[0].mask)).all()
    assert (sparse <= frozen.learner.layers[0].mask).all()
    same, _ = train(tmp_path / "same", *with_learner(learner, epochs=1), QUANTIZE, from_run(source.folder))
    for layer in same.learner.layers:
        assert (layer.weight.detach()[~layer.mask] == 0).all()


def test_what_cannot_be_taken_over_is_refused_by_name(tmp_path, finished):
    folder, _ = finished
    for change, message in (
        ("training.seed=5", "another seed would"),
        ("network.notation=64-30-10", "has another architecture"),
        ('sparsity={learner="stds", layers=["fc1"]}', "learner 'stds' cannot continue from the state of 'esl'"),
    ):
        with pytest.raises(BadInput, match=message):
            start(tmp_path, from_run(folder), change)
    with pytest.raises(BadInput, match="not a run"):
        start(tmp_path, f'training.start_from="{tmp_path}"')
    unfinished = start(tmp_path / "unfinished")
    with pytest.raises(BadInput, match="is not finished"):
        start(tmp_path, from_run(unfinished.folder))


def test_targets_are_checked_by_name(tmp_path):
    with pytest.raises(BadInput, match="did you mean 'loihi2'"):
        start(tmp_path, "training.quantize=lohi2")
    with pytest.raises(BadInput, match=r"'truenorth' has no \[arithmetic\]; allowed: loihi, loihi2"):
        start(tmp_path, "training.quantize=truenorth")
    assert not tmp_path.exists() or not list(tmp_path.iterdir())


def test_recipes_without_integer_form_are_refused():
    single = (
        'network={neuron="single_spike", notation="64-24-10"}',
        "data.encoding=binary_single_spike",
        "data.steps=2",
        "training.loss=first_spike",
    )
    with pytest.raises(BadInput, match="'single_spike' has no time steps"):
        load_recipe("mlp-digits", (QUANTIZE, *single))
    with pytest.raises(BadInput, match=r"training\.precision must be 'float32', not 'bfloat16'"):
        load_recipe("mlp-digits", (QUANTIZE, "training.precision=bfloat16"))


def test_batch_norm_needs_a_run_to_start_from():
    network = build_layers("4C3-BN-10", (1, 8, 8), lif_per_channel(), spiking_output=True)
    with pytest.raises(BadInput, match="batch norm needs the statistics of a finished run"):
        quantised(network, load_recipe("mlp-digits", (QUANTIZE,)), load_dataset("digits"))
    recipe = load_recipe("mlp-digits", (QUANTIZE, "training.start_from=runs/1"))
    assert isinstance(quantised(network, recipe, load_dataset("digits")), QuantisedNetwork)


def test_input_becomes_payloads_as_its_encoding_says():
    digits = load_dataset("digits")
    coloured = replace(digits, normalisation=Normalisation((0.5,), (0.2,)))

    def found(dataset, *changes):
        return input_format(load_recipe("mlp-digits", changes), dataset)

    assert found(digits) == found(coloured) == SPIKES
    assert found(digits, "data.encoding=direct") == InputFormat(8, 255.0)
    assert found(digits, "data.encoding=direct", "training.input_bits=4") == InputFormat(4, 15.0)
    assert found(digits, "data.encoding=event_counts") == InputFormat(8, 1.0)
    with pytest.raises(BadInput, match="negative values, which payloads cannot represent"):
        found(coloured, "data.encoding=direct")


def test_export_prints_one_accuracy_for_both(tuned):
    folder, result = tuned
    document = export_run(folder.path, "loihi2").document
    assert document["accuracy"]["float"] == document["accuracy"]["integer"] == result.test_accuracy
    assert all(error["weight_error"] < 1e-6 and error["lost"] == 0 for error in document["quantisation"])
    assert json.loads((folder.path / "loihi2" / "export.json").read_text())["accuracy"] == document["accuracy"]
    assert DataSection.model_validate(document["data"]) == folder.recipe().data


def test_config_of_a_fine_tuned_run_repeats_it(tmp_path, tuned):
    folder, result = tuned
    recipe = load_recipe(str(folder.config))
    trainer = Trainer.start(recipe, lambda: create_run_folder(tmp_path, recipe))
    assert trainer.run(nothing, nothing).test_accuracy == result.test_accuracy
    one, other = (Checkpoint.load(each.path, "last").part("network") for each in (folder, trainer.folder))
    assert all(torch.equal(one[name], other[name]) for name in one)
