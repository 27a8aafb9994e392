"""Price counts with published constants.

A price model is one small pure function ``(counts, target, tick_s) -> Estimate``, registered by name in
:data:`PRICE_MODELS`; a hardware target lists the models that apply to it. All energies are means per sample. Low and
high take every constant at the low or the high end of its range at once.

Numbers of different scope are not comparable: a chip-level figure contains leakage and routing, a per-term figure
does not. An estimate therefore refuses to be built from constants whose scopes may not be added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

from esl_neuro.energy.counts import Counts
from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.hardware import EVIDENCE, Constant, HardwareTarget, Interval, UnpublishedConstant, load_target

PJ_PER_J = 1e12
REFUSED = "refused"

# Scope of an estimate: scopes of the constants that may be added in it.
SUMMABLE: dict[str, frozenset[str]] = {
    "all_in": frozenset({"all_in"}),
    # Both parameters of one fit to whole-chip power; neither means anything without the other.
    "marginal+static": frozenset({"marginal", "static"}),
    "per_term": frozenset({"per_term"}),
    "static": frozenset({"static"}),
    "peak_tdp": frozenset({"peak_tdp"}),
    "proxy": frozenset({"per_term", "proxy"}),
    REFUSED: frozenset(),
}


@dataclass(frozen=True)
class Term:
    """One count times one price.

    Attributes
    ----------
    what : str
        What is counted.
    count : float
        How many per sample, in ``count_unit``.
    count_unit : str
        ``"SOP"``, ``"FLOP"``, ``"update"``, ``"spike"`` or ``"s"``.
    price_pj : Interval
        Price in pJ per ``count_unit``.
    price_text : str
        The price in the units of its source.
    constants : tuple of Constant
        Where the price comes from.
    """

    what: str
    count: float
    count_unit: str
    price_pj: Interval
    price_text: str
    constants: tuple[Constant, ...]

    @property
    def energy_pj(self) -> Interval:
        """Energy per sample, in pJ."""
        return self.price_pj.times(self.count)


@dataclass(frozen=True)
class Unpriced:
    """Something that happened and that the model has no price for.

    Attributes
    ----------
    what : str
        Name of the operation.
    count : float
        How many per sample (not zero).
    """

    what: str
    count: float


@dataclass(frozen=True)
class Estimate:
    """The energy of one sample on one target by one price model.

    Attributes
    ----------
    target, kind : str
        Name of the hardware target, ``"neuromorphic"`` or ``"gpu"``.
    model : str
        Name of the price model.
    scope : str
        What the number includes, a key of :data:`SUMMABLE`.
    prices : str
        What is priced, in one sentence.
    terms : tuple of Term
        The products that are added; empty if the estimate is refused.
    unpriced : tuple of Unpriced
        What is left out although it happened; then the total is a lower bound.
    best_case : bool
        True if a price is a published minimum or peak, so that the total is a lower bound anyway.
    notes : tuple of str
        What a reader must know.
    refusal : str or None
        Why there is no number.

    Raises
    ------
    ValueError
        If the scopes of the constants may not be added.
    """

    target: str
    kind: str
    model: str
    scope: str
    prices: str
    terms: tuple[Term, ...] = ()
    unpriced: tuple[Unpriced, ...] = ()
    best_case: bool = False
    notes: tuple[str, ...] = ()
    refusal: str | None = None

    def __post_init__(self) -> None:
        scopes = {str(constant.scope) for constant in self.constants}
        if not scopes <= SUMMABLE[self.scope]:
            raise ValueError(
                f"{self.target} {self.model}: constants of scope {sorted(scopes)} cannot be added in an estimate of "
                f"scope '{self.scope}', which takes {sorted(SUMMABLE[self.scope])}; make one estimate for each scope"
            )

    @property
    def constants(self) -> tuple[Constant, ...]:
        """Every constant used, once, in order of use."""
        return tuple({constant.id: constant for term in self.terms for constant in term.constants}.values())

    @property
    def energy_pj(self) -> Interval | None:
        """Energy per sample in pJ, None if refused."""
        return reduce(Interval.__add__, (term.energy_pj for term in self.terms)) if self.terms else None

    @property
    def lower_bound(self) -> bool:
        """True if the total leaves out something that happened, or prices it at a published best case.

        It bounds from below what the nominal prices would give in full; the prices themselves stay uncertain
        within their range.
        """
        return self.refusal is None and (self.best_case or bool(self.unpriced))

    @property
    def evidence(self) -> str:
        """The weakest evidence among the constants."""
        return max((constant.evidence for constant in self.constants), key=EVIDENCE.index, default="unstated")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; energies in pJ per sample."""
        energy = self.energy_pj
        return {
            "target": self.target,
            "model": self.model,
            "scope": self.scope,
            "evidence": self.evidence,
            "prices": self.prices,
            "energy_pj_per_sample": None if energy is None else vars(energy),
            "lower_bound": self.lower_bound,
            "terms": [
                {
                    "what": term.what,
                    "count_per_sample": term.count,
                    "count_unit": term.count_unit,
                    "price_pj": vars(term.price_pj),
                    "energy_pj_per_sample": vars(term.energy_pj),
                    "constants": [constant.id for constant in term.constants],
                }
                for term in self.terms
            ],
            "unpriced": [vars(item) for item in self.unpriced],
            "constants": [constant.id for constant in self.constants],
            "notes": list(self.notes),
            "refusal": self.refusal,
        }


