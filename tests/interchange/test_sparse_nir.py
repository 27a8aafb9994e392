"""Networks with sparse storage as NIR graphs: with a matrix and a note where it is small, else without any matrix."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from esl_neuro.backends.integer import count_integer
from esl_neuro.compiler.compile import compile_any_size
from esl_neuro.compiler.program import differences
from esl_neuro.energy.counts import count
from esl_neuro.errors import BadInput
from esl_neuro.interchange import writing
from esl_neuro.interchange.from_nir import from_nir
from esl_neuro.interchange.readers import ask, make_reader_case
from esl_neuro.interchange.to_nir import to_nir
from esl_neuro.nirgraph import sparse_nodes
from esl_neuro.nirgraph.files import read_nir, write_nir
from esl_neuro.nirgraph.simulation import simulate
from esl_neuro.nirgraph.sparse_nodes import MOST_IN_MATRIX, SparseAffine
from esl_neuro.snn.layers import Delay
from esl_neuro.snn.network import observe
from esl_neuro.snn.neurons import LIF, CubaLIF
from esl_neuro.sparsity import FewOutputs, SparseLinear

STEPS = 6
FIELDS = ("values", "col_indices", "crow_indices", "bias")


def network(seed, sizes=(12, 9, 7), *, bias=True, neurons=LIF, delay=False):
    """A chain of sparse layers; some connections have weight zero, as new ones have."""
    made = nn.Sequential()
    for number, (inputs, outputs) in enumerate(pairwise(sizes), 1):
        layer = SparseLinear(inputs, outputs, bias, density=0.4, seed=seed + number)
        layer.values.data *= 3
        layer.values.data[::5] = 0
        made.add_module(f"fc{number}", layer)
        made.add_module(f"lif{number}", neurons((outputs,), *((0.5,) if neurons is LIF else (0.5, 0.25)), 0.4))
        if delay:
            made.add_module(f"delay{number}", Delay(1))
    return made.eval()


def masked(made):
    """The same network with dense layers."""
    dense = nn.Sequential()
    for name, layer in made.named_children():
        if isinstance(layer, SparseLinear):
            linear = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
            linear.weight.data.copy_(layer.to_dense())
            if layer.bias is not None:
                linear.bias.data.copy_(layer.bias.detach())
            layer = linear
        dense.add_module(name, layer)
    return dense.eval()


def test_a_dense_readout_that_reads_bits_is_written_like_any_dense_layer():
    made = network(0)
    readout, dense = FewOutputs(7, 3), nn.Linear(7, 3)
    dense.load_state_dict(readout.state_dict())
    with_bits, without = (to_nir(nn.Sequential(made, last), STEPS, shape=(12,)) for last in (readout, dense))
    assert with_bits.nodes.keys() == without.nodes.keys()
    for name, node in without.nodes.items():
        for field, value in vars(node).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(getattr(with_bits.nodes[name], field), value, err_msg=f"{name}.{field}")


@pytest.fixture
def without_matrices(monkeypatch):
    """Write every sparse layer, and every diagonal, without a matrix."""
    monkeypatch.setattr(writing, "MOST_IN_MATRIX", 0)
    monkeypatch.setattr(sparse_nodes, "MOST_IN_MATRIX", 0)


KINDS = [{}, {"neurons": CubaLIF}, {"bias": False}, {"delay": True, "bias": False}]


@pytest.mark.parametrize("most", [MOST_IN_MATRIX, 0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sparse_network_returns_with_its_connections_and_its_spikes(tmp_path, monkeypatch, most, kind):
    monkeypatch.setattr(writing, "MOST_IN_MATRIX", most)
    made = network(3, **kind)
    graph = to_nir(made, STEPS)
    assert [type(graph.nodes[name]) for name in ("fc1", "fc2")] == [nir.Affine if most else SparseAffine] * 2
    write_nir(tmp_path / "x.nir", graph)
    back = from_nir(read_nir(tmp_path / "x.nir")).eval()
    for name in ("fc1", "fc2"):
        for field in FIELDS if kind.get("bias", True) else FIELDS[:3]:
            assert torch.equal(getattr(getattr(back, name), field), getattr(getattr(made, name), field))
    inputs = (torch.rand(STEPS, 5, 12, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    assert torch.equal(observe(back, inputs).outputs, observe(made, inputs).outputs)
    assert observe(made, inputs).outputs.sum() > 0


@pytest.mark.usefixtures("without_matrices")
def test_folded_thresholds_and_diagonals_scale_the_values():
    """As the same network with matrices, on all spikes."""
    made = network(5)
    made.lif1.raw_threshold.data += torch.linspace(-0.5, 0.5, 9)
    inputs = (np.random.default_rng(0).random((4, STEPS, 12)) < 0.5).astype(float)
    graph = to_nir(made, STEPS, thresholds="folded")
    wanted = simulate(to_nir(masked(made), STEPS, thresholds="folded"), inputs)
    assert isinstance(graph.nodes["fc1"], SparseAffine)
    assert np.array_equal(simulate(graph, inputs).outputs, wanted.outputs)
    assert wanted.outputs.any()


@pytest.mark.usefixtures("without_matrices")
def test_the_other_forms_say_what_they_cannot(tmp_path):
    made = network(3)
    with pytest.raises(BadInput, match="tie_safe needs the matrices of 'fc1', 'fc2', which are too large"):
        to_nir(made, STEPS, tie_safe=True)
    write_nir(tmp_path / "x.nir", to_nir(made, STEPS))
    case = make_reader_case(tmp_path / "x.nir", minimum=0)
    (verdict,) = ask_as_if_installed(case, tmp_path)
    assert verdict.status == "refused"
    assert "'fc1', 'fc2': NIR has no node that stores connections only" in verdict.reason


def ask_as_if_installed(case, folder):
    (folder / "norse").mkdir()
    (folder / "norse" / "complete").touch()
    python = folder / "python" / "bin"
    python.mkdir(parents=True)
    (python / "python").touch()
    return ask(case, ["norse"], folder)


# The compiler, the integers and the counts.


@settings(max_examples=8)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(2, 40), min_size=2, max_size=4),
    kind=st.sampled_from(KINDS),
    data=st.data(),
)
def test_integers_and_counts_equal_those_of_dense_storage(seed, sizes, kind, data):
    made = network(seed, sizes, **kind)
    bits = data.draw(st.sampled_from([1, 4]))
    dense = compile_any_size(to_nir(masked(made), STEPS), "loihi2", STEPS, input_bits=bits).program
    inputs = np.random.default_rng(seed).integers(0, 2**bits, (3, STEPS, sizes[0]))
    wanted = count_integer(dense, inputs, threads=1)
    for most in (MOST_IN_MATRIX, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(writing, "MOST_IN_MATRIX", most)
            graph = to_nir(made, STEPS)
        program = compile_any_size(graph, "loihi2", STEPS, input_bits=bits).program
        assert differences(program, dense) == []
        got = count_integer(program, inputs, threads=1)
        assert all(np.array_equal(got.spikes[name], fired) for name, fired in wanted.spikes.items())
        assert count(program, got).to_dict() == count(dense, wanted).to_dict()
        assert count(program, got).to_dict() == count(program, without_counts(got)).to_dict()


def without_counts(trace):
    """The trace of a simulator that counts nothing."""
    return replace(trace, counts=None)


MEMORY = """
import resource, sys, tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from esl_neuro.backends.integer import count_integer
from esl_neuro.compiler.compile import compile_any_size
from esl_neuro.compiler.program import Program
from esl_neuro.energy.core_map import compiled_placement
from esl_neuro.energy.counts import count
from esl_neuro.energy.report import energy_report
from esl_neuro.interchange.from_nir import from_nir
from esl_neuro.interchange.to_nir import to_nir
from esl_neuro.nirgraph.files import read_nir, write_nir
from esl_neuro.snn.neurons import LIF
from esl_neuro.sparsity import FewOutputs, SparseLinear

