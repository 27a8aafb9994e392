"""Whether a recipe's layers store their connections only, and what that changes in a run."""

from __future__ import annotations

import math

from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.recipes import Recipe
from esl_neuro.recipes.sections import SingleSpikeSection, StoredSection
from esl_neuro.snn.network import LinearFactory
from esl_neuro.sparsity import FewOutputs, Learner, Rewirer, SparseLinear
from esl_neuro.sparsity.indexed_growth import INDEXED_GROWTH_RULES
from esl_neuro.sparsity.sparse_linear import FEW_OUTPUTS

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
    chosen = recipe.sparsity.layers

    def linear(name: str, inputs: int, outputs: int, bias: bool) -> nn.Module | None:
        if chosen != ["all"] and name not in chosen and name.rsplit(".", 1)[-1] not in chosen:
            return FewOutputs(inputs, outputs, bias) if outputs <= FEW_OUTPUTS else None
        layer = SparseLinear(inputs, outputs, bias)  # the learner draws the connections
        if layer.bias is not None:
            nn.init.uniform_(layer.bias, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs))
        return layer

    return linear


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
            f"network.notation '{network.notation}' is no list of layers (a network of your own can use SparseLinear)"
        )
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


def names_of_any_length(holder: nn.Module | Learner) -> set[str]:
    """Return the entries of a state whose number of rows follows the connections; loading checks their content."""
    if isinstance(holder, nn.Module):
        layers = {name: layer for name, layer in holder.named_modules() if isinstance(layer, SparseLinear)}
        return {f"{name}.{part}" for name in layers for part in ("values", "col_indices")}
    return holder.names_of_any_length() if isinstance(holder, Rewirer) else set()


def connections_in_sparse_storage(network: nn.Module) -> int:
    """Return the connections of all layers that store nothing else."""
    return sum(layer.connections for layer in network.modules() if isinstance(layer, SparseLinear))
