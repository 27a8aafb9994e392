"""``esl-neuro energy fit``."""

from __future__ import annotations

from pathlib import Path

import click

from esl_neuro.cli.commands import ExampleCommand, OutputPath, emit, json_option, print_status
from esl_neuro.storage import write


@click.command(
    cls=ExampleCommand,
    short_help="Fit the energy of a chip's step to published measurements and your own.",
    examples=(
        ("esl-neuro energy fit", "Loihi 2: parameters, intervals, every workload left out"),
        ("esl-neuro energy fit mine.json --out my-loihi2.toml", "with your readings, as a target for --target"),
    ),
)
@click.argument("readings", nargs=-1, type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.option("--chip", default="loihi2", show_default=True, help="Chip whose published measurements are fitted.")
@click.option("--out", type=OutputPath(), help="File of a target with the fitted constants, for --target.")
@json_option
def fit(readings: tuple[Path, ...], chip: str, out: Path | None, as_json: bool) -> None:
    """Fit the energy of a step to the published measurements, and to READINGS of 'energy import' with counts."""
    from esl_neuro.energy import chip_fit
    from esl_neuro.energy.fit_file import fitted_constants, target_text
    from esl_neuro.energy.measurement import Measurement
    from esl_neuro.energy.measurements import measurements, points
    from esl_neuro.report.fit_text import render_fit

    published = measurements(chip)
    own = [chip_fit.own_observation(Measurement.load(path), chip, published.repeatability) for path in readings]
    given = [*chip_fit.observations(points(published)), *own]
    found, free = chip_fit.fit(given), chip_fit.fit_open(given)
    constants = fitted_constants(found, free)
    if out is not None:
        write(out, target_text(chip, out.stem, constants))
        print_status(f"written: {out}")
    document = {"chip": chip, "readings": len(given), **found.to_dict(), "open": free.to_dict()}
    document["constants"] = {key: dict(zip(("value", "low", "high"), n, strict=True)) for key, n in constants.items()}
    emit(document, render_fit(chip, len(given), found, free, len(own)), as_json)
