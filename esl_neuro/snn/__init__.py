"""Spiking neurons with learnable thresholds, and networks built from the papers' notation."""

from esl_neuro.snn.build import build_network
from esl_neuro.snn.network import Activity, build_layers, neuron_layers, observe, probe, weighted_layers
from esl_neuro.snn.neurons import LIF, CubaLIF, NeuronFactory, RecurrentLIF

__all__ = [
    "LIF",
    "Activity",
    "CubaLIF",
    "NeuronFactory",
    "RecurrentLIF",
    "build_layers",
    "build_network",
    "neuron_layers",
    "observe",
    "probe",
    "weighted_layers",
]
