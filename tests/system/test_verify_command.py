"""``esl-neuro verify`` on an export: the files of the folder suffice for the proof."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from esl_neuro.backends.golden import read_trace, write_trace
from system.command_workspace import Workspace

VERIFY = "esl-neuro verify --golden --without-lava"


@pytest.fixture
def space(small_run):
    return Workspace(small_run.parents[1])


def test_an_export_proves_itself_from_its_folder(space, small_run, monkeypatch):
    monkeypatch.setenv("ESL_NEURO_DATA", "nowhere")
    done = space.run(VERIFY)
    assert done.returncode == 0, done.stderr
    assert "every integer equal" in done.stdout
    samples, steps, neurons = 4, 4, 16 + 10
    assert f"golden trace in integer: {3 * samples * steps * neurons:,} spikes, currents and" in done.stdout
    assert (small_run / "loihi2" / "golden.h5").is_file()
    assert ("No independent NIR reader" in done.stdout) != ("norse" in done.stdout)


def test_a_golden_trace_that_was_changed_is_found(space, small_run):
    path = small_run / "loihi2" / "golden.h5"
    trace = read_trace(path)
    v = {name: array.copy() for name, array in trace.v.items()}
    v["lif2"][1, 2, 3] += 64
    write_trace(path, replace(trace, v=v), 1e-4)
    done = space.run(VERIFY)
    assert done.returncode == 1
    assert "integer diverges from the golden trace in layer 'lif2', neuron 3, step 2 of sample 1 (v)" in done.stderr


def test_an_export_with_searched_scales_compiles_to_the_same_program_again(space):
    done = space.run("esl-neuro export --calibrate 20 --thresholds folded --max-loss 100 --json")
    assert done.returncode == 0, done.stderr
    done = space.run(VERIFY)
    assert done.returncode == 0, done.stderr


SINGLE_SPIKES = """esl-neuro train mlp-fashion-temporal --set data.name=digits --set network.notation=64-32-10
    --set training.epochs=2 --set sparsity.update_every=5"""


def test_a_single_spike_network_is_verified_in_the_same_way(tmp_path):
    space = Workspace(tmp_path)
    done = space.run(SINGLE_SPIKES.replace("\n", " "))
    assert done.returncode == 0, done.stderr
    done = space.run("esl-neuro export --dt 2e-4 --max-loss 3 --json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["input_steps"] == [0, 90]  # 10 ms ln 6
    trace = read_trace(Path(tmp_path / document["folder"]) / "golden.h5")
    assert trace.steps == 576  # 10 ms ln 1e5
    assert all(fired.sum(axis=1).max() == 1 for fired in trace.spikes.values())
    done = space.run(VERIFY)
    assert done.returncode == 0, done.stderr
