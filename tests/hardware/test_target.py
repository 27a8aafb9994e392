from __future__ import annotations

import numpy as np
import pytest

from esl_neuro.energy.measurements import measurements, points
from esl_neuro.energy.prices import PRICE_MODELS
from esl_neuro.energy.processors import flop_price
from esl_neuro.errors import BadInput
from esl_neuro.hardware import UNITS, Constant, UnpublishedConstant, convert, load_target
from esl_neuro.resources import find_resource, resource_names

NAMES = ("truenorth", "loihi", "loihi2", "v100-pcie")

GOOD = """
[target]
name = "mine"
title = "My chip"
kind = "neuromorphic"
process = "22 nm"
year = 2026
source = "datasheet"

[limits.neurons_per_core]
value = 100
unit = "neurons"
source = "datasheet"
evidence = "datasheet"

[constants.e_synop]
quantity = "energy per synaptic operation"
value = 5.0
unit = "pJ"
condition = "0.8 V"
scope = "per_term"
evidence = "measured"
source = "paper"
verified = "quote"
confidence = "high"
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("name", resource_names("hw_targets"))
def test_every_shipped_target_loads_and_names_its_file(name):
    target = load_target(name)
    assert target.name == name == find_resource("hw_targets", name).stem
    assert set(target.target.price_models) <= set(PRICE_MODELS)
    assert all(constant.id == f"{name}.{key}" for key, constant in target.constants.items())
    assert all(constant.condition and constant.source for constant in target.constants.values())


def test_the_shipped_targets_are_there():
    assert set(NAMES) <= set(resource_names("hw_targets"))


def test_limits_and_arithmetic_for_the_compiler():
    target = load_target("loihi2")
    limits = ("neurons_per_core", "cores_per_chip", "neurons_per_chip", "synapses_per_chip")
    values = [target.limits[key].value for key in limits]
    assert values == [8192, 128, 1048576, 120_000_000]
    assert all(type(value) is int for value in values)
    assert values[0] * values[1] == values[2]
    assert target.limits["fan_in"].unknown
    assert target.arithmetic is not None
    assert (target.arithmetic.weight_min, target.arithmetic.weight_max, target.arithmetic.weight_step) == (-254, 254, 2)
    assert load_target("loihi").limits["neurons_per_core"].value == 1024


# TrueNorth: 4096 cores x 256 neurons, 128 synapses each, at the three published rates (Akopyan 2015, Fig. 17).
SWEEP_HZ = {"sweep_11_58_hz": 11.58, "sweep_20_07_hz": 20.07, "sweep_95_93_hz": 95.93}


def sop_per_s(rate_hz):
    limits = load_target("truenorth").limits
    return limits["cores_per_chip"].value * limits["neurons_per_core"].value * 128 * rate_hz


@pytest.mark.parametrize(("key", "rate_hz"), SWEEP_HZ.items())
def test_marginal_model_predicts_the_truenorth_sweep(key, rate_hz):
    chip = load_target("truenorth")
    joule_per_sop = chip.constant("e_sop_marginal").interval("pJ").nominal * 1e-12
    predicted_mw = joule_per_sop * sop_per_s(rate_hz) * 1e3 + chip.constant("p_static_fit").value
    assert predicted_mw == pytest.approx(chip.constant(key).value, rel=0.005)


def test_marginal_constants_are_the_least_squares_fit_of_the_sweep():
    chip = load_target("truenorth")
    rates = np.array([sop_per_s(rate) for rate in SWEEP_HZ.values()])
    power_w = np.array([chip.constant(key).interval("W").nominal for key in SWEEP_HZ])
    slope, intercept = np.polyfit(rates, power_w, 1)
    assert slope * 1e12 == pytest.approx(chip.constant("e_sop_marginal").value, abs=0.005)
    assert intercept * 1e3 == pytest.approx(chip.constant("p_static_fit").value, abs=0.05)


def test_published_figures_that_follow_from_each_other():
    truenorth, gpu = load_target("truenorth"), load_target("v100-pcie")
    peak = truenorth.constant("eff_peak").interval("pJ").nominal
    assert peak == pytest.approx(0.145 / 58e9 * 1e12)  # 145 mW at 58 GSOPS
    assert flop_price(gpu.constant("board_power"), gpu.constant("peak_fp32")).nominal == pytest.approx(17.857, abs=5e-4)
    static_mw = load_target("loihi").constant("p_static_chip").value
    assert static_mw == pytest.approx(3340 / 32, abs=0.05)  # 3.34 W of 32 chips
    readings = [point.reading for point in points(measurements("loihi2"))]
    (pilotnet_mj,) = (each.value for each in readings if (each.id, each.quantity) == ("b9e3691", "total energy"))
    assert pilotnet_mj == pytest.approx(679 / 408.91, rel=1e-3)  # 0.679 W at 408.91 frames/s


@pytest.mark.parametrize(
    ("value", "unit", "to", "expected"),
    [
        (13.3, "nJ", "pJ", 13300.0),
        (0.27, "mJ", "pJ", 2.7e8),
        (64.6, "mW", "W", 0.0646),
        (0.232, "W", "mW", 232.0),
        (50.0, "us", "s", 5e-5),
        (14.0, "TFLOPS", "FLOP/s", 1.4e13),
        (400.0, "GSOPS/W", "pJ", 2.5),
        (47.0, "fJ/bit", "pJ/bit", 0.047),
    ],
)
def test_convert(value, unit, to, expected):
    assert convert(value, unit, to) == pytest.approx(expected, rel=1e-12)


def test_convert_refuses_another_dimension():
    with pytest.raises(ValueError, match=r"'mW' is a unit of power, 'pJ' is a unit of energy"):
        convert(1.0, "mW", "pJ")


@pytest.mark.parametrize("unit", UNITS)
def test_convert_there_and_back(unit):
    dimension = UNITS[unit][0]
    for other in (name for name, (kind, _) in UNITS.items() if kind == dimension):
        assert convert(convert(3.0, unit, other), other, unit) == pytest.approx(3.0, rel=1e-12)


def test_an_efficiency_turns_its_range_over():
    interval = load_target("truenorth").constant("eff_typ").interval("pJ")
    assert interval.low == pytest.approx(1000 / 46)
    assert interval.high == pytest.approx(1000 / 35.6)


def test_an_unpublished_constant_has_no_number():
    with pytest.raises(UnpublishedConstant, match=r"loihi2\.e_synop"):
        load_target("loihi2").constant("e_synop").interval("pJ")


def test_a_missing_constant_is_named():
    with pytest.raises(BadInput, match=r"'loihi'.*'e_synop_mim' is missing; did you mean 'e_synop_min'"):
        load_target("loihi").constant("e_synop_mim")


def test_an_unknown_target_gets_the_nearest_name():
    with pytest.raises(BadInput, match="did you mean 'truenorth'"):
        load_target("truenoth")


def test_own_file(write):
    target = load_target(write(GOOD))
    assert target.constant("e_synop").id == "mine.e_synop"
    assert target.limits["neurons_per_core"].value == 100


SYNOP = r"constants\.e_synop"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "value = 5.0",
            "vlaue = 5.0\nvalue = 5.0",
            SYNOP + r"\.vlaue: unknown field; did you mean 'value'\?",
        ),
        (
            'unit = "pJ"',
            'unit = "pj"',
            SYNOP + r"\.unit: 'pj' is not allowed; did you mean 'pJ'\? allowed: .*nJ",
        ),
        ('"per_term"', '"perterm"', SYNOP + r"\.scope: 'perterm' is not allowed; did you mean 'per_term'\?"),
        (
            '"measured"',
            '"mesured"',
            SYNOP + r"\.evidence: 'mesured' is not allowed; did you mean 'measured'\?",
        ),
        ("value = 5.0", 'value = "5"', SYNOP + r"\.value: '5' is not allowed: it should be .*number"),
        (
            "value = 5.0",
            "value = -5.0",
            SYNOP + r"\.value: -5\.0 is not allowed: .*greater than or equal to 0",
        ),
        ("value = 5.0", "value = nan", SYNOP + r"\.value: nan is not allowed: it should be "),
        ("value = 5.0", "value = 5.0\nhigh = 4.0", SYNOP + r": low <= value <= high does not hold"),
        ("value = 5.0\n", "", SYNOP + r": no number; give 'value'"),
        ("value = 5.0", "value = 5.0\nunpublished = true", SYNOP + r": unpublished = true, but a number"),
        ('scope = "per_term"\n', "", SYNOP + r": scope is missing"),
        ('source = "paper"\n', "", SYNOP + r"\.source: is missing"),
        ('quantity = "energy', 'id = "x"\nquantity = "energy', SYNOP + r"\.id: unknown field"),
        ("value = 100", "value = 100\nunknown = true", r"limits\.neurons_per_core: give either"),
        ("[limits.neurons", "[limit.neurons", r"limit: unknown field; did you mean 'limits'\?"),
        (
            '"neuromorphic"',
            '"chip"',
            r"target\.kind: 'chip' is not allowed; .*: cpu, fpga, gpu, neuromorphic, process",
        ),
    ],
)
def test_wrong_files_say_field_value_and_what_is_allowed(write, old, new, message):
    assert old in GOOD
    with pytest.raises(BadInput, match=r"mine\.toml: " + message):
        load_target(write(GOOD.replace(old, new, 1)))


def test_all_findings_come_at_once_in_one_line(write):
    text = GOOD.replace('unit = "pJ"', 'unit = "pj"').replace("year = 2026", 'year = "now"\ncolour = 1')
    with pytest.raises(BadInput) as error:
        load_target(write(text))
    message = str(error.value)
    assert message.count("; ") >= 2
    assert "\n" not in message
    assert all(field in message for field in ("constants.e_synop.unit", "target.year", "target.colour"))


def test_a_range_without_a_value_is_published_so():
    envelope = load_target("truenorth").constant("p_envelope")
    assert isinstance(envelope, Constant)
    assert (envelope.value, envelope.low, envelope.high, envelope.unpublished) == (None, 42, 323, False)


def test_a_constant_in_a_unit_of_another_dimension_is_named():
    constant = load_target("loihi").constant("e_synop_min")
    with pytest.raises(BadInput, match=r"loihi\.e_synop_min is .* and cannot be used as a number in Hz: .*unit of"):
        constant.interval("Hz")


@pytest.mark.parametrize("limit", ["cores_per_chip", "neurons_per_core"])
def test_a_chip_without_room_is_refused(tmp_path, limit):
    text = find_resource("hw_targets", "loihi2").read_text()
    table = f"[limits.{limit}]\nvalue = "
    assert table in text
    first, _, rest = text.partition(table)
    (tmp_path / "mine.toml").write_text(f"{first}{table}0{rest[rest.index(chr(10)) :]}")
    with pytest.raises(BadInput, match=f"limits: {limit} must be above 0"):
        load_target(str(tmp_path / "mine.toml"))
