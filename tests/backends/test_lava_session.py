"""Lava is asked for in one place, which says what to do where it cannot be used."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from backends.random_programs import random_program, random_spikes
from esl_neuro.backends import lava_session
from esl_neuro.backends.lava import run_lava
from esl_neuro.errors import MissingDependency


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_missing_lava_names_the_fix(monkeypatch):
    monkeypatch.setattr(lava_session, "lava_installed", lambda: False)
    rng = np.random.default_rng(0)
    program = random_program(rng)
    with pytest.raises(
        MissingDependency, match=r"pip install 'esl-neuro\[lava\]' && pip .*lava-nc==0\.10\.0.*--backend integer"
    ):
        run_lava(program, random_spikes(rng, program, samples=1))


@pytest.mark.lava
def test_lava_without_what_it_needs_names_the_fix():
    enter = "from esl_neuro.backends.lava_session import lava_session as s; s().__enter__()"
    done = run_python(f"import sys; sys.modules['networkx'] = sys.modules['asteval'] = None; {enter}")
    message = done.stderr.splitlines()[-1]
    assert "not installed (missing: asteval, networkx)" in message
    assert "pip install 'esl-neuro[lava]'" in message


def test_other_packages_in_the_namespace_are_not_taken_for_lava(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(lava_session, "find_spec", missing)
    assert not lava_session.lava_installed()


def test_integer_backend_loads_neither_lava_nor_torch():
    code = (
        "import sys, esl_neuro.backends.integer, esl_neuro.backends.lava; print({'lava', 'torch'} & set(sys.modules))"
    )
    assert run_python(code).stdout.strip() == "set()"


@pytest.mark.lava
def test_start_method_chosen_before():
    enter = "from esl_neuro.backends.lava_session import lava_session as s; s().__enter__(); print('entered')"
    fork = run_python(f"import multiprocessing as m; m.set_start_method('fork'); {enter}")
    assert fork.stdout.strip() == "entered", fork.stderr
    spawn = run_python(f"import multiprocessing as m; m.set_start_method('spawn'); {enter}")
    assert "it is set to 'spawn'" in spawn.stderr
