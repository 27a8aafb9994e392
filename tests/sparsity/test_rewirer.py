"""Algorithm 1 of ESL-SNNs: what holds after every step, and the whole of it against a loop."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.sparsity import MaskedAdam, MaskedAdamW, Rewirer

OPTIMISERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.02, momentum=0.9),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.02),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.02, weight_decay=0.1),
    "masking Adam": lambda parameters: MaskedAdam(parameters, lr=0.02),
    "masking AdamW": lambda parameters: MaskedAdamW(parameters, lr=0.02, weight_decay=0.1),
}
MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")


class Task:
    """A two-layer regression on random data that changes at every step."""

    def __init__(self, inputs=8, hidden=6, outputs=3, optimiser="Adam", seed=0):
        self.generator = torch.Generator().manual_seed(seed)
        self.model = nn.Sequential()
        for name, module in (
            ("fc1", nn.Linear(inputs, hidden)),
            ("act", nn.Tanh()),
            ("fc2", nn.Linear(hidden, outputs)),
        ):
            self.model.add_module(name, module)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=self.generator))
        self.optimizer = OPTIMISERS[optimiser](self.model.parameters())
        self.teacher = torch.randn(inputs, outputs, generator=self.generator)

    def learn(self):
        """One optimiser step, without the rewirer's."""
        values = torch.randn(16, self.teacher.shape[0], generator=self.generator)
        self.optimizer.zero_grad()
        nn.functional.mse_loss(self.model(values), values @ self.teacher).backward()
        self.optimizer.step()

    def rewirer(self, **settings):
        return Rewirer(
            self.model,
            self.optimizer,
            **({"density": 0.4, "layers": ["fc1"], "end": 100, "update_every": 2} | settings),
        )


def fraction(iteration, alpha, end):
    return alpha / 2 * (1 + math.cos(math.pi * iteration / end)) if iteration < end else 0.0


mixes = st.dictionaries(
    st.sampled_from(["momentum", "random", "random_unfired"]), st.floats(0.01, 10), min_size=1, max_size=3
)


@settings(max_examples=40)
@given(
    sizes=st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4)),
    density=st.floats(0.05, 1),
    growth=mixes,
    optimiser=st.sampled_from(sorted(OPTIMISERS)),
    alpha=st.floats(0, 1),
    update_every=st.integers(1, 3),
    end=st.integers(0, 10),
    seed=st.integers(0, 1000),
)
def test_what_holds_after_every_step(sizes, density, growth, optimiser, alpha, update_every, end, seed):
    task = Task(*sizes, optimiser=optimiser, seed=seed)
    wanted = {"fc1": sizes[0] * sizes[1], "fc2": sizes[1] * sizes[2]}
    density = max(density, 1 / min(wanted.values()))
    rewirer = task.rewirer(
        density=density,
        layers=["fc1", "fc2"],
        growth=growth,
        alpha=alpha,
        update_every=update_every,
        end=end,
        seed=seed,
    )
    counts = {name: round(density * size) for name, size in wanted.items()}
    for iteration in range(1, 13):
        masks = {layer.name: (layer.mask.clone(), layer.ever_active.clone()) for layer in rewirer.layers}
        task.learn()
        updates = rewirer.step()
        share = fraction(iteration, alpha, end)
        due = share > 0 and iteration % update_every == 0
        assert [update.layer for update in updates] == (["fc1", "fc2"] if due else [])
        replaced = {update.layer: update.replaced for update in updates}
        for layer in rewirer.layers:
            mask, ever = masks[layer.name]
            count = counts[layer.name]
            assert layer.connections == count
            assert torch.isfinite(layer.weight).all()
            assert (layer.weight[~layer.mask] == 0).all()
            born, died = layer.mask & ~mask, mask & ~layer.mask
            # Whatever dies stays dead in this update, so births and deaths are as many as the quota.
            quota = min(math.ceil(share * count), wanted[layer.name] - count) if due else 0
            assert int(born.sum()) == int(died.sum()) == replaced.get(layer.name, 0) == quota
            assert (layer.weight[born] == 0).all()
            for key in MOMENTS:
                if key in task.optimizer.state[layer.weight]:
                    moment = task.optimizer.state[layer.weight][key]
                    assert (moment[born] == 0).all()
                    assert torch.isfinite(moment).all()
            assert torch.equal(layer.ever_active, ever | layer.mask)
    assert rewirer.density == pytest.approx(sum(counts.values()) / sum(wanted.values()))


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_updates_equal_algorithm_1_written_as_a_loop(optimiser):
    task = Task(optimiser=optimiser, seed=5)
    rewirer = task.rewirer(alpha=0.5, end=40, update_every=3)
    layer = rewirer.layers[0]
    for iteration in range(1, 45):
        task.learn()
        weight, state = layer.weight.flatten().tolist(), task.optimizer.state[layer.weight]
        active = layer.mask.flatten().tolist()
        if optimiser == "SGD":
            score = [abs(m) for m in state["momentum_buffer"].flatten().tolist()]
        else:
            moments = zip(state["exp_avg"].flatten().tolist(), state["exp_avg_sq"].flatten().tolist(), strict=True)
            score = [abs(m) / (math.sqrt(v) + 1e-8) for m, v in moments]
        rewirer.step()
        if iteration % 3 == 0 and iteration < 40:
            present = [place for place in range(48) if active[place]]
            absent = [place for place in range(48) if not active[place]]
            count = math.ceil(fraction(iteration, 0.5, 40) * len(present))
            for place in sorted(present, key=lambda place: abs(weight[place]))[:count]:
                active[place] = False
            for place in sorted(absent, key=lambda place: score[place], reverse=True)[:count]:
                active[place] = True
        assert layer.mask.flatten().tolist() == active


