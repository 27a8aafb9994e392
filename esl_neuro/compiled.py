"""Functions over arrays, compiled for the processor on first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function whose ``numba.prange`` loops run in parallel; later processes find the result on disk."""
    make: Any = numba.njit
    options = {"parallel": True, "error_model": "numpy"}
    try:
        result: Function = make(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        result = make(**options)(function)
    return result


def compiled_for_one_thread(signature: str) -> Callable[[Function], Function]:
    """Compile a function now, for arguments of these types and without threads, which processes forked later can use.

    Threads do not survive a fork.
    """
    make: Any = numba.njit

    def decorate(function: Function) -> Function:
        try:
            result: Function = make(signature, cache=True)(function)
        except RuntimeError:  # neither the package's folder nor the user's cache can be written
            result = make(signature)(function)
        return result

    return decorate


def use_threads(count: int) -> None:
    """Let compiled functions use so many threads, as far as there are processors."""
    limits: Any = numba.config
    numba.set_num_threads(min(count, limits.NUMBA_NUM_THREADS))
