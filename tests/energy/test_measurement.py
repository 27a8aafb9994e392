from __future__ import annotations

import json

import numpy as np
import pytest

from esl_neuro.energy.measurement import Measurement, clock, measure, read_power_log, window
from esl_neuro.energy.nvml import GpuMeter, load_nvml
from esl_neuro.errors import BadInput, MissingDependency

NVIDIA_SMI = """timestamp, power.draw [W]
2018/09/15 19:48:09.000, 10.00 W
2018/09/15 19:48:10.000, 20.00 W
2018/09/15 19:48:12.000, 20.00 W
"""
LOIHI_BOARD = """Time,Total Power (W),P_VDD
2019-03-25_00:22:33.250,0.030,0.008
2019-03-25_00:22:33.750,0.110,0.050
2019-03-25_00:22:34.250,0.110,0.050
"""
MILLIWATTS = """time_ms,power_mw
0,100
500,100
1000,300
"""


@pytest.fixture
def log(tmp_path):
    def write(text):
        path = tmp_path / "power.csv"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    ("text", "seconds", "watts"),
    [
        (NVIDIA_SMI, [0, 1, 3], [10, 20, 20]),
        (LOIHI_BOARD, [0, 0.5, 1.0], [0.03, 0.11, 0.11]),
        (MILLIWATTS, [0, 0.5, 1.0], [0.1, 0.1, 0.3]),
        ("time_stamp,total_power_mW\n0,100\n0.5,100\n1,300\n", [0, 0.5, 1.0], [0.1, 0.1, 0.3]),
    ],
)
def test_logs_as_profilers_write_them(log, text, seconds, watts):
    times, power = read_power_log(log(text))
    assert times - times[0] == pytest.approx(seconds)
    assert power == pytest.approx(watts)


def test_energy_is_the_integral_of_power_over_the_inferences(log):
    result = measure(*read_power_log(log(NVIDIA_SMI)), 11, "gpu", "power.csv")
    assert result.energy_j_per_sample == pytest.approx((15 + 40) / 11)
    assert (result.scope, result.duration_s) == ("all_in", 3)
    dynamic = measure(*read_power_log(log(NVIDIA_SMI)), 11, "gpu", "power.csv", idle_w=10)
    assert dynamic.energy_j_per_sample == pytest.approx((5 + 20) / 11)
    assert dynamic.scope == "dynamic"


def test_a_window_takes_the_load_and_leaves_the_rest(log):
    times, watts = read_power_log(log(LOIHI_BOARD))
    start = clock("2019-03-25_00:22:33.750")
    inside = window(times, watts, start, None)
    assert measure(*inside, 1, "loihi", "log").energy_j_per_sample == pytest.approx(0.055)
    # A load that begins and ends between readings keeps their mean power for as long as it takes.
    assert measure(*inside, 1, "loihi", "log", duration_s=0.6).energy_j_per_sample == pytest.approx(0.066)
    with pytest.raises(BadInput, match="the window contains 1 power reading"):
        window(times, watts, clock("2019-03-25_00:22:34.000"), None)


def test_the_interval_holds_the_mean_of_a_noisy_log():
    rng, times = np.random.default_rng(0), np.arange(2000) * 0.01
    result = measure(times, rng.normal(5, 1, 2000), 100, "gpu", "log")
    assert result.low_j < 5 * 19.99 / 100 < result.high_j
    assert result.high_j / result.low_j < 1.03


def test_a_measurement_survives_its_file(tmp_path):
    result = measure(np.array([0.0, 1.0]), np.array([1.0, 3.0]), 2, "gpu", "log")
    path = tmp_path / "m.json"
    path.write_text(json.dumps(result.to_dict()))
    assert Measurement.load(path) == result
    path.write_text("{}")
    with pytest.raises(BadInput, match="not a measurement"):
        Measurement.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,current\n0,1\n1,1\n", "no column power or"),
        ("time,power\n0,1\n", "1 rows of power"),
        ("time,power\n0,1\n0,1\n", "line 3: times must increase"),
        ("time,power\n0,1\n1,many\n", "line 3: 'many' is not a number"),
        ("time,power\n0,1 kW\n1,1\n", "line 2: '1 kW' is not a number"),
    ],
)
def test_a_wrong_log_is_named_by_line(log, text, message):
    with pytest.raises(BadInput, match=message):
        read_power_log(log(text))


