"""Damage small valid files, and see what every reader does with them: ``make fuzz ARGS="--minutes 60 --reader nir"``.

A reader must refuse a damaged file with an error of the project, or read it. Each input is read in a child
process with limits of time and memory, so that crashes and hangs are found as well. These are failures:

========== ==========================================================================================================
crash      the process ended by a signal, such as a segmentation fault
hang       10 s of processor time without an answer, or 10 s by the clock, longer if others use the processors
memory     more than 1 GiB was asked for
traceback  an exception that is not an error of the project
silent     something that no valid file contains was accepted
message    the error has control characters, which would reach the terminal
========== ==========================================================================================================

An input is named by ``reader:seed``, and after minimising by the changes that suffice, ``reader:seed:0,2``;
``--replay`` repeats one. Every run begins with the inputs of ``found.txt``, which failed once, and goes on with the
seeds 0, 1, 2 and so on, so a longer run repeats a shorter one.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import math
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from reliability.mutations import Damage, damage
from reliability.readers import ORDER, READERS, Reader

SECONDS = 10
MEMORY = 2**30
TOGETHER = 25  # inputs of a reader that one process reads
READ, REFUSED = "read", "refused"
FOUND = Path(__file__).with_name("found.txt")
Input = tuple[str, int, "tuple[int, ...] | None"]


@dataclass(frozen=True)
class Outcome:
    """What a reader did.

    Attributes
    ----------
    kind : str
        ``read``, ``refused``, or a failure.
    text : str
        Message of the error, or the place of the failure, by which failures are told apart.
    """

    kind: str
    text: str = ""

    @property
    def failed(self) -> bool:
        """Whether it is a failure."""
        return self.kind not in (READ, REFUSED)


@dataclass(frozen=True)
class Failure:
    """A failure, with the least changes that cause it."""

    name: str
    outcome: Outcome
    file: str
    changes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}  {self.outcome.kind}: {self.outcome.text}  [{self.file}: {'; '.join(self.changes)}]"


@dataclass
class Tally:
    """What a reader did with all its inputs."""

    reader: str
    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: dict[tuple[str, str], Failure] = field(default_factory=dict)


@dataclass(frozen=True)
class Example:
    """A valid example of a reader, in a folder of its own."""

    name: str
    reader: Reader
    folder: Path

    @classmethod
    def make(cls, name: str, above: Path) -> Example:
        """Write the example and read it once, which also loads what the reader needs into this process."""
        example = cls(name, READERS[name], above / name)
        example.folder.mkdir()
        example.reader.make(example.folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            example.reader.read(example.folder)
        return example

    def damaged(self, seed: int, kept: Sequence[int] | None = None) -> tuple[str, Damage]:
        """Return one file of the example, damaged; draws again where the format cannot hold the change."""
        number = ORDER.index(self.name)
        for attempt in range(100):
            rng = np.random.default_rng([number, seed, attempt])
            file = self.reader.files[int(rng.integers(len(self.reader.files)))]
            path = self.folder / file
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    made = damage(path, path.read_bytes(), [number, seed, attempt], kept)
            except Exception:  # the writers of the formats refuse in many ways
                continue
            if made.content != path.read_bytes():
                return file, made
        raise RuntimeError(f"{self.name}:{seed}: no change could be written")

    def outcome(self, seed: int, kept: Sequence[int] | None = None) -> tuple[Outcome, str, Damage]:
        """Let the reader read a damaged copy of the example in a child process."""
        file, made = self.damaged(seed, kept)
        with self._copied(file, made) as copy:
            found = in_child(lambda: self.reader.read(copy), copy)
        return self._unless_silent(found, file, made), file, made

    def outcome_here(self, seed: int, kept: Sequence[int] | None = None) -> Outcome:
        """Let the reader read a damaged copy of the example in this process."""
        file, made = self.damaged(seed, kept)
        with self._copied(file, made) as copy:
            os.chdir(copy)
            found = judged(lambda: self.reader.read(copy))
            os.chdir(self.folder)
        return self._unless_silent(found, file, made)

    @contextmanager
    def _copied(self, file: str, made: Damage) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as work:
            copy = Path(work) / "input"
            shutil.copytree(self.folder, copy)
            (copy / file).write_bytes(made.content)
            yield copy

    def _unless_silent(self, found: Outcome, file: str, made: Damage) -> Outcome:
        if found.kind == READ and made.invalid and not self.reader.may_say_anything(file, made.place):
            return Outcome("silent", f"accepted {made.place or 'a file that is cut off'}")
        return found


def in_child(read: Callable[[], object], folder: Path) -> Outcome:
    """Call a function in a child process with limits, and return what became of it."""

    def work() -> Iterator[Outcome]:
        os.chdir(folder)
        yield judged(read)

    said, status = forked(work)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return (
            Outcome("hang", f"{patience()} s")
            if number in (signal.SIGALRM, signal.SIGXCPU)
            else Outcome("crash", signal.Signals(number).name)
        )
    return said[0] if said else Outcome("crash", "no answer")


def in_turn(example: Example, given: Sequence[Input]) -> Iterator[Outcome]:
    """Yield what a reader does with each of several inputs; a process reads them in turn until one ends it.

    Starting a process takes longer than reading most inputs.
    """
    while given:
        said, _ = forked(lambda given=given: (example.outcome_here(seed, kept) for _, seed, kept in given))
        yield from said
        given = given[len(said) :]
        if given:  # the next one has ended the process; alone, it shows how
            _, seed, kept = given[0]
            yield example.outcome(seed, kept)[0]
            given = given[1:]


def forked(work: Callable[[], Iterator[Outcome]]) -> tuple[list[Outcome], int]:
    """Return the outcomes that a child process with limits yields, each within the time limit, and how it ended."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        try:
            limit()
            with os.fdopen(send, "w") as pipe:
                for found in work():
                    print(json.dumps([found.kind, found.text[:2000]]), file=pipe, flush=True)
                    allow_time()
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive) as pipe:
        said = [Outcome(*json.loads(line)) for line in pipe if line.endswith("\n")]
    return said, os.waitpid(child, 0)[1]


