"""What every structure learner has in common, and how a recipe makes one."""

from __future__ import annotations

import pytest
import torch

from esl_neuro.errors import BadInput
from esl_neuro.sparsity import LEARNERS, Rewirer, make_learner
from sparsity.learner_options import ITERATIONS, OPTIONS, section_of
from sparsity.toy_problem import OPTIMISERS, ToyProblem

# Learners whose number of connections never changes.
EXACT = ("esl", "dense", "static", "set", "rigl", "deep_r")


def learner_of(name, task, seed=0, **options):
    section = section_of(name, **OPTIONS[name] | options)
    return make_learner(section, task.model, task.optimizer, iterations=ITERATIONS, seed=seed)


def everything(task, learner):
    """All tensors of a run in progress."""
    tensors = {f"model {name}": value for name, value in task.model.state_dict().items()}
    tensors |= {f"learner {name}": value for name, value in learner.state_dict().items()}
    for index, state in task.optimizer.state_dict()["state"].items():
        tensors |= {f"optimiser {index} {name}": value for name, value in state.items() if value is not None}
    return tensors


def test_every_learner_is_tested_here():
    assert sorted(OPTIONS) == LEARNERS.names()


@pytest.mark.parametrize("name", OPTIONS)
def test_learner_learns_and_keeps_its_promises(name):
    task = ToyProblem("Adam")
    learner = learner_of(name, task)
    counts = [layer.connections for layer in learner.layers]
    births = deaths = 0
    for _ in range(ITERATIONS):
        task.learn(learner.penalty())
        updates = learner.step()
        births += sum(update.births for update in updates)
        deaths += sum(update.deaths for update in updates)
        for layer in learner.layers:
            assert torch.isfinite(layer.weight).all()
            assert (layer.weight[~layer.mask] == 0).all()
            assert not (layer.mask & ~layer.ever_active).any()
        if name in EXACT:
            assert [layer.connections for layer in learner.layers] == counts
        if name == "sparse_momentum":
            assert sum(layer.connections for layer in learner.layers) == sum(counts)
    assert task.accuracy() > 0.9
    possible = sum(layer.mask.numel() for layer in learner.layers)
    assert learner.density == sum(layer.connections for layer in learner.layers) / possible
    if name == "dense":
        assert learner.density == 1
    else:
        assert 0 < learner.density < 0.95
    if name not in ("dense", "static"):
        assert births + deaths > 0


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("name", OPTIONS)
def test_resumed_run_ends_bit_for_bit_like_the_uninterrupted_one(name, optimiser):
    if optimiser == "plain SGD" and name in ("esl", "sparse_momentum"):
        pytest.skip("grows by momentum")

    def run(stop=None):
        task = ToyProblem(optimiser, seed=4)
        learner = learner_of(name, task, seed=4)
        for step in range(16):
            if step == stop:
                saved = {key: value.clone() for key, value in learner.state_dict().items()}
                weights = {key: value.clone() for key, value in task.model.state_dict().items()}
                other = ToyProblem(optimiser, seed=5)
                learner = learner_of(name, other, seed=4)
                other.model.load_state_dict(weights)
                other.optimizer.load_state_dict(task.optimizer.state_dict())
                learner.load_state_dict(saved)
                other.generator, other.prototypes, task = task.generator, task.prototypes, other
            task.learn(learner.penalty())
            learner.step()
        return everything(task, learner)

    whole, resumed = run(), run(stop=9)
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key


@pytest.mark.parametrize("name", OPTIONS)
def test_state_has_one_storage_per_tensor(name):
    """Checkpoint files refuse tensors that share memory."""
    task = ToyProblem()
    state = learner_of(name, task).state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)


@pytest.mark.parametrize("name", OPTIONS)
def test_defaults_are_complete(name):
    """Every learner can be made without options, on a layer large enough for the published densities."""
    model = torch.nn.Linear(100, 50)
    optimizer = torch.optim.Adam(model.parameters())
    learner = make_learner(section_of(name, "0"), torch.nn.Sequential(model), optimizer, iterations=10, seed=1)
    model(torch.ones(2, 100)).sum().backward()
    optimizer.step()
    learner.step()
    assert 0 < learner.density <= 1


@pytest.mark.parametrize(("name", "epsilon"), [("esl", 60), ("static", 60), ("set", 20)])
def test_published_epsilon_is_the_default(name, epsilon):
    model = torch.nn.Sequential(torch.nn.Linear(784, 800))
    optimizer = torch.optim.Adam(model.parameters())
    learner = make_learner(section_of(name), model, optimizer, iterations=10, seed=1)
    assert learner.layers[0].connections == round(epsilon * 1584)


@pytest.mark.parametrize("name", ["esl", "static", "deep_r", "soft_deep_r"])
def test_published_densities_of_every_layer_can_be_given(name):
    """Deep R on MNIST: 784-300-100-10 at 0.01, 0.03 and 0.3."""
    model = torch.nn.Sequential(torch.nn.Linear(784, 300), torch.nn.Linear(300, 100), torch.nn.Linear(100, 10))
    optimizer = torch.optim.Adam(model.parameters())
    section = section_of(name, densities={"0": 0.01, "1": 0.03, "2": 0.3})
    learner = make_learner(section, model, optimizer, iterations=1000, seed=1)
    assert [layer.connections for layer in learner.layers] == [2352, 900, 300]


