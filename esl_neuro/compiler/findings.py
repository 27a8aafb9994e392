"""What keeps a network from a chip: named, complete, all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from esl_neuro.errors import BadInput, LimitExceeded


@dataclass(frozen=True)
class Finding:
    """One reason why a network cannot be compiled, or does not fit.

    Attributes
    ----------
    place : str
        Node, layer or resource.
    message : str
        What is there, what is allowed, and the smallest change that mends it.
    """

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


def refuse_unsupported(findings: Sequence[Finding]) -> None:
    """Raise :class:`BadInput` with all findings, if there are any."""
    if findings:
        raise BadInput("the network cannot be compiled: " + "; ".join(map(str, findings)))


def refuse_too_large(findings: Sequence[Finding]) -> None:
    """Raise :class:`LimitExceeded` with all findings, if there are any."""
    if findings:
        raise LimitExceeded("the network does not fit: " + "; ".join(map(str, findings)))
