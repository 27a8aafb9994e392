"""A compiled network can be run, saved, loaded and verified."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nir
import numpy as np
import pytest

import esl_neuro as esl
from esl_neuro.backends.integer import run_integer
from esl_neuro.backends.lava_session import lava_installed
from esl_neuro.compiler.program import Program, differences
from esl_neuro.errors import BadInput, CheckFailed
from esl_neuro.pipeline import simulation
from esl_neuro.pipeline.activity import Activity, run_recorded
from esl_neuro.pipeline.compilation import compile
from esl_neuro.pipeline.compiled_network import load_compiled
from esl_neuro.pipeline.exports import export_run
from esl_neuro.pipeline.inputs import evaluation_samples
from esl_neuro.pipeline.training import load_run
from esl_neuro.pipeline.verification import verify
from pipeline.graphs import graph

OLD = Path(__file__).parent / "written_by_0_1_0"


def test_a_run_on_the_test_set_is_the_simulators(run):
    chip = compile(run)
    result = chip.run(esl.test_set(run))
    spikes = evaluation_samples(run.recipe.data).values
    trace = run_integer(chip.program, spikes)
    assert all(np.array_equal(result.trace.spikes[name], fired) for name, fired in trace.spikes.items())
    assert result.accuracy == (trace.predictions() == run.dataset.test.labels).mean()
    assert result.spikes == {name: fired.sum() for name, fired in trace.spikes.items()}
    assert result.counts.samples == len(spikes) == 359
    assert "359 test samples x 4 steps, integer, accuracy" in str(result)
    assert len(repr(result)) < 500


def test_plain_arrays_have_no_accuracy(run):
    chip = compile(run)
    result = chip.run(esl.test_set(run, 5).values)
    assert result.accuracy is None
    assert np.array_equal(result.predictions, chip.run(chip.test_set(5)).predictions)


@pytest.mark.skipif(not lava_installed(), reason="lava-nc is not installed")
@pytest.mark.lava
def test_every_spike_in_lava_is_compared(run):
    result = compile(run).run(esl.test_set(run, 5), backend="lava-batched")
    assert result.parity.equal
    assert result.parity.values_compared == 5 * 4 * 26


def test_a_spike_that_differs_is_an_error(run, monkeypatch):
    def broken(program, inputs, record_potentials, progress=None):  # noqa: ARG001 (as Lava's)
        trace = run_integer(program, inputs, record_potentials)
        trace.spikes["lif1"][1, 2, 3] ^= 1
        return trace

    monkeypatch.setattr(simulation.lava, "run_lava", broken)
    with pytest.raises(CheckFailed, match="layer 'lif1', neuron 3, step 2 of sample 1"):
        compile(run).run(esl.test_set(run, 5), backend="lava")


def test_an_unknown_simulator_is_refused(run):
    with pytest.raises(BadInput, match="did you mean 'lava'"):
        compile(run).run(esl.test_set(run, 2), backend="lav")


def test_a_saved_network_can_be_loaded(run, tmp_path):
    chip = compile(run)
    again = load_compiled(chip.save(tmp_path / "out", formats=("lava-script",)))
    assert (tmp_path / "out" / "network.py").is_file()
    assert differences(again.program, chip.program) == []
    assert (again.name, again.data, again.quantisation) == (chip.name, chip.data, chip.quantisation)
    assert again.utilisation == chip.utilisation
    assert again.run(again.test_set(20)).spikes == chip.run(chip.test_set(20)).spikes
    assert verify(tmp_path / "out", with_lava=False).golden == {"integer": 3 * 4 * 4 * 26}


def test_saving_again_leaves_nothing_of_the_earlier_network(run, tmp_path):
    chip = compile(run)
    chip.save(tmp_path / "out", formats=("lava-script",))
    chip.save(tmp_path / "out")
    assert not (tmp_path / "out" / "network.py").exists()
    with pytest.raises(BadInput, match="did you mean 'netx'"):
        chip.save(tmp_path / "out", formats=("net",))
    assert (tmp_path / "out" / "export.json").is_file()


@pytest.mark.parametrize("inputs", [np.ones((2, 8, 4)), np.full((2, 8, 4), 0.7)])
def test_a_network_without_a_data_set_proves_itself_on_random_spikes(tmp_path, inputs):
    chip = compile(graph(dt_s=None), dt_s=1e-4, inputs=inputs, layout="samples,steps,...")
    chip.save(tmp_path / "out")
    assert verify(tmp_path / "out", with_lava=False).golden == {"integer": 3 * 4 * 8 * 4}
    again = load_compiled(tmp_path / "out")
    assert again.run(inputs).spikes == chip.run(inputs).spikes
    for ask in (again.test_set, lambda: run_recorded(tmp_path / "out", Activity())):
        with pytest.raises(BadInput, match="the data set that it was trained for is unknown"):
            ask()


def test_an_export_is_the_compiled_network_with_its_accuracies(run, exported):
    assert differences(Program.load(exported.folder), compile(run).program) == []
    accuracy = exported.to_dict()["accuracy"]
    assert accuracy["float"] == run.accuracy
    assert accuracy["integer"] == run_recorded(exported.folder, Activity()).accuracy
    kept = json.loads((exported.folder / "run-integer.json").read_text())
    assert kept["accuracy"] == accuracy["integer"]
    exported.refuse_loss(100.0)
    with pytest.raises(CheckFailed, match="more than --max-loss -100"):
        exported.refuse_loss(-100.0)


def test_a_damaged_document_is_refused(exported, tmp_path):
    shutil.copytree(exported.folder, tmp_path / "out")
    path = tmp_path / "out" / "export.json"
    document = json.loads(path.read_text())
    accuracy = document["accuracy"] | {"float": 7.5}
    for wrong, words in (
        ({"quantisation": [{"lair": 1}]}, "damaged"),
        ({"schema": 9}, "schema is 9"),
        ({"accuracy": accuracy}, r"accuracy.float.*less than or equal to 1"),
    ):
        path.write_text(json.dumps(document | wrong))
        with pytest.raises(BadInput, match=words):
            load_compiled(tmp_path / "out")


def test_numbers_that_the_chip_does_not_have_are_refused_in_one_line(exported, tmp_path):
    shutil.copytree(exported.folder, tmp_path / "out")
    program = Program.load(tmp_path / "out")
    first = program.groups[0]
    wide = replace(first, vth=first.vth + 2**20)
    replace(program, groups=(wide, *program.groups[1:])).save(tmp_path / "out")
    with pytest.raises(BadInput, match=r"layer 'lif1': vth: .* allowed: from 0 to 131071 .*; export again") as caught:
        load_compiled(tmp_path / "out")
    assert "\n" not in str(caught.value)


# What earlier versions wrote.


def test_an_export_of_the_first_version_is_opened_and_proven():
    chip = load_compiled(OLD / "loihi2")
    assert verify(OLD / "loihi2", golden=True, with_lava=False).golden == {"integer": 3 * 4 * 4 * 26}
    assert (
        chip.run(chip.test_set()).accuracy
        == json.loads((OLD / "loihi2" / "export.json").read_text())["accuracy"]["integer"]
    )


def test_an_export_of_the_first_version_whose_files_do_not_belong_together_is_refused(tmp_path):
    shutil.copytree(OLD / "loihi2", tmp_path / "out")
    graph = nir.read(tmp_path / "out" / "model.nir")
    node = next(node for node in graph.nodes.values() if isinstance(node, nir.LIF))
    node.v_threshold = node.v_threshold * 1.1
    nir.write(tmp_path / "out" / "model.nir", graph)
    with pytest.raises(CheckFailed, match=r"vth.* differ"):
        verify(tmp_path / "out", golden=True, with_lava=False)


def test_a_run_of_the_first_version_is_opened_and_compiles_to_finer_integers(tmp_path):
    run = load_run(OLD)
    assert run.accuracy == json.loads((OLD / "result.json").read_text())["test_accuracy"]
    exported = export_run(run, folder=tmp_path / "out")
    before = json.loads((OLD / "loihi2" / "export.json").read_text())
    assert exported.document["accuracy"]["float"] == before["accuracy"]["float"]
    for error, old in zip(exported.compiled.quantisation, before["quantisation"], strict=True):
        assert error.layer == old["layer"]
        assert error.weight_error < old["weight_error"]
        assert error.lost <= old["lost"]
