"""Nothing that the compiler says of these graphs changes unnoticed: ``python tests/compiler/answers.py --write``."""

from __future__ import annotations

import json

import pytest

from answers import stored
from compiler.answers import ANSWERS, STORED


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_what_it_was(name):
    assert json.loads(json.dumps(ANSWERS[name]())) == stored(STORED)[name]
