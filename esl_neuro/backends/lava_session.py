"""Load Lava, check that it is usable, and clean up after it."""

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

# Lava sets the start method when this module is loaded, and fails if another one has been set.
_CHOOSES_START_METHOD = "lava.magma.runtime.message_infrastructure.multiprocessing"
_DEFINES_ENCODERS = "lava.magma.compiler.var_model"
INSTALL = "pip install 'esl-neuro[lava]' && pip install --ignore-requires-python --no-deps lava-nc==0.10.0"
"""Command that installs Lava on any Python; the extra installs its dependencies.

lava-nc 0.10.0 is the last release; it works with Python 3.11 and numpy 2, although its metadata exclude them.
"""

# ``lava`` is a namespace package that other packages may extend, so the required modules are checked.
_NEEDED = ("lava.proc.lif.process", "lava.magma.runtime", "asteval", "networkx", "sklearn")


def lava_installed() -> bool:
    """Return whether lava-nc is installed with its dependencies, without loading it."""
    return not _missing()


def _missing() -> list[str]:
    return [name for name in _NEEDED if not _found(name)]


def _found(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def lava_dl_installed() -> bool:
    """Return whether lava-dl, which loads ``.net`` files, is installed, without loading it."""
    return lava_installed() and _found("lava.lib.dl.netx")


@contextmanager
def lava_session() -> Iterator[None]:
    """Use Lava inside this block: build the processes, run them, read the results.

    Output of Lava and its child processes goes to standard error. Lava adds a handler per process to the root logger,
    and never frees processes and variables with their data; both are removed at the end. Warnings about how its
    ``DelaySparse`` handles matrices are suppressed.

    Raises
    ------
    MissingDependency
        If lava-nc is not installed, or the multiprocessing start method is not ``fork``.
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
    """Use Lava and lava-dl inside this block, like :func:`lava_session`.

    Raises
    ------
    MissingDependency
        If lava-dl is not installed, or Lava cannot be used.
    """
    if not lava_dl_installed():
        raise MissingDependency(
            "lava-dl, which loads .net files, is not installed; install it with: pip install 'esl-neuro[lava-dl]' on "
            "Python 3.10 (it needs torch 2.3, which later versions do not support); writing .net files needs no Lava"
        )
    with lava_session():
        yield


def _load() -> None:
    if not lava_installed():
        raise MissingDependency(
            f"the Lava simulator is not installed (missing: {', '.join(_missing())}); install it with: {INSTALL}, "
            "or use --backend integer, which needs no Lava and returns the same integers"
        )
    chosen = multiprocessing.get_start_method(allow_none=True)
    if chosen not in (None, "fork"):
        raise MissingDependency(
            f"Lava needs the multiprocessing start method 'fork', but it is set to '{chosen}' in this interpreter; "
            "remove the call of multiprocessing.set_start_method, or use --backend integer"
        )
    if _CHOOSES_START_METHOD not in sys.modules:
        multiprocessing.set_start_method(None, force=True)
        with _hashable_encoders():
            import_module(_DEFINES_ENCODERS)
        import_module(_CHOOSES_START_METHOD)
        _reshape_with_any_numpy()
        _convolve_with_any_numpy()


def _reshape_with_any_numpy() -> None:
    """Replace Lava's two calls of ``numpy.reshape``, which use an argument name that numpy 2.4 has removed."""
    ports = import_module("lava.magma.core.process.ports.ports").ReshapePort
    ports.get_transform_func_fwd = lambda port: partial(_reshaped, shape=port.shape)
    ports.get_transform_func_bwd = lambda port: partial(_reshaped, shape=port.old_shape)


def _reshaped(data: Any, shape: tuple[int, ...]) -> Any:
    return data.reshape(shape)


def _convolve_with_any_numpy() -> None:
    """Give Lava's convolution Python integers: numpy 2 refuses to divide 128 channels by the bytes of its sizes."""
    utils: Any = import_module("lava.proc.conv.utils")
    utils.conv = partial(_convolved, utils.conv)


def _convolved(convolve: Any, spikes: Any, weights: Any, *sizes: Any) -> Any:
    return convolve(spikes, weights, *(size.tolist() for size in sizes))


@contextmanager
def _hashable_encoders() -> Iterator[None]:
    """Let Lava define its dataclasses on Python 3.11 and later.

    Some fields default to an instance of another dataclass, an "encoder", which must be hashable since Python 3.11.
    While their module is imported, these classes are made hashable.
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
