"""Deep R, soft Deep R, synaptic sampling, Grad R and STDS against their equations written for one number at a time.

All in double precision under random gradients, so that the loops and the tensors agree to rounding.
"""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.random_streams import stream
from esl_neuro.recipes.sections import KINDS, DeepRSection
from esl_neuro.sparsity import LEARNERS, make_learner

RATE = 0.1
SAMPLING = {"mean": 0.2, "deviation": 0.7, "offset": 0.4, "temperature": 0.6, "samples": 2.0}
SHAPE = (4, 5)
SIZE = 20


class Run:
    """A layer of 20 weights, plain SGD or Adam, gradients given from outside."""

    def __init__(self, name, options, optimiser="SGD", seed=0, iterations=40):
        self.generator = torch.Generator().manual_seed(seed)
        self.module = nn.Linear(SHAPE[1], SHAPE[0], bias=False, dtype=torch.float64)
        with torch.no_grad():
            self.module.weight.copy_(torch.randn(SHAPE, generator=self.generator, dtype=torch.float64))
        self.start = self.module.weight.detach().flatten().tolist()
        self.optimizer = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam}[optimiser](
            self.module.parameters(), lr=RATE
        )
        section = KINDS["sparsity"][1][name](learner=name, layers=["all"], **options)
        self.learner = make_learner(
            section, nn.Sequential(self.module), self.optimizer, iterations=iterations, seed=seed
        )
        self.layer = self.learner.layers[0]

    def weights(self):
        return self.layer.weight.detach().flatten().tolist()

    def theta(self):
        return self.learner.theta(self.layer).flatten().tolist()

    def signs(self):
        return self.learner.sign(self.layer).flatten().tolist()

    def step(self):
        """Return the gradient of each weight after one step."""
        gradient = torch.randn(SHAPE, generator=self.generator, dtype=torch.float64)
        self.module.weight.grad = gradient.clone()
        self.optimizer.step()
        self.updates = self.learner.step()
        return gradient.flatten().tolist()


def test_deep_r_follows_its_equations():
    l1, noise = 0.3, 0.5
    run = Run("deep_r", {"density": 0.4, "l1": l1, "noise": noise}, seed=7)
    signs, theta = run.signs(), run.theta()
    assert sum(value > 0 for value in theta) == 8
    assert set(signs) == {-1.0, 1.0}
    reactivated = 0
    for iteration in range(1, 41):
        gradient = run.step()
        walk = iter(stream(7, "noise 0", iteration).standard_normal(8).tolist())
        for place in range(SIZE):
            if theta[place] > 0:
                theta[place] -= RATE * signs[place] * gradient[place] + RATE * l1
                theta[place] += RATE * noise * next(walk)
                if theta[place] <= 0:
                    theta[place] = 0.0
        # Which of the sleeping ones wake is chance; how many, and with which value, is not.
        woken = [place for place in range(SIZE) if theta[place] == 0 and run.theta()[place] > 0]
        assert len(woken) == 8 - sum(value > 0 for value in theta)
        reactivated += len(woken)
        for place in woken:
            theta[place] = 1e-12
        assert run.theta() == pytest.approx(theta, rel=1e-9, abs=1e-15)
        expected = [s * value if value > 0 else 0.0 for s, value in zip(signs, theta, strict=True)]
        assert run.weights() == pytest.approx(expected, rel=1e-9, abs=1e-15)
        assert run.layer.connections == 8
        theta = run.theta()  # no drift between the two programs
    assert reactivated > 10


def test_deep_r_wakes_every_sleeping_connection_with_the_same_chance():
    counts = [0] * SIZE
    for seed in range(200):
        run = Run("deep_r", {"density": 0.5, "l1": 0.0, "noise": 0.0}, seed=seed)
        before = run.theta()
        run.module.weight.grad = run.learner.sign(run.layer) * 1e3  # kills all of them
        run.optimizer.step()
        run.learner.step()
        for place, (old, new) in enumerate(zip(before, run.theta(), strict=True)):
            counts[place] += new > 0
            assert new in (0.0, 1e-12), old
    for count in counts:
        assert abs(count / 200 - 0.5) < 5 * math.sqrt(0.25 / 200)


def test_deep_r_forgets_the_moments_of_what_it_wakes():
    run = Run("deep_r", {"density": 0.4, "l1": 0.3}, "Adam", seed=2)
    woken = 0
    for _ in range(30):
        before = run.layer.mask.clone()
        run.step()
        born = run.layer.mask & ~before
        woken += int(born.sum())
        for key in ("exp_avg", "exp_avg_sq"):
            assert (run.optimizer.state[run.layer.weight][key][born] == 0).all()
            assert (run.optimizer.state[run.layer.weight][key][~run.layer.mask] != 0).all()
    assert woken > 5


