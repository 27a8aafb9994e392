"""Problems of a network, all reported at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from esl_neuro.errors import BadInput, LimitExceeded

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True)
class Finding:
    """One reason why a network does not compile or does not fit, or a warning to its author.

    Attributes
    ----------
    kind : str
        Short name of the kind of problem, as in ``"no-time-step"``.
    place : str
        Node, layer or resource.
    message : str
        What was found, what is allowed, and the smallest change that fixes it.
    severity : str
        ``"error"``, or ``"warning"`` if the network compiles anyway.
    """

    kind: str
    place: str
    message: str
    severity: str = ERROR

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


NO_TIME_STEP = "no-time-step"


def errors(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings that prevent compilation."""
    return [finding for finding in findings if finding.severity == ERROR]


def only_time_step(findings: Sequence[Finding]) -> bool:
    """Return whether nothing is wrong with a network but that its time step must be given."""
    return {finding.kind for finding in errors(findings)} == {NO_TIME_STEP}


def refuse(findings: Sequence[Finding], problem: str) -> None:
    """Raise :class:`BadInput` with the problem and all errors, if there are any."""
    if only_time_step(findings):
        raise BadInput("; ".join(finding.message for finding in errors(findings)))
    if errors(findings):
        raise BadInput(f"{problem}: " + "; ".join(map(str, errors(findings))))


def refuse_unsupported(findings: Sequence[Finding]) -> None:
    """Raise :class:`BadInput` with all errors, if there are any."""
    refuse(findings, "the network cannot be compiled")


def refuse_too_large(findings: Sequence[Finding]) -> None:
    """Raise :class:`LimitExceeded` with all errors, if there are any."""
    if errors(findings):
        raise LimitExceeded("the network does not fit: " + "; ".join(map(str, errors(findings))))
