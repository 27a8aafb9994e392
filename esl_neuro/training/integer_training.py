"""Training on the integers of a chip, as set in a recipe."""

from __future__ import annotations

from torch import nn

from esl_neuro.data import Dataset
from esl_neuro.data.encodings import ENCODINGS
from esl_neuro.errors import BadInput
from esl_neuro.hardware import Arithmetic, arithmetic_of, load_target
from esl_neuro.hardware.rounding import SPIKES, InputFormat
from esl_neuro.hardware.weight_bits import bits_of_layers
from esl_neuro.recipes import Recipe
from esl_neuro.snn.integer_network import QuantisedNetwork
from esl_neuro.snn.layers import BatchNorm2d


def quantised(network: nn.Module, recipe: Recipe, dataset: Dataset) -> QuantisedNetwork:
    """Return a network that computes with the integers of the recipe's target and shares its parameters.

    Raises
    ------
    BadInput
        If the target, network or input has no integer form, or batch norm has no statistics yet.
    """
    assert recipe.training.quantize is not None
    if recipe.training.start_from is None and any(isinstance(layer, BatchNorm2d) for layer in network.modules()):
        raise BadInput(
            "training.quantize: batch norm needs the statistics of a finished run; train without quantize "
            "first, then: esl-neuro train --from RUN --quantize TARGET"
        )
    formats = formats_of(recipe.training.quantize)
    return QuantisedNetwork(
        network, formats, input_format(recipe, dataset), recipe.data.steps, _weight_bits(network, recipe, formats)
    )


def _weight_bits(network: nn.Module, recipe: Recipe, formats: Arithmetic) -> dict[str, int]:
    given = recipe.training.weight_bits
    if given is None:
        return {}
    layers = [name for name, layer in network.named_children() if isinstance(layer, nn.Linear | nn.Conv2d)]
    return bits_of_layers(given, layers, formats, "training.weight_bits")


def formats_of(name: str) -> Arithmetic:
    """Return the integer formats of the target with this name.

    Raises
    ------
    BadInput
        If there is no such target, or it declares no integer arithmetic.
    """
    try:
        return arithmetic_of(load_target(name))
    except BadInput as error:
        raise BadInput(f"training.quantize: {error}") from error


def input_format(recipe: Recipe, dataset: Dataset) -> InputFormat:
    """Return the input format: intensities use all bits, event counts are payloads already.

    Raises
    ------
    BadInput
        If the input is normalised, so that it has negative values.
    """
    encoding, bits = ENCODINGS[recipe.data.encoding], recipe.training.input_bits
    if encoding.signal == "spikes":
        return SPIKES
    if dataset.normalisation is not None:
        raise BadInput(
            f"training.quantize: graded input of data set '{dataset.name}' is normalised and has negative values, "
            "which payloads cannot represent; use a spike encoding, such as data.encoding = 'even_rate'"
        )
    return InputFormat(bits, 1.0 if encoding.timed else 2.0**bits - 1)
