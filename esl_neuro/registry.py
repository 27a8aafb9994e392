"""Registries of rules and encodings by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from esl_neuro.errors import BadInput, did_you_mean

Entry = TypeVar("Entry", bound=Callable[..., object])


class Registry(Generic[Entry]):
    """Functions of one kind, found by name.

    Parameters
    ----------
    kind : str
        Kind of the entries for error messages, such as ``"growth rule"``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def register(self, entry: Entry) -> Entry:
        """Add a function under its own name (use as a decorator)."""
        self._entries[entry.__name__] = entry
        return entry

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted(self._entries)

    def __getitem__(self, name: str) -> Entry:
        """Return the function of that name.

        Raises
        ------
        BadInput
            If there is none; the message suggests the closest name.
        """
        if name not in self._entries:
            raise BadInput(f"{self.kind} '{name}' is unknown; {did_you_mean(name, self._entries)}")
        return self._entries[name]
