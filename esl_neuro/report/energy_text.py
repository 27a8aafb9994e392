"""Energy reports as plain text of at most 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from esl_neuro.energy.counts import Counts
from esl_neuro.energy.presets import PresetResult, Reading
from esl_neuro.energy.prices import PJ_PER_J, Estimate, Term
from esl_neuro.energy.report import EnergyReport
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
        "Energy per sample, in J\n" + _estimates(report.estimates),
        *_ratios(report),
        "Read this with the numbers\n" + _bullets((*report.warnings, *_notes(report.estimates))),
    )


def render_explanation(report: EnergyReport) -> str:
    """Render every constant with its origin, then the arithmetic of every row."""
    return _sections(
        "Constants used\n" + _constants(report.constants),
        "Arithmetic, per sample\n" + "\n".join(_arithmetic(estimate) for estimate in report.estimates),
        _wrap(VERIFICATION),
    )


def render_preset(preset: PresetResult) -> str:
    """Render a recomputed comparison with its derivation, its caveats and its constants."""
    return _sections(
        "\n".join(_wrap(line) for line in (f"{preset.name}: {preset.label}", preset.paper, preset.title)),
        "Connections\n" + _bullets(preset.connections),
        *(_reading(reading) for reading in preset.readings),
        "The same connection counts at other published prices, in J\n" + _alternatives(preset),
        "What the table does not say\n" + _numbered(preset.caveats),
        "Constants used\n" + _constants(preset.constants),
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


def _estimates(estimates: Iterable[Estimate]) -> str:
    headers = ("target", "model", "scope", "evidence", "", "nominal", "low - high")
    return "\n".join((table(headers, [_estimate(estimate) for estimate in estimates], left=4), _wrap(LOWER_BOUND)))


def _estimate(estimate: Estimate) -> tuple[str, ...]:
    energy = estimate.energy_pj
    bound = ">=" if estimate.lower_bound else ""
    numbers = ("refused", "") if energy is None else (joules(energy.nominal), _range(energy))
    return (_short(estimate.target), estimate.model, estimate.scope, estimate.evidence, bound, *numbers)


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


def _constants(constants: Iterable[Constant]) -> str:
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
