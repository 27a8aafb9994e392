"""Energy reports as plain text of at most 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from esl_neuro.energy.breakeven import BreakEven
from esl_neuro.energy.cite import bibliography, caption
from esl_neuro.energy.comparison import COMPARED, ComparisonReport
from esl_neuro.energy.counts import Counts
from esl_neuro.energy.estimate import PJ_PER_J, Estimate, Term
from esl_neuro.energy.literature import Literature
from esl_neuro.energy.measurement import Measurement
from esl_neuro.energy.presets import PresetResult, Reading
from esl_neuro.energy.report import EnergyReport
from esl_neuro.energy.uncertainty import Distribution
from esl_neuro.energy.validation import Point
from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.hardware import Constant, Interval
from esl_neuro.report.tables import table

WIDTH = 100
NAME_WIDTH = 12

# What the words in the "checked" field of a constant mean; other words explain themselves.
VERIFICATION = (
    "checked: quote = against a quotation of the source, not the source itself; first-hand file = in the file that the "
    "source names; recomputed = from the figures it is derived from; secondary = as cited by others; search = looked "
    "for and not found; assumption = not a finding."
)


NO_RANGE = (
    "The interval is over the published ranges of the constants and the samples of the run. A constant without a "
    "published range does not widen it: its uncertainty is unknown, not zero."
)
LOWER_BOUND = (
    "'>=': the total leaves out something that happened, or prices it at a published best case; the range is only that "
    "of the prices there are."
)


def render_energy_report(report: EnergyReport) -> str:
    """Render what ran, the counts, the prices and the warnings."""
    return _sections(
        _run(report),
        "Network and activity, mean per sample\n" + _activity(report.counts),
        "Synaptic operations (SOP), mean per sample\n" + _operations(report.counts),
        "Energy per sample, one line for each target\n" + _summary(report),
        "Energy per sample by layer, nominal, in J\n" + _layers(report),
        "Every price model, nominal, in J ('--explain NUMBER' shows its arithmetic)\n" + _estimates(report.estimates),
        *_meetings(report.break_evens),
        *_ratios(report),
        "Read this with the numbers\n" + _bullets((*report.warnings, *_notes(report.estimates))),
    )


def render_explanation(report: EnergyReport) -> str:
    """Render every constant with its origin, then the arithmetic of every row."""
    return _sections(
        "Constants used\n" + render_constants(report.constants),
        "Arithmetic, per sample\n" + "\n".join(_arithmetic(estimate) for estimate in report.estimates),
        _wrap(VERIFICATION),
    )


def render_one_explanation(report: EnergyReport, row: str) -> str:
    """Render the arithmetic and the constants of one row.

    Parameters
    ----------
    report : EnergyReport
        The report.
    row : str
        Number of the row, or ``"target:model"``.

    Raises
    ------
    BadInput
        If there is no such row.
    """
    names = [estimate.name for estimate in report.estimates]
    index = names.index(row) if row in names else int(row) - 1 if row.isdigit() else -1
    if not 0 <= index < len(names):
        raise BadInput(f"--explain '{row}': no such row; numbers 1 to {len(names)}, or {did_you_mean(row, names)}")
    estimate, found = report.rows[index]
    return _sections(
        "Arithmetic, per sample\n" + _arithmetic(estimate),
        *(() if found is None else (_wrap(_in_words(found)),)),
        *((_bullets(estimate.notes),) if estimate.notes else ()),
        "Constants used\n" + (render_constants(estimate.constants) or "none"),
        _wrap(VERIFICATION),
    )


def _in_words(found: Distribution) -> str:
    sentence = (
        f"Median {si_energy(found.median_pj)}, 5-95 % {si_energy(found.low_pj)} to {si_energy(found.high_pj)}: constants "
        "drawn from their ranges, samples resampled."
    )
    if found.leading is None:
        return sentence + " Nothing varies: no constant has a published range, and there is one sample."
    return f"{sentence} Most of it comes from {found.leading} ({found.leading_share:.0%} of the variance)."


def render_literature(result: Literature) -> str:
    """Render a run in a formula of the literature, labelled as a reproduction."""
    rows = [(e.model, e.prices, joules(e.energy_pj.nominal)) for e in result.estimates if e.energy_pj is not None]
    return _sections(
        "\n".join(_wrap(line) for line in (f"{result.name}: {result.label}", result.paper)),
        table(("network", "what is priced", "J per sample"), rows, 2),
        "Arithmetic, per sample\n" + "\n".join(_arithmetic(estimate) for estimate in result.estimates),
        "What it does not say\n" + _numbered(result.caveats),
        "Constants used\n" + render_constants(result.constants),
        _wrap(VERIFICATION),
    )


def render_measurement(measurement: Measurement) -> str:
    """Say what was measured."""
    return _wrap(
        f"{measurement.target}: measured {si_energy(measurement.energy_j_per_sample * PJ_PER_J)} per sample "
        f"[{si_energy(measurement.low_j * PJ_PER_J)} - {si_energy(measurement.high_j * PJ_PER_J)}] ({measurement.scope}), "
        f"{measurement.samples:,} samples in {measurement.duration_s:.3g} s at {measurement.mean_power_w:.4g} W"
        + (f" above {measurement.idle_w:g} W of idle power" if measurement.idle_w else "")
    )


def render_citation(report: EnergyReport) -> str:
    """Render a caption sentence as a comment, then BibTeX of exactly the constants used."""
    sentence = caption(report.samples, report.steps, report.summary)
    return _wrap(sentence, "% ", "% ") + "\n\n" + bibliography(report.constants)


def render_comparison(result: ComparisonReport) -> str:
    """Render two networks side by side."""
    first, second = result.names
    counted = [
        (
            name,
            *(exact(each.per_sample(name)) for each in result.counts),
            _ratio(*(c.per_sample(name) for c in result.counts)),
        )
        for name in COMPARED
    ]
    rows = [
        (
            _short(c.first.target),
            c.first.model,
            c.first.scope,
            joules(c.first.energy_pj.nominal),
            joules(c.second.energy_pj.nominal),
            f"{c.ratio:.3g}x",
            f"{c.low:.3g} - {c.high:.3g}",
            f"{c.probability:.3f}",
        )
        for c in result.comparisons
        if c.first.energy_pj is not None and c.second.energy_pj is not None
    ]
    note = (
        "Nominal energies; ratio: median and 5-95 % with every constant drawn once for both, so that what both share "
        "cancels; P: probability that A needs less."
    )
    return _sections(
        f"A: {first}\nB: {second}",
        "Counts, mean per sample\n" + table(("count", "A", "B", "A/B"), counted),
        "Energy per sample, in J\n"
        + table(("target", "model", "scope", "A", "B", "A/B", "5 - 95 %", "P(A<B)"), rows, 3),
        _wrap(note),
    )


def _ratio(first: float, second: float) -> str:
    return f"{first / second:.3g}x" if second else ""


def render_validation(points: Iterable[Point]) -> str:
    """Render predictions beside measurements."""
    points = tuple(points)
    rows = [
        (
            str(number),
            point.target,
            point.what,
            f"{point.measured:.4g}",
            f"{point.predicted:.4g}",
            f"{point.residual:+.1%}",
            f"{point.low:.4g} - {point.high:.4g} {point.unit}",
            "fitted" if point.fitted else "",
        )
        for number, point in enumerate(points, 1)
    ]
    remarks: dict[str, list[str]] = {}
    for number, point in enumerate(points, 1):
        remarks.setdefault(point.remark, []).append(str(number))
    return _sections(
        "Predictions beside published measurements, in mW and mJ\n"
        + table(("", "target", "what", "measured", "predicted", "residual", "5 - 95 %", ""), rows, 3),
        _bullets(f"{', '.join(numbers)}: {remark}" for remark, numbers in remarks.items()),
    )


def render_preset(preset: PresetResult) -> str:
    """Render a recomputed comparison with its derivation, its caveats and its constants."""
    return _sections(
        "\n".join(_wrap(line) for line in (f"{preset.name}: {preset.label}", preset.paper, preset.title)),
        "Connections\n" + _bullets(preset.connections),
        *(_reading(reading) for reading in preset.readings),
        "The same connection counts at other published prices, in J\n" + _alternatives(preset),
        "What the table does not say\n" + _numbered(preset.caveats),
        "Constants used\n" + render_constants(preset.constants),
        _wrap(VERIFICATION),
    )


# Numbers.


def joules(energy_pj: float) -> str:
    """Energy in J, from pJ, three digits."""
    return f"{energy_pj / PJ_PER_J:.2E}"


def amount(number: float) -> str:
    """Format a count in at most nine characters, for a table."""
    if number >= 1e7:
        return f"{number:.3E}"
    return f"{number:,.0f}" if number >= 1e5 else exact(number)


def exact(number: float) -> str:
    """Format a count in full, with one decimal if it is not whole."""
    return f"{number:,.0f}" if number == int(number) else f"{number:,.1f}"


def si_energy(energy_pj: float) -> str:
    """Energy with the SI prefix that leaves one to three digits before the point.

    Examples
    --------
    >>> si_energy(321_000.0)
    '0.321 uJ'
    """
    for prefix, size in (("J", 1e12), ("mJ", 1e9), ("uJ", 1e6), ("nJ", 1e3)):
        if energy_pj >= 0.1 * size:
            return f"{energy_pj / size:,.4g} {prefix}"
    return f"{energy_pj:.4g} pJ"


def _range(interval: Interval) -> str:
    if interval.low == interval.high:
        return "no range given"
    return f"[{joules(interval.low)} - {joules(interval.high)}]"


# Layout.


def _sections(*parts: str) -> str:
    return "\n\n".join(parts) + "\n"


def _wrap(text: str, first: str = "", rest: str = "") -> str:
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(_wrap(line, "- ", "  ") for line in lines)


def _numbered(lines: Iterable[str]) -> str:
    return "\n".join(_wrap(line, f"{number}. ", "   ") for number, line in enumerate(lines, start=1))


def _short(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 2] + ".."


# Sections of a report.


def _run(report: EnergyReport) -> str:
    spread = report.counts.spread()
    return "\n".join(
        _wrap(line)
        for line in (
            f"Energy report: {report.samples:,} samples x {report.steps:,} steps on the {report.backend} backend, "
            f"program for {report.program_target}, tick {report.tick_s:g} s",
            f"Network: {report.inputs:,} inputs, {report.neurons:,} neurons, {report.stored:,} of {report.dense:,} "
            f"connections stored (density {report.density:.4f})",
            f"Effective SOPs per sample: mean {exact(spread.mean)}, std {exact(spread.std)}, "
            f"min {spread.minimum:,}, max {spread.maximum:,}",
        )
    )


def _activity(counts: Counts) -> str:
    headers = ("layer", "neurons", "stored", "density", "spikes in", "spikes out", "updates", "with input", "idle")
    rows = [
        (
            _short(layer.name),
            f"{layer.neurons:,}",
            amount(layer.stored),
            f"{layer.stored / (layer.inputs * layer.neurons or 1):.4f}",
            *(
                amount(getattr(layer, name) / counts.samples)
                for name in (
                    "spikes_in",
                    "spikes_out",
                    "neuron_updates",
                    "neuron_updates_touched",
                    "neuron_updates_idle",
                )
            ),
        )
        for layer in counts.layers
    ]
    return table(headers, rows)


_SOP_COLUMNS = ("sop_effective", "sop_executed", "sop_executed_dense", "sop_bound", "macs_dense")


def _operations(counts: Counts) -> str:
    headers = ("layer", "effective", "executed", "executed if dense", "bound", "dense MACs")
    rows = [
        (_short(layer.name), *(amount(getattr(layer, name) / counts.samples) for name in _SOP_COLUMNS))
        for layer in counts.layers
    ]
    return table(headers, [*rows, ("total", *(amount(counts.per_sample(name)) for name in _SOP_COLUMNS))])


def _summary(report: EnergyReport) -> str:
    headers = ("target", "scope", "evidence", "", "median J", "5 - 95 %", "varies most with")
    rows = [_summary_row(estimate, found) for estimate, found in report.summary]
    measured = [
        (
            _short(m.target),
            m.scope,
            "measured",
            "",
            f"{m.energy_j_per_sample:.2E}",
            f"{m.low_j:.2E} - {m.high_j:.2E}",
            "",
        )
        for m in report.measurements
    ]
    return "\n".join((table(headers, [*measured, *rows], left=4), _wrap(LOWER_BOUND), _wrap(NO_RANGE)))


def _summary_row(estimate: Estimate, found: Distribution | None) -> tuple[str, ...]:
    start = (_short(estimate.target), estimate.scope, estimate.evidence, ">=" if estimate.lower_bound else "")
    if found is None:
        return (*start, "refused", "", "")
    source = "" if found.leading is None else found.leading.split(" ")[0]
    return (*start, joules(found.median_pj), f"{joules(found.low_pj)} - {joules(found.high_pj)}", source)


def _layers(report: EnergyReport) -> str:
    columns = [estimate for estimate, _ in report.summary if estimate.terms]
    shares = [estimate.by_layer_pj() for estimate in columns]
    names = list(dict.fromkeys(name for share in shares for name in share))
    rows = [
        (
            name if name not in _layer_names(report) else _short(name),
            *(joules(share[name]) if name in share else "" for share in shares),
        )
        for name in names
    ]
    return table(("", *(_short(estimate.target) for estimate in columns)), rows)


def _layer_names(report: EnergyReport) -> frozenset[str]:
    return frozenset(layer.name for layer in report.counts.layers)


def _estimates(estimates: Iterable[Estimate]) -> str:
    headers = ("no.", "target", "model", "scope", "evidence", "", "nominal", "all low - all high")
    rows = [(str(number), *_estimate(estimate)) for number, estimate in enumerate(estimates, 1)]
    return table(headers, rows, left=6)


def _estimate(estimate: Estimate) -> tuple[str, ...]:
    energy = estimate.energy_pj
    bound = ">=" if estimate.lower_bound else ""
    numbers = ("refused", "") if energy is None else (joules(energy.nominal), _range(energy))
    return (_short(estimate.target), estimate.model, estimate.scope, estimate.evidence, bound, *numbers)


def _meetings(meetings: Iterable[BreakEven]) -> tuple[str, ...]:
    rows = [
        (
            _short(meeting.chip.target),
            _short(meeting.processor.target),
            "" if meeting.probability is None else f"{meeting.probability:.3f}",
            f"{meeting.rate:.4f}",
            _where(meeting.rate_at),
            f"{meeting.density:.4f}",
            _where(meeting.density_at),
            "" if meeting.utilisation_at is None else f"{meeting.utilisation_at:.3g}",
        )
        for meeting in meetings
    ]
    if not rows:
        return ()
    headers = ("chip", "against", "P(less)", "rate", "equal at", "density", "equal at", "utilisation")
    note = (
        "rate: spikes per source line and step; equal at: where the nominal energies meet, all else as it is ('> 1': even a "
        "spike in every step, or every connection, is less; 'never': its fixed costs alone are more); utilisation: share "
        "of its peak rate at which the processor needs as little (above 1: it cannot). Scopes differ between both sides."
    )
    return ("Where chip and processor meet\n" + table(headers, rows, 2) + "\n" + _wrap(note),)


def _where(value: float | None) -> str:
    if value is None:
        return "never"
    return "> 1" if value > 1 else f"{value:.4f}"


def _ratios(report: EnergyReport) -> tuple[str, ...]:
    if not report.ratios:
        return ()
    rows = [
        (
            f"{ratio.first.target} {ratio.first.model} ({ratio.first.scope})",
            f"{ratio.second.target} {ratio.second.model} ({ratio.second.scope})",
            f"{ratio.relation} {ratio.value:.3g}x",
        )
        for ratio in report.ratios
    ]
    note = "'~' where both sides are lower bounds, so that nothing bounds the ratio."
    return (
        "Ratios of nominal values, scopes in brackets\n" + table(("energy of", "over", "ratio"), rows, 2) + "\n" + note,
    )


def _notes(estimates: Iterable[Estimate]) -> list[str]:
    """Say what each row leaves out or assumes; a note that several rows share is printed once."""
    rows_of: dict[str, list[str]] = {}
    for estimate in estimates:
        unpriced = tuple(f"not priced: {exact(item.count)} {item.what} per sample" for item in estimate.unpriced)
        refusal = () if estimate.refusal is None else (f"refused, {estimate.refusal}",)
        for note in (*refusal, *unpriced, *estimate.notes):
            rows_of.setdefault(note, []).append(f"{estimate.target} {estimate.model}")
    return [f"{', '.join(rows)}: {note}" for note, rows in rows_of.items()]


# Sections of an explanation.


def render_constants(constants: Iterable[Constant]) -> str:
    """Render constants with everything needed to judge them, each once."""
    unique = {constant.id: constant for constant in constants}.values()
    return "\n".join(_constant(constant) for constant in unique)


def _constant(constant: Constant) -> str:
    has_range = constant.low is not None or constant.high is not None
    ends = (f"{end:g}" if end is not None else "?" for end in (constant.low, constant.high))
    unit = f" {constant.unit}".removesuffix(" 1")
    span = f" [{' - '.join(ends)}{unit}]" if has_range else " [no range given]"
    node = f", {constant.node_nm} nm" if constant.node_nm else ""
    lines = (
        f"quantity: {constant.quantity}",
        f"condition: {constant.condition}{node}",
        f"scope: {constant.scope}; evidence: {constant.evidence}; checked: {constant.verified}; "
        f"confidence: {constant.confidence}",
        f"source: {constant.source}",
    )
    return "\n".join((f"{constant.id} = {constant.text}{span}", *(_wrap(line, "    ", "      ") for line in lines)))


def _arithmetic(estimate: Estimate) -> str:
    name = f"{estimate.target} {estimate.model} ({estimate.scope})"
    if estimate.energy_pj is None:
        return _wrap(f"{name}: refused, {estimate.refusal}", "", "    ")
    lines = [_wrap(f"{name}: {estimate.prices}", "", "    ")]
    lines += [_wrap(_product(term), "    ", "      ") for term in estimate.terms]
    bound = ">= " if estimate.lower_bound else "= "
    energy = estimate.energy_pj
    total = f"{bound}{si_energy(energy.nominal)} [{si_energy(energy.low)} - {si_energy(energy.high)}]"
    return "\n".join((*lines, f"    total {total}"))


def _product(term: Term) -> str:
    count = f"{term.count:g} s" if term.count_unit == "s" else f"{exact(term.count)} {term.count_unit}"
    ids = ", ".join(constant.id for constant in term.constants)
    return f"{term.what}: {count} x {term.price_text} = {si_energy(term.energy_pj.nominal)}   ({ids})"


# Sections of a preset.


def _reading(reading: Reading) -> str:
    rows = [(f.network, f.chip, f.text, f.printed_j, f.remark) for f in reading.figures]
    verdict = f"{reading.equal} of the {len(reading.figures)} printed figures"
    return "\n".join(
        (
            _wrap(f"Reading '{reading.name}' gives {verdict}: {reading.assumption}"),
            table(("network", "hardware", "recomputed (J)", "paper (J)", "comparison"), rows, 2),
            *(_wrap(f"{f.network} {f.chip}: {f.derivation}", "    ", "      ") for f in reading.figures),
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
