"""Networks of other frameworks, exported by their own exporters: the graph fires as the network does, or is refused."""

from __future__ import annotations

import re
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.interchange import foreign, to_nir
from esl_neuro.interchange.foreign import FRAMEWORKS, Framework
from esl_neuro.nirgraph.simulation import simulate
from esl_neuro.snn.neurons import LIF

DT_S = 1e-3
DOCS = Path(__file__).parents[2] / "docs"


class Accumulator(nn.Module):
    """A neuron of a framework that is not installed: it sums its input, fires above one and returns to zero."""

    def __init__(self):
        super().__init__()
        self.v = None

    def forward(self, current):
        self.v = current if self.v is None else self.v + current
        fired = (self.v > 1).to(current.dtype)
        self.v = self.v * (1 - fired)
        return fired


Accumulator.__module__ = "toyframework.neurons"


def export(network, sample, dt_s):  # noqa: ARG001
    size = network[0].out_features
    nodes = {
        "input": nir.Input({"input": np.array([1, network[0].in_features])}),  # with the batch of the sample
        "0": nir.Affine(network[0].weight.detach(), network[0].bias.detach()),
        "1": nir.IF(np.full(size, 1 / dt_s), np.ones(size), np.zeros(size)),
        "output": nir.Output({"output": np.array([1, size])}),
    }
    return nir.NIRGraph(nodes, [("input", "0"), ("0", "1"), ("1", "output")], type_check=False)


def run(network, inputs):
    return torch.stack([network(step) for step in inputs])


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), Accumulator())


def use(monkeypatch, exporter=export, lost=lambda _: None, runner=run):
    monkeypatch.setitem(FRAMEWORKS, "toyframework", Framework("Toy", exporter, runner, lost))


def test_the_graph_of_the_exporter_is_completed_and_fires_as_the_network(network, monkeypatch):
    use(monkeypatch)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    graph = to_nir(network, 12, DT_S)
    assert graph.metadata == {"dt_s": DT_S, "steps": 12}
    assert graph.nodes["input"].input_type["input"].tolist() == [6]
    assert graph.nodes["output"].output_type["output"].tolist() == [5]
    assert isinstance(graph.nodes["0"].weight, np.ndarray)
    inputs = (torch.rand(12, 3, 6) < 0.5).double()
    expected = run(nn.Sequential(network[0].double(), Accumulator()), inputs).detach().numpy()
    assert expected.any()
    assert np.array_equal(simulate(graph, inputs.numpy().swapaxes(0, 1)).outputs.swapaxes(0, 1), expected)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert network[1].v is None  # the user's network was not run


def changed(field, factor):
    def exporter(*given):
        graph = export(*given)
        setattr(graph.nodes["1"], field, factor * getattr(graph.nodes["1"], field))
        return graph

    return exporter


@pytest.mark.parametrize("exporter", [changed("r", DT_S), changed("v_threshold", 1.1)])
def test_a_graph_that_does_not_fire_as_the_network_is_refused(network, monkeypatch, exporter):
    use(monkeypatch, exporter)
    with pytest.raises(BadInput, match=r"Toy writes does not fire as the network does: \d+ of \d+ outputs"):
        to_nir(network, 12, DT_S)


def test_what_an_exporter_does_not_carry_is_named_with_its_neuron(network, monkeypatch):
    use(monkeypatch, lost=lambda module: "has a refractory period" if isinstance(module, Accumulator) else None)
    with pytest.raises(BadInput, match=r"Toy does not carry all of the network: '1' \(Accumulator\): has a refractory"):
        to_nir(network, 12)


class Subtractor(Accumulator):
    """The same, but a spike subtracts one."""

    def forward(self, current):
        self.v = current if self.v is None else self.v + current
        fired = (self.v > 1).to(current.dtype)
        self.v = self.v - fired
        return fired


Subtractor.__module__ = "toyframework.neurons"


