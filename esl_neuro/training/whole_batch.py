"""A forward pass over a part of a batch that computes what the whole batch would give.

Most layers treat samples alone. Two do not, in networks of our own and of others: dropout draws a mask for the whole
batch, and batch norm takes the statistics of the whole batch. Both are caught where every such layer calls them,
``torch.nn.functional.dropout`` and ``batch_norm``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from esl_neuro.errors import BadInput
from esl_neuro.training.ranks import Ranks


@dataclass(frozen=True)
class Part:
    """Consecutive samples of a batch.

    Attributes
    ----------
    first, last : int
        Place of the first sample, and one after that of the last.
    whole : int
        Samples of the batch.
    """

    first: int
    last: int
    whole: int

    @property
    def samples(self) -> slice:
        """Its samples."""
        return slice(self.first, self.last)

    @property
    def share(self) -> float:
        """Its share of the batch."""
        return (self.last - self.first) / self.whole


def parts_of(samples: int, ranks: Ranks, accumulation: int) -> list[Part]:
    """Divide a batch into parts of equal size, up to one sample, and return those of this process, in order."""
    count = ranks.count * accumulation
    bounds = [number * samples // count for number in range(count + 1)]
    own = range(ranks.rank * accumulation, (ranks.rank + 1) * accumulation)
    return [Part(bounds[number], bounds[number + 1], samples) for number in own]


def refuse_small_batches(samples: int, batch: int, ranks: Ranks, accumulation: int) -> None:
    """Reject batches with fewer samples than parts.

    Raises
    ------
    BadInput
        With the smallest batch of an epoch.
    """
    parts, smallest = ranks.count * accumulation, min(samples, samples % batch or batch)
    if smallest < parts:
        of = f"{ranks.count} processes x training.accumulation {accumulation}"
        raise BadInput(
            f"training.batch: the smallest batch of an epoch has {smallest} of {samples:,} samples, but {of} divide it "
            f"into {parts} parts of at least one; choose another training.batch, or fewer parts"
        )


@contextmanager
def whole_batch(part: Part, ranks: Ranks, seed: int, device: torch.device) -> Iterator[None]:
    """Let dropout and batch norm of a forward pass act on the whole batch, whose parts all processes have.

    Where one process goes through several parts one after the other, batch norm has the statistics of each part.

    Parameters
    ----------
    part : Part
        What this process has of the batch.
    ranks : Ranks
        The processes.
    seed : int
        Seed of the random numbers of the batch, the same in all processes.
    device : torch.device
        Where the network is.

    Raises
    ------
    BadInput
        If the network draws random numbers by other functions, whose order follows the samples that it gets.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        if part.last - part.first == part.whole:
            yield
            return
        before = _random_state(device)
        with _WholeBatch(part, ranks, torch.Generator(device).manual_seed(seed)):
            yield
        if not all(map(torch.equal, before, _random_state(device))):
            raise ranks.agreed(
                BadInput(
                    "network.notation: this network draws random numbers by other functions than "
                    "torch.nn.functional.dropout, which cannot be divided between the parts of a batch; train it with "
                    "one process and training.accumulation = 1"
                )
            )


def _random_state(device: torch.device) -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


class _WholeBatch(TorchFunctionMode):
    def __init__(self, part: Part, ranks: Ranks, generator: torch.Generator) -> None:
        super().__init__()
        self.part, self.ranks, self.generator = part, ranks, generator

    def __torch_function__(
        self, function: Callable[..., Any], _types: Any, arguments: Sequence[Any] = (), options: Any = None
    ) -> Any:
        options = options or {}
        if function is functional.dropout:
            return self._dropout(*arguments, **options)
        if function is functional.batch_norm and self.ranks.count > 1:
            return self._batch_norm(*arguments, **options)
        return function(*arguments, **options)

    def _dropout(self, signal: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        """Draw the mask of the whole batch, in the order of memory in which torch draws it, and take the part's."""
        if not training or p == 0:
            return signal
        part = self.part
        own = part.last - part.first
        if signal.dim() < 2 or signal.shape[1] != own:
            raise self.ranks.agreed(
                BadInput(
                    f"network.notation: dropout of a signal of shape {tuple(signal.shape)} cannot be divided between "
                    f"the parts of a batch; expected (steps, {own}, ...)"
                )
            )
        shape = [signal.shape[0], part.whole, *signal.shape[2:]]
        strides = [float(stride) for stride in torch.empty_like(signal).stride()]
        if own == 1:  # any stride is right then; samples follow each other within a step
            strides[1] = strides[0] - 0.5
        if len(signal) == 1:
            strides[0] = strides[1] + 0.5
        order = sorted(range(signal.dim()), key=lambda axis: -strides[axis])
        mask = torch.empty([shape[axis] for axis in order], dtype=signal.dtype, device=signal.device)
        mask = mask.permute([order.index(axis) for axis in range(signal.dim())])
        mask.bernoulli_(1 - p, generator=self.generator)
        if p < 1:
            mask.div_(1 - p)
        own_mask = mask[:, part.samples]
        return signal.mul_(own_mask) if inplace else signal * own_mask

    def _batch_norm(
        self,
        signal: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return functional.batch_norm(signal, running_mean, running_var, weight, bias, False, momentum, eps)
        normalised, mean, var = _Normalise.apply(signal, eps, self.ranks)  # type: ignore[no-untyped-call]
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                running_var.lerp_(var.to(running_var.dtype), momentum)
        shape = [1, -1, *[1] * (signal.dim() - 2)]
        if weight is not None:
            normalised = normalised * weight.view(shape)
        if bias is not None:
            normalised = normalised + bias.view(shape)
        result: Tensor = normalised.to(signal.dtype)
        return result


class _Normalise(torch.autograd.Function):
    """Normalise every channel (axis 1) with mean and variance over the samples of all processes."""

    @staticmethod
    def forward(ctx: Any, signal: Tensor, eps: float, ranks: Ranks) -> tuple[Tensor, Tensor, Tensor]:
        values = signal.float() if signal.dtype in (torch.float16, torch.bfloat16) else signal
        axes = [axis for axis in range(values.dim()) if axis != 1]
        var, mean = torch.var_mean(values, axes, correction=0)
        count = torch.full_like(mean, values.numel() // len(mean))
        counts, means, variances = ranks.each(torch.stack([count, mean, var])).unbind(1)
        total = counts.sum(0)
        # sums of squares around the common mean (Chan et al. 1983), since differences of sums of squares cancel
        mean = (counts * means).sum(0) / total
        var = (counts * (variances + (means - mean).square())).sum(0) / total
        shape = [1, -1, *[1] * (values.dim() - 2)]
        scale = torch.rsqrt(var + eps).view(shape)
        normalised = (values - mean.view(shape)) * scale
        unbiased = var * (total / (total - 1))
        ctx.save_for_backward(normalised, scale, total)
        ctx.ranks, ctx.axes, ctx.dtype = ranks, axes, signal.dtype
        ctx.mark_non_differentiable(mean, unbiased)
        return normalised, mean, unbiased

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        normalised, scale, total = ctx.saved_tensors
        error, shape = gradients[0], scale.shape
        sums = ctx.ranks.total(torch.stack([error.sum(ctx.axes), (error * normalised).sum(ctx.axes)]))
        mean, slope = (sums / total).unbind(0)
        result = (error - mean.view(shape) - normalised * slope.view(shape)) * scale
        return result.to(ctx.dtype), None, None
