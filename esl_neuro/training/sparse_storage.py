"""Whether a recipe's layers store their connections only, and what that changes in a run."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.recipes import Recipe
from esl_neuro.recipes.sections import SingleSpikeSection, StoredSection
from esl_neuro.snn import notation as tokens
from esl_neuro.snn.network import ConvFactory, LinearFactory
from esl_neuro.sparsity import FewOutputs, Learner, Rewirer, SparseConv2d, SparseLinear
from esl_neuro.sparsity.indexed_growth import INDEXED_GROWTH_RULES
from esl_neuro.sparsity.sparse_linear import FEW_OUTPUTS
from esl_neuro.sparsity.sparse_weights import SparseWeights

AUTO_DENSITY = 0.2
"""Density up to which ``auto`` means sparse; docs/methods.md has the measured break-even."""


def linear_of(recipe: Recipe) -> LinearFactory | None:
    """Return the factory of a recipe's linear layers, None if all are dense.

    Raises
    ------
    BadInput
        If the recipe asks for sparse storage and for something that needs all possible connections; with all findings.
    """
    if not has_sparse_storage(recipe):
        return None

    def linear(name: str, inputs: int, outputs: int, bias: bool) -> nn.Module | None:
        if not _is_chosen(name, recipe.sparsity.layers):
            return FewOutputs(inputs, outputs, bias) if outputs <= FEW_OUTPUTS else None
        return _with_drawn_bias(SparseLinear(inputs, outputs, bias))

    return linear


def conv_of(recipe: Recipe) -> ConvFactory | None:
    """Return the factory of a recipe's convolutions, None if all are dense.

    Raises
    ------
    BadInput
        As :func:`linear_of`.
    """
    if not has_sparse_storage(recipe):
        return None

    def conv(
        name: str, inputs: int, outputs: int, kernel: int, stride: int, padding: int, bias: bool
    ) -> nn.Module | None:
        if not _is_chosen(name, recipe.sparsity.layers):
            return None
        return _with_drawn_bias(SparseConv2d(inputs, outputs, kernel, stride, padding, bias))

    return conv


def _is_chosen(name: str, layers: list[str]) -> bool:
    return layers == ["all"] or name in layers or name.rsplit(".", 1)[-1] in layers


def _with_drawn_bias(layer: SparseWeights) -> nn.Module:
    """Draw the bias by torch's seed, which is that of the run; the learner draws the connections."""
    if layer.bias is not None:
        bound = 1 / math.sqrt(layer.in_features)
        nn.init.uniform_(layer.bias, -bound, bound)
    return layer


def has_sparse_storage(recipe: Recipe) -> bool:
    """Return whether the sparse layers of a recipe store their connections only.

    Raises
    ------
    BadInput
        As :func:`linear_of`.
    """
    section = recipe.sparsity
    if not isinstance(section, StoredSection) or section.storage == "masked":
        return False
    findings = _findings(recipe)
    if section.storage == "auto":
        return not findings and _density(section) <= AUTO_DENSITY
    if findings:
        raise BadInput(f"sparsity.storage: 'sparse' is not possible: {'; '.join(findings)}; use 'masked'")
    return True


def _density(section: StoredSection) -> float:
    """Return the largest density that the recipe states, 1 if it states none."""
    options = section.options
    if options.get("per_neuron") is not None:
        return 0.0  # far fewer than the lines of any layer that is worth it, and masks have no fan-in
    return max([*(options.get("densities") or {}).values(), options.get("density") or 0.0]) or 1.0


def _findings(recipe: Recipe) -> list[str]:
    """Return everything in a recipe that needs all possible connections."""
    network, training, options = recipe.network, recipe.training, recipe.sparsity.options
    findings = []
    if isinstance(network, SingleSpikeSection):
        findings.append("network.neuron 'single_spike' has dense layers")
    elif network.mode == "tl":
        findings.append("network.mode 'tl' does not train weights")
    if ":" in network.notation or not network.notation[:1].isdigit():
        findings.append(
            f"network.notation '{network.notation}' is no list of layers (a network of your own can use SparseLinear "
            "and SparseConv2d)"
        )
    else:
        findings += _findings_of_layers(recipe, tokens.parse_layers(network.notation))
    if training.device != "cpu" or training.precision != "float32":
        findings.append(f"training.device is '{training.device}' and training.precision '{training.precision}'")
    findings += [
        f"training.{name} is '{value}'"
        for name, value in (("quantize", training.quantize), ("start_from", training.start_from))
        if value is not None
    ]
    if options.get("redistribution") is not None:
        findings.append(f"sparsity.redistribution '{options['redistribution']}' needs moments of all connections")
    if "growth" in options:
        findings += [
            f"growth rule '{name}' needs all connections, use {', '.join(INDEXED_GROWTH_RULES.names())}"
            for name in options["growth"] or {"momentum": 1.0}
            if name not in INDEXED_GROWTH_RULES.names()
        ]
    return findings


def _findings_of_layers(recipe: Recipe, layers: Sequence[tokens.Token]) -> list[str]:
    """Return what convolutions need all possible connections for."""
    members = (token.layers if isinstance(token, tokens.Members) else [(token,)] for token in layers)
    parts = [part for of_token in members for member in of_token for part in member]
    every, findings = recipe.sparsity.layers == ["all"], []
    for kind, words in ((tokens.ConvOverTime, "convolutions over time"), (tokens.DenseConv, "dense blocks")):
        if every and any(isinstance(part, kind) for part in parts):
            findings.append(f"network.notation '{recipe.network.notation}' has {words}, which are dense")
    if recipe.budget is not None and any(isinstance(part, tokens.Conv) for part in parts):
        findings.append(f"[budget] counts the synapses of convolutions of '{recipe.network.notation}' by masks")
    return findings


def names_of_any_length(holder: nn.Module | Learner) -> set[str]:
    """Return the entries of a state whose number of rows follows the connections; loading checks their content."""
    if isinstance(holder, nn.Module):
        layers = {name: layer for name, layer in holder.named_modules() if isinstance(layer, SparseWeights)}
        return {f"{name}.{part}" for name in layers for part in ("values", "col_indices")}
    return holder.names_of_any_length() if isinstance(holder, Rewirer) else set()


def connections_in_sparse_storage(network: nn.Module) -> int:
    """Return the connections of all layers that store nothing else."""
    return sum(layer.connections for layer in network.modules() if isinstance(layer, SparseWeights))
