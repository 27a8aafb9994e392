"""The one door to the disk: what is written is whole, or it is not there.

A file is written beside its destination, flushed to the disk and renamed. Files that belong together are staged in a
folder beside their destination and then moved in; whoever opens the folder next finishes a move that a crash
interrupted. Unfinished files have names of their own, which the next write in the same folder removes. The system
releases every lock when its process ends, however it ends.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from esl_neuro.errors import BadInput

PREFIX, SUFFIX = ".esl-neuro-", ".partial"
STAGED = ".esl-neuro-staged"
PLAN = ".plan.json"  # of a staged set: the files to move in, and those of the earlier set to remove
MOST_READS = 10  # of files that others replace meanwhile
LOCK = "lock"  # the file of the lock where the system cannot lock a folder
SHORT_OF_ROOM = {errno.ENOSPC, errno.EDQUOT}

T = TypeVar("T")

CAUSES = {
    errno.ENOSPC: "the disk is full; free some space and repeat the command",
    errno.EDQUOT: "the disk quota is used up; free some space and repeat the command",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "permission denied; change the permissions, or choose another folder",
    errno.EPERM: "permission denied; change the permissions, or choose another folder",
    errno.ENOENT: "its folder does not exist",
    errno.ENOTDIR: "its folder is a file",
    errno.EISDIR: "it is a folder",
    errno.ELOOP: "it is a link that leads back to itself; delete the link",
    errno.EFBIG: "the file is larger than the system allows (ulimit -f)",
    errno.EMFILE: "too many files are open (ulimit -n)",
    errno.EIO: "the disk reports an error",
    errno.ESTALE: "the network file system has lost it",
}


def cause(error: OSError) -> str:
    """Return why the system refused a file, and what to do, without the name of the file."""
    return CAUSES.get(error.errno or 0, error.strerror or str(error) or type(error).__name__)


@contextmanager
def refusing(path: Path, what: str = "cannot be written") -> Iterator[None]:
    """Report an error of the system in one line that names the file and the true cause.

    Raises
    ------
    BadInput
        For every ``OSError`` of the block.
    """
    try:
        yield
    except OSError as error:
        raise BadInput(f"{path}: {what}: {cause(error)}") from error


# One file.


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """Write a file, whole or not at all; an earlier file stays as it is until the new one is on the disk.

    A device or a pipe, which cannot be replaced, is written directly.

    Raises
    ------
    BadInput
        If it cannot be written, with the cause; nothing is left behind.
    """
    with refusing(path):
        target = Path(os.path.realpath(path))  # a link keeps pointing to its file
        mode = _mode(target)
        if mode is not None and not stat.S_ISREG(mode):
            with target.open("wb") as file:  # refuses a folder
                yield file
            return
        remove_unfinished(target.parent)
        with _unfinished_file(target.parent) as file:
            yield file
            file.flush()
            if mode is not None:
                os.chmod(file.name, stat.S_IMODE(mode))
            os.fsync(file.fileno())
            os.replace(file.name, target)
        flush(target.parent)


def write(path: Path, content: str | bytes) -> None:
    """Write a file as :func:`writing` does."""
    with writing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_arrays(path: Path, arrays: Mapping[str, Any], *, compressed: bool = True) -> None:
    """Write an ``.npz`` file as :func:`writing` does."""
    import numpy as np

    with writing(path) as file:
        (np.savez_compressed if compressed else np.savez)(file, **arrays)


def append(path: Path, line: str) -> None:
    """Add a line to a file; a line that does not fit is not written at all.

    Raises
    ------
    BadInput
        If it cannot be written.
    """
    with refusing(path), path.open("ab", buffering=0) as file:
        end, data = file.tell(), line.encode() + b"\n"
        try:
            written = file.write(data)
            if written < len(data):  # the rest tells the cause
                file.write(data[written:])
        except OSError:
            file.truncate(end)
            raise


def flush(path: Path) -> None:
    """Wait until a file, or the names of a folder, are on the disk; a system that cannot wait is no error."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in SHORT_OF_ROOM | {errno.EIO}:
            raise
    finally:
        os.close(descriptor)


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


# Unfinished files and folders. Each is locked while its process lives.