def test_a_reset_that_no_exporter_writes_is_noted(network, monkeypatch):
    resets = {Accumulator: "zero", Subtractor: "subtract"}
    monkeypatch.setitem(
        FRAMEWORKS, "toyframework", Framework("Toy", export, run, lambda _: None, lambda each: resets.get(type(each)))
    )
    assert "reset" not in to_nir(network, 12).metadata
    assert to_nir(nn.Sequential(network[0], Subtractor()), 12).metadata["reset"] == "subtract"
    with pytest.raises(BadInput, match=r"different resets \(subtract, zero\)"):
        to_nir(nn.Sequential(network[0], Subtractor(), Accumulator()), 12)


def test_a_layer_that_an_exporter_leaves_out_is_named(network, monkeypatch):
    def exporter(*given):
        graph = export(*given)
        graph.nodes["1"] = None
        return graph

    use(monkeypatch, exporter)
    with pytest.raises(BadInput, match=r"the exporter of Toy leaves out '1' \(Accumulator\)"):
        to_nir(network, 12)


def test_an_exporter_that_refuses_is_quoted(network, monkeypatch):
    def exporter(*_):
        raise KeyError("no such\nlayer")

    use(monkeypatch, exporter)
    with pytest.raises(BadInput, match=r"the exporter of Toy refuses the network: .*no such.*layer"):
        to_nir(network, 12)


def test_a_network_that_cannot_be_run_or_is_silent_is_refused(network, monkeypatch):
    use(monkeypatch, runner=lambda _network, _inputs: 1 / 0)
    with pytest.raises(BadInput, match=r"cannot be run to compare it with its exported graph \(division by zero\)"):
        to_nir(network, 12)
    use(monkeypatch)
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].bias.fill_(-1)
    with pytest.raises(BadInput, match="silent on random input"):
        to_nir(network, 12)


def test_mixtures_and_options_that_no_exporter_has_are_refused(network, monkeypatch):
    use(monkeypatch)
    with pytest.raises(BadInput, match="mixes modules of Toy and esl_neuro"):
        to_nir(nn.Sequential(network, LIF(5)), 12)
    with pytest.raises(BadInput, match="do not apply: the exporter of Toy"):
        to_nir(network, 12, thresholds="folded")


# The frameworks themselves, where they are installed.


def snntorch_networks():
    snn = pytest.importorskip("snntorch")

    def leaky(**options):
        return snn.Leaky(beta=0.8, init_hidden=True, reset_mechanism="zero", **{"reset_delay": False, **options})

    synaptic = snn.Synaptic(alpha=0.5, beta=0.8, init_hidden=True, reset_mechanism="zero", reset_delay=False)
    recurrent = snn.RLeaky(beta=0.8, linear_features=8, init_hidden=True, reset_mechanism="zero", reset_delay=False)
    image = [nn.Conv2d(2, 3, 3), leaky(), nn.Flatten(), nn.Linear(48, 4), leaky(output=True)]
    good = [
        ([nn.Linear(6, 8), leaky(), nn.Linear(8, 4), leaky(output=True)], None),
        ([nn.Linear(6, 8), synaptic], None),
        ([nn.Linear(6, 8), recurrent], None),
        (image, (2, 6, 6)),
    ]
    subtract = [snn.Leaky(beta=0.8, init_hidden=True), nn.Linear(8, 4), snn.Synaptic(0.5, 0.8, init_hidden=True)]
    good.append(([nn.Linear(6, 8), *subtract], None))
    never = snn.Leaky(beta=0.8, init_hidden=True, reset_mechanism="none")
    bad = [
        ([nn.Linear(6, 8), never], "'1' .Leaky.: resets with 'none'"),
        ([nn.Linear(6, 8), subtract[0], nn.Linear(8, 8), leaky()], "different resets .subtract_next_step, zero"),
        ([nn.Linear(6, 8), leaky(reset_delay=True)], "use reset_delay=False"),
    ]
    return good, bad


