"""The network of exact spike times in discrete time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from chains import chain_network
from esl_neuro.backends.integer import run_integer
from esl_neuro.compiler.compile import compile_graph
from esl_neuro.compiler.frontend import read_network
from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target
from esl_neuro.interchange import from_nir, to_nir, write_nir
from esl_neuro.interchange.single_spikes import TAU_SYN_S, input_spikes, steps_needed
from esl_neuro.nirgraph.files import read_nir
from esl_neuro.nirgraph.simulation import simulate
from esl_neuro.snn.temporal import TemporalNetwork, spike_times

DT_S = TAU_SYN_S / 100


def network(seed=0, sizes=(12, 10, 5)):
    torch.manual_seed(seed)
    net = TemporalNetwork(sizes, initial_sum=3.0)
    with torch.no_grad():
        for weight in net.weights().values():
            weight.add_(torch.randn(weight.shape) * 0.2)
    return net


def images(count=30, size=12, seed=1):
    return np.random.default_rng(seed).random((count, size), dtype=np.float32)


def test_every_neuron_fires_at_most_once():
    graph = to_nir(network(), steps_needed(DT_S), DT_S)
    run = simulate(graph, input_spikes(images(), DT_S, steps_needed(DT_S)))
    assert all(spikes.sum(1).max() == 1 for spikes in run.spikes.values())


def test_without_the_inhibition_neurons_fire_again():
    graph = to_nir(network(), steps_needed(DT_S), DT_S)
    for name in ("lif1_inhibition", "lif2_inhibition"):
        graph.nodes[name].weight[:] = 0
    run = simulate(graph, input_spikes(images(), DT_S, steps_needed(DT_S)))
    assert run.spikes["lif1"].sum(1).max() > 1


def strong_network():
    """One neuron with 50 times its threshold of excitation: a bright pixel fires it, a dark one comes later."""
    net = TemporalNetwork((3, 1), initial_sum=3.0)
    with torch.no_grad():
        next(iter(net.weights().values())).copy_(torch.tensor([[20.0, 30.0, -0.5]]))
    return net


def test_inhibition_is_all_excitation_and_no_net_sum():
    graph = to_nir(strong_network(), steps_needed(DT_S), DT_S)
    kept = math.exp(-DT_S / TAU_SYN_S)
    assert graph.nodes["lif1_inhibition"].weight.tolist() == [[pytest.approx(-50.0 * (1 - kept))]]


@pytest.mark.parametrize(("share", "spikes"), [(1.0, 1), (0.9, 2)])
def test_inhibition_just_holds_the_neuron_down(share, spikes):
    """The bound is reached to a few percent: with nine tenths of it the neuron fires again."""
    graph = to_nir(strong_network(), steps_needed(DT_S), DT_S)
    graph.nodes["lif1_inhibition"].weight[:] *= share
    fed = input_spikes(np.array([[1.0, 0.0, 0.0]], np.float32), DT_S, steps_needed(DT_S))
    assert min(int(simulate(graph, fed).spikes["lif1"].sum()), 2) == spikes


def test_dark_pixels_fire_in_the_nearest_step_at_one_millisecond():
    """``ln 6`` time constants of 10 ms are 17.92 steps of the default time step: step 18, not 17."""
    steps = steps_needed(1e-3)
    spikes = input_spikes(np.array([[1.0, 0.0]], np.float32), 1e-3, steps)
    assert np.argwhere(spikes[0]).tolist() == [[0, 0], [18, 1]]


@pytest.mark.parametrize("steps_per_tau", [10, 100, 1000])
def test_first_layer_fires_in_the_step_that_holds_the_exact_time(steps_per_tau):
    """Inputs fall on steps here, so the only error is that of the step in which the neuron fires."""
    net, intensities = network(), np.ones((4, 12), np.float32)
    dt_s = TAU_SYN_S / steps_per_tau
    steps = steps_needed(dt_s)
    spikes = simulate(to_nir(net, steps, dt_s), input_spikes(intensities, dt_s, steps)).spikes["lif1"]
    exact = spike_times(net(torch.from_numpy(intensities)).z["fc1"]).double().detach().numpy() * steps_per_tau
    fired = np.isfinite(exact)
    assert np.array_equal(spikes.any(1), fired)
    assert fired.any()
    assert np.all(np.abs(spikes.argmax(1) - np.floor(exact))[fired] <= (np.abs(exact - np.rint(exact)) < 1e-3)[fired])


def discrete_run(net, intensities, dt_s):
    """Return the class and the largest number of spikes of each sample, and the spike times by layer."""
    steps = steps_needed(dt_s)
    run = simulate(to_nir(net, steps, dt_s), input_spikes(intensities, dt_s, steps))
    times = {
        name: np.where(spikes.any(1), spikes.argmax(1) * dt_s, np.inf) for name, spikes in sorted(run.spikes.items())
    }
    first = run.spikes["lif2"].argmax(1)
    height = np.take_along_axis(run.potentials["lif2"], first[:, None], 1)[:, 0]
    # The earliest output is the class; among those that fire in one step, the one with the highest potential.
    classes = np.lexsort((-height, times["lif2"]), axis=1)[:, 0]
    return classes, max(spikes.sum(1).max() for spikes in run.spikes.values()), times


def test_a_smaller_time_step_comes_closer_to_the_exact_network():
    net, intensities = network(), images(200)
    exact = net(torch.from_numpy(intensities))
    labels = exact.predictions().numpy()
    exact_s = {
        f"lif{at}": spike_times(z).double().detach().numpy() * TAU_SYN_S for at, z in enumerate(exact.z.values(), 1)
    }
    errors_s, agreement = [], []
    for dt_s in (TAU_SYN_S / 5, TAU_SYN_S / 200):
        classes, most_spikes, times = discrete_run(net, intensities, dt_s)
        assert most_spikes == 1
        agreement.append((classes == labels).mean())
        both = {name: np.isfinite(times[name]) & np.isfinite(exact_s[name]) for name in times}
        errors_s.append({name: np.abs(times[name] - exact_s[name])[both[name]] for name in times})
    coarse, fine = errors_s
    assert agreement[1] > 0.95
    assert agreement[1] >= agreement[0]
    assert sorted(fine) == ["lif1", "lif2"]
    for layer in fine:
        assert fine[layer].mean() < coarse[layer].mean() / 5
        assert fine[layer].max() < 0.1 * TAU_SYN_S


def test_input_has_one_spike_a_pixel():
    spikes = input_spikes(np.array([[0.9, 0.1]], np.float32), DT_S, 300)
    assert spikes.sum(1).tolist() == [[1, 1]]
    assert spikes.argmax(1).tolist() == [[0, round(100 * math.log(6))]]
    with pytest.raises(BadInput, match="dark pixels fire in step 179"):
        input_spikes(np.array([[0.9, 0.1]], np.float32), DT_S, 100)


def test_graph_becomes_a_recurrent_network_with_the_same_spikes():
    graph = to_nir(network(), 300, DT_S)
    inputs = input_spikes(images(8), DT_S, 300)
    expected = simulate(graph, inputs).outputs
    outputs = from_nir(graph)(torch.from_numpy(inputs).swapaxes(0, 1)).detach().numpy().swapaxes(0, 1)
    assert outputs.sum() > 0
    assert np.abs(outputs.argmax(1) - expected.argmax(1)).max() <= 1  # single precision: no grid here
    assert (outputs != expected).mean() < 1e-3


def test_graph_says_that_each_neuron_fires_once(tmp_path):
    write_nir(tmp_path / "model.nir", to_nir(network(), 300, DT_S))
    assert read_network(read_nir(tmp_path / "model.nir")).single_spikes
    assert not read_network(to_nir(chain_network((3, 2), 0.5, 1.0), 4, DT_S)).single_spikes


@pytest.mark.parametrize("steps_per_tau", [10, 20, 50, 100])
def test_integers_fire_once_and_when_the_exact_network_does(steps_per_tau):
    """At every time step, the finest too; many hidden spikes come one by one."""
    net, intensities, dt_s = network(sizes=(32, 200, 10)), images(20, 32), TAU_SYN_S / steps_per_tau
    steps = steps_needed(dt_s)
    program = compile_graph(to_nir(net, steps, dt_s), load_target("loihi2"), steps).program
    inputs = input_spikes(intensities, dt_s, steps).astype(np.uint8)
    trace, exact = run_integer(program, inputs), net(torch.from_numpy(intensities))
    for spikes, z in zip(trace.spikes.values(), exact.z.values(), strict=True):
        expected = spike_times(z).double().detach().numpy() * steps_per_tau
        fired = spikes.any(1) & np.isfinite(expected)
        assert spikes.sum(1, dtype=int).max() == 1
        assert (spikes.any(1) == np.isfinite(expected)).mean() > 0.98
        late = (spikes.argmax(1) + 0.5 - expected)[fired]
        assert abs(late.mean()) < 1 + 0.02 * steps_per_tau


def test_steps_too_short_for_the_integers_are_reported():
    def kinds(dt_s):
        steps = steps_needed(dt_s)
        compilation = compile_graph(to_nir(network(sizes=(32, 200, 10)), steps, dt_s), load_target("loihi2"), steps)
        return [(finding.kind, finding.place) for finding in compilation.findings]

    assert kinds(TAU_SYN_S / 10) == []
    assert ("short-steps", "layer 'lif2'") in kinds(TAU_SYN_S / 200)
