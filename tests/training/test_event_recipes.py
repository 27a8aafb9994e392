"""Every recipe of event data trains, on small files in the real formats."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from data.test_event_datasets import write_dvs_cifar10, write_gestures, write_n_mnist, write_shd
from esl_neuro.data.availability import LAYOUTS
from esl_neuro.data.event_datasets import DVS128_GESTURE, DVS_CIFAR10, N_MNIST, SHD
from esl_neuro.recipes import load_recipe
from esl_neuro.resources import resource_names
from esl_neuro.snn import weighted_layers
from esl_neuro.training.run_folder import create_run_folder
from esl_neuro.training.trainer import Trainer
from training.short_runs import nothing

# Enough of each class that one validates, and enough events that neurons fire.
WRITERS = {
    N_MNIST.name: lambda folder: write_n_mnist(folder, train=60, length=5000, unit_of_time=60),
    DVS_CIFAR10.name: lambda folder: write_dvs_cifar10(folder, per_class=12, suffix="aedat"),
    DVS128_GESTURE.name: lambda folder: write_gestures(folder, users=6),
    SHD.name: lambda folder: write_shd(folder, train=120, test=20, length=6000),
}
RECIPES = {name: load_recipe(name) for name in resource_names("models")}
OF_EVENTS = [name for name, recipe in RECIPES.items() if recipe.data.name in WRITERS]
# As shipped, but for the budget; networks of convolutions get few frames.
SHORT = ("data.samples=2", "training.epochs=1", "training.batch=1", "training.threads=1")
FEW_FRAMES = ("data.steps=2",)


def test_every_event_data_set_has_a_recipe():
    assert {RECIPES[name].data.name for name in OF_EVENTS} == WRITERS.keys() <= LAYOUTS.keys()


@pytest.mark.parametrize("name", OF_EVENTS)
def test_recipe_trains_on_small_files(tmp_path, monkeypatch, name):
    shipped = RECIPES[name]
    if shipped.data.name == N_MNIST.name:
        pytest.importorskip("tonic")
    monkeypatch.setenv("ESL_NEURO_DATA", str(tmp_path / "data"))
    WRITERS[shipped.data.name](tmp_path / "data" / shipped.data.name)
    changes = SHORT + (FEW_FRAMES if shipped.data.shape else ())
    if shipped.data.frame_us is not None:
        changes += ("data.frame_us=50000",)  # so that two frames hold events
    recipe = load_recipe(name, changes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # events after the last frame
        trainer = Trainer.start(recipe, lambda: create_run_folder(tmp_path / "runs", recipe))
    before = {key: layer.weight.detach().clone() for key, layer in weighted_layers(trainer.network).items()}
    losses = []
    result = trainer.run(lambda *state: losses.append(state[-1]), nothing)
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))
    assert 0 <= result.test_accuracy <= 1
    for key, layer in weighted_layers(trainer.network).items():
        assert not np.array_equal(before[key].numpy(), layer.weight.detach().numpy()), key
    if recipe.sparsity.learner == "esl" and recipe.sparsity.distribution == "erdos_renyi":
        assert trainer.learner.density == pytest.approx(recipe.sparsity.density, abs=1e-4)
