"""Stored answers: names, numbers, units and sentences of a room, as they were last read.

Where numbers are derived by hand or by a slow reference elsewhere, these notice what such tests leave out: the words of
a finding, the keys of plain data, the order of rows. A module ``answers.py`` of a room calls :func:`main`:
``python tests/energy/answers.py`` names what differs; with ``--write`` it stores the answers anew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

DIGITS = 6  # the others depend on the processor


def canonical(value: Any, left_out: Collection[str] = ()) -> Any:
    """Return plain data for JSON: equal content gives equal text."""
    if isinstance(value, Mapping):
        return {str(key): canonical(value[key], left_out) for key in sorted(value, key=str) if key not in left_out}
    if isinstance(value, (list, tuple)):
        return [canonical(each, left_out) for each in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return canonical(value.tolist(), left_out)
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def stored(path: Path) -> dict[str, Any]:
    """Return the stored answers."""
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read


def main(path: Path, answers: Mapping[str, Callable[[], Any]]) -> None:
    """Name what differs from the stored answers, or store them anew."""
    from reliability.golden import differences

    now = json.loads(json.dumps({name: answer() for name, answer in answers.items()}))
    if "--write" in sys.argv[1:]:
        path.write_text(json.dumps(now, indent=0) + "\n", encoding="utf-8")
    changed = list(differences(stored(path), now))
    sys.exit("\n".join(changed) if changed else 0)