def patience() -> int:
    """Return the seconds in which a reader must answer: a busy machine gives it a share of a processor."""
    return SECONDS * max(1, math.ceil(os.getloadavg()[0] / (os.cpu_count() or 1)))


def allow_time() -> None:
    """End this process after the time for one input: of the processor, and by the clock."""
    used = math.ceil(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (used + SECONDS, resource.RLIM_INFINITY))
    signal.alarm(patience())


def limit() -> None:
    """Limit time and memory of this process, and silence it."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    allow_time()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    warnings.simplefilter("ignore")


def judged(read: Callable[[], object]) -> Outcome:
    """Call a reader and judge what it returns or raises."""
    from esl_neuro.errors import EslNeuroError

    try:
        read()
    except EslNeuroError as error:
        text = str(error)
        # Several findings stand on lines of their own; other control characters would reach the terminal.
        controls = any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text.replace("\n", ""))
        return Outcome("message", f"raised at {place_of(error)}") if controls else Outcome(REFUSED, text[:200])
    except MemoryError as error:
        return Outcome("memory", place_of(error))
    except BaseException as error:
        return Outcome("traceback", f"{type(error).__name__} at {place_of(error)}")
    return Outcome(READ)


def place_of(error: BaseException) -> str:
    """Return the innermost function of the package that an exception passed through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "esl_neuro" in Path(frame.filename).parts]
    if not frames:
        return "outside the package"
    parts = Path(frames[-1].filename).parts
    return f"{'/'.join(parts[len(parts) - parts[::-1].index('esl_neuro') :])}:{frames[-1].lineno} ({frames[-1].name})"


def minimised(example: Example, seed: int, kept: Sequence[int] | None, found: Outcome) -> Failure:
    """Drop changes as long as the same failure remains."""
    _, made = example.damaged(seed, kept)
    kept = list(range(len(made.changes)) if kept is None else kept)
    for number in list(kept):
        fewer = [each for each in kept if each != number]
        if fewer and example.outcome(seed, fewer)[0] == found:
            kept = fewer
    file, made = example.damaged(seed, kept)
    return Failure(f"{example.name}:{seed}:{','.join(map(str, kept))}", found, file, made.changes)


def parsed(name: str) -> Input:
    """Return reader, seed and changes of the name of an input."""
    reader, seed, *kept = name.split(":")
    return reader, int(seed), tuple(map(int, kept[0].split(","))) if kept else None


def inputs(examples: Mapping[str, Example], seeds: Iterable[int]) -> Iterator[Input]:
    """Yield what failed once, then for every seed one input of each reader, several of one reader in turn."""
    yield from (each for each in map(parsed, FOUND.read_text().split()) if each[0] in examples)
    for some in batched(seeds, TOGETHER):
        yield from ((name, seed, None) for name in examples for seed in some)


def batched(values: Iterable[int], size: int) -> Iterator[tuple[int, ...]]:
    """Yield values in groups, as ``itertools.batched`` does since Python 3.12."""
    left = iter(values)
    while group := tuple(islice(left, size)):
        yield group


