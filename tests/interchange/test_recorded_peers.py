"""Networks that snnTorch and sinabs exported, with the spikes that they computed themselves (``record_peers.py``).

Their files say nothing about resets, so the reset is stated. Inputs and weights are random, so no potential is a tie.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from esl_neuro.compiler.check import check_graph
from esl_neuro.compiler.float_groups import run_groups
from esl_neuro.compiler.frontend import read_network
from esl_neuro.interchange import from_nir
from esl_neuro.nirgraph.files import read_nir
from esl_neuro.nirgraph.simulation import simulate

RECORDED = Path(__file__).parent / "recorded"
DT = {"snntorch": 1e-4, "sinabs": 1.0}
RIGHT = {
    "snntorch_default": "subtract_next_step",
    "snntorch_synaptic": "subtract_next_step",
    "snntorch_recurrent": "subtract_next_step",
    "snntorch_at_once": "subtract",
    "snntorch_to_zero": "zero",
    "sinabs_single_spikes": "subtract",
}


def recorded(name):
    with np.load(RECORDED / f"{name}.npz") as arrays:
        return read_nir(RECORDED / f"{name}.nir"), DT[name.partition("_")[0]], arrays["inputs"], arrays["spikes"]


@pytest.mark.parametrize("name", RIGHT)
def test_every_spike_is_equal_with_the_reset_that_the_program_uses(name):
    graph, dt_s, inputs, spikes = recorded(name)
    assert spikes.sum() > 50
    assert np.array_equal(simulate(graph, inputs, dt_s, RIGHT[name]).outputs, spikes)
    groups = run_groups(read_network(graph, dt_s, RIGHT[name]), inputs)
    assert np.array_equal(list(groups.spikes.values())[-1], spikes)
    if name != "snntorch_recurrent":  # from_nir has no recurrent layers with a bias
        network = from_nir(graph, dt_s, reset=RIGHT[name])
        with torch.no_grad():
            found = network(torch.from_numpy(inputs).float().swapaxes(0, 1)).swapaxes(0, 1).numpy()
        assert np.array_equal(found, spikes)
    if RIGHT[name] != "zero":
        assert not np.array_equal(simulate(graph, inputs, dt_s, "zero").outputs, spikes)


@pytest.mark.parametrize("name", [*RIGHT, "sinabs_leaky", "sinabs_default"])
def test_a_check_warns_that_the_file_does_not_say_and_not_if_it_is_stated(name):
    graph, dt_s, _, _ = recorded(name)
    assert [each.kind for each in check_graph(graph, "loihi2", dt_s=dt_s).findings].count("reset-unknown") == 1
    for reset in ("zero", "subtract"):
        assert "reset-unknown" not in {each.kind for each in check_graph(graph, "loihi2", None, dt_s, reset).findings}


def test_sinabs_decays_by_an_exponential_and_does_not_scale_its_input():
    """So its LIF is another neuron than the LIF node in its file; with the parameters of forward Euler it is equal."""
    graph, dt_s, inputs, spikes = recorded("sinabs_leaky")
    assert not np.array_equal(simulate(graph, inputs, dt_s, "subtract").outputs, spikes)
    for node in graph.nodes.values():
        if hasattr(node, "tau"):
            node.tau = 1 / -np.expm1(-1 / node.tau.astype(float))
            node.r = node.tau
    assert np.array_equal(simulate(graph, inputs, dt_s, "subtract").outputs, spikes)


def test_sinabs_sends_several_spikes_in_a_step_unless_made_otherwise():
    _, _, _, spikes = recorded("sinabs_default")
    assert spikes.max() > 1
