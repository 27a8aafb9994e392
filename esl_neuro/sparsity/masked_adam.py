"""Adam and AdamW that apply connection masks in the same pass that updates the weights.

An update of Adam is limited by memory traffic, so a separate pass for masks adds a large part of its cost again. Here
weight, gradient, moments and mask are loaded into the cache once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim import Optimizer
from torch.optim.adam import adam
from torch.optim.adamw import adamw

from esl_neuro.compiled import compiled
from esl_neuro.errors import BadInput
from esl_neuro.sparsity.masks import SparseLayer
from esl_neuro.torch_threads import use_torch_threads

# Positions that one thread updates at a time: all their data fit the L1 cache.
CHUNK = 1024
NO_MASK = np.empty(0, np.bool_)


class _Masked(Optimizer):
    """Mix-in for torch's Adam: the same equations and state, in one compiled pass.

    On devices, types and memory layouts that the pass does not support, torch's own step runs and the mask is applied
    after it.
    """

    decoupled: bool
    torch_step: Callable[..., None]

    def __init__(self, params: Iterable[Any], *options: Any, **named_options: Any) -> None:
        super().__init__(params, *options, **named_options)
        self.sparse_layers: dict[nn.Parameter, SparseLayer] = {}
        self._refuse_variants(self.param_groups)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy, including the layers."""
        return {**super().__getstate__(), "sparse_layers": self.sparse_layers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a state, unless it belongs to an unsupported variant."""
        self._refuse_variants(state["param_groups"])
        super().__setstate__(state)

    def _refuse_variants(self, groups: list[dict[str, Any]]) -> None:
        variants = {name for group in groups for name in ("amsgrad", "maximize", "differentiable") if group.get(name)}
        if variants:
            name = type(self).__name__
            raise BadInput(
                f"{name} does not support {', '.join(sorted(variants))}; use torch.optim.{name.removeprefix('Masked')}"
            )

    def keep_sparse(self, layer: SparseLayer) -> bool:
        """Write zeros at every step where the layer has no connection.

        Returns
        -------
        bool
            False if the optimiser does not train the layer, or already applies another mask to the weight.
        """
        trained = any(layer.weight is parameter for group in self.param_groups for parameter in group["params"])
        return trained and self.sparse_layers.setdefault(layer.weight, layer) is layer

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the weights with a gradient, and write the zeros of all sparse layers.

        Parameters
        ----------
        closure : callable, optional
            Re-evaluates the model and returns the loss, which this method returns.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            use_torch_threads()
            for group in self.param_groups:
                for parameter in group["params"]:
                    self._advance(parameter, group)
        return loss

    def _advance(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        layer, gradient = self.sparse_layers.get(parameter), parameter.grad
        if gradient is None:
            if layer is not None:
                layer.apply_mask()
            return
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        tensors = [parameter, gradient, state["exp_avg"], state["exp_avg_sq"]]
        if all(_fits(tensor, parameter) for tensor in tensors):
            mask = NO_MASK if layer is None else layer.mask.reshape(-1).numpy()
            state["step"] += 1
            weight, slope, momentum, square = (tensor.detach().view(-1).numpy() for tensor in tensors)
            factors = _factors(int(state["step"]), group, self.decoupled, weight.dtype.type)
            _adam(weight, slope, momentum, square, mask, *factors)
            # As after any in-place change, a backward pass that needs the old weight raises an error.
            increment_version(parameter)
        else:
            lists = [[tensor] for tensor in tensors]
            options = {name: group[name] for name in ("lr", "weight_decay", "eps", "amsgrad", "maximize")}
            options["beta1"], options["beta2"] = group["betas"]
            type(self).torch_step(*lists, [], [state["step"]], **options)
            if layer is not None:
                layer.apply_mask()


class MaskedAdam(_Masked, torch.optim.Adam):
    """Adam (Kingma & Ba 2015) that keeps sparse layers sparse; weight decay is added to the gradient.

    ::

        g = dL/dw + weight_decay w
        m = beta1 m + (1 - beta1) g;   v = beta2 v + (1 - beta2) g**2
        w = w - lr m / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + eps);   w = 0 where there is no connection

    Gradients and moments are dense and never masked. State and results are those of :class:`torch.optim.Adam`, up to
    rounding. Learners register their layers; without layers it is Adam.

    Parameters
    ----------
    params : iterable
        Parameters, or parameter groups.
    lr, betas, eps, weight_decay
        As in torch, with its defaults.

    Raises
    ------
    BadInput
        If ``amsgrad``, ``maximize`` or ``differentiable`` is requested.
    """

    decoupled = False
    torch_step = staticmethod(adam)


class MaskedAdamW(_Masked, torch.optim.AdamW):
    """AdamW (Loshchilov & Hutter 2019) that keeps sparse layers sparse.

    :class:`MaskedAdam` with ``g = dL/dw``, and ``w`` multiplied by ``1 - lr weight_decay`` before the step.

    Parameters, defaults and errors are those of :class:`torch.optim.AdamW` and :class:`MaskedAdam`.
    """

    decoupled = True
    torch_step = staticmethod(adamw)


def keep_sparse(optimizer: Optimizer, layers: list[SparseLayer]) -> list[SparseLayer]:
    """Register layers with an optimiser that applies masks; return the layers that it does not support."""
    return [layer for layer in layers if not (isinstance(optimizer, _Masked) and optimizer.keep_sparse(layer))]


def _fits(tensor: Tensor, parameter: nn.Parameter) -> bool:
    """Return whether the compiled pass supports a tensor of a parameter."""
    return (
        tensor.device.type == "cpu"
        and tensor.dtype == parameter.dtype
        and tensor.dtype in (torch.float32, torch.float64)
        and tensor.layout == torch.strided
        and tensor.is_contiguous()
    )


def _factors(step: int, group: dict[str, Any], decoupled: bool, number: type[Any]) -> list[Any]:
    """Return the factors of the compiled pass at a step, in the precision of the weights."""
    (beta1, beta2), rate, decay = group["betas"], float(group["lr"]), group["weight_decay"]
    kept, coupled = (1 - rate * decay, 0.0) if decoupled else (1.0, decay)
    scale = 1 / math.sqrt(1 - beta2**step)
    factors = (kept, coupled, 1 - beta1, beta2, 1 - beta2, rate / (1 - beta1**step), scale, group["eps"])
    return [number(factor) for factor in factors]


@compiled
def _adam(
    weight: NDArray[Any],
    gradient: NDArray[Any],
    momentum: NDArray[Any],
    square: NDArray[Any],
    mask: NDArray[np.bool_],
    kept: Any,
    coupled: Any,
    share1: Any,
    beta2: Any,
    share2: Any,
    rate: Any,
    scale: Any,
    eps: Any,
) -> None:
    for chunk in numba.prange((len(weight) + CHUNK - 1) // CHUNK):
        first, last = chunk * CHUNK, (chunk + 1) * CHUNK
        w, g, m, v = weight[first:last], gradient[first:last], momentum[first:last], square[first:last]
        connected = mask[first:last]
        for i in range(len(w)):
            slope = g[i] + coupled * w[i] if coupled else g[i]
            m[i] += share1 * (slope - m[i])
            v[i] = beta2 * v[i] + share2 * (slope * slope)
            w[i] = kept * w[i] - rate * m[i] / (scale * np.sqrt(v[i]) + eps)
        for i in range(len(connected)):
            w[i] = w[i] if connected[i] else 0
