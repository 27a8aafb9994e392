"""Published comparisons, recomputed from constants: reproductions of a figure, not estimates of this project.

``esl2023`` is Table 1 of Shen et al., "ESL-SNNs" (AAAI 2023, arXiv:2306.03693): a 784-800-10 network, dense and sparse,
on a "Titan V100" and on TrueNorth. The paper prints four energies and no constant, so the constants are inferred, and
several readings are possible; each is computed here with its deviation from the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from esl_neuro.energy.estimate import PJ_PER_J
from esl_neuro.energy.processors import flop_price
from esl_neuro.hardware import Constant, HardwareTarget, load_target

SCHEMA = 1
LABEL = "reproduction of a published figure, not an estimate of ours"

# The network of the table: neurons per layer, the sparsity parameter of its first layer; the readout stays dense.
LAYERS = (784, 800, 10)
EPSILON = 60

# The printed figures in joules, the reference for the readings below.
PRINTED_J = {
    ("dense", "GPU"): "1.13E-05",
    ("dense", "neuromorphic"): "7.95E-06",
    ("sparse", "GPU"): "1.84E-06",
    ("sparse", "neuromorphic"): "1.29E-06",
}
SIMPLE_TOLERANCE = 0.002
TICKS_OF_STATIC_EXAMPLE = 10
TICK_S = 1e-3


@dataclass(frozen=True)
class Figure:
    """One entry of the table under one reading.

    Attributes
    ----------
    network, chip : str
        ``"dense"`` or ``"sparse"``; ``"GPU"`` or ``"neuromorphic"``.
    energy_j : float
        Recomputed energy, in joules.
    printed_j : str
        Printed figure.
    derivation : str
        The arithmetic.
    """

    network: str
    chip: str
    energy_j: float
    printed_j: str
    derivation: str

    @property
    def text(self) -> str:
        """The energy in the format of the paper."""
        return f"{self.energy_j:.2E}"

    @property
    def relative_error(self) -> float:
        """Relative error of the printed digits: (recomputed - printed) / printed."""
        return float(self.text) / float(self.printed_j) - 1

    @property
    def remark(self) -> str:
        """``"equal"``, or the deviation."""
        if self.text == self.printed_j:
            return "equal"
        # Mantissas have three digits, so a unit in the last place is 0.01 of the printed power of ten.
        unit = 0.01 * 10.0 ** int(self.printed_j.split("E")[1])
        units = round(abs(float(self.text) - float(self.printed_j)) / unit)
        distance = "off by one unit in the last digit" if units == 1 else f"off by {units} units in the last digit"
        return f"{distance} ({100 * self.relative_error:+.2f} %)"


@dataclass(frozen=True)
class Reading:
    """One way to derive the table.

    Attributes
    ----------
    name, assumption : str
        Short name, and the assumption.
    figures : tuple of Figure
        The four entries, in the order of the paper.
    """

    name: str
    assumption: str
    figures: tuple[Figure, ...]

    @property
    def equal(self) -> int:
        """Number of figures with the printed digits."""
        return sum(figure.text == figure.printed_j for figure in self.figures)

    @property
    def reproduces_all(self) -> bool:
        """True if every figure has the printed digits."""
        return self.equal == len(self.figures)


@dataclass(frozen=True)
class Alternative:
    """The same operation bound under another published constant.

    Attributes
    ----------
    constant : Constant
        The price.
    price_pj : float
        Energy per operation, in pJ.
    dense_j, sparse_j : float
        Energy of both networks, in joules.
    """

    constant: Constant
    price_pj: float
    dense_j: float
    sparse_j: float


@dataclass(frozen=True)
class PresetResult:
    """A recomputed comparison.

    Attributes
    ----------
    name, title, paper, label : str
        Identification; the label states that it is a reproduction.
    connections : tuple of str
        How the connections are counted, with the arithmetic.
    readings : tuple of Reading
        The exact one first.
    alternatives : tuple of Alternative
        The same counts at other prices.
    caveats : tuple of str
        Limits of the comparison.
    constants : tuple of Constant
        Every constant used.
    """

    name: str
    title: str
    paper: str
    label: str
    connections: tuple[str, ...]
    readings: tuple[Reading, ...]
    alternatives: tuple[Alternative, ...]
    caveats: tuple[str, ...]
    constants: tuple[Constant, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON with energies in joules."""
        return {
            "schema": SCHEMA,
            "preset": self.name,
            "title": self.title,
            "paper": self.paper,
            "label": self.label,
            "connections": list(self.connections),
            "readings": [
                {
                    "name": reading.name,
                    "assumption": reading.assumption,
                    "reproduces_all": reading.reproduces_all,
                    "figures": [vars(f) | {"text": f.text, "remark": f.remark} for f in reading.figures],
                }
                for reading in self.readings
            ],
            "alternatives": [
                {
                    "constant": a.constant.id,
                    "scope": a.constant.scope,
                    "price_pj": a.price_pj,
                    "dense_j": a.dense_j,
                    "sparse_j": a.sparse_j,
                }
                for a in self.alternatives
            ],
            "caveats": list(self.caveats),
            "constants": {constant.id: constant.model_dump() for constant in self.constants},
        }


