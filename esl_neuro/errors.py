"""User-facing errors, each with the exit code of the command that raises it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EslNeuroError(Exception):
    """Base of every error that the command line reports in one line.

    Attributes
    ----------
    exit_code : int
        Exit code of the command: 1 check failed, 2 bad input, 3 optional dependency missing, 4 hardware limit.
    """

    exit_code = 1


class CheckFailed(EslNeuroError):
    """A parity, count or accuracy check failed."""

    exit_code = 1


class BadInput(EslNeuroError, ValueError):
    """An invalid file, field, option or value; the message lists what is allowed."""

    exit_code = 2


class MissingDependency(EslNeuroError, ImportError):
    """An optional dependency is not installed; the message has the command that installs it."""

    exit_code = 3


class LimitExceeded(EslNeuroError):
    """The network needs more than the hardware target has."""

    exit_code = 4


class ToldElsewhere(EslNeuroError):
    """The run has failed in all its processes, and the first one tells why; this one ends with the same exit code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("the first process of this run tells why it ended")
        self.exit_code = exit_code


def counted(number: int, noun: str) -> str:
    """Write a number of things, with a plural where it is not one.

    Examples
    --------
    >>> counted(1, "finding"), counted(2000, "sample")
    ('1 finding', '2,000 samples')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Return a hint with the allowed names and the closest one.

    Examples
    --------
    >>> did_you_mean("lohi2", ["loihi", "loihi2"])
    "did you mean 'loihi2'? allowed: loihi, loihi2"
    """
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}allowed: {', '.join(names)}"
