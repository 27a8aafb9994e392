"""The check of a graph is total: whatever is in it, there is a verdict, and an error has a name."""

from __future__ import annotations

import copy
import json
import os
import re
import time

import h5py
import nir
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from esl_neuro.cli.check import check_file, render
from esl_neuro.cli.main import main
from esl_neuro.compiler.check import check_graph
from esl_neuro.compiler.compile import compile_any_size
from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target
from esl_neuro.resets import RESETS
from esl_neuro.resources import find_resource
from random_graphs import random_graph

LOIHI2 = load_target("loihi2")
VALUES = (np.nan, np.inf, 0, -1, 1e300, 1e-300, 0.5, None, "text", b"same", [], [1, 2, 3, 4, 5], object(), 10**30, True)
SHAPES = ((0,), (1,), (7,), (2, 3), (1, 1, 1), (2, 2, 2, 2))


def damage(rng, graph):
    """Break one thing somewhere."""
    name = str(rng.choice(list(graph.nodes)))
    node = graph.nodes[name]
    fields = [key for key in vars(node) if key != "metadata"]
    field = str(rng.choice(fields or ["metadata"]))
    kind = rng.integers(12)
    if isinstance(node, nir.NIRGraph):  # the library reads no graph without nodes and edges
        kind = rng.integers(5)
    if kind == 0:
        del graph.nodes[name]
    elif kind == 1:
        graph.edges.append((name, str(rng.choice(["nobody", *graph.nodes]))))
    elif kind == 2 and graph.edges:
        graph.edges.pop(int(rng.integers(len(graph.edges))))
    elif kind == 3:
        graph.nodes[name] = nir.Input({"input": rng.choice([None, 3])})
    elif kind == 4:
        graph.nodes[name] = graph if rng.random() < 0.1 else copy.deepcopy(graph)
        if graph.nodes[name] is graph:
            graph.nodes[name] = nir.NIRGraph({}, [], metadata={}, type_check=False)
    elif kind == 5:
        setattr(node, field, VALUES[rng.integers(len(VALUES))])
    elif kind == 6:
        setattr(node, field, np.full(SHAPES[rng.integers(len(SHAPES))], rng.choice([1.0, -1.0, np.nan, 3.0])))
    elif kind == 7 and isinstance(getattr(node, field), np.ndarray) and getattr(node, field).size:
        value = getattr(node, field)
        broken = np.array(value, dtype=rng.choice([float, complex, object, "U8"]), copy=True)
        broken.flat[int(rng.integers(broken.size))] = rng.choice([0, -1, 7])
        setattr(node, field, broken)
    elif kind == 8:
        delattr(node, field)
    elif kind == 9:
        node.metadata = VALUES[rng.integers(len(VALUES))]
    elif kind == 10:
        graph.metadata = {"dt_s": VALUES[rng.integers(len(VALUES))], "steps": VALUES[rng.integers(len(VALUES))]}
    else:
        graph.edges.append(VALUES[rng.integers(len(VALUES))])


def damaged_graph(seed, times):
    """A random graph in which things are broken one after the other."""
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    for _ in range(times):
        if graph.nodes:
            damage(rng, graph)
    return graph


@settings(max_examples=60, deadline=None)
@example(seed=8902, times=2, dt_s=None)  # a value whose text has several lines
@example(seed=57034, times=1, dt_s=None)  # metadata that are a number
@example(seed=2061193, times=2, dt_s=None)  # a dimension that is an array
@example(seed=124, times=3, dt_s=None)  # declares a shape that is an array of two rows
@example(seed=8197, times=1, dt_s=None)  # a neuron without resistance
@given(seed=st.integers(0, 10**9), times=st.integers(0, 4), dt_s=st.sampled_from([None, 1e-3, 3e-4, 1.0]))
def test_there_is_a_verdict_on_every_graph(seed, times, dt_s):
    graph = damaged_graph(seed, times)
    checked = check_graph(graph, LOIHI2, 3, dt_s)
    wrong = [finding for finding in checked.findings if finding.severity == "error"]
    assert checked.fits == (not wrong)
    assert checked.compiles == bool(checked.utilisation)
    assert all(finding.kind and finding.place and "\n" not in str(finding) for finding in checked.findings)
    if checked.compiles:
        compile_any_size(graph, LOIHI2, 3, dt_s)
    else:
        with pytest.raises(BadInput) as caught:
            compile_any_size(graph, LOIHI2, 3, dt_s)
        assert all(finding.message in str(caught.value) for finding in wrong)


@settings(max_examples=60, deadline=None)
@example(seed=11, times=3, reset="subtract")  # metadata that is a text
@given(seed=st.integers(0, 10**9), times=st.integers(0, 4), reset=st.sampled_from(RESETS))
def test_there_is_a_verdict_on_every_graph_whose_reset_is_stated(seed, times, reset):
    graph = damaged_graph(seed, times)
    checked = check_graph(graph, LOIHI2, 3, reset=reset)
    assert checked.fits == all(finding.severity != "error" for finding in checked.findings)


