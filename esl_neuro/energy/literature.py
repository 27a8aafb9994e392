"""Formulas of the literature applied to the counts of a run, only to reproduce a paper's column.

``esl2023`` reproduces a table for its own network and is in :mod:`esl_neuro.energy.presets`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from esl_neuro.energy.counts import Counts
from esl_neuro.energy.estimate import Estimate, Factor, Price, Term, operation
from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.hardware import Constant, load_target

SCHEMA = 1
LABEL = "for reproduction of the literature only, not an estimate of ours"


@dataclass(frozen=True)
class Literature:
    """A run priced with the formula of a paper or tool.

    Attributes
    ----------
    name, paper, label : str
        Name, source, and the label that it is a reproduction.
    estimates : tuple of Estimate
        Rows of scope ``"paper_preset"``.
    caveats : tuple of str
        Omissions and errors of the formula.
    """

    name: str
    paper: str
    label: str
    estimates: tuple[Estimate, ...]
    caveats: tuple[str, ...]

    @property
    def constants(self) -> tuple[Constant, ...]:
        """Every constant used, once."""
        return tuple({c.id: c for estimate in self.estimates for c in estimate.constants}.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON with energies in pJ per sample."""
        return {
            "schema": SCHEMA,
            "preset": self.name,
            "paper": self.paper,
            "label": self.label,
            "estimates": [estimate.to_dict() for estimate in self.estimates],
            "caveats": list(self.caveats),
            "constants": {constant.id: constant.model_dump() for constant in self.constants},
        }


def _row(name: str, what: str, prices: str, *terms: Term) -> Estimate:
    return Estimate(name, "process", what, "paper_preset", prices, terms, notes=(LABEL,))


def _one_pass(what: str, counts: Counts, price: Price, text: str) -> Term:
    """Return the dense MACs of a network that runs once per sample, like the artificial network of the comparison."""
    steps = max(counts.steps, 1)
    by_layer = {layer.name: layer.macs_dense / max(counts.samples, 1) / steps for layer in counts.layers}
    return Term(what, counts.per_sample("macs_dense") / steps, "MAC", price, text, None, by_layer)


def hu2018(counts: Counts) -> Literature:
    """12.5 pJ for each MAC of the dense network, 77 fJ for each SOP."""
    mac, sop = load_target("stratix10").constant("e_flop"), load_target("rolls").constant("e_synop")
    return Literature(
        "hu2018",
        "Hu, Tang, Pan, Spiking Deep Residual Network (arXiv:1805.01352), and papers after it",
        LABEL,
        (
            _row("hu2018", "ann", "dense MACs, one pass", _one_pass("MACs", counts, Price((Factor(mac),)), mac.text)),
            _row("hu2018", "snn", "effective SOPs", operation("SOPs", counts, "sop_effective", "SOP", sop)),
        ),
        (
            "the two constants are of different hardware: the peak rate of a 14 nm FPGA, and an analog chip of 256 "
            "neurons in 180 nm without memory, routing or static power",
            "their ratio, 162x, is most of any advantage that this formula finds",
        ),
    )


def kerasspiking(counts: Counts) -> Literature:
    """KerasSpiking's ModelEnergy: mean rate times connections, zeros not skipped, a hop for each operation."""
    loihi = load_target("loihi")
    synop, east, north, neuron = (
        loihi.constant(key) for key in ("e_synop_min", "e_hop_ew", "e_hop_ns", "e_neuron_active")
    )
    gpu, cpu = load_target("titan-black").constant("e_mac"), load_target("cpu-i7-4960x").constant("e_mac")
    dense = "sop_executed_dense"
    hops = [
        Term(**{**vars(operation("half a hop", counts, dense, "SOP", hop)), "price": Price((Factor(hop),), 0.5)})
        for hop in (east, north)
    ]
    return Literature(
        "kerasspiking",
        "KerasSpiking 0.3.0, ModelEnergy",
        LABEL,
        (
            _row(
                "kerasspiking",
                "loihi",
                "spikes x full fan-out, one mean hop each, every neuron active in every step",
                operation("synaptic operations", counts, dense, "SOP", synop),
                *hops,
                operation("neuron updates", counts, "neuron_updates", "update", neuron),
            ),
            *(
                _row(
                    "kerasspiking",
                    name,
                    "dense MACs, one pass",
                    _one_pass("MACs", counts, Price((Factor(mac),)), f"{mac.text}"),
                )
                for name, mac in (("gpu", gpu), ("cpu", cpu))
            ),
        ),
        (
            "zeros among the weights are priced like weights: a sparse network costs what the dense one does",
            "a hop is charged for each synaptic operation, though a spike travels once to each core",
            "its own documentation calls the numbers very rough estimates",
        ),
    )


def horowitz_ac_mac(counts: Counts) -> Literature:
    """0.9 pJ for each addition of the spiking network, 4.6 pJ for each MAC of the dense one."""
    cmos = load_target("cmos45")
    add, multiply = cmos.constant("add_fp32"), cmos.constant("mul_fp32")
    return Literature(
        "horowitz-ac-mac",
        "Horowitz, ISSCC 2014, as the spiking literature uses it",
        LABEL,
        (
            _row(
                "horowitz-ac-mac",
                "ann",
                "dense MACs, one pass",
                _one_pass("multiplications", counts, Price((Factor(multiply),)), multiply.text),
                _one_pass("additions", counts, Price((Factor(add),)), add.text),
            ),
            _row(
                "horowitz-ac-mac",
                "snn",
                "effective SOPs, MACs where no spikes arrive",
                operation("additions", counts, ("sop_effective", "macs_effective"), "SOP", add),
                operation("multiplications", counts, "macs_effective", "MAC", multiply),
            ),
        ),
        (
            "arithmetic only: one read of a weight from an 8 KB memory costs more than the addition",
            "neuron updates, state, addressing and time steps without spikes cost nothing here",
        ),
    )


LITERATURE: dict[str, Callable[[Counts], Literature]] = {
    "hu2018": hu2018,
    "kerasspiking": kerasspiking,
    "horowitz-ac-mac": horowitz_ac_mac,
}


def literature(name: str, counts: Counts) -> Literature:
    """Apply a formula of the literature.

    Raises
    ------
    BadInput
        If there is no such formula.
    """
    if name not in LITERATURE:
        raise BadInput(f"preset '{name}' is unknown; {did_you_mean(name, LITERATURE)}")
    return LITERATURE[name](counts)
