"""Feed-forward spiking networks with one learnable threshold per neuron."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esl_neuro.errors import BadInput
from esl_neuro.recipe import NetworkSection
from esl_neuro.snn.functional import SURROGATES, lif


class LIF(nn.Module):
    """Leaky integrate-and-fire neurons with one positive threshold each (STL-SNN).

    The threshold is ``softplus(raw_threshold)``: positive whatever the optimiser does, because a threshold of zero
    or less has no meaning on the chip.

    Parameters
    ----------
    neurons : int
        Number of neurons.
    tau : float
        Membrane decay factor (the papers' tau), in [0, 1].
    threshold : float
        Initial threshold, positive.
    surrogate : str
        Name of the surrogate gradient.
    surrogate_width : float
        Its width, in units of potential.
    learn_threshold : bool
        Whether the thresholds are trained.
    """

    def __init__(
        self, neurons: int, tau: float, threshold: float, surrogate: str, surrogate_width: float, learn_threshold: bool
    ) -> None:
        super().__init__()
        self.tau = tau
        self.surrogate = SURROGATES[surrogate]
        self.surrogate_width = surrogate_width
        inverse_softplus = threshold + math.log(-math.expm1(-threshold))  # of softplus; no overflow for large ones
        self.raw_threshold = nn.Parameter(torch.full((neurons,), inverse_softplus), requires_grad=learn_threshold)

    @property
    def threshold(self) -> Tensor:
        """Thresholds, shape (neurons,), all positive."""
        return nn.functional.softplus(self.raw_threshold)

    def forward(self, currents: Tensor) -> Tensor:
        """Return spikes, shape (steps, batch, neurons), starting from rest."""
        return lif(currents, self.tau, self.threshold, self.surrogate, self.surrogate_width)


@dataclass(frozen=True)
class Activity:
    """What one forward pass shows.

    Attributes
    ----------
    spikes : dict of str to Tensor, shape (steps, batch, neurons)
        Spikes of each layer, input to output.
    """

    spikes: dict[str, Tensor]

    @property
    def output_spikes(self) -> Tensor:
        """Spikes of the last layer."""
        return next(reversed(self.spikes.values()))

    def predictions(self) -> Tensor:
        """Class of each sample: the output neuron with the most spikes, the lowest index among equals."""
        return self.output_spikes.sum(0).argmax(1)


class Network(nn.Module):
    """A chain of linear connections without bias and LIF neurons: ``fc1, lif1, fc2, lif2, ...``.

    Parameters
    ----------
    sizes : tuple of int
        Neurons of each layer, input first.
    tau, threshold, surrogate, surrogate_width, learn_threshold
        Passed to every :class:`LIF`.
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        *,
        tau: float,
        threshold: float,
        surrogate: str,
        surrogate_width: float,
        learn_threshold: bool,
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.connections = nn.ModuleDict()
        self.neurons = nn.ModuleDict()
        for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes), start=1):
            self.connections[f"fc{index}"] = nn.Linear(fan_in, fan_out, bias=False)
            self.neurons[f"lif{index}"] = LIF(fan_out, tau, threshold, surrogate, surrogate_width, learn_threshold)

    def forward(self, inputs: Tensor) -> Activity:
        """Run input spikes of shape (steps, batch, inputs) from rest.

        All steps of a layer go through one matrix product, because no layer feeds an earlier one.
        """
        spikes: dict[str, Tensor] = {}
        signal = inputs
        for connection, (name, neurons) in zip(self.connections.values(), self.neurons.items(), strict=True):
            signal = neurons(connection(signal))
            spikes[name] = signal
        return Activity(spikes)


def parse_notation(notation: str) -> tuple[int, ...]:
    """Read the papers' notation of a multi-layer network.

    Examples
    --------
    >>> parse_notation("64-256-10")
    (64, 256, 10)

    Raises
    ------
    BadInput
        If a part is not a positive whole number or there are fewer than two.
    """
    parts = notation.split("-")
    if len(parts) < 2 or not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise BadInput(
            f"network.notation: '{notation}' cannot be read; allowed: layer sizes joined by '-', such as '64-256-10'"
        )
    return tuple(int(part) for part in parts)


def build_network(section: NetworkSection, seed: int) -> Network:
    """Build the network of a recipe, with weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(
            parse_notation(section.notation),
            tau=section.tau,
            threshold=section.threshold,
            surrogate=section.surrogate,
            surrogate_width=section.surrogate_width,
            learn_threshold=section.learn_thresholds,
        )
