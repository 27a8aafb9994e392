"""Damaged NIR files: every finding by its kind, its place and what the file has instead."""

from __future__ import annotations

from itertools import pairwise

import h5py
import nir
import numpy as np
import pytest

from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.documents import Malformed, read_document
from esl_neuro.nirgraph.files import read_nir, write_nir
from esl_neuro.nirgraph.reset_notes import NIR_VERSION

UNFINISHED = "; the file was not written completely"


def lif(v_reset=0.0, metadata=None):
    node = nir.LIF(*(np.full(2, value) for value in (2e-3, 1.0, 0.0, 1.0, v_reset)))
    node.metadata = metadata or {}
    return node


def network(**nodes):
    named = {"input": nir.Input({"input": np.array([3])}), "fc": nir.Linear(np.arange(6.0).reshape(2, 3)), "lif": lif()}
    named |= {"output": nir.Output({"output": np.array([2])})} | nodes
    return nir.NIRGraph(named, [*pairwise(["input", "fc", "lif", "output"])], {"dt_s": 1e-3}, type_check=False)


@pytest.fixture
def path(tmp_path):
    write_nir(tmp_path / "x.nir", network())
    return tmp_path / "x.nir"


def change(path, **fields):
    """Replace fields of the group ``node``, written as ``nodes__lif__tau``; None removes one."""
    with h5py.File(path, "r+") as file:
        for name, value in fields.items():
            place = name.replace("__", "/")
            if place in file["node"]:
                del file["node"][place]
            if value is not None:
                file["node"][place] = value


def findings(path):
    with h5py.File(path) as file:
        graph, found = read_document(file)
    assert (graph is None) == bool(found)
    return [(each.kind, each.place, each.message) for each in found]


@pytest.mark.parametrize(
    ("fields", "kind", "place", "message"),
    [
        ({"nodes": None}, "malformed", "graph", "has no nodes" + UNFINISHED),
        ({"nodes": 3}, "malformed", "graph", "has no nodes" + UNFINISHED),
        ({"edges": None}, "malformed", "graph", "has no edges" + UNFINISHED),
        (
            {"edges": [[b"fc", b"lif", b"x"]]},
            "malformed",
            "graph",
            "edge ('fc', 'lif', 'x') is not a pair of node names",
        ),
        ({"edges": [[1, 2]]}, "malformed", "graph", "edge ("),
        ({"nodes__fc": 3}, "malformed", "node 'fc'", "is a number, not a node" + UNFINISHED),
        ({"nodes__fc__type": None}, "malformed", "node 'fc'", "has no type (it has weight)" + UNFINISHED),
        ({"nodes__fc__type": 7}, "malformed", "node 'fc'", "has no type (it has type, weight)" + UNFINISHED),
        ({"nodes__lif__type": "ALIF"}, "unknown-node", "node 'lif'", "type 'ALIF' is unknown; did you mean 'LIF'?"),
        ({"nodes__lif__type": "NIRNode"}, "unknown-node", "node 'lif'", "type 'NIRNode' is unknown; "),
        ({"nodes__lif__tau": None}, "malformed", "node 'lif'", "LIF has no tau"),
        ({"nodes__input__shape": None}, "malformed", "node 'input'", "Input has no shape"),
        (
            {"nodes__lif__beta": 0.5},
            "malformed",
            "node 'lif'",
            "LIF has the field beta, which NIR does not define; remove it",
        ),
        ({"nodes__fc__weight": "many"}, "malformed", "node 'fc'", "Linear is inconsistent ("),
    ],
)
def test_what_is_damaged_is_named_with_what_is_there(path, fields, kind, place, message):
    change(path, **fields)
    ((found, where, said),) = findings(path)
    assert (found, where) == (kind, place)
    assert said.startswith(message)


def test_everything_that_is_damaged_is_named_at_once(path):
    change(path, nodes__lif__tau=None, nodes__lif__r=None, nodes__lif__a=1, nodes__lif__b=2, edges=None)
    assert findings(path) == [
        ("malformed", "node 'lif'", "LIF has no tau, r"),
        ("malformed", "node 'lif'", "LIF has the field a, b, which NIR does not define; remove it"),
        ("malformed", "graph", "has no edges" + UNFINISHED),
    ]


def test_a_part_that_cannot_be_read_is_named(path):
    """The stored weights are no gzip stream."""
    change(path, nodes__fc__weight=None)
    with h5py.File(path, "r+") as file:
        stored = file["node/nodes/fc"].create_dataset("weight", (2, 3), "f8", chunks=(2, 3), compression="gzip")
        stored.id.write_direct_chunk((0, 0), b"no gzip", 0)
    (kind, place, message), missing = findings(path)
    assert missing == ("malformed", "node 'fc'", "Linear has no weight")
    assert (kind, place) == ("malformed", "node 'fc'")
    assert message.startswith("weight cannot be read (")
    assert "\n" not in message


def test_a_constructor_that_fails_is_quoted_in_one_line_with_the_shapes(path):
    change(path, nodes__lif__tau=np.ones((2, 3)))
    ((kind, place, message),) = findings(path)
    assert (kind, place) == ("malformed", "node 'lif'")
    assert message.startswith("LIF is inconsistent (")
    assert "; it has r (2,), tau (2, 3), v_leak (2,), v_reset (2,), v_threshold (2,)" in message
    assert "\n" not in message