def damage_inside(rng, path):
    """Break one thing in the HDF5 file: lose it, replace it, or let it be part of itself."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = str(rng.choice(names))
        parent, own = file[name].parent, name.rpartition("/")[2]
        kind = rng.integers(6)
        if kind == 0:
            parent[str(rng.choice(["extra", "v_reset ", "metadata/note"]))] = rng.normal(size=3)
            return
        del parent[own]
        if kind == 1:
            parent[own] = rng.choice([np.nan, np.inf, -1, 0, 1e300])
        elif kind == 2:
            parent[own] = np.array(rng.choice([b"LIF", b"NIRGraph", b"Nothing", b"\xff\xfe"]))
        elif kind == 3:
            parent[own] = rng.normal(size=tuple(rng.integers(0, 4, rng.integers(0, 5))))
        elif kind == 4:
            parent[own] = h5py.SoftLink(str(rng.choice([parent.name, "/node", "/nowhere"])))
        elif kind == 5:
            parent.create_group(own)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A file and what it holds before it is damaged."""
    path = tmp_path_factory.mktemp("files") / "some.nir"
    nir.write(path, small())
    return path, path.read_bytes()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_every_file_is_judged_or_said_to_be_unreadable_in_one_line(seed, whole):
    rng, (path, content) = np.random.default_rng(seed), whole
    kind, damaged = rng.integers(4), bytearray(content)
    if kind == 1:
        for _ in range(int(rng.integers(1, 40))):
            damaged[int(rng.integers(len(damaged)))] = int(rng.integers(256))
    elif kind == 2:
        del damaged[int(rng.integers(len(damaged))) :]
    elif kind == 3:
        damaged = rng.bytes(int(rng.integers(0, 3000)))
    path.write_bytes(damaged)
    if kind == 0:
        damage_inside(rng, path)
    try:
        said = render(check_file(path, "loihi2", dt_s=1e-3))
    except BadInput as error:
        said = str(error)
    assert said.startswith(str(path))
    assert "compile" in said or "\n" not in said


def test_an_undamaged_graph_compiles():
    for seed in range(10):
        assert check_graph(random_graph(np.random.default_rng(seed)), LOIHI2).compiles


def small(size=2, threshold=1.0):
    neurons = {name: np.full(size, value) for name, value in (("tau", 2e-3), ("r", 1.0), ("v_leak", 0.0))}
    nodes = {
        "input": nir.Input({"input": np.array([3])}),
        "fc": nir.Linear(np.ones((size, 3))),
        "lif": nir.LIF(**neurons, v_threshold=np.full(size, threshold)),
        "output": nir.Output({"output": np.array([size])}),
    }
    return nir.NIRGraph(nodes, [("input", "fc"), ("fc", "lif"), ("lif", "output")], metadata={})


def test_exit_codes_and_documents(tmp_path, capsys):
    good, bad, text, tiny = (tmp_path / name for name in ("good.nir", "bad.nir", "text.nir", "tiny.toml"))
    nir.write(good, small())
    nir.write(bad, small(threshold=-1.0))
    text.write_text("no HDF5")
    chip = find_resource("hw_targets", "loihi2").read_text(encoding="utf-8")
    tiny.write_text(chip.replace("value = 1048576", "value = 1"))

    def command(*arguments):
        return main(["check", *map(str, arguments)]), capsys.readouterr().out

    code, out = command(good, "--dt", "1e-3", "--json")
    document = json.loads(out)
    assert (code, document["compiles"], document["fits"], document["findings"]) == (0, True, True, [])
    assert {row["resource"]: row["used"] for row in document["utilisation"]}["neurons_per_chip"] == 2

    code, out = command(bad, "--json")
    assert code == 1
    assert [(finding["kind"], finding["severity"]) for finding in json.loads(out)["findings"]] == [
        ("no-time-step", "error"),
        ("threshold", "error"),
    ]
    assert "every threshold must be positive" in command(bad)[1]
    assert command(text) == command(tmp_path / "nowhere.nir") == (2, "")

    code, out = command(good, "--dt", "1e-3", "--target", tiny)
    assert code == 4
    assert "needs 2, the limit is 1" in out


def test_time_and_memory_of_a_compilation_are_told(tmp_path, capsys):
    file = tmp_path / "good.nir"
    nir.write(file, small())
    started = time.perf_counter()
    assert main(["check", str(file), "--dt", "1e-3", "--json"]) == 0
    passed, document = time.perf_counter() - started, json.loads(capsys.readouterr().out)
    assert 0 < document["seconds"] < passed
    ballast = np.ones(2**24)
    main(["check", str(file), "--dt", "1e-3"])
    line = re.fullmatch(r"Compiled in [0-9.]+ s, peak memory ([0-9.]+) GiB", capsys.readouterr().out.splitlines()[-1])
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    assert max(ballast.nbytes / 2**30, document["peak_memory_gib"] - 0.01) <= float(line.group(1)) < machine
    main(["check", str(file)])  # without a time step it does not compile
    assert "Compiled" not in capsys.readouterr().out
