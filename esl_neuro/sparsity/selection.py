"""Select the weights of a model that can be masked: those of linear layers and convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import nn

from esl_neuro.errors import BadInput, did_you_mean

LayerNames = Sequence[str] | Literal["all"]

# Transposed convolutions are excluded, because their weight has the inputs first.
MASKABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def named_weights(model: nn.Module, layers: LayerNames) -> dict[str, nn.Parameter]:
    """Find the weights to mask, shape (outputs, inputs, ...), without biases, norms and thresholds.

    Parameters
    ----------
    model : nn.Module
        Holds the layers.
    layers : sequence of str, str or "all"
        Names, or last parts of names, of linear layers and convolutions; ``"all"`` means every one of them.

    Returns
    -------
    dict of str to nn.Parameter
        Weights by the given names, or by their full names for ``"all"``.

    Raises
    ------
    BadInput
        If a name matches no layer or several, or two names share a weight.
    """
    weights: dict[str, nn.Parameter] = {
        name: module.weight
        for name, module in model.named_modules()
        if isinstance(module, MASKABLE) and isinstance(module.weight, nn.Parameter)
    }
    if layers != "all":
        names = [layers] if isinstance(layers, str) else layers
        weights = {name: weights[_full_name(name, weights)] for name in names}
    if not weights:
        raise BadInput("sparsity.layers: no layer to mask; name at least one linear layer or convolution")
    first: dict[int, str] = {}
    for name, weight in weights.items():
        if id(weight) in first:
            raise BadInput(f"sparsity.layers: '{name}' and '{first[id(weight)]}' share one weight; name it once")
        first[id(weight)] = name
    return weights


def _full_name(name: str, weights: Mapping[str, nn.Parameter]) -> str:
    """Find the only layer with this name, or with this last part of its name."""
    if name in weights:
        return name
    found = [full for full in weights if name == full.rsplit(".", 1)[-1]]
    if not found:
        last_parts = {full.rsplit(".", 1)[-1] for full in weights}
        raise BadInput(
            f"sparsity.layers: '{name}' is not a linear layer or convolution of the model; "
            f"{did_you_mean(name, last_parts)}"
        )
    if len(found) > 1:
        raise BadInput(f"sparsity.layers: '{name}' is ambiguous, it matches {' and '.join(found)}; give the full name")
    return found[0]
