"""Programs whose layers have weights of few bits, and the choice of the bits under a limit of memory."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.compiler.compile import quantise_network
from esl_neuro.compiler.losses import measure_rounding
from esl_neuro.compiler.network import FloatConnection, FloatGroup, FloatNetwork
from esl_neuro.compiler.placement import place
from esl_neuro.compiler.program import Program, differences
from esl_neuro.compiler.quantise import Scaling
from esl_neuro.compiler.weight_bits import as_scalings, choose_weight_bits
from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target
from esl_neuro.hardware.rounding import SPIKES
from esl_neuro.nirgraph.kernel import Kernel

TARGET = load_target("loihi2")
ARITHMETIC = TARGET.arithmetic
STEPS = 4


def group(name, neurons, *, fires=True):
    ones = np.ones(neurons)
    return FloatGroup(name, 0 * ones, ones, 0.5 * ones, ones if fires else np.full(neurons, np.inf))


def network(seed):
    """An image, a convolution and a layer of few connections."""
    rng = np.random.default_rng(seed)
    kernel = Kernel(rng.normal(0, 0.3, (3, 1, 3, 3)), (1, 6, 6), (1, 1), (0, 0), (1, 1), 1)
    matrix = rng.normal(0, 0.2, (5, 48)) * (rng.random((5, 48)) < 0.5)
    connections = (FloatConnection("input", "lif1", kernel), FloatConnection("lif1", "lif2", sp.csr_matrix(matrix)))
    return FloatNetwork((1, 6, 6), 1e-4, (group("lif1", 48), group("lif2", 5)), connections)


def program_of(floats, bits):
    return quantise_network(floats, "loihi2", ARITHMETIC, STEPS, SPIKES, as_scalings(bits))[0]


def integers(connection):
    weights = connection.weights
    return np.ravel(weights.weights if isinstance(weights, Kernel) else weights.data)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), first=st.integers(2, 7), second=st.integers(2, 7))
def test_every_weight_is_one_of_its_layer(seed, first, second):
    program = program_of(network(seed), {"lif1": first, "lif2": second})
    for connection, bits in zip(program.connections, (first, second), strict=True):
        step = 2 << (8 - bits)
        assert connection.weight_bits == bits
        assert (integers(connection) % step == 0).all()
        assert np.abs(integers(connection)).max() <= step * (2 ** (bits - 1) - 1)


def test_a_layer_with_the_bits_of_the_chip_is_what_it_was_beside_one_with_fewer():
    floats = network(0)
    whole, mixed = program_of(floats, {}), program_of(floats, {"lif2": 3})
    assert {name.split(".")[0] for name in differences(whole, mixed)} == {"lif1 -> lif2", "lif2"}
    assert differences(whole, program_of(floats, {})) == []


def test_fewer_bits_have_larger_errors():
    floats = network(1)
    errors = [
        quantise_network(floats, "", ARITHMETIC, STEPS, SPIKES, as_scalings({"lif2": bits}))[1][1].weight_error
        for bits in (8, 7, 6, 5, 4, 3, 2)
    ]
    assert errors == sorted(errors)
    assert errors[0] < 0.01 < 0.3 < errors[-1] < 0.7


def test_thresholds_stay_as_fine_as_those_of_the_chip():
    floats = network(2)
    for bits in (8, 4, 2):
        rounding = measure_rounding(floats, program_of(floats, {"lif1": bits, "lif2": bits}), "lif1")
        assert rounding.threshold_error < 0.02


def test_numbers_of_few_bits_are_exact_in_those_of_the_chip():
    floats = network(3)
    program = program_of(floats, {"lif2": 4})
    values = sp.diags(1 / program.groups[1].scale) @ program.connections[1].weights
    again = replace(floats, connections=(floats.connections[0], replace(floats.connections[1], weights=values.tocsr())))
    _, errors = quantise_network(again, "", ARITHMETIC, STEPS, SPIKES)
    assert errors[1].weight_error < 1e-6


def test_memory_follows_the_bits():
    floats = network(4)
    stored = [
        int(place(program_of(floats, {"lif1": bits, "lif2": bits}), TARGET).used["synaptic_memory"].sum())
        for bits in (8, 6, 4, 2)
    ]
    assert stored == sorted(stored, reverse=True)
    assert stored[-1] < stored[0]


def test_bits_are_saved_with_the_program(tmp_path):
    program = program_of(network(5), {"lif2": 3})
    program.save(tmp_path)
    again = Program.load(tmp_path)
    assert [each.weight_bits for each in again.connections] == [None, 3]
    assert differences(program, again) == []
    first, second = again.connections
    changed = replace(again, connections=(first, replace(second, weight_bits=4)))
    assert differences(program, changed) == ["lif1 -> lif2.weight_bits"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weight_bits": 20}, "'lif1' -> 'lif2' has weights of 20 bits; the chip has 8"),
        ({"weight_bits": 2}, "'lif1' -> 'lif2' has weights that 2 bits do not hold"),
        ({"weight_bits": 1}, "weight_bits"),
    ],
)
def test_bits_that_the_weights_do_not_have_are_refused(tmp_path, change, words):
    program_of(network(5), {"lif2": 4}).save(tmp_path)
    document = json.loads((tmp_path / "program.json").read_text())
    document["connections"][1] |= change
    (tmp_path / "program.json").write_text(json.dumps(document))
    with pytest.raises(BadInput, match="damaged") as refused:
        Program.load(tmp_path)
    assert words in str(refused.value)


def test_connections_to_a_layer_have_as_many_bits(tmp_path):
    program = program_of(network(5), {"lif2": 4})
    second = program.connections[1]
    replace(program, connections=(*program.connections, replace(second, source="lif2", weight_bits=None,
            weights=sp.csr_matrix((5, 5), dtype=np.int32), delay=1))).save(tmp_path)  # fmt: skip
    with pytest.raises(BadInput, match="the connections to 'lif2' have weights of different bits"):
        Program.load(tmp_path)


def test_a_scale_may_still_be_chosen():
    floats = network(6)
    scalings = {"lif2": Scaling(1.3, weight_bits=3)}
    program, _ = quantise_network(floats, "", ARITHMETIC, STEPS, SPIKES, scalings)
    assert set(integers(program.connections[1]) % 64) == {0}
    assert program.groups[1].scale == pytest.approx(1.3 * program_of(floats, {"lif2": 3}).groups[1].scale)


@pytest.mark.lava
@pytest.mark.parametrize("bits", range(2, 9))
def test_lava_stores_them_unchanged_in_as_many_bits(bits):
    from lava.utils.weightutils import SignMode, truncate_weights

    for connection in program_of(network(7), {"lif1": bits, "lif2": bits}).connections:
        values = integers(connection)
        stored = truncate_weights(values, SignMode.MIXED, num_weight_bits=bits, max_num_weight_bits=8)
        assert np.array_equal(stored, values)


@pytest.mark.lava
@pytest.mark.parametrize("bits", [2, 4, 6])
def test_lava_and_the_integer_simulator_agree(bits):
    from esl_neuro.backends.integer import run_integer
    from esl_neuro.backends.lava import run_lava

    program = program_of(network(bits), {"lif1": bits, "lif2": 8 - bits})
    inputs = (np.random.default_rng(bits).random((3, STEPS, 36)) < 0.5).astype(np.uint8)
    ours, lavas = run_integer(program, inputs), run_lava(program, inputs)
    for name in ("lif1", "lif2"):
        assert np.array_equal(ours.spikes[name], lavas.spikes[name])
    assert ours.spikes["lif1"].any()


# The choice.


COSTS = {"a": {8: 0.0, 6: 0.1, 4: 0.2, 2: 1.0}, "b": {8: 0.0, 6: 0.01, 4: 0.5, 2: 0.6}}
SYNAPSES = {"a": 100, "b": 300}


def stored(bits):
    return sum(SYNAPSES[layer] * each for layer, each in bits.items())


def loss(bits):
    return sum(COSTS[layer][each] for layer, each in bits.items())


def test_the_layer_whose_stored_bits_cost_least_is_narrowed_first():
    path = choose_weight_bits(["a", "b"], 8, 2200, stored, loss)
    assert [each.bits for each in path] == [
        {"a": 8, "b": 8},
        {"a": 8, "b": 6},  # 0.01 for 600 bits
        {"a": 6, "b": 6},  # 0.1 for 200 bits; b: 0.49 for 600
        {"a": 4, "b": 6},  # again
    ]
    assert [each.stored_bits for each in path] == [3200, 2600, 2400, 2200]


@given(most=st.integers(800, 3200))
def test_the_choice_fits_and_a_step_less_does_not(most):
    path = choose_weight_bits(["a", "b"], 8, most, stored, loss)
    assert path[-1].stored_bits <= most
    assert all(each.stored_bits > most for each in path[:-1])
    fitting = [
        loss(bits)
        for bits in (dict(zip("ab", widths, strict=True)) for widths in product((8, 6, 4, 2), repeat=2))
        if stored(bits) <= most
    ]
    assert path[-1].loss <= min(fitting) + 0.6  # no step looks ahead, so it may miss the least loss


def test_a_limit_that_the_narrowest_layers_exceed_is_refused():
    with pytest.raises(BadInput, match=r"take 800 bits with weights of 2 bits, the limit is 799"):
        choose_weight_bits(["a", "b"], 8, 799, stored, loss)
