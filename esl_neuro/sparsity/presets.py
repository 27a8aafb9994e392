"""Structure learners that are published settings of the rewirer."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.optim import Optimizer

from esl_neuro.errors import BadInput
from esl_neuro.recipes.sections import Count, Density, Fraction, Natural, NonNegative, Positive
from esl_neuro.sparsity.cores import Plan
from esl_neuro.sparsity.fan_in import FanIn
from esl_neuro.sparsity.learner import LEARNERS
from esl_neuro.sparsity.prune import DEFAULT_THRESHOLD
from esl_neuro.sparsity.rewirer import Rewirer
from esl_neuro.sparsity.selection import LayerNames
from esl_neuro.sparsity.topology import Topology


@LEARNERS.register
def esl(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    layers: LayerNames,
    iterations: int,
    seed: int = 0,
    fan_in: FanIn | None = None,
    cores: Plan | None = None,
    density: Density | None = None,
    epsilon: Positive | None = None,
    densities: dict[str, Density] | None = None,
    distribution: str = "erdos_renyi",
    end: Fraction = 0.75,
    alpha: Fraction = 0.3,
    schedule: str = "cosine",
    update_every: Count = 100,
    prune: str = "magnitude",
    threshold: NonNegative = DEFAULT_THRESHOLD,
    growth: Mapping[str, Positive] | None = None,
    redistribution: str | None = None,
) -> Rewirer:
    """Evolutionary structure learning with all options (Shen et al. 2023, Algorithm 1).

    Published: ``epsilon`` 60 on the 784-800-10 network. The paper does not state its interval, end and share; the
    defaults are our choice. ``end`` is a share of the iterations; the others are those of :class:`Rewirer`.
    """
    if density is None and epsilon is None and densities is None and distribution == "erdos_renyi":
        epsilon = 60.0
    return Rewirer(
        model,
        optimizer,
        layers=layers,
        end=int(end * iterations),
        seed=seed,
        fan_in=fan_in,
        cores=cores,
        density=density,
        epsilon=epsilon,
        densities=densities,
        distribution=distribution,
        alpha=alpha,
        schedule=schedule,
        update_every=update_every,
        prune=prune,
        threshold=threshold,
        growth=growth,
        redistribution=redistribution,
    )


@LEARNERS.register
def dense(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    layers: LayerNames,
    iterations: int,  # noqa: ARG001 (shared signature)
    seed: int = 0,
    fan_in: FanIn | None = None,
    cores: Plan | None = None,
) -> Rewirer:
    """Keep all connections, as a baseline."""
    return Rewirer(model, optimizer, layers=layers, end=0, seed=seed, fan_in=fan_in, cores=cores, density=1.0)


@LEARNERS.register
def static(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    layers: LayerNames,
    iterations: int,  # noqa: ARG001 (shared signature)
    seed: int = 0,
    fan_in: FanIn | None = None,
    cores: Plan | None = None,
    density: Density | None = None,
    epsilon: Positive | None = None,
    densities: dict[str, Density] | None = None,
    per_neuron: Count | None = None,
    window: Count | None = None,
    long_range: Natural = 0,
    distribution: str = "erdos_renyi",
) -> Rewirer:
    """Draw the connections once and keep them, as a baseline (static Erdos-Renyi graph of eq. 1).

    Without density, epsilon, densities and per_neuron: ``epsilon`` 60, the network of ESL-SNNs Table 1. Window and long
    range are those of :class:`~esl_neuro.sparsity.topology.Topology`.
    """
    given = (density, epsilon, densities, per_neuron)
    if given == (None,) * len(given) and distribution == "erdos_renyi":
        epsilon = 60.0
    if per_neuron is None and (window is not None or long_range):
        raise BadInput("sparsity: window and long_range need per_neuron, the connections of each neuron")
    return Rewirer(
        model,
        optimizer,
        layers=layers,
        end=0,
        growth={"random": 1.0},  # nothing grows
        topology=None if per_neuron is None else Topology(per_neuron, window, long_range),
        seed=seed,
        fan_in=fan_in,
        cores=cores,
        density=density,
        epsilon=epsilon,
        densities=densities,
        distribution=distribution,
    )


# The name is that of the learner in the registry; this module does not use the builtin.
@LEARNERS.register
def set(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    layers: LayerNames,
    iterations: int,
    seed: int = 0,
    fan_in: FanIn | None = None,
    cores: Plan | None = None,
    density: Density | None = None,
    epsilon: Positive | None = None,
    zeta: Fraction = 0.3,
    update_every: Count = 500,
    end: Fraction = 1.0,
) -> Rewirer:
    """Sparse evolutionary training (Mocanu et al. 2018).

    Published: ``epsilon`` 20 (CIFAR-10; the default unless a density is given) or 13, ``zeta`` 0.3, an update after
    every epoch until the end of training: set ``update_every`` to the batches per epoch; 500 is for CIFAR-10 with batch
    100. SGD with rate 0.01 to 0.05 and momentum 0.9. New weights are zero, as in its mask version.
    """
    if density is None and epsilon is None:
        epsilon = 20.0
    return Rewirer(
        model,
        optimizer,
        layers=layers,
        end=int(end * iterations),
        seed=seed,
        fan_in=fan_in,
        cores=cores,
        density=density,
        epsilon=epsilon,
        alpha=zeta,
        schedule="constant",
        update_every=update_every,
        prune="per_sign",
        growth={"random": 1.0},
    )


@LEARNERS.register
def rigl(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    layers: LayerNames,
    iterations: int,
    seed: int = 0,
    fan_in: FanIn | None = None,
    cores: Plan | None = None,
    density: Density = 0.1,
    distribution: str = "erk",
    alpha: Fraction = 0.3,
    update_every: Count = 100,
    end: Fraction = 0.75,
) -> Rewirer:
    """Rigged lottery (Evci et al. 2020): prune by magnitude, grow by gradient, cosine annealing.

    Published: ERK, ``alpha`` 0.3, an update every 100 iterations until 75 % of training; densities 0.1 and 0.2. Two
    details differ: RigL skips the weight update of an updating iteration, and allows a dropped connection to return
    with its weight.
    """
    return Rewirer(
        model,
        optimizer,
        layers=layers,
        end=int(end * iterations),
        seed=seed,
        fan_in=fan_in,
        cores=cores,
        density=density,
        distribution=distribution,
        alpha=alpha,
        update_every=update_every,
        growth={"gradient": 1.0},
    )


@LEARNERS.register
def sparse_momentum(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    layers: LayerNames,
    iterations: int,
    seed: int = 0,
    fan_in: FanIn | None = None,
    cores: Plan | None = None,
    density: Density = 0.05,
    distribution: str = "uniform",
    alpha: Fraction = 0.5,
    schedule: str = "cosine",
    update_every: Count = 600,
    end: Fraction = 1.0,
) -> Rewirer:
    """Sparse momentum (Dettmers & Zettlemoyer 2019): grow by momentum, layers exchange connections by momentum.

    Published: density 0.05, initially half of the connections with cosine annealing to 0.005 (``"cosine_floor"``; the
    default goes to 0), an update after every epoch (600 iterations: MNIST with batch 100), SGD with rate 0.1, momentum
    0.9, weight decay 5e-4.
    """
    return Rewirer(
        model,
        optimizer,
        layers=layers,
        end=int(end * iterations),
        seed=seed,
        fan_in=fan_in,
        cores=cores,
        density=density,
        distribution=distribution,
        alpha=alpha,
        schedule=schedule,
        update_every=update_every,
        redistribution="momentum",
    )