def test_published_schedule_of_sparse_momentum_can_be_given():
    learner = learner_of("sparse_momentum", ToyProblem(), schedule="cosine_floor")
    assert learner.schedule(ITERATIONS - 1, learner.alpha, ITERATIONS) > 0.005


def test_presets_are_settings_of_the_rewirer():
    made = {
        name: learner_of(name, ToyProblem(), **({} if name in ("dense", "static") else {"end": 0.5}))
        for name in ("esl", "dense", "static", "set", "rigl", "sparse_momentum")
    }
    assert all(type(learner) is Rewirer for learner in made.values())
    assert {name: learner.end for name, learner in made.items()} == {
        "esl": 50,
        "dense": 0,
        "static": 0,
        "set": 50,
        "rigl": 50,
        "sparse_momentum": 50,
    }
    rules = {
        name: (learner.prune_rule.__name__, learner.growth, learner.schedule.__name__, learner.alpha)
        for name, learner in made.items()
    }
    assert rules["set"] == ("per_sign", {"random": 1.0}, "constant", 0.3)
    assert rules["rigl"] == ("magnitude", {"gradient": 1.0}, "cosine", 0.3)
    assert rules["sparse_momentum"] == ("magnitude", {"momentum": 1.0}, "cosine", 0.5)
    assert [name for name, learner in made.items() if learner.redistribution] == ["sparse_momentum"]


def test_esl_draws_what_the_rewirer_draws():
    one, other = ToyProblem(), ToyProblem()
    made = learner_of("esl", one, seed=3)
    direct = Rewirer(other.model, other.optimizer, layers="all", end=75, seed=3, **OPTIONS["esl"])
    for _ in range(12):
        for task, learner in ((one, made), (other, direct)):
            task.learn()
            learner.step()
    for key, value in everything(one, made).items():
        assert torch.equal(value, everything(other, direct)[key])


@pytest.mark.parametrize("name", OPTIONS)
def test_only_the_named_layers_are_masked(name):
    task = ToyProblem()
    section = section_of(name, "fc1", "conv", **OPTIONS[name])
    learner = make_learner(section, task.model, task.optimizer, iterations=ITERATIONS, seed=0)
    assert sorted(layer.name for layer in learner.layers) == ["conv", "fc1"]


@pytest.mark.parametrize("name", OPTIONS)
def test_unknown_layer_is_refused_with_those_that_exist(name):
    task = ToyProblem()
    with pytest.raises(BadInput, match=r"'fc9'.*fc1"):
        make_learner(section_of(name, "fc9"), task.model, task.optimizer, iterations=10, seed=0)


@pytest.mark.parametrize(("share", "iterations", "end"), [(0.5, 100, 50), (1, 7, 7), (0, 7, 0), (0.75, 7, 5)])
@pytest.mark.parametrize("name", ["esl", "set", "rigl", "sparse_momentum", "stds", "admm"])
def test_end_is_a_share_of_the_iterations(name, share, iterations, end):
    task = ToyProblem()
    section = section_of(name, **OPTIONS[name] | {"end": share})
    assert make_learner(section, task.model, task.optimizer, iterations=iterations, seed=0).end == end


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("esl", {"prune": "magnitud"}, r"did you mean 'magnitude'\?"),
        ("esl", {"growth": {"momentun": 1.0}}, r"did you mean 'momentum'\?"),
        ("esl", {"schedule": "cosin"}, r"did you mean 'cosine'\?"),
        ("esl", {"redistribution": "momentun"}, r"did you mean 'momentum'\?"),
        ("rigl", {"distribution": "erks"}, r"did you mean 'erk'\?"),
        ("grad_r", {"density": 0.6}, r"density.* 0\.6 is out of range for 'grad_r'; allowed: above 0 up to 0\.5"),
        ("stds", {"rise": "sin"}, r"rise of the threshold 'sin' is unknown; did you mean 'sine'\?"),
        ("deep_r", {"density": 0.1, "epsilon": 2.0}, "are mutually exclusive"),
        ("deep_r", {"density": 1e-9}, "leaves no connection"),
    ],
)
def test_what_a_section_cannot_know_is_refused_by_the_learner(name, options, message):
    task = ToyProblem()
    with pytest.raises(BadInput, match=message):
        make_learner(section_of(name, **options), task.model, task.optimizer, iterations=10, seed=0)


@pytest.mark.parametrize("name", ["deep_r", "soft_deep_r", "synaptic_sampling", "grad_r", "stds"])
def test_layer_outside_the_optimiser_is_refused(name):
    task = ToyProblem()
    task.optimizer = torch.optim.SGD(task.model.fc2.parameters(), lr=0.1)
    with pytest.raises(BadInput, match="the optimiser does not train 'conv'"):
        learner_of(name, task)
