"""The papers' notation of networks: ``784-800-10``, ``64C3-128C3-AP2-256C3x2-AP2-10``, and members that vote.

``784-(400-10+200-10)`` and ``784-(200-10)x3`` are ours: sub-networks that read the same signal and decide together. So
are ``12D3x4``, a dense block of four layers with growth rate 12, and ``64C3T5``, a convolution over time and space.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from esl_neuro.errors import BadInput


@dataclass(frozen=True)
class Dense:
    """``800``: a fully connected layer with this many neurons (or inputs, if it comes first)."""

    neurons: int


@dataclass(frozen=True)
class Conv:
    """``64C3``, ``64C3S2``: a convolution of 64 channels, 3x3, padded to the input's size, here with stride 2."""

    channels: int
    kernel: int
    stride: int


@dataclass(frozen=True)
class ConvOverTime:
    """``64C3T5``, ``64C3T5S2``: a convolution that also spans the current and the four previous steps."""

    channels: int
    kernel: int
    span: int
    stride: int


@dataclass(frozen=True)
class DenseConv:
    """``12D3``: a 3x3 convolution of 12 channels with batch norm and neurons, appended to the channels it reads."""

    growth: int
    kernel: int


@dataclass(frozen=True)
class BatchNorm:
    """``BN``: batch normalisation of the previous convolution, before its neurons."""


@dataclass(frozen=True)
class AvgPool:
    """``AP2``: average pooling."""

    size: int


@dataclass(frozen=True)
class MaxPool:
    """``MP2``: maximum pooling."""

    size: int


@dataclass(frozen=True)
class Dropout:
    """``DP``, ``DP0.3``: dropout with a new mask in each step; the default rate is one half."""

    share: float


@dataclass(frozen=True)
class Voting:
    """``V10``: mean over ten neighbouring output neurons, one group per class."""

    group: int


Part = Dense | Conv | ConvOverTime | DenseConv | BatchNorm | AvgPool | MaxPool | Dropout | Voting


@dataclass(frozen=True)
class Members:
    """``(400-10+200-10)``, ``(200-10)x3``: the last part; sub-networks of one signal, whose outputs are averaged."""

    layers: tuple[tuple[Part, ...], ...]


Token = Part | Members

_PATTERNS: tuple[tuple[str, type[Part]], ...] = (
    (r"(\d{1,9})", Dense),
    (r"(\d{1,9})C(\d{1,9})(?:S(\d{1,9}))?", Conv),
    (r"(\d{1,9})C(\d{1,9})T(\d{1,9})(?:S(\d{1,9}))?", ConvOverTime),
    (r"(\d{1,9})D(\d{1,9})", DenseConv),
    (r"BN", BatchNorm),
    (r"AP(\d{1,9})", AvgPool),
    (r"MP(\d{1,9})", MaxPool),
    (r"DP(0?\.\d+)?", Dropout),
    (r"V(\d{1,9})", Voting),
)
_ALLOWED = (
    "800 (neurons), 64C3 or 64C3S2 (convolution), 64C3T5 (convolution over 5 steps), 12D3 (densely connected "
    "convolution), BN, AP2, MP2, DP or DP0.3, V10, and a suffix x2 to repeat one; "
    "at the end, members that vote, such as (400-10+200-10) or (200-10)x3"
)
_MEMBERS = re.compile(r"(?:(?P<trunk>[^()]*)-)?\((?P<members>[^()]*)\)(?:x(?P<times>.*))?", flags=re.ASCII)


def parse_layers(notation: str) -> tuple[Token, ...]:
    """Read the notation of a network.

    Examples
    --------
    >>> parse_layers("784-800-10")
    (Dense(neurons=784), Dense(neurons=800), Dense(neurons=10))
    >>> parse_layers("64C3x2-AP2")[1:]
    (Conv(channels=64, kernel=3, stride=1), AvgPool(size=2))
    >>> parse_layers("64-(10)x2")
    (Dense(neurons=64), Members(layers=((Dense(neurons=10),), (Dense(neurons=10),))))

    Raises
    ------
    BadInput
        If a part cannot be read; the message quotes it and lists what is allowed.
    """
    found = _MEMBERS.fullmatch(notation)
    if found is None:
        return _chain(notation, notation)
    trunk = () if found["trunk"] is None else _chain(notation, found["trunk"])
    once = tuple(_chain(notation, member) for member in found["members"].split("+"))
    members = once * _times(notation, f"({found['members']})x{found['times']}", found["times"])
    if len(members) < 2:
        raise BadInput(
            f"network.notation: '({found['members']})' of '{notation}' is one member, which has nobody to vote with; "
            "join members with '+', or repeat one, such as (200-10)x3"
        )
    return (*trunk, Members(members))


def _chain(notation: str, chain: str) -> tuple[Part, ...]:
    tokens: list[Part] = []
    for part in chain.split("-"):
        body, _, times = part.partition("x")
        tokens += [_token(notation, part, body)] * _times(notation, part, times)
    return tuple(tokens)


def _times(notation: str, part: str, times: str | None) -> int:
    if times and not re.fullmatch(r"0{0,3}[1-9]\d{0,2}", times, flags=re.ASCII):
        raise _unreadable(notation, part)
    return int(times or 1)


def _token(notation: str, part: str, body: str) -> Part:
    for pattern, kind in _PATTERNS:
        found = re.fullmatch(pattern, body, flags=re.ASCII)
        if found is None:
            continue
        if kind is Dropout:
            return Dropout(float(found[1] or 0.5))
        numbers = [int(number or 1) for number in found.groups()]
        if 0 in numbers:
            break
        return kind(*numbers)
    raise _unreadable(notation, part)


def _unreadable(notation: str, part: str) -> BadInput:
    return BadInput(f"network.notation: '{part}' of '{notation}' cannot be read; allowed: {_ALLOWED}")
