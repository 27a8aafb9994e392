"""The TET loss against a loop over single numbers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esl_neuro.training.losses import tet_loss


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
    assert tet_loss(outputs, labels).item() == pytest.approx(scalar_tet(outputs, labels.tolist()), abs=1e-12)


def test_silent_outputs_cost_the_log_of_the_classes():
    assert tet_loss(torch.zeros(4, 3, 10), torch.tensor([1, 2, 3])).item() == pytest.approx(math.log(10))


def test_each_sample_keeps_its_own_label():
    outputs = torch.zeros(5, 2, 2)
    outputs[:, 0, 0] = outputs[:, 1, 1] = 50.0
    assert tet_loss(outputs, torch.tensor([0, 1])).item() < 1e-6
    assert tet_loss(outputs, torch.tensor([1, 0])).item() == pytest.approx(50)


def test_loss_is_not_that_of_the_mean_output():
    outputs = torch.tensor([[[4.0, 0.0]], [[0.0, 4.0]]])  # the mean cannot tell; every single step is half wrong
    loss = tet_loss(outputs, torch.tensor([0])).item()
    assert loss == pytest.approx((math.log(1 + math.exp(-4)) + math.log(1 + math.exp(4))) / 2)
    assert loss > math.log(2) + 1
