"""Settings of the whole suite."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import Phase, settings

from esl_neuro.backends.lava_session import lava_dl_installed, lava_installed

torch.set_num_threads(1)
os.environ.pop("COLUMNS", None)  # the processes of the suite inherit the width of a terminal, and texts would follow it
# A commit passes or fails the same way everywhere. `pytest --hypothesis-profile=search` draws new examples at each run.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
# `make mutants` asks whether a test fails, not for the smallest example.
settings.register_profile("mutants", deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
settings.load_profile("suite")


# Folders and files of the longest tests, which run first, so that all processes end at about the same time.
LONGEST = ("tests/system/test_documents.py", "tests/reliability/", "tests/system/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first, and skip the tests that need Lava, or lava-dl, where it is not installed."""
    items.sort(key=_place)
    for mark, name, installed in (("lava", "lava-nc", lava_installed()), ("lava_dl", "lava-dl", lava_dl_installed())):
        for item in items:
            if not installed and item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=f"{name} is not installed"))


def _place(item: pytest.Item) -> int:
    """Place of a test's file in the order of the suite; sorting keeps the order of the tests within a file."""
    path = item.path.as_posix()
    return next((place for place, name in enumerate(LONGEST) if name in path), len(LONGEST))