PriceModel = Callable[[Counts, HardwareTarget, float], Estimate]


def price(counts: Counts, target: HardwareTarget, tick_s: float) -> tuple[Estimate, ...]:
    """Price a run by every model that the target lists.

    Parameters
    ----------
    counts : Counts
        What ran.
    target : HardwareTarget
        What to price it for.
    tick_s : float
        Duration of one time step on the chip, in seconds.

    Returns
    -------
    tuple of Estimate
        One per model; where a price is unpublished, a refusal with the reason.

    Raises
    ------
    BadInput
        If the target lists an unknown model, or lacks a constant that a model needs.
    """
    return tuple(_price_or_refuse(name, counts, target, tick_s) for name in target.target.price_models)


def _price_or_refuse(name: str, counts: Counts, target: HardwareTarget, tick_s: float) -> Estimate:
    if name not in PRICE_MODELS:
        raise BadInput(
            f"hardware target '{target.name}': price model '{name}' is unknown; {did_you_mean(name, PRICE_MODELS)}"
        )
    try:
        return PRICE_MODELS[name](counts, target, tick_s)
    except UnpublishedConstant as reason:
        return Estimate(target.name, target.target.kind, name, REFUSED, "nothing", refusal=f"unpublished: {reason}")


# Terms: what is counted and which constants price it.


def _sop(constant: Constant, count: float) -> Term:
    price_pj = constant.interval("pJ")
    text = constant.text if constant.unit == "pJ" else f"{price_pj.nominal:g} pJ (1 / {constant.text})"
    return Term("synaptic operations", count, "SOP", price_pj, text, (constant,))


def _held_power(constant: Constant, duration_s: float) -> Term:
    price_pj = constant.interval("W").times(PJ_PER_J)
    return Term("static power x time", duration_s, "s", price_pj, constant.text, (constant,))


def _updates(counts: Counts, active: Constant, inactive: Constant) -> tuple[Term, Term]:
    """Touched neurons at the active price, idle ones at the inactive price, both anywhere between the two.

    The sources do not say what makes an update active, so each price keeps the other one as the end of its range.
    """
    low, high = inactive.interval("pJ"), active.interval("pJ")
    constants = (active, inactive)
    touched = Interval(low.low, high.nominal, high.high)
    idle = Interval(low.low, low.nominal, high.high)
    return (
        Term(
            "neuron updates with input",
            counts.per_sample("neuron_updates_touched"),
            "update",
            touched,
            active.text,
            constants,
        ),
        Term(
            "neuron updates without input",
            counts.per_sample("neuron_updates_idle"),
            "update",
            idle,
            inactive.text,
            constants,
        ),
    )


def _unpriced(**counted: float) -> tuple[Unpriced, ...]:
    return tuple(Unpriced(what.replace("_", " "), number) for what, number in counted.items() if number)


