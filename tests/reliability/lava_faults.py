"""Let Lava's processes, or this one, fail in every way while a network runs, again and again.

    python tests/reliability/lava_faults.py --faults 200

Every fault must end the run in less than five seconds with an error that names the cause, leave no process, no shared
memory and no open file, and not disturb the next run, which must equal the integer simulator.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # what tests share

import numpy as np

from backends.random_programs import random_program, random_spikes
from esl_neuro.backends.integer import run_integer
from esl_neuro.backends.lava import run_lava
from esl_neuro.backends.supervise import LavaError
from esl_neuro.backends.trace import first_difference
from esl_neuro.interruption import Interrupted, interruptible

LONGEST_S = 5.0
SAMPLES = 20_000  # they would take minutes
OF_A_CHILD = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP, "aborted": signal.SIGABRT}
OF_THE_PARENT = {"Ctrl-C": signal.SIGINT, "terminated": signal.SIGTERM, "parent killed": signal.SIGKILL}


def children(parent: int) -> list[int]:
    """Return the child processes of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended
            found += map(int, task.read_text().split())
    return found


def named_memory(pids: list[int]) -> set[str]:
    """Return the named blocks of shared memory that processes use: a kill would leave them behind."""
    found = set()
    for pid in pids:
        with suppress(OSError):  # it has ended
            found |= set(re.findall(r"/dev/shm/\S+", Path(f"/proc/{pid}/maps").read_text()))
    return {name for name in found if not name.startswith("/dev/shm/sem.")}  # semaphores lose their name at once


def network(seed: int) -> tuple:
    """Return a random program and samples for it."""
    rng = np.random.default_rng(seed)
    program = random_program(rng, depth=1, steps=4)
    return program, random_spikes(rng, program, samples=4)


def disturb(kind: str, wait_s: float, draw: random.Random) -> str:
    """Run a network in this process and let one of its processes fail; return what is wrong."""
    program, spikes = network(0)
    struck: list[float] = []
    named: set[str] = set()

    def strike() -> None:
        wait_for_children(os.getpid())
        time.sleep(wait_s)
        victims = children(os.getpid())
        named.update(named_memory([os.getpid(), *victims]))
        if victims:
            struck.append(time.monotonic())
            os.kill(draw.choice(victims), OF_A_CHILD[kind])

    thread = threading.Thread(target=strike)
    thread.start()
    try:
        run_lava(program, np.tile(spikes, (SAMPLES // 4, 1, 1)), copies=1, timeout_s=60)
        problem = "" if not struck else "the run succeeded without one of its processes"
    except LavaError as error:
        took = time.monotonic() - struck[0] if struck else 0.0
        problem = "" if took < LONGEST_S and "process" in str(error).splitlines()[0] else f"{took:.1f} s: {error}"
        if "runtime service" in str(error):
            problem = "" if took < LONGEST_S else problem
    thread.join()
    return problem or (f"shared memory has names: {named}" if named else "")


def wait_for_children(parent: int) -> None:
    """Wait until Lava starts the processes of a network."""
    deadline = time.monotonic() + 30
    while len(children(parent)) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)


def disturb_parent(kind: str, wait_s: float) -> str:
    """Run a network in a fork, and signal the fork; return what is wrong."""
    child = os.fork()
    if child == 0:
        _run_until_signal()
    wait_for_children(child)
    time.sleep(wait_s)
    lava = children(child)
    named = named_memory([child, *lava])
    began = time.monotonic()
    os.kill(child, OF_THE_PARENT[kind])
    _, status = os.waitpid(child, 0)
    took, code = time.monotonic() - began, os.waitstatus_to_exitcode(status)
    number = OF_THE_PARENT[kind]
    if code != (-number if number == signal.SIGKILL else 128 + number) or took > 2:
        return f"exit code {code} after {took:.1f} s"
    deadline = time.monotonic() + 2
    while (alive := [pid for pid in lava if _lives(pid)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    return f"left behind: {alive}" if alive else f"shared memory has names: {named}" if named else ""


def _run_until_signal() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    code = 0
    with interruptible():
        try:
            program, spikes = network(0)
            run_lava(program, np.tile(spikes, (SAMPLES // 4, 1, 1)), copies=1)
        except Interrupted as error:
            code = 128 + error.number
    os._exit(code)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def works(seed: int) -> str:
    """Return what is wrong with an undisturbed run."""
    program, spikes = network(seed)
    found = first_difference(run_lava(program, spikes, timeout_s=60), run_integer(program, spikes))
    return "" if found is None else f"the next run differs: {found}"


def size() -> tuple[int, int, int]:
    """Return open files, threads and MiB of memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return len(os.listdir("/proc/self/fd")), threading.active_count(), pages * os.sysconf("SC_PAGESIZE") // 2**20


def torture(faults: int, draw: random.Random, say: Callable[[str], None] = print) -> int:
    """Disturb runs as often as asked; return the failures."""
    works(0)
    kinds = [*OF_A_CHILD, *OF_THE_PARENT]
    first, failed = size(), 0
    for index in range(faults):
        kind, wait_s = kinds[index % len(kinds)], draw.uniform(0, 1.0)
        problem = disturb(kind, wait_s, draw) if kind in OF_A_CHILD else disturb_parent(kind, wait_s)
        problem = problem or works(index)
        left = children(os.getpid())
        problem = problem or (f"processes left: {left}" if left else "")
        if problem:
            failed += 1
            say(f"fault {index}, {kind} after {wait_s:.2f} s: {problem}")
        if index == min(9, faults - 1):
            first = size()  # after the first runs, when everything is loaded
    say(f"open files, threads, MiB: {first} after the first faults, {size()} after {faults}")
    say(f"{faults} faults, {failed} failures")
    return failed


def main() -> None:
    """Disturb Lava."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.exit(bool(torture(options.faults, random.Random(options.seed))))


if __name__ == "__main__":
    main()
