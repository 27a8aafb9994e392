"""Runs are trained, loaded and tested; invalid input is reported before training starts."""

from __future__ import annotations

import json

import numpy as np
import pytest

from esl_neuro.errors import BadInput
from esl_neuro.pipeline.training import evaluate, load_run, resume, start_training, train
from esl_neuro.recipes.recipe import load_recipe
from pipeline.small_recipes import SMALL


def test_a_run_knows_its_recipe_its_data_and_its_figures(run):
    assert (run.recipe.name, run.recipe.training.seed) == ("mlp-digits", 0)
    assert run.figures.model_dump() == json.loads((run.folder / "result.json").read_text())
    assert run.accuracy == run.figures.test_accuracy > 0.3
    assert len(run.test_set()) == len(run.dataset.test) == 359


def test_a_seed_repeats_a_run(run, tmp_path):
    recipe = load_recipe("mlp-digits", SMALL)
    again = train(recipe, seed=0, runs=tmp_path)
    other = train(recipe, seed=1, runs=tmp_path)
    weights = [each.network.state_dict()["fc1.weight"].numpy() for each in (run, again, other)]
    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])
    assert other.recipe.training.seed == 1


def test_batches_and_epochs_are_told(tmp_path):
    batches, epochs = [], []
    train(
        "mlp-digits", changes=SMALL, runs=tmp_path, on_batch=lambda *each: batches.append(each), on_epoch=epochs.append
    )
    assert [done for done, _, _ in batches] == list(range(1, batches[0][1] + 1))
    assert [metrics.epoch for metrics in epochs] == list(range(1, 9))


def test_what_is_wrong_is_found_before_training(tmp_path):
    with pytest.raises(BadInput, match="did you mean 'mlp-digits'"):
        train("mlp-digit", runs=tmp_path)
    with pytest.raises(BadInput, match=r"sparsity\.densty"):
        train(changes=["sparsity.densty=0.1"], runs=tmp_path)
    with pytest.raises(BadInput, match="changes apply to the name or file of a recipe"):
        train(load_recipe("mlp-digits"), changes=["training.epochs=1"], runs=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_run_or_no_complete_one_is_refused(run, tmp_path):
    with pytest.raises(BadInput, match="not a run"):
        load_run(tmp_path)
    with pytest.raises(BadInput, match="the run is complete"):
        resume(run.folder)
    begun = load_run(start_training("mlp-digits", changes=SMALL, runs=tmp_path).folder.path)
    with pytest.raises(BadInput, match="not complete; continue it with resume"):
        _ = begun.accuracy


def test_noise_is_tested_alone(run):
    found = evaluate(run, ["salt_and_pepper=0.4", "jitter=0"])
    assert (found.samples, found.accuracy) == (359, run.accuracy)
    noisy, undisturbed = found.noise
    assert (noisy.name, noisy.level) == ("salt_and_pepper", 0.4)
    assert noisy.accuracy < found.accuracy == undisturbed.accuracy
    with pytest.raises(BadInput, match="of the form name=level"):
        evaluate(run.folder, ["jitter"])
