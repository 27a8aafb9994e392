"""Comparisons as plain text of at most 100 columns: with another network, with measurements, with the literature."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from esl_neuro.energy.comparison import COMPARED, ComparisonReport, Crossing
from esl_neuro.energy.estimate import PJ_PER_J
from esl_neuro.energy.literature import Literature
from esl_neuro.energy.measurement import Measurement
from esl_neuro.energy.presets import PresetResult, Reading
from esl_neuro.energy.validation import ValidationPoint
from esl_neuro.errors import counted
from esl_neuro.report.energy_layout import bullets, exact, joules, numbered, sections, short, si_energy, wrap
from esl_neuro.report.energy_text import VERIFICATION, arithmetic, render_constants
from esl_neuro.report.tables import table

MODELS = 2  # columns of a table that fit its width


def render_comparison(result: ComparisonReport) -> str:
    """Render two networks side by side, then the first on processors over the second on chips."""
    counted = [
        (
            name,
            *(exact(side.counts.per_sample(name)) for side in result.sides),
            _ratio(*(side.counts.per_sample(name) for side in result.sides)),
        )
        for name in COMPARED
    ]
    rows = [
        (
            short(c.first.target),
            c.first.model,
            c.first.scope,
            c.relation.removeprefix("="),
            joules(c.first_median_pj),
            joules(c.second_median_pj),
            f"{c.ratio:.3g}x",
            f"{c.low:.3g} - {c.high:.3g}",
            "equal" if c.equal else f"{c.probability:.3f}",
        )
        for c in result.comparisons
    ]
    note = (
        "Medians, ratio with 5-95 %: every constant is drawn once for both, so that shared constants "
        "cancel; P: probability that A needs less; '>=', '<=': the ratio is at least, at most this, because one energy "
        "is a lower bound; '~': both are."
    )
    return sections(
        "\n".join(wrap(line) for line in _networks(result)),
        "Counts, mean per sample\n" + table(("count", "A", "B", "A/B"), counted),
        "Energy per sample, in J\n"
        + table(("target", "model", "scope", "", "A", "B", "A/B", "5 - 95 %", "P(A<B)"), rows, 4)
        + "\n"
        + wrap(note),
        *_crossings(result),
    )


def _networks(result: ComparisonReport) -> Iterator[str]:
    for letter, side in zip("AB", result.sides, strict=True):
        facts = [f"{side.stored:,} stored connections", f"{side.ran_on} x {side.counts.steps:,} steps"]
        if side.accuracy is not None:
            facts.append(f"accuracy {100 * side.accuracy:.2f} %")
        yield f"{letter}: {side.name} ({'; '.join(facts)})"


def _crossings(result: ComparisonReport) -> Iterator[str]:
    """Render a table for each processor, with a column for each of its price models."""
    groups: dict[tuple[str, str], list[Crossing]] = {}
    for crossing in result.crossings:
        groups.setdefault((crossing.processor.target, crossing.pace), []).append(crossing)
    for (target, pace), crossings in groups.items():
        models = list(dict.fromkeys(crossing.processor.model for crossing in crossings))
        for shown in (models[first : first + MODELS] for first in range(0, len(models), MODELS)):
            cells: dict[tuple[str, ...], dict[str, str]] = {}
            for c in crossings:
                row = cells.setdefault((short(c.chip.target), c.chip.model), {})
                row[c.processor.model] = f"{c.relation} {c.ratio:.3g}x".removeprefix("= ") + f" ({c.probability:.2f})"
            rows = [(*names, *(row.get(model, "") for model in shown)) for names, row in cells.items()]
            title = f"A on the board {target} over B on a whole chip, {pace}, median (P that B needs less)"
            yield title + "\n" + table(("B on", "model", *shown), rows, 2)
    if groups:
        yield wrap(
            "A processor is sold as a board, so a whole chip (operations and static power) is held against it; "
            "operations alone never are. '>=', '<=': one side is a lower bound; '~': both are. A processor runs the "
            "dense network of A's shape; it does not skip zeros."
        )


def _ratio(first: float, second: float) -> str:
    return f"{first / second:.3g}x" if second else ""


def render_validation(points: Iterable[ValidationPoint]) -> str:
    """Render predictions beside measurements, one table for each hardware and workload."""
    groups: dict[tuple[str, str], list[ValidationPoint]] = {}
    for point in points:
        groups.setdefault((point.target, point.remark), []).append(point)
    return sections(
        wrap(
            "Predictions beside published measurements, at nominal constants, with the 5-95 % of the draws; '>=': at a"
            " published minimum or without some operations, so a prediction may lie at or below the low end of its "
            "interval. '+-': scatter of the instrument on the same program, where published. fit: 'in' if a constant "
            "was fitted to the measurement or read off it, so that agreement proves little; '?' if the reading is "
            "suspect. No prediction: nothing to predict it from, see the workload."
        ),
        *(
            wrap(f"{target}: {remark}") + "\n" + table(VALIDATION, [_validation_row(point) for point in found], 2)
            for (target, remark), found in groups.items()
        ),
    )


VALIDATION = ("what", "model", "measured", "predicted", "error", "5 - 95 %", "+-", "fit")


def _validation_row(point: ValidationPoint) -> tuple[str, ...]:
    start = (point.what, point.model, f"{point.measured:.4g} {point.unit}")
    end = (
        "" if point.repeatability is None else f"{100 * point.repeatability:.1f} %",
        "?" if point.suspect else "in" if point.fitted else "",
    )
    if point.predicted is None or point.residual is None or point.low is None or point.high is None:
        return (*start, "", "", "", *end)
    return (
        *start,
        f"{'>= ' * point.lower_bound}{point.predicted:.4g}",
        f"{100 * point.residual:+.1f} %",
        f"{point.low:.3g}-{point.high:.3g}",
        *end,
    )


def render_measurement(measurement: Measurement) -> str:
    """Render a measurement."""
    return wrap(
        f"{measurement.target}: measured {si_energy(measurement.energy_j_per_sample * PJ_PER_J)} per sample "
        f"[{si_energy(measurement.low_j * PJ_PER_J)} - {si_energy(measurement.high_j * PJ_PER_J)}] "
        f"({measurement.scope}), {counted(measurement.samples, 'sample')} in {measurement.duration_s:.3g} s "
        f"at {measurement.mean_power_w:.4g} W"
        + (f" above {measurement.idle_w:g} W of idle power" if measurement.idle_w else "")
    )


def render_literature(result: Literature) -> str:
    """Render a run in a formula of the literature, labelled as a reproduction."""
    rows = [(e.model, e.prices, joules(e.energy_pj.nominal)) for e in result.estimates if e.energy_pj is not None]
    return sections(
        "\n".join(wrap(line) for line in (f"{result.name}: {result.label}", result.paper)),
        table(("network", "what is priced", "J per sample"), rows, 2),
        "Arithmetic, per sample\n" + "\n".join(arithmetic(estimate) for estimate in result.estimates),
        "What it leaves out\n" + numbered(result.caveats),
        "Constants used\n" + render_constants(result.constants),
        wrap(VERIFICATION),
    )


def render_preset(preset: PresetResult) -> str:
    """Render a recomputed comparison with its derivation, its caveats and its constants."""
    return sections(
        "\n".join(wrap(line) for line in (f"{preset.name}: {preset.label}", preset.paper, preset.title)),
        "Connections\n" + bullets(preset.connections),
        *(_reading(reading) for reading in preset.readings),
        "The same connection counts at other published prices, in J\n" + _alternatives(preset),
        "What the table leaves out\n" + numbered(preset.caveats),
        "Constants used\n" + render_constants(preset.constants),
        wrap(VERIFICATION),
    )


# Sections of a preset.


def _reading(reading: Reading) -> str:
    rows = [(f.network, f.chip, f.text, f.printed_j, f.remark) for f in reading.figures]
    reproduced = f"{reading.equal} of the {len(reading.figures)} printed figures"
    return "\n".join(
        (
            wrap(f"Reading '{reading.name}' gives {reproduced}: {reading.assumption}"),
            table(("network", "hardware", "recomputed (J)", "paper (J)", "comparison"), rows, 2),
            *(wrap(f"{f.network} {f.chip}: {f.derivation}", "    ", "      ") for f in reading.figures),
        )
    )


def _alternatives(preset: PresetResult) -> str:
    rows = [
        (
            a.constant.id,
            str(a.constant.scope),
            a.constant.text,
            f"{a.price_pj:.3g}",
            f"{a.dense_j:.2E}",
            f"{a.sparse_j:.2E}",
        )
        for a in preset.alternatives
    ]
    return table(("constant", "scope", "as published", "pJ per SOP", "dense", "sparse"), rows, 2)
