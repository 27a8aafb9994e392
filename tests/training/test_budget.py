"""Recipes with a budget: it holds at every step, and what cannot hold it is refused before training."""

from __future__ import annotations

import json

import pytest
import torch

from esl_neuro.budget.energy import AIM, RHO, Meter
from esl_neuro.budget.pricing import energy_per_sample
from esl_neuro.compiler.placement import place
from esl_neuro.data.inputs import evaluation_inputs
from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target
from esl_neuro.pipeline.compilation import compile
from esl_neuro.pipeline.training import load_run
from esl_neuro.recipes import load_recipe
from esl_neuro.snn import observe
from esl_neuro.sparsity.indexed_layer import live_positions
from esl_neuro.training.evaluation import load_network
from esl_neuro.training.result import read_result
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
        (('sparsity={learner="grad_r", layers=["all"]}',), "budget: learner 'grad_r' has no exact number"),
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


ENERGY = ('budget.energy="24 nJ"', "training.epochs=3", "network.surrogate_width=1.0")


def test_an_energy_budget_is_reported_with_its_multiplier_and_kept_by_the_best_epoch(tmp_path):
    trainer, result = train(tmp_path, *ENERGY)
    lines = [json.loads(line) for line in trainer.folder.metrics.read_text().splitlines()]
    energies = [line["energy"]["operations_nj"] for line in lines]
    multipliers = [line["energy"]["multiplier_per_nj"] for line in lines]
    budget, room = trainer.energy.budget_nj, trainer.energy.room_nj
    expected, mu = [], 0.0
    for energy in energies:
        expected.append(mu / room)
        mu = max(0.0, mu + RHO * min((energy - AIM * budget) / room, 1.0))
    assert multipliers == pytest.approx(expected)
    assert max(expected) > 0  # the budget binds
    best = energies[result.best_epoch - 1]
    assert best <= budget or min(energies) == best > budget
    assert result.energy.budget_nj == budget == 24.0
    assert result.energy.within == (result.energy.operations_nj <= budget)
    assert read_result(trainer.folder.result, "train again") == result


def test_the_energy_of_a_result_is_that_of_its_export(tmp_path):
    trainer, result = train(tmp_path, *ENERGY)
    network = load_network(trainer.folder, trainer.dataset)
    tally = Meter(network, trainer.dataset.shape).tally()
    for first in range(0, len(trainer.dataset.test), 100):  # other batches than those of the trainer
        inputs = evaluation_inputs(trainer.dataset, trainer.dataset.test, "bernoulli_rate", 4)[first : first + 100]
        signal = torch.from_numpy(inputs).transpose(0, 1).float()
        tally.add(signal, observe(network, signal))
    assert energy_per_sample(tally.activity(), load_target("loihi2")).operations_nj == result.energy.operations_nj


def test_a_share_is_that_of_a_finished_run_of_the_same_network(tmp_path):
    reference, result = train(tmp_path / "reference", "training.epochs=1")
    assert result.energy is None
    assert "energy" not in reference.folder.metrics.read_text()
    named = (f'budget.reference="{reference.folder.path}"', "training.epochs=1")
    trainer = start(tmp_path / "share", 'budget.energy="1.5x"', *named)
    whole = start(tmp_path / "whole", 'budget.energy="3x"', *named)
    assert trainer.energy.budget_nj == pytest.approx(0.5 * whole.energy.budget_nj)
    for change, problem in (
        (("network.threshold=2.0",), "differs in network.threshold"),
        (("budget.reference=nowhere",), "nowhere: not a run"),
    ):
        with pytest.raises(BadInput, match=problem):
            start(tmp_path / "refused", 'budget.energy="0.9x"', *named, *change)
    with pytest.raises(BadInput, match=r"a share needs budget\.reference"):
        start(tmp_path / "refused", 'budget.energy="0.9x"')
    reference.folder.result.unlink()
    with pytest.raises(BadInput, match="is not finished"):
        start(tmp_path / "refused", 'budget.energy="1.5x"', *named)
    assert not (tmp_path / "refused").exists()


def test_an_interrupted_run_continues_with_its_multiplier(tmp_path):
    whole, result = train(tmp_path / "whole", *ENERGY)

    def stop(iteration, *_):
        if iteration == 2 * whole.batches + 1:
            raise KeyboardInterrupt

    trainer = start(tmp_path / "stopped", *ENERGY)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(stop, nothing)
    again = Trainer.resume(trainer.folder).run(nothing, nothing)
    assert (again.energy, again.test_accuracy) == (result.energy, result.test_accuracy)


def test_energy_budgets_that_cannot_be_kept_are_refused_before_training(tmp_path):
    for change, problem in (
        (('budget.energy="1 nJ"',), "the updates of 34 neurons in 4 steps alone cost"),
        (('budget.energy="13 nJ"',), "the spikes of the input alone cost"),
        (('budget.energy="a lot"',), "'a lot' is no energy"),
        (('budget.energy="1 uJ"', "budget.target=h100"), "'h100' is no neuromorphic chip"),
        (('budget.energy="1 uJ"', "network.neuron=liaf"), "network.neuron = 'liaf' sends no spikes"),
    ):
        with pytest.raises(BadInput, match=problem):
            start(tmp_path / "refused", *change)
    assert not (tmp_path / "refused").exists()


CORES = (
    "budget.target=loihi",
    "budget.cores=4",
    "budget.input_axons_per_core=20",
    "budget.synaptic_memory_per_core=6000",
    'sparsity.layers=["all"]',
    "sparsity.density=0.13",
    "training.epochs=2",
)


