"""A reset by subtraction from a note or a statement to the end: compiled, run, saved, verified, trained on integers."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from esl_neuro.backends.integer import run_integer
from esl_neuro.cli.main import cli as main
from esl_neuro.compiler.compile import compile_graph
from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target
from esl_neuro.interchange import to_nir
from esl_neuro.nirgraph.files import read_nir, write_nir
from esl_neuro.nirgraph.simulation import simulate
from esl_neuro.pipeline import readers
from esl_neuro.pipeline.activity import Activity, run_network
from esl_neuro.pipeline.compilation import check, compile
from esl_neuro.pipeline.compiled_network import load_compiled
from esl_neuro.pipeline.training import train
from esl_neuro.pipeline.verification import verify
from esl_neuro.resets import RESETS
from esl_neuro.snn import build_layers, observe
from esl_neuro.snn.integer_network import QuantisedNetwork
from esl_neuro.snn.neurons import LIF, CubaLIF
from pipeline.graphs import graph

INPUTS = (np.random.default_rng(0).random((6, 20, 4)) < 0.6).astype(np.uint8)
NOTES = [{"reset_mechanism": "subtract"}, {"reset": "by_sub"}, {"neuron": {"reset": "soft"}}]


def exact(metadata=None, v_threshold=1.0):
    """A network whose numbers the chip holds exactly: its integers fire as the float network."""
    network = graph(steps=20)
    network.nodes["fc"].weight = np.eye(4) * 127 / 128 + np.eye(4)[::-1] / 2
    network.nodes["lif"].v_threshold = np.full(4, v_threshold)
    network.metadata |= metadata or {}
    return network


@pytest.mark.parametrize("metadata", NOTES)
@pytest.mark.parametrize("place", ["graph", "node", "nested"])
def test_a_note_is_honoured_from_the_file_to_the_chip(metadata, place, tmp_path):
    network = exact(metadata if place == "graph" else None)
    if place != "graph":
        network.nodes["lif"].metadata = dict(metadata)
    if place == "nested":
        ends = {"input": nir.Input({"input": np.array([4])}), "output": nir.Output({"output": np.array([4])})}
        network.nodes["lif"].metadata = {}
        inner = nir.NIRGraph(ends | {"lif": network.nodes["lif"]}, [("input", "lif"), ("lif", "output")], metadata)
        network.nodes["lif"] = inner
    path = tmp_path / "net.nir"
    write_nir(path, network)
    expected = simulate(exact(), INPUTS, reset="subtract").outputs
    assert expected.sum() > simulate(exact(), INPUTS).outputs.sum()
    compiled = compile(path)
    assert [group.reset for group in compiled.program.groups] == ["subtract"]
    assert np.array_equal(compiled.run(INPUTS).trace.output_spikes, expected)
    assert np.array_equal(simulate(read_nir(path), INPUTS).outputs, expected)
    assert check(path).findings == ()
    with pytest.raises(BadInput, match="resets by subtraction; the neurons of 'loihi' reset to zero only"):
        compile(path, "loihi")


@pytest.mark.parametrize("reset", RESETS)
def test_a_stated_reset_is_kept_by_an_export(reset, tmp_path):
    compiled = compile(exact(), reset=reset)
    expected = simulate(exact(), INPUTS, reset=reset).outputs
    assert np.array_equal(compiled.run(INPUTS).trace.output_spikes, expected)
    folder = compiled.save(tmp_path / "export", formats=("lava-script",))
    verify(folder, golden=True, with_lava=False)
    assert np.array_equal(load_compiled(folder).run(INPUTS).trace.output_spikes, expected)
    assert np.array_equal(simulate(read_nir(folder / "model.nir"), INPUTS).outputs, expected)


def test_the_energy_commands_take_a_stated_reset(tmp_path):
    path, spikes = tmp_path / "net.nir", tmp_path / "spikes.npy"
    write_nir(path, exact())
    np.save(spikes, INPUTS)
    for reset in RESETS:
        result = run_network(path, Activity(inputs=spikes, reset=reset))
        assert result.spikes == {"lif": simulate(exact(), INPUTS, reset=reset).outputs.sum()}


def test_a_statement_where_the_network_says_it_itself_is_refused(run):
    with pytest.raises(BadInput, match="reset: given by the recipe of the run"):
        compile(run, reset="subtract")
    with pytest.raises(BadInput, match="reset: given by the layers of the module"):
        compile(torch.nn.Sequential(torch.nn.Linear(4, 4), LIF(4)), steps=3, reset="subtract")


def silent_about_it(path):
    """A file as snnTorch writes it."""
    network = exact()
    node = network.nodes["lif"]
    for name in ("tau", "v_leak", "v_threshold", "v_reset"):
        setattr(node, name, getattr(node, name).astype(np.float32))
    node.r = node.tau / np.float32(1e-4)
    network.metadata = {}
    write_nir(path, network)
    return path


def test_the_commands_warn_of_a_file_that_does_not_say(tmp_path):
    path, command = silent_about_it(tmp_path / "net.nir"), CliRunner()
    shown = command.invoke(main, ["check", str(path), "--dt", "1e-4"])
    assert shown.exit_code == 0
    assert "reset-unknown" in shown.stdout
    assert "--reset subtract_next_step" in shown.stdout
    stated = command.invoke(main, ["check", str(path), "--dt", "1e-4", "--reset", "subtract"])
    assert "reset-unknown" not in stated.stdout
    wrong = command.invoke(main, ["check", str(path), "--reset", "soft"])
    assert wrong.exit_code == 2
    priced = command.invoke(
        main, ["energy", "report", str(path), "--dt", "1e-4", "--rate", "0.3", "--steps", "5", "--backend", "integer"]
    )
    assert priced.exit_code == 0, priced.output
    assert "the form that snnTorch writes" in priced.stderr


def test_verify_warns_of_a_file_that_does_not_say(tmp_path):
    path, said = silent_about_it(tmp_path / "net.nir"), []
    options = {"folder": tmp_path, "on_status": said.append, "dt_s": 1e-4}
    readers.verify_nir(path, ("norse",), **options)
    assert "the form that snnTorch writes" in said[0]
    said.clear()
    readers.verify_nir(path, ("norse",), reset="subtract", **options)
    assert said == [f"{path}: running in norse"]


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("kind", ["lif", "cuba"])
def test_training_on_integers_fires_as_the_compiled_program(reset, kind):
    torch.manual_seed(0)

    def neurons(shape):
        arguments = (0.9, 0.6) if kind == "cuba" else (0.9,)
        return (CubaLIF if kind == "cuba" else LIF)(shape, *arguments, threshold=0.8, reset=reset)

    chip = load_target("loihi2")
    layers = build_layers("12-10-8-4", (12,), neurons, bias=kind == "lif", spiking_output=True)
    for parameter in layers.parameters():
        parameter.data *= 2
    quantised = QuantisedNetwork(layers, chip.arithmetic)
    signal = (np.random.default_rng(1).random((15, 5, 12)) < 0.5).astype(np.float32)
    program = compile_graph(to_nir(quantised, 15), chip, 15).program
    trace = run_integer(program, signal.swapaxes(0, 1).astype(np.uint8))
    found = observe(quantised, torch.from_numpy(signal)).spikes
    assert [group.reset for group in program.groups] == ["zero" if reset == "zero" else "subtract"] * 3
    for ours, theirs in zip(found.values(), trace.spikes.values(), strict=True):
        assert np.array_equal(ours.detach().numpy().swapaxes(0, 1), theirs)
    assert sum(int(fired.sum()) for fired in trace.spikes.values()) > 50


def test_a_recipe_trains_neurons_that_subtract(tmp_path):
    brief = ("network.notation=64-32-10", "data.steps=4", "training.epochs=3", "training.threads=1")
    run = train("mlp-digits", changes=("network.reset=subtract", *brief), runs=tmp_path)
    compiled = compile(run)
    assert [group.reset for group in compiled.program.groups] == ["subtract", "subtract"]
    assert run.accuracy > 0.3
    assert abs(compiled.run(compiled.test_set()).accuracy - run.accuracy) < 0.1
