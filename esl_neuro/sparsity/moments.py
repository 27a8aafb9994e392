"""The moments of an optimiser, and their reset when connections are created.

Gradients and moments are dense and never masked. An inactive connection keeps accumulating moments, which growth rules
use; a new connection starts with zero moments, so that its earlier history does not influence it. Adam's step count
belongs to the whole weight and is kept, so the first steps of a new connection are not bias-corrected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from esl_neuro.errors import BadInput
from esl_neuro.sparsity.masks import SparseLayer


def forget_moments(optimizer: Optimizer, weight: nn.Parameter, places: Tensor) -> None:
    """Set all moments of a weight to zero at new connections.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Any optimiser; a moment is any state tensor with the shape of the weight.
    weight : nn.Parameter
        The weight.
    places : int64 Tensor
        Flat indices of the new connections.
    """
    for moment in optimizer.state.get(weight, {}).values():
        if isinstance(moment, Tensor) and moment.shape == weight.shape:
            moment.put_(places, moment.new_zeros(places.numel()))


def normalised_momentum(optimizer: Optimizer, layer: SparseLayer) -> Tensor:
    """Return the magnitude of the optimiser's momentum at every possible connection, active or not.

    Adam and AdamW: ``|m| / (sqrt(v) + 1e-8)``. SGD: the momentum buffer. Gradients are dense and never masked, so
    inactive connections have momentum too.

    Raises
    ------
    BadInput
        If the optimiser keeps no momentum.
    """
    state = optimizer.state.get(layer.weight, {})
    if "exp_avg" in state:
        momentum: Tensor = state["exp_avg"].abs().div_(state["exp_avg_sq"].sqrt().add_(1e-8))
        return momentum
    if state.get("momentum_buffer") is not None:
        buffer: Tensor = state["momentum_buffer"].abs()
        return buffer
    raise _no_momentum(optimizer, layer)


def require_momentum(optimizer: Optimizer, layers: Sequence[SparseLayer]) -> None:
    """Reject an optimiser without momentum before training starts.

    Raises
    ------
    BadInput
        If the optimiser does not train a layer, or trains it with plain gradient descent.
    """
    for layer in layers:
        if without_momentum(group_of(optimizer, layer)):
            raise _no_momentum(optimizer, layer)


def without_momentum(group: Mapping[str, Any]) -> bool:
    """Return whether a parameter group is trained with plain gradient descent, which has no state."""
    return group.get("momentum") == 0 and "betas" not in group


def _no_momentum(optimizer: Optimizer, layer: SparseLayer) -> BadInput:
    return BadInput(
        f"growth rule 'momentum': {type(optimizer).__name__} keeps no momentum for layer '{layer.name}'; "
        "use Adam, AdamW, SGD with momentum, or another growth rule"
    )


def group_of(optimizer: Optimizer, layer: SparseLayer) -> dict[str, Any]:
    """Return the parameter group that trains a layer.

    Raises
    ------
    BadInput
        If the optimiser does not train it.
    """
    for group in optimizer.param_groups:
        if any(parameter is layer.weight for parameter in group["params"]):
            return group
    raise BadInput(f"sparsity.layers: the optimiser does not train '{layer.name}'; give it the layer's parameters")