@pytest.mark.parametrize("storage", ["masked", "sparse"])
def test_a_run_keeps_its_cores_and_says_what_it_uses(tmp_path, storage):
    trainer, result = train(tmp_path, *CORES, f"sparsity.storage={storage}", "sparsity.growth={random_unfired=1.0}")
    births = [line for line in trainer.folder.structure.read_text().splitlines() if '"births": 0' not in line]
    assert len(births) > 4
    assert result.connections == round(0.13 * 64 * 24) + round(0.13 * 24 * 10)
    stored = read_result(trainer.folder.result, "").cores
    assert stored == result.cores
    resources = stored.resources
    assert (resources["cores_per_chip"].used, resources["cores_per_chip"].limit) == (4, 4)
    assert resources["input_axons_per_core"].used <= resources["input_axons_per_core"].limit == 20
    assert resources["synaptic_memory_per_core"].used <= 6000
    assert resources["neurons_per_core"].limit == 1024  # of the chip


def test_the_export_of_a_run_has_the_cores_of_its_training(tmp_path):
    trainer, _ = train(tmp_path, *CORES)
    program = compile(load_run(trainer.folder.path), "loihi").program
    assert program.core_plan == trainer.cores.core_plan
    placement = place(program, load_target("loihi"))
    assert (placement.planned, placement.cores) == (True, 4)
    assert placement.used["input_axons"].max() <= 20
    elsewhere = compile(load_run(trainer.folder.path), "loihi2").program
    assert not place(elsewhere, load_target("loihi2")).planned
    trainer.folder.cores.write_text('{"target": "loihi"}')
    with pytest.raises(BadInput, match=r"cores.json: damaged \(it needs .* train again"):
        compile(load_run(trainer.folder.path), "loihi")


def test_an_interrupted_run_keeps_its_cores(tmp_path):
    def stop(iteration, *_):
        if iteration == 10:
            raise KeyboardInterrupt

    whole, result = train(tmp_path / "whole", *CORES)
    trainer = start(tmp_path / "stopped", *CORES)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(stop, nothing)
    again = Trainer.resume(trainer.folder)
    assert again.run(nothing, nothing).cores == result.cores
    for one, other in zip(whole.learner.layers, again.learner.layers, strict=True):
        assert torch.equal(one.mask, other.mask)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("budget.cores=129", "budget.neurons_per_core=2000"),
         r"cores 129 is above the 128 of 'loihi'.*neurons_per_core 2,000 is above the 1,024"),
        (("budget.cores=1", "budget.neurons_per_core=30"), "cores 1 is not possible: 34 neurons in 2 layers with"),
        (("budget.input_axons_per_core=2",), "its cores hold .* lower the density to .* or raise input_axons_per_core"),
        (("budget.cores=0",), "budget.cores: 0 is not allowed"),
        (("budget.axons=3",), "budget.axons: unknown field"),
        (("network.neuron=liaf",), "analog"),
        (('sparsity={learner="sparse_momentum", layers=["all"], density=0.1}',), "moves connections between layers"),
    ],
)  # fmt: skip
def test_cores_that_cannot_hold_the_network_are_refused_before_training(tmp_path, change, problem):
    with pytest.raises(BadInput, match=problem):
        start(tmp_path, *CORES, *change)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes",
    [
        ("sparsity.growth={momentum=0.5, random_unfired=0.5}",),
        ("sparsity.storage=sparse", "sparsity.growth={gradient=0.5, random_unfired=0.5}", "sparsity.update_every=1"),
        ("sparsity.growth={gradient=1.0}", "budget.fan_in=9"),
        ("sparsity.prune=per_sign", "sparsity.growth={random=1.0}", "budget.cores=8"),
    ],
)
def test_a_budget_of_energy_that_never_binds_changes_no_connection(tmp_path, changes):
    """The passes that count spikes and synapses leave no trace in what growth rules compare."""
    firing = ("network.threshold=0.2", "training.learning_rate=1e-3")  # no layer is ever below the floor
    changes = ('sparsity.layers=["all"]', "sparsity.density=0.1", "training.epochs=2", *firing, *changes)
    energy = ('budget.energy="1 J"', "budget.rate_floor=1e-9")
    without, _ = train(tmp_path / "without", *changes)
    within, _ = train(tmp_path / "within", *changes, *energy)
    for one, other in zip(without.learner.layers, within.learner.layers, strict=True):
        assert live_positions(one).tolist() == live_positions(other).tolist()
        assert torch.equal(one.weight, other.weight)


@pytest.mark.parametrize(
    ("energy", "more"),
    [
        ("21 nJ", ()),
        ("17 nJ", ('sparsity.layers=["all"]', "sparsity.density=0.13", "budget.fan_in=9")),
        (
            "17 nJ",
            ('sparsity.layers=["all"]', "sparsity.density=0.13", "budget.cores=4", "sparsity.growth={random=1.0}"),
        ),
        ("21 nJ", ("sparsity.storage=sparse", "sparsity.growth={gradient_on_candidates=0.5, random_unfired=0.5}")),
    ],
)
def test_rewiring_keeps_within_the_energy_of_its_batches(tmp_path, energy, more):
    changes = (f'budget.energy="{energy}"', "training.epochs=3", "network.surrogate_width=1.0", *more)
    trainer = start(tmp_path, *changes)
    spending, seen = trainer.learner.spending, []

    def watched():
        now = spending()
        seen.append((now, now.left))
        return now

    trainer.learner.spending = watched
    trainer.run(nothing, nothing)
    assert seen
    assert any(before < 0 for _, before in seen)  # the budget binds
    assert all(now.left >= min(before, 0) for now, before in seen)
