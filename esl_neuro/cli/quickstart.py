"""``esl-neuro quickstart``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from esl_neuro.cli import energy, export, run, train
from esl_neuro.cli.commands import ExampleCommand, emit, json_option, runs_option, talk


@click.command(
    cls=ExampleCommand,
    short_help="The whole road once, on real digits.",
    examples=(("esl-neuro quickstart", "a minute or two on two cores"),),
)
@runs_option
@json_option
def quickstart(runs: Path, as_json: bool) -> None:
    """Train on real digits, export to Loihi 2, run in both simulators, count and price: the whole road once.

    Without Lava the integer simulator runs alone, and says so.
    """
    from esl_neuro.backends.lava_session import INSTALL, lava_installed

    backend = "lava" if lava_installed() else "integer"
    if backend == "integer":
        talk(f"Lava is not installed, so nothing is compared with it here; install it with: {INSTALL}")
    started = time.perf_counter()
    talk("1/4 train: sparse from the first step, thresholds learned")
    trained = train.train_recipe(train.RECIPE, (), (), runs)[0]
    talk("2/4 export: NIR graph and integer program for loihi2")
    exported = export.export_run(Path(trained["folder"]), "loihi2", None)
    folder = Path(exported["folder"])
    talk(f"3/4 run: {backend}")
    ran, _ = run.run_export(folder, backend, None)
    talk("4/4 energy report")
    priced, prices = energy.report_export(folder, backend, energy.TARGETS, 1e-3, None, explain=False)
    document = {
        "train": trained,
        "export": exported,
        "run": ran,
        "energy": priced,
        "seconds": time.perf_counter() - started,
    }
    summary = {"runs": [trained], "test_accuracy_stdev": None}
    parts = (
        train.render(summary),
        export.render(exported),
        run.render(ran),
        prices,
        f"Done in {document['seconds']:.0f} s\n  run      {trained['folder']}\n  NIR      {folder / 'model.nir'}\n"
        f"  program  {folder / 'program.json'}\nNext: esl-neuro energy report --explain",
    )
    emit(document, "\n\n".join(parts), as_json)
    run.refuse_difference(ran)