def together(given: Iterable[Input]) -> Iterator[list[Input]]:
    """Yield the inputs that one process reads: of one reader, and few, because a reader alone has no end of them."""
    for _, group in groupby(given, key=itemgetter(0)):
        while some := list(islice(group, TOGETHER)):
            yield some


def fuzz(examples: Mapping[str, Example], given: Iterable[Input], until: float) -> dict[str, Tally]:
    """Give the readers their inputs, until the time is over or Ctrl-C comes."""
    tallies = {name: Tally(name) for name in examples}
    with suppress(KeyboardInterrupt):
        for some in together(given):
            if time.monotonic() > until:
                break
            name = some[0][0]
            example, tally = examples[name], tallies[name]
            for (_, seed, kept), found in zip(some, in_turn(example, some), strict=True):
                tally.inputs += 1
                tally.outcomes[found.kind] += 1
                if found.failed and (found.kind, found.text) not in tally.failures:
                    failure = minimised(example, seed, kept, found)
                    tally.failures[found.kind, found.text] = failure
                    print(failure, flush=True)
    return tallies


def table(tallies: Sequence[Tally]) -> str:
    """Return the result as a table."""
    rows = [("reader", "inputs", "refused", "read", "failures", "different")]
    for tally in tallies:
        failures = sum(count for kind, count in tally.outcomes.items() if kind not in (READ, REFUSED))
        numbers = (tally.inputs, tally.outcomes[REFUSED], tally.outcomes[READ], failures, len(tally.failures))
        rows.append((tally.reader, *(f"{number:,}" for number in numbers)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )


def keep(failure: Failure, example: Example, folder: Path) -> None:
    """Store a failure: the damaged file, and what happened."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = failure.name.replace(":", "-").replace(",", "+")
    _, seed, kept = parsed(failure.name)
    file, made = example.damaged(seed, kept)
    (folder / f"{stem}{Path(file).suffix}").write_bytes(made.content)
    document = {"name": failure.name, **vars(failure.outcome), "file": file, "changes": failure.changes}
    (folder / f"{stem}.json").write_text(json.dumps(document, indent=2) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the loop, print a table; the exit code is 1 if there is a failure."""
    parser = argparse.ArgumentParser(prog="make fuzz", description="Damage files and see what every reader does.")
    parser.add_argument("--reader", action="append", choices=sorted(READERS), help="may be repeated; default: all")
    parser.add_argument("--without-torch", action="store_true", help="leave out the readers that load torch")
    parser.add_argument("--minutes", type=float, default=1.0, help="default: 1")
    parser.add_argument("--inputs", type=int, default=2**31, help="at most so many for each reader")
    parser.add_argument("--seed", type=int, default=0, help="of the first input")
    parser.add_argument("--replay", metavar="NAME", help="repeat one input, such as nir:17 or nir:17:0,2")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--failures", type=Path, default=Path(".fuzz"), help="folder of the failures; default: .fuzz")
    given = parser.parse_args(arguments)
    # A child has none of its parent's threads, so nothing may start any before the fork.
    os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "NUMBA_THREADING_LAYER": "workqueue"}
    names = [name for name in READERS if not given.reader or name in given.reader]
    names = [name for name in names if not given.without_torch or not READERS[name].needs_torch]
    with tempfile.TemporaryDirectory() as above:
        if given.replay:
            return replay(given.replay, Path(above))
        examples = {name: Example.make(name, Path(above)) for name in names}
        until = time.monotonic() + 60 * given.minutes
        tallies = fuzz(examples, inputs(examples, range(given.seed, given.seed + given.inputs)), until)
        for name, tally in tallies.items():
            for failure in tally.failures.values():
                keep(failure, examples[name], given.failures)
    print(table(list(tallies.values())))
    if given.json:
        given.json.write_text(json.dumps([plain(tally) for tally in tallies.values()], indent=2) + "\n")
    return int(any(tally.failures for tally in tallies.values()))


def plain(tally: Tally) -> dict[str, object]:
    """Return plain data for JSON."""
    failures = [
        {"name": failure.name, **vars(failure.outcome), "file": failure.file, "changes": failure.changes}
        for failure in tally.failures.values()
    ]
    return {"reader": tally.reader, "inputs": tally.inputs, "outcomes": dict(tally.outcomes), "failures": failures}


def replay(name: str, above: Path) -> int:
    """Repeat one input in this process's child, and print what happened."""
    reader, seed, kept = parsed(name)
    found, file, made = Example.make(reader, above).outcome(seed, kept)
    print(f"{file}: {'; '.join(made.changes)}\n{found.kind}: {found.text}")
    return int(found.failed)


if __name__ == "__main__":
    sys.exit(main())
