"""Compile functions over arrays for the processor on first use."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function whose ``numba.prange`` loops run in parallel; the result is cached on disk.

    It does not hold the interpreter's lock, so that a signal can end the process meanwhile.
    """
    return _compile(function, parallel=True, nogil=True)


def compiled_sums(function: Function) -> Function:
    """Compile like :func:`compiled`, and allow another order of the terms of a sum, so that vectors can add them.

    The order is the same at every call. Values that are not finite stay so.
    """
    return _compile(function, parallel=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})


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


def _compile(function: Function, *signature: str, **how: bool | set[str]) -> Function:
    make: Any = numba.njit
    dispatcher = make(**how, error_model="numpy")(function)
    with suppress(RuntimeError):  # neither the package folder nor the user's cache is writable
        dispatcher.enable_caching()
        dispatcher._cache = _OptionalCache(dispatcher._cache)
    if signature:
        dispatcher.compile(*signature)
        dispatcher.disable_compile()
    result: Function = dispatcher
    return result


class _OptionalCache:
    """numba's cache, without its errors: a full disk or a damaged file costs time, not the command."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def load_overload(self, *key: Any) -> Any:
        """Return compiled code, or None if there is none, or it cannot be read."""
        try:
            return self._cache.load_overload(*key)
        except Exception:  # unpickling a damaged file may raise anything
            with suppress(Exception):
                self._cache.flush()  # else the damaged file would stay, and cost time again
            return None

    def save_overload(self, *entry: Any) -> None:
        """Save compiled code, if there is room."""
        with suppress(Exception):
            self._cache.save_overload(*entry)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)


def most_threads() -> int:
    """Return the number of processors of this process, or ``NUMBA_NUM_THREADS``."""
    limits: Any = numba.config
    return int(limits.NUMBA_NUM_THREADS)


def use_threads(count: int) -> None:
    """Set the number of threads of compiled functions, at most one per processor."""
    numba.set_num_threads(min(count, most_threads()))