@dataclass(frozen=True)
class _Network:
    """Connection counts of the 784-800-10 network."""

    weights: int
    biases: int
    sparse: int
    sparse_rounded: int


def _network() -> _Network:
    inputs, hidden, outputs = LAYERS
    readout = hidden * outputs
    sparse = EPSILON * (inputs + hidden) + readout
    return _Network(inputs * hidden + readout, hidden + outputs, sparse, round(sparse, -3))


def esl2023() -> PresetResult:
    """Recompute Table 1 of ESL-SNNs.

    Returns
    -------
    PresetResult
        Three readings; ``exact`` gives all four printed figures, ``simple`` gives three and misses one by one unit
        in the last digit, ``five-times-peak`` gives all four by rounding before a multiplication.
    """
    gpu, chip = load_target("v100-pcie"), load_target("truenorth")
    net = _network()
    return PresetResult(
        name="esl2023",
        title="Energy of a 784-800-10 spiking network, dense and sparse, on a GPU and on a neuromorphic chip",
        paper="Shen et al., ESL-SNNs, AAAI 2023, Table 1 (arXiv:2306.03693)",
        label=LABEL,
        connections=_connections(net),
        readings=(_exact(net, gpu, chip), _simple(net, gpu, chip), _five_times_peak(net, gpu, chip)),
        alternatives=_alternatives(net, chip),
        caveats=_caveats(net, gpu, chip),
        constants=(
            *(gpu.constant(key) for key in ("peak_fp32", "board_power", *_CLOCK, "t_launch")),
            *(chip.constant(key) for key in ("esl2023_e_sop", "esl2023_multiplier", "p_static_fit", "e_sop_marginal")),
            *(alternative.constant for alternative in _alternatives(net, chip)),
        ),
    )


PRESETS: dict[str, Callable[[], PresetResult]] = {"esl2023": esl2023}

_CLOCK = ("cuda_cores", "flop_per_core_cycle", "boost_clock")


def _connections(net: _Network) -> tuple[str, ...]:
    inputs, hidden, outputs = LAYERS
    first = EPSILON * (inputs + hidden)
    return (
        f"dense: {inputs} x {hidden} + {hidden} x {outputs} = {net.weights:,} weights (printed as 635K); "
        f"with {hidden} + {outputs} biases {net.weights + net.biases:,}",
        f"sparse: Erdos-Renyi first layer {EPSILON} x ({inputs} + {hidden}) = {first:,}, "
        f"plus dense readout {hidden * outputs:,} = {net.sparse:,}, rounded {net.sparse_rounded:,} (printed as 103K)",
        f"density: first layer {100 * first / (inputs * hidden):.1f} %, whole network "
        f"{100 * net.sparse / net.weights:.1f} %",
    )


