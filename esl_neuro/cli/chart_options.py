"""Options of every command that writes charts: their printed width and their title."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from esl_neuro.errors import BadInput

if TYPE_CHECKING:
    from esl_neuro.report.plots import Layout

Function = Callable[..., Any]


def chart_options(function: Function) -> Function:
    """Add ``--width`` and ``--title``, as ``width`` and ``title``; see :func:`layout_of`."""
    wide = click.option(
        "--width",
        type=click.Choice(("single", "double")),
        help="Printed width of charts: one column (88 mm) or both columns (180 mm) of a journal, with text of 7 to "
        "8 pt.  [default: double]",
    )
    return wide(
        click.option("--title", help="Title above charts. A paper has captions, so there is none by default.")(function)
    )


def layout_of(width: str | None, title: str | None, drawn: object, options: str) -> Layout:
    """Return the layout of the charts.

    Parameters
    ----------
    width, title : str or None
        As given.
    drawn : object
        The file or folder of the charts; None where no chart is asked for.
    options : str
        What asks for charts, for the message.

    Raises
    ------
    BadInput
        If a width or a title is given, but no chart is asked for.
    """
    from esl_neuro.report.plots import Layout

    given = {"--width": width, "--title": title}
    unused = [name for name, value in given.items() if value is not None]
    if drawn is None and unused:
        raise BadInput(f"{' and '.join(unused)} would change nothing, because no chart is drawn; add {options}")
    return Layout(width or "double", title or "")
