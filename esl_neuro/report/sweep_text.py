"""Results of a sweep as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from esl_neuro.energy.modes import pace_name
from esl_neuro.energy.pareto import PricedCase, by_target, front
from esl_neuro.errors import counted
from esl_neuro.report.answer_table import energy_cell, interval_cell
from esl_neuro.report.energy_layout import wrap
from esl_neuro.report.tables import table


def runs_text(document: dict[str, Any]) -> str:
    """Write the runs as a table."""
    runs = document["runs"]
    headings = list(runs[0]["case"])
    rows = [
        (*(run["case"][name] for name in headings), str(run["seed"]), run["state"], Path(run["folder"]).name)
        for run in runs
    ]
    columns = (*headings, "seed", "state", "folder")
    counts = {state: sum(run["state"] == state for run in runs) for state in dict.fromkeys(r["state"] for r in runs)}
    total = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{document['title']}\n\n{table(columns, rows, left=len(columns))}\n\n{len(rows)} runs: {total}"


def summary_text(summary: dict[str, Any]) -> str:
    """Write one row per case: means over the seeds, and the spread of the accuracy."""
    cases = summary["cases"]
    headings, noises = list(cases[0]["case"]), list(cases[0]["noise"])
    density = "density" if "density" not in headings else "actual density"
    columns = [
        *headings,
        "test accuracy",
        "spread",
        "validation",
        "seeds",
        density,
        "connections",
        "spikes/neuron",
        "time",
    ]
    for noise in noises:
        columns += [noise, "spread"]
    rows = [_row(case, headings, noises) for case in cases]
    note = f"means of {_seeds(summary)}; spread: sample standard deviation, in points"
    return f"{summary['title']}\n\n{table(columns, rows, left=len(headings))}\n\n{note}"


def _row(case: dict[str, Any], headings: Sequence[str], noises: Sequence[str]) -> list[str]:
    row = [case["case"][name] for name in headings]
    row += _accuracy(case["test_accuracy"])
    row += [
        _percent(case["validation_accuracy"]),
        str(len(case["runs"])),
        f"{case['density']:.3f}",
        f"{case['connections']:,.0f}",
        f"{case['spikes_per_neuron']:.2f}",
        f"{case['seconds']:.0f} s",
    ]
    for noise in noises:
        row += _accuracy(case["noise"][noise])
    return row


def _accuracy(figure: dict[str, float | None]) -> list[str]:
    spread = figure["stdev"]
    return [_percent(figure["mean"] or 0.0), "" if spread is None else f"{100 * spread:.2f}"]


def _seeds(summary: dict[str, Any]) -> str:
    seeds = summary["seeds"]
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def pareto_text(cases: Sequence[PricedCase], tick_s: float | None) -> str:
    """Write a row per case and target: accuracy of the integers and energy, and which are on the Pareto front."""
    best = front(cases)
    rows = [
        (
            each.case,
            target,
            each.model,
            each.covers,
            *_accuracy({"mean": each.accuracy, "stdev": each.accuracy_stdev}),
            energy_cell(each.energy),
            interval_cell(each.energy),
            "*" if each in best else "",
        )
        for target, found in by_target(cases).items()
        for each in found
    ]
    columns = ("case", "target", "model", "covers", "integers", "spread", "energy", "5-95 %", "front")
    refused = [f"{each.case} on {each.target}: no figure, {each.refusal}" for each in cases if each.energy is None]
    note = (
        f"integers: accuracy of the exported network on {counted(cases[0].samples, 'test sample')}, mean and spread as "
        f"above; energy: median of one sample, {pace_name(tick_s)}, mean over the seeds; '>': at least this; front *: "
        "no other case is as accurate for less, or more accurate for as much, by means and medians, whatever their "
        "intervals"
    )
    return "\n".join(("Accuracy against energy", table(columns, rows, left=4), "", wrap(note), *map(wrap, refused)))
