"""Chains of linear layers and LIF neurons for the tests of several rooms."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from esl_neuro.snn import build_layers
from esl_neuro.snn.neurons import lif_per_channel


def chain_network(sizes: Sequence[int], tau: float, threshold: float) -> nn.Sequential:
    """Layers fc1, lif1, fc2, lif2, ... without bias, the last one firing, thresholds learnable."""
    neurons = lif_per_channel(tau, threshold, "arctan", 1.0, learn_threshold=True)
    return build_layers("-".join(map(str, sizes)), (sizes[0],), neurons, bias=False, spiking_output=True)