def _figure(network: str, chip: str, connections: int, price_pj: float, price_text: str) -> Figure:
    energy_j = connections * price_pj / PJ_PER_J
    derivation = f"{connections:,} x {price_text} = {energy_j:.4E} J"
    return Figure(network, chip, energy_j, PRINTED_J[network, chip], derivation)


def _exact(net: _Network, gpu: HardwareTarget, chip: HardwareTarget) -> Reading:
    cores, flop, clock = (gpu.constant(key) for key in _CLOCK)
    power = gpu.constant("board_power")
    flops = cores.interval("1").nominal * flop.interval("1").nominal * clock.interval("Hz").nominal
    gpu_pj = power.interval("W").nominal / flops * PJ_PER_J
    gpu_text = (
        f"{gpu_pj:.3f} pJ ({power.text} / ({cores.text} x {flop.text} x {clock.text} = {flops / 1e12:.2f} TFLOPS))"
    )
    sop = chip.constant("esl2023_e_sop")
    sop_pj = sop.interval("pJ").nominal
    dense = net.weights + net.biases
    return Reading(
        "exact",
        "dense connections include the biases; GPU rate from cores x clock; constants inferred from the table",
        (
            _figure("dense", "GPU", dense, gpu_pj, gpu_text),
            _figure("dense", "neuromorphic", dense, sop_pj, sop.text),
            _figure("sparse", "GPU", net.sparse_rounded, gpu_pj, gpu_text),
            _figure("sparse", "neuromorphic", net.sparse_rounded, sop_pj, sop.text),
        ),
    )


def _peak_price(gpu: HardwareTarget) -> tuple[float, str]:
    power, rate = gpu.constant("board_power"), gpu.constant("peak_fp32")
    price_pj = flop_price(power, rate).nominal
    return price_pj, f"{price_pj:.3f} pJ ({power.text} / {rate.text} = {1000 / price_pj:.4g} GFLOPS/W)"


def _simple(net: _Network, gpu: HardwareTarget, chip: HardwareTarget) -> Reading:
    gpu_pj, gpu_text = _peak_price(gpu)
    sop = chip.constant("esl2023_e_sop")
    sop_pj = sop.interval("pJ").nominal
    return Reading(
        "simple",
        f"weights only, datasheet peak; agrees within {100 * SIMPLE_TOLERANCE:.1f} %",
        (
            _figure("dense", "GPU", net.weights, gpu_pj, gpu_text),
            _figure("dense", "neuromorphic", net.weights, sop_pj, sop.text),
            _figure("sparse", "GPU", net.sparse_rounded, gpu_pj, gpu_text),
            _figure("sparse", "neuromorphic", net.sparse_rounded, sop_pj, sop.text),
        ),
    )


def _five_times_peak(net: _Network, gpu: HardwareTarget, chip: HardwareTarget) -> Reading:
    gpu_pj, gpu_text = _peak_price(gpu)
    peak, multiplier = chip.constant("eff_peak"), chip.constant("esl2023_multiplier")

    def rounded_then_multiplied(network: str, connections: int) -> Figure:
        factor = multiplier.interval("1").nominal
        exact_j = connections * peak.interval("pJ").nominal / PJ_PER_J
        rounded_j = float(f"{exact_j:.2E}")
        energy_j = rounded_j * factor
        derivation = f"{connections:,} / {peak.text} = {rounded_j:.2E} J (rounded), x {factor:g} = {energy_j:.4E} J"
        return Figure(network, "neuromorphic", energy_j, PRINTED_J[network, "neuromorphic"], derivation)

    return Reading(
        "five-times-peak",
        "TrueNorth at its published peak, rounded to three digits, then times 5; nobody says why 5",
        (
            _figure("dense", "GPU", net.weights, gpu_pj, gpu_text),
            rounded_then_multiplied("dense", net.weights),
            _figure("sparse", "GPU", net.sparse, gpu_pj, gpu_text),
            rounded_then_multiplied("sparse", net.sparse),
        ),
    )


