"""How closely integers follow the float network, as text: one line per layer."""

from __future__ import annotations

from typing import Any

from esl_neuro.report.tables import table

HEADERS = (
    "layer",
    "spikes float",
    "integer",
    "moved",
    "weights lost",
    "threshold",
    "decay",
    "u range used",
    "v range used",
)


def render_fidelity(document: dict[str, Any] | None) -> str:
    """Write a fidelity document, with the input on which it was measured; empty if there is none."""
    if document is None:
        return ""
    rows = [
        (
            layer["layer"],
            f"{layer['spikes_float']:,}",
            f"{layer['spikes_integer']:,}",
            _moved(layer),
            f"{layer['rounding']['lost']:,} of {layer['rounding']['weights']:,}",
            _percent(layer["rounding"]["threshold_error"]),
            _percent(layer["rounding"]["decay_error"]),
            _range(layer["u_range"]),
            _range(layer["v_range"]),
        )
        for layer in document["layers"]
    ]
    return f"Fidelity: integers against float, {document['inputs']}\n{table(HEADERS, rows)}"


def render_findings(findings: list[dict[str, Any]]) -> str:
    """Write findings, one line each."""
    return "\n".join(f"{each['severity']}: {each['place']}: {each['message']}" for each in findings)


def _moved(layer: dict[str, Any]) -> str:
    if layer["moved_share"] is None:
        return f"potential {_percent(layer['potential_error'])}"
    return f"{layer['moved']:,} ({_percent(layer['moved_share'])})"


def _percent(fraction: float) -> str:
    if fraction < 1e-6:  # of float arithmetic, not of integers
        return "0 %"
    return f"{100 * fraction:.2g} %" if fraction < 0.0995 else f"{100 * fraction:.0f} %"


def _range(ends: list[float]) -> str:
    return " to ".join(f"{100 * end + 0.0:.0f} %".replace("-0 %", "0 %") for end in ends)