def test_a_load_below_the_noise_is_no_measurement():
    with pytest.raises(BadInput, match="below the noise"):
        measure(np.array([0.0, 1.0]), np.array([1.0, 1.0]), 1, "chip", "log", idle_w=1.1)
    with pytest.raises(BadInput, match="samples is 0"):
        measure(np.array([0.0, 1.0]), np.array([1.0, 1.0]), 0, "chip", "log")


def nvml_works():
    try:
        load_nvml()
    except MissingDependency:
        return False
    return True


@pytest.mark.skipif(nvml_works(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_measured_and_what_is_missing_is_named():
    with pytest.raises(MissingDependency, match=r"nvidia-ml-py|NVML"):
        GpuMeter()


@pytest.mark.skipif(not nvml_works(), reason="there is no GPU")
def test_a_gpu_is_read_at_the_beginning_and_at_the_end():
    with GpuMeter() as meter:
        pass
    times, watts = meter.readings()
    assert len(times) >= 2
    assert watts.min() > 0


# The numbers of a log, and what is said of one that cannot be read.


@pytest.mark.parametrize("header", ["time,power", "t,watts", "seconds,total power", "timestamp,power.draw.instant"])
def test_columns_are_found_under_any_of_their_names(log, header):
    times, watts = read_power_log(log(f"other,{header}\n9,0,3\n9,1,4\n"))
    assert (times.tolist(), watts.tolist()) == ([0, 1], [3, 4])


@pytest.mark.parametrize(
    ("header", "row", "seconds", "watts"),
    [
        ("time (ms),power (mW)", "2000,500", 2, 0.5),
        ("time [us],power [W]", "2000000,0.5", 2, 0.5),
        ("time [ms],power [W]", "2 s,500 mW", 2, 0.5),  # the unit of a number counts before that of its column
        ("time_us,power_w", "2000000,0.5", 2, 0.5),
        ("time_s,power [kW]", "2,0.5", 2, 0.5),  # a unit of the header that is no unit of ours is not used
        ("time,power", "+2.0e0,5E-1", 2, 0.5),
        (" time , power ", " 2 , 0.5 ", 2, 0.5),
    ],
)
def test_units_stand_in_the_header_or_after_the_number(log, header, row, seconds, watts):
    times, power = read_power_log(log(f"{header}\n0,1\n{row}\n"))
    assert (times[1], power[1]) == pytest.approx((seconds, watts))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 rows of power; at least a header and 2 rows are needed"),
        ("time,power\n", "0 rows of power"),
        ("time,power\n,\n\n0,1\n", "1 rows of power"),
        ("time,power\n0,1\n1,nan W\n", "line 3: 'nan W' is not a number with a unit of s, ms, us, W or mW"),
        ("time,power\n0,1\n1\n", "line 3: '' is not a number"),
        ("time,power\n0,1\n1,1e999\n", "line 3: the power is not a finite number"),
        ("time,power\n0,1\n1e999,1\n2,1\n", "line 3: the time is not a finite number"),
        ("time,power\n0,1\n2,1\n1.5,1\n", "line 4: times must increase, found 1.5 s after 2 s"),
        (
            "clock,power\n0,1\n1,1\n",
            "no column time or timestamp or time_stamp or t or seconds in the header ['clock', ",
        ),
    ],
)
def test_a_log_that_cannot_be_read_is_named_with_its_line_and_value(log, text, message):
    path = log(text)
    with pytest.raises(BadInput) as caught:
        read_power_log(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_log_that_is_no_text_is_named(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"time,power\n\xff\xfe,1\n")
    for path in (tmp_path / "x.csv", tmp_path / "none.csv"):
        with pytest.raises(BadInput, match=r"\.csv: "):
            read_power_log(path)


@pytest.mark.parametrize("text", ["2018/09/15 19:48:09.500", "2018-09-15_19:48:09.5", "2018-09-15T19:48:09.500000"])
def test_a_clock_may_be_written_in_several_ways(text):
    assert clock(text) - clock("2018-09-15 19:48:08") == pytest.approx(1.5)
    assert clock("12.5") == 12.5
    with pytest.raises(ValueError, match="'noon' is not a time"):
        clock("noon")


def test_a_window_holds_both_of_its_ends():
    times, watts = np.arange(5.0), np.arange(5.0) * 10
    assert window(times, watts, 1, 3)[0].tolist() == [1, 2, 3]
    assert window(times, watts, None, 1)[1].tolist() == [0, 10]
    assert window(times, watts, None, None)[0].tolist() == times.tolist()
    for end, said in ((0, "1 power reading;"), (-1, "0 power readings;")):
        with pytest.raises(BadInput, match=f"the window contains {said} at least 2 are needed"):
            window(times, watts, None, end)


def test_a_measurement_says_all_that_it_is_of():
    result = measure(np.array([1.0, 2.0, 5.0]), np.array([3.0, 3.0, 3.0]), 4, "chip", "a log", idle_w=1.0)
    assert result.to_dict() == {
        "schema": 2,
        "evidence": "measured",
        "target": "chip",
        "scope": "dynamic",
        "energy_j_per_sample": 2.0,
        "low_j": pytest.approx(2.0),
        "high_j": pytest.approx(2.0),
        "samples": 4,
        "duration_s": 4.0,
        "mean_power_w": 2.0,
        "idle_w": 1.0,
        "source": "a log",
        **dict.fromkeys(("steps", "cores", "sop", "neuron_updates")),
    }
    assert measure(np.array([0.0, 2.0]), np.ones(2), 1, "chip", "log", duration_s=8.0).mean_power_w == 1.0


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_measurement_needs_finite_numbers(number):
    for name in ("idle_w", "duration_s"):
        with pytest.raises(BadInput, match=f"^{name} is {number}; give a finite number$"):
            measure(np.array([0.0, 1.0]), np.ones(2), 1, "chip", "log", **{name: number})
    with pytest.raises(BadInput, match=r"^log: 0 J remain after subtraction of 1 W idle power, below the noise"):
        measure(np.array([0.0, 1.0]), np.ones(2), 1, "chip", "log", idle_w=1.0)
    with pytest.raises(BadInput, match=r"^samples is 0; give the number of inferences that the log covers"):
        measure(np.array([0.0, 1.0]), np.ones(2), 0, "chip", "log")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ([1], "(it holds a list, not an object)"),
        ({"evidence": "estimated"}, "not a measurement (its evidence is not 'measured'); create one with"),
        ({"low_j": 3.0}, "low_j (3) is above high_j (1.5)"),
        ({"samples": 0}, "samples"),
        ({"energy_j_per_sample": 0}, "energy_j_per_sample"),
        ({"duration_s": -1}, "duration_s"),
        ({"scope": "peak"}, "scope"),
        ({"more": 1}, "more"),
    ],
)
def test_a_file_that_is_no_measurement_is_refused_by_field(tmp_path, change, said):
    good = measure(np.array([0.0, 1.0]), np.array([1.0, 2.0]), 1, "gpu", "log").to_dict() | {"low_j": 1, "high_j": 1.5}
    path = tmp_path / "m.json"
    path.write_text(json.dumps(good))
    assert Measurement.load(path).energy_j_per_sample == 1.5
    path.write_text(json.dumps(good | change if isinstance(change, dict) else change))
    with pytest.raises(BadInput) as caught:
        Measurement.load(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "esl-neuro energy import LOG --samples N" in str(caught.value)


@pytest.mark.parametrize(
    ("target", "idle_w", "level"),
    [("v100-pcie", 0.0, "board"), ("loihi2", 0.0, "chip"), ("mine", 0.0, "chip"), ("loihi2", 0.5, "operations")],
)
def test_a_processor_is_measured_as_a_board_and_a_chip_as_a_chip(target, idle_w, level):
    times, watts = np.array([0.0, 1.0, 2.0]), np.full(3, 3.0)
    assert measure(times, watts, 4, target, "a log", idle_w=idle_w).level == level
