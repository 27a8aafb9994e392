"""A ``.net`` file runs in lava-dl as the program does; what would not is refused by name."""

from __future__ import annotations

import itertools
from dataclasses import replace

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from backends import lava_netx
from backends.graphs import oracle, random_inputs, spikes_of
from backends.lava_netx import run_netx, run_netx_files, verify_netx
from backends.random_programs import random_group, random_weights
from esl_neuro.backends import lava_session, netx
from esl_neuro.backends.netx import netx_findings, write_netx
from esl_neuro.backends.trace import first_difference
from esl_neuro.compiler.program import INPUT, Connection, Program
from esl_neuro.errors import BadInput, MissingDependency
from esl_neuro.nirgraph.kernel import Kernel

TIMEOUT_S = 120.0


def chain(rng, weights, steps=6, loops=(), delays=None, **parameters):
    """Layers in a row with these weights, some recurrent, some fed with a delay; biases that the file can hold."""
    delays = delays or {}
    names = [f"layer {k}" for k in range(len(weights))]
    groups, connections, source = [], [], INPUT
    for k, (name, part) in enumerate(zip(names, weights, strict=True)):
        group = random_group(rng, name, part.shape[0], 300)
        heard_late = k <= max([-1, *loops, *(layer - 1 for layer in delays)])
        bias = -np.abs(group.bias_mant) // 64 if heard_late else group.bias_mant // 8
        group = replace(group, bias_mant=bias, bias_exp=np.full(part.shape[0], 6), **parameters)
        groups.append(group)
        delay = delays.get(k, 0)
        connections.append(Connection(source, name, part, 0, part.nnz, delay))
        if k in loops:
            loop = random_weights(rng, part.shape[0], part.shape[0], 0.3)
            connections.append(Connection(name, name, loop, 0, loop.nnz, delay=1))
        source = name
    return Program("loihi2", weights[0].shape[1], steps, 1e-3, tuple(connections), tuple(groups))


def kernel(rng, out, input_shape, taps=(3, 3), **geometry):
    values = 2 * rng.integers(-127, 128, (out, input_shape[0] // geometry.get("groups", 1), *taps))
    return Kernel(values.astype(np.int32), input_shape, **geometry)


def dense(rng):
    return chain(
        rng, [random_weights(rng, 12, 8, 0.5), random_weights(rng, 9, 12, 0.7), random_weights(rng, 4, 9, 1.0)]
    )


def one_threshold(rng):
    weights = [random_weights(rng, 12, 8, 0.5), random_weights(rng, 5, 12, 0.7)]
    program = chain(rng, weights)
    groups = tuple(
        replace(group, vth=np.full_like(group.vth, 300), du=np.full_like(group.du, -1)) for group in program.groups
    )
    return replace(program, groups=groups)


def recurrent(rng):
    weights = [random_weights(rng, 12, 8, 0.5), random_weights(rng, 9, 12, 0.7), random_weights(rng, 4, 9, 1.0)]
    return chain(rng, weights, loops=(0, 1))


def delayed(rng):
    """A kernel that is fed with a delay becomes a matrix."""
    image = kernel(rng, 3, (2, 4, 4), padding=(1, 1))
    weights = [random_weights(rng, 2 * 4 * 4, 8, 0.5), image, random_weights(rng, 4, image.shape[0], 1.0)]
    return chain(rng, weights, steps=9, delays={1: 2, 2: 1})


def convolutional(rng):
    first = kernel(rng, 4, (2, 6, 7), padding=(1, 0), stride=(1, 2))
    second = kernel(rng, 4, first.output_shape, taps=(2, 3), dilation=(2, 1), padding=(0, 1), groups=2)
    flat = second.shape[0]
    return chain(rng, [first, second, random_weights(rng, 6, flat, 0.4), random_weights(rng, 3, 6, 1.0)])


def kernel_after_a_matrix(rng):
    return chain(rng, [random_weights(rng, 2 * 4 * 4, 8, 0.5), kernel(rng, 3, (2, 4, 4))])


KINDS = [dense, one_threshold, recurrent, delayed, convolutional, kernel_after_a_matrix]


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.lava_dl, id=kind.__name__) for kind in KINDS])
def test_spikes_are_those_of_the_program(tmp_path, kind):
    rng = np.random.default_rng(len(kind.__name__))
    program = kind(rng)
    path = tmp_path / "network.net"
    write_netx(program, path)
    inputs = random_inputs(rng, program, samples=3, rate=0.6)
    expected = oracle(program, inputs)
    trace = run_netx(path, inputs, timeout_s=TIMEOUT_S)
    assert trace.backend == "netx"
    assert first_difference(expected, trace) is None
    assert spikes_of(expected) >= 50
    assert all(record.any() for record in expected.spikes.values())


