"""Where the values of a tensor come from, followed through the torch functions of a run.

Weights and activations are both tensors. An operation is synaptic if it multiplies an activation by weights, so the
recorder must know which of its operands comes from the input of the network and which from its parameters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

REACHED, BIASED = 1, 2  # bits of the marks of a current

# Functions that only move, convert or choose values: spikes stay spikes.
MOVES = frozenset(
    (
        *("getitem", "get", "reshape", "view", "view_as", "reshape_as", "flatten", "unflatten", "ravel"),
        *("squeeze", "unsqueeze", "transpose", "swapaxes", "swapdims", "permute", "movedim", "moveaxis", "t"),
        *(
            "expand",
            "expand_as",
            "broadcast_to",
            "repeat",
            "tile",
            "repeat_interleave",
            "contiguous",
            "clone",
            "detach",
        ),
        *("unbind", "chunk", "split", "tensor_split", "narrow", "select", "index_select", "flip", "roll"),
        *("stack", "cat", "concat", "concatenate", "hstack", "vstack", "pad"),
        *("float", "double", "half", "bfloat16", "to", "type", "type_as", "requires_grad", "cpu"),
        *("max_pool1d", "max_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d"),
    )
)
# Functions whose output at a position is positive if one of the values that it combines is.
COMBINES = MOVES | frozenset(
    ("avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "mean", "sum", "amax", "interpolate")
)
COMPARISONS = frozenset(("gt", "ge", "lt", "le", "greater", "greater_equal", "less", "less_equal", "heaviside", "sign"))


@dataclass(frozen=True)
class Origin:
    """Origin of the values of a tensor.

    Attributes
    ----------
    sources : frozenset of str
        ``"input"``, and the neurons and layers whose activations it contains.
    currents : mapping of str to Tensor or None
        Weighted layers whose outputs it contains, before any neuron, each with its marks: a uint8 tensor of the same
        shape, with the bit ``REACHED`` where an event arrived and ``BIASED`` where a bias was added. None if a function
        could not be followed.
    spikes : bool
        Whether it contains the events themselves, only moved or converted.
    parameters : frozenset of str
        Parameters from which it was computed.
    """

    sources: frozenset[str] = frozenset()
    currents: Mapping[str, Tensor | None] = field(default_factory=dict)
    spikes: bool = False
    parameters: frozenset[str] = frozenset()

    @property
    def signal(self) -> bool:
        """Whether it depends on the input of the network."""
        return bool(self.sources or self.currents)


NOWHERE = Origin()


def plain_name(name: str) -> str:
    """Return the name of a torch function without the marks of methods and in-place variants.

    Examples
    --------
    >>> plain_name("__rmul__"), plain_name("add_"), plain_name("_max_pool2d")
    ('mul', 'add', 'max_pool2d')
    """
    method = name.startswith("__") and name.endswith("__")
    bare = name.strip("_")
    reflected = ("radd", "rsub", "rmul", "rdiv", "rtruediv", "rpow", "iadd", "isub", "imul", "idiv", "itruediv", "ipow")
    return bare[1:] if method and bare in reflected else bare


def tensors_in(values: Any) -> Iterator[Tensor]:
    """Yield the tensors among arguments or outputs, also those in lists, tuples and mappings."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from tensors_in(value)
    elif isinstance(values, Sequence) and not isinstance(values, str):
        for value in values:
            yield from tensors_in(value)


