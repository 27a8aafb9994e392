"""Where neurons go: counted synapse by synapse; what does not fit is named with the change that mends it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.compiler.kernel import Kernel
from esl_neuro.compiler.placement import check_limits, memory_bits, place, utilisation
from esl_neuro.compiler.program import Connection, Group, Program
from esl_neuro.compiler.timing import timing
from esl_neuro.hardware import Limit, load_target

LOIHI, LOIHI2 = load_target("loihi"), load_target("loihi2")


def target(**values):
    limits = {
        name: Limit(value=value, unknown=value is None, unit="of them", source="a data sheet", evidence="datasheet")
        for name, value in values.items()
    }
    return LOIHI2.model_copy(update={"limits": limits})


def group(name, neurons):
    zero = np.zeros(neurons, dtype=np.int64)
    return Group(name, zero, zero, zero + 100, zero, zero, 1.0)


def weights(rng, targets, sources, density=0.4):
    return sp.csr_matrix(2 * rng.integers(1, 100, (targets, sources)) * (rng.random((targets, sources)) < density))


def kernel(rng, channels, shape, **how):
    taps = 2 * rng.integers(-3, 4, (channels, shape[0] // how.get("groups", 1), 3, 2))
    return Kernel(taps.astype(np.int32), shape, **how)


def program(input_size, sizes, connections):
    groups = tuple(group(name, size) for name, size in sizes.items())
    return Program("loihi2", input_size, 5, 1e-3, tuple(Connection(*each) for each in connections), groups)


def random_program(rng):
    """Images, a matrix behind them, a residual connection, a loop, delays."""
    first = kernel(
        rng, 4, (2, 6, 5), padding=(1, 1), stride=(int(rng.integers(1, 3)), 1), groups=int(rng.integers(1, 3))
    )
    second = kernel(rng, 2, first.output_shape, padding=(1, 0), dilation=(1, 2))
    a, b = first.shape[0], second.shape[0]
    return program(
        60,
        {"a": a, "b": b, "c": 7},
        [
            ("input", "a", first, 0, 0),
            ("a", "b", second, 0, 0),
            ("a", "b", weights(rng, b, a, 0.02), 0, 0, 3),
            ("b", "c", weights(rng, 7, b), 0, 0),
            ("a", "c", weights(rng, 7, a), 0, 0),
            ("c", "c", weights(rng, 7, 7), 0, 0, 1),
        ],
    )


def axon_bits(synapses, bits):
    total = 0
    while synapses > 0:
        total += math.ceil((min(synapses, 64) * bits + 10) / 64) * 64
        synapses -= 64
    return total


def brute_force(program, placement):
    """Every resource of every core, one synapse at a time."""
    cores = placement.cores
    used = {
        name: np.zeros(cores, dtype=np.int64)
        for name in ("neurons", "synapses", "synaptic_memory", "input_axons", "output_axons")
    }
    for each in program.groups:
        for core in placement.core_of_neuron[each.name]:
            used["neurons"][core] += 1
    for connection, hold in zip(program.connections, timing(program).hold, strict=True):
        matrix, target_cores = connection.matrix.toarray(), placement.core_of_neuron[connection.target]
        sparse, dense = np.zeros((2, cores), dtype=np.int64)
        for source in range(matrix.shape[1]):
            for core in np.unique(target_cores):
                count = int(np.count_nonzero(matrix[target_cores == core, source]))
                if count == 0:
                    continue
                neurons = int((target_cores == core).sum())
                used["synapses"][core] += count
                used["input_axons"][core] += 1
                delay = math.ceil(math.log2(hold + 1))
                index = max(6, math.ceil(math.log2(neurons)) if neurons > 1 else 0)
                sparse[core] += axon_bits(count, 8 + delay + index)
                dense[core] += axon_bits(neurons, 8 + delay)
                if connection.source != "input":
                    used["output_axons"][placement.core_of_neuron[connection.source][source]] += 1
        used["synaptic_memory"] += np.minimum(sparse, dense)
    return used


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    limits=st.fixed_dictionaries(
        {
            "neurons_per_core": st.sampled_from([None, 1, 7, 30, 64]),
            "synapses_per_core": st.sampled_from([None, 60, 300]),
            "synaptic_memory_per_core": st.sampled_from([None, 4096]),
            "input_axons_per_core": st.sampled_from([None, 20, 50]),
            "output_axons_per_core": st.sampled_from([None, 16, 40]),
        }
    ),
)
def test_cores_hold_what_a_count_of_every_synapse_says(seed, limits):
    net, chip = random_program(np.random.default_rng(seed)), target(**limits)
    placement = place(net, chip)
    expected = brute_force(net, placement)
    assert {name: values.tolist() for name, values in placement.used.items()} == {
        name: values.tolist() for name, values in expected.items()
    }
    taken = np.concatenate([placement.core_of_neuron[each.name] for each in net.groups])
    assert np.array_equal(np.unique(taken), np.arange(placement.cores))
    named = " ".join(map(str, check_limits(net, placement, chip)))
    for name, limit in limits.items():
        if limit is None:
            continue
        used = placement.used[name.removesuffix("_per_core")]
        for each in net.groups:
            cores = placement.core_of_neuron[each.name]
            if used[cores].max() > limit:  # then it was split as far as it goes, or that does not help
                assert f"layer '{each.name}'" in named
                assert name in named


def test_a_core_holds_one_group_and_whole_channels_or_rows():
    rng = np.random.default_rng(0)
    conv = kernel(rng, 4, (2, 6, 5), padding=(1, 1))
    size = conv.shape[0]
    net = program(60, {"a": size, "b": 7}, [("input", "a", conv, 0, 0), ("a", "b", weights(rng, 7, size), 0, 0)])
    _, rows, columns = conv.output_shape
    for limit, unit in ((3 * rows * columns, rows * columns), (rows * columns - 1, columns), (columns - 1, 1)):
        placement = place(net, target(neurons_per_core=limit))
        starts = np.flatnonzero(np.diff(placement.core_of_neuron["a"])) + 1
        assert np.all(starts % unit == 0)
        assert placement.core_of_neuron["b"].min() == placement.core_of_neuron["a"].max() + 1


def test_layer_that_fits_takes_one_core():
    net = program(
        4,
        {"a": 1024, "b": 10},
        [
            ("input", "a", weights(np.random.default_rng(0), 1024, 4), 0, 0),
            ("a", "b", weights(np.random.default_rng(1), 10, 1024), 0, 0),
        ],
    )
    assert place(net, target(neurons_per_core=1024)).cores == 2
    assert place(net, target(neurons_per_core=1023)).cores == 3
    assert place(net, target()).cores == 2


@pytest.mark.parametrize(
    ("axons", "neurons", "delay_bits", "bits"),
    [
        ([0], 10, 0, 0),
        ([0, 1], 1, 0, 64),
        ([0, 0, 0, 1], 8, 0, 64),  # 3 * (8 + 6) + 10 = 52
        ([0, 0, 0, 0, 1], 8, 0, 128),  # 4 * (8 + 6) + 10 = 66; dense: 8 * 8 + 10 = 74, two words as well
        ([0] * 6 + [1], 6, 0, 64),  # dense: 6 * 8 + 10 = 58
        ([0] * 64 + [1], 64, 0, 576),  # dense: 64 * 8 + 10 = 522
        ([0] * 65 + [1], 1000, 0, 1216 + 64),  # 64 * (8 + 10) + 10 = 1162, and one more: 28
        ([0, 2], 100, 6, 128),  # 8 + 6 + 7 + 10 = 31 each
    ],
)
def test_memory_by_hand(axons, neurons, delay_bits, bits):
    assert memory_bits(np.array(axons), neurons, delay_bits) == bits


def test_single_neuron_that_is_too_much_is_named_with_need_limit_and_change():
    net = program(50, {"a": 2}, [("input", "a", sp.csr_matrix(np.full((2, 50), 2)), 0, 100)])
    chip = target(input_axons_per_core=40)
    (finding,) = check_limits(net, place(net, chip), chip)
    assert (finding.kind, finding.place) == ("too-large", "layer 'a'")
    assert "a core with 1 of its neurons needs 50 of them of 40 (loihi2 input_axons_per_core)" in finding.message
    assert "reduce the sources that feed one neuron by 10" in finding.message


def test_everything_too_large_comes_at_once():
    rng = np.random.default_rng(0)
    net = program(
        30, {"a": 20, "b": 5}, [("input", "a", weights(rng, 20, 30), 0, 0), ("a", "b", weights(rng, 5, 20), 0, 0, 10)]
    )
    chip = target(neurons_per_core=4, cores_per_chip=3, neurons_per_chip=20, synapses_per_chip=100, delay_steps=8)
    messages = {finding.place: finding.message for finding in check_limits(net, place(net, chip), chip)}
    assert (
        "needs 7 of 3 (a data sheet); take away 4 (about 15 neurons), or use 3 chips"
        in messages["loihi2 cores_per_chip"]
    )
    assert "needs 25 of 20 (a data sheet); take away 5" in messages["loihi2 neurons_per_chip"]
    assert "a density of" in messages["loihi2 synapses_per_chip"]
    assert "needs 9 of 8" in messages["loihi2 delay_steps"]


def test_unknown_limits_are_shown_as_unknown():
    net = program(30, {"a": 20}, [("input", "a", weights(np.random.default_rng(0), 20, 30), 0, 0)])
    rows = {row.resource: row for row in utilisation(net, place(net, LOIHI2), LOIHI2)}
    assert rows["synaptic_memory_per_core"].limit is None
    assert rows["synaptic_memory_per_core"].used > 0
    assert (rows["neurons_per_core"].used, rows["neurons_per_core"].limit) == (20, 8192)
    assert (rows["cores_per_chip"].used, rows["neurons_per_chip"].used) == (1, 20)


def test_loihi_splits_a_layer_that_its_memory_cannot_hold():
    size = 1000
    net = program(size, {"a": size}, [("input", "a", sp.csr_matrix(np.full((size, size), 2)), 0, size**2)])
    placement = place(net, LOIHI)
    assert placement.used["synaptic_memory"].max() <= 1_048_576
    assert placement.cores == 9  # 8 Mbit of weights, and the headers
    assert place(net, LOIHI2).cores == 2  # a million synapses, 937,500 to a core
