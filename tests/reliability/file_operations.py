"""Let every file operation of every command fail once, and kill the command at each once.

    python tests/reliability/file_operations.py

A command that an error stops must end with exit code 2 and one line, with all files as before or as after, and with
nothing unfinished. A command that is killed must leave files that the same command, run again, completes to the same
result. Shards of samples that are saved stay after an error, because the same command continues with them. With
``--every 10``, each tenth operation is disturbed.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # what tests share

from esl_neuro.pipeline.shards import FOLDER as KEPT
from esl_neuro.storage import STAGED, finish_replacing
from reliability.commands import (
    TINY,
    contents,
    copy,
    leftovers,
    load,
    prepare,
    run,
    workplace,
)

FAULTS = {"full": errno.ENOSPC, "quota": errno.EDQUOT, "read-only": errno.EROFS, "denied": errno.EACCES, "kill": None}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
AUDITED = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "os.chmod")


@dataclass(frozen=True)
class Case:
    """A command to disturb.

    Attributes
    ----------
    name : str
        What it does.
    before : tuple of str
        Commands that prepare its folder.
    command : str
        The command.
    optional : bool
        Whether it may succeed without a file that cannot be written.
    """

    name: str
    before: tuple[str, ...]
    command: str
    optional: bool = False


TRAIN = f"esl-neuro train {TINY}"
COMPILE = "esl-neuro compile runs/mlp-digits-001/loihi2/model.nir --steps 2 --out o --accept-loss"
CASES = (
    Case("train", (), TRAIN),
    Case("export over an export", (TRAIN, "esl-neuro export --format netx"), "esl-neuro export --thresholds folded"),
    Case("compile over a folder", (TRAIN, "esl-neuro export", f"{COMPILE} --format lava-script"), COMPILE),
    Case(
        "run with files",
        (TRAIN, "esl-neuro export"),
        "esl-neuro run --samples 4 --save a.npz --spikes b.npz --trace c.h5",
        optional=True,
    ),
    Case(
        "report with files",
        (TRAIN, "esl-neuro export"),
        "esl-neuro energy report --backend integer --samples 4 --csv a.csv --plots p",
    ),
    Case("page", (TRAIN, "esl-neuro export"), "esl-neuro report --samples 4 --out page.html"),
    Case("page of a run without an export", (TRAIN,), "esl-neuro report --samples 4"),
    Case("predict without an export", (TRAIN,), "esl-neuro predict runs/mlp-digits-001 digit.csv"),
    Case("sweep", (), "esl-neuro sweep ./two.toml"),
    Case("sweep by two workers", (), "esl-neuro sweep ./two.toml --jobs 2"),
    Case("samples by two workers", (TRAIN, "esl-neuro export"), "esl-neuro run --jobs 2 --save a.npz", optional=True),
    Case("chart of a sweep", ("esl-neuro sweep ./two.toml",), "esl-neuro sweep ./two.toml --plot chart.svg"),
    Case(
        "energies of a sweep",
        ("esl-neuro sweep ./one.toml",),
        "esl-neuro sweep ./one.toml --pareto pareto.svg --target loihi2",
    ),
    Case("search", (), "esl-neuro search ./three.toml --csv trials.csv"),
    Case(
        "reproduce trained runs",
        ("esl-neuro sweep ./one.toml",),
        "esl-neuro reproduce ./table.toml --scale smoke --record table.json --plot table.svg",
    ),
    Case("new target", (), "esl-neuro targets new mychip --from loihi2"),
    Case("fit", (), "esl-neuro energy fit --out fitted.toml"),
    Case("import of a log", (), "esl-neuro energy import power.csv --samples 5 --target loihi2"),
    Case("programs for a board", (), "esl-neuro energy programs board"),
)
SILENT = (
    "esl-neuro train --print-config",
    "esl-neuro evaluate",
    "esl-neuro evaluate runs/mlp-digits-001/loihi2",
    "esl-neuro check runs/mlp-digits-001/loihi2/model.nir --steps 2",
    "esl-neuro verify --without-lava --samples 4",
    "esl-neuro diff integer integer --samples 2",
    "esl-neuro energy report --backend integer --samples 4",
    "esl-neuro energy compare runs/mlp-digits-001/loihi2 runs/mlp-digits-001/loihi2 --samples 4 --backend integer",
    "esl-neuro energy validate",
    "esl-neuro inspect runs/mlp-digits-001",
    "esl-neuro inspect runs/mlp-digits-001/loihi2",
    "esl-neuro doctor",
    "esl-neuro models list",
    "esl-neuro runs list",
    "esl-neuro targets list",
    "esl-neuro targets validate",
    "esl-neuro sweep ./two.toml --list",
    "esl-neuro search ./three.toml --list",
    "esl-neuro reproduce ./table.toml --scale smoke --list",
    "esl-neuro predict runs/mlp-digits-001/loihi2 digit.csv",
)
"""Commands that write nothing, after a training and its export."""


class Disturbance:
    """Counts the file operations below a folder, and disturbs one of them."""

    def __init__(self, folder: Path, number: int, fault: int | None) -> None:
        self.folder, self.number, self.fault, self.seen = str(folder.resolve()) + "/", number, fault, 0

    def install(self, report: Path | None = None) -> None:
        """Watch the operations of this process; write their number to a file at its end."""
        sys.addaudithook(self._hear)
        self._patch_fsync()
        if report is not None:
            end = os._exit

            def tell(code: int) -> None:
                seen, self.number = self.seen, -1
                report.write_text(str(seen))
                end(code)

            os._exit = tell  # type: ignore[assignment]

    def _hear(self, event: str, details: tuple[object, ...]) -> None:
        if event in AUDITED and (event != "open" or self._writes(details)):
            self._pass(details[0])

    def _writes(self, details: tuple[object, ...]) -> bool:
        flags = details[2]
        return isinstance(flags, int) and bool(flags & WRITES)

    def _patch_fsync(self) -> None:
        original = os.fsync

        def fsync(descriptor: int) -> None:
            self._pass(os.readlink(f"/proc/self/fd/{descriptor}"))
            original(descriptor)

        os.fsync = fsync  # type: ignore[assignment]

    def _pass(self, path: object) -> None:
        if not isinstance(path, (str, os.PathLike)) or not os.path.abspath(os.fspath(path)).startswith(self.folder):
            return
        self.seen += 1
        if self.seen != self.number:
            return
        if self.fault is None:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(self.fault, os.strerror(self.fault or 0), os.fspath(path))


def check(case: Case, every: int, faults: dict[str, int | None], say: Callable[[str], None] = print) -> tuple[int, int]:
    """Disturb one command; return the disturbances and the failures."""
    with workplace() as place:
        start = prepare(place / "start", case.before)
        whole = copy(start, place / "whole")
        count = Disturbance(whole, 0, None)
        ended = run(case.command, whole, lambda: count.install(place / "count"))
        assert ended.code == 0, ended.err
        before, after = contents(start), contents(whole)
        operations, done, failed = int((place / "count").read_text()), 0, 0
        for name, fault in faults.items():
            for number in range(1, operations + 1, every):
                folder = copy(start, place / "work")
                disturbance = Disturbance(folder, number, fault)
                ended = run(case.command, folder, disturbance.install)
                problem = (
                    _problem_of_kill(case, folder, ended.code, after)
                    if fault is None
                    else _problem_of_error(case, folder, ended.code, ended.err, before, after)
                )
                done += 1
                if problem:
                    failed += 1
                    say(f"{case.name}, operation {number} of {operations}, {name}: {problem}")
        say(f"{case.name}: {operations} file operations, {done} disturbed, {failed} failed")
    return done, failed


def check_silent(say: Callable[[str], None] = print) -> tuple[int, int]:
    """Run the commands that write nothing; return how many there are, and how many changed a file."""
    failed = 0
    with workplace() as place:
        folder = prepare(place / "start", (TRAIN, "esl-neuro export"))
        before = _states(folder)
        for command in SILENT:
            ended = run(command, folder)
            now = _states(folder)
            changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
            if ended.code or changed:
                failed += 1
                say(f"{command}: exit code {ended.code}, changed {changed}: {ended.err}")
            before = now
    say(f"{len(SILENT)} commands that write nothing, {failed} failed")
    return len(SILENT), failed


def _states(folder: Path) -> dict[str, tuple[int, int]]:
    found = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {str(path.relative_to(folder)): (state.st_ino, state.st_mtime_ns) for path, state in found.items()}


def _problem_of_error(
    case: Case, folder: Path, code: int, err: str, before: dict[str, str], after: dict[str, str]
) -> str:
    if "Traceback" in err:
        return f"a traceback:\n{err}"
    for staged in folder.rglob(STAGED):  # the new files are complete; whoever opens the folder moves them in
        finish_replacing(staged.parent)
    now = {name: text for name, text in contents(folder).items() if KEPT not in name}
    found = [name for name in leftovers(folder) if KEPT not in name]
    if found:
        return f"left behind: {found}"
    if code == 0:  # the operation was only cleaning or waiting for the disk, or what it wrote is optional
        lost = {name for name in after if now.get(name) != after[name]}
        return "" if not lost or case.optional else f"succeeded without {sorted(lost)}"
    if code != 2:
        return f"exit code {code}: {err}"
    torn = [name for name in now if now[name] not in (before.get(name), after.get(name)) and not _grows(name)]
    lost = [name for name in before if name not in now and name in after]
    return f"neither old nor new: {torn}, lost: {lost}; {err}" if torn or lost else _mixed(now, before, after)


def _grows(name: str) -> bool:
    """Return whether a file is complete at each epoch of a training, not only at its end."""
    return "runs/" in name and "/loihi2/" not in name


def _mixed(now: dict[str, str], before: dict[str, str], after: dict[str, str]) -> str:
    """Find an export of which some files are old and some new."""
    parts = {name for name in {*before, *after} if "/loihi2/" in name or name.startswith("o/")}
    states = [{name: files.get(name) for name in parts} for files in (now, before, after)]
    return "" if states[0] in states[1:] else "the export is neither the old nor the new one"


def _problem_of_kill(case: Case, folder: Path, code: int, after: dict[str, str]) -> str:
    if code not in (-signal.SIGKILL, 0):
        return f"exit code {code} instead of a kill"
    begun = folder / "runs" / "mlp-digits-001"
    resumes = case.command == TRAIN and (begun / "last.safetensors").exists() and not (begun / "result.json").exists()
    ended = run(f"esl-neuro train --resume {begun.relative_to(folder)}" if resumes else case.command, folder)
    if ended.code != 0:
        return f"the command, repeated, ends with {ended.code}: {ended.err}"
    if leftovers(folder):
        return f"left behind: {leftovers(folder)}"
    now = contents(folder)
    if case.command == TRAIN and not resumes:  # a run that had saved nothing is begun again, beside
        return ""
    lost = [name for name in after if now.get(name) != after[name]]
    return f"differs from an undisturbed command: {lost}" if lost else ""


def main() -> None:
    """Disturb all commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="disturb each n-th operation")
    parser.add_argument("--fault", choices=list(FAULTS), action="append", help="only this fault")
    parser.add_argument("--case", help="only commands whose name contains this")
    options = parser.parse_args()
    load()
    faults = {name: FAULTS[name] for name in options.fault or FAULTS}
    chosen = [case for case in CASES if (options.case or "") in case.name]
    totals = [(0, 0), *(check(case, options.every, faults) for case in chosen)]
    done, failed = (sum(each) for each in zip(*totals, strict=True))
    loud = check_silent()[1] if (options.case or "") in "writes nothing" else 0
    print(f"{done} disturbed operations, {failed} failures")
    sys.exit(bool(failed or loud))


if __name__ == "__main__":
    main()
