"""Short runs on the digits, for the tests of the trainer."""

from __future__ import annotations

import math

from esl_neuro.data import load_dataset
from esl_neuro.recipes import load_recipe
from esl_neuro.training.run_folder import create_run_folder
from esl_neuro.training.trainer import Trainer

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
# Settings of each learner that change connections within two short epochs.
LEARNER_SECTIONS = {
    "esl": "density=0.2, update_every=4",
    "dense": "",
    "static": "density=0.2",
    "set": "epsilon=5.0, update_every=4",
    "rigl": "density=0.2, update_every=4",
    "sparse_momentum": "density=0.2, update_every=4",
    "deep_r": "density=0.2, l1=1e-2, noise=1e-2",
    "soft_deep_r": "density=0.2, l1=1e-3, noise=1e-2",
    "synaptic_sampling": "offset=1.0, mean=-1.0, temperature=0.1",
    "grad_r": "penalty=5e-2",
    "stds": "width=0.05",
    "admm": "density=0.2, dual_every=4, end=0.4",
}


def nothing(*_):
    pass


def with_learner(name, epochs=2):
    options = f", {LEARNER_SECTIONS[name]}" if LEARNER_SECTIONS[name] else ""
    return f'sparsity={{learner="{name}", layers=["fc1"]{options}}}', f"training.epochs={epochs}"


def start(root, *overrides):
    recipe = load_recipe("mlp-digits", (*SHORT, *overrides))
    return Trainer.start(recipe, lambda: create_run_folder(root, recipe))


def train(root, *overrides, on_batch=nothing, on_epoch=nothing):
    trainer = start(root, *overrides)
    return trainer, trainer.run(on_batch, on_epoch)
