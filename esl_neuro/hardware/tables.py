"""What all tables of a target's TOML file have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pydantic import BaseModel, ConfigDict

from esl_neuro.errors import did_you_mean


def one_of(allowed: Iterable[str]) -> Callable[[str], str]:
    """Return a validator that allows these words, and proposes one that is close to any other."""

    def check(value: str) -> str:
        if value not in allowed:
            raise ValueError(did_you_mean(value, allowed))
        return value

    return check


class Table(BaseModel):
    """A TOML table: no unknown keys, no silent conversion, read only."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