def test_a_dormant_connection_has_no_sign():
    """As where a mask writes it: files of equal networks are then equal byte by byte."""
    run = Run("deep_r", {"density": 0.4, "l1": 0.3}, seed=2)
    for _ in range(5):
        dormant = ~run.layer.mask
        assert (run.learner.sign(run.layer)[dormant] < 0).any()
        assert not torch.signbit(run.layer.weight[dormant]).any()
        run.step()


def test_deep_r_starts_weights_of_zero_as_just_woken():
    module = nn.Linear(5, 4, bias=False)
    nn.init.zeros_(module.weight)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    section = DeepRSection(learner="deep_r", layers=["all"], density=0.5)
    learner = make_learner(section, nn.Sequential(module), optimizer, iterations=1, seed=0)
    assert learner.layers[0].connections == int((module.weight != 0).sum()) == 10
    assert module.weight.detach().abs().max().item() == pytest.approx(1e-12)


def test_soft_deep_r_follows_its_equations():
    l1, noise = 0.3, 0.5
    run = Run("soft_deep_r", {"density": 0.4, "l1": l1, "noise": noise}, seed=3)
    floor = -(RATE * noise**2 / 2) * 0.6 / (l1 * 0.4)
    signs, theta = run.signs(), run.theta()
    assert sum(value > 0 for value in theta) == 8
    assert floor <= min(theta)
    births, at_floor = 0, 0
    for iteration in range(1, 41):
        gradient = run.step()
        walk = stream(3, "noise 0", iteration).standard_normal(SHAPE).flatten().tolist()
        for place in range(SIZE):
            active = theta[place] > 0
            if active:
                theta[place] -= RATE * signs[place] * gradient[place] + RATE * l1
            theta[place] = max(theta[place] + RATE * noise * walk[place], floor)
            births += theta[place] > 0 and not active
            at_floor += theta[place] == floor
        assert run.theta() == pytest.approx(theta, rel=1e-9)
        expected = [s * value if value > 0 else 0.0 for s, value in zip(signs, theta, strict=True)]
        assert run.weights() == pytest.approx(expected, rel=1e-9)
    assert births > 5
    assert at_floor > 5


def test_soft_deep_r_starts_its_dormant_connections_anywhere_above_the_floor():
    run = Run("soft_deep_r", {"density": 0.1, "l1": 0.3, "noise": 0.5}, seed=1)
    floor = -(RATE * 0.5**2 / 2) * 0.9 / (0.3 * 0.1)
    dormant = sorted(value for value in run.theta() if value <= 0)
    assert len(dormant) == 18
    assert floor <= dormant[0] < 0.8 * floor
    assert 0.2 * floor < dormant[-1] <= 0
    active = [abs(weight) for weight in run.weights() if weight]
    assert active == [value for value in run.theta() if value > 0]


@pytest.mark.parametrize("name", ["deep_r", "soft_deep_r"])
def test_signs_are_drawn_evenly_for_each_seed(name):
    drawn = [Run(name, {"density": 0.5, "l1": 0.1, "noise": 0.1}, seed=seed).signs() for seed in range(40)]
    assert {value for signs in drawn for value in signs} == {-1.0, 1.0}
    assert abs(sum(map(sum, drawn))) < 5 * math.sqrt(40 * SIZE)
    assert drawn[0] != drawn[1]


