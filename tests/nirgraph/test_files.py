"""NIR files: what cannot be read is refused in one line, and any graph reads back as it was written."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import h5py
import nir
import numpy as np
import pytest

from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.files import read_nir, write_nir
from esl_neuro.nirgraph.linear_nodes import LINEAR
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
    write_nir(tmp_path / "network.nir", graph)
    again = read_nir(tmp_path / "network.nir")
    inputs = (rng.random((2, 6, *graph.nodes["input"].input_type["input"])) < 0.5).astype(float)
    one, other = simulate(graph, inputs), simulate(again, inputs)
    assert np.array_equal(one.outputs, other.outputs)
    assert all(np.array_equal(one.spikes[name], other.spikes[name]) for name in one.spikes)


@dataclass(eq=False)
class Ring(nir.NIRNode):
    """A type of node that the library does not define."""

    scale: np.ndarray

    def __post_init__(self):
        self.input_type = {"input": np.array(self.scale.shape)}
        self.output_type = {"output": np.array(self.scale.shape)}


def test_a_registered_type_of_node_reads_back(tmp_path, monkeypatch):
    graph = chain(nir.Scale(np.ones(2)))
    write_nir(tmp_path / "x.nir", nir.NIRGraph(graph.nodes | {"lif1": Ring(np.ones(2))}, graph.edges, type_check=False))
    with pytest.raises(BadInput, match="node 'lif1': type 'Ring' is unknown"):
        read_nir(tmp_path / "x.nir")
    monkeypatch.setitem(LINEAR, Ring, LINEAR[nir.Scale])
    assert type(read_nir(tmp_path / "x.nir").nodes["lif1"]) is Ring


# Files that are incomplete, damaged, or of another kind.


def written(tmp_path, change=lambda _node: None):
    """A file with a weighted layer and neurons, after a change of its HDF5 group ``node``."""
    nodes = {
        "input": nir.Input({"input": np.array([3])}),
        "fc": nir.Linear(np.arange(6.0).reshape(2, 3)),
        "lif": lif(0.0),
        "output": nir.Output({"output": np.array([2])}),
    }
    path = tmp_path / "network.nir"
    nir.write(path, nir.NIRGraph(nodes, list(pairwise(nodes)), {"dt_s": 1e-3}, type_check=False))
    with h5py.File(path, "r+") as file:
        change(file["node"])
    return path


def renamed(node):
    del node["nodes/lif/type"]
    node["nodes/lif/type"] = "ALIF"


def without(*fields):
    def change(node):
        for field in fields:
            del node[field]

    return change


def added(node):
    node["nodes/lif/beta"] = 0.5


def flat_edges(node):
    del node["edges"]
    node["edges"] = np.arange(3)


def number_for_node(node):
    del node["nodes/lif"]
    node["nodes/lif"] = 3


def text_for_weight(node):
    del node["nodes/fc/weight"]
    node["nodes/fc/weight"] = "many"


def other_shapes(node):
    del node["nodes/lif/tau"]
    node["nodes/lif/tau"] = np.ones(3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (renamed, ["node 'lif': type 'ALIF' is unknown; did you mean 'LIF'?"]),
        (without("nodes/lif/type"), ["node 'lif': has no type (it has r, tau, v_leak", "not written completely"]),
        (without("edges"), ["graph: has no edges; the file was not written completely"]),
        (without("nodes"), ["graph: has no nodes; the file was not written completely"]),
        (without("nodes/fc/weight"), ["node 'fc': Linear has no weight"]),
        (without("nodes/lif/r", "nodes/fc/weight"), ["node 'lif': LIF has no r", "node 'fc': Linear has no weight"]),
        (added, ["node 'lif': LIF has the field beta, which NIR does not define"]),
        (flat_edges, ["graph: edges cannot be read"]),
        (number_for_node, ["node 'lif': is a number, not a node"]),
        (text_for_weight, ["node 'fc': Linear is inconsistent", "weight 'many'"]),
        (other_shapes, ["node 'lif': LIF is inconsistent", "tau (3,)", "v_threshold (2,)"]),
    ],
)
def test_a_node_that_cannot_be_read_is_named_in_one_line(change, said, tmp_path):
    with pytest.raises(BadInput, match=r"network\.nir: not a readable NIR file: ") as error:
        read_nir(written(tmp_path, change))
    assert "\n" not in str(error.value)
    assert all(part in str(error.value) for part in said), str(error.value)


def test_a_nested_node_is_named_with_its_graph(tmp_path):
    path = tmp_path / "nested.nir"
    nir.write(path, chain(chain(lif(0.0))))
    with h5py.File(path, "r+") as file:
        del file["node/nodes/lif1/nodes/lif1/type"]
        file["node/nodes/lif1/nodes/lif1/type"] = "ALIF"
    with pytest.raises(BadInput, match=r"node 'lif1\.lif1': type 'ALIF' is unknown"):
        read_nir(path)


def test_an_unknown_type_in_a_file_of_another_version_names_both_versions(tmp_path):
    path = written(tmp_path, renamed)
    with h5py.File(path, "r+") as file:
        del file["version"]
        file["version"] = "9.9"
    with pytest.raises(BadInput, match=r"the file was written by nir 9\.9, nir 1"):
        read_nir(path)


def other_files(folder):
    """Files that are no NIR files, and what is said of each."""
    good = written(folder).read_bytes()
    with h5py.File(folder / "lava.net", "w") as file:
        file.create_group("layer")
    with h5py.File(folder / "keras.h5", "w") as file:
        file.create_group("model_weights")
    with h5py.File(folder / "colours.h5", "w") as file:
        file.create_group("\x1b[31m")
    with h5py.File(folder / "data.nir", "w") as file:
        file.attrs["__type__"] = "NIRGraphData"
    return [
        (b"", "it is empty"),
        (b"PK\x03\x04 and more", "it is not an HDF5 file (it begins with b'PK"),
        (good[: len(good) // 2], "it is cut off or damaged"),
        (good[:600], "it is cut off or damaged"),
        ((folder / "lava.net").read_bytes(), "it is a .net file of lava-dl"),
        ((folder / "keras.h5").read_bytes(), "without the group 'node'; it has 'model_weights'"),
        ((folder / "colours.h5").read_bytes(), r"without the group 'node'; it has '\x1b[31m'"),
        ((folder / "data.nir").read_bytes(), "it is NIRData, recorded signals, not a network"),
    ]


def test_a_file_of_another_kind_or_a_part_of_a_file_is_told_apart(tmp_path):
    for content, said in other_files(tmp_path):
        (tmp_path / "x.nir").write_bytes(content)
        with pytest.raises(BadInput) as error:
            read_nir(tmp_path / "x.nir")
        assert said in str(error.value)
        assert "\n" not in str(error.value)


def test_any_prefix_of_a_file_is_refused_in_one_line(tmp_path):
    good = written(tmp_path).read_bytes()
    for length in range(1, len(good), len(good) // 37):
        (tmp_path / "x.nir").write_bytes(good[:length])
        with pytest.raises(BadInput) as error:
            read_nir(tmp_path / "x.nir")
        assert "\n" not in str(error.value)


# What a writer left out and the graph determines.


def test_parameters_of_one_value_beside_others_of_one_value_per_neuron_are_repeated(tmp_path):
    def scalars(node):
        for field in ("r", "v_leak", "v_reset"):
            del node[f"nodes/lif/{field}"]
            node[f"nodes/lif/{field}"] = {"r": 3.0}.get(field, 0.0)

    lif_read = read_nir(written(tmp_path, scalars)).nodes["lif"]
    assert lif_read.r.tolist() == [3.0, 3.0]
    assert lif_read.v_leak.tolist() == [0.0, 0.0]
    assert lif_read.tau.tolist() == [2e-3, 2e-3]


def convolution(input_shape=None):
    nodes = {
        "input": nir.Input({"input": np.array([2, 5, 4])}),
        "conv": nir.Conv2d(input_shape, np.ones((3, 2, 3, 2)), (1, 1), (0, 0), (1, 1), 1, np.zeros(3)),
        "if": nir.IF(np.array(1000.0), np.array(1.5), np.array(0.0)),
        "output": nir.Output({"output": np.array([3, 3, 3])}),
    }
    return nir.NIRGraph(nodes, list(pairwise(nodes)), {"dt_s": 1e-3}, type_check=False)


def test_a_convolution_without_input_shape_reads_like_one_with_it(tmp_path):
    write_nir(tmp_path / "x.nir", convolution((5, 4)))
    with h5py.File(tmp_path / "x.nir", "r+") as file:
        del file["node/nodes/conv/input_shape"]
    inputs = (np.random.default_rng(0).random((2, 6, 2, 5, 4)) < 0.5).astype(float)
    expected = simulate(convolution((5, 4)), inputs).outputs
    assert expected.any()
    assert np.array_equal(simulate(read_nir(tmp_path / "x.nir"), inputs).outputs, expected)


def test_a_written_file_has_every_input_shape_so_that_other_readers_open_it(tmp_path):
    write_nir(tmp_path / "x.nir", convolution())
    with h5py.File(tmp_path / "x.nir") as file:
        assert file["node/nodes/conv/input_shape"][()].tolist() == [5, 4]


def test_a_write_that_fails_leaves_no_file_and_no_change(tmp_path):
    unknown = convolution()
    unknown.nodes["input"] = nir.Input({"input": None})
    write_nir(tmp_path / "x.nir", convolution())
    before = (tmp_path / "x.nir").read_bytes()
    with pytest.raises(BadInput, match="node 'conv' has no input_shape"):
        write_nir(tmp_path / "x.nir", unknown)
    assert (tmp_path / "x.nir").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.nir"]


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