def test_quota_follows_equation_2():
    task = Task(inputs=20, hidden=20)
    rewirer = task.rewirer(density=0.25, alpha=0.4, end=50, update_every=10, growth={"random": 1})
    replaced = {}
    for _ in range(60):
        task.learn()
        replaced |= {update.iteration: update.replaced for update in rewirer.step()}
    assert replaced == {
        iteration: math.ceil(100 * 0.2 * (1 + math.cos(math.pi * iteration / 50))) for iteration in (10, 20, 30, 40)
    }


def test_structure_is_frozen_from_the_end_on_while_weights_learn():
    task = Task()
    rewirer = task.rewirer(end=10, update_every=1, growth={"random": 1})
    masks, weights = [], []
    for _ in range(20):
        task.learn()
        rewirer.step()
        masks.append(rewirer.layers[0].mask.clone())
        weights.append(rewirer.layers[0].weight.detach().clone())
    assert not torch.equal(masks[7], masks[8])
    assert all(torch.equal(mask, masks[8]) for mask in masks[9:])
    assert not torch.equal(weights[10], weights[19])


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_momentum_growth_explores_well_beyond_the_first_mask(optimiser):
    task = Task(inputs=20, hidden=20, optimiser=optimiser)
    rewirer = task.rewirer(density=0.1, alpha=0.3, end=600, update_every=5, growth={"momentum": 1})
    for _ in range(600):
        task.learn()
        rewirer.step()
    assert rewirer.layers[0].explored > 0.2


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_connections_that_do_not_exist_gather_momentum(optimiser):
    task = Task(optimiser=optimiser)
    rewirer = task.rewirer(update_every=1000, end=1000)
    for _ in range(3):
        task.learn()
        rewirer.step()
    layer = rewirer.layers[0]
    moment = next(
        task.optimizer.state[layer.weight][key] for key in MOMENTS if key in task.optimizer.state[layer.weight]
    )
    if optimiser == "SGD":
        moment = task.optimizer.state[layer.weight]["momentum_buffer"]
    assert (moment[~layer.mask] != 0).all()


def test_random_unfired_visits_every_place_before_it_comes_back():
    task = Task(inputs=10, hidden=10)
    rewirer = task.rewirer(density=0.2, alpha=0.5, end=10_000, update_every=1, growth={"random_unfired": 1})
    layer = rewirer.layers[0]
    for _ in range(30):
        ever = layer.ever_active.clone()
        task.learn()
        (update,) = rewirer.step()
        assert int((layer.ever_active & ~ever).sum()) == min(update.replaced, int((~ever).sum()))
        assert update.explored == pytest.approx(int(layer.ever_active.sum()) / 100)
    assert layer.ever_active.all()


