"""Open HDF5 files, after another process has read them whole.

A damaged file can crash the HDF5 library or keep it busy for ever, and no Python code can catch that. A file can also
refer to other files, or declare far more than it holds. So a child process reads everything first, with limits of
memory and time, and only the bytes that it has read are opened here.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from esl_neuro.errors import BadInput
from esl_neuro.reading import hdf5_screen
from esl_neuro.reading.documents import reason
from esl_neuro.reading.limits import SECONDS_VARIABLE, content_limit, refuse_large, time_limit
from esl_neuro.reading.names import printable

MAGIC = b"\x89HDF\r\n\x1a\n"
ANSWER_BYTES = 4096
WALL_PER_CPU = 6  # a machine that does other work takes longer than the processor time


@contextlib.contextmanager
def open_hdf5(path: Path, what: str) -> Iterator[Any]:
    """Open a file for reading, as an ``h5py.File`` of its bytes.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        What it should be, such as ``"a readable NIR file"``, for the message.

    Raises
    ------
    BadInput
        If there is no such file, it is damaged or too large, or it refers to other files; also if the body of the
        ``with`` statement raises anything but :class:`~esl_neuro.errors.EslNeuroError`.
    """
    import h5py

    from esl_neuro.errors import EslNeuroError

    image = _image(path, what)
    found = screen(image)
    if found:
        raise BadInput(f"{path}: not {what}: {found}")
    try:
        with h5py.File(h5py.h5f.open_file_image(image)) as file:
            yield file
    except EslNeuroError:
        raise
    except Exception as error:  # content of another form than expected raises anything
        raise BadInput(f"{path}: not {what}: its content has another form ({reason(error)})") from error


def _image(path: Path, what: str) -> bytes:
    if not path.is_file():
        raise BadInput(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        refuse_large(path, "the file has", path.stat().st_size)
        image = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({reason(error)})") from error
    if not image:
        raise BadInput(f"{path}: not {what}: it is empty")
    if not any(image[at : at + len(MAGIC)] == MAGIC for at in _superblocks(len(image))):
        raise BadInput(f"{path}: not {what}: it is not an HDF5 file (it begins with {image[:8]!r})")
    return image


def _superblocks(size: int) -> Iterator[int]:
    """Yield where an HDF5 file can begin: at 0, 512, 1024, 2048 and so on."""
    yield 0
    at = 512
    while at < size:
        yield at
        at *= 2


def screen(image: bytes) -> str:
    """Read a whole file in a child process; return what is wrong with it, or an empty text."""
    seconds = time_limit(len(image))
    ask = _ask_fork if sys.platform == "linux" else _ask_program
    answer, ended = ask(image, content_limit(), seconds)
    if answer == hdf5_screen.GOOD:
        return ""
    if answer.startswith(hdf5_screen.BAD):
        return printable(answer.removeprefix(hdf5_screen.BAD))
    if answer.startswith(hdf5_screen.DAMAGED):
        return (
            f"it is cut off or damaged, of {len(image):,} bytes ({printable(answer.removeprefix(hdf5_screen.DAMAGED))})"
        )
    if ended is None:
        return f"it cannot be read within {seconds:.0f} s, so it is damaged; or raise the limit with {SECONDS_VARIABLE}"
    return f"it is damaged, of {len(image):,} bytes: the HDF5 library fails on it ({ended})"


def _ask_fork(image: bytes, limit: int, seconds: float) -> tuple[str, str | None]:
    """Return the answer of a fork, and how it ended; None if it took too long.

    A fork starts in milliseconds, with h5py imported and without copying the file.
    """
    import h5py  # noqa: F401 (imported before the fork, which must not import)

    parent = os.getpid()
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        # The child calls only h5py and os, so locks that other threads hold do not matter.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        hdf5_screen.answer_in_child(image, limit, seconds, write_end, parent)
    os.close(write_end)
    try:
        answer, in_time = _received(read_end, seconds * WALL_PER_CPU)
    finally:
        os.close(read_end)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if answer or not in_time:
        return answer, None
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGXCPU:
        return "", None
    return "", signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _received(pipe: int, seconds: float) -> tuple[str, bool]:
    """Return what a child writes before it closes its end, and whether it did in time."""
    if not select.select([pipe], [], [], seconds)[0]:
        return "", False
    return os.read(pipe, ANSWER_BYTES).decode("utf-8", "replace"), True


def _ask_program(image: bytes, limit: int, seconds: float) -> tuple[str, str | None]:
    """Return the answer of a new process, and how it ended; None if it took too long."""
    command = [sys.executable, str(Path(hdf5_screen.__file__)), str(limit), str(seconds)]
    try:
        done = subprocess.run(command, input=image, capture_output=True, timeout=seconds * WALL_PER_CPU, check=False)
    except subprocess.TimeoutExpired:
        return "", None
    return done.stdout.decode("utf-8", "replace").strip(), f"exit code {done.returncode}"
