"""A fit of a chip's energy as plain text."""

from __future__ import annotations

from collections.abc import Mapping

from esl_neuro.energy.chip_fit import ChipFit, OpenFit, Parameter
from esl_neuro.report.energy_layout import sections, wrap
from esl_neuro.report.tables import table


def render_fit(chip: str, readings: int, found: ChipFit, free: OpenFit, own: int) -> str:
    """Render parameters with intervals, each workload left out, and whether the two prices can be separated."""
    left_out = [
        (each.workload, _nj(each.measured_nj), _nj(each.error_nj), _nj(each.predicted_nj), f"{each.ratio:.2f}")
        for each in found.left_out
    ]
    ours = f", {own} of them your own" if own else ""
    return sections(
        wrap(
            f"Dynamic energy of a step of one {chip} chip, fitted to {readings} readings{ours}: E = e_chip_step + "
            "e_core_step x cores + operations_factor x (23.6 pJ x SOP + 81 pJ x neuron updates)"
        ),
        table(("parameter", "value", "5 - 95 %", "unit"), [_row(each) for each in (*found.parameters, found.line)]),
        f"ratio = {found.ratio:.4g} neuron updates per SOP, the mix that fixes the sum",
        "Each workload predicted by a fit without it, a step in nJ\n"
        + table(("workload", "measured", "its error", "predicted", "ratio"), left_out),
        "Both prices free\n" + table(("price", "value", "5 - 95 %", "unit"), [_row(free.e_sop), _row(free.e_neuron)]),
        wrap(
            "The readings separate the two prices."
            if free.separable
            else "The readings do not separate the two prices: estimates leave open which of two pairs holds, (23.6, "
            "81) or (4, 390) pJ times operations_factor. 'esl-neuro energy programs' writes the runs that would."
        ),
    )


def _row(each: Parameter) -> tuple[str, ...]:
    return each.name, f"{each.value:.3g}", f"{each.low:.3g} - {each.high:.3g}", each.unit.removesuffix("1")


def _nj(value: float) -> str:
    return f"{value:,.0f}"


def render_rehearsal(runs: int, found: Mapping[str, OpenFit]) -> str:
    """Render how well planned runs would separate the prices, on chips with either pair of them."""
    rows = [
        (f"{corner}: {price.name}", f"{price.value:.3g}", f"{price.low:.3g} - {price.high:.3g}")
        for corner, each in found.items()
        for price in (each.e_sop, each.e_neuron)
    ]
    return sections(
        f"{runs} runs, each with the idle power before and after it",
        "What a fit to them would find in pJ, with the errors of published readings\n"
        + table(("if the chip has the pair", "value", "5 - 95 %"), rows),
    )
