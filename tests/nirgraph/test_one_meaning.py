"""A NIR graph has one meaning: node by node, and as the groups that the compiler makes of it."""

from __future__ import annotations

from itertools import pairwise

import nir
import numpy as np
import pytest

from esl_neuro.compiler.float_groups import run_groups
from esl_neuro.compiler.frontend import read_network
from esl_neuro.nirgraph.simulation import simulate
from nirgraph.one_meaning import compared
from random_graphs import KINDS

DT_S = 1e-3


@pytest.mark.parametrize("number", range(60), ids=lambda number: f"{KINDS[number % len(KINDS)]}-{number}")
def test_groups_do_what_nodes_do(number):
    assert compared(0, number)["differences"] == 0


def graph(edges, dt_s=DT_S, size=1, **nodes):
    ends = {"input": nir.Input({"input": np.array([size])}), "output": nir.Output({"output": np.array([size])})}
    return nir.NIRGraph({**ends, **nodes}, edges, {"dt_s": dt_s}, type_check=False)


def chain(**nodes):
    names = ["input", *nodes, "output"]
    return graph(list(pairwise(names)), **nodes)


def one(value):
    return np.array([float(value)])


def integrate_and_fire(v_reset=0.0):
    return nir.IF(one(1 / DT_S), one(1), one(v_reset))


def spikes(written, inputs):
    """Spikes of the one neuron that fires, by the nodes and by the groups, which must be the same."""
    inputs = np.array(inputs, dtype=float)[None, :, None]
    (by_nodes,) = simulate(written, inputs).spikes.values()
    network = read_network(written)
    by_groups = run_groups(network, inputs).spikes[network.groups[-1].name]
    assert np.array_equal(by_nodes, by_groups)
    return "".join(str(int(fired)) for fired in by_nodes[0, :, 0])


def loop(delay_steps=None):
    """A Threshold neuron that feeds itself, through a Delay if steps are given."""
    edges = [("input", "fc"), ("fc", "a"), ("a", "r"), ("a", "output")]
    edges += [("r", "a")] if delay_steps is None else [("r", "d"), ("d", "a")]
    nodes = {"fc": nir.Linear(np.eye(1)), "a": nir.Threshold(one(0.5)), "r": nir.Linear(np.eye(1))}
    if delay_steps is not None:
        nodes["d"] = nir.Delay(one(delay_steps))
    return graph(edges, dt_s=1.0, **nodes)


@pytest.mark.parametrize(
    ("delay_steps", "expected"),
    [(None, "11111111"), (0, "11111111"), (1, "11111111"), (2, "10101010"), (3, "10010010"), (9, "10000000")],
)
def test_a_loop_takes_the_steps_of_its_delay_and_one_without(delay_steps, expected):
    assert spikes(loop(delay_steps), [1, 0, 0, 0, 0, 0, 0, 0]) == expected


def test_two_delays_in_a_loop_add_up():
    written = loop(2)
    written.nodes["e"] = nir.Delay(one(1))
    written.edges = [("d", "e") if edge == ("d", "a") else edge for edge in written.edges] + [("e", "a")]
    assert spikes(written, [1, 0, 0, 0, 0, 0, 0, 0]) == "10010010"


def test_an_element_without_delay_beside_others_takes_one_step_in_a_loop():
    nodes = {"a": nir.Threshold(np.full(2, 0.5)), "d": nir.Delay(np.array([0.0, 2.0]))}
    written = graph([("input", "a"), ("a", "d"), ("d", "a"), ("a", "output")], dt_s=1.0, size=2, **nodes)
    inputs = np.zeros((1, 6, 2))
    inputs[0, 0] = 1
    fired = simulate(written, inputs).spikes["a"][0]
    assert fired.T.tolist() == [[1, 1, 1, 1, 1, 1], [1, 0, 1, 0, 1, 0]]
    assert np.array_equal(run_groups(read_network(written), inputs).spikes["a"][0], fired)


def test_paths_of_different_delay_meet():
    edges = [("input", "p"), ("input", "q"), ("input", "a"), ("p", "a"), ("q", "a"), ("a", "output")]
    nodes = {"p": nir.Delay(one(2)), "q": nir.Delay(one(3)), "a": nir.Threshold(one(0.5))}
    assert spikes(graph(edges, dt_s=1.0, **nodes), [1, 0, 0, 0, 0]) == "10110"


def test_neurons_start_where_they_are_reset():
    """From -1, 0.3 a step passes 1 in step 7; from 0 it would in step 4."""
    written = chain(w=nir.Linear(np.array([[0.3]])), m=integrate_and_fire(v_reset=-1))
    assert spikes(written, np.ones(14)) == "00000010000001"


@pytest.mark.parametrize("neurons", [nir.LIF, nir.CubaLIF])
def test_neurons_with_a_leak_start_where_they_are_reset(neurons):
    syn = {"tau_syn": one(DT_S), "tau_mem": one(2e-3), "w_in": one(1)}
    own = syn if neurons is nir.CubaLIF else {"tau": one(2e-3)}
    node = neurons(**own, r=one(2), v_leak=one(0), v_threshold=one(1), v_reset=one(-2))
    inputs = np.full((1, 4, 1), 0.75)
    potentials = simulate(chain(m=node), inputs).potentials["m"]
    assert potentials[0, :, 0].tolist() == [-0.25, 0.625, 1.0625, -0.25]  # v <- v / 2 + 0.75
    assert spikes(chain(m=node), inputs[0, :, 0]) == "0010"


def test_a_bias_behind_a_delay_acts_from_the_first_step():
    written = chain(w=nir.Affine(np.zeros((1, 1)), one(0.3)), d=nir.Delay(one(3 * DT_S)), m=integrate_and_fire())
    assert spikes(written, np.ones(8)) == "00010001"


def test_a_bias_in_a_loop_acts_from_the_first_step():
    edges = [("input", "w"), ("w", "m"), ("m", "b"), ("b", "m"), ("m", "output")]
    back = nir.Affine(np.zeros((1, 1)), one(0.45))
    written = graph(edges, w=nir.Linear(np.array([[0.1]])), m=integrate_and_fire(), b=back)
    assert spikes(written, np.ones(6)) == "010101"
    edges = [("input", "w"), ("w", "m"), ("m", "b"), ("b", "d"), ("d", "m"), ("m", "output")]
    written = graph(edges, w=written.nodes["w"], m=integrate_and_fire(), b=back, d=nir.Delay(one(4 * DT_S)))
    assert spikes(written, np.ones(6)) == "010101"


def test_a_bias_passes_what_stands_behind_its_delay():
    first, second = nir.Affine(np.zeros((1, 1)), one(0.1)), nir.Affine(np.array([[2.0]]), one(0.1))
    written = chain(w=first, d=nir.Delay(one(3 * DT_S)), x=second, m=integrate_and_fire())
    assert spikes(written, np.ones(8)) == "00010001"


def test_nested_nodes_have_one_name():
    inner = chain(lif=integrate_and_fire())
    written = chain(sub=inner)
    assert list(simulate(written, np.ones((1, 3, 1))).spikes) == ["sub.lif"]
    assert [group.name for group in read_network(written).groups] == ["sub.lif"]
