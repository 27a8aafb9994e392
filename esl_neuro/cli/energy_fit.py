"""``esl-neuro energy fit``."""

from __future__ import annotations

from pathlib import Path

import click

from esl_neuro.cli.commands import ExampleCommand, ExistingPath, OutputPath, emit, json_option, print_status


@click.command(
    cls=ExampleCommand,
    short_help="Fit the energy of a chip's step to published measurements and your own.",
    examples=(
        ("esl-neuro energy fit", "Loihi 2: parameters, intervals, every workload left out"),
        ("esl-neuro energy fit mine.json --out my-loihi2.toml", "with your readings, as a target for --target"),
    ),
)
@click.argument("readings", nargs=-1, type=ExistingPath(dir_okay=False))
@click.option("--chip", default="loihi2", show_default=True, help="Chip whose published measurements are fitted.")
@click.option("--out", type=OutputPath(), help="File of a target with the fitted constants, for --target.")
@json_option
def fit(readings: tuple[Path, ...], chip: str, out: Path | None, as_json: bool) -> None:
    """Fit the energy of a step to the published measurements, and to READINGS of 'energy import' with counts."""
    from esl_neuro.pipeline.chip_fit import fit_chip
    from esl_neuro.report.fit_text import render_fit

    fitted = fit_chip(chip, readings, out)
    if out is not None:
        print_status(f"written: {out}")
    text = render_fit(chip, fitted.readings, fitted.found, fitted.free, fitted.own)
    emit(fitted.to_dict(), text, as_json)
