"""Checkpoints: exact, without pickle, and refused when damaged."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.sparsity import MaskedAdam, MaskedAdamW
from esl_neuro.training.checkpoint import Checkpoint, load_optimizer_tensors, optimizer_tensors, refuse_misfit

TENSORS = {
    "network/fc1.weight": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
    "optimizer/0/exp_avg": torch.rand(3, 4, generator=torch.Generator().manual_seed(1)).t(),
    "rewirer/fc1/mask": torch.tensor([[True, False]]),
    "rewirer/iteration": torch.tensor(7),
}
PROGRESS = {"epoch": 3, "best_accuracy": 0.1 + 0.2, "sums": {"loss": 1e-17, "correct": 5}}


@pytest.fixture
def folder(tmp_path):
    Checkpoint(TENSORS, PROGRESS).save(tmp_path, "last")
    return tmp_path


def test_everything_reads_back_exactly(folder):
    again = Checkpoint.load(folder, "last")
    assert again.progress == PROGRESS
    assert again.tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert torch.equal(again.tensors[name], value)
        assert again.tensors[name].dtype == value.dtype


def test_parts_have_their_own_names():
    checkpoint = Checkpoint(TENSORS, PROGRESS)
    assert set(checkpoint.part("network")) == {"fc1.weight"}
    assert set(checkpoint.part("optimizer")) == {"0/exp_avg"}
    assert set(checkpoint.part("rewirer")) == {"fc1/mask", "iteration"}
    assert checkpoint.part("net") == {}


def test_checkpoint_is_two_plain_files(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["last.json", "last.safetensors"]
    assert json.loads((folder / "last.json").read_text()) == PROGRESS


def test_tensors_and_progress_cannot_come_from_different_moments(folder):
    (folder / "last.json").write_text('{"epoch": 99}')
    assert Checkpoint.load(folder, "last").progress == PROGRESS


def test_interrupted_write_leaves_the_old_checkpoint(folder):
    (folder / "last.safetensors.tmp").write_bytes(b"half a file")
    assert Checkpoint.load(folder, "last").progress == PROGRESS
    Checkpoint(TENSORS, {"epoch": 4}).save(folder, "last")
    assert Checkpoint.load(folder, "last").progress == {"epoch": 4}
    assert not list(folder.glob("*.tmp"))


def test_names_do_not_disturb_each_other(folder):
    Checkpoint(TENSORS, {"epoch": 1}).save(folder, "best")
    assert Checkpoint.load(folder, "last").progress == PROGRESS
    assert Checkpoint.load(folder, "best").progress == {"epoch": 1}


def test_missing_checkpoint_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"last\.safetensors: no such checkpoint"):
        Checkpoint.load(tmp_path, "last")


@pytest.mark.parametrize("keep", [0, 4, 60, -1])
def test_truncated_checkpoint_is_refused_in_one_line(folder, keep):
    path = folder / "last.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadInput, match="the checkpoint is damaged") as caught:
        Checkpoint.load(folder, "last")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"progress": "{"}])
def test_tensor_file_of_somebody_else_is_refused(tmp_path, metadata):
    save_file({"x": torch.zeros(1)}, str(tmp_path / "last.safetensors"), metadata=metadata)
    with pytest.raises(BadInput, match="damaged"):
        Checkpoint.load(tmp_path, "last")


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, lr=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.SGD(p, lr=0.1),
        MaskedAdam,
        MaskedAdamW,
    ],
    ids=["Adam", "AdamW", "SGD", "plain SGD", "MaskedAdam", "MaskedAdamW"],
)
def test_optimiser_goes_on_bit_for_bit(make, tmp_path):
    def steps(model, optimizer, gradients):
        for gradient in gradients:
            for parameter in model.parameters():
                parameter.grad = gradient[: parameter.numel()].reshape(parameter.shape).clone()
            optimizer.step()

    gradients = torch.randn(10, 12, generator=torch.Generator().manual_seed(0))
    model = nn.Linear(4, 3)
    optimizer = make(model.parameters())
    steps(model, optimizer, gradients[:6])
    tensors = {f"network/{key}": value for key, value in model.state_dict().items()}
    tensors |= {f"optimizer/{key}": value for key, value in optimizer_tensors(optimizer).items()}
    Checkpoint(tensors, {}).save(tmp_path, "last")
    steps(model, optimizer, gradients[6:])

    other = nn.Linear(4, 3)
    again = make(other.parameters())
    checkpoint = Checkpoint.load(tmp_path, "last")
    other.load_state_dict(checkpoint.part("network"))
    load_optimizer_tensors(again, checkpoint.part("optimizer"))
    steps(other, again, gradients[6:])
    assert torch.equal(other.weight, model.weight)
    assert torch.equal(other.bias, model.bias)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("0/exp_avg", torch.ones(4, 3), r"the optimiser state 0/exp_avg has shape \(4, 3\)"),
        ("0/exp_avg", torch.ones(13), r"the optimiser state 0/exp_avg has shape \(13,\)"),
        ("2/exp_avg", torch.ones(3), r"the optimiser state 2/exp_avg has shape \(3,\)"),
        ("-1/exp_avg", torch.ones(3), r"the optimiser state -1/exp_avg has shape \(3,\)"),
        ("0/exp_avg", torch.ones(()), r"the optimiser state 0/exp_avg has shape \(\)"),
        ("0/step", torch.zeros(()), "the optimiser state 0/step is 0, allowed: 1 to"),
        ("0/step", torch.tensor(2**63 - 1), "the optimiser state 0/step is 9.2.*, allowed: 1 to"),
        ("0/momentum_buffer", torch.ones(3, 4), "0 has exp_avg, exp_avg_sq, momentum_buffer, step; expected exp_avg,"),
        ("0/exp_avg", None, "the optimiser state 0 has exp_avg_sq, step; expected exp_avg, exp_avg_sq, step"),
    ],
)
def test_moments_of_another_network_are_refused(name, value, message):
    """Compiled loops run over them together with the weights."""
    model = nn.Linear(4, 3)
    optimizer = MaskedAdam(model.parameters())
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    tensors = {**optimizer_tensors(optimizer), name: value}
    with pytest.raises(ValueError, match=message):
        load_optimizer_tensors(optimizer, {name: value for name, value in tensors.items() if value is not None})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_moments_that_are_not_finite_are_refused(value):
    model = nn.Linear(4, 3)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    tensors = optimizer_tensors(optimizer)
    tensors["0/exp_avg"][1, 2] = value
    with pytest.raises(ValueError, match=r"the optimiser state 0/exp_avg has values that are not finite numbers"):
        load_optimizer_tensors(optimizer, tensors)


def test_tensors_that_are_not_finite_do_not_fit():
    with pytest.raises(ValueError, match="b has values that are not finite numbers"):
        refuse_misfit(
            {"a": torch.ones(2), "b": torch.tensor([1.0, torch.nan])}, {"a": torch.ones(2), "b": torch.ones(2)}
        )


def test_moments_that_are_missing_are_refused():
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with pytest.raises(ValueError, match="the optimiser state has 0 parameters, expected 2"):
        load_optimizer_tensors(optimizer, {})
