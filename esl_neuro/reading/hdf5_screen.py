"""What a child process does with an HDF5 file: read all of it, and answer with one line.

It also runs as a program of its own, with the file on standard input, and so imports nothing of this package.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
from typing import Any, NoReturn

GOOD, BAD, DAMAGED = "good", "bad: ", "damaged: "

# Deflate compresses by 1032 at most, so a larger ratio is a data set that was declared and never written.
LARGEST_RATIO = 1100
UNWRITTEN = 1_000_000  # bytes that a data set may declare without storing them
MOST_OBJECTS = 1_000_000
MOST_REPEATS = 1000  # groups that are reached again by another path: nested, they multiply
DEEPEST = 100


class Refused(Exception):
    """A file that is not read further; the message says why."""


def judge(image: bytes, limit: int) -> str:
    """Read a whole file; return :data:`GOOD`, or :data:`BAD` or :data:`DAMAGED` with the reason."""
    import h5py

    try:
        with h5py.File(h5py.h5f.open_file_image(image)) as file:
            _Walk(limit).group(file, "", ())
    except Refused as refused:
        return f"{BAD}{refused}"
    except MemoryError:
        return f"{BAD}it needs more memory than the limit"
    except Exception as error:  # HDF5 raises many kinds of errors for a damaged file
        return f"{DAMAGED}{' '.join(str(error).split()) or type(error).__name__}"
    return GOOD


class _Walk:
    """A walk over all paths of a file, which adds up what they declare."""

    def __init__(self, limit: int) -> None:
        self.limit, self.declared, self.objects, self.repeats = limit, 0, 0, 0
        self.seen: set[tuple[int, int]] = set()

    def group(self, group: Any, path: str, above: tuple[Any, ...]) -> None:
        import h5py

        here = h5py.h5o.get_info(group.id)
        identity = (here.fileno, here.addr)
        if identity in above:
            raise Refused(f"group '{path}' contains itself")
        if len(above) >= DEEPEST:
            raise Refused(f"its groups are nested more than {DEEPEST} deep")
        self.repeats += identity in self.seen
        if self.repeats > MOST_REPEATS:
            raise Refused("its groups contain each other by many paths, so that reading them would not end")
        self.seen.add(identity)
        self._attributes(group)
        for name in group:
            self.objects += 1
            if self.objects > MOST_OBJECTS:
                raise Refused(f"it has more than {MOST_OBJECTS:,} objects")
            place = f"{path}/{name}"
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise Refused(f"'{place}' refers to another file ('{link.filename}'); copy the data into one file")
            part = group[name]
            if isinstance(part, h5py.Group):
                self.group(part, place, (*above, identity))
            elif isinstance(part, h5py.Dataset):
                self._dataset(part, place)

    def _dataset(self, part: Any, place: str) -> None:
        if part.external:
            raise Refused(f"the values of '{place}' are in another file ('{part.external[0][0]}'); copy them into one")
        if part.is_virtual:
            raise Refused(f"'{place}' is a view of data sets in other files; copy the data into one file")
        self._attributes(part)
        if part.shape is None:
            return
        size = part.size * max(part.dtype.itemsize, 1)
        self.declared += size
        if self.declared > self.limit:
            raise Refused(
                f"'{place}' declares the shape {part.shape}, so that the file has {self.declared / 1e6:,.0f} MB or "
                f"more; the limit is {self.limit / 1e6:,.0f} MB (ESL_NEURO_MAX_READ_MB)"
            )
        stored = part.id.get_storage_size()
        if size > max(UNWRITTEN, stored * LARGEST_RATIO):
            raise Refused(f"'{place}' declares the shape {part.shape}, of {size:,} bytes, and stores {stored:,} bytes")
        with contextlib.suppress(TypeError, ValueError, UnicodeError):  # types that numpy does not have are not read
            part[()]

    def _attributes(self, part: Any) -> None:
        for name in part.attrs:
            with contextlib.suppress(TypeError, ValueError, UnicodeError):
                part.attrs[name]


def limit_process(limit: int, seconds: float) -> None:
    """Limit the memory and the processor time of this process, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    whole = int(seconds) + 1
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 1))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError), open("/proc/self/statm", encoding="ascii") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + limit, taken + limit))


def answer_in_child(image: bytes, limit: int, seconds: float, pipe: int, parent: int) -> NoReturn:
    """Judge a file in a fork and write the answer to a pipe; end without running anything of the parent."""
    try:
        _be_silent(parent)
        limit_process(2 * limit + 2 * len(image), seconds)
        os.write(pipe, judge(image, limit).encode("utf-8", "replace")[:4000])
    finally:
        os._exit(0)


def _be_silent(parent: int) -> None:
    """Print nothing, leave signals to the parent, and end with it."""
    faulthandler.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def main() -> None:
    """Judge the file on standard input."""
    limit, seconds = int(sys.argv[1]), float(sys.argv[2])
    sys.path.pop(0)  # the folder of this file
    image = sys.stdin.buffer.read()
    import h5py  # noqa: F401 (before the limits, which are on top of what the process has)

    limit_process(2 * limit + 2 * len(image), seconds)
    print(judge(image, limit))


if __name__ == "__main__":
    main()