torch.set_num_threads(1)

def road(neurons, folder):
    made = nn.Sequential(SparseLinear(neurons, neurons, False, fan_in=16), LIF((neurons,), 0.5, 0.4))
    made.append(SparseLinear(neurons, 10, False, fan_in=min(64, neurons))).eval()
    write_nir(folder / "x.nir", to_nir(made, 4))
    graph = read_nir(folder / "x.nir")
    from_nir(graph)
    program = compile_any_size(graph, "loihi2", 4).program
    program.save(folder)
    program = Program.load(folder)
    spikes = (np.random.default_rng(0).random((2, 4, neurons)) < 0.2).astype(np.uint8)
    trace = count_integer(program, spikes, threads=1)
    energy_report(program, trace, ("loihi2",), 1e-3)
    return count(program, trace, compiled_placement(program)).layers[0].sop_effective

peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
road(32, Path(sys.argv[1]))
before = peak()
print(road(65_536, Path(sys.argv[1])), peak() - before)
"""


def test_no_step_from_the_network_to_its_energy_makes_a_matrix(tmp_path):
    """Of 65,536 x 65,536 numbers, one byte each would take 4,096 MiB; the million connections take 16 MiB."""
    command = [sys.executable, "-c", MEMORY, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    operations, mib = result.stdout.split()
    assert int(operations) > 2 * 4 * 0.15 * 65_536 * 16
    assert float(mib) < 250
