"""``esl-neuro energy validate``."""

from __future__ import annotations

import click

from esl_neuro.cli.commands import ExampleCommand, emit, json_option


@click.command(
    cls=ExampleCommand,
    short_help="Compare predictions with published measurements.",
    examples=(("esl-neuro energy validate", "TrueNorth, Loihi and Loihi 2"),),
)
@json_option
def validate(as_json: bool) -> None:
    """Predict published measurements with the price models, and print all residuals."""
    from esl_neuro.energy.validation import validation
    from esl_neuro.report.comparison_text import render_validation

    points = validation()
    emit({"points": [point.to_dict() for point in points]}, render_validation(points), as_json)