@pytest.mark.lava_dl
def test_verify_finds_a_changed_weight_and_a_loaded_file_can_be_written_again(tmp_path):
    rng = np.random.default_rng(1)
    program = dense(rng)
    path = tmp_path / "network.net"
    write_netx(program, path)
    inputs = random_inputs(rng, program, samples=2)
    expected = oracle(program, inputs)
    assert verify_netx(path, expected, TIMEOUT_S) is None
    from lava.lib.dl.netx.utils import NetDict

    loaded = NetDict(str(path))  # the loader never closes the file
    deaf = replace(program.groups[0], vth=np.full_like(program.groups[0].vth, 131_071))
    write_netx(replace(program, groups=(deaf, *program.groups[1:])), path)
    difference = verify_netx(path, expected, TIMEOUT_S)
    assert difference is not None
    assert difference.layer == "layer 0"
    del loaded


@pytest.mark.lava_dl
def test_files_side_by_side_do_what_each_does(tmp_path):
    """Of different length, depth and number of samples; one of them twice, on other samples."""
    rng = np.random.default_rng(3)
    programs = [delayed(rng), convolutional(rng), two_layers(rng)]
    paths = [tmp_path / f"{index}.net" for index in range(3)]
    for program, path in zip(programs, paths, strict=True):
        write_netx(program, path)
    runs = [
        (index, random_inputs(rng, programs[index], samples, rate=0.6))
        for index, samples in zip([0, 1, 2, 1], [2, 3, 4, 1], strict=True)
    ]
    traces = run_netx_files([(paths[index], inputs) for index, inputs in runs], TIMEOUT_S)
    for (index, inputs), trace in zip(runs, traces, strict=True):
        assert trace.input_spikes.tolist() == inputs.tolist()
        assert first_difference(oracle(programs[index], inputs), trace) is None
        assert trace.output_spikes.any()


@pytest.mark.lava_dl
def test_more_samples_than_copies_come_in_turns(tmp_path, monkeypatch):
    monkeypatch.setattr(lava_netx, "COPIES", 2)
    rng = np.random.default_rng(4)
    program, reported = delayed(rng), []
    write_netx(program, tmp_path / "network.net")
    inputs = random_inputs(rng, program, samples=3, rate=0.6)
    trace = run_netx(tmp_path / "network.net", inputs, lambda *counts: reported.append(counts), TIMEOUT_S)
    assert first_difference(oracle(program, inputs), trace) is None
    assert reported == [(2, 3), (3, 3)]


def test_layout_of_the_file(tmp_path):
    program = convolutional(np.random.default_rng(0))
    path = tmp_path / "network.net"
    write_netx(program, path)
    assert [found.name for found in tmp_path.iterdir()] == ["network.net"]
    with h5py.File(path) as file:
        layers = [file["layer"][str(k)] for k in range(len(file["layer"]))]
        assert [layer["type"][0] for layer in layers] == [b"input", b"conv", b"conv", b"flatten", b"dense", b"dense"]
        assert layers[0]["shape"][()].tolist() == [2, 6, 7]
        first, group = layers[1], program.groups[0]
        channels, rows, columns = program.connections[0].weights.output_shape
        assert first["shape"][()].tolist() == [channels, rows, columns]
        thresholds = first["neuron"]["vThMant"][()]
        assert thresholds.dtype == np.int64
        assert thresholds[2, 1, 3] == group.vth[(3 * rows + 1) * columns + 2]
        assert (first["neuron"]["iDecay"][()].transpose().ravel() == group.du + 1).all()


