"""Settings with which every learner learns the toy problem."""

from __future__ import annotations

from esl_neuro.recipes.sections import KINDS

# Settings that fit a network of 1,600 weights and a run of 100 iterations.
OPTIONS = {
    "esl": {"density": 0.2, "update_every": 5, "growth": {"momentum": 0.5, "random_unfired": 0.5}},
    "dense": {},
    "static": {"density": 0.2},
    "set": {"epsilon": 3.0, "update_every": 10},
    "rigl": {"density": 0.2, "update_every": 5},
    "sparse_momentum": {"density": 0.2, "update_every": 10},
    "deep_r": {"density": 0.2, "l1": 1e-2, "noise": 1e-2},
    "soft_deep_r": {"density": 0.2, "l1": 1e-2, "noise": 1e-1},
    "synaptic_sampling": {"mean": 0.0, "offset": 1.0, "samples": 1000.0, "temperature": 0.1},
    "grad_r": {"density": 0.05, "penalty": 5e-2},
    "stds": {"width": 0.1},
    "admm": {"density": 0.2, "dual_every": 5},
}
ITERATIONS = 100  # of which the last is reported by the learners that report every 100


def section_of(name, *layers, **options):
    """The section of a recipe that asks for a learner, by default of all layers."""
    return KINDS["sparsity"][1][name](learner=name, layers=list(layers) or ["all"], **options)
