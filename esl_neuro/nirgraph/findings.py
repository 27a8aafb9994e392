"""What is wrong with a network: named, complete, all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from esl_neuro.errors import BadInput, LimitExceeded

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True)
class Finding:
    """One reason why a network cannot be compiled or does not fit, or something its author should know.

    Attributes
    ----------
    kind : str
        Short name of what is wrong, as in ``"no-time-step"``; the same for every case of it.
    place : str
        Node, layer or resource.
    message : str
        What is there, what is allowed, and the smallest change that mends it.
    severity : str
        ``"error"``, or ``"warning"`` where the network is compiled all the same.
    """

    kind: str
    place: str
    message: str
    severity: str = ERROR

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


def errors(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings that prevent compilation."""
    return [finding for finding in findings if finding.severity == ERROR]


def refuse(findings: Sequence[Finding], problem: str) -> None:
    """Raise :class:`BadInput` with a problem and all errors, if there are any."""
    if errors(findings):
        raise BadInput(f"{problem}: " + "; ".join(map(str, errors(findings))))


def refuse_unsupported(findings: Sequence[Finding]) -> None:
    """Raise :class:`BadInput` with all errors, if there are any."""
    refuse(findings, "the network cannot be compiled")


def refuse_too_large(findings: Sequence[Finding]) -> None:
    """Raise :class:`LimitExceeded` with all errors, if there are any."""
    if errors(findings):
        raise LimitExceeded("the network does not fit: " + "; ".join(map(str, errors(findings))))
