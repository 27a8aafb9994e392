"""Integer programs: what they say of themselves, and their files."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from esl_neuro.compiler.program import Connection, Group, Program, differences, refuse_unsound
from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.kernel import Kernel

ARRAYS = ("du", "dv", "vth", "bias_mant", "bias_exp")


def make_program(rng, sizes=(5, 4, 3)):
    connections, groups, source = [], [], "input"
    for index, (fan_in, fan_out) in enumerate(pairwise(sizes), start=1):
        weights = 2 * rng.integers(-127, 128, (fan_out, fan_in)) * (rng.random((fan_out, fan_in)) < 0.5)
        name = f"lif{index}"
        connections.append(Connection(source, name, sp.csr_matrix(weights.astype(np.int32)), 0, weights.size))
        values = {
            "du": rng.integers(-1, 4096, fan_out),
            "dv": rng.integers(0, 4096, fan_out),
            "vth": rng.integers(0, 2**17, fan_out),
            "bias_mant": rng.integers(-4095, 4096, fan_out),
            "bias_exp": rng.integers(0, 8, fan_out),
        }
        groups.append(Group(name, **values, scale=rng.random(fan_out) if rng.random() < 0.5 else float(rng.random())))
        source = name
    return Program("loihi2", sizes[0], 7, 1e-4, tuple(connections), tuple(groups))


def make_graph(rng):
    """A residual connection, a loop, a delay, a kernel, graded input and a readout by potential."""
    chain = make_program(rng, (18, 8, 8, 3))
    kernel = Kernel((2 * rng.integers(-127, 128, (2, 2, 2, 2))).astype(np.int32), (2, 3, 3))
    first, second, third = chain.connections
    skip = replace(third, source="lif1")
    loop = replace(second, source="lif2", delay=1, weight_exp=-2)
    late = replace(second, delay=3)
    connections = (replace(first, weights=kernel), second, loop, late, third, skip)
    return replace(chain, connections=connections, readout="potential", input_bits=6, input_scale=63.0)


def assert_equal(one, other):
    assert differences(one, other) == []
    for field in ("target", "input_size", "steps", "dt_s", "readout", "input_bits", "input_scale"):
        assert getattr(one, field) == getattr(other, field)
    assert len(one.groups) == len(other.groups)
    for (connection, group), (other_connection, other_group) in zip(one.layers(), other.layers(), strict=True):
        for field in ("source", "target", "weight_exp", "declared", "stored", "delay"):
            assert getattr(connection, field) == getattr(other_connection, field)
        assert type(other_connection.weights) is type(connection.weights)
        assert connection.weights.shape == other_connection.weights.shape
        assert connection.matrix.toarray().tolist() == other_connection.matrix.toarray().tolist()
        assert group.name == other_group.name
        assert group.scale.shape == (group.neurons,)
        assert np.array_equal(group.scale, other_group.scale)
        assert group.reset == other_group.reset
        keys = ARRAYS if group.reset_by is None else (*ARRAYS, "reset_by")
        for key in keys:
            assert getattr(other_group, key).dtype == np.int64
            assert getattr(group, key).tolist() == getattr(other_group, key).tolist()


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(1, 9), min_size=2, max_size=5))
def test_saved_program_reads_back_equal(seed, sizes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("program")
    program = make_program(np.random.default_rng(seed), sizes)
    program.save(folder)
    assert_equal(program, Program.load(folder))


def test_saved_graph_of_groups_reads_back_equal(tmp_path):
    program = make_graph(np.random.default_rng(1))
    program.save(tmp_path)
    assert_equal(program, Program.load(tmp_path))


def test_integers_of_connections_are_stored_in_32_bits_whatever_they_were(tmp_path):
    program = make_graph(np.random.default_rng(1))

    def widened(weights):
        if isinstance(weights, Kernel):
            return replace(weights, weights=weights.weights.astype(np.int64))
        wide = weights.astype(np.int64)
        wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
        return wide

    wide = [replace(each, weights=widened(each.weights)) for each in program.connections]
    replace(program, connections=tuple(wide)).save(tmp_path)
    stored = load_file(tmp_path / "program.safetensors")
    assert {array.dtype for name, array in stored.items() if name.startswith("connections/")} == {np.dtype(np.int32)}
    assert_equal(program, Program.load(tmp_path))


def with_subtraction(program):
    first, *others = program.groups
    return replace(program, groups=(replace(first, reset_by=first.vth << 6), *others))


def test_resets_are_stored_and_earlier_versions_refuse_a_program_that_subtracts(tmp_path):
    program = make_program(np.random.default_rng(1))
    program.save(tmp_path)
    assert json.loads((tmp_path / "program.json").read_text())["schema"] == 3
    subtracting = with_subtraction(program)
    subtracting.save(tmp_path)
    document = json.loads((tmp_path / "program.json").read_text())
    assert document["schema"] == 3
    assert [group["reset"] for group in document["groups"]] == ["subtract", "zero"]
    assert_equal(Program.load(tmp_path), subtracting)
    assert differences(program, subtracting) == ["lif1.reset_by"]


def test_a_program_without_resets_resets_to_zero(folder):
    document = json.loads((folder / "program.json").read_text())
    for group in document["groups"]:
        del group["reset"]
    del document["arithmetic"]["resets"]
    (folder / "program.json").write_text(json.dumps(document))
    program = Program.load(folder)
    assert [group.reset for group in program.groups] == ["zero", "zero"]
    assert program.formats.resets == ["zero"]


def test_any_change_is_a_difference():
    program = make_graph(np.random.default_rng(1))
    for field, value in (("readout", "spikes"), ("input_bits", 4), ("input_scale", 2.0), ("steps", 8)):
        assert differences(program, replace(program, **{field: value})) == [field]
    changed = list(program.connections)
    changed[3] = replace(changed[3], delay=2)
    assert differences(program, replace(program, connections=tuple(changed))) == ["lif1 -> lif2.delay"]
    kernel = changed[0].weights
    changed = list(program.connections)
    changed[0] = replace(changed[0], weights=replace(kernel, weights=kernel.weights + 2))
    assert differences(program, replace(program, connections=tuple(changed))) == ["input -> lif1.weights"]
    changed[0] = replace(changed[0], weights=kernel.matrix())
    assert differences(program, replace(program, connections=tuple(changed))) == ["input -> lif1.weights"]


def test_a_group_may_have_several_connections():
    program = make_graph(np.random.default_rng(1))
    assert [each.source for each in program.incoming("lif2")] == ["lif1", "lif2", "lif1"]
    assert program.output.name == "lif3"


def test_figures_add_up():
    program = make_program(np.random.default_rng(0), (6, 5, 4, 3))
    dense = [connection.weights.toarray() for connection in program.connections]
    assert program.neurons == 5 + 4 + 3
    assert program.synapses == sum(int((weights != 0).sum()) for weights in dense)
    assert [(connection.source, group.name) for connection, group in program.layers()] == [
        ("input", "lif1"),
        ("lif1", "lif2"),
        ("lif2", "lif3"),
    ]


@pytest.fixture
def folder(tmp_path):
    make_program(np.random.default_rng(0)).save(tmp_path)
    return tmp_path


def refused(folder, pattern):
    with pytest.raises(BadInput, match=pattern) as caught:
        Program.load(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", ["program.json", "program.safetensors"])
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    refused(folder, "not an export .*" + name)


def test_missing_folder_is_refused(tmp_path):
    refused(tmp_path / "nowhere", "not an export")


def test_file_instead_of_a_folder_is_refused(folder):
    refused(folder / "program.json", "not an export")


@pytest.mark.parametrize("name", ["program.json", "program.safetensors"])
@pytest.mark.parametrize("damage", ["empty", "half", "noise"])
def test_damaged_file_is_refused(folder, name, damage):
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "noise": b"\xff\x00" * 50}[damage])
    refused(folder, "the program is damaged")


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.pop("steps"),
        lambda document: document.pop("schema"),
        lambda document: document["groups"][0].pop("name"),
        lambda document: document["groups"][0].update(name="lif9"),
        lambda document: document["connections"][0].update(target="lif9"),
        lambda document: document["connections"][1].update(source="nobody"),
        lambda document: document["connections"][1].pop("delay"),
        lambda document: document.update(connections=3),
    ],
)
def test_structure_that_does_not_fit_the_integers_is_refused(folder, change):
    path = folder / "program.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    refused(folder, "the program is damaged")


def test_other_schema_is_refused_with_both_versions(folder):
    path = folder / "program.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
    refused(folder, r"is 99; this version \(.*\) reads 2 and 3; install the version that wrote it")


def test_integers_of_another_program_are_refused(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    make_program(np.random.default_rng(1), (5, 4)).save(other)
    shutil.copy(other / "program.safetensors", folder / "program.safetensors")
    refused(folder, "the program is damaged")


# What compiled loops use as an index.


def damage(folder, name, change):
    """Change one array of program.safetensors."""
    path = folder / "program.safetensors"
    arrays = load_file(path)
    arrays[name] = change(arrays[name].copy())
    save_file(arrays, path)


def put(index, value):
    def change(array):
        array[index] = value
        return array

    return change


@pytest.mark.parametrize(
    ("array", "change", "words"),
    [
        ("indices", put(0, -1), "source -1 does not exist"),
        ("indices", put(-1, 2**30), "source 1073741824 does not exist"),
        ("indices", put(-1, 4), "source 4 does not exist"),  # the number of sources
        ("indices", lambda array: array.astype(np.float32), "expected integers of shape"),
        ("indices", lambda array: array[:-1], "indptr ends at"),
        ("indices", lambda array: np.sort(array)[::-1].copy(), "not in ascending order"),
        ("indices", np.zeros_like, "not in ascending order"),
        ("indices", lambda array: array[None], "of shape"),
        ("indptr", put(0, 1), "does not ascend from 0"),
        ("indptr", put(0, -1), "does not ascend from 0"),
        ("indptr", put(1, 2**30), "does not ascend from 0"),
        ("indptr", put(-1, 2**30), "indptr ends at 1073741824"),
        ("indptr", lambda array: array[:-1], "indptr has 3 entries; expected 4"),
        ("data", lambda array: array[:-1], "indptr ends at"),
        ("data", lambda array: array.astype(np.float64), "expected integers"),
    ],
)
def test_indices_that_would_leave_their_arrays_are_refused(folder, array, change, words):
    damage(folder, f"connections/1/{array}", change)
    refused(folder, f"the program is damaged .*{words}")


@pytest.mark.parametrize(
    ("array", "change", "words"),
    [
        ("groups/lif1/du", lambda array: array[:-1], r"expected integers of shape \(4\)"),
        ("groups/lif1/vth", lambda array: array.astype(np.float32), "expected integers"),
        ("groups/lif1/scale", put(0, np.nan), "not positive numbers"),
        ("groups/lif1/scale", put(0, -1.0), "not positive numbers"),
        ("groups/lif9/du", np.array, "belong to no group"),
    ],
)
def test_parameters_of_another_form_are_refused(tmp_path, array, change, words):
    program = make_program(np.random.default_rng(0))
    program = replace(
        program, groups=tuple(replace(group, scale=np.full(group.neurons, 1.5)) for group in program.groups)
    )
    program.save(tmp_path)
    arrays = load_file(tmp_path / "program.safetensors")
    save_file(arrays | {array: arrays.get(array, np.zeros(4, np.int64))}, tmp_path / "program.safetensors")
    damage(tmp_path, array, change)
    refused(tmp_path, f"the program is damaged .*{words}")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input_bits", 2**31), ("input_bits", 0), ("input_bits", True), ("input_size", 2**40), ("input_size", 0),
        ("steps", 0), ("steps", -3), ("steps", 1.5), ("dt_s", float("nan")), ("dt_s", -1.0), ("dt_s", 0),
        ("input_scale", float("inf")), ("readout", "loudest"), ("target", "../../X"), ("target", "a\nb"),
        ("groups", []), ("connections", []), ("arithmetic", {}), ("surprise", 1),
    ],
)  # fmt: skip
def test_numbers_outside_their_range_are_refused(folder, field, value):
    path = folder / "program.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    refused(folder, f"the program is damaged .*{field}")


def test_every_finding_of_a_structure_is_in_one_message(folder):
    path = folder / "program.json"
    document = json.loads(path.read_text()) | {"steps": 0, "input_bits": 99}
    document["connections"][0]["delay"] = -1
    path.write_text(json.dumps(document))
    refused(folder, r"steps: 0: .*input_bits: 99: .*connections\.0\.delay: -1: ")


@pytest.mark.parametrize(
    ("field", "value"),
    [("input_shape", [2, 3, 4]), ("input_shape", [18]), ("stride", [0, 1]), ("padding", [2**30, 2**30]), ("groups", 0)],
)
def test_a_kernel_that_does_not_fit_its_groups_is_refused(tmp_path, field, value):
    make_graph(np.random.default_rng(2)).save(tmp_path)
    path = tmp_path / "program.json"
    document = json.loads(path.read_text())
    document["connections"][0]["kernel"][field] = value
    path.write_text(json.dumps(document))
    with pytest.raises(BadInput, match="export again"):
        Program.load(tmp_path)


def test_a_matrix_in_any_order_is_written_in_ascending_order(tmp_path):
    program = make_program(np.random.default_rng(0))
    weights = program.connections[0].weights
    mixed = sp.csr_matrix((weights.data[::-1], weights.indices[::-1], weights.indptr[-1] - weights.indptr[::-1]))
    mixed.resize(weights.shape)
    backwards = replace(program, connections=(replace(program.connections[0], weights=mixed), *program.connections[1:]))
    backwards.save(tmp_path)
    again = Program.load(tmp_path).connections[0].weights
    assert again.toarray().tolist() == mixed.toarray().tolist()


def test_weights_with_which_a_loop_would_leave_its_arrays_are_refused_all_at_once():
    program = make_graph(np.random.default_rng(0))
    assert refuse_unsound(program) is None
    first, second, third, *others = program.connections
    outside, descending = second.weights.copy(), third.weights.copy()
    outside.indices[0] = 8
    descending.indptr[1] = descending.indptr[-1] + 1
    wrong = (
        replace(first, weights=replace(first.weights, stride=(0, 1))),
        replace(second, weights=outside),
        replace(third, weights=descending),
        *others,
    )
    with pytest.raises(BadInput) as caught:
        refuse_unsound(replace(program, connections=wrong))
    said = str(caught.value).splitlines()
    assert said[0] == "the program is invalid:"
    assert [line.split(": ")[0] for line in said[1:]] == [
        f"- connection '{each.source}' -> '{each.target}'" for each in (first, second, third)
    ]
    assert said[1].endswith(": stride is (0, 1); expected (rows, columns), each at least 1")
    assert f": source 8 does not exist (1 of {outside.nnz} synapses); sources are 0 to 7" in said[2]
    assert said[3].endswith(": indptr does not ascend from 0")