# Neuromorphic chips.


def all_in(counts: Counts, target: HardwareTarget, _tick_s: float) -> Estimate:
    """Whole-chip energy per synaptic event at one operating point: leakage and routing are inside."""
    return Estimate(
        target.name,
        target.target.kind,
        "all-in",
        "all_in",
        "effective SOPs, at the whole-chip energy of one heavily loaded operating point",
        (_sop(target.constant("e_event_allin"), counts.per_sample("sop_effective")),),
        notes=("holds at the published load only: a quieter chip spends more per operation, a busier one less",),
    )


def marginal_static(counts: Counts, target: HardwareTarget, tick_s: float) -> Estimate:
    """Two-parameter fit of whole-chip power: a price per operation plus a constant power."""
    static = _held_power(target.constant("p_static_fit"), counts.steps * tick_s)
    marginal = _sop(target.constant("e_sop_marginal"), counts.per_sample("sop_effective"))
    total = static.energy_pj.nominal + marginal.energy_pj.nominal
    share = f"{static.energy_pj.nominal / total:.2%} of it is" if total else "it is"
    return Estimate(
        target.name,
        target.target.kind,
        "marginal-static",
        "marginal+static",
        "effective SOPs plus the static power of one whole chip over the time of a sample",
        (marginal, static),
        notes=(f"{share} the static power of the whole chip, however little of the chip the network fills",),
    )


def peak(counts: Counts, target: HardwareTarget, _tick_s: float) -> Estimate:
    """Best published operations per joule."""
    return Estimate(
        target.name,
        target.target.kind,
        "peak",
        "all_in",
        "effective SOPs, at the best efficiency ever published for the chip",
        (_sop(target.constant("eff_peak"), counts.per_sample("sop_effective")),),
        best_case=True,
        notes=("reached at full load only",),
    )


def table2(counts: Counts, target: HardwareTarget, _tick_s: float) -> Estimate:
    """Pre-silicon energies of Davies 2018, Table 2: the synaptic operation is published as a minimum."""
    return Estimate(
        target.name,
        target.target.kind,
        "table2",
        "per_term",
        "executed SOPs and neuron updates, simulated before silicon, no leakage",
        (
            _sop(target.constant("e_synop_min"), counts.per_sample("sop_executed")),
            *_updates(counts, target.constant("e_neuron_active"), target.constant("e_neuron_inactive")),
        ),
        _unpriced(spikes_sent_over_the_mesh=counts.per_sample("spikes_in")),
        best_case=True,
        notes=("hops depend on the placement, which is not known here",),
    )


def silicon(counts: Counts, target: HardwareTarget, _tick_s: float) -> Estimate:
    """Per-operation energies fitted to measured silicon (SANA-FE), sparse synapse format."""
    spikes = target.constant("e_spike_gen")
    return Estimate(
        target.name,
        target.target.kind,
        "silicon",
        "per_term",
        "executed SOPs, neuron updates and spikes, fitted to silicon, no leakage",
        (
            _sop(target.constant("e_synop_sparse"), counts.per_sample("sop_executed")),
            *_updates(counts, target.constant("e_soma_active"), target.constant("e_soma_inactive")),
            Term(
                "spikes generated",
                counts.per_sample("spikes_out"),
                "spike",
                spikes.interval("pJ"),
                spikes.text,
                (spikes,),
            ),
        ),
        _unpriced(spikes_sent_over_the_mesh=counts.per_sample("spikes_in")),
        notes=("messages and hops depend on the placement, which is not known here",),
    )


def static(counts: Counts, target: HardwareTarget, tick_s: float) -> Estimate:
    """Leakage of one powered chip over the time of a sample: a row of its own, never added to a per-term row."""
    return Estimate(
        target.name,
        target.target.kind,
        "static",
        "static",
        "static power of one whole chip over the time of a sample, no operation",
        (_held_power(target.constant("p_static_chip"), counts.steps * tick_s),),
        notes=("proportional to the tick; a chip that needs less time per step leaks less",),
    )


