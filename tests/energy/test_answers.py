"""Nothing that the energy room says of round counts changes unnoticed: ``python tests/energy/answers.py --write``."""

from __future__ import annotations

import json

import pytest

from answers import stored
from energy.answers import ANSWERS, STORED


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_what_it_was(name):
    assert json.loads(json.dumps(ANSWERS[name]())) == stored(STORED)[name]
