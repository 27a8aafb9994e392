"""``esl-neuro energy``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from esl_neuro.cli.commands import (
    ExampleCommand,
    ExampleGroup,
    data_option,
    emit,
    json_option,
    runs_option,
    samples_option,
    talk,
)
from esl_neuro.cli.run import BACKENDS, simulate
from esl_neuro.cli.workspace import latest_export

TARGETS = ("truenorth", "loihi", "loihi2", "v100-pcie")


@click.group(
    cls=ExampleGroup,
    short_help="Count operations exactly, price them with published constants.",
    examples=(
        ("esl-neuro energy report", "count and price the latest export"),
        ("esl-neuro energy report --preset esl2023", "Table 1 of ESL-SNNs, recomputed"),
    ),
)
def energy() -> None:
    """Count operations exactly and price them with published constants."""


@energy.command(
    cls=ExampleCommand,
    short_help="Run an export, count its operations, price them.",
    examples=(
        ("esl-neuro energy report", "run the latest export in Lava, count, price"),
        ("esl-neuro energy report --backend integer", "the same counts without Lava"),
        ("esl-neuro energy report --explain", "every constant with its source, and the arithmetic"),
        ("esl-neuro energy report --target loihi --target ./my-chip.toml", "certain chips, or your own"),
        ("esl-neuro energy report --preset esl2023", "Table 1 of ESL-SNNs, recomputed"),
    ),
)
@click.argument("export", required=False, type=click.Path(path_type=Path))
@click.option("--backend", type=click.Choice(BACKENDS), default="lava", show_default=True, help="Where it runs.")
@click.option("--target", "targets", multiple=True, default=TARGETS, show_default=True, help="Chip or processor.")
@click.option(
    "--tick-s",
    type=click.FloatRange(min=0, min_open=True),
    default=1e-3,
    show_default=True,
    help="Seconds per time step on a chip, for static power.",
)
@click.option("--explain", is_flag=True, help="Print every constant with its source, and the arithmetic of every row.")
@click.option("--preset", help="Recompute a published comparison instead of running anything: esl2023.")
@samples_option
@data_option
@runs_option
@json_option
def report(
    export: Path | None,
    backend: str,
    targets: tuple[str, ...],
    tick_s: float,
    explain: bool,
    preset: str | None,
    samples: int | None,
    runs: Path,
    as_json: bool,
) -> None:
    """Run EXPORT (the latest one if not given) on its test set, count its operations, price them."""
    if preset is not None:
        document, text = recompute(preset)
    else:
        document, text = report_export(export or latest_export(runs), backend, targets, tick_s, samples, explain)
    emit(document, text, as_json)


def report_export(
    folder: Path, backend: str, targets: tuple[str, ...], tick_s: float, samples: int | None, explain: bool
) -> tuple[dict[str, Any], str]:
    """Run, count and price an export; return the report as a document and as text."""
    from esl_neuro.compiler.bundle import read_bundle
    from esl_neuro.energy.report import energy_report
    from esl_neuro.report.energy_text import render_energy_report, render_explanation

    bundle = read_bundle(folder)
    inputs, _ = bundle.test_inputs(samples)
    talk(f"{folder}: running {len(inputs)} test samples ({backend})")
    result = energy_report(bundle.program, simulate(bundle.program, inputs, backend), targets, tick_s)
    text = render_energy_report(result)
    if explain:
        text += "\n\n" + render_explanation(result)
    return {"export": str(folder), **result.to_dict()}, text


def recompute(preset: str) -> tuple[dict[str, Any], str]:
    """Recompute a published comparison; return it as a document and as text."""
    from esl_neuro.energy.presets import PRESETS
    from esl_neuro.errors import BadInput, did_you_mean
    from esl_neuro.report.energy_text import render_preset

    if preset not in PRESETS:
        raise BadInput(f"--preset '{preset}' is unknown; {did_you_mean(preset, PRESETS)}")
    result = PRESETS[preset]()
    return result.to_dict(), render_preset(result)
