"""``esl-neuro verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from esl_neuro.cli.commands import (
    ExampleCommand,
    OneOf,
    Whole,
    accept_loss_option,
    allow_code_option,
    data_option,
    dt_option,
    emit,
    given_data,
    json_option,
    print_status,
    reset_option,
    runs_option,
    samples_option,
)
from esl_neuro.cli.network_run import input_option, layout_option
from esl_neuro.cli.progress import lava_bar
from esl_neuro.cli.readers import render as render_readers
from esl_neuro.cli.workspace import chosen_export, existing
from esl_neuro.pipeline.choices import READERS


@click.command(
    cls=ExampleCommand,
    short_help="Verify an export, or run any NIR file in independent readers.",
    examples=(
        ("esl-neuro verify", "the latest export: compiled again, golden trace, every spike in Lava"),
        (
            "esl-neuro verify runs/mlp-digits-001/loihi2 --golden",
            "from the files in the folder alone, without a data set",
        ),
        (
            "esl-neuro verify --install-readers",
            "install Norse, snnTorch, SpikingJelly and nirtorch with pinned versions",
        ),
        ("esl-neuro verify model.nir", "any NIR file, in every installed reader"),
    ),
)
@click.argument("what", metavar="[EXPORT|FILE.nir]", required=False, type=click.Path(path_type=Path))
@click.option("--golden", is_flag=True, help="Run only the golden trace in Lava; needs no data set.")
@click.option("--without-lava", is_flag=True, help="Do not run Lava.")
@click.option(
    "--reader",
    "readers",
    type=OneOf(READERS),
    multiple=True,
    help="Run the NIR graph only in this reader; may be repeated.  [default: all installed readers]",
)
@dt_option
@click.option(
    "--steps",
    type=Whole(min=1),
    help="Time steps of the random input of a NIR file.  [default: those of the file]",
)
@reset_option
@input_option()
@layout_option
@click.option("--install-readers", "installing", is_flag=True, help="Install the readers first; about 1.2 GB.")
@samples_option
@allow_code_option
@data_option
@runs_option
@accept_loss_option
@json_option
def verify(
    what: Path | None,
    golden: bool,
    without_lava: bool,
    readers: tuple[str, ...],
    dt_s: float | None,
    steps: int | None,
    reset: str | None,
    inputs: Path | None,
    layout: Any,
    installing: bool,
    samples: int | None,
    allow_code: bool,
    runs: Path,
    accept_loss: bool,
    as_json: bool,
) -> None:
    """Verify EXPORT (the latest one if not given), or run FILE.nir in independent readers.

    For an export, the NIR graph must compile to the stored program, with every integer equal; the integer simulator
    must reproduce the golden trace, with all spikes, currents and potentials; every spike of the test set in Lava must
    equal the integer simulator; and on the golden inputs every spike of the independent NIR readers must equal the
    equations of the graph. A NIR file runs in these readers on random spikes, and its compiled program runs in Lava.
    Integers and floats also run side by side, to print how far apart they are. With --input, these inputs take the
    place of the test set and of the random spikes. Exit code 1 if anything differs, or the integers are far from
    FILE.nir.
    """
    if what is not None:
        existing(what, f"there is no such {'file' if what.suffix == '.nir' else 'export'}")
    from esl_neuro.pipeline.activity import Activity
    from esl_neuro.pipeline.readers import install_readers, verify_export_graph, verify_nir
    from esl_neuro.pipeline.verification import prove

    if installing:
        install_readers(print_status)
        if what is None:
            return
    if what is not None and what.is_file():
        confirmed = verify_nir(
            what,
            readers,
            on_status=print_status,
            samples=samples or 8,
            steps=steps,
            dt_s=dt_s,
            reset=reset,
            inputs=inputs,
            layout=layout,
        )
        emit(confirmed.to_dict(), render_readers(confirmed.to_dict()), as_json)
        confirmed.refuse_difference()
        if not accept_loss:
            confirmed.refuse_losses()
        return
    folder = chosen_export(what, runs)
    print_status(f"{folder}: verifying")
    with lava_bar() as progress:
        activity = Activity("lava", samples, inputs, layout, data=given_data(), allow_code=allow_code)
        proof = prove(folder, activity, golden=golden, with_lava=not without_lava, progress=progress)
    confirmed = verify_export_graph(folder, readers, on_status=print_status)
    document = {**proof.to_dict(), "readers": confirmed.to_dict()}
    emit(document, render(document), as_json)
    proof.refuse_difference()
    confirmed.refuse_difference()


def render(document: dict[str, Any]) -> str:
    """Write the results of all comparisons as text."""
    from esl_neuro.cli.run import render as render_run

    lines = ["model.nir compiles to the stored program: every integer equal"]
    lines += [
        f"golden trace in {backend}: {values:,} spikes, currents and potentials, all equal"
        for backend, values in document["golden"].items()
    ]
    if "lava" in document:
        lines.append(render_run(document["lava"]))
    return "\n".join([*lines, "", render_readers(document["readers"])])
