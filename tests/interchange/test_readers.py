"""Independent readers of NIR files, whichever are installed: they fire as the reference does."""

from __future__ import annotations

from itertools import pairwise

import nir
import numpy as np
import pytest
import torch
from torch import nn

from esl_neuro.errors import BadInput, CheckFailed, MissingDependency
from esl_neuro.interchange import to_nir, write_nir
from esl_neuro.interchange.making import raw_threshold
from esl_neuro.interchange.readers import READERS, default_folder, install, installed, portable_names, verify
from esl_neuro.snn.layers import Linear
from esl_neuro.snn.neurons import LIF
from interchange.networks import named, on_grid

HERE = installed(default_folder())
needs = lambda reader: pytest.mark.skipif(reader not in HERE, reason=f"{reader} is not installed")  # noqa: E731


def written(folder, graph):
    write_nir(folder / "network.nir", graph)
    return folder / "network.nir"


def one(folder, graph, reader, **options):
    (verdict,) = verify(written(folder, graph), names=[reader], minimum=5, **options)
    return verdict


@pytest.mark.parametrize("reader", [pytest.param(name, marks=needs(name)) for name in READERS if name != "sinabs"])
@pytest.mark.parametrize("name", ["residual", "batch norm and pools"])
def test_readers_fire_as_the_reference_does(name, reader, tmp_path):
    network, shape = named(name)
    verdict = one(tmp_path, to_nir(on_grid(network, 1), 12, shape=shape, thresholds="folded"), reader)
    if (name, reader) == ("residual", "norse"):  # 1.1.0 runs a node before the second of two branches that meet there
        assert verdict.status == "different"
        assert "several inputs" in verdict.divergence.cause
        return
    assert (verdict.status, verdict.differing) == ("equal", 0), verdict
    assert verdict.spikes > 500
    assert set(verdict.latency_steps.values()) == {0}
    assert verdict.version


@pytest.mark.parametrize("reader", [pytest.param(name, marks=needs(name)) for name in ("norse", "spikingjelly")])
def test_recurrence_is_read_as_written(reader, tmp_path):
    network, _ = named("recurrent behind synapses")
    verdict = one(tmp_path, to_nir(on_grid(network, 1), 12, thresholds="folded"), reader)
    assert verdict.status == "equal", verdict


@needs("snntorch")
@pytest.mark.parametrize(("options", "reason"), [({}, "same for all neurons"), ({"dt_s": 1e-3}, "time step")])
def test_a_reader_that_cannot_hold_a_graph_refuses_it_which_is_no_difference(options, reason, tmp_path):
    network, _ = named("chain")
    verdict = one(tmp_path, to_nir(on_grid(network, 1), 12, **options), "snntorch")
    assert verdict.status == "refused"
    assert reason in verdict.reason


@needs("sinabs")
@pytest.mark.parametrize(
    ("name", "reason"), [("chain", "subtract the threshold"), ("recurrent behind synapses", "drops CubaLIF nodes")]
)
def test_sinabs_whose_importer_makes_another_network_is_refused(name, reason, tmp_path):
    network, _ = named(name)
    verdict = one(tmp_path, to_nir(on_grid(network, 1), 12), "sinabs")
    assert verdict.status == "refused"
    assert reason in verdict.reason


@needs("norse")
def test_an_ignored_resistance_is_found(tmp_path):
    graph = to_nir(on_grid(named("chain")[0], 1), 12)
    for number in (1, 2, 3):
        graph.nodes[f"fc{number}"].weight = graph.nodes[f"fc{number}"].weight / 16
        graph.nodes[f"fc{number}"].bias = graph.nodes[f"fc{number}"].bias / 16
        graph.nodes[f"lif{number}"].r = graph.nodes[f"lif{number}"].r * 16
    verdict = one(tmp_path, graph, "norse")
    assert verdict.status == "different"
    assert verdict.divergence.layer == "lif1"
    assert "ignore r" in verdict.divergence.cause


@needs("spikingjelly")
def test_ties_are_found_and_tie_safe_thresholds_have_none(tmp_path):
    network = nn.Sequential(Linear(6, 20, bias=False), LIF(20, 1.0, 2.0, "arctan", 1.0, True))
    with torch.no_grad():
        network[0].weight.copy_(torch.randint(-1, 3, (20, 6), generator=torch.Generator().manual_seed(0)))
        network[1].raw_threshold.copy_(torch.log(torch.expm1(torch.tensor(2.0))))
    plain = one(tmp_path, to_nir(network, 12), "spikingjelly")
    assert plain.status == "different"
    assert "tie" in plain.divergence.cause
    assert plain.divergence.potential == plain.divergence.threshold == 2
    assert one(tmp_path, to_nir(network, 12, tie_safe=True), "spikingjelly").status == "equal"


