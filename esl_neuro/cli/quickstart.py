"""``esl-neuro quickstart``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from esl_neuro.cli import energy, export, run, train
from esl_neuro.cli.commands import ExampleCommand, emit, json_option, print_status, runs_option
from esl_neuro.cli.progress import lava_bar
from esl_neuro.pipeline.choices import CHIP, RECIPE


@click.command(
    cls=ExampleCommand,
    short_help="Run all steps end to end on real digits.",
    examples=(("esl-neuro quickstart", "a minute or two on two cores"),),
)
@runs_option
@json_option
def quickstart(runs: Path, as_json: bool) -> None:
    """Train on real digits, export for Loihi 2, run in both simulators, count and price, end to end.

    Without Lava, only the integer simulator runs, and the command says so.
    """
    from esl_neuro.backends.lava_session import INSTALL, lava_installed
    from esl_neuro.pipeline.activity import Activity, run_recorded
    from esl_neuro.pipeline.exports import export_run
    from esl_neuro.report.energy_text import render_energy_report

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
    print_status("4/4 energy report")
    priced = energy.report_network(folder, Activity(backend))
    document = {
        "train": trained,
        "export": exported.to_dict(),
        "run": ran,
        "energy": {"export": str(folder), **priced.to_dict()},
        "seconds": time.perf_counter() - started,
    }
    summary = {"runs": [trained], "test_accuracy_stdev": None}
    parts = (
        train.render(summary),
        export.render(exported.to_dict()),
        run.render(ran),
        render_energy_report(priced),
        f"Done in {document['seconds']:.0f} s\n  run      {trained['folder']}\n  NIR      {folder / 'model.nir'}\n"
        f"  program  {folder / 'program.json'}\nNext: esl-neuro energy report --explain",
    )
    emit(document, "\n\n".join(parts), as_json)
    result.refuse_difference()
