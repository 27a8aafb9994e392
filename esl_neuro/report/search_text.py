"""Results of a search as text, CSV, Markdown and LaTeX, and as a chart."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from esl_neuro.energy.estimate import PJ_PER_J
from esl_neuro.errors import counted
from esl_neuro.reading.names import spreadsheet_cell
from esl_neuro.report.answer_table import escaped
from esl_neuro.report.energy_axes import joule_axis
from esl_neuro.report.energy_layout import scaled_energy, wrap
from esl_neuro.report.palette import MUTED, PAPER, series_look
from esl_neuro.report.plots import PRINTED, SMALL_PT, TEXT_PT, Layout, check_plot, empty_figure, save
from esl_neuro.report.tables import table

SHOWN = 20  # rows of the text; CSV and JSON have all trials
WIDE = 20  # ratio of the ends of an axis above which it is logarithmic
LEFT = 2  # columns that name a row


def search_text(summary: Mapping[str, Any], headings: Mapping[str, str]) -> str:
    """Write the trials that ended by their rank, and what became of the others.

    Parameters
    ----------
    summary : mapping
        As :func:`~esl_neuro.pipeline.searching.run_search` returns it.
    headings : mapping of str to str
        Heading of each field that is searched.
    """
    ranked = _ranked(summary)
    more = len(ranked) - SHOWN
    notes = [_note(summary, len(ranked)), f"{counted(more, 'more trial')}: --csv FILE has them all" if more > 0 else ""]
    lines = _rows(ranked[:SHOWN], headings)
    shown = table(_columns(headings), lines, LEFT)
    return "\n".join((summary["title"], "", shown, "", *(wrap(note) for note in notes if note), *_refusals(summary)))


def _ranked(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    done = [each for each in summary["trials"] if each["rank"] is not None]
    return sorted(done, key=lambda each: (each["rank"], -each["validation_accuracy"], each["energy_pj"]))


def _columns(headings: Mapping[str, str]) -> list[str]:
    return ["rank", "trial", "validation", "test", "energy", "connections", *headings.values(), "run"]


def _rows(trials: Sequence[Mapping[str, Any]], headings: Mapping[str, str]) -> list[tuple[str, ...]]:
    return [
        (
            str(each["rank"]),
            str(each["trial"]),
            _percent(each["validation_accuracy"]),
            "" if each["test_accuracy"] is None else _percent(each["test_accuracy"]),
            " ".join(scaled_energy(each["energy_pj"])),
            f"{each['connections']:,.0f}",
            *(each["shown"][heading] for heading in headings.values()),
            each["runs"][0] if each["runs"] else "",
        )
        for each in trials
    ]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def _note(summary: Mapping[str, Any], done: int) -> str:
    states = ", ".join(f"{count} {state}" for state, count in summary["states"].items() if count)
    seeds = "" if len(summary["seeds"]) == 1 else f", means of {len(summary['seeds'])} seeds"
    first = sum(each["rank"] == 1 for each in summary["trials"])
    return (
        f"{counted(len(summary['trials']), 'trial')}: {states}; rank 1 is the Pareto set ({first} of {done}): no other "
        f"trial is as good in {_listed(summary['objectives'])} and better in one. Validation: integers on the "
        "validation part, which the search sees; test: integers on the test part, measured for rank 1 alone, after the "
        f"search; energy: one sample on {summary['target']} ({summary['covers']}), nominal prices{seeds}"
    )


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _refusals(summary: Mapping[str, Any]) -> list[str]:
    """Say why trials were refused, once for each reason."""
    reasons: dict[str, list[int]] = {}
    for each in summary["trials"]:
        if each["state"] == "refused":
            reasons.setdefault(each["reason"], []).append(each["trial"])
    return [wrap(f"refused: trial {', '.join(map(str, numbers))}: {reason}") for reason, numbers in reasons.items()]


def search_csv(summary: Mapping[str, Any]) -> str:
    """Return all trials as CSV, also those that were stopped or refused; energies in J."""
    rows = [_record(each) for each in summary["trials"]]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: spreadsheet_cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue().rstrip("\n")


def _record(trial: Mapping[str, Any]) -> dict[str, Any]:
    energy = trial["energy_pj"]
    return {
        "trial": trial["trial"],
        "state": trial["state"],
        "rank": trial["rank"],
        "validation_accuracy": trial["validation_accuracy"],
        "test_accuracy": trial["test_accuracy"],
        "energy_j": None if energy is None else energy / PJ_PER_J,
        "connections": trial["connections"],
        **{name: str(value) if isinstance(value, (list, dict)) else value for name, value in trial["values"].items()},
        "reason": trial["reason"],
        "runs": " ".join(trial["runs"]),
    }


def search_markdown(summary: Mapping[str, Any], headings: Mapping[str, str]) -> str:
    """Return the table of the text in Markdown."""
    columns = _columns(headings)
    lines = [columns, ["---"] * len(columns), *_rows(_ranked(summary), headings)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def search_latex(summary: Mapping[str, Any], headings: Mapping[str, str]) -> str:
    """Return the table of the text in LaTeX, for the package booktabs, without the paths."""
    columns = _columns(headings)[:-1]
    lines = [" & ".join(map(_latex, row[:-1])) + r" \\" for row in _rows(_ranked(summary), headings)]
    return "\n".join(
        (
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            rf"\caption{{{escaped(summary['title'])}. {escaped(_note(summary, len(lines)))}.}}",
            rf"\begin{{tabular}}{{{'r' * len(columns)}}}",
            r"\toprule",
            " & ".join(map(_latex, columns)) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        )
    )


def _latex(text: str) -> str:
    return escaped(text).replace(" uJ", r" \textmu J")


def trials_text(document: Mapping[str, Any]) -> str:
    """Write what is searched, and the trials so far."""
    rows = [(str(each["trial"]), each["state"], *each["shown"].values(), each["reason"]) for each in document["trials"]]
    space = [f"{field}: {words}" for field, words in document["space"].items()]
    parts = [document["title"], "", f"searched for {_listed(document['objectives'])}:", *space]
    if rows:
        columns = ("trial", "state", *document["trials"][0]["shown"], "reason")
        parts += ["", table(columns, rows, left=len(columns))]
    return "\n".join((*parts, "", f"{counted(len(rows), 'trial')}, {document['to_come']} to come"))


# The chart.


def draw_search(summary: Mapping[str, Any], path: Path, layout: Layout | None = None) -> None:
    """Draw the accuracy on the validation part over energy and over connections; rank 1 is filled.

    The line joins the trials that none beats in the two quantities of its panel.

    Parameters
    ----------
    summary : mapping
        As :func:`~esl_neuro.pipeline.searching.run_search` returns it.
    path : Path
        File to write; see :func:`~esl_neuro.report.plots.check_plot`.
    layout : Layout, optional
        Width and title.
    """
    check_plot(path)
    from matplotlib import rc_context

    layout = layout or Layout()
    trials = _ranked(summary)
    rows, columns = (2, 1) if layout.width == "single" else (1, 2)
    with rc_context(PRINTED):
        figure = empty_figure(layout, 58 * rows + 16)
        energy, connections = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        _panel(energy, [each["energy_pj"] / PJ_PER_J for each in trials], trials)
        joule_axis(energy.xaxis, energy.set_xscale)
        energy.set_xlabel(f"energy per sample on {summary['target']} ({summary['covers']})")
        _panel(connections, [each["connections"] for each in trials], trials)
        if max(each["connections"] for each in trials) > WIDE * min(each["connections"] for each in trials):
            connections.set_xscale("log")
        connections.xaxis.set_major_formatter("{x:,.0f}")
        connections.set_xlabel("connections")
        for axes in (energy, connections):
            axes.minorticks_off()
            axes.margins(x=0.12, y=0.1)
        figure.supylabel("validation accuracy of the integers (%)", fontsize=TEXT_PT)
        figure.legend(
            *energy.get_legend_handles_labels(), loc="outside lower center", ncols=3,
            title=layout.wrap(_said(summary)), title_fontsize=SMALL_PT,
        )  # fmt: skip
        save(figure, path)


def _said(summary: Mapping[str, Any]) -> str:
    states = ", ".join(f"{count} {state}" for state, count in summary["states"].items() if count)
    return f"Pareto set in {_listed(summary['objectives'])}; {counted(len(summary['trials']), 'trial')}: {states}"


def _panel(axes: Any, costs: Sequence[float], trials: Sequence[Mapping[str, Any]]) -> None:
    points = sorted((cost, -100 * each["validation_accuracy"]) for cost, each in zip(costs, trials, strict=True))
    joined: list[tuple[float, float]] = []
    for cost, negative in points:
        if not joined or -negative > joined[-1][1]:
            joined.append((cost, -negative))
    axes.plot(
        *zip(*joined, strict=True), color=MUTED, linewidth=1.0, drawstyle="steps-post", label="best of this panel"
    )
    look = series_look(0)
    for first, face, label in ((True, look.colour, "Pareto set"), (False, PAPER, "other trials")):
        chosen = [
            (cost, 100 * each["validation_accuracy"])
            for cost, each in zip(costs, trials, strict=True)
            if (each["rank"] == 1) == first
        ]
        if chosen:
            axes.plot(
                *zip(*chosen, strict=True), linestyle="", color=look.colour, marker=look.marker, markersize=4.2,
                markerfacecolor=face, label=label,
            )  # fmt: skip
