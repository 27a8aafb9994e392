"""Where neurons go: counted synapse by synapse; what does not fit is named with the change that mends it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.compiler.placement import check_limits, place, utilisation
from esl_neuro.compiler.program import Connection, Group, Program
from esl_neuro.compiler.tiling import Tiling
from esl_neuro.compiler.timing import timing
from esl_neuro.hardware import Limit, load_target
from esl_neuro.nirgraph.kernel import Kernel

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
            ("b", "c", weights(rng, 7, b, 0.3), 0, 0, 2),
            ("b", "c", weights(rng, 7, b, 0.1), 0, 0, 7),
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
    held = zip(program.connections, timing(program).hold, strict=True)
    for delays in alike(list(held)):
        (first, _), longest = delays[0], max(hold for _, hold in delays)
        matrices = [connection.matrix.toarray() != 0 for connection, _ in delays]
        target_cores = placement.core_of_neuron[first.target]
        sparse, dense = np.zeros((2, cores), dtype=np.int64)
        for source in range(matrices[0].shape[1]):
            for core in np.unique(target_cores):
                count = sum(int(matrix[target_cores == core, source].sum()) for matrix in matrices)
                if count == 0:
                    continue
                neurons = int((target_cores == core).sum())
                used["synapses"][core] += count
                used["input_axons"][core] += 1
                delay = math.ceil(math.log2(longest + 1))
                index = max(6, math.ceil(math.log2(neurons)) if neurons > 1 else 0)
                sparse[core] += axon_bits(count, 8 + delay + index)
                dense[core] += axon_bits(neurons, 8 + delay)
                if first.source != "input":
                    used["output_axons"][placement.core_of_neuron[first.source][source]] += 1
        several = np.max(sum(matrix.astype(int) for matrix in matrices)) > 1
        used["synaptic_memory"] += sparse if several else np.minimum(sparse, dense)
    return used


def alike(held):
    """Matrices between the same groups have one axon for each source, a kernel has its own."""
    pairs = {}
    for each, hold in held:
        own = id(each) if isinstance(each.weights, Kernel) else None
        pairs.setdefault((each.source, each.target, own), []).append((each, hold))
    return list(pairs.values())


def alone(program, placement, name):
    """What a neuron needs that has a core to itself, at most."""
    fan_in = axons_in = fan_out = 0
    for delays in alike([(each, 0) for each in program.connections]):
        first = delays[0][0]
        matrices = [each.matrix.toarray() != 0 for each, _ in delays]
        if first.target == name:
            fan_in = fan_in + sum(matrix.sum(axis=1) for matrix in matrices)
            axons_in = axons_in + np.logical_or.reduce(matrices).sum(axis=1)
        if first.source == name:
            cores, matrix = placement.core_of_neuron[first.target], np.logical_or.reduce(matrices)
            fan_out = fan_out + np.stack([matrix[cores == core].any(axis=0) for core in np.unique(cores)]).sum(axis=0)
    fan_in, axons_in, fan_out = int(np.max(fan_in)), int(np.max(axons_in)), int(np.max(fan_out))
    return {
        "neurons": 1,
        "synapses": fan_in,
        "synaptic_memory": 64 * fan_in,
        "input_axons": axons_in,
        "output_axons": fan_out,
    }


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
    named = {
        (finding.place, name)
        for finding in check_limits(net, placement, chip)
        for name in limits
        if name in str(finding)
    }
    for name, limit in limits.items():
        resource = name.removesuffix("_per_core")
        for each in net.groups:
            over = limit is not None and placement.used[resource][placement.core_of_neuron[each.name]].max() > limit
            assert over == ((f"layer '{each.name}'", name) in named)
            if over:  # then cutting does not help
                needed = alone(net, placement, each.name)[resource]
                assert needed > limit or (each.name, resource) == ("c", "output_axons")  # c feeds itself


@pytest.mark.parametrize("limit", [1, 4, 9, 29, 50, 90])
def test_a_core_holds_one_group_and_of_an_image_some_channels_of_a_patch(limit):
    rng = np.random.default_rng(0)
    conv = kernel(rng, 4, (2, 6, 5), padding=(1, 1))
    size = conv.shape[0]
    net = program(60, {"a": size, "b": 7}, [("input", "a", conv, 0, 0), ("a", "b", weights(rng, 7, size), 0, 0)])
    placement = place(net, target(neurons_per_core=limit))
    cores = placement.core_of_neuron["a"].reshape(conv.output_shape)
    for core in np.unique(cores):
        places = np.argwhere(cores == core)
        box = tuple(slice(low, high + 1) for low, high in zip(places.min(axis=0), places.max(axis=0), strict=True))
        assert np.all(cores[box] == core)
    assert placement.core_of_neuron["b"].min() == cores.max() + 1
    assert np.all(np.diff(placement.core_of_neuron["b"]) >= 0)


def test_a_message_of_a_convolution_reaches_few_cores():
    """Two layers of 16 channels of 16 x 16, on cores of 512 neurons and 2,048 axons: patches of 8 x 8, or 6 x 6."""
    rng = np.random.default_rng(0)
    taps = 2 * rng.integers(1, 9, (16, 16, 3, 3)).astype(np.int32)
    conv = Kernel(taps, (16, 16, 16), padding=(1, 1))
    net = program(4096, {"a": 4096, "b": 4096}, [("input", "a", conv, 0, 0), ("a", "b", conv, 0, 0)])
    chip = target(neurons_per_core=512, output_axons_per_core=2048, input_axons_per_core=2048)
    placement = place(net, chip)
    assert check_limits(net, placement, chip) == []
    assert placement.cores == 16  # as few as hold the neurons
    assert placement.used["output_axons"].sum() < 1.6 * 4096  # 16 * 18 * 18 + ..., of 4096 * 8 for whole channels


def test_layers_in_a_loop_keep_the_limits_that_cutting_can_keep():
    rng = np.random.default_rng(1)
    net = program(
        20,
        {"a": 40, "b": 40},
        [
            ("input", "a", weights(rng, 40, 20), 0, 0),
            ("a", "b", weights(rng, 40, 40), 0, 0),
            ("b", "a", weights(rng, 40, 40), 0, 0, 2),
        ],
    )
    chip = target(input_axons_per_core=45, output_axons_per_core=50)
    placement = place(net, chip)
    assert {name: values.tolist() for name, values in placement.used.items()} == {
        name: values.tolist() for name, values in brute_force(net, placement).items()
    }
    assert placement.cores > 2
    assert check_limits(net, placement, chip) == []


def test_axons_of_a_layer_to_itself_count():
    rng = np.random.default_rng(0)
    itself = sp.csr_matrix(2 * np.eye(40, dtype=np.int64))
    net = program(
        9,
        {"a": 40, "b": 1},
        [
            ("input", "a", weights(rng, 40, 9), 0, 0),
            ("a", "a", itself, 0, 0, 1),
            ("a", "b", weights(rng, 1, 40, 1), 0, 0),
        ],
    )
    chip = target(output_axons_per_core=40)
    placement = place(net, chip)
    assert placement.cores == 3  # each neuron of a reaches its own core and that of b
    assert check_limits(net, placement, chip) == []


@pytest.mark.parametrize("channels", [8, 64])
def test_few_cuts_are_tried(monkeypatch, channels):
    """At most two for each doubling of the parts of the channels, for each patch."""
    rng = np.random.default_rng(0)
    taps = 2 * rng.integers(0, 2, (channels, 4, 3, 3)).astype(np.int32)
    conv = Kernel(taps, (4, 16, 16), padding=(1, 1))
    size = conv.shape[0]
    net = program(1024, {"a": size, "b": 3}, [("input", "a", conv, 0, 0), ("a", "b", weights(rng, 3, size), 0, 0)])
    tried = []
    even = Tiling.even
    monkeypatch.setattr(Tiling, "even", lambda shape, parts: tried.append(parts) or even(shape, parts))
    place(net, target(synaptic_memory_per_core=3000, input_axons_per_core=40, output_axons_per_core=60))
    assert len(tried) <= 2 * (math.log2(channels) + 1) * (2 * math.log2(16) + 1)


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


def test_single_neuron_that_is_too_much_is_named_with_need_limit_and_change():
    net = program(50, {"a": 2}, [("input", "a", sp.csr_matrix(np.full((2, 50), 2)), 0, 100)])
    chip = target(input_axons_per_core=40)
    (finding,) = check_limits(net, place(net, chip), chip)
    assert (finding.kind, finding.place) == ("too-large", "layer 'a'")
    assert (
        "a core with 1 of its neurons needs 50 of them, the limit is 40 (loihi2 input_axons_per_core)"
        in finding.message
    )
    assert "reduce the sources that feed one neuron by 10" in finding.message


def test_everything_too_large_comes_at_once():
    rng = np.random.default_rng(0)
    net = program(
        30, {"a": 20, "b": 5}, [("input", "a", weights(rng, 20, 30), 0, 0), ("a", "b", weights(rng, 5, 20), 0, 0, 10)]
    )
    chip = target(neurons_per_core=4, cores_per_chip=3, neurons_per_chip=20, synapses_per_chip=100, delay_steps=8)
    messages = {finding.place: finding.message for finding in check_limits(net, place(net, chip), chip)}
    assert (
        "needs 7, the limit is 3 (a data sheet); remove 4 (about 15 neurons), or use 3 chips"
        in messages["loihi2 cores_per_chip"]
    )
    assert "needs 25, the limit is 20 (a data sheet); remove 5" in messages["loihi2 neurons_per_chip"]
    assert "multiply the density by" in messages["loihi2 synapses_per_chip"]
    assert (
        "connection 'a' -> 'b' needs 9, the limit is 8 (a data sheet); shorten its longest delay, or the longer "
        "parallel path, by 1 step"
    ) in messages["loihi2 delay_steps"]


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