def spikingjelly_networks():
    layer = pytest.importorskip("spikingjelly.activation_based.layer")
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    image = [layer.Conv2d(2, 3, 3), neuron.LIFNode(decay_input=False), layer.Flatten(), layer.Linear(48, 4)]
    good = [
        ([layer.Linear(6, 8), neuron.LIFNode(tau=2.0), layer.Linear(8, 4), neuron.IFNode()], None),
        ([*image, neuron.IFNode()], (2, 6, 6)),
    ]
    bad = [([layer.Linear(6, 8), neuron.LIFNode(v_reset=None)], "SpikingJelly refuses .*soft reset")]
    return good, bad


def norse_networks():
    norse = pytest.importorskip("norse.torch")
    good = [
        (norse.SequentialState(nn.Linear(6, 8), neuron()), None)
        for neuron in (norse.LIFBoxCell, norse.LIFCell, norse.IAFCell)
    ]
    pool = norse.SequentialState(nn.Conv2d(2, 3, 3), norse.LIFBoxCell(), nn.AvgPool2d(2))
    return good, [(pool, "leaves out '2' .AvgPool2d.")]


def sinabs_networks():
    layers = pytest.importorskip("sinabs.layers")
    activation = pytest.importorskip("sinabs.activation")
    reset = {"reset_fn": activation.MembraneReset(), "spike_fn": activation.SingleSpike}
    good = [
        ([nn.Linear(6, 8), layers.IAF(**reset), nn.Linear(8, 4), layers.IAF(**reset)], None),
        ([nn.Linear(6, 8), layers.LIF(tau_mem=5.0, **reset)], None),
        ([nn.Linear(6, 8), layers.LIFSqueeze(tau_mem=5.0, batch_size=1, norm_input=False, **reset)], None),
    ]
    subtract = layers.IAF(spike_fn=activation.SingleSpike)
    half = layers.IAF(reset_fn=activation.MembraneSubtract(0.5), spike_fn=activation.SingleSpike)
    good.append(([nn.Linear(6, 8), subtract], None))
    return good, [
        ([nn.Linear(6, 8), layers.IAF()], "fires several spikes a step"),
        ([nn.Linear(6, 8), half], "subtracts 0.5 instead of its threshold"),
    ]


@pytest.mark.parametrize("networks", [snntorch_networks, spikingjelly_networks, norse_networks, sinabs_networks])
def test_networks_of_a_framework_are_exported_or_refused(networks):
    torch.manual_seed(0)
    good, bad = networks()
    for layers, shape in good:
        module = layers if isinstance(layers, nn.Module) else nn.Sequential(*layers)
        graph = to_nir(module, 8, DT_S, shape=shape)  # compares the two, and raises if they differ
        assert graph.metadata["dt_s"] == DT_S
    for layers, words in bad:
        module = layers if isinstance(layers, nn.Module) else nn.Sequential(*layers)
        with pytest.raises(BadInput, match=words):
            to_nir(module, 8, DT_S, shape=(2, 6, 6) if "Pool" in words else None)


PROGRAMS = {
    code.split()[1]: code
    for code in re.findall(
        r"```python\n(.*?)```", (DOCS / "frameworks.md").read_text(encoding="utf-8"), flags=re.DOTALL
    )
}


@pytest.mark.parametrize("framework", PROGRAMS, ids="{}_networks".format)
def test_the_program_of_the_document_for_a_framework_runs_and_fires(framework):
    """docs/frameworks.md; the name of a case is one that scripts/test-readers selects."""
    pytest.importorskip(framework)
    left: dict = {}
    exec(PROGRAMS[framework], left)
    fired = left["result"].trace.spikes
    assert all(0.01 < spikes.mean() < 0.9 for spikes in fired.values())
    assert all(layer.moved_share < 0.1 for layer in left["chip"].fidelity.layers)


def test_the_document_has_a_program_for_each_framework_in_its_title():
    assert list(PROGRAMS) == ["snntorch", "spikingjelly", "norse"]


def test_every_framework_has_a_name_and_a_package():
    assert {package: each.name for package, each in foreign.FRAMEWORKS.items()} == {
        "snntorch": "snnTorch",
        "spikingjelly": "SpikingJelly",
        "norse": "Norse",
        "sinabs": "sinabs",
    }
