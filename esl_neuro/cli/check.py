"""``esl-neuro check``."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from esl_neuro.cli.commands import ExampleCommand, Whole, accept_loss_option, dt_option, emit, json_option, reset_option
from esl_neuro.cli.network_run import input_option, layout_option, refuse_without_arithmetic
from esl_neuro.cli.workspace import existing
from esl_neuro.errors import BadInput, CheckFailed, LimitExceeded


@click.command(
    cls=ExampleCommand,
    short_help="Report what prevents a NIR file from being compiled for a chip.",
    examples=(
        ("esl-neuro check model.nir --target loihi2", "any NIR file, whichever program wrote it"),
        ("esl-neuro check model.nir --target loihi2 --dt 1e-4", "a file without a time step in its metadata"),
        (
            "esl-neuro check model.nir --reset subtract",
            "a file whose neurons subtract their threshold and do not say so",
        ),
        ("esl-neuro check model.nir --input data.npz", "with the fidelity on your inputs"),
        ("esl-neuro check model.nir --target loihi --json", "as JSON, for a program to read"),
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--target", default="loihi2", show_default=True, help="Chip: a name, or the path of a TOML file.")
@dt_option
@click.option(
    "--steps",
    type=Whole(min=1),
    help="Time steps per sample, over which a readout accumulates.  [default: 'steps' of the file's metadata, or 100]",
)
@reset_option
@input_option()
@layout_option
@accept_loss_option
@json_option
def check(file: Path, target: str, accept_loss: bool, as_json: bool, **how: Any) -> None:
    """Check whether FILE compiles for a chip and fits on it, and how much of the chip it needs.

    Runs floats and integers on the same input (--input, or random spikes), and prints how far the integers are from the
    float network. Also prints the time from reading the file to placing the network on the cores, and the peak memory
    of the process.

    Exit codes: 0 FILE compiles and fits, 1 it does not compile or its integers are far from the float network, 2 it
    cannot be read, 4 it does not fit.
    """
    existing(file, "no such file")
    refuse_without_arithmetic(target)
    document = check_file(file, target, **how)
    emit(document, render(document), as_json)
    wrong = [finding for finding in document["findings"] if finding["severity"] == "error"]
    if _needs_a_time_step(document):
        raise BadInput(f"{file}: " + "; ".join(finding["message"] for finding in wrong))
    if wrong and not document["compiles"]:
        problems = "1 problem prevents" if len(wrong) == 1 else f"{len(wrong)} problems prevent"
        raise CheckFailed(f"{file}: {problems} compilation for {target}")
    if not document["fits"]:
        raise LimitExceeded(f"{file}: does not fit on one {target}")
    if wrong and not accept_loss:
        raise CheckFailed(f"{file}: the integers are far from the float network; --accept-loss accepts it")


def _needs_a_time_step(document: dict[str, Any]) -> bool:
    """Return whether nothing else prevents compilation, so that an option is missing and the file may be right."""
    return {each["kind"] for each in document["findings"] if each["severity"] == "error"} == {"no-time-step"}


def check_file(file: Path, target: str, **how: Any) -> dict[str, Any]:
    """Return the findings, the time and memory of the check and, if the file compiles, the utilisation of the chip.

    Raises
    ------
    BadInput
        If the file cannot be read, or the target has no arithmetic to compile for.
    """
    from esl_neuro.hardware import load_target
    from esl_neuro.pipeline.compilation import check as check_network

    chip, started = load_target(target), time.perf_counter()
    checked = check_network(file, chip, **how)
    cost = {"seconds": time.perf_counter() - started, "peak_memory_gib": peak_memory_gib()}
    return {"file": str(file), "target": chip.name, **asdict(checked), **cost}


def peak_memory_gib() -> float | None:
    """Return the peak memory of this process in GiB; None if the system does not report it."""
    if sys.platform == "win32":
        return None
    from resource import RUSAGE_SELF, getrusage

    unit = 1 if sys.platform == "darwin" else 1024  # bytes, see getrusage(2) of either system
    return getrusage(RUSAGE_SELF).ru_maxrss * unit / 2**30


def render(document: dict[str, Any]) -> str:
    """Write findings and utilisation as text."""
    from esl_neuro.report.fidelity_text import render_fidelity
    from esl_neuro.report.tables import table

    parts = []
    if document["fidelity"]:
        parts.append(render_fidelity(document["fidelity"]))
    if document["findings"]:
        rows = [
            (finding["severity"], finding["kind"], finding["place"], finding["message"])
            for finding in document["findings"]
        ]
        parts.append(table(("severity", "kind", "place", "finding"), rows, left=4))
    if document["compiles"]:
        uses = [
            (row["resource"], f"{row['used']:,}", f"{row['mean']:,.1f}", _limit(row), _share(row), row["unit"])
            for row in document["utilisation"]
        ]
        parts.append(
            f"Of one {document['target']} (per core: the fullest core)\n"
            + table(("resource", "used", "mean", "limit", "share", "unit"), uses)
        )
        memory = document["peak_memory_gib"]
        held = "" if memory is None else f", peak memory {memory:.2f} GiB"
        parts.append(f"Compiled in {document['seconds']:.2f} s{held}")
    outcome = "compiles" if document["compiles"] else "does not compile"
    if _needs_a_time_step(document):
        outcome = "needs a time step, --dt SECONDS"
    fits = " and fits" if document["fits"] else " but does not fit" if document["compiles"] else ""
    return "\n\n".join([f"{document['file']} {outcome}{fits} ({document['target']})", *parts])


def _limit(row: dict[str, Any]) -> str:
    return "unknown" if row["limit"] is None else f"{row['limit']:,}"


def _share(row: dict[str, Any]) -> str:
    return "" if not row["limit"] else f"{100 * row['used'] / row['limit']:.1f} %"