@pytest.mark.parametrize("reader", [pytest.param(name, marks=needs(name)) for name in ("norse", "nirtorch")])
def test_nested_nodes_keep_their_name_beside_one_that_looks_like_it(reader, tmp_path):
    graph = to_nir(on_grid(named("chain")[0], 1), 12, thresholds="folded")
    inner = {"input": nir.Input({"input": np.array([5])}), "lif": graph.nodes.pop("lif2")}
    inner["output"] = nir.Output({"output": np.array([5])})
    graph.nodes |= {"sub": nir.NIRGraph(inner, [*pairwise(inner)]), "sub_lif": graph.nodes.pop("lif1")}
    names = {"lif1": "sub_lif", "lif2": "sub"}
    graph.edges = [(names.get(source, source), names.get(target, target)) for source, target in graph.edges]
    verdict = one(tmp_path, graph, reader)
    assert verdict.status == "equal", verdict
    assert set(verdict.latency_steps) == {"sub_lif", "sub.lif", "lif3"}


def test_names_for_readers_are_different_and_without_dots():
    names = portable_names(["a_b", "a.b", "a", "a_b_"])
    assert names["a_b"] == "a_b"
    assert len(set(names.values())) == 4
    assert not any("." in name for name in names.values())


def test_readers_that_are_not_there_are_absent(tmp_path):
    path = written(tmp_path, to_nir(on_grid(named("chain")[0], 1), 12))
    verdicts = verify(path, folder=tmp_path / "nothing", minimum=5)
    assert [(v.reader, v.status) for v in verdicts] == [(name, "absent") for name in READERS]
    assert "--install" in verdicts[0].reason


def test_a_process_that_dies_is_broken_and_no_agreement(tmp_path):
    for name in ("python", "norse"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "complete").touch()
    python = tmp_path / "python" / "bin" / "python"
    python.write_text("#!/bin/sh\necho 'no such module' >&2\nexit 1\n")
    python.chmod(0o755)
    (verdict,) = verify(
        written(tmp_path, to_nir(on_grid(named("chain")[0], 1), 12)), names=["norse"], folder=tmp_path, minimum=5
    )
    assert (verdict.status, verdict.reason) == ("broken", "no such module")


def test_silence_proves_nothing(tmp_path):
    network, _ = named("chain")
    on_grid(network, 1)
    with torch.no_grad():
        network.fc2.weight.mul_(0)
        network.fc2.bias.mul_(0)
    with pytest.raises(CheckFailed, match=r"'lif2' \(0\)"):
        verify(written(tmp_path, to_nir(network, 12)))


def test_given_inputs_are_used(tmp_path):
    graph = to_nir(on_grid(named("chain")[0], 1), 12)
    with pytest.raises(CheckFailed, match="'lif1'"):
        verify(written(tmp_path, graph), inputs=np.zeros((3, 2, 6), np.float32), minimum=1000)


def test_wrong_questions_are_refused(tmp_path):
    with pytest.raises(BadInput, match="did you mean 'norse'"):
        verify(tmp_path / "x.nir", names=["nrse"])
    with pytest.raises(BadInput, match="no such file"):
        verify(tmp_path / "x.nir")
    ends = {"input": nir.Input({"input": np.array([3])}), "output": nir.Output({"output": np.array([3])})}
    graph = nir.NIRGraph(
        {**ends, "fc": nir.Linear(np.eye(3))}, [("input", "fc"), ("fc", "output")], metadata={"dt_s": 1.0}
    )
    with pytest.raises(BadInput, match="no node fires"):
        verify(written(tmp_path, graph))


def test_installing_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("esl_neuro.interchange.readers.PYTHONS", ("3.0",))
    with pytest.raises(MissingDependency, match=r"need Python 3\.0"):
        install(tmp_path, ["norse"], lambda _message: None)


def subtracting_network(tau, reset):
    """Three layers with few bits, so that no reader rounds; some potentials are above two thresholds."""
    torch.manual_seed(3)
    sizes, layers = (6, 20, 12, 4), []
    for before, after in pairwise(sizes):
        connection = Linear(before, after, bias=False)
        with torch.no_grad():
            connection.weight.copy_((torch.randn(after, before) * 40 + 8).round() / 64)
        neurons = LIF(after, tau, 1.0, reset=reset)
        with torch.no_grad():
            neurons.raw_threshold.copy_(raw_threshold(np.full(after, 1 + 2.0**-14)))
        layers += [connection, neurons]
    return nn.Sequential(*layers)


SUBTRACTING = {
    ("spikingjelly", 0.5, "subtract"): "equal",
    ("snntorch", 0.5, "subtract"): "several thresholds",
    ("snntorch", 0.5, "subtract_next_step"): "equal",
    ("sinabs", 1.0, "subtract"): "equal",
}


@pytest.mark.parametrize(
    ("reader", "tau", "reset"),
    [pytest.param(*key, marks=needs(key[0]), id="-".join(map(str, key))) for key in SUBTRACTING],
)
def test_readers_of_networks_that_subtract(reader, tau, reset, tmp_path):
    graph = to_nir(subtracting_network(tau, reset), 20)
    verdict = one(tmp_path, graph, reader)
    expected = SUBTRACTING[reader, tau, reset]
    if expected == "several thresholds":
        assert verdict.status == "different"
        assert "still above the threshold after the subtraction" in verdict.divergence.cause
        return
    assert (verdict.status, verdict.differing) == (expected, 0), verdict
    assert verdict.spikes > 500
