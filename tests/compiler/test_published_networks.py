"""Networks of the kinds that the NIR paper publishes, and large ones, small enough for a test."""

from __future__ import annotations

import nir
import numpy as np
import pytest

from compiler.equations import assert_same
from compiler.integer_oracle import run
from esl_neuro.compiler.check import check_graph
from esl_neuro.compiler.compile import compile_any_size, compile_graph
from esl_neuro.compiler.frontend import analyse
from esl_neuro.compiler.placement import place
from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target
from esl_neuro.nirgraph.files import read_nir
from esl_neuro.nirgraph.kernel import Kernel
from nir_paper import DT_S as DT
from nir_paper import KINDS, braille, braille_nested, chain, cnn, conv, dt_of, full, judge, lif, pool, write_small

LOIHI2 = load_target("loihi2")
AS_PUBLISHED = "recurrent, nested, as published"
GROUPS = {
    "LIF": ["lif"],
    "two LIF": ["1", "3"],
    "CNN (IF, sum pooling)": ["1", "3", "6", "9", "11"],
    "SCNN (LIF, mean pooling, LI)": ["lif1", "lif2", "li"],
    "recurrent, with bias": ["bias", "lif1", "lif2"],
    "recurrent, without bias": ["lif1", "lif2"],
    "recurrent, nested": ["bias", "lif1.lif", "lif2"],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_small(tmp_path_factory.mktemp("nir"))


def test_every_kind_runs_or_is_refused():
    assert {*GROUPS, AS_PUBLISHED} == set(KINDS)


@pytest.mark.parametrize("kind", GROUPS)
def test_networks_of_the_nir_paper_compile_from_their_files(kind, files):
    rng, graph = np.random.default_rng(0), read_nir(files[kind])
    dt = dt_of(graph)
    network, trace = assert_same(graph, rng, dt, rate=0.8)
    assert [group.name for group in network.groups] == GROUPS[kind]
    assert all(spikes.any() for name, spikes in trace.spikes.items() if name != "li")
    program = compile_graph(graph, LOIHI2, 12, dt).program
    inputs = (rng.random((8, 12, program.input_size)) < 0.8).astype(np.uint8)
    spikes = run(program, inputs).spikes
    assert all(fired.any() for name, fired in spikes.items() if name != "li")


@pytest.mark.lava
@pytest.mark.parametrize("kind", GROUPS)
def test_networks_of_the_nir_paper_run_in_lava_as_in_the_integer_simulator(kind, files):
    result = judge(files[kind], steps=20)
    assert (result["outcome"], result["differing_in_lava"]) == ("runs", 0)
    assert result["spikes"] > 10


def test_network_whose_edges_name_another_node_is_refused_with_that_reason(files):
    checked = check_graph(read_nir(files[AS_PUBLISHED]), LOIHI2, dt_s=DT)
    assert not checked.compiles
    assert {finding.kind for finding in checked.findings} == {"missing-node"}
    for edge in ("input' -> 'lif1.lif", "lif' -> 'lif1.lin", "lin' -> 'lif1.lif", "lif' -> 'lif1.output"):
        reason = f"edge 'lif1.{edge}': node 'lif1.lif' does not exist; did you mean 'lif1.lif1'?"
        assert reason in map(str, checked.findings)


@pytest.mark.parametrize("make", [braille, braille_nested])
def test_recurrent_network_has_its_loop_flat_or_nested(make):
    network, findings = analyse(make(np.random.default_rng(0)), DT)
    name = "lif1" if make is braille else "lif1.lif"
    assert findings == []
    assert [(each.source, each.target, each.delay) for each in network.connections if each.delay] == [(name, name, 1)]


def test_file_with_an_edge_twice_is_refused_with_the_edge(tmp_path):
    graph = braille_nested(np.random.default_rng(0))
    graph.nodes["lif1"].edges += [("input", "lif")]
    nir.write(tmp_path / "network.nir", graph)
    with pytest.raises(BadInput, match=r"edge 'lif1.input' -> 'lif1.lif': is duplicated; remove one"):
        compile_graph(read_nir(tmp_path / "network.nir"), LOIHI2, 12, DT)


def test_time_step_of_1_is_asked_for_where_neurons_have_no_time_constants():
    with pytest.raises(BadInput, match="give the time step in seconds"):
        compile_graph(cnn(np.random.default_rng(0)), LOIHI2, 12)


def vggsnn(rng, width):
    """VGGSNN of TET on 48x48 event frames, ``width`` channels where it has 64."""
    nodes, shape = {}, (2, 48, 48)
    for index, part in enumerate(["1", "2", "P", "4", "4", "P", "8", "8", "P", "8", "8", "P"]):
        if part == "P":
            nodes[f"pool{index}"] = pool(nir.AvgPool2d)
            shape = (shape[0], shape[1] // 2, shape[2] // 2)
        else:
            nodes[f"conv{index}"] = conv(rng, width * int(part), shape[0], 3, shape[1:])
            shape = (width * int(part), *shape[1:])
            nodes[f"lif{index}"] = lif(shape)
    nodes["flat"] = nir.Flatten({"input": np.array(shape)}, 0, -1)
    nodes["fc"] = nir.Affine(rng.normal(size=(10, int(np.prod(shape)))), full(10, 0))
    return chain((2, 48, 48), (10,), **nodes)


def test_vggsnn_is_compiled_and_placed_without_writing_out_its_kernels(monkeypatch):
    built = vggsnn(np.random.default_rng(0), 4)
    expanded = []
    monkeypatch.setattr(Kernel, "matrix", lambda kernel: expanded.append(kernel.shape) or original(kernel))
    program = compile_any_size(built, LOIHI2, 10, DT).program
    assert [shape[1] for shape in expanded] == [32 * 6 * 6]  # the last pooling, into the matrix behind it
    kernels = [each.weights for each in program.connections if isinstance(each.weights, Kernel)]
    assert [kernel.weights.shape[2] for kernel in kernels] == [3, 3, 6, 3, 6, 3, 6, 3]
    assert program.connections[-1].weights.shape == (10, 32 * 6 * 6)
    assert program.readout == "potential"
    monkeypatch.undo()
    assert place(program, LOIHI2).used["synapses"].sum() == program.synapses


original = Kernel.matrix


def residual(rng, channels=4, size=6):
    """A block of ResNet-19: two convolutions, the input added to what they give."""
    shape = (channels, size, size)
    nodes = {
        "conv0": conv(rng, channels, 3, 3, shape[1:]),
        "lif0": lif(shape),
        "conv1": conv(rng, channels, channels, 3, shape[1:]),
        "lif1": lif(shape),
    }
    nodes |= {
        "conv2": conv(rng, channels, channels, 3, shape[1:]),
        "lif2": lif(shape),
        "pool": pool(nir.AvgPool2d, size),
    }
    nodes |= {
        "flat": nir.Flatten({"input": np.array([channels, 1, 1])}, 0, -1),
        "fc": nir.Affine(rng.normal(size=(5, channels)), full(5, 0)),
    }
    built = chain((3, size, size), (5,), **nodes)
    built.edges.append(("lif0", "lif2"))
    return built


def test_residual_block_is_two_connections_that_share_a_scale():
    rng = np.random.default_rng(0)
    network, _ = assert_same(residual(rng), rng, DT)
    incoming = network.incoming("lif2")
    assert [(each.source, type(each.weights).__name__, each.delay) for each in incoming] == [
        ("lif1", "Kernel", 0),
        ("lif0", "csr_matrix", 0),
    ]
    program = compile_graph(residual(rng), LOIHI2, 12, DT).program
    strong, weak = sorted(program.incoming("lif2"), key=lambda each: -each.weight_exp)
    assert strong.weight_exp == 0 >= weak.weight_exp
