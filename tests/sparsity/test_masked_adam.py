"""Adam that masks: torch's results, exact zeros, torch's state."""

from __future__ import annotations

import copy

import numba
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from esl_neuro.sparsity import MaskedAdam, MaskedAdamW, Rewirer
from esl_neuro.sparsity.masked_adam import CHUNK, keep_sparse
from esl_neuro.sparsity.masks import SparseLayer

PAIRS = [(MaskedAdam, torch.optim.Adam), (MaskedAdamW, torch.optim.AdamW)]


def weights(shapes, seed=0, dtype=torch.float32):
    rng = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=rng, dtype=dtype)) for shape in shapes]


def draw_gradients(parameters, seed):
    rng = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=rng, dtype=torch.float64).to(parameter.dtype)


def train(optimizer, parameters, steps, first=0):
    for step in range(first, first + steps):
        draw_gradients(parameters, step)
        optimizer.step()


def sparse(weight, density=0.3, seed=1):
    mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed)) < density
    return SparseLayer("layer", weight, mask, mask.clone())


def assert_equal_state(optimizer, other):
    for state, expected in zip(
        optimizer.state_dict()["state"].values(), other.state_dict()["state"].values(), strict=True
    ):
        assert state.keys() == expected.keys()
        for name in state:
            assert torch.equal(state[name], expected[name]), name


@pytest.mark.parametrize(("ours", "reference"), PAIRS)
@settings(max_examples=40, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(1, 16), min_size=0, max_size=3).map(tuple), min_size=1, max_size=3),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    betas=st.tuples(st.floats(0, 0.95), st.floats(0.95, 0.9999)),
    eps=st.sampled_from([1e-8, 1e-3]),
    weight_decay=st.sampled_from([0.0, 0.01, 0.5]),
    rates=st.lists(st.sampled_from([1e-4, 1e-3, 0.02]), min_size=30, max_size=30),
)
def test_without_a_mask_it_is_torchs_own(ours, reference, shapes, dtype, betas, eps, weight_decay, rates):
    options = {"betas": betas, "eps": eps, "weight_decay": weight_decay}
    mine, theirs = weights(shapes, dtype=dtype), weights(shapes, dtype=dtype)
    optimizers = ours(mine, **options), reference(theirs, **options)
    for step, rate in enumerate(rates):
        for optimizer, parameters in zip(optimizers, (mine, theirs), strict=True):
            optimizer.param_groups[0]["lr"] = rate
            train(optimizer, parameters, 1, first=step)
    # Both round every operation; single precision resolves 6e-8 of a weight near 1.
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
        for name, moment in optimizers[1].state[other].items():
            torch.testing.assert_close(optimizers[0].state[one][name], moment, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("ours", "reference"), PAIRS)
