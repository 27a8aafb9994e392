"""The tables of the compiled loops hold the program, in the layout that their description promises."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse as sp

from backends.random_programs import KINDS, random_graph, random_group, random_weights
from esl_neuro.backends import event_tables
from esl_neuro.backends.event_tables import _whole_rows_pay, lay_out
from esl_neuro.backends.taps import Taps
from esl_neuro.compiler.program import INPUT, Connection, Group, Program
from esl_neuro.nirgraph.kernel import Kernel


def matrix_of(tables, index, shape):
    """The weights of a connection without kernel, shape (targets, sources), read back from the tables."""
    targets, sources = shape
    entry, dense = tables.connections[index], np.zeros(shape, np.int64)
    if entry["rows"] >= 0:
        width = -(-targets // 64) * 64
        rows = tables.rows[entry["rows"] :][: (sources + 1) * width].reshape(sources + 1, width)
        assert not rows[:, targets:].any()  # the padding
        assert not rows[sources].any()  # the row of zeros after the last source
        marks = tables.marks[entry["marks"] :][: (sources + 1) * entry["mark_words"]]
        bits = np.unpackbits(marks.view(np.uint8), bitorder="little").reshape(sources + 1, -1)
        assert bits.shape[1] >= width
        assert (bits[:, :width] == (rows != 0)).all()
        assert not bits[:, width:].any()
        return 2 * rows[:sources, :targets].T.astype(np.int64)
    starts = tables.starts[entry["starts"] :][: sources + 1].astype(int)
    for source in range(sources):
        of_source = slice(starts[source], starts[source + 1])
        dense[tables.targets[of_source], source] = 2 * tables.halves[of_source].astype(int)
    return dense


def kernel_weights_of(tables, index, kernel):
    """The weights of a kernel, read back from the tables, by rows and by taps."""
    entry = tables.kernels[tables.connections[index]["kernel"]]
    out, block_inputs = kernel.weights.shape[:2]
    pools = entry["row_pool"], entry["column_pool"]
    stored = (entry["blocks"], entry["block_inputs"], entry["row_taps"], entry["column_taps"], entry["block_outputs"])
    halves = tables.kernel_halves[entry["start"] :][: np.prod(stored)].reshape(stored)
    words = -(-entry["block_outputs"] // 64)
    marks = tables.kernel_marks[entry["marks"] :][: words * np.prod(stored[:4])]
    bits = np.unpackbits(marks.view(np.uint8), bitorder="little").reshape(*stored[:4], -1)
    assert (bits[..., : stored[4]] == (halves != 0)).all()
    assert not bits[..., stored[4] :].any()
    by_output = 2 * halves.transpose(0, 4, 1, 2, 3).reshape(out, block_inputs, *stored[2:4]).astype(int)
    taps = Taps.of(kernel)
    parts = tables.tap_parts[tables.first_parts[entry["first_parts"] :][: out + 1]].astype(int)
    first_part = tables.first_parts[entry["first_parts"]]
    signs = tables.tap_signs[first_part : first_part + len(taps.signs)]
    assert signs.tolist() == taps.signs.tolist()
    sizes = tables.tap_sizes[parts[0] : parts[-1]]
    halves = sizes.astype(int) * np.repeat(signs, np.diff(tables.tap_parts[first_part:][: len(signs) + 1]).astype(int))
    for output, (first, last) in enumerate(itertools.pairwise(parts - parts[0])):
        of_output = halves[first:last]
        wanted = by_output[output][by_output[output] != 0]
        assert sorted(2 * of_output[of_output != 0]) == sorted(wanted)
    assert sizes.tolist() == taps.sizes.tolist()
    assert tables.tap_offsets[parts[0] : parts[-1]].tolist() == taps.offsets.tolist()
    for name, places in (("row_places", taps.row_places), ("column_places", taps.column_places)):
        assert tables.places[entry[name] :][: len(places)].tolist() == places.tolist()
    return by_output.repeat(pools[0], 2).repeat(pools[1], 3)


@pytest.mark.parametrize("rows_from", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("kind", KINDS)
def test_tables_hold_every_number_of_the_program(kind, rows_from, monkeypatch):
    monkeypatch.setattr(event_tables, "ROWS_FROM", rows_from)
    program = random_graph(np.random.default_rng(3), kind, widest=100)
    tables = lay_out(program)
    names = [group.name for group in program.groups]
    ends = np.cumsum([0, *(group.neurons for group in program.groups)])
    for index, connection in enumerate(program.connections):
        entry, weights = tables.connections[index], connection.weights
        assert entry["source"] == (-1 if connection.source == INPUT else names.index(connection.source))
        assert (entry["delay"], entry["exponent"]) == (connection.delay, connection.weight_exp)
        assert entry["graded"] == (connection.source == INPUT and program.input_bits > 1)
        fan_out = np.asarray((connection.matrix != 0).sum(axis=0)).ravel()
        assert tables.fan_out[entry["lines"] :][: len(fan_out)].tolist() == fan_out.tolist()
        if isinstance(weights, Kernel):
            assert (entry["starts"], entry["rows"], entry["marks"], entry["mark_words"]) == (-1, -1, -1, 0)
            assert kernel_weights_of(tables, index, weights).tolist() == weights.weights.tolist()
        else:
            assert tables.fan_out[entry["lines"] + len(fan_out)] == 0
            assert entry["kernel"] == -1
            assert (entry["rows"] < 0) == (entry["starts"] >= 0) == (entry["marks"] < 0)
            assert matrix_of(tables, index, weights.shape).tolist() == weights.toarray().tolist()
    for index, group in enumerate(program.groups):
        entry = tables.groups[index]
        assert (entry["first"], entry["neurons"]) == (ends[index], group.neurons)
        fed = range(entry["connections"], entry["connections_end"])
        assert [program.connections[k].target for k in fed] == [group.name] * len(program.incoming(group.name))
        assert group.neurons % entry["alike"] == 0

        def of_neurons(table, entry=entry, neurons=group.neurons):
            alike = entry["alike"]
            return table[entry["constants"] :][: neurons // alike].repeat(alike).tolist()

        assert of_neurons(tables.keep_u) == (4095 - group.du).tolist()
        assert of_neurons(tables.keep_v) == (4096 - group.dv).tolist()
        assert of_neurons(tables.threshold) == (64 * group.vth).tolist()
        assert of_neurons(tables.bias) == (group.bias_mant * 2**group.bias_exp).tolist()
        subtracted = [-1] * group.neurons if group.reset_by is None else group.reset_by.tolist()
        assert of_neurons(tables.reset_by) == subtracted


@pytest.mark.parametrize(
    ("per_channel", "alike"), [([(0, 96)], 96), ([(0, 48), (1, 48)], 48), ([(0, 64), (1, 32)], 32), ([(0, 31)], 1)]
)
@pytest.mark.parametrize("name", ["du", "dv", "vth", "bias_mant", "bias_exp", "reset_by"])
def test_neurons_in_a_row_that_are_alike_share_their_constants(per_channel, alike, name):
    values = np.concatenate([np.full(count, value) for value, count in per_channel])
    size = len(values)
    zeros, ones = np.zeros(size, np.int64), np.ones(size, np.int64)
    constants = {"du": zeros, "dv": zeros, "vth": zeros, "bias_mant": ones, "bias_exp": zeros} | {name: values}
    group = Group("only", **constants, scale=1.0)
    weights = sp.csr_matrix(np.full((size, 1), 2))
    tables = lay_out(Program("loihi2", 1, 1, 1e-3, (Connection(INPUT, "only", weights, 0, 0),), (group,)))
    assert tables.groups[0]["alike"] == alike
    assert tables.threshold.size == size // alike


def test_geometry_of_a_kernel():
    kernel = Kernel(np.full((6, 2, 1, 3), 2, np.int32), (4, 9, 8), (2, 3), (1, 0), (1, 2), groups=2)
    group = random_group(np.random.default_rng(0), "conv", kernel.shape[0])
    entry = lay_out(
        Program("loihi2", kernel.shape[1], 1, 1e-3, (Connection(INPUT, "conv", kernel, 0, 0),), (group,))
    ).kernels[0]
    named = {
        "blocks": 2, "block_inputs": 2, "block_outputs": 3,
        "row_sources": 9, "row_outputs": 6, "row_taps": 1, "row_stride": 2, "row_pad": 1, "row_step": 1, "row_pool": 1,
        "column_sources": 8, "column_outputs": 2, "column_taps": 3, "column_stride": 3, "column_pad": 0,
        "column_step": 2, "column_pool": 1,
        "start": 0, "marks": 0, "first_parts": 0, "row_places": 0, "column_places": 9,
        "channel_size": 2 * 3 * 6 * 3, "pitch": 3, "positions": 64,
    }  # fmt: skip
    assert {name: int(entry[name]) for name in entry.dtype.names if name != "few"} == named


def test_rows_are_added_for_few_spikes_and_images_for_many():
    """The fewer weights there are, the fewer spikes it takes."""

    def few(density, padding=0, bits=1):
        weights = 2 * (np.random.default_rng(0).random((64, 64, 3, 3)) < density).astype(np.int32)
        kernel = Kernel(weights, (64, 16, 16), padding=(padding, padding))
        group = random_group(np.random.default_rng(0), "conv", kernel.shape[0])
        connection = Connection(INPUT, "conv", kernel, 0, 0)
        program = Program("loihi2", kernel.shape[1], 1, 1e-3, (connection,), (group,), input_bits=bits)
        return int(lay_out(program).kernels[0]["few"])

    assert few(0.0) == 0
    assert 0 < few(0.05) < few(0.2) < few(1.0) < event_tables.NEVER
    assert few(0.05, bits=8) == event_tables.NEVER  # payloads need more than 16 bits


def test_synapses_of_a_convolution_take_the_memory_of_its_kernel():
    """Only the places of rows and columns, and numbers of sources, grow with the image."""
    weights = random_weights(np.random.default_rng(0), 8 * 9, 8, 0.5).toarray().reshape(8, 8, 3, 3).astype(np.int32)

    def sizes(size):
        kernel = Kernel(weights, (8, size, size), padding=(1, 1))
        group = random_group(np.random.default_rng(0), "conv", kernel.shape[0])
        tables = lay_out(
            Program("loihi2", kernel.shape[1], 1, 1e-3, (Connection(INPUT, "conv", kernel, 0, 0),), (group,))
        )
        assert tables.places.size == 2 * size
        assert tables.fan_out.size == kernel.shape[1]
        of_neurons = ("fan_out", "places", "keep_u", "keep_v", "bias", "threshold", "reset_by")
        return {name: getattr(tables, name).nbytes for name in tables._fields if name not in of_neurons}

    assert sizes(8) == sizes(128)


def test_every_table_begins_at_a_cache_line():
    for seed in range(4):
        tables = lay_out(random_graph(np.random.default_rng(seed), "everything", widest=100))
        for name in (
            "fan_out",
            "starts",
            "targets",
            "halves",
            "rows",
            "marks",
            "kernel_halves",
            "kernel_marks",
            "tap_offsets",
            "tap_sizes",
            "tap_parts",
        ):
            table = getattr(tables, name)
            assert table.ctypes.data % 64 == 0 or not table.size, name


@pytest.mark.parametrize(("targets", "words"), [(64, 1), (65, 2), (256, 4), (257, 8), (513, 16)])
def test_marks_of_wide_rows_fill_cache_lines(targets, words):
    rng = np.random.default_rng(0)
    weights = random_weights(rng, targets, 3, 0.5)
    connection, group = Connection(INPUT, "only", weights, 0, 0), random_group(rng, "only", targets)
    tables = lay_out(Program("loihi2", 3, 1, 1e-3, (connection,), (group,)))
    assert tables.connections[0]["mark_words"] == words
    assert tables.marks.size % 8 == 0
    assert matrix_of(tables, 0, weights.shape).tolist() == weights.toarray().tolist()


@pytest.mark.parametrize(
    ("targets", "sources", "count"),
    [(64, 64, 64), (2048, 1024, 2**21 // 64), (2048, 1025, 2048 * 1025 // 8)],
    ids=["small", "fits the cache", "larger than the cache"],
)
def test_whole_rows_are_stored_from_this_density_on(targets, sources, count):
    for nonzero, whole in ((count, True), (count - 1, False)):
        places = np.arange(nonzero)
        matrix = sp.csc_matrix((np.ones(nonzero), (places % targets, places // targets)), shape=(targets, sources))
        assert _whole_rows_pay(matrix) == whole


def test_a_stored_zero_is_no_synapse():
    weights = sp.csr_matrix((np.array([2, 0, 4]), (np.array([0, 1, 1]), np.array([0, 0, 1]))), shape=(2, 2))
    connection, group = Connection(INPUT, "only", weights, 0, 0), random_group(np.random.default_rng(0), "only", 2)
    tables = lay_out(Program("loihi2", 2, 1, 1e-3, (connection,), (group,)))
    assert tables.fan_out.tolist() == [1, 1, 0]
    assert weights.nnz == 3  # the program's own are untouched


@pytest.mark.parametrize(
    ("loops", "stages"),
    [
        ([], [(0, 1), (1, 2), (2, 3), (3, 4)]),
        ([(1, 1)], [(0, 1), (1, 2), (2, 3), (3, 4)]),
        ([(2, 1)], [(0, 1), (1, 3), (3, 4)]),
        ([(3, 0)], [(0, 4)]),
        ([(1, 0), (3, 2)], [(0, 2), (2, 4)]),
        ([(2, 0), (3, 1)], [(0, 4)]),
    ],
)
def test_the_groups_of_a_loop_share_a_stage(loops, stages):
    rng = np.random.default_rng(0)
    groups = tuple(random_group(rng, f"layer {k}", 2) for k in range(4))
    names = [group.name for group in groups]
    edges = [(source, target, 0) for source, target in zip([INPUT, *names[:-1]], names, strict=True)]
    edges += [(names[source], names[target], 4) for source, target in loops]
    edges.sort(key=lambda edge: names.index(edge[1]))
    connections = tuple(Connection(s, t, random_weights(rng, 2, 2, 1.0), 0, 4, delay) for s, t, delay in edges)
    tables = lay_out(Program("loihi2", 2, 3, 1e-3, connections, groups))
    assert tables.stages.tolist() == stages
