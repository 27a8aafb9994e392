"""Build the network of a recipe from its notation, an architecture by name, or a user's function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from esl_neuro.errors import BadInput, EslNeuroError
from esl_neuro.reading.documents import reason
from esl_neuro.recipes.own import call_own
from esl_neuro.recipes.sections import (
    CubaLifSection,
    IfSection,
    LiafSection,
    LifSection,
    NetworkSection,
    SingleSpikeSection,
    SpikingSection,
)
from esl_neuro.snn.architectures import ResNet19, stl_mnist, vggsnn
from esl_neuro.snn.network import ConvFactory, LinearFactory, build_layers, probe, weighted_layers
from esl_neuro.snn.neurons import LIAF, LIF, CubaLIF, NeuronFactory, streaming_neurons
from esl_neuro.snn.notation import Dense, parse_layers
from esl_neuro.snn.temporal import TemporalNetwork

CONTRACT = (
    "the function is called as (shape, neurons) and returns a torch nn.Module that maps (steps, batch, *shape) to "
    "(steps, batch, classes); neurons((32,)) makes a layer of 32 neurons, neurons((channels, height, width)) an image"
)
OverTimeSection = LifSection | CubaLifSection | IfSection | LiafSection


@dataclass(frozen=True)
class Architecture:
    """A network of the papers with a fixed architecture.

    Attributes
    ----------
    build : callable
        ``(outputs, neurons, streaming) -> network``.
    shape : tuple of int
        The required input shape.
    readout : str
        Readout of its outputs.
    """

    build: Callable[[int, NeuronFactory, bool], nn.Module]
    shape: tuple[int, ...]
    readout: str


# Followed by the number of outputs: "VGGSNN-10".
ARCHITECTURES = {
    "VGGSNN": Architecture(
        lambda outputs, make, streaming: vggsnn(outputs, neurons=make, streaming=streaming), (2, 48, 48), "accumulate"
    ),
    "VGGSNN-strided": Architecture(
        lambda outputs, make, streaming: vggsnn(outputs, strided=True, neurons=make, streaming=streaming),
        (2, 48, 48),
        "accumulate",
    ),
    "ResNet19": Architecture(
        lambda outputs, make, streaming: ResNet19(outputs, streaming_neurons(make) if streaming else make),
        (3, 32, 32),
        "accumulate",
    ),
    "STL-MNIST": Architecture(
        lambda outputs, make, streaming: stl_mnist(outputs, make, streaming=streaming), (1, 28, 28), "spikes"
    ),
}


def build_network(
    section: NetworkSection,
    shape: tuple[int, ...],
    seed: int,
    linear: LinearFactory | None = None,
    conv: ConvFactory | None = None,
) -> nn.Module:
    """Build the network of a recipe for an input shape, with weights that depend only on the seed.

    Parameters
    ----------
    section : NetworkSection
        ``notation`` is the papers' notation, the name of an architecture and its outputs (``"ResNet19-100"``), or
        ``"module:function"``: a user's function ``(shape, neurons) -> nn.Module``, whose module maps inputs of shape
        (steps, batch, *shape) to outputs (steps, batch, classes), and which makes its neurons with ``neurons(shape)``.
    shape : tuple of int
        Shape of an input sample at one step.
    seed : int
        Seed of the initial weights.
    linear : callable, optional
        Factory of linear layers of a notation that are not dense, see :func:`~esl_neuro.snn.network.build_layers`.
    conv : callable, optional
        The same of convolutions.

    Returns
    -------
    nn.Module
        For :func:`~esl_neuro.snn.network.observe`.

    Raises
    ------
    BadInput
        If the notation is inconsistent or does not fit the input, or the function cannot be found.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(section, SingleSpikeSection):
            return _single_spike(section, shape)
        network = _over_time(section, shape, linear, conv)
    for layer in weighted_layers(network).values():
        layer.requires_grad_(section.mode != "tl")
    return network