def test_equal_parameters_are_single_integers(tmp_path):
    """Not floats, nor arrays of one: with them Lava stops without a word."""
    program = one_threshold(np.random.default_rng(0))
    write_netx(program, tmp_path / "network.net")
    with h5py.File(tmp_path / "network.net") as file:
        neuron = file["layer"]["1"]["neuron"]
        assert neuron["vThMant"].shape == neuron["iDecay"].shape == ()
        assert (int(neuron["vThMant"][()]), int(neuron["iDecay"][()])) == (300, 0)
        assert neuron["vThMant"].dtype.kind == "i"


# Refusals.


def two_layers(rng):
    return chain(rng, [random_weights(rng, 6, 4, 0.9), random_weights(rng, 3, 6, 0.9)])


def with_weights(program, index, weights, **changes):
    connections = list(program.connections)
    connections[index] = replace(connections[index], weights=sp.csr_matrix(weights), **changes)
    return replace(program, connections=tuple(connections))


def assert_refused(program, *sentences):
    findings = [str(finding) for finding in netx_findings(program)]
    for sentence in sentences:
        assert any(sentence in finding for finding in findings), findings


def test_all_findings_are_in_one_error(tmp_path):
    rng = np.random.default_rng(0)
    program = with_weights(two_layers(rng), 0, np.zeros((6, 4), int))
    program = with_weights(program, 1, np.full((3, 6), 6), weight_exp=-3)
    program = replace(program, groups=(replace(program.groups[0], bias_exp=np.full(6, 1)), program.groups[1]))
    with pytest.raises(BadInput) as caught:
        write_netx(program, tmp_path / "network.net")
    for sentence in (
        "layer 0: has no synapse left",
        "layer 1: with its exponent (-3) a weight is 0.75",
        "layer 0: a bias",
    ):
        assert sentence in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_a_file_cannot_say():
    rng = np.random.default_rng(0)
    program = two_layers(rng)
    first, second = program.connections
    skip = Connection(INPUT, "layer 1", random_weights(rng, 3, 4, 0.9), 0, 12)
    loop = Connection("layer 1", "layer 1", random_weights(rng, 3, 3, 0.9), 0, 9, delay=2)
    back = Connection("layer 1", "layer 0", random_weights(rng, 6, 3, 0.9), 0, 9, delay=2)
    assert_refused(replace(program, input_bits=8), "input: the file does not support payloads of 8 bits", "lava-script")
    assert_refused(
        replace(program, readout="potential"), "layer 1: the readout is 'potential', the file supports 'spikes' only"
    )
    assert_refused(replace(program, connections=(first, second, skip)), "layer 1: is fed by 'layer 0', 'input'")
    slots = (first, second, replace(second, delay=2))
    assert_refused(
        replace(program, connections=slots), "layer 1: spikes from 'layer 0' have 2 delays, the file supports one"
    )
    late, recurrent = replace(second, delay=63), (replace(second, delay=1), replace(loop, delay=1))
    assert_refused(
        replace(program, connections=(first, late)),
        "layer 1: spikes from 'layer 0' have a delay of 63, the file supports at most 62",
    )
    assert_refused(
        replace(program, connections=(first, *recurrent)),
        "layer 1: spikes from 'layer 0' have a delay of 1, the file supports none into a recurrent layer",
    )
    assert_refused(replace(program, connections=(first, second, loop)), "layer 1: loops of delay 2")
    assert_refused(replace(program, connections=(first, back, second)), "layer 0: is fed by 'input', 'layer 1'")


def test_a_reset_by_subtraction_is_refused(tmp_path):
    program = two_layers(np.random.default_rng(0))
    first, second = program.groups
    subtracting = replace(program, groups=(first, replace(second, reset_by=second.vth << 6)))
    with pytest.raises(BadInput, match="resets by subtraction, lava-dl's neurons reset to zero only"):
        write_netx(subtracting, tmp_path / "network.net")


def test_weights_that_the_loader_would_change():
    rng = np.random.default_rng(0)
    program = two_layers(rng)
    assert_refused(with_weights(program, 0, np.full((6, 4), 200), weight_exp=1), "exponent (1) a weight is 400")
    assert_refused(with_weights(program, 0, np.full((6, 4), 254), weight_exp=-2), "a weight is 63.5")
    inhibitory = -2 * np.eye(6, 4, dtype=int)
    inhibitory[0, 0] = -128
    assert_refused(with_weights(program, 0, inhibitory), "layer 0: weights are all negative and the smallest is -128")
    positive = np.full((6, 4), 254)
    assert netx_findings(with_weights(program, 0, positive)) == []
    assert netx_findings(with_weights(program, 0, np.full((6, 4), 20), weight_exp=3)) == []


