"""Price models of neuromorphic chips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from esl_neuro.energy.counts import Counts
from esl_neuro.energy.estimate import (
    REFUSED,
    STATIC_POWER,
    Estimate,
    Factor,
    Price,
    Term,
    Unpriced,
    counted,
    left_out,
    operation,
    with_static,
)
from esl_neuro.energy.fitted import fitted
from esl_neuro.energy.step_time import timing
from esl_neuro.hardware import Constant, HardwareTarget

Model = Callable[[Counts, HardwareTarget, "float | None"], Estimate]

UNPLACED = "messages and hops depend on the placement, which is not known here"


def _sop(counts: Counts, constant: Constant, name: str = "sop_effective") -> Term:
    return operation("synaptic operations", counts, name, "SOP", constant)


def _macs(counts: Counts) -> tuple[Unpriced, ...]:
    return left_out(multiply_accumulates_of_values_that_are_no_spikes=counts.per_sample("macs_effective"))


def all_in(counts: Counts, target: HardwareTarget, _tick_s: float | None) -> Estimate:
    """Whole-chip energy per synaptic event at one operating point, including leakage and routing."""
    return Estimate(
        target.name,
        target.target.kind,
        "all-in",
        "all_in",
        "effective SOPs, at the whole-chip energy of one heavily loaded operating point",
        (_sop(counts, target.constant("e_event_allin")),),
        _macs(counts),
        notes=("holds at the published load only: a quieter chip spends more per operation, a busier one less",),
    )


def marginal_static(counts: Counts, target: HardwareTarget, tick_s: float | None) -> Estimate:
    """Two-parameter fit of whole-chip power: a price per operation plus a constant power.

    ``E = e_sop x SOP + P_static x steps x tick``
    """
    time = timing(counts, target, tick_s)
    static = time.energy(target.constant("p_static_fit"))
    operations = _sop(counts, target.constant("e_sop_marginal"))
    held = sum(term.energy_pj.nominal for term in static)
    total = held + operations.energy_pj.nominal
    share = f"{100 * held / total:.2f} % of it is" if total else "it is"
    return Estimate(
        target.name,
        target.target.kind,
        "marginal-static",
        "marginal+static",
        "effective SOPs plus the static power of one whole chip over the time of a sample",
        (operations, *static),
        _macs(counts),
        notes=(
            f"{share} the static power of the whole chip, however little of the chip the network fills",
            *time.notes,
        ),
    )


def marginal(counts: Counts, target: HardwareTarget, _tick_s: float | None) -> Estimate:
    """Price each synaptic operation at the marginal cost on a running chip."""
    return Estimate(
        target.name,
        target.target.kind,
        "marginal",
        "marginal",
        "effective SOPs, at what one more of them costs a chip that runs anyway",
        (_sop(counts, target.constant("e_sop_marginal")),),
        _macs(counts),
        notes=("leakage and idle power are not in it",),
    )


def peak(counts: Counts, target: HardwareTarget, _tick_s: float | None) -> Estimate:
    """Best published operations per joule."""
    return Estimate(
        target.name,
        target.target.kind,
        "peak",
        "all_in",
        "effective SOPs, at the best efficiency ever published for the chip",
        (_sop(counts, target.constant("eff_peak")),),
        _macs(counts),
        best_case=True,
        notes=("reached at full load only",),
    )


def synapse_neuron(counts: Counts, target: HardwareTarget, _tick_s: float | None) -> Estimate:
    """Price each synaptic operation and each neuron update, both marginal."""
    return Estimate(
        target.name,
        target.target.kind,
        "synapse-neuron",
        "marginal",
        "executed SOPs and neuron updates",
        (
            _sop(counts, target.constant("e_synop"), "sop_executed"),
            operation("neuron updates", counts, "neuron_updates", "update", target.constant("e_neuron")),
        ),
        _macs(counts),
        notes=("idle power of the cores is not in it",),
    )


def table2(counts: Counts, target: HardwareTarget, _tick_s: float | None) -> Estimate:
    """Pre-silicon energies of Davies 2018, Table 2: the synaptic operation is published as a minimum."""
    mesh, unpriced = _mesh(counts, target, None)
    return Estimate(
        target.name,
        target.target.kind,
        "table2",
        "per_term",
        "executed SOPs and neuron updates, simulated before silicon, no leakage",
        (
            _sop(counts, target.constant("e_synop_min"), "sop_executed"),
            *_updates(counts, target.constant("e_neuron_active"), target.constant("e_neuron_inactive")),
            *mesh,
        ),
        unpriced + _macs(counts),
        best_case=True,
        notes=() if counts.placed else (UNPLACED,),
    )


def silicon(counts: Counts, target: HardwareTarget, _tick_s: float | None) -> Estimate:
    """Per-operation energies fitted to measured silicon (SANA-FE), in the synapse format of each layer.

    Convolutions use the convolution format, all other layers the sparse format.
    """
    return _silicon(counts, target, "silicon", "executed SOPs", _by_format(counts, target))


def silicon_dense(counts: Counts, target: HardwareTarget, _tick_s: float | None) -> Estimate:
    """Price every layer in the dense synapse format, which executes zeros as well."""
    operations = _sop(counts, target.constant("e_synop_dense"), "sop_executed_dense")
    return _silicon(counts, target, "silicon-dense", "SOPs of a dense format, zeros included", (operations,))


def _silicon(counts: Counts, target: HardwareTarget, model: str, what: str, operations: tuple[Term, ...]) -> Estimate:
    mesh, unpriced = _mesh(counts, target, target.constant("e_axon_out"))
    return Estimate(
        target.name,
        target.target.kind,
        model,
        "per_term",
        f"{what}, neuron updates and spikes, fitted to silicon, no leakage",
        (
            *operations,
            *_updates(counts, target.constant("e_soma_active"), target.constant("e_soma_inactive")),
            operation("spikes generated", counts, "spikes_out", "spike", target.constant("e_spike_gen")),
            *mesh,
        ),
        unpriced + _macs(counts),
        notes=() if counts.placed else (UNPLACED,),
    )


def _by_format(counts: Counts, target: HardwareTarget) -> tuple[Term, ...]:
    shared = tuple(layer for layer in counts.layers if layer.weights < layer.stored)
    single = tuple(layer for layer in counts.layers if layer.weights >= layer.stored)
    terms = []
    if single or not shared:
        part = replace(counts, layers=single)
        terms.append(_sop(part, target.constant("e_synop_sparse"), "sop_executed"))
    if shared:
        part = replace(counts, layers=shared)
        conv = target.constant("e_synop_conv")
        terms.append(operation("synaptic operations of convolutions", part, "sop_executed", "SOP", conv))
    return tuple(terms)


def _updates(counts: Counts, active: Constant, inactive: Constant) -> tuple[Term, Term]:
    """Price touched neurons as active and idle ones as inactive, each with a range between both prices.

    The sources do not define an active update, so each price has the other one as its alternative.
    """
    high, low = Price((Factor(active),)), Price((Factor(inactive),))
    return (
        counted(
            "neuron updates with input",
            counts,
            "neuron_updates_touched",
            "update",
            replace(high, instead=low),
            active.text,
        ),
        counted(
            "neuron updates without input",
            counts,
            "neuron_updates_idle",
            "update",
            replace(low, instead=high),
            inactive.text,
        ),
    )


def _mesh(
    counts: Counts, target: HardwareTarget, per_message: Constant | None
) -> tuple[tuple[Term, ...], tuple[Unpriced, ...]]:
    """Price messages and hops if the placement is known; without it, spikes between cores are unpriced."""
    if not counts.placed:
        return (), left_out(spikes_sent_over_the_mesh=counts.per_sample("spikes_in"))
    terms = [
        operation("hops east-west", counts, "hops_ew", "hop", target.constant("e_hop_ew")),
        operation("hops north-south", counts, "hops_ns", "hop", target.constant("e_hop_ns")),
    ]
    if per_message is not None:
        terms.append(operation("messages sent", counts, "messages", "message", per_message))
    routeless = sum(layer.messages or 0 for layer in counts.layers if layer.hops_ew is None) / counts.samples
    return tuple(terms), left_out(messages_from_outside_whose_way_is_unknown=routeless)


def static(counts: Counts, target: HardwareTarget, tick_s: float | None) -> Estimate:
    """Leakage of the chips that the network needs, one if that is unknown, over the time of a sample."""
    return _static(counts, target, tick_s, "static", target.constant("p_static_chip"))


def static_n3c1(counts: Counts, target: HardwareTarget, tick_s: float | None) -> Estimate:
    """Leakage of chips of the revision N3C1."""
    return _static(counts, target, tick_s, "static-n3c1", target.constant("p_static_chip_n3c1"))


def _static(counts: Counts, target: HardwareTarget, tick_s: float | None, model: str, power: Constant) -> Estimate:
    time, use = timing(counts, target, tick_s), counts.core_use.get(target.name)
    chips = 1 if use is None else use.chips
    what = "one whole chip" if chips == 1 else f"{chips:,} whole chips"
    return Estimate(
        target.name,
        target.target.kind,
        model,
        "static",
        f"static power of {what} over the time of a sample ({time.mode}), no operation",
        time.energy(power, chips),
        best_case=time.lower_bound,
        notes=("proportional to the time of a step", *time.notes),
    )


def of_chip(operations: Model, leakage: Model, name: str) -> Model:
    """Return the model of a whole chip: its operations, and its static power over the time of a sample."""

    def chip(counts: Counts, target: HardwareTarget, tick_s: float | None) -> Estimate:
        return replace(with_static(operations(counts, target, tick_s), leakage(counts, target, tick_s)), model=name)

    chip.__doc__ = f"Operations and static power: {name}."
    return chip


def board(counts: Counts, target: HardwareTarget, tick_s: float | None) -> Estimate:
    """Price the chip, and the processors that its board needs beside it, over the time of a sample."""
    whole = with_static(fitted(counts, target, tick_s), static(counts, target, tick_s))
    power = target.constant("p_board")
    beside = tuple(
        replace(term, what=term.what.replace(STATIC_POWER, "power of the board"))
        for term in timing(counts, target, tick_s).energy(power)
    )
    return replace(
        whole,
        model="fitted-board",
        scope="board",
        prices=f"{whole.prices}; {power.quantity} over the same time",
        terms=(*whole.terms, *beside),
        notes=(*whole.notes, f"{power.quantity}: {power.condition}"),
    )


def per_operation(counts: Counts, target: HardwareTarget, _tick_s: float | None) -> Estimate:
    """One published price per synaptic operation; refused if unpublished."""
    return Estimate(
        target.name,
        target.target.kind,
        "per-operation",
        "per_term",
        "executed SOPs",
        (_sop(counts, target.constant("e_synop"), "sop_executed"),),
        left_out(neuron_updates=counts.per_sample("neuron_updates")) + _macs(counts),
    )


def system_figures(_counts: Counts, target: HardwareTarget, _tick_s: float | None) -> Estimate:
    """Refuse a total because no price per operation exists, and show published figures of whole systems."""
    published = [
        f"published: {constant.quantity} {constant.text} ({constant.condition}; {constant.source})"
        for constant in target.constants.values()
        if not constant.unpublished
    ]
    return Estimate(
        target.name,
        target.target.kind,
        "system-figures",
        REFUSED,
        "nothing",
        notes=tuple(published) or ("no measured figure of a whole system has been collected either",),
        refusal=f"unpublished: {target.target.note or 'no energy per operation'}",
    )