def neurons_of(section: OverTimeSection) -> NeuronFactory:
    """Return a factory of the neurons of a layer for a section."""

    def make(shape: tuple[int, ...]) -> nn.Module:
        thresholds = shape if section.thresholds == "position" else (shape[0], *[1] * (len(shape) - 1))
        learn_threshold = section.mode != "sl"
        surrogate, width = section.surrogate, section.surrogate_width
        if isinstance(section, CubaLifSection):
            return CubaLIF(
                thresholds,
                section.tau,
                section.tau_syn,
                section.threshold,
                surrogate,
                width,
                learn_threshold,
                section.reset,
            )
        if isinstance(section, LiafSection):
            return LIAF(
                thresholds, section.tau, section.threshold, section.activation, surrogate, width, learn_threshold
            )
        tau = 1.0 if isinstance(section, IfSection) else section.tau
        return LIF(thresholds, tau, section.threshold, surrogate, width, learn_threshold, section.reset)

    return make


def _over_time(
    section: OverTimeSection, shape: tuple[int, ...], linear: LinearFactory | None, conv: ConvFactory | None
) -> nn.Module:
    neurons = neurons_of(section)
    streaming = section.timing == "streaming"
    _refuse_slots_elsewhere(section)
    if ":" in section.notation:
        if streaming:
            raise BadInput(
                f"network.timing: 'streaming' does not change '{section.notation}', a network of your own; set "
                "'aligned', and put esl_neuro.snn.layers.Delay behind every layer of neurons but the output"
            )
        return _users_own(section.notation, shape, neurons)
    name, _, outputs = section.notation.rpartition("-")
    if name in ARCHITECTURES and outputs.isascii() and outputs.isdigit():
        return _architecture(section, name, int(outputs), shape, neurons)
    return build_layers(
        section.notation,
        shape,
        neurons,
        bias=section.bias,
        spiking_output=section.readout == "spikes",
        streaming=streaming,
        delay_slots=section.delay_slots,
        delay_stride=section.delay_stride,
        linear=linear,
        conv=conv,
    )


def _refuse_slots_elsewhere(section: OverTimeSection) -> None:
    """Reject delay slots of a network that is not made of the layers of a notation."""
    own = ":" in section.notation
    if section.delay_slots > 1 and (own or section.notation.rpartition("-")[0] in ARCHITECTURES):
        what = "a network of your own" if own else "a fixed architecture"
        fix = "put esl_neuro.snn.layers.DelaySlots before its linear layers" if own else "use linear layers only"
        raise BadInput(
            f"network.delay_slots: {section.delay_slots} does not change '{section.notation}', {what}; set 1, and {fix}"
        )


def _architecture(
    section: SpikingSection, name: str, outputs: int, shape: tuple[int, ...], neurons: NeuronFactory
) -> nn.Module:
    architecture = ARCHITECTURES[name]
    if shape != architecture.shape:
        raise BadInput(
            f"network.notation: '{section.notation}' needs inputs of shape {architecture.shape}, the data have "
            f"{shape}; set data.shape = {list(architecture.shape)}"
        )
    if section.readout != architecture.readout:
        raise BadInput(
            f"network.readout: '{section.readout}' does not fit '{section.notation}'; set '{architecture.readout}'"
        )
    return architecture.build(outputs, neurons, section.timing == "streaming")


def _users_own(notation: str, shape: tuple[int, ...], neurons: NeuronFactory) -> nn.Module:
    network = call_own("network.notation", notation, CONTRACT, shape, neurons)
    if not isinstance(network, nn.Module):
        raise BadInput(f"network.notation: '{notation}' returned {type(network).__name__}; {CONTRACT}")
    try:
        probe(network, shape)
    except EslNeuroError:
        raise
    except Exception as error:  # a user's network raises anything
        raise BadInput(
            f"network.notation: the network of '{notation}' raised {type(error).__name__} on an input of shape "
            f"{(1, 1, *shape)}: {reason(error)}; {CONTRACT}"
        ) from error
    return network


def _single_spike(section: SingleSpikeSection, shape: tuple[int, ...]) -> TemporalNetwork:
    layers = parse_layers(section.notation)
    sizes = tuple(layer.neurons for layer in layers if isinstance(layer, Dense))
    if len(sizes) < max(2, len(layers)):
        raise BadInput(
            f"network.notation: '{section.notation}' is not allowed for single_spike neurons; write layer sizes only, "
            "such as 784-800-10"
        )
    inputs = int(torch.tensor(shape).prod())
    if sizes[0] != inputs:
        raise BadInput(
            f"network.notation: '{section.notation}' begins with {sizes[0]} inputs, the data have {inputs}; "
            f"begin with {inputs}"
        )
    return TemporalNetwork(sizes, threshold=section.threshold, initial_sum=section.initial_sum)