def test_soft_deep_r_needs_its_l1():
    model = nn.Linear(5, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(BadInput, match=r"sparsity\.l1: 0\.0"):
        LEARNERS["soft_deep_r"](nn.Sequential(model), optimizer, layers="all", iterations=1, density=0.4, l1=0.0)


@pytest.mark.parametrize("temperature", [0.6, 0.0])
def test_synaptic_sampling_follows_its_equation(temperature):
    """``b dt = eta / N``; the likelihood's gradient is that of ``-L`` through ``w = s exp(theta - theta0)``."""
    run = Run("synaptic_sampling", SAMPLING | {"temperature": temperature}, seed=3)
    first = stream(3, "prior 0", 0).standard_normal(SHAPE).flatten().tolist()
    theta, signs = [0.2 + 0.7 * value for value in first], run.signs()
    assert run.theta() == pytest.approx(theta, rel=1e-12)
    b_dt = RATE / 2
    births = deaths = 0
    for iteration in range(1, 41):
        gradient = run.step()
        walk = stream(3, "noise 0", iteration).standard_normal(SHAPE).flatten().tolist()
        for place in range(SIZE):
            before = theta[place]
            slope = signs[place] * math.exp(before - 0.4) if before > 0 else 0.0  # dw/dtheta
            log_prior, log_likelihood = (0.2 - before) / 0.7**2, -gradient[place] * slope
            theta[place] += b_dt * (log_prior + 2 * log_likelihood) + math.sqrt(2 * b_dt * temperature) * walk[place]
            births += before <= 0 < theta[place]
            deaths += theta[place] <= 0 < before
        assert run.theta() == pytest.approx(theta, rel=1e-9)
        expected = [s * math.exp(value - 0.4) if value > 0 else 0.0 for s, value in zip(signs, theta, strict=True)]
        assert run.weights() == pytest.approx(expected, rel=1e-9)
        assert run.layer.mask.flatten().tolist() == [value > 0 for value in theta]
    assert births > 3
    assert deaths > 3


@pytest.mark.parametrize(("mean", "temperature"), [(0.5, 1.0), (-0.4, 0.25)])
def test_synaptic_sampling_without_data_samples_its_prior(mean, temperature):
    """Euler's steps widen the variance ``T sigma**2`` by ``1 / (1 - b dt / (2 sigma**2))``."""
    deviation, samples = 0.8, 2.0
    module = nn.Linear(60, 50, bias=False, dtype=torch.float64)
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE)
    options = {"mean": mean, "deviation": deviation, "temperature": temperature, "samples": samples}
    learner = LEARNERS["synaptic_sampling"](nn.Sequential(module), optimizer, layers="all", iterations=1, **options)
    (layer,) = learner.layers
    with torch.no_grad():
        learner.theta(layer).fill_(3.0)  # far away
        learner.write(layer)
    for _ in range(120):
        module.weight.grad = torch.zeros_like(module.weight)
        optimizer.step()
        learner.step()
    pull = RATE / samples / deviation**2
    spread = deviation * math.sqrt(temperature / (1 - pull / 2))
    theta = learner.theta(layer).flatten().numpy()
    assert stats.kstest(theta, stats.norm(mean, spread).cdf).pvalue > 0.01
    share = stats.norm.cdf(mean / spread)
    assert layer.density == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / theta.size))


def test_synaptic_sampling_starts_in_its_prior_with_what_was_active():
    module = nn.Linear(100, 80, bias=False)
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE)
    learner = LEARNERS["synaptic_sampling"](nn.Sequential(module), optimizer, layers="all", iterations=1, seed=5)
    (layer,) = learner.layers
    assert stats.kstest(learner.theta(layer).flatten().numpy(), stats.norm(0.5, 1).cdf).pvalue > 0.01
    assert torch.equal(layer.ever_active, layer.mask)
    assert float(layer.weight.detach().abs()[layer.mask].min()) >= math.exp(-3)


def test_synaptic_sampling_forgets_the_moments_of_what_is_born():
    run = Run("synaptic_sampling", SAMPLING, "Adam", seed=2)
    births = 0
    for _ in range(30):
        before = run.layer.mask.clone()
        run.step()
        born = run.layer.mask & ~before
        births += int(born.sum())
        for key in ("exp_avg", "exp_avg_sq"):
            assert (run.optimizer.state[run.layer.weight][key][born] == 0).all()
    assert births > 5


def test_a_step_that_overshoots_the_prior_is_refused():
    module = nn.Linear(5, 4)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    more = {"layers": "all", "iterations": 1, "samples": 1.0}
    LEARNERS["synaptic_sampling"](nn.Sequential(module), optimizer, deviation=0.5, **more)
    with pytest.raises(
        BadInput, match=r"a step moves '0' by 10 of the way to the mean of its prior; allowed: at most 1"
    ):
        LEARNERS["synaptic_sampling"](nn.Sequential(module), optimizer, deviation=0.1, **more)


@pytest.mark.parametrize("optimiser", ["SGD", "Adam"])
def test_grad_r_follows_its_equations(optimiser):
    alpha, density = 0.1, 0.2
    run = Run("grad_r", {"density": density, "penalty": alpha}, optimiser, seed=5)
    centre = math.log(2 * (1 - (1 - density))) / alpha
    theta = [abs(value) for value in run.start]
    signs = [math.copysign(1, value) for value in run.start]
    assert run.weights() == run.start
    first, second = [0.0] * SIZE, [0.0] * SIZE
    crossed = returned = 0
    for t in range(1, 41):
        gradient = run.step()
        for place, g in enumerate(gradient):
            before = theta[place]
            rate, descent = RATE, g
            if optimiser == "Adam":
                first[place] = 0.9 * first[place] + 0.1 * g
                second[place] = 0.999 * second[place] + 0.001 * g * g
                rate = RATE / (1 - 0.9**t)
                descent = first[place] / (math.sqrt(second[place] / (1 - 0.999**t)) + 1e-8)
            theta[place] -= rate * signs[place] * descent + rate * alpha * math.copysign(1, before - centre)
            crossed += before > 0 >= theta[place]
            returned += before <= 0 < theta[place]
        assert run.theta() == pytest.approx(theta, rel=1e-9, abs=1e-12)
        expected = [s * max(value, 0) for s, value in zip(signs, theta, strict=True)]
        assert run.weights() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert crossed > 3
    assert returned > 0