def test_three_lines_in_a_bare_loop_over_a_plain_sequential():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    rewirer = Rewirer(model, optimizer, density=0.2, layers=["0"], end=200, update_every=10)
    values = torch.randn(256, 10)
    targets = values[:, :3].sum(1, keepdim=True).tanh()
    losses = []
    for _ in range(300):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(values), targets)
        loss.backward()
        optimizer.step()
        rewirer.step()
        losses.append(loss.item())
    assert int((model[0].weight != 0).sum()) <= 40
    assert rewirer.layers[0].connections == 40
    assert losses[-1] < 0.2 * losses[0]


def test_other_layers_stay_dense():
    task = Task()
    before = task.model.fc2.weight.detach().clone()
    task.rewirer(density=0.2)
    assert torch.equal(task.model.fc2.weight, before)


def test_full_density_replaces_nothing():
    task = Task()
    rewirer = task.rewirer(density=1, update_every=1)
    task.learn()
    assert [update.replaced for update in rewirer.step()] == [0]
    assert rewirer.layers[0].mask.all()


def test_layers_and_seeds_start_from_different_masks():
    model = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9))
    optimizer = torch.optim.Adam(model.parameters())
    masks = [
        layer.mask
        for seed in (0, 1)
        for layer in Rewirer(model, optimizer, density=0.5, layers=["0", "1"], end=10, seed=seed).layers
    ]
    assert all(not torch.equal(one, other) for i, one in enumerate(masks) for other in masks[:i])


def test_state_dict_continues_exactly():
    def after(steps, stop=None):
        task = Task(seed=9)
        rewirer = task.rewirer(update_every=1, growth={"momentum": 1, "random_unfired": 1})
        for step in range(steps):
            if step == stop:
                state = {key: value.clone() for key, value in rewirer.state_dict().items()}
                weight = rewirer.layers[0].weight.detach().clone()
                rewirer = task.rewirer(update_every=1, growth={"momentum": 1, "random_unfired": 1})
                with torch.no_grad():
                    rewirer.layers[0].weight.copy_(weight)
                rewirer.load_state_dict(state)
            task.learn()
            rewirer.step()
        return rewirer

    whole, resumed = after(20), after(20, stop=11)
    assert resumed.iteration == whole.iteration == 20
    assert torch.equal(resumed.layers[0].mask, whole.layers[0].mask)
    assert torch.equal(resumed.layers[0].ever_active, whole.layers[0].ever_active)
    assert torch.equal(resumed.layers[0].weight, whole.layers[0].weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"layers": ["fc3"]},
            r"'fc3' is not a linear layer or convolution of the model; did you mean 'fc1'\?|did you mean 'fc2'\?",
        ),
        ({"layers": ["act"]}, r"'act' is not a linear layer or convolution of the model"),
        ({"prune": "magnitud"}, r"prune rule 'magnitud' is unknown; did you mean 'magnitude'\?"),
        ({"growth": {"momentun": 1.0}}, r"growth rule 'momentun' is unknown; did you mean 'momentum'\?"),
        ({"density": 0.001}, r"sparsity\.density: 0\.001 leaves no connection of 48"),
    ],
)
def test_wrong_setting_is_refused(change, message):
    with pytest.raises(BadInput, match=message):
        Task().rewirer(**change)


def nested():
    model = nn.ModuleDict({"left": nn.Sequential(nn.Linear(4, 4)), "right": nn.Sequential(nn.Linear(4, 4))})
    return model, torch.optim.Adam(model.parameters())


def test_layer_may_be_given_by_its_full_name():
    model, optimizer = nested()
    rewirer = Rewirer(model, optimizer, density=0.5, layers=["left.0", "right.0"], end=10)
    assert int((model["left"][0].weight != 0).sum()) == 8
    assert len(rewirer.layers) == 2


