"""Spiking neurons with learnable thresholds, and networks built from the papers' notation."""

from esl_neuro.snn.network import LIF, Network, build_network, parse_notation

__all__ = ["LIF", "Network", "build_network", "parse_notation"]
