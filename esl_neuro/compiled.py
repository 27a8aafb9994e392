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
    """Compile a function that runs in one thread and lets other threads run beside it; kept on disk, too.

    It makes no arrays, so nothing counts the references to those it is given: that took as long as a short loop.
    """
    return _compile(function, nogil=True, _nrt=False)


def part_of_compiled(function: Function) -> Function:
    """Compile a function into each compiled function that calls it: no time is lost on handing over its arguments."""
    make: Any = numba.njit
    result: Function = make(inline="always")(function)
    return result


def compiled_for_forks(signature: str) -> Callable[[Function], Function]:
    """Compile a function at once, for arguments of these types: processes forked later find it compiled."""
    return lambda function: _compile(function, signature)


def _compile(function: Function, *signature: str, **how: bool) -> Function:
    make: Any = numba.njit
    options = {**how, "error_model": "numpy"}
    try:
        result: Function = make(*signature, cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        result = make(*signature, **options)(function)
    return result


def most_threads() -> int:
    """One for each processor of this process, or what ``NUMBA_NUM_THREADS`` says."""
    limits: Any = numba.config
    return int(limits.NUMBA_NUM_THREADS)


def use_threads(count: int) -> None:
    """Let compiled functions use so many threads, as far as there are processors."""
    numba.set_num_threads(min(count, most_threads()))