def test_ambiguous_last_part_of_a_name_is_refused():
    model, optimizer = nested()
    with pytest.raises(BadInput):
        Rewirer(model, optimizer, density=0.5, layers=["0"], end=10)


class Noise:
    """A weight of any shape under random gradients: what the rules see, without a network."""

    def __init__(self, shape, optimiser, seed=0):
        self.generator = torch.Generator().manual_seed(seed)
        kind = {2: nn.Linear, 3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}[len(shape)]
        self.module = kind(shape[1], shape[0], *([shape[2:]] if len(shape) > 2 else []))
        with torch.no_grad():
            self.module.weight.copy_(torch.randn(shape, generator=self.generator))
        self.model = nn.Sequential(self.module)
        self.optimizer = {**OPTIMISERS, "plain SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1)}[optimiser](
            self.model.parameters()
        )

    def learn(self):
        self.module.weight.grad = torch.randn(self.module.weight.shape, generator=self.generator)
        self.optimizer.step()


def slow_prune(rule, weight, active, count, threshold):
    """The places that die, from the rule's definition."""
    present = sorted((place for place in range(len(weight)) if active[place]), key=lambda place: abs(weight[place]))
    if rule == "magnitude":
        return present[:count]
    if rule == "threshold":
        return [place for place in present if abs(weight[place]) < threshold][:count]
    zero = [place for place in present if weight[place] == 0][:count]
    positive = [place for place in present if weight[place] > 0]
    negative = [place for place in present if weight[place] < 0]
    rest = count - len(zero)
    share = math.floor(rest * len(positive) / (len(positive) + len(negative)) + 0.5) if rest else 0
    return zero + positive[:share] + negative[: rest - share]


@settings(max_examples=40)
@given(
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=5).map(tuple),
    density=st.floats(0.05, 1),
    prune=st.sampled_from(["magnitude", "per_sign", "threshold"]),
    growth=st.sampled_from(["gradient", "momentum"]),
    schedule=st.sampled_from(["cosine", "constant", "linear"]),
    optimiser=st.sampled_from(["plain SGD", *OPTIMISERS]),
    alpha=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_any_weight_follows_the_rules_written_as_loops(shape, density, prune, growth, schedule, optimiser, alpha, seed):
    growth = "gradient" if optimiser == "plain SGD" else growth
    size = math.prod(shape)
    task = Noise(shape, optimiser, seed)
    rewirer = Rewirer(
        task.model,
        task.optimizer,
        density=max(density, 1 / size),
        layers="all",
        end=5,
        alpha=alpha,
        schedule=schedule,
        update_every=2,
        prune=prune,
        threshold=0.4,
        growth={growth: 1},
        seed=seed,
    )
    layer = rewirer.layers[0]
    connections = layer.connections
    for iteration in range(1, 8):
        task.learn()
        weight, active = layer.weight.flatten().tolist(), layer.mask.flatten().tolist()
        state = task.optimizer.state.get(layer.weight, {})
        if growth == "gradient":
            score = layer.weight.grad.abs().flatten().tolist()
        elif optimiser == "SGD":
            score = state["momentum_buffer"].abs().flatten().tolist()
        else:
            score = (state["exp_avg"].abs() / (state["exp_avg_sq"].sqrt() + 1e-8)).flatten().tolist()
        updates = rewirer.step()
        shares = {"cosine": fraction(iteration, alpha, 5), "constant": alpha, "linear": alpha * (1 - iteration / 5)}
        share = shares[schedule]
        if iteration in (2, 4) and share > 0:
            count = min(math.ceil(share * connections), size - connections)
            dead = slow_prune(prune, weight, active, count, 0.4)
            absent = [place for place in range(size) if not active[place]]
            born = sorted(absent, key=lambda place: score[place], reverse=True)[: len(dead)]
            for place in dead:
                active[place] = False
            for place in born:
                active[place] = True
            (update,) = updates
            assert update.births == update.deaths == len(dead)
            assert update.turnover == len(dead) / connections
        else:
            assert updates == []
        assert layer.mask.flatten().tolist() == active
        assert layer.connections == connections
        assert torch.isfinite(layer.weight).all()
        assert (layer.weight[~layer.mask] == 0).all()
        # What is exported is the weight itself.
        assert torch.equal(task.model.state_dict()["0.weight"], layer.weight)
        assert torch.equal(task.module.bias, task.model.state_dict()["0.bias"])


