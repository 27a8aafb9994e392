"""Errors carry the exit code of the command, and say what is allowed."""

from __future__ import annotations

import pytest

from esl_neuro.errors import (
    BadInput,
    CheckFailed,
    EslNeuroError,
    LimitExceeded,
    MissingDependency,
    counted,
    did_you_mean,
)


@pytest.mark.parametrize(
    ("kind", "code"), [(CheckFailed, 1), (BadInput, 2), (MissingDependency, 3), (LimitExceeded, 4)]
)
def test_exit_codes_are_those_of_the_handbook(kind, code):
    assert kind.exit_code == code
    assert issubclass(kind, EslNeuroError)


def test_library_users_may_catch_the_built_in_kinds():
    assert issubclass(BadInput, ValueError)
    assert issubclass(MissingDependency, ImportError)


def test_nearest_spelling_comes_first():
    assert did_you_mean("magnitud", ["set", "magnitude"]) == "did you mean 'magnitude'? allowed: magnitude, set"


def test_no_hint_where_nothing_is_close():
    assert did_you_mean("zzz", ["b", "a"]) == "allowed: a, b"


def test_allowed_names_may_come_from_any_iterable():
    assert did_you_mean("b", (name for name in "cab")).endswith("allowed: a, b, c")


def test_one_thing_has_no_plural():
    assert [counted(number, "finding") for number in (0, 1, 2, 2000)] == [
        "0 findings",
        "1 finding",
        "2 findings",
        "2,000 findings",
    ]
