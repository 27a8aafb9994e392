"""Members that decide together: the mean of their outputs, in training, in the graph and in the integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import esl_neuro as esl
from esl_neuro.energy import count
from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target
from esl_neuro.interchange import to_nir
from esl_neuro.snn import build_layers, observe, weighted_layers
from esl_neuro.snn.integer_network import QuantisedNetwork
from esl_neuro.snn.layers import Members
from esl_neuro.snn.neurons import lif_per_channel
from esl_neuro.snn.notation import AvgPool, Conv, Dense, Voting, parse_layers
from esl_neuro.snn.notation import Members as Voters


def network(notation="6-(5-3)x3", shape=(6,), *, spiking=True, seed=0):
    torch.manual_seed(seed)
    built = build_layers(notation, shape, lif_per_channel(threshold=0.2), bias=False, spiking_output=spiking)
    return built.eval()


def spikes(steps=8, batch=4, shape=(6,), seed=1):
    return (torch.rand(steps, batch, *shape, generator=torch.Generator().manual_seed(seed)) < 0.5).float()


@pytest.mark.parametrize(
    ("notation", "tokens"),
    [
        ("6-(5-3)x2", (Dense(6), Voters(((Dense(5), Dense(3)),) * 2))),
        ("(8C3-AP2-3+3)", (Voters(((Conv(8, 3, 1), AvgPool(2), Dense(3)), (Dense(3),))),)),
        ("6-4-(30-V10+3)x2", (Dense(6), Dense(4), Voters(((Dense(30), Voting(10)), (Dense(3),)) * 2))),
    ],
)
def test_notation_of_members(notation, tokens):
    assert parse_layers(notation) == tokens


@pytest.mark.parametrize(
    ("notation", "message"),
    [
        ("6-(5-3)", r"'\(5-3\)' of '6-\(5-3\)' is one member"),
        ("6-(5-3)x1", "is one member"),
        ("6-(5-3)x0", r"'\(5-3\)x0' of .* cannot be read"),
        ("6-()x2", "'' of .* cannot be read; allowed: .* members that vote"),
        ("6-(5-3)x2-3", "cannot be read"),
        ("6-((3)x2-3)x2", "cannot be read"),
        ("6-(5-3+)", "'' of .* cannot be read"),
    ],
)
def test_what_is_no_vote_is_refused(notation, message):
    with pytest.raises(BadInput, match=message):
        parse_layers(notation)


def test_members_need_equally_many_outputs():
    with pytest.raises(BadInput, match=r"Members of '6-\(5-3\+4\)' does not fit: .* shapes \[\(3,\), \(4,\)\]"):
        network("6-(5-3+4)")
    with pytest.raises(BadInput, match="one output per class"):
        network("(2C3)x2", (1, 4, 4))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), spiking=st.booleans(), members=st.integers(2, 4))
def test_the_class_is_that_of_the_most_votes(seed, spiking, members):
    """Brute force: run every member alone, and add its spikes (or sums) over members and steps."""
    net = network(f"6-7-(5-3)x{members}", spiking=spiking, seed=seed)
    inputs = spikes(seed=seed)
    with torch.no_grad():
        hidden = net[:-1](inputs)
        alone = [member(hidden) for member in net.members.children()]
        activity = observe(net, inputs)
    assert len(alone) == members
    torch.testing.assert_close(activity.outputs, torch.stack(alone).mean(0))
    votes = torch.stack(alone).sum((0, 1))
    for sample, decided in enumerate(activity.predictions()):
        assert votes[sample, decided] >= votes[sample].max() - 1e-5


def test_members_differ_in_their_weights_and_all_learn():
    net = network().train()
    first, second, _ = (member.fc1.weight for member in net.members.children())
    assert not torch.equal(first, second)
    assert list(weighted_layers(net)) == [f"members.member{k}.fc{i}" for k in (1, 2, 3) for i in (1, 2)]
    net(spikes()).square().sum().backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in weighted_layers(net).values())


@pytest.mark.parametrize("spiking", [True, False])
@pytest.mark.parametrize(("notation", "shape"), [("6-(5-3)x3", (6,)), ("(2C3-AP2-3+4-3)", (1, 4, 4))])
def test_the_chip_decides_as_the_network_does(notation, shape, spiking):
    """Weights on a grid that the chip holds exactly: spikes are equal, and so are the votes."""
    net = network(notation, shape, spiking=spiking)
    with torch.no_grad():
        for layer in weighted_layers(net).values():
            layer.weight.copy_((layer.weight * 16).round() / 16)
    inputs = spikes(shape=shape, batch=12)
    samples = inputs.transpose(0, 1).numpy().astype(np.uint8)
    chip = esl.compile(to_nir(net, 8, shape=shape), "loihi2")
    result = chip.run(samples)
    with torch.no_grad():
        activity = observe(net, inputs)
    for name, fired in activity.spikes.items():
        ours = result.trace.spikes[name.replace(".", "_")]
        moved = (ours != fired.transpose(0, 1).reshape(ours.shape).numpy()).mean()
        assert moved <= 0.02, name  # thresholds are rounded
    votes = activity.outputs.sum(0)
    picked = votes.gather(1, torch.from_numpy(result.predictions.astype(np.int64))[:, None])[:, 0]
    assert (picked >= votes.max(1).values - 0.35).all()  # a moved spike is one vote of three at most


def test_operations_of_members_are_counted_like_any():
    """The members' operations are those of each member alone, and the votes are operations too."""
    net = network("6-(5-3)x2", spiking=True)
    samples = spikes(batch=12).transpose(0, 1).numpy().astype(np.uint8)
    chip = esl.compile(to_nir(net, 8), "loihi2")
    trace = chip.run(samples).trace
    counts = count(chip.program, trace)
    by_hand = 0
    for connection in chip.program.connections:
        sent = samples if connection.source == "input" else trace.spikes[connection.source]
        fan_out = np.count_nonzero(connection.matrix.toarray(), axis=0)
        by_hand += int((sent.reshape(-1, fan_out.size).astype(np.int64) @ fan_out).sum())
    assert sum(layer.sop_effective for layer in counts.layers) == by_hand


def test_training_on_integers_refuses_members_by_name():
    arithmetic = load_target("loihi2").arithmetic
    with pytest.raises(BadInput, match="'members'"):
        QuantisedNetwork(network(), arithmetic)


def test_the_mean_is_that_of_its_definition():
    doubled = torch.nn.Linear(3, 2, bias=False)
    module = Members([doubled, doubled])
    signal = torch.rand(4, 2, 3)
    torch.testing.assert_close(module(signal), doubled(signal))
