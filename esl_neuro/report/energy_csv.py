"""Energy reports as CSV: one file with a row per estimate, and one with a row per layer."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from esl_neuro.energy.report import EnergyReport
from esl_neuro.reading.names import spreadsheet_cell
from esl_neuro.storage import write


def write_energy_csv(report: EnergyReport, path: Path) -> tuple[Path, Path]:
    """Write the estimates (energies in J per sample) to ``path`` and the counts of the layers to ``*-layers.csv``."""
    layers = path.with_name(f"{path.stem}-layers{path.suffix}")
    _write(path, [*_measured(report), *_estimates(report)])
    _write(layers, [{k: v for k, v in layer.to_dict().items() if k != "per_step"} for layer in report.counts.layers])
    return path, layers


def _estimates(report: EnergyReport) -> list[dict[str, Any]]:
    rows = []
    for estimate, found in report.rows:
        energy = estimate.energy_pj
        rows.append(
            {
                "target": estimate.target,
                "model": estimate.model,
                "scope": estimate.scope,
                "evidence": estimate.evidence,
                "lower_bound": estimate.lower_bound,
                "median_j": None if found is None else found.median_pj / 1e12,
                "p05_j": None if found is None else found.low_pj / 1e12,
                "p95_j": None if found is None else found.high_pj / 1e12,
                "nominal_j": None if energy is None else energy.nominal / 1e12,
                "varies_most_with": None if found is None else found.leading,
                "refusal": estimate.refusal,
                "constants": " ".join(constant.id for constant in estimate.constants),
            }
        )
    return rows


def _measured(report: EnergyReport) -> list[dict[str, Any]]:
    return [
        {
            "target": m.target,
            "model": "measured",
            "scope": m.scope,
            "evidence": "measured",
            "lower_bound": False,
            "median_j": m.energy_j_per_sample,
            "p05_j": m.low_j,
            "p95_j": m.high_j,
            "nominal_j": m.energy_j_per_sample,
            "varies_most_with": None,
            "refusal": None,
            "constants": "",
        }
        for m in report.measurements
    ]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows({name: spreadsheet_cell(value) for name, value in row.items()} for row in rows)
    write(path, text.getvalue())
