"""Spiking neurons with learnable thresholds, and networks built from the papers' notation."""

from esl_neuro.snn.build import build_network
from esl_neuro.snn.network import NetworkActivity, build_layers, neuron_layers, observe, probe, weighted_layers
from esl_neuro.snn.neurons import LIAF, LIF, CubaLIF, NeuronFactory, RecurrentLIF

__all__ = [
    "LIAF",
    "LIF",
    "CubaLIF",
    "NetworkActivity",
    "NeuronFactory",
    "RecurrentLIF",
    "build_layers",
    "build_network",
    "neuron_layers",
    "observe",
    "probe",
    "weighted_layers",
]
