"""ADMM pruning against its equations written for one number at a time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from esl_neuro.recipes.sections import AdmmSection
from esl_neuro.sparsity import make_learner

RATE, RHO, KEPT, SIZE = 0.1, 0.5, 6, 20


def run_of(iterations=40, **options):
    generator = torch.Generator().manual_seed(0)
    module = nn.Linear(5, 4, bias=False, dtype=torch.float64)
    with torch.no_grad():
        module.weight.copy_(torch.randn(4, 5, generator=generator, dtype=torch.float64))
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE)
    settings = {"density": 0.3, "rho": RHO, "dual_every": 4, "end": 0.5} | options
    section = AdmmSection(learner="admm", layers=["all"], **settings)
    learner = make_learner(section, nn.Sequential(module), optimizer, iterations=iterations, seed=0)
    return module, optimizer, learner, generator


def projected(values):
    kept = sorted(range(SIZE), key=lambda place: abs(values[place]), reverse=True)[:KEPT]
    return [value if place in kept else 0.0 for place, value in enumerate(values)]


def test_admm_follows_its_equations():
    module, optimizer, learner, generator = run_of()
    w = module.weight.detach().flatten().tolist()
    z, u = projected(w), [0.0] * SIZE
    for iteration in range(1, 41):
        gradient = torch.randn(4, 5, generator=generator, dtype=torch.float64)
        optimizer.zero_grad()
        penalty = learner.penalty()
        if iteration <= 20:
            distance = sum((a - b + c) ** 2 for a, b, c in zip(w, z, u, strict=True))
            assert float(penalty) == pytest.approx(RHO / 2 * distance)
        else:
            assert penalty == 0
        ((gradient * module.weight).sum() + penalty).backward()
        optimizer.step()
        updates = learner.step()
        pull = [RHO * (a - b + c) if iteration <= 20 else 0.0 for a, b, c in zip(w, z, u, strict=True)]
        w = [a - RATE * (g + p) for a, g, p in zip(w, gradient.flatten().tolist(), pull, strict=True)]
        if iteration < 20 and iteration % 4 == 0:
            z = projected([a + c for a, c in zip(w, u, strict=True)])
            u = [c + a - b for a, b, c in zip(w, z, u, strict=True)]
        if iteration == 20:
            w = projected(w)
            kept = [value != 0 for value in w]
            (update,) = updates
            assert (update.births, update.deaths, update.connections) == (0, SIZE - KEPT, KEPT)
        else:
            assert updates == []
        if iteration > 20:
            w = [value if keep else 0.0 for value, keep in zip(w, kept, strict=True)]
            assert learner.density == KEPT / SIZE
        assert module.weight.flatten().tolist() == pytest.approx(w, rel=1e-9, abs=1e-12)
        assert learner.density == (1 if iteration < 20 else KEPT / SIZE)


def test_penalty_pulls_the_weights_to_the_sparse_set():
    """With nothing else to learn, what is cut at the end is already almost zero."""
    module, optimizer, learner, _ = run_of(iterations=400, end=0.9)
    for _ in range(359):
        optimizer.zero_grad()
        learner.penalty().backward()
        optimizer.step()
        learner.step()
    sizes = module.weight.detach().abs().flatten().sort(descending=True).values
    assert sizes[KEPT - 2] > 0.1  # the last place may stay contested between two weights
    assert sizes[KEPT] < 1e-3


def test_cut_at_once_leaves_training_with_a_fixed_mask():
    module, _, learner, _ = run_of(end=0.0)
    assert learner.penalty() == 0
    assert len(learner.step()) == 1
    assert int((module.weight != 0).sum()) == KEPT
    assert learner.step() == []
