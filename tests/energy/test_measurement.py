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
