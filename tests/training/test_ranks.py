"""Several processes train one run: what they do is what one process does, and a killed one loses nothing."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.pipeline.training import resume_training, train
from esl_neuro.recipes import load_recipe
from esl_neuro.training.checkpoint import Checkpoint
from esl_neuro.training.ranks import ALONE, Ranks, digest
from esl_neuro.training.run_folder import RunFolder, folder_of_launch
from esl_neuro.training.whole_batch import Part, parts_of, refuse_small_batches, whole_batch
from training.short_runs import nothing
from training.two_processes import DISTURBED, EXACT, FAILURES, JOINT, RUNS, changes

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    """Folder of the runs that two processes trained."""
    folder = tmp_path_factory.mktemp("two")
    environment = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, str(TESTS / "training" / "two_processes.py"), str(folder)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def run_of(folder, name):
    (path,) = (folder / name).iterdir()  # a restarted run has the same folder
    return RunFolder(path)


def assert_equal_runs(one, other, *, same_processes=False):
    """Weights, masks, moments, metrics and the history of the connections, all with ``==``."""
    varying = {"seconds": 0, "memory": None}
    if not same_processes:  # each process updates all weights, which is counted
        varying |= {"work": None, "cost": None, "processes": None}
    for name in ("last", "best"):
        tensors, others = (load_file(str(folder.path / f"{name}.safetensors")) for folder in (one, other))
        assert tensors.keys() == others.keys()
        for key, value in tensors.items():
            assert torch.equal(value, others[key]), (name, key)
        progress = [Checkpoint.load(folder.path, name).progress for folder in (one, other)]
        assert progress[0] | varying == progress[1] | varying
    for history in ("metrics", "connections", "structure"):
        texts = [getattr(folder, history) for folder in (one, other)]
        assert [path.exists() for path in texts] in ([True, True], [False, False])
        assert not texts[0].exists() or texts[0].read_text() == texts[1].read_text()
    results = [json.loads(folder.result.read_text()) | varying for folder in (one, other)]
    assert results[0] == results[1]


@pytest.mark.parametrize("name", EXACT)
def test_two_processes_equal_one_that_computes_the_halves_of_a_batch_one_after_the_other(of_two, tmp_path, name):
    run = train("mlp-digits", changes=changes(name, "training.accumulation=2"), runs=tmp_path)
    assert_equal_runs(run_of(of_two, name), run.files)


LARGEST = 2e-5
"""Difference of two weights, relative to the largest of their tensor, after 14 steps; measured: 9e-7."""


@pytest.mark.parametrize("name", [*JOINT, "masked", "gradients of sparse storage"])
def test_two_processes_equal_one_with_whole_batches_up_to_rounding(of_two, tmp_path, name):
    run = train("mlp-digits", changes=changes(name), runs=tmp_path)
    one, two = (load_file(str(folder.path / "last.safetensors")) for folder in (run.files, run_of(of_two, name)))
    assert one.keys() == two.keys()
    for key, value in one.items():
        if value.is_floating_point():
            assert float((value - two[key]).abs().max()) <= LARGEST * float(value.abs().max()), key
        else:
            assert torch.equal(value, two[key]), key
    epochs = [[json.loads(line) for line in folder.metrics.read_text().splitlines()] for folder in
              (run.files, run_of(of_two, name))]  # fmt: skip
    for mine, other in zip(*epochs, strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert mine["births"] == other["births"]


def test_a_run_with_killed_and_interrupted_processes_ends_as_if_nothing_had_happened(of_two):
    assert_equal_runs(run_of(of_two, "disturbed"), run_of(of_two, DISTURBED), same_processes=True)


def test_the_first_process_alone_writes_and_the_number_of_processes_is_recorded(of_two):
    for name in RUNS:
        folder = run_of(of_two, name).path
        names = {path.name for path in folder.iterdir()}
        assert names - {"structure.jsonl"} == {
            "best.json", "best.safetensors", "config.toml", "connections.jsonl", "environment.json", "last.json",
            "last.safetensors", "metrics.jsonl", "result.json",
        }  # fmt: skip
        assert json.loads((folder / "environment.json").read_text())["processes_of_run"] == 2
        assert json.loads((folder / "result.json").read_text())["memory"]["processes"] == 2


@pytest.mark.parametrize(
    ("name", "kind", "message", "code"),
    [
        ("too small", "BadInput", "the smallest batch of an epoch has 1 of 303 samples, but 2 processes x", 2),
        ("diverged", "CheckFailed", "loss is nan in batch 1 of epoch 1, training has diverged", 1),
        ("other weights", "CheckFailed", "processes 0 and 1 of this run differ in weights, connections or moments", 1),
        ("one cannot begin", "BadInput", "process 1: the disk of the second machine is not there", 2),
    ],
)
def test_what_fails_in_one_process_fails_in_all_and_the_first_tells_it(of_two, name, kind, message, code):
    first, second = (json.loads((of_two / f"{rank} {FAILURES}").read_text()) for rank in (0, 1))
    assert first[name][0] == kind
    assert message in first[name][1]
    assert second[name][0] == "ToldElsewhere"
    assert first[name][2] == second[name][2] == code


def test_another_number_of_processes_may_continue_a_run_and_is_told(of_two, tmp_path):
    path = run_of(of_two, "masked").path
    copy = tmp_path / path.name
    copy.mkdir()
    for file in path.iterdir():
        if file.name != "result.json":
            (copy / file.name).write_bytes(file.read_bytes())
    trainer = resume_training(copy)
    assert trainer.notes == (
        f"{copy}: the number of processes is 1, it was 2 so far; sums have another order, so the last bits may differ",
    )
    trainer.run(nothing, nothing)
    assert (copy / "result.json").exists()


# Parts of a batch.


@settings(max_examples=30)
@given(st.integers(1, 300), st.integers(1, 5), st.integers(1, 4))
def test_the_parts_of_all_processes_are_the_batch(samples, processes, accumulation):
    parts = [part for rank in range(processes) for part in parts_of(samples, Ranks(rank, processes), accumulation)]
    assert [place for part in parts for place in range(part.first, part.last)] == list(range(samples))
    assert len(parts) == processes * accumulation
    sizes = {part.last - part.first for part in parts}
    assert max(sizes) - min(sizes) <= 1
    assert math.isclose(sum(part.share for part in parts), 1)


def test_one_part_is_the_whole_batch_exactly():
    assert parts_of(123, ALONE, 1) == [Part(0, 123, 123)]
    assert Part(0, 123, 123).share == 1


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 3), st.integers(1, 3))
def test_an_epoch_whose_batches_have_no_empty_part_is_accepted_and_no_other(samples, batch, processes, accumulation):
    sizes = [min(batch, samples - first) for first in range(0, samples, batch)]
    ranks = [Ranks(rank, processes) for rank in range(processes)]
    empty = any(part.first == part.last for size in sizes for rank in ranks for part in
                parts_of(size, rank, accumulation))  # fmt: skip
    if empty:
        with pytest.raises(BadInput, match=r"training\.batch: the smallest batch"):
            refuse_small_batches(samples, batch, ranks[0], accumulation)
    else:
        refuse_small_batches(samples, batch, ranks[0], accumulation)


def samples_of(signal, samples):
    """Some samples of a signal, in the same order of memory; as in a trainer, strides of one sample mean nothing."""
    order = sorted(range(signal.dim()), key=signal.stride, reverse=True)
    some = signal[:, samples].transpose(0, 1).contiguous().transpose(0, 1)
    return some.permute(order).contiguous().permute([order.index(axis) for axis in range(signal.dim())])


def halves(network, signal, seed=3):
    parts = [part for rank in (0, 1) for part in parts_of(signal.shape[1], Ranks(rank, 2), 1)]
    outputs = []
    for part in parts:
        with whole_batch(part, ALONE, seed, torch.device("cpu")):
            outputs.append(network(samples_of(signal, part.samples)))
    return torch.cat(outputs, 1)


def whole(network, signal, seed=3):
    with whole_batch(Part(0, signal.shape[1], signal.shape[1]), ALONE, seed, torch.device("cpu")):
        return network(signal)


@pytest.mark.parametrize("shape", [(4, 7, 5), (2, 5, 3, 4, 4), (1, 9), (1, 3, 4), (4, 3, 5), (4, 2, 5, 1, 2)])
def test_dropout_of_the_parts_is_that_of_the_batch(shape):
    network, signal = nn.Sequential(nn.Dropout(0.3), nn.Dropout(0.5)), torch.randn(shape)
    assert torch.equal(halves(network, signal), whole(network, signal))
    assert not torch.equal(halves(network, signal), halves(network, signal, seed=4))


def test_dropout_of_a_signal_in_another_order_of_memory_is_that_of_the_batch():
    for samples in (2, 3, 9):
        signal = torch.randn(5, 4, samples).permute(1, 2, 0)
        assert torch.equal(halves(nn.Dropout(0.4), signal), whole(nn.Dropout(0.4), signal))


def test_dropout_of_a_signal_that_stays_the_same_is_that_of_the_batch(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "samples_of", lambda signal, samples: signal[:, samples])
    for samples in (2, 3, 9):
        constant = torch.randn(1, samples, 5).expand(4, samples, 5)
        assert torch.equal(halves(nn.Dropout(0.4), constant), whole(nn.Dropout(0.4), constant))


class Noise(nn.Module):
    def forward(self, signal):
        return signal + torch.randn_like(signal)


@pytest.mark.parametrize("network", [Noise(), nn.AlphaDropout(0.2), nn.Dropout2d(0.2)])
def test_a_network_that_draws_other_random_numbers_is_refused_where_a_batch_is_divided(network):
    signal = torch.randn(4, 6, 3, 3)
    whole(network, signal)
    with pytest.raises(BadInput, match="draws random numbers by other functions"):
        halves(network, signal)


def test_dropout_across_the_samples_is_refused():
    with pytest.raises(BadInput, match=r"dropout of a signal of shape \(12, 7\) cannot be divided"):
        halves(nn.Sequential(nn.Flatten(0, 1), nn.Dropout(0.2)), torch.randn(4, 6, 7))


def test_accumulation_equals_the_larger_batch_up_to_rounding(tmp_path):
    one, three = (
        train("mlp-digits", changes=changes("masked", f"training.accumulation={parts}"), runs=tmp_path)
        for parts in (1, 3)
    )
    tensors, others = (load_file(str(run.folder / "last.safetensors")) for run in (one, three))
    for key, value in tensors.items():
        if value.is_floating_point():
            assert float((value - others[key]).abs().max()) <= LARGEST * float(value.abs().max()), key
        else:
            assert torch.equal(value, others[key]), key


def test_accumulation_is_refused_with_an_energy_budget_and_where_a_part_would_be_empty(tmp_path):
    with pytest.raises(BadInput, match=r"training.accumulation: 2 is not possible with budget.energy"):
        train("mlp-digits", changes=changes("energy", "training.accumulation=2"), runs=tmp_path)
    with pytest.raises(BadInput, match=r"1 processes x training\.accumulation 4 divide it into 4 parts"):
        train("mlp-digits", changes=changes("masked", "training.accumulation=4"), runs=tmp_path)
    assert not list(tmp_path.iterdir())


# One process.


def test_a_process_alone_says_nothing_to_others():
    values = torch.arange(3.0)
    assert ALONE.total(values) is values
    assert ALONE.joint_total(values) is values
    assert ALONE.texts("a ü") == ["a ü"]
    assert ALONE.texts("") == [""]
    assert ALONE.any(True)
    assert not ALONE.any(False)
    assert ALONE.on_first(lambda: 3) == 3


def test_a_digest_is_of_every_bit_and_every_name():
    state = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(True)}
    assert digest([state]) == digest([{"b": torch.tensor(True), "a": torch.tensor([1.0, 2.0])}])
    assert digest([state]) != digest([state | {"a": torch.tensor([1.0, 2.0000002])}])
    assert digest([state]) != digest([state | {"b": torch.tensor(False)}])
    assert digest([{"a": torch.zeros(2)}]) != digest([{"c": torch.zeros(2)}])


# What torchrun tells.


def test_a_restarted_launch_finds_its_own_run_of_the_recipe_and_seed(tmp_path, monkeypatch):
    recipe = load_recipe("mlp-digits")
    for number, (name, seed) in enumerate([("mine", 0), ("mine", 1), ("another", 0)], start=1):
        folder = tmp_path / f"mlp-digits-00{number}"
        folder.mkdir()
        seeded = load_recipe("mlp-digits", (f"training.seed={seed}",))
        RunFolder(folder).begin_again(seeded)
        stated = json.loads((folder / "environment.json").read_text()) | {"launch": name}
        (folder / "environment.json").write_text(json.dumps(stated))
    assert folder_of_launch(tmp_path, recipe) is None
    told = {"TORCHELASTIC_RUN_ID": "mine", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert folder_of_launch(tmp_path, recipe) is None
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert folder_of_launch(tmp_path, recipe).path.name == "mlp-digits-001"
    assert folder_of_launch(tmp_path, load_recipe("mlp-digits", ("training.seed=1",))).path.name == "mlp-digits-002"
    assert folder_of_launch(tmp_path, load_recipe("mlp-digits", ("training.seed=2",))) is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "third")
    assert folder_of_launch(tmp_path, recipe) is None
