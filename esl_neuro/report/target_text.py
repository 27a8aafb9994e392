"""Targets as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from esl_neuro.hardware import HardwareTarget
from esl_neuro.report.energy_text import render_constants
from esl_neuro.report.tables import table


def list_rows(targets: Sequence[HardwareTarget]) -> list[dict[str, Any]]:
    """Return one row per target, as plain data."""
    return [
        {
            "name": target.name,
            "title": target.target.title,
            "kind": target.target.kind,
            "process": target.target.process,
            "price_models": target.target.price_models,
            "compiles": target.arithmetic is not None,
            "constants": sum(not constant.unpublished for constant in target.constants.values()),
            "unpublished": sum(constant.unpublished for constant in target.constants.values()),
        }
        for target in targets
    ]


def render_target_list(rows: Sequence[dict[str, Any]]) -> str:
    """Render the list as a table."""
    cells = [
        (
            row["name"],
            row["kind"],
            row["process"],
            "yes" if row["compiles"] else "",
            ", ".join(row["price_models"]) or "none",
            str(row["constants"]),
            str(row["unpublished"] or ""),
        )
        for row in rows
    ]
    return table(("name", "kind", "process", "export", "price models", "constants", "unpublished"), cells, 5)


def render_target(target: HardwareTarget) -> str:
    """Render the description, the limits and every constant of a target."""
    info = target.target
    lines = [f"{info.name}: {info.title}, {info.process}, {info.year} ({info.kind})", f"source: {info.source}"]
    lines.append(f"price models: {', '.join(info.price_models) or 'none'}")
    if info.note:
        lines.append(f"note: {info.note}")
    parts = ["\n".join(lines)]
    if target.limits:
        rows = [
            (name, "unknown" if limit.value is None else f"{limit.value:,}", limit.unit, limit.evidence)
            for name, limit in target.limits.items()
        ]
        parts.append("Limits\n" + table(("limit", "value", "unit", "evidence"), rows, 1))
    if target.constants:
        parts.append("Constants\n" + render_constants(target.constants.values()))
    return "\n\n".join(parts)
