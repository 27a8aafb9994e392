"""Networks of the kinds that the NIR paper publishes, and large ones, small enough for a test."""

from __future__ import annotations

from itertools import pairwise

import nir
import numpy as np
import pytest
from integer_oracle import run
from test_semantics import assert_same

from esl_neuro.compiler.compile import compile_any_size, compile_graph
from esl_neuro.compiler.frontend import analyse, read_graph
from esl_neuro.compiler.kernel import Kernel
from esl_neuro.compiler.placement import place
from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target

LOIHI2 = load_target("loihi2")
DT = 1e-4


def full(shape, value):
    return np.full(shape, float(value))


def pool(kind=nir.SumPool2d, size=2):
    return kind(np.array([size, size]), np.array([size, size]), np.array([0, 0]))


def graph(shape, outputs, **nodes):
    every = {
        "input": nir.Input({"input": np.array(shape)}),
        **nodes,
        "output": nir.Output({"output": np.array(outputs)}),
    }
    return nir.NIRGraph(every, list(pairwise(every)), metadata={}, type_check=False)


def conv(rng, out, channels, taps, shape, stride=1, padding=1):
    weight = rng.normal(0.05, 0.3, (out, channels, taps, taps)).astype(np.float32)
    return nir.Conv2d(shape, weight, stride, padding, 1, 1, rng.normal(0, 0.05, out).astype(np.float32))


def lif(shape, dt=DT):
    return nir.LIF(full(shape, 20 * dt), full(shape, 20), full(shape, 0), full(shape, 1), full(shape, 0))


def cuba(size):
    return nir.CubaLIF(
        tau_syn=full(size, 5 * DT),
        tau_mem=full(size, 10 * DT),
        r=full(size, 10),
        v_leak=full(size, 0),
        v_threshold=full(size, 1),
        v_reset=full(size, 0),
        w_in=full(size, 5),
    )


def one_lif(_rng):
    """01_lif: a neuron behind a weight."""
    return graph(
        (1,),
        (1,),
        affine=nir.Affine(full((1, 1), 1), full(1, 0)),
        lif=nir.LIF(*(full(1, x) for x in (25 * DT, 10, 0, 0.1, 0))),
    ), DT


def cnn(rng):
    """02_cnn: of sinabs, whose neurons have no time constants and whose time step is 1."""
    fire = [
        nir.IF(full(shape, 1), full(shape, 1), full(shape, 0))
        for shape in ((4, 5, 5), (4, 5, 5), (3, 2, 2), (8,), (5,))
    ]
    nodes = {
        "0": conv(rng, 4, 2, 5, (12, 12), stride=2),
        "1": fire[0],
        "2": conv(rng, 4, 4, 3, (5, 5)),
        "3": fire[1],
        "4": pool(),
        "5": conv(rng, 3, 4, 3, (2, 2)),
        "6": fire[2],
        "7": nir.Flatten({"input": np.array([3, 2, 2])}, 0, 2),
        "8": nir.Linear(rng.normal(0.2, 0.5, (8, 12))),
        "9": fire[3],
        "10": nir.Linear(rng.normal(0.2, 0.5, (5, 8))),
        "11": fire[4],
    }
    return graph((2, 12, 12), (5,), **nodes), 1.0


def scnn(rng):
    """A spiking CNN with pooling of spikes, mean pooling, and a read-out by potential."""
    nodes = {
        "conv1": conv(rng, 4, 1, 3, (8, 8)),
        "lif1": lif((4, 8, 8)),
        "pool1": pool(nir.AvgPool2d),
        "conv2": conv(rng, 6, 4, 3, (4, 4)),
        "lif2": lif((6, 4, 4)),
        "pool2": pool(),
        "flat": nir.Flatten({"input": np.array([6, 2, 2])}, 0, -1),
        "fc": nir.Affine(rng.normal(0, 0.3, (4, 24)), rng.normal(0, 0.1, 4)),
        "li": nir.LI(full(4, 20 * DT), full(4, 1), full(4, 0)),
    }
    return graph((1, 8, 8), (4,), **nodes), DT


def braille(rng, duplicate=False):
    """03_rnn: two layers, the first one recurrent and written as a graph of its own, biases into synaptic filters."""
    size, hidden, outputs = 12, 8, 4
    inner = {
        "input": nir.Input({"input": np.array([hidden])}),
        "lif": cuba(hidden),
        "w_rec": nir.Affine(rng.normal(0, 0.4, (hidden, hidden)), rng.normal(0, 0.1, hidden)),
        "output": nir.Output({"output": np.array([hidden])}),
    }
    edges = [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")]
    nested = nir.NIRGraph(inner, edges + edges[:1] * duplicate, metadata={}, type_check=False)
    fc1, fc2 = (
        nir.Affine(rng.normal(0.2, 0.5, shape), rng.normal(0, 0.1, shape[0]))
        for shape in ((hidden, size), (outputs, hidden))
    )
    return graph((size,), (outputs,), fc1=fc1, lif1=nested, fc2=fc2, lif2=cuba(outputs)), DT


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (one_lif, ["lif"]),
        (cnn, ["1", "3", "6", "9", "11"]),
        (scnn, ["lif1", "lif2", "li"]),
        (braille, ["bias", "lif1.lif", "lif2"]),
    ],
)
def test_networks_of_the_nir_paper_compile_from_their_files(make, names, tmp_path):
    rng = np.random.default_rng(0)
    written, dt = make(rng)
    nir.write(tmp_path / "network.nir", written)
    again = read_graph(tmp_path / "network.nir")
    network, trace = assert_same(again, rng, dt)
    assert [group.name for group in network.groups] == names
    assert all(spikes.any() for name, spikes in trace.spikes.items() if name != "li")
    program = compile_graph(again, LOIHI2, 12, dt).program
    inputs = (rng.random((8, 12, program.input_size)) < 0.4).astype(np.uint8)
    spikes = run(program, inputs).spikes
    assert all(fired.any() for name, fired in spikes.items() if name != "li")


def test_recurrent_network_has_the_loop_of_its_nested_graph():
    network, findings = analyse(braille(np.random.default_rng(0))[0], DT)
    assert findings == []
    assert [(each.source, each.target, each.delay) for each in network.connections if each.delay] == [
        ("lif1.lif", "lif1.lif", 1)
    ]


def test_file_with_an_edge_twice_is_refused_with_the_edge(tmp_path):
    """As ``braille_noDelay_bias_zero_subgraph.nir`` of the paper has it, which the library itself no longer opens."""
    nir.write(tmp_path / "network.nir", braille(np.random.default_rng(0), duplicate=True)[0])
    with pytest.raises(BadInput, match=r"edge 'lif1.input' -> 'lif1.lif': is there twice; remove one"):
        compile_graph(read_graph(tmp_path / "network.nir"), LOIHI2, 12, DT)


def test_time_step_of_1_is_asked_for_where_neurons_have_no_time_constants():
    with pytest.raises(BadInput, match="give the time step in seconds"):
        compile_graph(cnn(np.random.default_rng(0))[0], LOIHI2, 12)


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
    return graph((2, 48, 48), (10,), **nodes)


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
    built = graph((3, size, size), (5,), **nodes)
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
