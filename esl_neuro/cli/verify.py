"""``esl-neuro verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from esl_neuro.cli.commands import ExampleCommand, data_option, emit, json_option, runs_option, samples_option
from esl_neuro.cli.run import refuse_difference, run_export
from esl_neuro.cli.workspace import latest_export
from esl_neuro.errors import CheckFailed


@click.command(
    cls=ExampleCommand,
    short_help="Prove an export again: compile anew, compare every spike with Lava.",
    examples=(
        ("esl-neuro verify", "the latest export"),
        ("esl-neuro verify runs/mlp-digits-001/loihi2 --samples 200", "a certain export, on 200 samples"),
    ),
)
@click.argument("export", required=False, type=click.Path(path_type=Path))
@samples_option
@data_option
@runs_option
@json_option
def verify(export: Path | None, samples: int | None, runs: Path, as_json: bool) -> None:
    """Prove EXPORT (the latest one if not given) again.

    The NIR graph is compiled anew and must give the stored program, integer for integer; then every spike of the test
    set in Lava must equal the integer simulator's. Exit code 1 if not.
    """
    folder = export or latest_export(runs)
    differing = recompile(folder)
    if differing:
        raise CheckFailed(
            f"{folder}: model.nir compiles to another program than program.safetensors holds ({', '.join(differing)}); "
            "one of the files was changed after the export"
        )
    ran, _ = run_export(folder, "lava", samples)
    document = {"export": str(folder), "recompiled": "equal", "lava": ran}
    emit(document, render(document), as_json)
    refuse_difference(ran)


def recompile(folder: Path) -> list[str]:
    """Compile the NIR graph of an export anew and return the names of what differs from the stored program."""
    from esl_neuro.compiler.bundle import read_bundle
    from esl_neuro.compiler.compile import compile_graph
    from esl_neuro.compiler.frontend import read_graph
    from esl_neuro.compiler.program import differences
    from esl_neuro.hardware import load_target

    bundle = read_bundle(folder)
    stored = bundle.program
    again = compile_graph(
        read_graph(bundle.graph_path),
        load_target(stored.target),
        stored.steps,
        input_bits=stored.input_bits,
        input_scale=stored.input_scale,
    ).program
    return differences(stored, again)


def render(document: dict[str, Any]) -> str:
    """Both verdicts as text."""
    from esl_neuro.cli.run import render as render_run

    return f"model.nir compiles to the stored program: every integer equal\n{render_run(document['lava'])}"