def _alternatives(net: _Network, chip: HardwareTarget) -> tuple[Alternative, ...]:
    published = (
        chip.constant("e_event_allin"),
        chip.constant("eff_typ"),
        chip.constant("eff_peak"),
        load_target("loihi").constant("e_synop_min"),
        load_target("loihi").constant("e_synop_sparse"),
        load_target("odin").constant("e_event_allin"),
        load_target("darwin3").constant("e_sop_marginal"),
        load_target("cmos45").constant("add_fp32"),
        load_target("rolls").constant("e_synop"),
    )
    prices = [(constant, constant.interval("pJ").nominal) for constant in published]
    return tuple(
        Alternative(constant, pj, net.weights * pj / PJ_PER_J, net.sparse_rounded * pj / PJ_PER_J)
        for constant, pj in prices
    )


def _caveats(net: _Network, gpu: HardwareTarget, chip: HardwareTarget) -> tuple[str, ...]:
    figure = {(f.network, f.chip): f.energy_j for f in _exact(net, gpu, chip).figures}
    dense_gpu, dense_chip = figure["dense", "GPU"], figure["dense", "neuromorphic"]
    sparse_gpu, sparse_chip = figure["sparse", "GPU"], figure["sparse", "neuromorphic"]
    sop_pj, *other_pj = (
        chip.constant(key).interval("pJ").nominal
        for key in ("esl2023_e_sop", "e_event_allin", "eff_typ", "eff_peak", "e_sop_marginal")
    )
    static = chip.constant("p_static_fit")
    static_j = static.interval("W").nominal * TICKS_OF_STATIC_EXAMPLE * TICK_S
    launch = gpu.constant("t_launch")
    launch_j = launch.interval("s").nominal * gpu.constant("board_power").interval("W").nominal
    axons = chip.limits["fan_in"].value
    return (
        "Both columns are a connection count times a constant: no spikes, no time steps, no neuron updates, no memory, "
        f"no static power. The gain from sparsity ({net.weights / net.sparse:.2f}x to {dense_chip / sparse_chip:.2f}x) "
        "is the ratio of parameters by construction.",
        f"On the same network the chip is {dense_gpu / dense_chip:.2f}x better than the GPU (sparse: "
        f"{sparse_gpu / sparse_chip:.2f}x), not ten times; only dense on the GPU against sparse on the chip comes near "
        f"({dense_gpu / sparse_chip:.2f}x).",
        "The peak rate counts a multiply-add as two FLOPs, the table as one. With two, the GPU column is "
        f"{2 * dense_gpu:.2E} and {2 * sparse_gpu:.2E} J and the ratio {2 * dense_gpu / dense_chip:.2f}x.",
        "The GPU column assumes full rate at full power, and that unstructured sparsity makes dense kernels cheaper: "
        f"it does not. At batch 1, {launch.text} of launch time at board power would be {launch_j:.2E} J, "
        f"{launch_j / dense_gpu:,.0f} times the dense entry.",
        f"{sop_pj:g} pJ is no published TrueNorth figure. Published: {other_pj[0]:g} and {other_pj[1]:.3g} (all-in), "
        f"{other_pj[2]:g} (peak), {other_pj[3]:g} pJ marginal on top of {static.text}. That static power alone takes "
        f"{static_j:.2E} J in {TICKS_OF_STATIC_EXAMPLE} ticks of 1 ms, the table has {sparse_chip:.2E} J.",
        f"The network cannot run on TrueNorth as trained: a fan-in of {LAYERS[0]} against {axons} axons of a core, "
        "real weights against four values per neuron, continuous spike times against ticks of 1 ms.",
        '"Titan V100" is no product: there is a Titan V and a Tesla V100, and only the PCIe board of the latter fits.',
    )
