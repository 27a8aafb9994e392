"""Estimates: counts times prices, prices from constants, and the scopes that may be added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from esl_neuro.energy.counts import Counts
from esl_neuro.errors import BadInput
from esl_neuro.hardware import EVIDENCE, SCOPES, Constant, Interval, convert

Floats = NDArray[np.float64]

PJ_PER_J = 1e12
REFUSED = "refused"

# Scope of an estimate: scopes of the constants that may be added in it.
SUMMABLE: dict[str, frozenset[str]] = {
    "all_in": frozenset({"all_in"}),
    # Both parameters of one fit to whole-chip power; neither is meaningful alone.
    "marginal+static": frozenset({"marginal", "static", "time"}),
    "marginal": frozenset({"marginal"}),
    "per_term": frozenset({"per_term"}),
    "static": frozenset({"static", "time"}),
    "peak_tdp": frozenset({"peak_tdp"}),
    # The peak rate divided by an assumed utilisation.
    "utilisation": frozenset({"peak_tdp", "assumption"}),
    "measured_app": frozenset({"measured_app"}),
    # Operations, and the static power of the whole chip meanwhile: the two parts of a total.
    "per_term+static": frozenset({"per_term", "static", "time"}),
    # A model fitted to measurements of a whole chip above its idle power.
    "dynamic": frozenset({"dynamic"}),
    "dynamic+static": frozenset({"dynamic", "static", "time"}),
    # The chip and what its board draws beside it, or the board of a GPU.
    "board": frozenset({"dynamic", "static", "board", "time", "assumption"}),
    # Sums of a paper, right or wrong: for reproduction only.
    "paper_preset": frozenset(SCOPES),
    REFUSED: frozenset(),
}

# What a scope covers. Only estimates of one level are compared, and a chip with the board of a processor: a processor
# is sold and measured as a board.
OPERATIONS, CHIP, BOARD = "operations", "chip", "board"
LEVELS: dict[str, str] = {
    "marginal": OPERATIONS,
    "per_term": OPERATIONS,
    "dynamic": OPERATIONS,
    "all_in": CHIP,
    "marginal+static": CHIP,
    "per_term+static": CHIP,
    "dynamic+static": CHIP,
    "board": BOARD,
    "peak_tdp": BOARD,
    "utilisation": BOARD,
    "measured_app": BOARD,
}


class Refused(Exception):
    """A price model does not hold for a run, and says why."""


class Sampler(Protocol):
    """Draws the random parts of an estimate, for example :class:`~esl_neuro.energy.uncertainty.Draws`."""

    def of(self, constant: Constant) -> Floats:
        """Return draws of a constant in its own unit, the same at every call."""

    def uniform(self, purpose: str) -> Floats:
        """Return draws between 0 and 1 for something that a source leaves open."""

    def mean(self, each_sample: Floats | None, otherwise: float) -> Floats:
        """Return means of a count over resampled samples; ``otherwise`` if there is nothing to resample."""


@dataclass(frozen=True)
class Factor:
    """A constant in a price.

    Attributes
    ----------
    constant : Constant
        The number.
    unit : str
        Unit in which it enters.
    power : int
        1 if it multiplies, -1 if it divides.
    """

    constant: Constant
    unit: str = "pJ"
    power: int = 1

    def interval(self) -> Interval:
        """Value and range as they enter the product.

        Raises
        ------
        BadInput
            If a number that divides may be 0.
        """
        given = self.constant.interval(self.unit)
        if self.power == -1 and given.low == 0:
            raise BadInput(
                f"{self.constant.id} is {self.constant.text}, but a price divides by it; give a number above 0"
            )
        return given if self.power == 1 else Interval(1 / given.high, 1 / given.nominal, 1 / given.low)

    def sample(self, draws: Sampler) -> Floats:
        """Return its draws as they enter the product."""
        return np.asarray(convert(draws.of(self.constant), self.constant.unit, self.unit) ** self.power)


@dataclass(frozen=True)
class Price:
    """Energy per operation: ``scale x product of factors``, in pJ.

    Attributes
    ----------
    factors : tuple of Factor
        The constants.
    scale : float
        Exact conversion, such as pJ per J.
    instead : Price or None
        The alternative price, if the source does not say which of two prices applies: the price is between both.
    reading : str or None
        Name of what the source leaves open, for prices that depend on it together; by default the constants.
    """

    factors: tuple[Factor, ...]
    scale: float = 1.0
    instead: Price | None = None
    reading: str | None = None

    @property
    def purpose(self) -> str:
        """Name of the draw between the two prices; prices that share it move together."""
        return f"reading of {self.reading or ' '.join(sorted({c.id for c in self.constants}))}"

    @property
    def constants(self) -> tuple[Constant, ...]:
        """Every constant in it."""
        other = () if self.instead is None else self.instead.constants
        return tuple(factor.constant for factor in self.factors) + other

    @property
    def interval(self) -> Interval:
        """Nominal price, and the price with every constant at the low or at the high end."""
        parts = [factor.interval() for factor in self.factors]
        own = reduce(_product, parts).times(self.scale)
        if self.instead is None:
            return own
        other = self.instead.interval
        return Interval(min(own.low, other.low), own.nominal, max(own.high, other.high))

    def sample(self, draws: Sampler) -> Floats:
        """Return draws of the price, in pJ."""
        own = self.scale * np.prod([factor.sample(draws) for factor in self.factors], axis=0)
        if self.instead is None:
            return np.asarray(own)
        # One variable for both readings of a definition that the source leaves open.
        share = draws.uniform(self.purpose)
        return np.asarray(own + share * (self.instead.sample(draws) - own))


def _product(first: Interval, second: Interval) -> Interval:
    return Interval(first.low * second.low, first.nominal * second.nominal, first.high * second.high)


@dataclass(frozen=True)
class Term:
    """One count times one price.

    Attributes
    ----------
    what : str
        What is counted.
    count : float
        Count per sample, in ``count_unit``.
    count_unit : str
        ``"SOP"``, ``"MAC"``, ``"FLOP"``, ``"update"``, ``"state operation"``, ``"spike"``, ``"message"``, ``"hop"``,
        ``"weight read"``, ``"access"``, ``"operation"`` or ``"s"``.
    price : Price
        pJ per ``count_unit``.
    price_text : str
        The price in the units of its source.
    each_sample : float64 array, shape (samples,), or None
        The count of each sample; None where it is the same for all.
    by_layer : mapping of str to float
        ``count`` by layer; empty if it belongs to no layer.
    """

    what: str
    count: float
    count_unit: str
    price: Price
    price_text: str
    each_sample: Floats | None = field(default=None, repr=False, compare=False)
    by_layer: Mapping[str, float] = field(default_factory=dict, repr=False, compare=False)

    @property
    def constants(self) -> tuple[Constant, ...]:
        """Where the price comes from."""
        return self.price.constants

    @property
    def price_pj(self) -> Interval:
        """Price in pJ per ``count_unit``."""
        return self.price.interval

    @property
    def energy_pj(self) -> Interval:
        """Energy per sample, in pJ."""
        return self.price_pj.times(self.count)

    def sample(self, draws: Sampler) -> Floats:
        """Return draws of the energy per sample, in pJ."""
        return self.price.sample(draws) * draws.mean(self.each_sample, self.count)


@dataclass(frozen=True)
class Unpriced:
    """An operation that occurred and has no price in the model.

    Attributes
    ----------
    what : str
        Name of the operation.
    count : float
        Count per sample (not zero).
    """

    what: str
    count: float


@dataclass(frozen=True)
class Estimate:
    """The energy of one sample on one target by one price model.

    Attributes
    ----------
    target, kind : str
        Name of the hardware target, and its kind.
    model : str
        Name of the price model.
    scope : str
        What the number includes, a key of :data:`SUMMABLE`.
    prices : str
        What is priced, in one sentence.
    terms : tuple of Term
        The products that are added; empty if the estimate is refused.
    unpriced : tuple of Unpriced
        Operations that occurred but are left out; then the total is a lower bound.
    best_case : bool
        True if a price is a published minimum or peak, so that the total is a lower bound anyway.
    notes : tuple of str
        Notes for the reader.
    refusal : str or None
        Reason why there is no number.
    reading : str
        Which of several readings of its source the model takes, such as ``"synapse"``; "" for none.

    Raises
    ------
    BadInput
        If the scopes of the constants may not be added, as in a chip file that states another scope.
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
    reading: str = ""

    def __post_init__(self) -> None:
        scopes = {str(constant.scope) for constant in self.constants}
        if not scopes <= SUMMABLE[self.scope]:
            raise BadInput(
                f"{self.target} {self.model}: constants of scope {sorted(scopes)} cannot be added in an estimate of "
                f"scope '{self.scope}', which takes {sorted(SUMMABLE[self.scope])}; make one estimate for each scope"
            )

    @property
    def name(self) -> str:
        """Target and model, as in ``"loihi:silicon"``."""
        return f"{self.target}:{self.model}"

    @property
    def constants(self) -> tuple[Constant, ...]:
        """Every constant used, once, in order of use."""
        return tuple({constant.id: constant for term in self.terms for constant in term.constants}.values())

    @property
    def energy_pj(self) -> Interval | None:
        """Energy per sample in pJ, None if refused; low and high take every constant at one end at once."""
        return reduce(Interval.__add__, (term.energy_pj for term in self.terms)) if self.terms else None

    @property
    def lower_bound(self) -> bool:
        """True if the total leaves out operations that occurred, or prices them at a published best case.

        It is a lower bound of the complete total at nominal prices; the prices themselves remain uncertain within their
        range.
        """
        return self.refusal is None and (self.best_case or bool(self.unpriced))

    @property
    def level(self) -> str | None:
        """What it covers: ``"operations"``, ``"chip"`` or ``"board"``; None if it is compared with nothing."""
        return LEVELS.get(self.scope)

    @property
    def evidence(self) -> str:
        """The weakest evidence among the constants."""
        return max((constant.evidence for constant in self.constants), key=EVIDENCE.index, default="unstated")

    def sample(self, draws: Sampler) -> Floats | None:
        """Return draws of the energy per sample in pJ, None if refused."""
        if not self.terms:
            return None
        return np.asarray(np.sum([term.sample(draws) for term in self.terms], axis=0), dtype=np.float64)

    def by_layer_pj(self) -> dict[str, float]:
        """Return the nominal energy of each layer in pJ; terms without a layer are under their own name."""
        shares: dict[str, float] = {}
        for term in self.terms:
            price = term.price_pj.nominal
            parts = term.by_layer or {term.what: term.count}
            for layer, counted in parts.items():
                shares[layer] = shares.get(layer, 0.0) + counted * price
        return shares

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON with energies in pJ per sample."""
        energy = self.energy_pj
        return {
            "target": self.target,
            "model": self.model,
            "scope": self.scope,
            "level": self.level,
            "reading": self.reading,
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
            "by_layer_nominal_pj": self.by_layer_pj(),
            "unpriced": [vars(item) for item in self.unpriced],
            "constants": [constant.id for constant in self.constants],
            "notes": list(self.notes),
            "refusal": self.refusal,
        }


STATIC_POWER = "static power"  # how the names of its terms begin
# Units of the terms of a power times a duration.
STATIC_UNIT, STEP, BUSIEST = "s", "step", "SOP of the busiest core"


def comparable(chip: Estimate, processor: Estimate) -> bool:
    """Return whether two estimates cover the same: one level, or a chip beside the board of a processor."""
    if chip.level is None or processor.level is None:
        return False
    return chip.level == processor.level or (chip.level, processor.level) == (CHIP, BOARD)


def with_static(operations: Estimate, static: Estimate) -> Estimate:
    """Add the static power of a chip to an estimate of its operations, so that it can be held against a total."""
    return replace(
        operations,
        model=f"{operations.model}+{static.model}",
        scope=f"{operations.scope}+static",
        prices=f"{operations.prices}; {static.prices}",
        terms=(*operations.terms, *static.terms),
        best_case=operations.best_case or static.best_case,
        notes=tuple(dict.fromkeys((*operations.notes, *static.notes))),
        refusal=operations.refusal or static.refusal,
    )


def headline(estimates: Sequence[Estimate]) -> Estimate | None:
    """Return the estimate that stands for one target: its first total, else its first operations; None if refused."""
    priced = [each for each in estimates if each.terms and each.level is not None]
    whole = [each for each in priced if each.level in (CHIP, BOARD) and not each.reading]
    return next(iter([*whole, *priced]), None)


def representative(estimates: Sequence[Estimate]) -> tuple[Estimate, ...]:
    """Return the first estimate of each target, and those of other readings of its source at the same level."""
    first = {each.target: each for each in reversed(estimates)}
    return tuple(
        each
        for each in estimates
        if each is first[each.target] or (each.reading and each.level and each.level == first[each.target].level)
    )


def relation(over: Estimate, under: Estimate) -> str:
    """Return how a ratio is bounded: ``">="`` or ``"<="`` if one side is a lower bound, ``"~"`` if both are."""
    if over.lower_bound and under.lower_bound:
        return "~"
    if over.lower_bound:
        return ">="
    return "<=" if under.lower_bound else "="


# Terms: a count and the constants that price it.


def counted(what: str, counts: Counts, names: str | tuple[str, ...], unit: str, price: Price, text: str) -> Term:
    """Return the term of one count of a run (or the sum of several), by sample and by layer."""
    names = (names,) if isinstance(names, str) else names
    samples = max(counts.samples, 1)
    return Term(
        what,
        sum(counts.per_sample(name) for name in names),
        unit,
        price,
        text,
        np.sum([counts.each_sample(name) for name in names], axis=0),
        {layer.name: sum(getattr(layer, name) or 0 for name in names) / samples for layer in counts.layers},
    )


def operation(what: str, counts: Counts, names: str | tuple[str, ...], unit: str, constant: Constant) -> Term:
    """Return the term of one count at the price of one constant, an energy or an efficiency."""
    price_pj = constant.interval("pJ")
    text = constant.text if constant.unit == "pJ" else f"{price_pj.nominal:g} pJ ({_source_text(constant)})"
    return counted(what, counts, names, unit, Price((Factor(constant),)), text)


def _source_text(constant: Constant) -> str:
    return f"1 / {constant.text}" if constant.unit == "GSOPS/W" else constant.text


def left_out(**numbers: float) -> tuple[Unpriced, ...]:
    """Return the operations that occurred and have no price."""
    return tuple(Unpriced(what.replace("_", " "), number) for what, number in numbers.items() if number)
