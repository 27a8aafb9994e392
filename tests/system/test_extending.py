"""Every example of docs/extending.md runs, and does what the document says."""

from __future__ import annotations

import os
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from backends.random_programs import KINDS, random_graph, random_spikes
from esl_neuro.backends.integer import run_integer
from esl_neuro.compiler.program import differences
from esl_neuro.data.encodings import ENCODINGS
from esl_neuro.energy.prices import PRICE_MODELS
from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.linear_nodes import LINEAR
from esl_neuro.nirgraph.neuron_nodes import NEURONS
from esl_neuro.nirgraph.simulation import simulate
from esl_neuro.pipeline.choices import BACKENDS
from esl_neuro.pipeline.compilation import compile
from esl_neuro.pipeline.simulation import SIMULATORS
from esl_neuro.recipes import load_recipe
from esl_neuro.sparsity import LEARNERS
from esl_neuro.sparsity.growth import GROWTH_RULES
from system.command_workspace import REPOSITORY

TABLES = (LINEAR, NEURONS, PRICE_MODELS, SIMULATORS, *(r._entries for r in (ENCODINGS, LEARNERS, GROWTH_RULES)))


def blocks() -> dict[str, str]:
    """The code of the document by file name, in order."""
    text = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")
    found = re.findall(r"```(?:python|toml)\n(.*?)```", text, flags=re.DOTALL)
    return {block.splitlines()[0].removeprefix("# "): block for block in found}


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """What each Python file of the document leaves behind, all run in order in one folder; nothing stays registered."""
    folder, here = tmp_path_factory.mktemp("extending"), Path.cwd()
    before, modules = [dict(table) for table in TABLES], set(sys.modules)
    for name, text in blocks().items():
        (folder / name).write_text(text, encoding="utf-8")
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        yield {name: runpy.run_path(name) for name in blocks() if name.endswith(".py")}
    finally:
        sys.path.remove(str(folder))
        os.chdir(here)
        for name in {Path(name).stem for name in blocks()} & (set(sys.modules) - modules):
            del sys.modules[name]
        for table, entries in zip(TABLES, before, strict=True):
            table.clear()
            table.update(entries)


def test_examples_are_short():
    for name, text in blocks().items():
        assert text.count("\n") <= 45, name


def test_a_chip_of_a_toml_file_gets_integers_that_its_registers_hold(example):
    loihi2, small = example["small_chip.py"]["chips"].values()
    assert small.program.target == "small"
    assert not {"target", "arithmetic"}.issuperset(differences(loihi2.program, small.program))
    for connection in small.program.connections:
        assert set(np.unique(connection.weights.data)) <= set(range(-14, 15, 2))
    assert abs(loihi2.program.connections[0].weights.data).max() > 14
    for group in small.program.groups:
        assert ((group.du + 1) % 64 == 0).all()
        assert (group.dv % 64 == 0).all()
        assert group.vth.max() < 2**10
    assert [row.limit for row in small.utilisation if row.resource == "neurons_per_chip"] == [1024]
    test = example["small_chip.py"]["test"]
    assert loihi2.run(test).accuracy > 0.8
    assert small.run(test).accuracy > 0.6


def test_a_learner_keeps_its_number_of_connections_and_balances_them(example):
    learner = example["train_balanced.py"]["learner"]
    layer = learner.layers[0]
    assert layer.connections == round(0.2 * 64 * 10) == 128
    assert (layer.weight[~layer.mask] == 0).all()
    assert layer.explored > layer.density  # connections moved
    unbalanced = torch.rand(layer.mask.shape, generator=torch.Generator().manual_seed(0)) < 0.2
    assert layer.mask.sum(1).float().std() < 0.7 * unbalanced.sum(1).float().std()
    assert example["train_balanced.py"]["loss"] < 1.5  # of ten classes by chance: 2.3


def test_a_growth_rule_is_found_by_its_name_in_a_recipe(example):
    recipe = load_recipe("mlp-digits", ("sparsity.growth={fewest=1.0}",))
    assert recipe.sparsity.growth == {"fewest": 1.0}
    assert GROWTH_RULES[next(iter(recipe.sparsity.growth))] is sys.modules["balanced"].fewest
    assert example


def test_an_encoding_is_found_by_its_name_in_a_recipe(example):
    run, samples = (example["burst.py"][name] for name in ("run", "samples"))
    assert load_recipe(str(run.folder / "config.toml")).data.encoding == "burst"
    for image, spikes in zip(run.dataset.test.batch()[:5], samples.values, strict=True):
        for value, train in zip(image, spikes.T, strict=True):
            count = int(np.rint(value * 4))
            assert train.tolist() == [1] * count + [0] * (4 - count)
    assert run.accuracy > 0.5


def test_a_price_model_prices_what_it_names(example):
    result, report = (example["per_spike.py"][name] for name in ("result", "report"))
    (estimate,) = report.estimates
    sent = sum(int(fired.sum()) for fired in result.trace.spikes.values())
    assert estimate.name == "small:per-spike"
    assert estimate.energy_pj.nominal == pytest.approx(25 * sent / result.samples, rel=1e-12)
    assert estimate.lower_bound
    assert estimate.unpriced[0].what == "synaptic operations"


def test_nodes_compile_to_a_program_that_does_what_the_float_simulation_does(example):
    done = example["run_nodes.py"]
    assert done["on_chip"].sum() > 50
    assert np.array_equal(done["on_chip"], done["in_float"])
    potentials = np.zeros((20, 5))
    for step in range(8):  # what the docstrings of the two nodes say
        potentials = 0.25 * potentials + (done["spikes"][:, step] @ done["nodes"]["fc"].weight.T)[:, [8, 0, 3, 3, 5]]
        fired = potentials > 1.5
        assert np.array_equal(done["on_chip"][:, step], fired)
        potentials[fired] = 0


def test_a_node_that_contradicts_what_arrives_is_a_finding(example):
    graph = example["run_nodes.py"]["graph"]
    graph.nodes["select"].indices = np.array([8, 0, 3, 3, 9])
    for read in (lambda: compile(graph, steps=8), lambda: simulate(graph, np.zeros((1, 8, 12)))):
        with pytest.raises(BadInput, match=r"node 'select': indices are \[8, 0, 3, 3, 9\], 9 elements arrive"):
            read()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_a_backend_runs_random_programs_as_the_integer_simulator_does(example, kind, seed):
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    program = random_graph(rng, kind)
    inputs = random_spikes(rng, program, 3)
    one = example["dense_backend.py"]["run_dense"](program, inputs, record_potentials=True)
    other = run_integer(program, inputs, record_potentials=True)
    for record in ("spikes", "u", "v"):
        assert getattr(one, record).keys() == getattr(other, record).keys()
        for name, values in getattr(one, record).items():
            assert np.array_equal(values, getattr(other, record)[name]), (record, name)
    assert np.array_equal(one.predictions(), other.predictions())


def test_a_backend_is_compared_with_the_integer_simulator(example, capsys):
    runpy.run_path("run_dense.py")
    assert re.search(
        r"359 test samples x 4 steps, dense, .*\n.*\n.* 106,264 spike values, all equal", capsys.readouterr().out
    )
    assert example


def test_the_commands_offer_the_simulators_there_are():
    assert set(BACKENDS) <= set(SIMULATORS)


def test_a_neuron_of_ones_own_fires_as_its_graph_does(example):
    left = example["own_neuron.py"]
    assert left["by_module"].sum() > 20
    assert left["differing"] == 0
