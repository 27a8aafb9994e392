"""Losses against loops over single numbers, and how a recipe chooses one."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esl_neuro.errors import BadInput
from esl_neuro.recipes.sections import TrainingSection
from esl_neuro.snn.temporal import NO_SPIKE, temporal_loss
from esl_neuro.training.losses import LOSSES, first_spike, make_loss, mean_cross_entropy, rate_mse, tet


def scalar_tet(outputs, labels):
    total = 0.0
    for step in outputs.tolist():
        for values, label in zip(step, labels, strict=True):
            largest = max(values)
            total += largest + math.log(sum(math.exp(value - largest) for value in values)) - values[label]
    return total / (len(outputs) * len(labels))


@given(steps=st.integers(1, 6), batch=st.integers(1, 5), classes=st.integers(1, 7), seed=st.integers(0, 10**6))
def test_tet_is_the_cross_entropy_of_every_step_averaged(steps, batch, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(steps, batch, classes, generator=generator, dtype=torch.float64) * 3
    labels = torch.randint(classes, (batch,), generator=generator)
    assert tet(outputs, labels).item() == pytest.approx(scalar_tet(outputs, labels.tolist()), abs=1e-12)


def test_silent_outputs_cost_the_log_of_the_classes():
    assert tet(torch.zeros(4, 3, 10), torch.tensor([1, 2, 3])).item() == pytest.approx(math.log(10))


def test_each_sample_keeps_its_own_label():
    outputs = torch.zeros(5, 2, 2)
    outputs[:, 0, 0] = outputs[:, 1, 1] = 50.0
    assert tet(outputs, torch.tensor([0, 1])).item() < 1e-6
    assert tet(outputs, torch.tensor([1, 0])).item() == pytest.approx(50)


def test_loss_is_not_that_of_the_mean_output():
    outputs = torch.tensor([[[4.0, 0.0]], [[0.0, 4.0]]])  # the mean cannot tell; every single step is half wrong
    loss = tet(outputs, torch.tensor([0])).item()
    assert loss == pytest.approx((math.log(1 + math.exp(-4)) + math.log(1 + math.exp(4))) / 2)
    assert loss > math.log(2) + 1


def test_the_second_term_of_tet_draws_all_outputs_to_a_level():
    outputs = torch.tensor([[[1.0, 4.0]], [[2.0, 0.0]]])
    squares = ((1 - 3) ** 2 + (4 - 3) ** 2 + (2 - 3) ** 2 + (0 - 3) ** 2) / 4
    expected = 0.75 * tet(outputs, torch.tensor([1])).item() + 0.25 * squares
    assert tet(outputs, torch.tensor([1]), mse_share=0.25, level=3.0).item() == pytest.approx(expected)


def test_mean_cross_entropy_averages_before_the_softmax():
    outputs = torch.tensor([[[2.0, 0.0]], [[0.0, 4.0]]])
    expected = math.log(math.exp(1) + math.exp(2)) - 2
    assert mean_cross_entropy(outputs, torch.tensor([1])).item() == pytest.approx(expected)


def test_rate_mse_compares_firing_rates_with_the_class():
    spikes = torch.tensor([[[1.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]], [[1.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]]])
    expected = ((1 - 1) ** 2 + 0.25**2 + 0.25**2) / 3
    assert rate_mse(spikes, torch.tensor([0])).item() == pytest.approx(expected)


@given(batch=st.integers(1, 5), classes=st.integers(1, 7), seed=st.integers(0, 10**6))
def test_first_spike_is_the_loss_over_spike_times(batch, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    z = 1 + 20 * torch.rand(batch, classes, generator=generator, dtype=torch.float64)
    z[torch.rand(batch, classes, generator=generator) < 0.2] = NO_SPIKE
    labels = torch.randint(classes, (batch,), generator=generator)
    total = 0.0
    for times, label in zip(z.tolist(), labels.tolist(), strict=True):
        first = min(times)
        total += times[label] - first + math.log(sum(math.exp(first - time) for time in times))
    loss = first_spike(-z[None], labels)
    assert loss.item() == pytest.approx(total / batch, rel=1e-12)
    assert torch.equal(loss, temporal_loss(z, labels))


def section(**values):
    return TrainingSection(epochs=1, batch=1, learning_rate=0.1, seed=0, threads=1, **values)


def example():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 4, 5, generator=generator), torch.randint(5, (4,), generator=generator)


def test_every_loss_is_tested_here():
    assert LOSSES.names() == ["first_spike", "mean_cross_entropy", "rate_mse", "tet"]


@pytest.mark.parametrize("loss", [mean_cross_entropy, rate_mse, first_spike])
def test_recipe_names_its_loss(loss):
    assert torch.equal(make_loss(section(loss=loss.__name__))(*example()), loss(*example()))


@pytest.mark.parametrize("share", [0.0, 0.05, 1.0])
def test_recipe_gives_tet_its_share_of_squares(share):
    outputs, labels = example()
    expected = (1 - share) * scalar_tet(outputs, labels.tolist()) + share * (outputs - 1).square().mean().item()
    assert make_loss(section(tet_lambda=share))(outputs, labels).item() == pytest.approx(expected, rel=1e-5)


def test_unknown_loss_gets_the_nearest_spelling():
    with pytest.raises(BadInput, match=r"loss 'rate_mes' is unknown; did you mean 'rate_mse'\?"):
        make_loss(section(loss="rate_mes"))