def test_with_a_mask_it_is_torchs_step_and_the_mask(ours, reference):
    (mine, free), (theirs, other_free) = weights([(50, 70), (33,)]), weights([(50, 70), (33,)])
    layer, expected = sparse(mine), sparse(theirs)
    optimizer = ours([mine, free], lr=0.01, weight_decay=0.1)
    reference_optimizer = reference([theirs, other_free], lr=0.01, weight_decay=0.1)
    assert keep_sparse(optimizer, [layer]) == []
    for step in range(20):
        train(optimizer, [mine, free], 1, first=step)
        train(reference_optimizer, [theirs, other_free], 1, first=step)
        expected.apply_mask()
        assert torch.count_nonzero(mine[~layer.mask]) == 0
        if step == 10:
            for changing in (layer.mask, expected.mask):
                changing[:10] = ~changing[:10]
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(free, other_free, rtol=1e-5, atol=1e-6)
    moment = optimizer.state[mine]["exp_avg"]
    assert torch.count_nonzero(moment[~layer.mask]) == torch.count_nonzero(~layer.mask)  # never masked


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", ["weight", "gradient"])
def test_zeros_replace_whatever_stood_there(value, where):
    (weight,) = weights([(CHUNK // 8, 17)])
    layer, optimizer = sparse(weight), MaskedAdam([weight])
    keep_sparse(optimizer, [layer])
    draw_gradients([weight], 0)
    target = weight.data if where == "weight" else weight.grad
    target[~layer.mask] = value
    optimizer.step()
    assert torch.count_nonzero(weight[~layer.mask]) == 0
    assert torch.isfinite(weight).all()


def test_a_weight_without_gradient_is_masked_and_otherwise_left_alone():
    first, second = weights([(4, 5), (3,)])
    layer, optimizer = sparse(first), MaskedAdam([first, second])
    keep_sparse(optimizer, [layer])
    before = first.detach().clone(), second.detach().clone()
    optimizer.step()
    assert torch.equal(first, torch.where(layer.mask, before[0], 0.0))
    assert torch.equal(second, before[1])
    assert not optimizer.state


@pytest.mark.parametrize(("ours", "reference"), PAIRS)
def test_groups_have_their_own_settings(ours, reference):
    shapes = [(5, 7), (6,)]
    mine, theirs = weights(shapes), weights(shapes)
    for make, parameters in ((ours, mine), (reference, theirs)):
        groups = [{"params": parameters[:1], "lr": 0.1}, {"params": parameters[1:], "weight_decay": 0.3, "eps": 0.1}]
        train(make(groups, lr=0.02), parameters, 10)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [MaskedAdam, MaskedAdamW])
@pytest.mark.parametrize(
    "form",
    [
        lambda t: t.to(torch.bfloat16),
        lambda t: t.t(),
        lambda t: t[:, :, None, None].to(memory_format=torch.channels_last),
    ],
    ids=["bfloat16", "transposed", "channels last"],
)
def test_what_the_pass_cannot_take_goes_through_torch(make, form):
    reference = dict(PAIRS)[make]
    mine, theirs = (nn.Parameter(form(torch.linspace(-1, 1, 40).reshape(5, 8).clone())) for _ in range(2))
    layer, expected = sparse(mine), sparse(theirs)
    optimizer, reference_optimizer = make([mine], weight_decay=0.1), reference([theirs], weight_decay=0.1)
    keep_sparse(optimizer, [layer])
    for step in range(5):
        train(optimizer, [mine], 1, first=step)
        train(reference_optimizer, [theirs], 1, first=step)
        expected.apply_mask()
    assert torch.equal(mine, theirs)


@pytest.mark.parametrize(("ours", "reference"), PAIRS)
def test_state_goes_to_torch_and_back(ours, reference):
    (mine,), (theirs,), (again,) = (weights([(9, 11)]) for _ in range(3))
    optimizer, torchs, third = ours([mine], lr=0.1), reference([theirs]), ours([again])
    train(optimizer, [mine], 5)
    torchs.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert_equal_state(torchs, optimizer)
    third.load_state_dict(copy.deepcopy(torchs.state_dict()))
    assert_equal_state(third, optimizer)
    for parameter in (theirs, again):
        parameter.data.copy_(mine.detach())
    for each, parameter in ((optimizer, mine), (torchs, theirs), (third, again)):
        train(each, [parameter], 5, first=5)
    assert torch.equal(again, mine)
    torch.testing.assert_close(theirs, mine, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("option", ["amsgrad", "maximize", "differentiable"])
def test_a_variant_of_torchs_is_refused(option):
    (weight,) = weights([(3, 4)])
    with pytest.raises(ValueError, match=option):
        MaskedAdam([weight], **{option: True})
    other = torch.optim.Adam(weights([(3, 4)]), **{option: True})
    with pytest.raises(ValueError, match=option):
        MaskedAdam([weight]).load_state_dict(other.state_dict())


@pytest.mark.parametrize(("ours", "reference"), PAIRS)
def test_all_variants_are_refused_at_once_with_what_has_them(ours, reference):
    groups = [{"params": weights([(3, 4)]), "maximize": True}, {"params": weights([(3,)]), "amsgrad": True}]
    with pytest.raises(ValueError, match=rf"^{ours.__name__} does not support amsgrad, maximize; use torch\.optim\."
                                         rf"{reference.__name__}$"):  # fmt: skip
        ours(groups)


def test_a_copy_keeps_masking():
    (weight,) = weights([(6, 5)])
    optimizer = MaskedAdam([weight])
    keep_sparse(optimizer, [sparse(weight)])
    copied = copy.deepcopy(optimizer)
    (parameter,) = copied.param_groups[0]["params"]
    assert parameter is not weight
    train(copied, [parameter], 2)
    assert torch.equal(parameter == 0, ~copied.sparse_layers[parameter].mask)


def test_the_number_of_threads_changes_nothing():
    results = []
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        (weight,) = weights([(7, CHUNK)])
        optimizer = MaskedAdam([weight])
        keep_sparse(optimizer, [sparse(weight)])
        train(optimizer, [weight], 5)
        torch.set_num_threads(before)
        results.append(weight.detach())
    assert torch.equal(*results)


def test_layers_are_taken_once_and_only_where_trained():
    first, second = weights([(3, 4), (3, 4)])
    layer, foreign = sparse(first), sparse(second)
    optimizer = MaskedAdam([first])
    assert keep_sparse(optimizer, [layer, foreign]) == [foreign]
    assert keep_sparse(optimizer, [layer]) == []
    other = sparse(first, seed=2)
    assert keep_sparse(optimizer, [other]) == [other]
    assert keep_sparse(torch.optim.Adam([first]), [layer]) == [layer]


def test_the_loss_of_a_closure_is_returned():
    (weight,) = weights([(3,)])
    optimizer = MaskedAdam([weight])

    def closure():
        loss = weight.square().sum()
        loss.backward()
        return loss

    before = weight.detach().clone()
    assert optimizer.step(closure).item() == pytest.approx(before.square().sum().item())
    assert not torch.equal(weight, before)


def test_a_backward_pass_that_needs_the_old_weight_is_refused():
    (weight,) = weights([(3,)])
    optimizer, loss = MaskedAdam([weight]), weight.square().sum()
    draw_gradients([weight], 0)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize(("ours", "reference"), PAIRS)
def test_a_rewirer_makes_the_same_structure_with_it(ours, reference):
    models = []
    for make in (ours, reference):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 5))
        optimizer = make(model.parameters(), lr=0.01)
        rewirer = Rewirer(model, optimizer, density=0.2, layers=["0"], end=100, update_every=5)
        for step in range(40):
            draw_gradients(list(model.parameters()), step)
            optimizer.step()
            rewirer.step()
            (layer,) = rewirer.layers
            assert torch.count_nonzero(layer.weight[~layer.mask]) == 0
        models.append((rewirer, model))
    (mine, model), (theirs, other) = models
    assert mine.unmasked == []
    assert theirs.unmasked == theirs.layers
    assert torch.equal(mine.layers[0].mask, theirs.layers[0].mask)
    for one, expected in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-5)
