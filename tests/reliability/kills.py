"""Kill commands at random instants, and complete their work: nothing is lost, and nothing differs.

    python tests/reliability/kills.py --kills 300

Trainings are resumed and must equal an undisturbed run bit for bit. Of an export or a compiled file, either the old or
the new one must be there. A sweep, repeated, must end as an undisturbed one.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # what tests share

from esl_neuro.storage import STAGED, finish_replacing
from reliability.commands import (
    TINY,
    contents,
    copy,
    leftovers,
    load,
    prepare,
    run,
    start,
    succeed,
    wait,
    workplace,
)

TRAIN = f"esl-neuro train {TINY} --set training.epochs=6"
EXPORT = "esl-neuro export --thresholds folded"
COMPILE = "esl-neuro compile runs/mlp-digits-001/loihi2/model.nir --steps 2 --out o --accept-loss"


@dataclass(frozen=True)
class Case:
    """A command to kill.

    Attributes
    ----------
    name : str
        What it does.
    before : tuple of str
        Commands that prepare its folder.
    command : str
        The command.
    next : callable
        Returns the command that continues it.
    swapped : str
        Folder that must be old or new after every kill.
    """

    name: str
    before: tuple[str, ...]
    command: str
    next: Callable[[Path, str], str] = lambda _, command: command
    swapped: str = ""


def _resume(folder: Path, command: str) -> str:
    run_folder = folder / "runs" / "mlp-digits-001"
    return "esl-neuro train --resume runs/mlp-digits-001" if (run_folder / "last.safetensors").exists() else command


CASES = (
    Case("train", (), TRAIN, _resume),
    Case("export over an export", (TRAIN, "esl-neuro export"), EXPORT, swapped="runs/mlp-digits-001/loihi2"),
    Case("compile over a folder", (TRAIN, "esl-neuro export", f"{COMPILE} --format netx"), COMPILE, swapped="o"),
    Case("sweep", (), "esl-neuro sweep ./two.toml"),
    Case("search", (), "esl-neuro search ./three.toml"),
    Case("sweep by two workers", (), "esl-neuro sweep ./two.toml --jobs 2"),
    Case("samples by two workers", (TRAIN, "esl-neuro export"), "esl-neuro run --jobs 2 --save a.npz"),
    Case(
        "page of a run without an export",
        (TRAIN,),
        "esl-neuro report --samples 4",
        swapped="runs/mlp-digits-001/loihi2",
    ),
    Case(
        "reproduce",
        (),
        "esl-neuro reproduce ./table.toml --scale smoke --record table.json --plot table.svg",
    ),
)


def torture(case: Case, kills: int, draw: random.Random, say: Callable[[str], None] = print) -> tuple[int, int]:
    """Kill a command as often as asked, several times before each completion; return kills and failures."""
    with workplace() as place:
        origin = prepare(place / "start", case.before)
        whole = copy(origin, place / "whole")
        lasts_s = succeed(case.command, whole).seconds
        before, after = contents(origin), contents(whole)
        done, failed = 0, 0
        while done < kills:
            folder = copy(origin, place / "work")
            for _ in range(draw.randint(1, 4)):
                killed = _kill(case.next(folder, case.command), folder, draw.uniform(0, 1.1 * lasts_s))
                done += killed
                problem = _swapped(case, folder, before, after) if killed else ""
                if problem or not killed:
                    break
            problem = problem or _completed(case, folder, after)
            if problem:
                failed += 1
                say(f"{case.name}, after {done} kills: {problem}")
        say(f"{case.name}: {done} kills, {failed} failures")
    return done, failed


def _kill(command: str, folder: Path, after_s: float) -> bool:
    """Start a command and kill its whole group at an instant; return whether it was still alive."""
    began = time.monotonic()
    child = start(command, folder)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    return wait(child, folder, began).code == -signal.SIGKILL


def _swapped(case: Case, folder: Path, before: dict[str, str], after: dict[str, str]) -> str:
    if not case.swapped:
        return ""
    if (folder / case.swapped / STAGED).exists():
        finish_replacing(folder / case.swapped)
    found = {name: text for name, text in contents(folder).items() if name.startswith(case.swapped)}
    found = {name: text for name, text in found.items() if ".esl-neuro-" not in name}
    states = [
        {name: text for name, text in files.items() if name.startswith(case.swapped)} for files in (before, after)
    ]
    return "" if found in states else f"{case.swapped} is neither the old nor the new one"


def _completed(case: Case, folder: Path, after: dict[str, str]) -> str:
    complete = folder / "runs" / "mlp-digits-001" / "result.json"
    if not (case.next is _resume and complete.exists()):
        ended = run(case.next(folder, case.command), folder)
        if ended.code:
            return f"exit code {ended.code}: {ended.err}"
    if leftovers(folder):
        return f"left behind: {leftovers(folder)}"
    now = contents(folder)
    # A run that was killed before it saved anything is begun again beside, under the next number.
    runs = sorted((folder / "runs").glob("mlp-digits-*"))
    if case.next is _resume and not (runs[0] / "result.json").exists():
        now = {name.replace(runs[-1].name, "mlp-digits-001"): text for name, text in now.items()}
    differing = [name for name in after if now.get(name) != after[name]]
    return f"differs from an undisturbed command: {differing}" if differing else ""


def main() -> None:
    """Kill all commands, a share of the kills each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", help="only commands whose name contains this")
    options = parser.parse_args()
    load()
    draw = random.Random(options.seed)
    chosen = [case for case in CASES if (options.case or "") in case.name]
    totals = [torture(case, -(-options.kills // len(chosen)), draw) for case in chosen]
    done, failed = (sum(each) for each in zip(*totals, strict=True))
    print(f"{done} kills, {failed} failures")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
