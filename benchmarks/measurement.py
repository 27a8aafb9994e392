"""What every benchmark does alike: take times in turn, take the peak of memory, name the machine, and print the record.

No torch here, so that the memory of a process that needs none can be measured.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

from esl_neuro.errors import EslNeuroError
from esl_neuro.training.peak_memory import peak_bytes, reset_peak, resident_bytes
from esl_neuro.version import __version__

Action = Callable[[], object]
Headline = tuple[str, str, str]
"""A row of the summary: what, figure, and what it is held against."""

PACKAGES = ("torch", "numpy", "scipy", "numba", "lava-nc", "snntorch", "spikingjelly", "norse", "sinabs")
INTERRUPTED = 130  # exit code of a program that Ctrl-C ended
FIGURES = 4  # significant digits of a record
MS, MB = 1e3, 1e6


@dataclass(frozen=True)
class Times:
    """Seconds of the repeats of an action: on the wall, and of the processors."""

    wall: tuple[float, ...]
    processor: tuple[float, ...]

    @property
    def wall_ms(self) -> float:
        """Median time on the wall."""
        return MS * median(self.wall)

    @property
    def processor_ms(self) -> float:
        """Median time of the processors, which depends least on what else the machine does."""
        return MS * median(self.processor)

    @property
    def shortest_ms(self) -> float:
        """Shortest time on the wall."""
        return MS * min(self.wall)

    @property
    def milliseconds(self) -> dict[str, float]:
        """All three, for a record."""
        return {"wall_ms": self.wall_ms, "processor_ms": self.processor_ms, "shortest_ms": self.shortest_ms}


def in_turns(actions: Mapping[str, Action], repeat: int, warm_up: int = 1, rest_s: float = 0.0) -> dict[str, Times]:
    """Time actions one after the other, again and again, so that a busy moment of the machine hits all alike.

    Parameters
    ----------
    actions : mapping of str to callable
        What is timed.
    repeat, warm_up : int
        Rounds that count, and rounds before them.
    rest_s : float
        Time between two actions, in which the threads of one stop waiting for more work.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in actions}
    for turn in range(warm_up + repeat):
        for name, action in actions.items():
            time.sleep(rest_s)
            wall, processor = time.perf_counter(), time.process_time()
            action()
            found = time.perf_counter() - wall, time.process_time() - processor
            if turn >= warm_up:
                taken[name].append(found)
    return {name: Times(*zip(*pairs, strict=True)) for name, pairs in taken.items()}


def peak_mb(action: Action) -> float:
    """Return the peak of this process's memory during an action, above what was resident before it, in MB.

    Raises
    ------
    RuntimeError
        If the system does not tell; Linux does.
    """
    _give_back_freed_memory()
    before = resident_bytes()
    reset_peak()
    action()
    peak = peak_bytes()
    if before is None or peak is None:
        raise RuntimeError("the peak of memory is read from /proc/self/status, which this system does not have")
    return (peak - before) / MB


def _give_back_freed_memory() -> None:
    """Give what the process has freed back to the system, which would be used again and so not be counted."""
    gc.collect()
    with suppress(AttributeError, OSError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)


def machine() -> dict[str, Any]:
    """Return processor, cores, memory, what other programs took of them, and versions."""
    return {
        "measured": datetime.now(timezone.utc).date().isoformat(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9,
        "used_by_others": used_by_others(),
        "python": platform.python_version(),
        "esl-neuro": __version__,
        **{name: version for name in PACKAGES if (version := _version(name))},
    }


def used_by_others() -> float | None:
    """Return the share of all processors that other programs used since this module was imported; None if unknown."""
    (busy_before, own_before, before), (busy, own, now) = _STARTED, _used()
    if busy is None or busy_before is None:
        return None
    others = busy - busy_before - (own - own_before)
    return max(0.0, others / ((now - before) * (os.cpu_count() or 1)))


def _used() -> tuple[float | None, float, float]:
    """Return the seconds for which all processors were busy, those of this process and its children, and the time."""
    own, busy = sum(os.times()[:4]), None
    with suppress(OSError):
        ticks = [int(each) for each in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]]
        busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")  # all but idle and waiting for files
    return busy, own, time.perf_counter()


_STARTED = _used()


def processor() -> str:
    """Return the name of the processor: accuracy depends a little on it, speed very much."""
    try:
        names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        names = []
    return names[0] if names else platform.processor()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def print_record(result: Mapping[str, Any]) -> None:
    """Print what was measured, and on which machine, as JSON."""
    print(json.dumps(rounded({**result, "machine": machine()}), indent=2))


def rounded(value: Any) -> Any:
    """Return a result with figures of four digits."""
    if isinstance(value, Mapping):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(entry) for entry in value]
    return float(f"{value:.{FIGURES}g}") if isinstance(value, float) else value


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of a document."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figure(value: float) -> str:
    """Write a number of a record with all of its digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def percent(share: float) -> str:
    """Write a share in percent, and one above 1 as a multiple."""
    return f"{100 * share:.3g} %" if abs(share) <= 1 else f"{figure(share)} times"


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; an error of this package is one line, and Ctrl-C none."""
    try:
        main()
    except EslNeuroError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
