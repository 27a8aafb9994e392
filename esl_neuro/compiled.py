"""Compile functions over arrays for the processor on first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function whose ``numba.prange`` loops run in parallel; the result is cached on disk."""
    return _compile(function, parallel=True)


def compiled_for_threads(function: Function) -> Function:
    """Compile a function that runs in one thread without blocking other threads; the result is cached on disk.

    It must not allocate arrays, so reference counting is disabled, which took as long as a short loop.
    """
    return _compile(function, nogil=True, _nrt=False)


def part_of_compiled(function: Function) -> Function:
    """Inline a function into each compiled function that calls it, to avoid the cost of passing arguments."""
    make: Any = numba.njit
    result: Function = make(inline="always")(function)
    return result


def compiled_for_forks(signature: str) -> Callable[[Function], Function]:
    """Compile a function immediately for these argument types, so that processes forked later share it."""
    return lambda function: _compile(function, signature)


def _compile(function: Function, *signature: str, **how: bool) -> Function:
    make: Any = numba.njit
    options = {**how, "error_model": "numpy"}
    try:
        result: Function = make(*signature, cache=True, **options)(function)
    except RuntimeError:  # neither the package folder nor the user's cache is writable
        result = make(*signature, **options)(function)
    return result


def most_threads() -> int:
    """Return the number of processors of this process, or ``NUMBA_NUM_THREADS``."""
    limits: Any = numba.config
    return int(limits.NUMBA_NUM_THREADS)


def use_threads(count: int) -> None:
    """Set the number of threads of compiled functions, at most one per processor."""
    numba.set_num_threads(min(count, most_threads()))
