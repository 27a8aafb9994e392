"""Select the weights of a model that can be masked: those of linear layers and convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import nn

from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.sparsity.indexed_layer import IndexedLayer
from esl_neuro.sparsity.sparse_weights import SparseWeights

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
        If a name matches no layer or several, two names share a weight, or a layer has no mask.
    """
    chosen = _named_modules(model, layers)
    without_masks = [f"'{name}'" for name, module in chosen.items() if isinstance(module, SparseWeights)]
    if without_masks:
        raise BadInput(
            f"sparsity.layers: {', '.join(without_masks)} store their connections only, and this learner needs masks; "
            "use learner 'esl', 'static', 'set' or 'rigl', and no masked layer beside them"
        )
    return {name: module.weight for name, module in chosen.items()}


def indexed_layers(model: nn.Module, layers: LayerNames) -> list[IndexedLayer]:
    """Find the layers that store their connections only; empty if the names are those of other layers.

    Raises
    ------
    BadInput
        As for :func:`named_weights`.
    """
    chosen = _named_modules(model, layers)
    found = [IndexedLayer(name, module) for name, module in chosen.items() if isinstance(module, SparseWeights)]
    return found if len(found) == len(chosen) else []


def _named_modules(model: nn.Module, layers: LayerNames) -> dict[str, Any]:
    """Find layers by name, or all of them."""
    modules: dict[str, Any] = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, SparseWeights)
        or (isinstance(module, MASKABLE) and isinstance(module.weight, nn.Parameter))
    }
    if layers != "all":
        names = [layers] if isinstance(layers, str) else layers
        modules = {name: modules[_full_name(name, modules)] for name in names}
    if not modules:
        raise BadInput("sparsity.layers: no layer to mask; name at least one linear layer or convolution")
    first: dict[int, str] = {}
    for name, module in modules.items():
        weight = id(module.values if isinstance(module, SparseWeights) else module.weight)
        if weight in first:
            raise BadInput(f"sparsity.layers: '{name}' and '{first[weight]}' share one weight; name it once")
        first[weight] = name
    return modules


def _full_name(name: str, modules: Mapping[str, nn.Module]) -> str:
    """Find the only layer with this name, or with this last part of its name."""
    if name in modules:
        return name
    found = [full for full in modules if name == full.rsplit(".", 1)[-1]]
    if not found:
        last_parts = {full.rsplit(".", 1)[-1] for full in modules}
        raise BadInput(
            f"sparsity.layers: '{name}' is not a linear layer or convolution of the model; "
            f"{did_you_mean(name, last_parts)}"
        )
    if len(found) > 1:
        raise BadInput(f"sparsity.layers: '{name}' is ambiguous, it matches {' and '.join(found)}; give the full name")
    return found[0]
