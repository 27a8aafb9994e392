"""Energy reports as plain text: everything that was counted and priced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from esl_neuro.energy.answer import answer, silence
from esl_neuro.energy.breakeven import BreakEven
from esl_neuro.energy.cite import bibliography, caption
from esl_neuro.energy.counts import Counts
from esl_neuro.energy.estimate import Estimate, Term
from esl_neuro.energy.fitted import READINGS
from esl_neuro.energy.report import EnergyReport
from esl_neuro.energy.uncertainty import Distribution, Draws, medians_by_layer
from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.hardware import Constant
from esl_neuro.report.answer_text import answer_rows
from esl_neuro.report.energy_layout import (
    amount,
    bullets,
    exact,
    joules,
    sections,
    short,
    si_energy,
    wrap,
)
from esl_neuro.report.energy_scopes import priced_as, render_levels, render_modes, render_savings
from esl_neuro.report.tables import annotated, table

# The meaning of the less obvious words in the "checked" field of a constant.
VERIFICATION = (
    "checked: quote = against a quotation of the source, not the source itself; first-hand file = in the file that the "
    "source names; recomputed = from the figures that it is derived from; secondary = as cited by others; search = "
    "searched for and not found; assumption = without a source."
)

STATISTIC = (
    "Energies, ratios, break-evens and savings are medians of the draws, so parts do not add up exactly; only the "
    "arithmetic of --explain takes every constant at its nominal value"
)
ARITHMETIC = "Arithmetic, per sample, every constant at its nominal value"


def render_energy_report(report: EnergyReport) -> str:
    """Render the run, the counts, the prices and the warnings."""
    return sections(
        _run(report),
        "Network and activity, mean per sample\n" + _activity(report.counts),
        "Synaptic operations (SOP) and multiply-accumulates (MAC), mean per sample\n" + _operations(report.counts),
        "Memory and messages, mean per sample\n" + _traffic(report.counts),
        *render_levels(report),
        *render_modes(report),
        *render_savings(report),
        "Energy per sample by layer, in J\n" + _layers(report),
        "Dynamic, static and total energy of each target\n" + answer_rows(answer(report).rows),
        wrap("Every price model, energy per sample in J ('--explain NUMBER' shows its arithmetic)")
        + "\n"
        + _estimates(report.rows),
        *_meetings(report.break_evens),
        *_ratios(report),
        "Notes on the numbers\n" + bullets((*report.warnings, *_notes(report.estimates))),
    )


def render_explanation(report: EnergyReport) -> str:
    """Render every constant with its source, then the arithmetic of every row."""
    return sections(
        "Constants used\n" + render_constants(report.constants),
        f"{ARITHMETIC}\n" + "\n".join(arithmetic(estimate) for estimate in report.estimates),
        wrap(VERIFICATION),
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
    estimate, found = report.rows[row_index(row, [estimate.name for estimate in report.estimates])]
    return sections(
        f"{ARITHMETIC}\n" + arithmetic(estimate),
        *(() if found is None else (wrap(_in_words(found)),)),
        *((bullets(estimate.notes),) if estimate.notes else ()),
        "Constants used\n" + (render_constants(estimate.constants) or "none"),
        wrap(VERIFICATION),
    )


def row_index(row: str, names: list[str]) -> int:
    """Return the position of a row, given as its number or as ``"target:model"``.

    Raises
    ------
    BadInput
        If there is no such row.
    """
    index = names.index(row) if row in names else int(row) - 1 if row.isdigit() else -1
    if not 0 <= index < len(names):
        raise BadInput(f"--explain '{row}': no such row; use 1 to {len(names)} or a name, {did_you_mean(row, names)}")
    return index


def _in_words(found: Distribution) -> str:
    sentence = (
        f"Median {si_energy(found.median_pj)}, 5-95 % {si_energy(found.low_pj)} to {si_energy(found.high_pj)}: "
        "constants drawn from their ranges, samples drawn with replacement."
    )
    if found.leading is None:
        return sentence + " Nothing varies: no constant has a published range, and there is one sample."
    return f"{sentence} It varies most with {found.leading} ({100 * found.leading_share:.0f} % of the variance)."


def render_citation(report: EnergyReport) -> str:
    """Render a caption as a comment, then the BibTeX of the constants used."""
    sentence = caption(report.samples, report.steps, report.summary)
    return wrap(sentence, "% ", "% ") + "\n\n" + bibliography(report.constants)


# Sections of a report.


def _run(report: EnergyReport) -> str:
    spread = report.counts.spread()
    right = "" if report.accuracy is None else f"; accuracy {100 * report.accuracy:.2f} %"
    named = f" of {report.network}" if report.network else ""
    lines = (
        f"Energy report{named}: {report.ran_on} x {report.steps:,} steps on the {report.backend} backend, "
        f"program for {report.program_target}, chips: {report.pace}{right}",
        f"Network: {report.inputs:,} inputs, {report.neurons:,} neurons, {report.stored:,} of {report.dense:,} "
        f"connections stored (density {report.density:.4f})",
        f"Effective SOPs per sample: mean {exact(spread.mean)}, std {exact(spread.std)}, "
        f"min {spread.minimum:,}, max {spread.maximum:,}",
        *((silence(report),) if report.silent else ()),
        STATISTIC,
    )
    return "\n".join(wrap(line) for line in lines)


def _activity(counts: Counts) -> str:
    headers = ("layer", "neurons", "stored", "density", "spikes in", "spikes out", "updates", "with input", "idle")
    rows = [
        (
            short(layer.name),
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


# The counts, and the heading of each column.
_OPERATIONS = {
    "sop_effective": "effective",
    "sop_executed": "executed",
    "sop_executed_dense": "executed if dense",
    "sop_bound": "bound",
    "macs_effective": "effective MACs",
    "macs_dense": "dense MACs",
}
_TRAFFIC = {
    "weight_words_read": "weight reads",
    "state_reads": "state reads",
    "state_writes": "writes",
    "bias_adds": "bias adds",
}
_MESSAGES = {"messages": "messages", "hops_ew": "hops E-W", "hops_ns": "hops N-S"}


def _operations(counts: Counts) -> str:
    graded = any(layer.signal != "spike" for layer in counts.layers)
    return _by_layer(counts, {k: v for k, v in _OPERATIONS.items() if graded or k != "macs_effective"})


def _traffic(counts: Counts) -> str:
    return _by_layer(counts, _TRAFFIC | (_MESSAGES if counts.placed else {}))


def _by_layer(counts: Counts, columns: Mapping[str, str]) -> str:
    rows = [
        (short(layer.name), *(_mean(getattr(layer, name), counts.samples) for name in columns))
        for layer in counts.layers
    ]
    total = ("total", *(amount(counts.per_sample(name)) for name in columns))
    return table(("layer", *columns.values()), [*rows, total])


def _mean(count: int | None, samples: int) -> str:
    return "unknown" if count is None else amount(count / samples)


def _layers(report: EnergyReport) -> str:
    columns = [estimate for estimate, _ in report.summary if estimate.terms]
    draws = Draws()
    shares = [medians_by_layer(estimate, draws) for estimate in columns]
    names = list(dict.fromkeys(name for share in shares for name in share))
    rows = [
        (
            name if name not in _layer_names(report) else short(name),
            *(joules(share[name]) if name in share else "" for share in shares),
        )
        for name in names
    ]
    return table(("", *(short(estimate.target) for estimate in columns)), rows)


def _layer_names(report: EnergyReport) -> frozenset[str]:
    return frozenset(layer.name for layer in report.counts.layers)


def _estimates(rows: Iterable[tuple[Estimate, Distribution | None]]) -> str:
    headers = ("no.", "target", "model", "scope", "evidence", "", "median", "5 - 95 %")
    shown = tuple(rows)
    lines = [(str(number), *_estimate(*row)) for number, row in enumerate(shown, 1)]
    return annotated(table(headers, lines, left=6), [priced_as(estimate) for estimate, _ in shown])


def _estimate(estimate: Estimate, found: Distribution | None) -> tuple[str, ...]:
    bound = ">=" if estimate.lower_bound else ""
    numbers = ("refused", "") if found is None else (joules(found.median_pj), _interval(found))
    return (short(estimate.target), estimate.model, estimate.scope, estimate.evidence, bound, *numbers)


def _interval(found: Distribution) -> str:
    if found.leading is None:
        return "no range given"
    return f"[{joules(found.low_pj)} - {joules(found.high_pj)}]"


def _meetings(meetings: Iterable[BreakEven]) -> tuple[str, ...]:
    rows = [
        (
            short(meeting.chip.target),
            READINGS.get(meeting.chip.reading, meeting.chip.model),
            short(meeting.processor.target),
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
    headers = ("chip", "prices", "against", "P(less)", "rate", "equal at", "density", "equal at", "utilisation")
    note = (
        "rate: spikes per source line and step; equal at: where the median energies are equal, all else equal ('> 1': "
        "the chip needs less even with a spike in every step, or with every connection; 'never': its fixed costs alone "
        "are higher); utilisation: fraction of its peak rate at which the processor needs the same energy (above 1: "
        "impossible). Whole chips, with their static power, beside the boards of processors. A step that the "
        "work of its busiest core decides stays one of these."
    )
    return ("Break-even of chip and processor\n" + table(headers, rows, 3) + "\n" + wrap(note),)


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
            f"{ratio.relation} {ratio.median:.3g}x",
        )
        for ratio in report.ratios
    ]
    note = "'~': both sides are lower bounds, so the ratio has no bound."
    return (
        "Ratios to the datasheet peak of a GPU, medians, scopes in brackets\n"
        + table(("energy of", "over", "ratio"), rows, 2)
        + "\n"
        + note,
    )


def _notes(estimates: Iterable[Estimate]) -> list[str]:
    """Return what each row omits or assumes; a note that several rows share appears once."""
    rows_of: dict[str, list[str]] = {}
    for estimate in estimates:
        unpriced = tuple(f"not priced: {exact(item.count)} {item.what} per sample" for item in estimate.unpriced)
        refusal = () if estimate.refusal is None else (f"refused, {estimate.refusal}",)
        for note in (*refusal, *unpriced, *estimate.notes):
            rows_of.setdefault(note, []).append(f"{estimate.target} {estimate.model}")
    return [f"{', '.join(rows)}: {note}" for note, rows in rows_of.items()]


# Sections of an explanation.


def render_constants(constants: Iterable[Constant]) -> str:
    """Render each constant once, with its condition, scope, evidence and source."""
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
    return "\n".join((f"{constant.id} = {constant.text}{span}", *(wrap(line, "    ", "      ") for line in lines)))


def arithmetic(estimate: Estimate) -> str:
    """Render the products of an estimate and their sum."""
    name = f"{estimate.target} {estimate.model} ({estimate.scope})"
    if estimate.energy_pj is None:
        return wrap(f"{name}: refused, {estimate.refusal}", "", "    ")
    lines = [wrap(f"{name}: {estimate.prices}", "", "    ")]
    lines += [wrap(_product(term), "    ", "      ") for term in estimate.terms]
    bound = ">= " if estimate.lower_bound else "= "
    energy = estimate.energy_pj
    total = f"{bound}{si_energy(energy.nominal)} [{si_energy(energy.low)} - {si_energy(energy.high)}]"
    return "\n".join((*lines, f"    total {total}"))


def _product(term: Term) -> str:
    count = f"{term.count:g} s" if term.count_unit == "s" else f"{exact(term.count)} {term.count_unit}"
    ids = ", ".join(constant.id for constant in term.constants)
    return f"{term.what}: {count} x {term.price_text} = {si_energy(term.energy_pj.nominal)}   ({ids})"