@contextmanager
def _unfinished_file(folder: Path) -> Iterator[IO[bytes]]:
    while True:
        path = _unfinished_name(folder)
        with path.open("xb") as file:
            try:
                if not _claim(file.fileno(), path):
                    continue
                yield file
                return
            finally:
                path.unlink(missing_ok=True)  # it is gone if it was renamed


@contextmanager
def unfinished_folder(above: Path, mode: int = 0o777) -> Iterator[Path]:
    """Yield a new folder, which is removed at the end unless it was renamed, or at the next use after a crash."""
    remove_unfinished(above)
    while True:
        path = _unfinished_name(above)
        path.mkdir(mode)
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:  # another process took it for a leftover
            continue
        try:
            if not _claim(descriptor, path):
                continue
            yield path
            return
        finally:
            os.close(descriptor)
            shutil.rmtree(path, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder; after a crash it is whole, or the next write beside it removes the rest."""
    unfinished = _unfinished_name(folder.parent)
    with refusing(folder, "cannot be removed"):
        os.rename(folder, unfinished)
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a folder for temporary files, which no crash leaves behind for ever."""
    with unfinished_folder(Path(tempfile.gettempdir()), 0o700) as folder:
        yield folder


def remove_unfinished(folder: Path) -> None:
    """Remove what processes that no longer live were writing in a folder."""
    try:
        names = [name for name in os.listdir(folder) if name.startswith(PREFIX) and name.endswith(SUFFIX)]
    except OSError:
        return
    for path in (folder / name for name in names):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if _try_lock(descriptor) is not True:  # its process lives, or nobody can tell
                    continue
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            finally:
                os.close(descriptor)


def _unfinished_name(folder: Path) -> Path:
    return folder / f"{PREFIX}{secrets.token_hex(4)}{SUFFIX}"


def _claim(descriptor: int, path: Path) -> bool:
    """Mark a new file as the work of a living process; False if another process took it for a leftover meanwhile."""
    return _try_lock(descriptor) is not False and path.exists()


def _try_lock(descriptor: int) -> bool | None:
    """Lock an open file or folder; False if another process holds it, None if the system cannot lock it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


# Files that belong together.


@contextmanager
def replacing(folder: Path, *, last: str, earlier: Collection[str] = ()) -> Iterator[Path]:
    """Yield an empty folder; at the end its files appear in ``folder`` all together, or none does.

    Other files in ``folder`` remain.

    Parameters
    ----------
    folder : Path
        Created if it does not exist.
    last : str
        The file that appears last, so that it stands for the whole set.
    earlier : collection of str
        Files of an earlier set, which are removed unless the new set has them.

    Raises
    ------
    BadInput
        If the folder cannot be written, or another process writes it.
    """
    made = _make_folders(folder)
    try:
        with locked(folder, "is being written by another process; wait for it"), refusing(folder):
            _finish_move(folder)
            with unfinished_folder(folder) as partial:
                yield partial
                names = sorted(os.listdir(partial), key=lambda name: (name == last, name))
                for name in names:
                    if (folder / name).is_dir():
                        raise BadInput(f"{folder / name}: cannot be written: it is a folder")
                plan = {"files": names, "removed": sorted(set(earlier) - set(names))}
                write(partial / PLAN, json.dumps(plan))
                os.rename(partial, folder / STAGED)  # from here on the new set is the valid one
                flush(folder)
            _finish_move(folder)
    except BaseException:
        for path in made:
            with suppress(OSError):
                path.rmdir()
        raise


def finish_replacing(folder: Path) -> None:
    """Finish :func:`replacing` where a crash interrupted it; call it before a set of files is read.

    Raises
    ------
    BadInput
        If another process is replacing the files, or the folder cannot be written.
    """
    if (folder / STAGED).is_dir():
        with locked(folder, "is being written by another process; wait for it"), refusing(folder):
            _finish_move(folder)


def read_together(folder: Path, read: Callable[[], T]) -> T:
    """Read files that belong together; read again if another process has replaced them meanwhile.

    Parameters
    ----------
    folder : Path
        Their folder; an interrupted :func:`replacing` is finished first.
    read : callable
        Reads them.

    Raises
    ------
    BadInput
        If other processes do not stop writing, and what ``read`` raises.
    """
    for _ in range(MOST_READS):
        finish_replacing(folder)
        before = _state(folder)
        try:
            content = read()
        except BadInput:
            if _state(folder) == before:
                raise
        else:
            if _state(folder) == before:
                return content
    raise BadInput(f"{folder}: is being written by another process; wait for it")


def _state(folder: Path) -> dict[str, tuple[int, int, int]] | None:
    """Return what changes if a file is replaced, added or removed."""
    try:
        with os.scandir(folder) as entries:
            states = {entry.name: entry.stat() for entry in entries}
    except OSError:
        return None
    return {name: (state.st_ino, state.st_mtime_ns, state.st_size) for name, state in states.items()}


def _finish_move(folder: Path) -> None:
    staged = folder / STAGED
    if staged.is_symlink() or not staged.is_dir():
        return
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError):  # without a plan everything was moved before
        plan: dict[str, list[str]] = json.loads((staged / PLAN).read_text(encoding="utf-8"))
        files, removed = (_plain_names(plan[key]) for key in ("files", "removed"))
        for name in removed:
            (folder / name).unlink(missing_ok=True)
        for name in files:
            with suppress(FileNotFoundError):  # it was moved before the crash
                os.replace(staged / name, folder / name)
        flush(folder)
    shutil.rmtree(staged)


def _plain_names(names: list[str]) -> list[str]:
    if any(os.path.basename(name) != name or name in ("", ".", "..") for name in names):
        raise ValueError("a name of a file leads out of its folder")
    return names


def _make_folders(folder: Path) -> list[Path]:
    """Create a folder and those above it; return the new ones, the innermost first."""
    with refusing(folder, "cannot be created"):
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    return missing


def create_folder(above: Path, names: Iterator[str], fill: Callable[[Path], None]) -> Path:
    """Create a folder with its first files under the first name that is free; it appears with all of them.

    Parameters
    ----------
    above : Path
        The folder that receives it; created if it does not exist.
    names : iterator of str
        Names to try, in order.
    fill : callable
        Writes the files into the folder that it receives.

    Raises
    ------
    BadInput
        If it cannot be written; nothing is left behind.
    """
    made = _make_folders(above)
    try:
        with refusing(above), unfinished_folder(above) as partial:
            fill(partial)
            for name in names:
                try:
                    os.rename(partial, above / name)
                except OSError as error:
                    if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):  # another process was faster
                        continue
                    raise
                flush(above)
                return above / name
    except BaseException:
        for path in made:
            with suppress(OSError):
                path.rmdir()
        raise
    raise BadInput(f"{above}: no name is free")


# Locks.


class Lock:
    """A folder that only one process writes at a time; the system releases it when the process ends.

    The folder itself is locked, so that no file is left behind. Where the system cannot do that, as on some network
    file systems, the lock is a file in it.

    Parameters
    ----------
    folder : Path
        An existing folder.
    busy : str
        What to tell the second process: ``"is ...; wait for it"``.

    Raises
    ------
    BadInput
        If another process holds it.
    """

    def __init__(self, folder: Path, busy: str) -> None:
        self._file: Any = None
        self._descriptor: int | None = None
        with refusing(folder, "cannot be locked"):
            self._descriptor = os.open(folder, os.O_RDONLY)
            state = _try_lock(self._descriptor)
            if state is None:
                state = self._lock_file(folder)
            if not state:
                holder = _holder(self._descriptor)
                self.release()
                raise BadInput(f"{folder}: {busy}{holder}")

    def _lock_file(self, folder: Path) -> bool:
        from filelock import FileLock, Timeout

        self._file = FileLock(folder / LOCK, timeout=0, thread_local=False)
        try:
            self._file.acquire()
        except Timeout:
            self._file = None
            return False
        return True

    def release(self) -> None:
        """Let other processes write; a second call does nothing."""
        if self._file is not None:
            self._file.release()
            self._file = None
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.release()


@contextmanager
def locked(folder: Path, busy: str) -> Iterator[None]:
    """Hold the :class:`Lock` of a folder."""
    lock = Lock(folder, busy)
    try:
        yield
    finally:
        lock.release()


def _holder(descriptor: int) -> str:
    """Return which process holds a lock, if Linux tells."""
    file = os.fstat(descriptor)
    place = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    with suppress(OSError, IndexError):
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5] == place and int(fields[4]) > 0:
                return f" (process {fields[4]})"
    return ""
