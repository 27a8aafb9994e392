"""What becomes of every NIR file in clones of public repositories: read, compiled, run, or refused with the reason.

    git clone https://github.com/neuromorphs/NIR.git
    python benchmarks/nir_files.py --files NIR other-clone ... --json benchmarks/nir_files.json

A folder that is a clone (also a bare one) is searched through its whole history, every distinct file once; any other
folder is searched as it is. The files of others stay where they are: the JSON holds names, hashes and outcomes only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import nir
import numpy as np

import esl_neuro as esl
from esl_neuro.nirgraph import simulate
from esl_neuro.nirgraph.findings import errors

STEPS, SAMPLES, RATE = 50, 4, 0.3
TIME_STEPS_S = (1e-4, 1e-3, 1.0)  # for a file without one: the first at which the network fires


@dataclass(frozen=True)
class Outcome:
    """What happened to a file.

    Attributes
    ----------
    origin, name, sha1 : str
        Repository, path in it, hash of the content (the first twelve digits).
    outcome : {"runs", "too large", "refused", "unreadable"}
        ``runs`` if it compiled and ran with the integers of Loihi 2.
    detail : str
        Size, spikes and warnings, or the reason of the refusal.
    """

    origin: str
    name: str
    sha1: str
    outcome: str
    detail: str


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the path and the content of every NIR file of a folder, of all versions if it is a clone."""
    git = ["git", "-C", str(folder)]
    listed = subprocess.run(
        [*git, "log", "--all", "--raw", "--no-abbrev", "--no-renames", "--diff-filter=AM", "--format=", "--", "*.nir"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode or not listed.stdout.strip():
        yield from ((str(path.relative_to(folder)), path.read_bytes()) for path in sorted(folder.rglob("*.nir")))
        return
    blobs = dict(sorted({(line.split()[3], line.split("\t")[1]) for line in listed.stdout.splitlines() if line}))
    for blob, name in sorted(blobs.items(), key=lambda item: item[::-1]):
        shown = subprocess.run([*git, "cat-file", "blob", blob], capture_output=True, check=False)
        yield name, shown.stdout if shown.returncode == 0 else b""


def origin(folder: Path) -> str:
    """Name a clone after the address that it was cloned from, any other folder by its own name."""
    found = subprocess.run(
        ["git", "-C", str(folder), "remote", "get-url", "origin"], capture_output=True, text=True, check=False
    )
    address = found.stdout.strip().removesuffix(".git").rstrip("/")
    if address:
        return "/".join(address.replace(":", "/").split("/")[-2:])
    own = folder.parent if folder.name == "repo" else folder  # a bare mirror named owner+name
    return own.name.replace("+", "/", 1)


def judge(path: Path) -> tuple[str, str]:
    """Read, compile and run a file."""
    try:
        graph = esl.read_nir(path)
    except esl.BadInput as error:
        return "unreadable", _reason(error, path)
    outcome, detail = "", ""
    for dt_s in (None,) if "dt_s" in graph.metadata else TIME_STEPS_S:
        try:
            outcome, detail, fired = run(graph, dt_s)
        except esl.BadInput as error:
            return "refused", _reason(error, path)
        if fired:
            break
    return outcome, detail


def run(graph: nir.NIRGraph, dt_s: float | None) -> tuple[str, str, int]:
    """Compile a graph and run it on random spikes; return outcome, detail, and the spikes of the float network."""
    chip = esl.compile(graph, "loihi2", steps=STEPS, dt_s=dt_s, any_size=True)
    spikes = (np.random.default_rng(0).random((SAMPLES, STEPS, chip.program.input_size)) < RATE).astype(np.uint8)
    fired = sum(chip.run(spikes).spikes.values())
    shape = chip.input_shape
    fed = spikes if isinstance(shape, dict) else spikes.reshape(SAMPLES, STEPS, *shape)
    in_float = sum(int(each.sum()) for each in simulate(graph, fed, dt_s).spikes.values())
    size = f"{chip.program.neurons:,} neurons, {chip.program.synapses:,} synapses"
    kinds = ", ".join(dict.fromkeys(each.kind for each in chip.findings))
    step = "" if dt_s is None else f" at {dt_s:g} s"
    detail = f"{size}; spikes{step} {fired:,} (float {in_float:,})" + (f"; {kinds}" if kinds else "")
    return ("too large" if errors(chip.findings) else "runs"), detail, in_float


def _reason(error: Exception, path: Path) -> str:
    return " ".join(str(error).split()).replace(f"{path}: ", "").replace("the network cannot be compiled: ", "")


def outcomes(folders: list[Path]) -> list[Outcome]:
    """Judge every distinct file of all folders."""
    found, seen = [], set()
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "file.nir"
        for folder in folders:
            for name, content in contents(folder):
                sha1 = hashlib.sha1(content, usedforsecurity=False).hexdigest()[:12]
                if not content or sha1 in seen:
                    continue
                seen.add(sha1)
                path.write_bytes(content)
                found.append(Outcome(origin(folder), name, sha1, *judge(path)))
    return found


def main() -> None:
    """Print one line per file, and a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path, nargs="+", required=True, metavar="FOLDER")
    parser.add_argument("--json", type=Path, help="also write the outcomes to this file")
    arguments = parser.parse_args()
    found = outcomes(arguments.files)
    for each in found:
        print(f"{each.origin:28} {each.name:62} {each.sha1[:7]}  {each.outcome:10} {each.detail}")
    kinds = sorted({each.outcome for each in found})
    print(f"{len(found)} files: " + ", ".join(f"{kind} {sum(e.outcome == kind for e in found)}" for kind in kinds))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
