"""The compiled LIF is the one written in torch."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.neuron_major import empty_signal, is_neuron_major
from esl_neuro.snn import functional, kernels
from esl_neuro.snn.functional import arctan, lif, triangle

SHAPES = [((5,), (5,)), ((5,), (1,)), ((3, 2, 4), (3, 1, 1)), ((3, 2, 4), (3, 2, 4)), ((3, 2, 4), ())]


def in_torch(currents, tau, threshold, surrogate, width):
    return functional._LIF.apply(currents, tau, threshold, surrogate, width)


def passes(neuron, currents, tau, threshold, surrogate, width, errors):
    """Spikes, and the gradients of currents and thresholds."""
    currents, threshold = currents.clone().requires_grad_(), threshold.clone().requires_grad_()
    spikes = neuron(currents, tau, threshold, surrogate, width)
    (spikes * errors).sum().backward()
    return spikes.detach(), currents.grad, threshold.grad


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.sampled_from(SHAPES),
    steps=st.integers(1, 6),
    batch=st.integers(1, 4),
    tau=st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]),
    surrogate=st.sampled_from([triangle, arctan]),
    width=st.sampled_from([0.5, 1.0, 3.0]),
    one_row_per_neuron=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)
def test_spikes_and_gradients_are_those_of_torch(shapes, steps, batch, tau, surrogate, width, one_row_per_neuron, seed):
    generator = torch.Generator().manual_seed(seed)
    currents = torch.randn(steps, batch, *shapes[0], generator=generator, dtype=torch.float64)
    if one_row_per_neuron and len(shapes[0]) == 1:
        currents = empty_signal((steps, batch), *shapes[0], currents.dtype).copy_(currents)
    threshold = torch.rand(shapes[1], generator=generator, dtype=torch.float64) + 0.1
    errors = torch.randn(currents.shape, generator=generator, dtype=torch.float64)
    ours = passes(lif, currents, tau, threshold, surrogate, width, errors)
    for one, other in zip(ours, passes(in_torch, currents, tau, threshold, surrogate, width, errors), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_float32_spikes_are_equal_bit_for_bit(tau):
    currents, threshold = torch.randn(7, 33, 50), torch.rand(50) + 0.2
    assert torch.equal(lif(currents, tau, threshold, arctan, 1.0), in_torch(currents, tau, threshold, arctan, 1.0))


def test_number_of_threads_changes_nothing():
    currents, threshold, errors = torch.randn(4, 16, 40), torch.rand(40) + 0.2, torch.randn(4, 16, 40)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(passes(lif, currents, 0.5, threshold, arctan, 1.0, errors)[:2])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.parametrize("one_row_per_neuron", [False, True])
def test_constant_signal_and_its_copies_give_the_same(one_row_per_neuron):
    once, threshold = torch.randn(6, 9), torch.rand(9) + 0.2
    if one_row_per_neuron:
        once = empty_signal((1, 6), 9, once.dtype).copy_(once)[0]
    repeated = once.expand(5, 6, 9)
    assert torch.equal(lif(repeated, 0.5, threshold, arctan, 1.0), lif(repeated.clone(), 0.5, threshold, arctan, 1.0))


def test_without_gradients_the_potentials_take_the_memory_of_one_step(monkeypatch):
    seen = []
    forward = kernels._forward
    monkeypatch.setattr(kernels, "_forward", lambda *arrays: (seen.append(arrays[4].shape), forward(*arrays)))
    with torch.no_grad():
        lif(torch.randn(5, 2, 3), 0.5, torch.ones(3), arctan, 1.0)
    lif(torch.randn(5, 2, 3, requires_grad=True), 0.5, torch.ones(3), arctan, 1.0)
    assert seen == [(1, 2, 3), (5, 2, 3)]


def test_spikes_of_rows_of_neurons_are_rows_of_neurons_and_equal_bit_for_bit():
    currents, threshold = torch.randn(4, 6, 9), torch.rand(9) + 0.2
    rows = empty_signal((4, 6), 9, currents.dtype).copy_(currents)
    for context in (torch.no_grad(), torch.enable_grad()):
        with context:
            spikes = lif(rows.requires_grad_(), 0.5, threshold, arctan, 1.0)
        assert is_neuron_major(spikes)
        assert torch.equal(spikes, lif(currents, 0.5, threshold, arctan, 1.0))


def test_no_steps_and_no_samples_are_no_problem():
    for shape in ((0, 2, 3), (4, 0, 3)):
        assert lif(torch.zeros(shape), 0.5, torch.ones(3), arctan, 1.0).shape == shape


def test_threshold_that_is_not_learned_gets_no_gradient():
    currents, threshold = torch.randn(4, 2, 3, requires_grad=True), torch.ones(3)
    lif(currents, 0.5, threshold, triangle, 1.0).sum().backward()
    assert threshold.grad is None
    assert currents.grad.abs().sum() > 0


def test_surrogate_of_the_users_own_runs_in_torch():
    def mine(distance, width):
        return torch.exp(-distance.abs() / width)

    currents, threshold, errors = torch.randn(4, 2, 3).double(), torch.rand(3).double(), torch.randn(4, 2, 3).double()
    ours = passes(lif, currents, 0.5, threshold, mine, 1.0, errors)
    theirs = passes(in_torch, currents, 0.5, threshold, mine, 1.0, errors)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_width_of_the_arctan_is_that_of_its_docstring():
    currents = torch.tensor([[[1.3]]], dtype=torch.float64, requires_grad=True)
    lif(currents, 0.5, torch.ones(1, dtype=torch.float64), arctan, 2.0).sum().backward()
    assert currents.grad.item() == pytest.approx(1 / (1 + (math.pi * 0.3 / 2) ** 2))


def test_kernels_work_where_nothing_can_be_kept_on_disk(tmp_path):
    script = (
        "import numba.core.caching as c\n"
        "c.CacheImpl._locator_classes = []\n"
        "import torch; from esl_neuro.snn.functional import lif, arctan\n"
        "print(int(lif(torch.ones(3, 1, 2), 0.5, torch.ones(2), arctan, 1.0).sum()))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "2\n"
