"""The one door to Lava: is it there, may it be loaded, and what it leaves behind is put away."""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from esl_neuro.errors import MissingDependency

# Lava chooses the start method when this module is loaded, and fails if one has been chosen before.
_CHOOSES_START_METHOD = "lava.magma.runtime.message_infrastructure.multiprocessing"
_DEFINES_ENCODERS = "lava.magma.compiler.var_model"
INSTALL = "pip install 'esl-neuro[lava]' && pip install --ignore-requires-python --no-deps lava-nc==0.10.0"
"""What installs Lava on any Python: the extra brings what it needs. lava-nc 0.10.0 is the last release; its metadata
refuse Python 3.11 and numpy 2, with which it runs all the same."""

# ``lava`` is a namespace package that others may fill as well, so the processes that are used are looked for.
_NEEDED = ("lava.proc.lif.process", "lava.magma.runtime", "asteval", "networkx", "sklearn")


def lava_installed() -> bool:
    """Say whether lava-nc is installed with all that it needs, without loading it."""
    return not _missing()


def _missing() -> list[str]:
    return [name for name in _NEEDED if not _found(name)]


def _found(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def lava_dl_installed() -> bool:
    """Say whether lava-dl, which loads ``.net`` files, is installed, without loading it."""
    return lava_installed() and _found("lava.lib.dl.netx")


@contextmanager
def lava_session() -> Iterator[None]:
    """Use Lava inside this block: build the processes, run them, read the results.

    Standard output stays free of Lava and its child processes: what they print goes to standard error. Lava gives the
    root logger a handler for each process, and keeps every process and variable, with their data, for ever; both are
    undone at the end. Warnings about how its ``DelaySparse`` handles matrices are silenced.

    Raises
    ------
    MissingDependency
        If lava-nc is not installed, or the interpreter has chosen a way of starting processes that Lava cannot use.
    """
    _load()
    from lava.magma.core.process.process import ProcessServer
    from lava.magma.core.process.variable import VarServer
    from scipy.sparse import SparseEfficiencyWarning

    root = logging.getLogger()
    handlers, processes, variables = root.handlers[:], ProcessServer().processes[:], VarServer().vars[:]
    try:
        with redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore", SparseEfficiencyWarning)
            yield
    finally:
        root.handlers[:] = handlers
        ProcessServer().processes[:] = processes
        VarServer().vars[:] = variables


@contextmanager
def lava_dl_session() -> Iterator[None]:
    """Use Lava and lava-dl inside this block, as :func:`lava_session`.

    Raises
    ------
    MissingDependency
        If lava-dl is not installed, or Lava cannot be used.
    """
    if not lava_dl_installed():
        raise MissingDependency(
            "lava-dl, which loads .net files, is not installed; install it with: pip install 'esl-neuro[lava-dl]' on "
            "Python 3.10 (it needs torch 2.3, which later ones do not have); writing .net files needs no Lava"
        )
    with lava_session():
        yield


def _load() -> None:
    if not lava_installed():
        raise MissingDependency(
            f"the Lava simulator is not installed (missing: {', '.join(_missing())}); install it with: {INSTALL}, "
            "or use --backend integer, which needs no Lava and computes the same"
        )
    chosen = multiprocessing.get_start_method(allow_none=True)
    if chosen not in (None, "fork"):
        raise MissingDependency(
            f"Lava needs the multiprocessing start method 'fork', but '{chosen}' has been chosen in this interpreter; "
            "remove that call of multiprocessing.set_start_method, or use --backend integer"
        )
    if _CHOOSES_START_METHOD not in sys.modules:
        multiprocessing.set_start_method(None, force=True)
        with _hashable_encoders():
            import_module(_DEFINES_ENCODERS)
        import_module(_CHOOSES_START_METHOD)
        _reshape_with_any_numpy()


def _reshape_with_any_numpy() -> None:
    """Replace Lava's two calls of ``numpy.reshape``, which use an argument name that numpy has dropped in 2.4."""
    ports = import_module("lava.magma.core.process.ports.ports").ReshapePort
    ports.get_transform_func_fwd = lambda port: partial(_reshaped, shape=port.shape)
    ports.get_transform_func_bwd = lambda port: partial(_reshaped, shape=port.old_shape)


def _reshaped(data: Any, shape: tuple[int, ...]) -> Any:
    return data.reshape(shape)


@contextmanager
def _hashable_encoders() -> Iterator[None]:
    """Let Lava define its dataclasses on Python 3.11 and later.

    Some of their fields have an instance of another one, an "encoder", as default, which must be hashable since Python
    3.11. While the module that defines them is imported, these classes get the hash that Python gives on request.
    """
    if sys.version_info < (3, 11):
        yield
        return
    original: Any = dataclasses.dataclass

    def dataclass(cls: Any = None, /, **options: Any) -> Any:
        if cls is None:
            return partial(dataclass, **options)
        if cls.__module__ == _DEFINES_ENCODERS and cls.__name__.endswith("Encoder"):
            options["unsafe_hash"] = True
        return original(cls, **options)

    dataclasses.dataclass = dataclass
    try:
        yield
    finally:
        dataclasses.dataclass = original
