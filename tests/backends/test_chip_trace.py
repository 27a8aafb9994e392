"""The recording of a real Loihi 2 that the NIR paper published; ``ESL_NEURO_NIR_PAPER`` is ``NIR/paper`` of a clone."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from chip_trace import CHIP, Recording, compare, from_clone, plain_loop, render, without_clone, write

PAPER = os.environ.get("ESL_NEURO_NIR_PAPER")


def test_without_a_clone_the_simulator_equals_the_plain_loop():
    (found,) = without_clone()["recordings"]
    assert (found["equal_voltages"], found["latency"]) == (1000, 0)
    assert found["equal_spikes"] == found["spikes"] == found["ours"] > 10


def test_a_probe_that_reads_another_value_at_the_spikes_is_reported_with_its_steps(tmp_path):
    given = (np.random.default_rng(1).random(300) < 0.3).astype(float)
    given[-20:] = 0
    ours = plain_loop(given)
    later = Recording(given, np.roll(ours.voltage, 1), np.roll(ours.spike, 1))
    later.voltage[0] = 0
    later.voltage[later.spike] = 128
    write(tmp_path / "chip.csv", later)
    found = compare("chip.csv", Recording.read(tmp_path / "chip.csv"), given)
    assert (found.latency, found.equal_spikes) == (1, found.ours)
    assert found.equal_voltages == 300 - found.ours
    assert [step for step, *_ in found.different] == np.flatnonzero(later.spike).tolist()
    assert all(recorded == 128 and at_spike for _, recorded, _, at_spike in found.different)


def test_a_spike_too_many_is_found(tmp_path):
    given = (np.random.default_rng(2).random(300) < 0.3).astype(float)
    ours = plain_loop(given)
    ours.spike[np.flatnonzero(~ours.spike)[0]] = True
    write(tmp_path / "chip.csv", ours)
    found = compare("chip.csv", Recording.read(tmp_path / "chip.csv"), given)
    assert (found.spikes, found.ours, found.equal_spikes) == (found.ours + 1, found.ours, found.ours)


@pytest.mark.skipif(PAPER is None, reason="set ESL_NEURO_NIR_PAPER to the folder paper of a clone of neuromorphs/NIR")
def test_our_integers_equal_the_chip_but_for_what_its_probe_reads_at_a_spike():
    result = from_clone(Path(str(PAPER)))
    found = {each["file"]: each for each in result["recordings"]}
    chip = found[CHIP]
    assert (chip["spikes"], chip["ours"], chip["equal_spikes"], chip["equal_voltages"]) == (4, 4, 4, 996)
    assert all((recorded, ours, fired) == (128, 0, True) for _, recorded, ours, fired in chip["different"])
    assert found["lif_lava_cpu_fixed.csv"]["equal_voltages"] == 1000
    assert result["compiled"]["equal_spikes"] == 4
    assert "996 of 1,000" in render(result)