def test_a_matrix_that_does_not_fit_in_memory_is_refused():
    rng = np.random.default_rng(0)
    neurons = 20_000
    weights = sp.identity(neurons, dtype=np.int64, format="csr") * 2
    assert_refused(chain(rng, [weights]), "layer 0: has 400,000,000 weights with zeros, more than")
    late = chain(rng, [weights[:2000, :2000]], delays={0: 1})
    assert_refused(late, "layer 0: has 4,000,000 weights with zeros and a delay of 1, more than")


@pytest.mark.parametrize("kind", [recurrent, delayed])
def test_a_bias_that_could_be_heard_late(kind):
    """What it makes spike before the input arrives would come into the sample."""
    program = kind(np.random.default_rng(0))
    group = replace(program.groups[0], bias_mant=np.full(program.groups[0].neurons, 5))
    assert_refused(replace(program, groups=(group, *program.groups[1:])), "layer 0: a positive bias in or before")
    group = replace(program.groups[2], bias_mant=np.full(program.groups[2].neurons, 5))
    assert netx_findings(replace(program, groups=(*program.groups[:2], group))) == []


@pytest.mark.lava_dl
@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    low=st.sampled_from([-254, -128, -127, -64, -6, -2, 0]),
    high=st.sampled_from([254, 128, 126, 64, 2, 0]),
    density=st.sampled_from([0.2, 0.9, 1.0]),
    exponent=st.integers(-1, 1),
    loop=st.booleans(),
)
def test_what_is_accepted_the_loader_reads_unchanged(seed, low, high, density, exponent, loop):
    """Against the loader's own function, followed by what Lava's ``Dense`` does to weights."""
    from lava.lib.dl.netx.utils import optimize_weight_bits
    from lava.utils.weightutils import clip_weights, determine_sign_mode, truncate_weights

    rng = np.random.default_rng(seed)
    values = 2 * rng.integers(low // 2, high // 2 + 1, (5, 4)) * (rng.random((5, 4)) < density)
    program = chain(rng, [sp.csr_matrix(values)], loops=(0,) if loop else ())
    connections = tuple(replace(each, weight_exp=exponent) for each in program.connections)
    program = replace(program, connections=connections)
    if netx_findings(program):
        return
    layer = netx._layers(program)[0]
    parts = [part.toarray().astype(int) for part in (layer.weights, layer.recurrent) if part is not None]
    read, bits, exp, _ = optimize_weight_bits(np.hstack(parts))
    assert bits <= 8
    for written, column in zip(parts, itertools.accumulate([0, parts[0].shape[1]]), strict=False):
        part = read[:, column : column + written.shape[1]]
        mode = determine_sign_mode(part)
        used = truncate_weights(clip_weights(part, mode, 8), mode, bits)
        assert ((used << max(exp, 0)) == (written << max(-exp, 0))).all()


def test_wrong_files_and_inputs(tmp_path):
    with pytest.raises(BadInput, match=r"none\.net: not a \.net file"):
        run_netx(tmp_path / "none.net", np.zeros((1, 3, 4), np.uint8))
    (tmp_path / "text.net").write_text("no HDF5")
    with pytest.raises(BadInput, match=r"not a \.net file"):
        run_netx(tmp_path / "text.net", np.zeros((1, 3, 4), np.uint8))
    program = two_layers(np.random.default_rng(0))
    write_netx(program, tmp_path / "good.net")
    with pytest.raises(BadInput, match=r"takes \(samples, steps, 4\)"):
        run_netx(tmp_path / "good.net", np.zeros((1, 3, 5), np.uint8))


def test_missing_lava_dl_names_the_fix(tmp_path, monkeypatch):
    monkeypatch.setattr(lava_session, "lava_dl_installed", lambda: False)
    write_netx(two_layers(np.random.default_rng(0)), tmp_path / "good.net")
    with pytest.raises(MissingDependency, match=r"pip install 'esl-neuro\[lava-dl\]'"):
        run_netx(tmp_path / "good.net", np.zeros((1, 3, 4), np.uint8))
