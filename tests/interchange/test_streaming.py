"""What a streaming rollout is on the chip: connections without any delay of their own, and the trained spikes."""

from __future__ import annotations

from dataclasses import replace

import nir
import numpy as np
import pytest
import torch
from torch import nn

from esl_neuro.backends.integer import run_integer
from esl_neuro.backends.lava import run_lava
from esl_neuro.backends.lava_session import lava_installed
from esl_neuro.compiler.compile import compile_graph
from esl_neuro.compiler.timing import timing
from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target
from esl_neuro.interchange import to_nir
from esl_neuro.interchange.record import record
from esl_neuro.nirgraph.kernel import Kernel
from esl_neuro.snn import observe
from esl_neuro.snn.layers import Concatenate, Delay, Linear
from esl_neuro.snn.neurons import LIF
from interchange.networks import named, on_grid, random_spikes, spikes_of

STEPS = 6


def compiled(name, seed=3):
    network, shape = named(name)
    graph = to_nir(on_grid(network, seed), STEPS, shape=shape)
    inputs = random_spikes(shape)
    program = compile_graph(graph, load_target("loihi2"), STEPS).program
    lines = inputs.numpy().astype(np.int32).reshape(*inputs.shape[:2], -1).swapaxes(0, 1)
    return network, graph, program, inputs, lines


@pytest.mark.parametrize("name", ["dense blocks, streaming", "residual, streaming", "streaming chain"])
def test_the_chip_has_the_trained_delays_by_itself(name):
    _, _, program, _, _ = compiled(name)
    schedule = timing(program)
    assert all(connection.delay == (connection.source != "input") for connection in program.connections)
    assert set(schedule.hold) == {0}
    assert set(schedule.latency.values()) == {0, 1}


def test_aligned_paths_of_the_same_network_wait_for_each_other():
    _, _, program, _, _ = compiled("dense blocks")
    assert max(timing(program).hold) == 2
    assert not any(connection.delay for connection in program.connections)


def moved(program, lines, expected):
    """Spikes of integers and floats that differ, as a share of the spikes."""
    found = run_integer(program, lines).spikes
    differing = sum(np.count_nonzero(found[name].swapaxes(0, 1).reshape(s.shape) != s) for name, s in expected.items())
    return differing / sum(np.count_nonzero(spikes) for spikes in expected.values())


@pytest.mark.parametrize("name", ["dense blocks, streaming", "residual, streaming", "streaming chain"])
def test_integers_differ_from_the_float_network_by_rounding_alone(name):
    network, _, program, inputs, lines = compiled(name)
    expected, _ = spikes_of(network, inputs)
    assert all(0 < spikes.mean() < 1 for spikes in expected.values())
    assert moved(program, lines, expected) < 0.02
    aligned = replace(program, connections=tuple(replace(each, delay=0) for each in program.connections))
    assert moved(aligned, lines, expected) > 0.2


@pytest.mark.skipif(not lava_installed(), reason="lava-nc is not installed")
@pytest.mark.lava
def test_lava_fires_as_the_integer_simulator_does():
    _, _, program, _, lines = compiled("dense blocks, streaming")
    ours, theirs = run_integer(program, lines), run_lava(program, lines)
    assert all(spikes.any() for name, spikes in ours.spikes.items() if name != "readout")
    assert all(np.array_equal(spikes, theirs.spikes[name]) for name, spikes in ours.spikes.items())


def test_a_concatenation_is_a_sum_of_convolutions_and_stays_a_kernel():
    _, graph, program, _, _ = compiled("dense blocks")
    placing = graph.nodes["dense1_append_part2"]
    assert isinstance(placing, nir.Conv2d)
    assert placing.weight[:, :, 0, 0].tolist() == np.eye(7)[:, 4:].tolist()
    weights = {(each.source, each.target): each.weights for each in program.connections}
    assert isinstance(weights["dense1_lif", "dense2_lif"], Kernel)
    assert weights["dense1_lif", "dense2_lif"].weights.shape == (3, 3, 3, 3)
    assert isinstance(weights["lif1", "lif2"], Kernel)


def test_a_delay_of_a_bias_is_refused():
    network = nn.Sequential(Linear(3, 2), Delay(), LIF(2))
    with pytest.raises(
        BadInput, match=r"'1' \(Delay\): delays the bias of '0', which in NIR is present from the first"
    ):
        to_nir(network, 4)
    network[0].bias = None
    assert isinstance(to_nir(network, 4).nodes["1"], nir.Delay)


def test_a_concatenation_without_height_and_width_is_refused():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2, self.both = Linear(3, 2), Linear(3, 2), Concatenate()

        def forward(self, signal):
            return self.both(self.fc1(signal), self.fc2(signal))

    with pytest.raises(BadInput, match=r"'both' \(Concatenate\): signals of shape \(4,\) have no channels"):
        to_nir(Both(), 4)


def test_operations_of_a_dense_block_are_counted():
    network, shape = named("dense blocks, streaming")
    on_grid(network, 3)
    inputs = random_spikes(shape)
    layers = {layer.name: layer for layer in record(network, inputs)}
    assert {"conv1", "dense1.conv", "dense2.conv", "conv2", "dense3.conv", "fc1", "fc2"} == set(layers)
    with torch.no_grad():
        spikes = observe(network, inputs).spikes
    arriving = Delay()(spikes["lif1"]).count_nonzero() + Delay()(spikes["dense1.lif"]).count_nonzero()
    assert layers["dense2.conv"].arriving.sum() == arriving
