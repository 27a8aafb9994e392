"""Recipes with a budget: it holds at every step, and what cannot hold it is refused before training."""

from __future__ import annotations

import pytest
import torch

from esl_neuro.errors import BadInput
from esl_neuro.recipes import load_recipe
from esl_neuro.training.trainer import Trainer
from training.short_runs import nothing, start, train

FAN_IN = ("budget.fan_in=9", 'sparsity.layers=["all"]', "sparsity.density=0.13", "training.epochs=2")


@pytest.mark.parametrize("storage", ["masked", "sparse"])
def test_every_neuron_keeps_its_fan_in(tmp_path, storage):
    more = (f"sparsity.storage={storage}", "sparsity.growth={random_unfired=1.0}")
    trainer = start(tmp_path, *FAN_IN, *more)
    counts = [layer.connections for layer in trainer.learner.layers]
    assert counts == [round(0.13 * 64 * 24), round(0.13 * 24 * 10)]

    def within(*_):
        assert all(layer.fan_in().max() <= 9 for layer in trainer.learner.layers)
        assert [layer.connections for layer in trainer.learner.layers] == counts

    trainer.run(within, nothing)
    births = [line for line in trainer.folder.structure.read_text().splitlines() if '"births": 0' not in line]
    assert len(births) > 4


def test_an_interrupted_run_keeps_the_budget(tmp_path):
    def stop(iteration, *_):
        if iteration == 10:
            raise KeyboardInterrupt

    whole, result = train(tmp_path / "whole", *FAN_IN)
    trainer = start(tmp_path / "stopped", *FAN_IN)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(stop, nothing)
    trainer._save("last")
    again = Trainer.resume(trainer.folder)
    assert again.run(nothing, nothing).test_accuracy == result.test_accuracy
    for one, other in zip(whole.learner.layers, again.learner.layers, strict=True):
        assert torch.equal(one.mask, other.mask)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("sparsity.density=0.2",), "layer 'fc1' has 307 connections at density 0.2, and 24 neurons"),
        (('sparsity.layers=["fc1"]',), "'fc2' (24 synapses) have more; add it to sparsity.layers"),
        (('sparsity={learner="grad_r", layers=["all"]}',), "budget.fan_in: learner 'grad_r' has no exact number"),
        (("training.quantize=loihi2",), "train without training.quantize first"),
        (("budget.fan_in=0",), "budget.fan_in: 0 is not allowed"),
        (("budget.fan_on=3",), "budget.fan_on: unknown field; did you mean 'fan_in'?"),
    ],
)  # fmt: skip
def test_what_cannot_keep_a_budget_is_refused_before_training(tmp_path, change, problem):
    with pytest.raises(BadInput) as refusal:
        start(tmp_path, *FAN_IN, *change)
    assert problem in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_a_recipe_without_a_budget_is_written_as_before():
    recipe = load_recipe("mlp-digits")
    assert recipe.budget is None
    assert "budget" not in recipe.to_document()
