"""Distribute a budget of connections over the layers, and create the sparse layers.

``distribution(shapes, density)`` returns the density of each layer. The connections of each layer are then drawn at
random, so each layer is an Erdos-Renyi graph; the distributions differ in the number of connections per layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import nn

from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.random_streams import stream
from esl_neuro.registry import Registry
from esl_neuro.sparsity.capped_choice import IntArray
from esl_neuro.sparsity.cores import Cores, Plan, draw_on_cores, smallest_limits
from esl_neuro.sparsity.fan_in import FanIn, fitting_caps, rounded_down
from esl_neuro.sparsity.masks import (
    SparseLayer,
    erdos_renyi_probability,
    refuse_empty,
    sparse_layer,
)
from esl_neuro.sparsity.selection import LayerNames, named_weights

Shape = tuple[int, ...]
Distribution = Callable[[Sequence[Shape], float], list[float]]

QUICK_SYNAPSES = 2**18
"""Synapses of networks that are drawn in a fraction of a second."""

DISTRIBUTIONS: Registry[Distribution] = Registry("distribution")


@DISTRIBUTIONS.register
def erdos_renyi(shapes: Sequence[Shape], density: float) -> list[float]:
    """Give each layer this connection probability; see :func:`layer_densities` for eq. 1 by ``epsilon``."""
    return [density for _ in shapes]


@DISTRIBUTIONS.register
def uniform(shapes: Sequence[Shape], density: float) -> list[float]:
    """Give each layer the overall density, including the first and last layers (ITOP's uniform)."""
    return [density for _ in shapes]


@DISTRIBUTIONS.register
def erk(shapes: Sequence[Shape], density: float) -> list[float]:
    """Distribute the overall density as Erdos-Renyi-Kernel (RigL, Evci et al. 2020).

    ``density_l = epsilon * sum(shape_l) / prod(shape_l)``, with the ``epsilon`` that gives the overall density. Layers
    above 1 are dense, and ``epsilon`` is recomputed for the others. For linear layers this is eq. 1 by total budget.
    """
    sizes = [math.prod(shape) for shape in shapes]
    scores = [sum(shape) / size for shape, size in zip(shapes, sizes, strict=True)]
    budget = density * sum(sizes)
    sparse = list(range(len(shapes)))
    densities = [1.0] * len(shapes)
    while sparse:
        left = budget - sum(size for layer, size in enumerate(sizes) if layer not in sparse)
        epsilon = left / sum(scores[layer] * sizes[layer] for layer in sparse)
        below = [layer for layer in sparse if epsilon * scores[layer] <= 1]
        if below == sparse:
            for layer in sparse:
                densities[layer] = epsilon * scores[layer]
            break
        sparse = below
    return densities


def layer_densities(
    shapes: Sequence[Shape], *, density: float | None, epsilon: float | None, distribution: str
) -> list[float]:
    """Return the density of each layer, from a density or from the ``epsilon`` of eq. 1.

    Parameters
    ----------
    shapes : sequence of tuple of int
        (outputs, inputs, ...) of each layer; eq. 1 uses the first two.
    density : float or None
        Share of connections, in (0, 1].
    epsilon : float or None
        Parameter of eq. 1, instead of the density; only for ``"erdos_renyi"``.
    distribution : str
        Name of the distribution.

    Raises
    ------
    BadInput
        Unless exactly one of density and epsilon is given, in range.
    """
    spread = DISTRIBUTIONS[distribution]
    if epsilon is not None:
        if density is not None:
            raise BadInput(
                f"sparsity: density {density} and epsilon {epsilon} are mutually exclusive; give one of them"
            )
        if distribution != "erdos_renyi":
            raise BadInput(f"sparsity.epsilon: not used by '{distribution}'; give a density or use 'erdos_renyi'")
        if not 0 < epsilon < math.inf:
            raise BadInput(f"sparsity.epsilon: {epsilon} leaves no connection; allowed: above 0")
        return [erdos_renyi_probability(shape[1], shape[0], epsilon) for shape in shapes]
    if density is None:
        raise BadInput("sparsity: neither density nor epsilon is given; give one of them")
    if not 0 < density <= 1:
        raise BadInput(f"sparsity.density: {density} is out of range; allowed: above 0 up to 1")
    return spread(shapes, density)


def sparse_layers(
    model: nn.Module,
    layers: LayerNames,
    *,
    density: float | None,
    epsilon: float | None,
    distribution: str,
    seed: int,
    densities: Mapping[str, float] | None = None,
    fan_in: FanIn | None = None,
) -> list[SparseLayer]:
    """Mask the named layers of a model; see :func:`densities_by_name` for the parameters and errors.

    ``fan_in`` is the largest number of connections of an output, for all layers or by name.
    """
    weights = named_weights(model, layers)
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    shares = densities_by_name(shapes, density=density, epsilon=epsilon, distribution=distribution, densities=densities)
    caps = fitting_caps(fan_in, shares, shapes)
    return [
        sparse_layer(name, weight, shares[name], stream(seed, f"mask {name}"), caps.get(name))
        for name, weight in weights.items()
    ]


def positions_on_cores(
    plan: Plan, shares: Mapping[str, float], shapes: Mapping[str, Shape], caps: Mapping[str, int], seed: int
) -> tuple[Cores, dict[str, IntArray]]:
    """Draw the connections of layers so that the cores of a chip hold them, exactly as many as the densities mean.

    Returns
    -------
    cores : Cores
        The cores, with the connections.
    positions : dict of str to int64 array
        Sorted positions of each layer.

    Raises
    ------
    BadInput
        With the connections, those that the cores hold and the density of these, for every layer that does not fit, and
        the smallest limits with which all would, except for networks so large that finding them takes minutes.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    counts = {name: round(shares[name] * size) for name, size in sizes.items()}
    refuse_empty(shares, sizes)
    rooms = {name: np.full(shape[0], caps.get(name, sizes[name] // shape[0])) for name, shape in shapes.items()}
    cores = plan(counts)

    def draw() -> dict[str, IntArray]:
        cores.clear()
        return draw_on_cores(cores, counts, rooms, {name: stream(seed, f"cores {name}") for name in shapes})

    drawn = draw()
    held = {name: len(positions) for name, positions in drawn.items()}
    if held == counts:
        return cores, drawn
    findings = [
        f"layer '{name}' has {counts[name]:,} connections at density {shares[name]:.4g}, and its cores hold "
        + (f"{number:,}; lower the density to {rounded_down(number / sizes[name])}" if number else "none")
        for name, number in held.items()
        if number < counts[name]
    ]
    smallest = []
    if cores.counters.total[0] <= QUICK_SYNAPSES:
        smallest = smallest_limits(cores, lambda: {name: len(places) for name, places in draw().items()} == counts)
    findings += [f"or raise {', or '.join(smallest)}"] if smallest else []
    raise BadInput("budget: " + "; ".join(findings))


def densities_by_name(
    shapes: Mapping[str, Shape],
    *,
    density: float | None,
    epsilon: float | None,
    distribution: str,
    densities: Mapping[str, float] | None,
) -> dict[str, float]:
    """Return the density of each layer; see :func:`layer_densities` for the other parameters.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Shape of each layer by name.
    densities : mapping of str to float, optional
        Density of each layer by name, instead of the other parameters.

    Raises
    ------
    BadInput
        If a parameter is out of range, or there is not exactly one density per layer.
    """
    if densities is None:
        shares = layer_densities(list(shapes.values()), density=density, epsilon=epsilon, distribution=distribution)
        return dict(zip(shapes, shares, strict=True))
    if density is not None or epsilon is not None or distribution != "erdos_renyi":
        raise BadInput(
            "sparsity.densities: mutually exclusive with density, epsilon and distribution; give one of them"
        )
    return dict(zip(shapes, _one_each(densities, list(shapes)), strict=True))


def _one_each(densities: Mapping[str, float], layers: list[str]) -> list[float]:
    """Return the densities in the order of the layers."""
    findings = [
        f"'{name}' is not a masked layer; {did_you_mean(name, layers)}" for name in densities if name not in layers
    ]
    findings += [
        f"no density for '{name}'; give one for every masked layer" for name in layers if name not in densities
    ]
    findings += [
        f"{share} for '{name}' is out of range; allowed: above 0 up to 1"
        for name, share in densities.items()
        if not 0 < share <= 1
    ]
    if findings:
        raise BadInput("sparsity.densities: " + "; ".join(findings))
    return [densities[name] for name in layers]
