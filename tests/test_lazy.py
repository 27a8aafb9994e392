"""The surface of a room: every name is there, and none costs anything before it is used."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

ROOMS = ("hardware", "recipes", "data", "snn", "sparsity", "training", "backends", "energy", "report")
LAZY = ("training", "backends", "energy", "report")


@pytest.mark.parametrize("room", ROOMS)
def test_every_name_of_the_surface_can_be_imported(room):
    module = import_module(f"esl_neuro.{room}")
    assert module.__all__
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize("room", LAZY)
def test_the_names_are_those_of_files_that_have_them(room):
    module = import_module(f"esl_neuro.{room}")
    for name, home in module._HOMES.items():
        assert getattr(module, name) is getattr(import_module(f"esl_neuro.{room}.{home}"), name)
    assert set(module._HOMES) == set(module.__all__)


@pytest.mark.parametrize("room", LAZY)
def test_a_name_that_is_not_there_is_an_attribute_error(room):
    with pytest.raises(AttributeError, match=f"'esl_neuro.{room}' has no attribute 'nothing'; it has "):
        import_module(f"esl_neuro.{room}").nothing  # noqa: B018


@pytest.mark.parametrize("room", LAZY)
def test_importing_a_room_loads_no_library(room):
    code = f"import sys, esl_neuro.{room}; print([m for m in ('torch', 'numba', 'numpy', 'lava') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
