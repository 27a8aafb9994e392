"""Keep freed memory in the process while a network is trained.

The C library gives a large block back to the system when it is freed, so each batch of a convolutional network asks for
the same memory anew, and the system clears every page of it again: a fifth of the processor time, measured.
"""

from __future__ import annotations

import ctypes
import sys

from esl_neuro.signal_memory import keep_blocks

# Names and numbers of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process reuse the memory that it frees, for the rest of its life.

    Its resident size stays at its peak. torch's caching of memory on a GPU does the same there.

    Returns
    -------
    bool
        Whether the C library can do so; glibc can, others keep their way.
    """
    keep_blocks()
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER))
