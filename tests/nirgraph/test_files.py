"""NIR files: what cannot be read is refused in one line, and any graph reads back as it was written."""

from __future__ import annotations

import h5py
import nir
import numpy as np
import pytest

from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.files import read_nir, write_nir
from esl_neuro.nirgraph.reading import discretise
from esl_neuro.nirgraph.simulation import simulate
from random_graphs import random_graph


def test_file_that_is_missing_or_no_nir_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        read_nir(tmp_path / "network.nir")
    with pytest.raises(BadInput, match="not a file"):
        read_nir(tmp_path)
    (tmp_path / "network.nir").write_text("not HDF5")
    with pytest.raises(BadInput, match="not a readable NIR file"):
        read_nir(tmp_path / "network.nir")
    nir.write(tmp_path / "network.nir", nir.Threshold(np.ones(2)))
    with pytest.raises(BadInput, match="a single Threshold node, not a graph"):
        read_nir(tmp_path / "network.nir")


@pytest.mark.parametrize("seed", range(8))
def test_a_graph_reads_back_as_it_was_written(seed, tmp_path):
    """Oblong kernels and groups too, of which the library's own check of types has another opinion."""
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    for name, shape in discretise(graph).arriving.items():
        node = graph.nodes[name]
        if hasattr(node, "input_shape"):
            node.input_shape = shape[1] if len(shape) == 2 else shape[1:]  # a file must have it
        for field, value in vars(node).items():
            if isinstance(value, np.ndarray) and value.ndim == 0:  # which the library cannot write
                setattr(node, field, value[None])
    write_nir(tmp_path / "network.nir", graph)
    again = read_nir(tmp_path / "network.nir")
    inputs = (rng.random((2, 6, *graph.nodes["input"].input_type["input"])) < 0.5).astype(float)
    one, other = simulate(graph, inputs), simulate(again, inputs)
    assert np.array_equal(one.outputs, other.outputs)
    assert all(np.array_equal(one.spikes[name], other.spikes[name]) for name in one.spikes)


def lif(v_reset):
    return nir.LIF(*(np.full(2, value) for value in (2e-3, 1.0, 0.0, 1.0, v_reset)))


def chain(node):
    ends = {"input": nir.Input({"input": np.array([2])}), "output": nir.Output({"output": np.array([2])})}
    return nir.NIRGraph({**ends, "lif1": node}, [("input", "lif1"), ("lif1", "output")], {"dt_s": 1e-3})


def test_files_for_older_readers_have_no_reset_potential(tmp_path):
    write_nir(tmp_path / "old.nir", chain(lif(0.0)), "1.0.4")
    with h5py.File(tmp_path / "old.nir") as file:
        assert "v_reset" not in file["node/nodes/lif1"]
        assert file["version"][()] == b"1.0.4"
    assert not np.any(read_nir(tmp_path / "old.nir").nodes["lif1"].v_reset)
    write_nir(tmp_path / "nested.nir", chain(chain(lif(0.0))), "1.0.4")
    with h5py.File(tmp_path / "nested.nir") as file:
        assert "v_reset" not in file["node/nodes/lif1/nodes/lif1"]


def test_what_an_older_file_cannot_say_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"allowed: 1\.0\.4, current"):
        write_nir(tmp_path / "x.nir", chain(lif(0.0)), "1.0.3")
    with pytest.raises(BadInput, match="'lif1'"):
        write_nir(tmp_path / "x.nir", chain(lif(0.5)), "1.0.4")
    with pytest.raises(BadInput, match=r"'lif1\.lif1'"):
        write_nir(tmp_path / "x.nir", chain(chain(lif(0.5))), "1.0.4")
