"""What an optimiser remembers about a weight, and what becomes of it when connections are born or die.

Gradients and moments are dense and never masked. A dead connection keeps gathering moments, by which it may be grown;
a newborn one starts with moments of zero, so that what it did before it died does not push it. Adam's step count
belongs to the whole weight and stays, so the first steps of a newborn are not bias-corrected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from esl_neuro.errors import BadInput
from esl_neuro.sparsity.masks import SparseLayer


def forget_moments(optimizer: Optimizer, weight: nn.Parameter, places: Tensor) -> None:
    """Set every moment of the weight to zero at the newborn connections.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Any; a moment is whatever it keeps with the shape of the weight.
    weight : nn.Parameter
        The weight.
    places : int64 Tensor
        Flat indices of the newborn connections.
    """
    for moment in optimizer.state.get(weight, {}).values():
        if isinstance(moment, Tensor) and moment.shape == weight.shape:
            moment.put_(places, moment.new_zeros(places.numel()))


def normalised_momentum(optimizer: Optimizer, layer: SparseLayer) -> Tensor:
    """Size of the optimiser's momentum at every possible connection, active or not.

    Adam and AdamW: ``|m| / (sqrt(v) + 1e-8)``. SGD: the momentum buffer. Gradients are dense and never masked, so
    connections that do not exist gather momentum too.

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
    """Refuse, before anything is trained, to read the momentum of an optimiser that will not keep any.

    Raises
    ------
    BadInput
        If it does not train one of the layers, or trains it by plain gradient descent.
    """
    for layer in layers:
        if without_momentum(group_of(optimizer, layer)):
            raise _no_momentum(optimizer, layer)


def without_momentum(group: Mapping[str, Any]) -> bool:
    """Whether a parameter group is trained by plain gradient descent, which remembers nothing."""
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
