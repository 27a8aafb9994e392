"""Functions over arrays, compiled for the processor on first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function whose ``numba.prange`` loops run in parallel; later processes find the result on disk."""
    return _compile(function, parallel=True)


def compiled_for_threads(function: Function) -> Function:
    """Compile a function that runs in one thread and lets other threads run beside it; kept on disk, too."""
    return _compile(function, nogil=True)


def _compile(function: Function, **how: bool) -> Function:
    make: Any = numba.njit
    options = {**how, "error_model": "numpy"}
    try:
        result: Function = make(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        result = make(**options)(function)
    return result


def most_threads() -> int:
    """One for each processor of this process, or what ``NUMBA_NUM_THREADS`` says."""
    limits: Any = numba.config
    return int(limits.NUMBA_NUM_THREADS)


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
    numba.set_num_threads(min(count, most_threads()))