def follow(
    function: Callable[..., Any],
    name: str,
    args: tuple[Any, ...],
    options: Mapping[str, Any],
    output: Any,
    origin_of: Callable[[Tensor], Origin],
) -> list[tuple[Tensor, Origin]]:
    """Return the origin of each output of a torch function.

    Parameters
    ----------
    function, name : callable and str
        The function, and its plain name.
    args, options : tuple and mapping
        Its arguments.
    output : object
        What it returned.
    origin_of : callable
        Origin of a tensor.
    """
    if name == "setitem":
        return [(args[0], _written(args, origin_of))]
    outputs = [tensor for tensor in tensors_in(output) if isinstance(tensor, Tensor)]
    given = [origin_of(tensor) for tensor in tensors_in((args, options))]
    given = [origin for origin in given if origin is not NOWHERE]
    if not outputs or not given:
        return []
    events = [origin for origin in given if origin.signal]
    base = Origin(
        frozenset().union(*(origin.sources for origin in given)),
        {},
        bool(events) and all(origin.spikes for origin in events) and (name in MOVES or "dropout" in name),
        frozenset().union(*(origin.parameters for origin in given)),
    )
    currents: list[dict[str, Tensor | None]] = [{} for _ in outputs]
    for layer in sorted({key for origin in given for key in origin.currents}):
        of = functools.partial(_marks_of, origin_of=origin_of, layer=layer)
        marks = _marks(function, name, args, options, outputs, of)
        for each, mark in zip(currents, marks, strict=True):
            each[layer] = mark
    return [
        (tensor, Origin(base.sources, each, base.spikes, base.parameters))
        for tensor, each in zip(outputs, currents, strict=True)
    ]


def _marks_of(tensor: Tensor, origin_of: Callable[[Tensor], Origin], layer: str) -> Tensor | None:
    return origin_of(tensor).currents.get(layer)


def _marks(
    function: Callable[..., Any],
    name: str,
    args: tuple[Any, ...],
    options: Mapping[str, Any],
    outputs: Sequence[Tensor],
    marks_of: Callable[[Tensor], Tensor | None],
) -> list[Tensor | None]:
    """Return the marks of one layer in each output."""
    if name in COMBINES:
        planes = []
        for bit in (REACHED, BIASED):
            replaced = functools.partial(_plane, marks_of=marks_of, bit=bit)
            try:
                results = list(tensors_in(function(*_mapped(args, replaced), **_mapped(dict(options), replaced))))
            except (RuntimeError, TypeError, ValueError):  # a function that needs another type
                return [None] * len(outputs)
            planes.append([(result > 0).to(torch.uint8) * bit for result in results])
        if len(planes[0]) != len(outputs):
            return [None] * len(outputs)
        return [reached | biased for reached, biased in zip(*planes, strict=True)]
    found = [marks for tensor in tensors_in((args, options)) if (marks := marks_of(tensor)) is not None]
    return [_overlaid(found, output) for output in outputs]


def _overlaid(found: Sequence[Tensor], output: Tensor) -> Tensor | None:
    """Return the marks of an elementwise function."""
    total = torch.zeros((), dtype=torch.uint8)
    for marks in found:
        total = total | marks
    try:
        return total.expand(output.shape) if found and total.ndim <= output.ndim else None
    except RuntimeError:
        return None


def _plane(tensor: Tensor, marks_of: Callable[[Tensor], Tensor | None], bit: int) -> Tensor:
    if not tensor.is_floating_point():
        return tensor  # an index
    marks = marks_of(tensor)
    return torch.zeros_like(tensor) if marks is None else ((marks & bit) > 0).to(tensor.dtype)


def _mapped(values: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(values, Tensor):
        return change(values)
    if isinstance(values, dict):
        return {key: _mapped(value, change) for key, value in values.items()}
    if isinstance(values, tuple | list) and not hasattr(values, "_fields") and not isinstance(values, torch.Size):
        return type(values)(_mapped(value, change) for value in values)
    return values


def _written(args: tuple[Any, ...], origin_of: Callable[[Tensor], Origin]) -> Origin:
    """Return the origin of a tensor into which values were written."""
    target, place, value = args[:3]
    old, new = origin_of(target), origin_of(value) if isinstance(value, Tensor) else NOWHERE
    currents: dict[str, Tensor | None] = {}
    for layer in sorted({*old.currents, *new.currents}):
        marks = old.currents.get(layer)
        marks = torch.zeros(target.shape, dtype=torch.uint8) if marks is None else marks.clone()
        written = new.currents.get(layer)
        marks[place] = 0 if written is None else written
        currents[layer] = marks
    return Origin(
        old.sources | new.sources,
        currents,
        new.spikes and (old.spikes or not old.signal),
        old.parameters | new.parameters,
    )
