"""A ``.net`` file reads back as the program that it was written from; what has no integer form is named."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.graphs import oracle, random_inputs, spikes_of
from backends.test_netx import KINDS, chain, convolutional, random_weights, recurrent
from esl_neuro.backends.integer import run_integer
from esl_neuro.backends.netx import netx_findings, write_netx
from esl_neuro.backends.netx_reading import from_netx
from esl_neuro.backends.trace import first_difference
from esl_neuro.errors import BadInput
from esl_neuro.pipeline.activity import Activity, run_network

PARAMETERS = ("du", "dv", "vth")


def effective(connection):
    """The weights as they reach the sum, and where they go; rounding of an exponent below 0 never acts on integers."""
    weights = connection.matrix.toarray() * 2.0**connection.weight_exp
    return connection.source, connection.target, connection.delay, weights.tolist()


def assert_equal_integers(first, second):
    assert (first.input_size, first.readout) == (second.input_size, second.readout)
    assert [group.name for group in first.groups] == [group.name for group in second.groups]
    for one, other in zip(first.groups, second.groups, strict=True):
        for name in PARAMETERS:
            assert np.array_equal(getattr(one, name), getattr(other, name)), name
        assert np.array_equal(one.bias_mant << one.bias_exp, other.bias_mant << other.bias_exp)
    assert sorted(map(effective, first.connections)) == sorted(map(effective, second.connections))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_written_program_reads_back_with_equal_integers_and_runs_equally(tmp_path, kind):
    rng = np.random.default_rng(len(kind.__name__))
    program = kind(rng)
    write_netx(program, tmp_path / "network.net")
    again = from_netx(tmp_path / "network.net", program.steps)
    assert_equal_integers(program, again)
    inputs = random_inputs(rng, program, samples=3, rate=0.6)
    expected = oracle(program, inputs)
    assert first_difference(expected, run_integer(again, inputs)) is None
    assert spikes_of(expected) >= 50


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), density=st.sampled_from([0.2, 0.9]), exponent=st.integers(-1, 0), loop=st.booleans())
def test_it_is_for_any_weights_that_a_file_holds(tmp_path_factory, seed, density, exponent, loop):
    rng = np.random.default_rng(seed)
    program = chain(rng, [random_weights(rng, 7, 5, density), random_weights(rng, 3, 7, 1.0)], loops=(0,) * loop)
    connections = tuple(replace(each, weight_exp=exponent) for each in program.connections)
    program = replace(program, connections=connections)
    if netx_findings(program):
        return
    path = tmp_path_factory.mktemp("net") / "network.net"
    write_netx(program, path)
    assert_equal_integers(program, from_netx(path, program.steps))


def file(path, *layers):
    """A file as lava-dl writes it: floats, types as arrays of bytes."""
    with h5py.File(path, "w") as opened:
        for index, layer in enumerate(layers):
            group = opened.create_group(f"layer/{index}")
            for name, value in layer.items():
                if isinstance(value, dict):
                    for field, inner in value.items():
                        group.create_dataset(f"{name}/{field}", data=inner)
                else:
                    group[name] = np.array([value], "S10") if isinstance(value, str) else value
    return path


NEURON = {"type": b"LOIHI", "iDecay": 4096, "vDecay": 1024, "vThMant": 25, "refDelay": 1, "wgtExp": 0}


def dense(weight, **more):
    weight = np.asarray(weight, np.float32)
    return {"type": "dense", "shape": np.array([len(weight), 1, 1]), "weight": weight, "neuron": dict(NEURON), **more}


def test_layers_as_lava_dl_writes_them(tmp_path):
    """Lines behind a convolution are (channels, rows, columns); biases are one per channel, delays one per target."""
    rng = np.random.default_rng(0)
    kernel = rng.integers(-60, 61, (2, 1, 3, 3, 1)).astype(np.float32)
    conv = {
        "type": "conv",
        "shape": np.array([2, 2, 3]),
        "weight": kernel,
        "bias": np.array([3.0, -2.0], np.float32),
        "stride": np.array([1, 1]),
        "padding": np.array([0, 0]),
        "dilation": np.array([1, 1]),
        "groups": 1,
        "neuron": dict(NEURON),
    }
    weight = rng.integers(-100, 101, (4, 12))
    last = dense(weight, delay=np.array([2.0, 0.0, 1.0, 2.0], np.float32))
    encoder = {"type": "input", "shape": np.array([1, 4, 5]), "neuron": dict(NEURON), "weight": 40.0, "bias": 36.0}
    path = file(tmp_path / "x.net", encoder, conv, {"type": "flatten", "shape": np.array([12])}, last)
    program = from_netx(path, 8, layers=None)
    assert [group.name for group in program.groups] == ["layer1", "layer3"]
    assert (program.groups[0].bias_mant << program.groups[0].bias_exp).tolist() == [192] * 6 + [-128] * 6
    spikes = (rng.random((3, 8, 20)) < 0.4).astype(np.uint8)
    trace = run_integer(program, spikes, record_potentials=True)
    image, found = spikes.reshape(3, 8, 4, 5), trace.u["layer1"].reshape(3, 8, 2, 2, 3)
    for row, column in np.ndindex(2, 3):
        window = image[:, :, row : row + 3, column : column + 3]
        assert np.array_equal(found[..., row, column], 64 * np.einsum("stij,cij->stc", window, kernel[:, 0, :, :, 0]))
    expected = np.zeros((3, 8, 4))
    for neuron, delay in enumerate((2, 0, 1, 2)):
        sent = trace.spikes["layer1"][:, : 8 - delay]
        expected[:, delay:, neuron] = 64 * (sent @ weight[neuron])
    assert np.array_equal(trace.u["layer3"], expected)


def test_a_last_layer_without_neurons_sums_and_is_read_by_its_potential(tmp_path):
    last = dense(np.array([[2.0, -4.0]]))
    del last["neuron"]
    program = from_netx(file(tmp_path / "x.net", last), 3)
    assert program.readout == "potential"
    spikes = np.array([[[1, 0], [1, 1], [0, 1]]], np.uint8)
    trace = run_integer(program, spikes, record_potentials=True)
    assert trace.v["layer0"].ravel().tolist() == [128, 0, -256]


def changed(**neuron):
    return dense(np.eye(2), neuron={**NEURON, **neuron})


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (
            [changed(type=b"SDNN")],
            ["layer 0 (dense): neurons of type 'SDNN' are not supported; supported: CUBA"],
        ),
        ([changed(wgtExp=2)], ["wgtExp is 2; supported: 0"]),
        ([changed(vThMant=25.5)], ["vThMant is 25.5; only whole numbers"]),
        ([changed(vThMant=np.arange(3))], ["vThMant has 3 values; the layer has 2 neurons"]),
        ([dense(0.5 * np.eye(2))], ["a weight is 0.5; only whole numbers"]),
        ([dense(255 * np.eye(2))], ["a weight is 255; supported: even from -254 to 254, or any from -127 to 127"]),
        ([dense(np.eye(2)), dense(np.eye(3))], ["layer 1 (dense): takes 3 lines, the layer before has 2"]),
        ([dense(np.eye(2)), {"type": "average", "shape": np.array([1])}], ["read those before it: layers=1"]),
        ([{"type": "input", "shape": np.array([3])}], ["the file has no layer of neurons"]),
        ([changed(type=b"RF"), dense(0.5 * np.eye(2))], ["layer 0 (dense): neurons", "layer 1 (dense): a weight"]),
    ],
)
def test_what_has_no_integer_form_is_named_with_its_layer(tmp_path, layers, words):
    with pytest.raises(BadInput, match=r"x\.net: ") as error:
        from_netx(file(tmp_path / "x.net", *layers), 4)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_files_of_another_kind_are_told_apart(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        from_netx(tmp_path / "x.net", 4)
    (tmp_path / "x.net").write_text("no HDF5")
    with pytest.raises(BadInput, match=r"not a readable \.net file"):
        from_netx(tmp_path / "x.net", 4)
    with h5py.File(tmp_path / "y.net", "w") as opened:
        opened.create_group("node")
    with pytest.raises(BadInput, match="it has no group 'layer' of numbered layers"):
        from_netx(tmp_path / "y.net", 4)


@pytest.mark.parametrize("kind", [recurrent, convolutional])
def test_commands_run_a_file_at_once(tmp_path, kind):
    rng = np.random.default_rng(1)
    program = kind(rng)
    write_netx(program, tmp_path / "network.net")
    inputs = random_inputs(rng, program, samples=3, rate=0.6)
    np.savez(tmp_path / "data.npz", input=inputs)
    activity = Activity(inputs=tmp_path / "data.npz", steps=program.steps)
    result = run_network(tmp_path / "network.net", activity)
    assert result.spikes == {name: int(fired.sum()) for name, fired in run_integer(program, inputs).spikes.items()}
    with pytest.raises(BadInput, match="does not determine the number of time steps"):
        run_network(tmp_path / "network.net", Activity(rate=0.1))
