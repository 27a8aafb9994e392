"""The neuron of the chip: compiled, in torch, and in the simulator it is the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.backends.integer import GroupConstants, lif_step
from esl_neuro.compiler.program import Group
from esl_neuro.resets import RESETS
from esl_neuro.snn.functional import SURROGATES
from esl_neuro.snn.integer import LayerConstants, integer_lif, integer_readout, run_compiled, run_in_torch

ONE = torch.ones((), dtype=torch.float64)


def constants(rng, du, dv, shape, largest_threshold=2**17, largest_bias=2**12, reset="zero"):
    """Random constants, and the group that has them."""
    vth, mantissa = rng.integers(0, largest_threshold, shape), rng.integers(-largest_bias, largest_bias, shape)
    vth, mantissa = np.minimum(vth, 2**17 - 1), np.clip(mantissa, -4095, 4095)
    size = vth.size
    group = Group(
        "lif", np.full(size, du), np.full(size, dv), vth.ravel(), mantissa.ravel(), np.full(size, 3), scale=1.0
    )
    tensors = (torch.from_numpy(values.astype(np.float64)) for values in (vth, mantissa * 8))
    if reset != "zero":
        kept = 4096 - dv if reset == "subtract_next_step" else 4096
        subtracted = np.minimum(np.rint((group.vth << 6) * 4096 / kept), 2**23 - 1)
        group = replace(group, reset_by=subtracted.astype(np.int64))
    return LayerConstants(float(4095 - du), float(4096 - dv), *tensors, scale=ONE * 100, reset=reset), group


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31 - 1),
    du=st.sampled_from([-1, 0, 1, 1000, 4095]),
    dv=st.sampled_from([0, 1, 410, 2048, 4095]),
    shape=st.sampled_from([(5,), (2, 3, 2)]),
    largest=st.sampled_from([1, 100, 10**4, 2**17 - 1, 2**24]),
    reset=st.sampled_from(RESETS),
)
def test_spikes_and_potentials_are_those_of_the_simulator(seed, du, dv, shape, largest, reset):
    rng = np.random.default_rng(seed)
    numbers, group = constants(rng, du, dv, shape, largest_threshold=min(2**17, 4 * largest), reset=reset)
    sums = torch.from_numpy(rng.integers(-largest, largest + 1, (8, 3, *shape)).astype(np.float64))
    forms = []
    for run in (run_compiled, run_in_torch):
        spikes, charged = torch.empty(sums.shape), torch.empty(sums.shape)
        run(sums, numbers, ONE, spikes, charged)
        forms.append((spikes.flatten(2).numpy(), charged.flatten(2).numpy()))
    u = v = np.zeros((group.neurons, 3), np.int64)
    for step, arriving in enumerate(sums.flatten(2).numpy().astype(np.int64)):
        u, v, fired = lif_step(u, v, arriving.T, GroupConstants.of(group))
        for spikes, charged in forms:
            assert np.array_equal(spikes[step].T, fired)
            after = 0 if group.reset_by is None else charged[step].T - group.reset_by[:, None]
            assert np.array_equal(np.where(fired, after, charged[step].T), v)
    assert np.array_equal(forms[0][1], forms[1][1])


def test_edges_of_the_range_wrap_and_saturate_as_in_the_simulator():
    edge = 2**17  # the sum that is 2**23 in u
    sums = torch.tensor([-edge - 1, -edge, -edge + 1, edge - 1, edge, edge + 1, -3 * edge, 3 * edge]).double()
    for dv, bias in ((0, 0), (2048, -4095), (4095, 4095)):
        group = Group("lif", *(np.full(8, value) for value in (4095, dv, 2**17 - 1, bias, 7)), scale=1.0)
        numbers = LayerConstants(0.0, 4096.0 - dv, torch.tensor(2.0**17 - 1), torch.tensor(bias * 128.0), scale=ONE)
        for run in (run_compiled, run_in_torch):
            spikes, charged = torch.empty(4, 1, 8), torch.empty(4, 1, 8)
            run(sums.expand(4, 1, 8), numbers, ONE, spikes, charged)
            u = v = np.zeros((8, 1), np.int64)
            for step in range(4):
                u, v, fired = lif_step(u, v, sums.numpy().astype(np.int64)[:, None], GroupConstants.of(group))
                assert np.array_equal(spikes[step].numpy().T, fired)
                assert np.array_equal(np.where(fired, 0, charged[step].numpy().T), v)


def test_without_gradients_the_potentials_take_the_memory_of_one_step():
    numbers, _ = constants(np.random.default_rng(0), 4095, 2048, (5,))
    sums = torch.randint(-500, 500, (4, 2, 5)).float()
    full, kept = torch.empty(4, 2, 5), torch.empty(1, 2, 5)
    for charged in (full, kept):
        spikes = torch.empty(4, 2, 5)
        run_compiled(sums, numbers, ONE, spikes, charged)
    assert torch.equal(full[-1:], kept)


def test_number_of_threads_changes_nothing():
    numbers, _ = constants(np.random.default_rng(0), 1000, 410, (40,), largest_threshold=2000)
    sums, before, results = torch.randint(-2000, 2000, (6, 16, 40)).float(), torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            spikes, charged = torch.empty(sums.shape), torch.empty(sums.shape)
            run_compiled(sums, numbers, ONE, spikes, charged)
            results.append((spikes, charged))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_compiled_and_torch_gradients_are_the_same():
    """A surrogate that the compiled kernels do not know runs the same equations in torch."""
    known, numbers = SURROGATES["arctan"], constants(np.random.default_rng(0), 1000, 410, (40,), 300, 10)[0]
    sums, errors = torch.randint(-200, 200, (6, 4, 40)).float(), torch.randn(6, 4, 40)
    gradients = []
    for surrogate in (known, lambda distance, width: known(distance, width)):
        leaves = sums.clone().requires_grad_(), torch.ones(40, requires_grad=True), torch.ones(40, requires_grad=True)
        (integer_lif(*leaves, numbers, surrogate, 1.0) * errors).sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        assert one.abs().sum() > 0


def test_changes_of_a_readout_add_up_to_its_potential_exactly():
    numbers = LayerConstants(
        0.0, 4096.0, torch.tensor(131071.0).double(), torch.tensor(24.0).double(), scale=ONE * 123.456
    )
    sums = torch.randint(-2000, 2000, (50, 3, 4)).float()
    changes = integer_readout(sums, None, numbers)
    assert torch.equal(changes.sum(0), (sums.double().sum(0) * 64 + 50 * 24) * numbers.unit)
