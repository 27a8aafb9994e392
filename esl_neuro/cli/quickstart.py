"""``esl-neuro quickstart``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esl_neuro.cli import energy, train
from esl_neuro.cli.commands import ExampleCommand, emit, json_option, percent, print_status, runs_option
from esl_neuro.cli.progress import lava_bar
from esl_neuro.errors import counted
from esl_neuro.pipeline.choices import CHIP, RECIPE

if TYPE_CHECKING:
    from esl_neuro.energy.report import EnergyReport
    from esl_neuro.pipeline.simulation import RunResult


@click.command(
    cls=ExampleCommand,
    short_help="Run all steps end to end on real digits.",
    examples=(("esl-neuro quickstart", "a minute or two on two cores"),),
)
@runs_option
@json_option
def quickstart(runs: Path, as_json: bool) -> None:
    """Train on real digits, export for Loihi 2, run in both simulators, count and price, end to end.

    Prints one screen; the commands of each step print more. Without Lava, only the integer simulator runs, and the
    command says so.
    """
    from esl_neuro.backends.lava_session import INSTALL, lava_installed
    from esl_neuro.pipeline.activity import Activity, run_recorded
    from esl_neuro.pipeline.exports import export_run
    from esl_neuro.pipeline.report_page import write_report
    from esl_neuro.pipeline.workers import HERE

    backend = "lava" if lava_installed() else "integer"
    if backend == "integer":
        print_status(
            f"Lava is not installed, so the integer simulator is not compared with it; install Lava with: {INSTALL}"
        )
    started = time.perf_counter()
    print_status("1/4 train: sparse from the first step, with learned thresholds")
    (trained,) = train.train_recipe(RECIPE, (), (), runs)
    print_status(f"2/4 export: NIR graph and integer program for {CHIP}")
    exported = export_run(trained["folder"])
    folder = exported.folder
    print_status(f"3/4 run: {backend}")
    with lava_bar(backend) as progress:
        result = run_recorded(folder, Activity(backend), progress=progress)
    ran = {"export": str(folder), **result.to_dict()}
    print_status("4/4 energy report, and a page with all of it")
    priced = energy.report_network(folder, Activity(backend), HERE)
    page = write_report(trained["folder"]).file
    document = {
        "train": trained,
        "export": exported.to_dict(),
        "run": ran,
        "energy": {"export": str(folder), **priced.to_dict()},
        "report": str(page),
        "seconds": time.perf_counter() - started,
    }
    places = {
        "run": trained["folder"],
        "NIR": str(folder / "model.nir"),
        "program": str(folder / "program.json"),
        "report": str(page),
    }
    emit(document, render(document, result, priced, places), as_json)
    result.refuse_difference()


def render(document: dict[str, Any], result: RunResult, priced: EnergyReport, places: dict[str, str]) -> str:
    """Write what was reached, and where it is, in one screen."""
    from esl_neuro.energy.answer import answer
    from esl_neuro.report.answer_text import answer_rows
    from esl_neuro.report.energy_layout import wrap

    facts = {
        "accuracy": _accuracies(document["export"]["accuracy"], result),
        "density": f"{document['train']['density']:.3f} where connections are learned, {priced.density:.3f} in all",
        "fits": _fits(document["export"]),
        "energy": f"one sample, {priced.pace}, medians, 5-95 % of the total (else of the dynamic)",
    }
    found = answer(priced)
    backend = "" if result.backend == "lava" else " --backend integer"
    return "\n".join(
        (
            f"Done in {document['seconds']:.0f} s: {RECIPE}, trained, compiled for {CHIP}, run and priced",
            *(wrap(f"{name:<8}  {fact}", "", " " * 10) for name, fact in facts.items()),
            "",
            answer_rows(found.rows),
            *(wrap(line) for line in found.known),
            "",
            *(f"{name:<8}  {path}" for name, path in places.items()),
            f"Next: esl-neuro energy report {document['export']['folder']}{backend}",
        )
    )


def _accuracies(accuracy: dict[str, Any], result: RunResult) -> str:
    """Write the accuracy of the float network, of the integers and in Lava."""
    known = f"float {percent(accuracy['float'])}, integer {percent(accuracy['integer'])}"
    if result.parity is None:
        return f"{known}, Lava not installed ({accuracy['samples']} test samples)"
    outcome = "every spike equal" if result.parity.equal else "spikes DIFFER"
    lava = "unknown" if result.accuracy is None else percent(result.accuracy)
    return f"{known}, Lava {lava} ({accuracy['samples']} test samples, {outcome})"


def _fits(exported: dict[str, Any]) -> str:
    """Write how much of the chip the network needs, and what the compiler found."""
    from esl_neuro.pipeline.compiled_network import load_compiled

    uses = {each.resource: each for each in load_compiled(exported["folder"]).utilisation}
    cores, found = uses["cores_per_chip"], len(exported["findings"])
    said = f"{counted(found, 'finding')}, which 'esl-neuro export' lists" if found else "no findings"
    return f"yes, on {cores.used} of {cores.limit} cores of {CHIP}; {said}"
