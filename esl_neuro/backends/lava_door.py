"""The one door to Lava: is it there, may it be loaded, and what it leaves behind is put away."""

from __future__ import annotations

import logging
import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec

from esl_neuro.errors import MissingDependency

# Lava chooses the start method when this module is loaded, and fails if one has been chosen before.
_CHOOSES_START_METHOD = "lava.magma.runtime.message_infrastructure.multiprocessing"


def lava_installed() -> bool:
    """Say whether lava-nc is installed, without loading it.

    ``lava`` is a namespace package that others may fill as well, so the processes that are used are looked for.
    """
    try:
        return find_spec("lava.proc.lif.process") is not None and find_spec("lava.magma.runtime") is not None
    except ModuleNotFoundError:
        return False


@contextmanager
def lava_session() -> Iterator[None]:
    """Use Lava inside this block: build the processes, run them, read the results.

    Standard output stays free of Lava and its child processes: what they print goes to standard error. Lava gives the
    root logger a handler for each process, and keeps every process and variable, with their data, for ever; both are
    undone at the end.

    Raises
    ------
    MissingDependency
        If lava-nc is not installed, or the interpreter has chosen a way of starting processes that Lava cannot use.
    """
    _load()
    from lava.magma.core.process.process import ProcessServer
    from lava.magma.core.process.variable import VarServer

    root = logging.getLogger()
    handlers, processes, variables = root.handlers[:], ProcessServer().processes[:], VarServer().vars[:]
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        root.handlers[:] = handlers
        ProcessServer().processes[:] = processes
        VarServer().vars[:] = variables


def _load() -> None:
    if not lava_installed():
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise MissingDependency(
            "the Lava simulator is not installed; install it with: pip install 'esl-neuro[lava]' on Python 3.10 "
            f"(this is {here}), or use --backend integer, which needs no Lava and computes the same"
        )
    chosen = multiprocessing.get_start_method(allow_none=True)
    if chosen not in (None, "fork"):
        raise MissingDependency(
            f"Lava needs the multiprocessing start method 'fork', but '{chosen}' has been chosen in this interpreter; "
            "remove that call of multiprocessing.set_start_method, or use --backend integer"
        )
    if _CHOOSES_START_METHOD not in sys.modules:
        multiprocessing.set_start_method(None, force=True)
        __import__(_CHOOSES_START_METHOD)
