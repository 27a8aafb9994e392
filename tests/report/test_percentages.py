"""Percentages have a space before the sign, everywhere."""

from __future__ import annotations

import re
from pathlib import Path

import esl_neuro

GLUED = re.compile(r":\+?,?\.\d%\}")


def test_no_text_writes_a_percentage_without_a_space():
    root = Path(esl_neuro.__file__).parent
    found = [str(path) for path in root.rglob("*.py") if GLUED.search(path.read_text(encoding="utf-8"))]
    assert not found
