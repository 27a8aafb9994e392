"""Settings of the whole suite."""

from __future__ import annotations

import pytest
import torch
from hypothesis import Phase, settings

from esl_neuro.backends.lava_session import lava_dl_installed, lava_installed

torch.set_num_threads(1)
# A commit passes or fails the same way everywhere. `pytest --hypothesis-profile=search` draws new examples at each run.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
# `make mutants` asks whether a test fails, not for the smallest example.
settings.register_profile("mutants", deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that need Lava, or lava-dl, where it is not installed."""
    for mark, name, installed in (("lava", "lava-nc", lava_installed()), ("lava_dl", "lava-dl", lava_dl_installed())):
        for item in items:
            if not installed and item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=f"{name} is not installed"))