@pytest.mark.parametrize("growth", ["momentum", "random"])
def test_both_signs_survive_pruning_per_sign(growth):
    """With the rule of a program in use, an annealed rate wipes out the negative weights."""
    task = Noise((60, 50), "Adam")
    rewirer = Rewirer(
        task.model,
        task.optimizer,
        density=0.3,
        layers="all",
        end=400,
        alpha=0.5,
        update_every=10,
        prune="per_sign",
        growth={growth: 1},
    )
    shares = []
    for _ in range(400):
        task.learn()
        shares += [update.positive_share for update in rewirer.step()]
    assert len(shares) == 39
    assert all(0.4 < share < 0.6 for share in shares)
    assert rewirer.layers[0].connections == 900


def test_momentum_growth_with_sgd_leaves_the_first_mask_behind():
    """Masking the momentum buffer, as a program in use does, would let only the just pruned return."""
    task = Task(inputs=20, hidden=20, optimiser="SGD")
    rewirer = task.rewirer(density=0.1, alpha=0.5, end=400, update_every=5, growth={"momentum": 1})
    first = rewirer.layers[0].mask.clone()
    for _ in range(400):
        task.learn()
        rewirer.step()
    assert int((rewirer.layers[0].mask & first).sum()) < 0.7 * int(first.sum())
    assert rewirer.layers[0].explored > 0.2


def test_epsilon_may_stand_for_the_density():
    task = Task(inputs=20, hidden=30)
    rewirer = task.rewirer(density=None, epsilon=2)
    assert rewirer.layers[0].connections == 2 * (20 + 30)


def test_only_weights_of_named_layers_are_touched():
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    others = {name: value.clone() for name, value in model.named_parameters() if name not in ("0.weight", "3.weight")}
    rewirer = Rewirer(model, optimizer, density=0.2, distribution="erk", layers="all", end=9, update_every=1)
    for name, value in others.items():
        assert torch.equal(model.get_parameter(name), value)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(5, 2, 5, 5)).square().sum().backward()
        optimizer.step()
        before = {name: model.get_parameter(name).clone() for name in others}
        rewirer.step()
        assert all(torch.equal(model.get_parameter(name), value) for name, value in before.items())
    assert [layer.name for layer in rewirer.layers] == ["0", "3"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 1.2}, r"alpha: 1\.2 is out of range; allowed: 0 to 1"),
        ({"update_every": 0}, "update_every: 0 is out of range; allowed: 1 and above"),
        ({"growth": {"random": 0.0}}, r"growth\.random: share 0\.0 is out of range"),
        ({"schedule": "cosin"}, r"schedule 'cosin' is unknown; did you mean 'cosine'\?"),
        ({"distribution": "erdos"}, r"distribution 'erdos' is unknown; did you mean 'erdos_renyi'\?"),
        ({"epsilon": 3}, "are mutually exclusive"),
    ],
)
def test_setting_out_of_range_is_refused(change, message):
    with pytest.raises(BadInput, match=message):
        Task().rewirer(**change)


@pytest.mark.parametrize("change", [{}, {"growth": {"random": 1.0}, "redistribution": "momentum"}])
def test_momentum_that_the_optimiser_will_not_keep_is_refused_at_once(change):
    model = nn.Sequential(nn.Linear(8, 6))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    settings = {"density": 0.4, "layers": ["0"], "end": 100, "update_every": 2}
    with pytest.raises(BadInput, match="SGD keeps no momentum for layer '0'; use Adam, AdamW, SGD with momentum"):
        Rewirer(model, optimizer, **settings | change)
    Rewirer(model, optimizer, **settings | {"growth": {"gradient": 1.0}})
    Rewirer(model, optimizer, **settings | change | {"end": 0})  # a structure that stays asks for no momentum


def test_penalty_is_nothing():
    assert Task().rewirer().penalty() == 0