def test_grad_r_with_zero_gradient_rests_at_the_centre_of_its_prior():
    run = Run("grad_r", {"density": 0.3, "penalty": 1.0})
    for _ in range(100):
        run.module.weight.grad = torch.zeros(SHAPE, dtype=torch.float64)
        run.optimizer.step()
        run.learner.step()
    assert run.theta() == pytest.approx([math.log(0.6)] * SIZE, abs=RATE)
    assert run.layer.connections == 0


@pytest.mark.parametrize("density", [0.0, 0.500001, -0.1])
def test_the_prior_of_grad_r_has_a_centre_below_zero(density):
    model = nn.Sequential(nn.Linear(5, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(
        BadInput, match=rf"density: {density} is out of range for 'grad_r'; allowed: above 0 up to 0\.5"
    ):
        LEARNERS["grad_r"](model, optimizer, layers="all", iterations=1, density=density)
    assert LEARNERS["grad_r"](model, optimizer, layers="all", iterations=1, density=0.5).centre == 0


@pytest.mark.parametrize("rise", ["sine", "linear"])
def test_stds_follows_its_equations(rise):
    run = Run("stds", {"width": 0.8, "rise": rise, "end": 0.75}, seed=1)
    theta = list(run.start)
    assert run.weights() == run.start
    for n in range(1, 41):
        gradient = run.step()
        progress = min(n / 30, 1.0)
        width = 0.8 * ((1 + math.sin(math.pi * (progress - 0.5))) / 2 if rise == "sine" else progress)
        theta = [value - RATE * g for value, g in zip(theta, gradient, strict=True)]
        expected = [math.copysign(max(abs(value) - width, 0), value) for value in theta]
        assert run.theta() == pytest.approx(theta, rel=1e-9)
        assert run.weights() == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert run.layer.mask.flatten().tolist() == [value != 0 for value in expected]
    assert 0 < run.layer.connections < SIZE


def test_stds_prunes_at_once_without_a_rise():
    run = Run("stds", {"width": 0.5, "end": 0.0})
    expected = [math.copysign(max(abs(value) - 0.5, 0), value) for value in run.start]
    assert run.weights() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("deep_r", {"density": 0.4, "l1": 0.3}),
        ("soft_deep_r", {"density": 0.4, "l1": 0.3, "noise": 0.5}),
        ("synaptic_sampling", SAMPLING),
        ("grad_r", {"penalty": 0.3}),
        ("stds", {"width": 0.8}),
    ],
)
def test_reports_cover_everything_since_the_last_one(name, options):
    run = Run(name, options, iterations=300)
    before = run.layer.mask.clone()
    for iteration in range(1, 301):
        run.step()
        if iteration % 100:
            assert run.updates == []
            continue
        (update,) = run.updates
        assert update.iteration == iteration
        assert update.births == int((run.layer.mask & ~before).sum())
        assert update.deaths == int((before & ~run.layer.mask).sum())
        before = run.layer.mask.clone()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("deep_r", {"density": 0.4, "l1": 0.3, "noise": 0.1}),
        ("soft_deep_r", {"density": 0.4, "l1": 0.3, "noise": 0.5}),
        ("synaptic_sampling", SAMPLING),
        ("grad_r", {"penalty": 0.3}),
        ("stds", {"width": 0.8}),
    ],
)
def test_state_that_was_saved_continues_with_the_same_weights(name, options):
    run, other = Run(name, options, seed=1), Run(name, options, seed=1)
    for _ in range(7):
        run.step()
    assert run.weights() != other.weights()
    other.learner.load_state_dict({key: value.clone() for key, value in run.learner.state_dict().items()})
    assert other.learner.iteration == 7
    assert (other.weights(), other.theta()) == (run.weights(), run.theta())
    assert torch.equal(other.layer.mask, run.layer.mask)
    assert torch.equal(other.layer.ever_active, run.layer.ever_active)
    gradient = torch.ones(SHAPE, dtype=torch.float64)
    for each in (run, other):
        each.module.weight.grad = gradient.clone()
        each.optimizer.step()
        each.learner.step()
    assert other.weights() == run.weights()
