"""The verdicts of NIR readers as text, for ``esl-neuro verify``."""

from __future__ import annotations

from typing import Any

from esl_neuro.pipeline.choices import CHIP, LAVA

INSTALL = "esl-neuro verify --install-readers"


def render(document: dict[str, Any]) -> str:
    """Write the verdicts as a table, then the first divergence of each reader that differs."""
    from esl_neuro.report.fidelity_text import render_fidelity, render_findings
    from esl_neuro.report.tables import table

    if not document["readers"]:
        return f"No independent NIR reader is installed; run {INSTALL}"
    rows, more = [], []
    for verdict in document["readers"]:
        ran = verdict["status"] in ("equal", "different")
        figures = [f"{verdict[name]:,}" if ran else "" for name in ("compared", "spikes", "differing")]
        rows.append((verdict["reader"], verdict["version"], verdict["status"], *figures))
        if verdict["reason"]:
            more.append(f"{verdict['reader']} {verdict['status']}: {verdict['reason']}")
        if verdict["divergence"]:
            more.append(f"{verdict['reader']} diverges at {_place(verdict['divergence'])}")
    if any(verdict["reader"] == LAVA and verdict["compared"] for verdict in document["readers"]):
        more.append(
            f"lava runs the program for {CHIP}, compared with the integer simulator; the others, with the equations"
        )
    headers = ("reader", "version", "result", "entries", "spikes", "differing")
    if document.get("fidelity"):
        more += ["", render_fidelity(document["fidelity"])]
    if document.get("findings"):
        more += ["", render_findings(document["findings"])]
    return "\n".join([document["file"], "", table(headers, rows, left=3), *([""] if more else []), *more])


def _place(divergence: dict[str, Any]) -> str:
    if divergence["neuron"] < 0:
        return f"'{divergence['layer']}': {divergence['cause']}"
    found, expected, potential, threshold, theirs = (
        _figure(divergence[name]) for name in ("found", "expected", "potential", "threshold", "reader_potential")
    )
    return (
        f"'{divergence['layer']}', step {divergence['step']}, sample {divergence['sample']}, neuron "
        f"{divergence['neuron']}: {found} instead of {expected}; potential {potential}, threshold {threshold}, "
        f"in the reader after the reset {theirs}\n  likely cause: {divergence['cause']}"
    )


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.9g}"