def per_operation(counts: Counts, target: HardwareTarget, _tick_s: float) -> Estimate:
    """One published price per synaptic operation, refused where there is none."""
    return Estimate(
        target.name,
        target.target.kind,
        "per-operation",
        "per_term",
        "executed SOPs",
        (_sop(target.constant("e_synop"), counts.per_sample("sop_executed")),),
        _unpriced(neuron_updates=counts.per_sample("neuron_updates")),
    )


def proxy(counts: Counts, target: HardwareTarget, tick_s: float) -> Estimate:
    """Silicon prices of another chip, the range widened by an assumed factor.

    Raises
    ------
    BadInput
        If the target names no proxy.
    """
    if target.target.proxy is None:
        raise BadInput(f"hardware target '{target.name}': price model 'proxy' needs 'proxy' in [target]; name a chip")
    band = target.constant("proxy_band")
    factor = band.interval("1")
    stand_in = silicon(counts, load_target(target.target.proxy), tick_s)
    return Estimate(
        target.name,
        target.target.kind,
        "proxy",
        "proxy",
        f"what '{stand_in.target} silicon' prices, times {factor.low:g} to {factor.high:g}",
        tuple(_widened(term, band, factor) for term in stand_in.terms),
        stand_in.unpriced,
        notes=(f"PROXY: prices of {stand_in.target}, not of {target.name}; the band is an assumption",),
    )


def _widened(term: Term, band: Constant, factor: Interval) -> Term:
    nominal = term.price_pj.nominal
    return Term(
        term.what,
        term.count,
        term.count_unit,
        Interval(nominal * factor.low, nominal * factor.nominal, nominal * factor.high),
        f"{nominal * factor.nominal:g} pJ",
        (*term.constants, band),
    )


# Graphics processors: dense kernels, so stored zeros cost as much as weights.


def flop_price(power: Constant, rate: Constant) -> Interval:
    """Energy per FLOP in pJ at full power and full rate."""
    watts, flops = power.interval("W"), rate.interval("FLOP/s")
    return Interval(
        watts.low / flops.high * PJ_PER_J, watts.nominal / flops.nominal * PJ_PER_J, watts.high / flops.low * PJ_PER_J
    )


def _peak_flops(target: HardwareTarget, model: str, prices: str, flops: float) -> Estimate:
    power, rate = target.constant("board_power"), target.constant("peak_fp32")
    price_pj = flop_price(power, rate)
    text = f"{price_pj.nominal:.5g} pJ ({power.text} / {rate.text})"
    return Estimate(
        target.name,
        target.target.kind,
        model,
        "peak_tdp",
        prices,
        (Term("floating-point operations", flops, "FLOP", price_pj, text, (power, rate)),),
        best_case=True,
        notes=(
            "a network this small cannot fill a GPU, so the datasheet peak is a lower bound",
            "sparse weights do not make dense kernels cheaper, so zeros are counted",
        ),
    )


def peak_2_flop(counts: Counts, target: HardwareTarget, _tick_s: float) -> Estimate:
    """Dense network of the same shape in every step, a multiply-add counted as two FLOPs as datasheets do."""
    prices = "the dense network of the same shape, 2 FLOPs per multiply-add, every step"
    return _peak_flops(target, "peak-2-flop", prices, 2 * counts.per_sample("macs_dense"))


def peak_1_flop_once(counts: Counts, target: HardwareTarget, _tick_s: float) -> Estimate:
    """One FLOP per connection of the dense network, once per sample: the convention of Table 1 of ESL-SNNs."""
    connections = sum(layer.inputs * layer.neurons for layer in counts.layers)
    prices = "the dense network of the same shape, 1 FLOP per connection, one pass for all steps"
    return _peak_flops(target, "peak-1-flop-once", prices, float(connections))


PRICE_MODELS: dict[str, PriceModel] = {
    "all-in": all_in,
    "marginal-static": marginal_static,
    "peak": peak,
    "table2": table2,
    "silicon": silicon,
    "static": static,
    "per-operation": per_operation,
    "proxy": proxy,
    "peak-2-flop": peak_2_flop,
    "peak-1-flop-once": peak_1_flop_once,
}
