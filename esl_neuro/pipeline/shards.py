"""Samples divided into shards, which workers compute; what is merged equals what one process computes.

Where a shard begins does not depend on the workers. The command stores the program and the samples of each shard in a
folder beside the network, named by a digest of all that the result depends on. A task reads one shard from there and
saves its result there, so a killed worker loses the shard that it computes, and the same command continues with the
shards that are saved. The folder is removed when all are merged.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from esl_neuro.compiled import most_threads
from esl_neuro.errors import BadInput
from esl_neuro.pipeline.simulation import OnStatus, Progress
from esl_neuro.pipeline.workers import Tell, Told, Wanted, Workplace, workers
from esl_neuro.reading.arrays import read_arrays
from esl_neuro.storage import flush, locked, refusing, remove_folder, unfinished_folder, write_arrays
from esl_neuro.version import __version__

Arrays: TypeAlias = "dict[str, NDArray[Any]]"
Forms: TypeAlias = "Mapping[str, tuple[DTypeLike, tuple[int, ...]]]"
"""Type of each array, and its shape for one sample."""

FOLDER = ".esl-neuro-shards-"
DIGITS = 16  # of the digest, in the name of the folder
LARGEST, SMALLEST = 256, 8  # samples of a shard
WORK = 2**30  # samples x synapses x steps of a shard: seconds in the integer simulator
LAVA = 4  # times as many in Lava, which takes a second or more to start for each shard


def shard_size(synapses: int, steps: int) -> int:
    """Return the samples of a shard, which depend on the network alone: few if each takes long."""
    return max(SMALLEST, min(LARGEST, WORK // max(1, synapses * steps)))


def parts(samples: int, size: int) -> list[slice]:
    """Return the samples of each shard."""
    return [slice(first, min(first + size, samples)) for first in range(0, samples, size)]


class Compute(Protocol):
    """What is computed for each sample, with the setting that it depends on; small, because it travels to workers."""

    def __call__(self, folder: Path, given: Arrays, threads: int, progress: Progress) -> Arrays:
        """Compute the samples of a shard.

        Parameters
        ----------
        folder : Path
            Has what all shards need, such as the program.
        given : dict of str to array
            The samples.
        threads : int
            Threads that it may use.
        progress : callable
            Called with the number of finished samples and of all samples of the shard, now and then.

        Returns
        -------
        dict of str to array
            One entry for each sample, in the first axis.
        """


@dataclass(frozen=True)
class Elsewhere:
    """Workers that compute shards, and who is told of it.

    Attributes
    ----------
    where : Workplace
        Where.
    folder : Path
        Folder of the network, beside which the shards are kept.
    on_status : callable
        Receives messages.
    progress : callable, optional
        Called with the number of finished samples and of all samples.
    """

    where: Workplace
    folder: Path
    on_status: OnStatus = lambda _: None
    progress: Progress | None = None

    def pays(self, shards: int) -> bool:
        """Return whether these shards are computed elsewhere; one alone only on a cluster."""
        return self.where.elsewhere and shards > (self.where.scheduler is None)

    def compute(
        self,
        compute: Compute,
        given: Iterable[Arrays],
        forms: Forms,
        store: Callable[[Path], None] = lambda _: None,
        modules: Sequence[str] = (),
    ) -> Arrays:
        """Compute shards, and return their results one after the other, joined in the first axis.

        Parameters
        ----------
        compute : Compute
            What.
        given : iterable of dict of str to array
            The samples of each shard, in one pass.
        forms : mapping of str to (dtype, shape)
            The arrays that a shard results in.
        store : callable
            Writes what all shards need into a folder.
        modules : sequence of str
            Modules of the user's own that the workers import.

        Raises
        ------
        BadInput
            If the folder of the network cannot be written, another command computes the same shards, or the workers
            cannot compute them.
        EslNeuroError
            What a shard raises.
        """
        kept, sizes = _kept(self.folder, compute, given, store)
        with locked(kept, "another command is computing the same shards; wait for it"):
            threads = 1 if self.where.scheduler else max(1, most_threads() // self.where.jobs)
            shards = [Shard(kept, compute, number, samples, threads) for number, samples in enumerate(sizes)]
            try:
                self._compute_missing(shards, forms, modules)
            except BaseException:
                if not any(shard.result.exists() for shard in shards):
                    self._remove(kept)
                raise
            joined = _joined(shards, forms)
            self._remove(kept)
        return joined

    def _remove(self, kept: Path) -> None:
        try:
            remove_folder(kept)
        except BadInput as error:
            self.on_status(f"{error}; delete it")

    def _compute_missing(self, shards: Sequence[Shard], forms: Forms, modules: Sequence[str]) -> None:
        missing = [shard for shard in shards if not shard.is_saved(forms)]
        if not missing:
            return
        self.on_status(self._beginning(len(missing), len(shards) - len(missing)))
        finished = {shard: shard.samples for shard in shards} | dict.fromkeys(missing, 0)
        self._show(finished)
        try:
            with (
                workers(self.where, len(missing), missing[0].folder, modules) as ready,
                closing(ready.run(_compute, missing)) as events,
            ):
                if ready.dashboard is not None:
                    self.on_status(f"dashboard: {ready.dashboard}")
                if not ready.count:
                    self.on_status(f"{ready.place} has no workers yet; the shards begin with the first one")
                for event in events:
                    if isinstance(event, Told):
                        finished[event.argument] = event.message["finished"]
                    elif event.error is None:
                        finished[event.argument] = event.argument.samples
                    else:
                        raise event.error
                    self._show(finished)
        except KeyboardInterrupt:
            saved = sum(shard.result.exists() for shard in shards)
            if saved:
                kept = shards[0].folder
                self.on_status(f"{saved} of {len(shards)} shards are saved in {kept}; continue with the same command")
            raise

    def _beginning(self, missing: int, saved: int) -> str:
        what = f"{self.folder}: {missing} shards of the samples to compute"
        at_a_time = f"{min(self.where.jobs, missing)} at a time" if not self.where.scheduler else self.where.scheduler
        return f"{what}, {at_a_time}" + (f", the other {saved} were saved earlier" if saved else "")

    def _show(self, finished: Mapping[Shard, int]) -> None:
        if self.progress is not None:
            self.progress(sum(finished.values()), sum(shard.samples for shard in finished))


@dataclass(frozen=True, eq=False)
class Shard:
    """Some of the samples, as a task.

    Attributes
    ----------
    folder : Path
        Has the samples, and receives the result.
    compute : Compute
        What is computed.
    number : int
        Its place among the shards.
    samples : int
        How many they are.
    threads : int
        Threads that its computation may use.
    """

    folder: Path
    compute: Compute
    number: int
    samples: int
    threads: int

    @property
    def result(self) -> Path:
        """File of its result, which is there when it is computed."""
        return self.folder / f"{self.number:06}.npz"

    def read(self, forms: Forms) -> Arrays:
        """Read its result.

        Raises
        ------
        BadInput
            If it is not there or damaged.
        """
        arrays = read_arrays(self.result)
        expected = {name: (np.dtype(kind), (self.samples, *shape)) for name, (kind, shape) in forms.items()}
        if {name: (array.dtype, array.shape) for name, array in arrays.items()} != expected:
            raise BadInput(f"{self.result}: is not the result of this shard; delete the file, and repeat the command")
        return arrays

    def is_saved(self, forms: Forms) -> bool:
        """Return whether its result is there and whole."""
        try:
            self.read(forms)
        except BadInput:
            return False
        return True


def _compute(shard: Shard, tell: Tell, wanted: Wanted) -> None:
    """Compute a shard in a worker."""

    def progress(finished: int, _samples: int) -> None:
        if not wanted():
            raise KeyboardInterrupt
        tell({"finished": finished})

    progress(0, shard.samples)
    result = shard.compute(shard.folder, read_arrays(_given(shard.folder, shard.number)), shard.threads, progress)
    write_arrays(shard.result, result, compressed=False)


def _given(folder: Path, number: int) -> Path:
    return folder / f"{number:06}.samples.npz"


def _length(given: Arrays) -> int:
    return len(next(iter(given.values())))


def _kept(
    above: Path, compute: Compute, given: Iterable[Arrays], store: Callable[[Path], None]
) -> tuple[Path, list[int]]:
    """Store what the shards need in a folder that is named by it, which may be there; return also their samples."""
    with refusing(above), unfinished_folder(above) as new:
        store(new)
        sizes = []
        for number, arrays in enumerate(given):
            write_arrays(_given(new, number), arrays, compressed=False)
            sizes.append(_length(arrays))
        kept = above / f"{FOLDER}{_digest(new, compute)[:DIGITS]}"
        if not kept.is_dir():
            os.rename(new, kept)
            flush(above)
    return kept, sizes


def _digest(folder: Path, compute: Compute) -> str:
    """Return the SHA-256 of what is computed and of what it is computed from."""
    found = hashlib.sha256(f"{__version__} {compute!r}".encode())
    for path in sorted(folder.iterdir()):
        found.update(f"\0{path.name}\0{path.stat().st_size}\0".encode())
        found.update(path.read_bytes())
    return found.hexdigest()


def _joined(shards: Sequence[Shard], forms: Forms) -> Arrays:
    samples = sum(shard.samples for shard in shards)
    joined = {name: np.empty((samples, *shape), kind) for name, (kind, shape) in forms.items()}
    first = 0
    for shard in shards:
        for name, array in shard.read(forms).items():
            joined[name][first : first + shard.samples] = array
        first += shard.samples
    return joined


# Samples whose steps are all the same are stored once.


def once(values: NDArray[Any]) -> NDArray[Any]:
    """Return the first step of a view that repeats it, shape (samples, 1, ...), and anything else unchanged."""
    return values[:, :1] if values.strides[1] == 0 else values


def repeated(values: NDArray[Any], steps: int) -> NDArray[Any]:
    """Return a view with all steps, shape (samples, steps, ...); undoes :func:`once`."""
    if values.shape[1] == steps:
        return values
    return np.broadcast_to(values, (len(values), steps, *values.shape[2:]))


def divided(arrays: Arrays, size: int) -> Iterator[Arrays]:
    """Yield the samples of each shard."""
    for part in parts(_length(arrays), size):
        yield {name: array[part] for name, array in arrays.items()}