def test_a_name_that_cannot_be_printed_is_shown_in_ascii(path):
    with h5py.File(path, "r+") as file:
        file["node/nodes"].move("fc", "f\x1bc")
    ((kind, place, message),) = findings(path)
    assert kind == "malformed"
    assert "\x1b" not in place
    assert message == "the name has characters that cannot be printed; rename the node"


def test_nodes_of_nested_graphs_are_named_with_their_graph(tmp_path):
    write_nir(tmp_path / "x.nir", network(lif=network(fc=nir.Linear(np.ones((2, 2))))))
    change(tmp_path / "x.nir", nodes__lif__nodes__lif__tau=None, nodes__lif__edges=None, nodes__lif__metadata=None)
    assert [each[:2] for each in findings(tmp_path / "x.nir")] == [
        ("malformed", "node 'lif.lif'"),
        ("malformed", "graph 'lif'"),
    ]


def test_metadata_and_nested_entries_are_read(tmp_path):
    graph = network()
    graph.nodes["lif"].metadata = {"reset": "subtract", "inner": {"deep": 3}}
    write_nir(tmp_path / "x.nir", graph)
    again = read_nir(tmp_path / "x.nir")
    assert again.metadata["dt_s"] == 1e-3
    assert again.nodes["lif"].metadata["reset"] == "subtract"
    assert again.nodes["lif"].metadata["inner"] == {"deep": 3}
    assert again.edges == graph.edges


@pytest.mark.parametrize(("groups", "said"), [((), "it has nothing"), (("b", "a"), "it has 'a', 'b'")])
def test_a_file_of_something_else_is_told_by_its_groups(tmp_path, groups, said):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name in groups:
            file.create_group(name)
        with pytest.raises(Malformed) as caught:
            read_document(file)
    assert str(caught.value) == f"it is an HDF5 file without the group 'node'; {said}"


def test_the_writing_version_is_told_only_if_it_is_another(path):
    change(path, nodes__lif__type="ALIF")
    assert "written by nir" not in findings(path)[0][2]
    with h5py.File(path, "r+") as file:
        del file["version"]
    assert "written by nir" not in findings(path)[0][2]
    with h5py.File(path, "r+") as file:
        file["version"] = "0.2"
    assert "(the file was written by nir 0.2, nir " in findings(path)[0][2]


# Files of the last version without reset potentials.


def test_an_older_file_says_the_reset_for_all_neurons(tmp_path):
    write_nir(tmp_path / "x.nir", network(lif=lif(metadata={"reset": "subtract"})), "1.0.4")
    again = read_nir(tmp_path / "x.nir")
    assert again.metadata["reset"] == "subtract"
    assert again.metadata[NIR_VERSION] == "1.0.4"
    assert again.nodes["lif"].metadata == {}
    write_nir(tmp_path / "zero.nir", network(), "1.0.4")
    assert read_nir(tmp_path / "zero.nir").metadata["reset"] == "zero"
    assert NIR_VERSION not in read_nir_of_today(tmp_path).metadata


def read_nir_of_today(folder):
    write_nir(folder / "today.nir", network())
    return read_nir(folder / "today.nir")


def test_an_older_file_that_lost_its_version_says_so(tmp_path):
    write_nir(tmp_path / "x.nir", network(), "1.0.4")
    with h5py.File(tmp_path / "x.nir", "r+") as file:
        del file["version"]
    assert read_nir(tmp_path / "x.nir").metadata[NIR_VERSION] == "of an unknown version"


def test_what_an_older_file_cannot_say_is_listed(tmp_path):
    both = network(lif=lif(0.5), other=lif(0.25), third=lif())
    with pytest.raises(BadInput) as caught:
        write_nir(tmp_path / "x.nir", both, "1.0.4")
    assert str(caught.value) == "nodes 'lif', 'other' have a v_reset other than 0, which NIR 1.0.4 does not have"
    mixed = network(lif=lif(metadata={"reset": "zero"}), other=lif(metadata={"reset": "subtract"}))
    with pytest.raises(BadInput) as caught:
        write_nir(tmp_path / "x.nir", mixed, "1.0.4")
    assert str(caught.value) == "the neurons have different resets (subtract, zero); NIR 1.0.4 has one for all"
    assert not (tmp_path / "x.nir").exists()


@pytest.mark.parametrize("name", ["a/b", "", ".", "..", "a\x1b"])
def test_a_name_that_is_no_name_in_a_file_is_refused(tmp_path, name):
    for graph in (network(**{name: lif()}), network(lif=network(**{name: lif()}))):
        with pytest.raises(BadInput) as caught:
            write_nir(tmp_path / "x.nir", graph)
        said = f"nodes {name!a}: a name in a file has no '/' and only characters that can be printed"
        assert str(caught.value) == said
    with pytest.raises(BadInput, match=r"^nodes 'a/b', '\.\.': a name"):
        write_nir(tmp_path / "x.nir", network(**{"a/b": lif(), "..": lif(), "good": lif()}))
