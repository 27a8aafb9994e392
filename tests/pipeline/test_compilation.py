"""A network compiles to the integers that it was trained for, or an error lists what is missing."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from torch import nn

from esl_neuro.compiler.compile import compile_graph
from esl_neuro.compiler.placement import place
from esl_neuro.compiler.program import differences
from esl_neuro.errors import BadInput, LimitExceeded
from esl_neuro.hardware import load_target
from esl_neuro.interchange import to_nir, write_nir
from esl_neuro.nirgraph.files import read_nir
from esl_neuro.pipeline.compilation import check, compile
from esl_neuro.pipeline.inputs import Samples
from esl_neuro.pipeline.training import train
from esl_neuro.resources import resource_folder
from esl_neuro.snn import LIF
from esl_neuro.training.evaluation import accuracy
from pipeline.graphs import graph
from pipeline.small_recipes import GRADED

STEPS_FIRST = "steps,samples,..."


def float_accuracy(run):
    return accuracy(run.network, run.dataset, run.dataset.test, run.recipe.data)


def lif(count):
    return LIF(count, tau=0.5, threshold=0.4, surrogate="arctan", surrogate_width=1.0, learn_threshold=True)


def module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 20), lif(20), nn.Linear(20, 5), lif(5))


# Runs.


def test_a_run_compiles_to_what_its_nir_file_compiles_to(run, tmp_path):
    chip = compile(run, "loihi2")
    write_nir(tmp_path / "model.nir", to_nir(run.network, 4))
    by_hand = compile_graph(read_nir(tmp_path / "model.nir"), load_target("loihi2"), 4)
    assert differences(chip.program, by_hand.program) == []
    assert chip.quantisation == by_hand.errors
    assert {row.resource: row.used for row in chip.utilisation}["neurons_per_chip"] == 26


def test_a_run_is_compiled_by_its_folder_and_for_a_target_given_in_any_form(run):
    chip = compile(run, "loihi2")
    path = resource_folder("hw_targets") / "loihi2.toml"
    for network, target in ((str(run.folder), load_target("loihi2")), (run.folder, path), (run, str(path))):
        assert differences(compile(network, target).program, chip.program) == []


def test_a_graded_run_brings_the_bits_of_its_input(graded_run):
    chip = compile(graded_run)
    assert (chip.program.input_bits, chip.program.input_scale) == (8, 255.0)
    assert chip.program.readout == "potential"
    assert chip.run(chip.test_set()).accuracy == pytest.approx(float_accuracy(graded_run), abs=0.01)
    assert compile(graded_run, input_bits=4).program.input_scale == 15.0


def test_a_run_that_learned_on_integers_compiles_to_these_integers(quantised_run):
    chip, network = compile(quantised_run), quantised_run.network
    for stage, group, connection in zip(network.stages, chip.program.groups, chip.program.connections, strict=True):
        learned = network.integers(stage)
        assert np.array_equal(connection.matrix.toarray(), learned.weights.numpy())
        assert connection.weight_exp == learned.weight_exp
        assert np.array_equal(group.vth, learned.constants.vth.numpy())
    assert chip.scalings == {}  # training and compiler have one formula
    assert chip.run(chip.test_set()).accuracy == float_accuracy(quantised_run) == quantised_run.accuracy


def test_a_run_that_learned_on_weights_of_few_bits_compiles_to_these_integers(tmp_path):
    changes = (*GRADED[:-1], "training.quantize=loihi2", "training.weight_bits={fc1=2, fc2=4}")
    run = train("mlp-digits", changes=changes, runs=tmp_path)
    chip, network = compile(run), run.network
    for stage, connection in zip(network.stages, chip.program.connections, strict=True):
        assert np.array_equal(connection.matrix.toarray(), network.integers(stage).weights.numpy())
    assert [each.weight_bits for each in chip.program.connections] == [2, 4]
    assert chip.run(chip.test_set()).accuracy == float_accuracy(run) == run.accuracy
    with pytest.raises(BadInput, match=r"weight_bits: the run .* was trained with its bits; omit it"):
        compile(run, weight_bits=4)


def test_a_run_is_compiled_with_fewer_bits_and_they_can_be_chosen(run):
    whole, narrow = compile(run), compile(run, weight_bits={"lif1": 4}, accept_loss=True)
    assert [each.weight_bits for each in narrow.program.connections] == [4, None]
    most = (memory(whole) + memory(narrow)) // 2
    chosen = compile(run, stored_bits=most, accept_loss=True)
    assert memory(chosen) <= most
    (decision,) = chosen.decisions
    assert decision.subject == "weight bits"
    assert decision.candidates[0].name.startswith("lif1 8, lif2 8 (")
    assert decision.candidates[0].output_error < decision.candidates[-1].output_error + 0.01
    assert compile(run, stored_bits=memory(whole)).program.connections[0].weight_bits is None
    with pytest.raises(BadInput, match="omit one of the two"):
        compile(run, stored_bits=most, weight_bits=4)
    with pytest.raises(BadInput, match="did you mean 'lif1'"):
        compile(run, weight_bits={"lif11": 4})


def memory(chip):
    return int(place(chip.program, chip.hardware).used["synaptic_memory"].sum())


def test_a_network_of_single_spikes_is_read_by_its_first_spike(single_spike_run, tmp_path):
    chip = compile(single_spike_run, dt_s=2e-4)
    assert chip.program.readout == "first_spike"
    assert chip.input_steps == (0, 90)  # 10 ms ln 6
    assert chip.steps == 576  # 10 ms ln 1e5
    result = chip.run(chip.test_set(20))
    fired = result.trace.input_spikes.any(axis=(0, 2)).nonzero()[0]
    assert fired.tolist() == [0, 90]
    write_nir(tmp_path / "model.nir", chip.graph)
    assert compile(tmp_path / "model.nir").program.readout == "first_spike"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"steps": 4}, "steps: given by the recipe of the run"),
        ({"inputs": np.zeros((1, 4, 64)), "layout": STEPS_FIRST}, "inputs, layout: given by the recipe of the run"),
        ({"target": "v100-pcie"}, r"no \[arithmetic\]"),
        ({"target": "lohi2"}, "did you mean 'loihi2'"),
    ],
)
def test_what_contradicts_a_run_is_refused(run, more, words):
    with pytest.raises(BadInput, match=words):
        compile(run, **more)


def test_a_network_that_does_not_fit_is_refused_or_said(run, tmp_path):
    text = (resource_folder("hw_targets") / "loihi2.toml").read_text(encoding="utf-8")
    (tmp_path / "tiny.toml").write_text(text.replace("value = 1048576", "value = 20"), encoding="utf-8")
    with pytest.raises(LimitExceeded, match="neurons_per_chip: needs 26, the limit is 20"):
        compile(run, tmp_path / "tiny.toml")
    assert any(
        "needs 26, the limit is 20" in str(finding)
        for finding in compile(run, tmp_path / "tiny.toml", any_size=True).findings
    )


# Graphs and files.


def test_a_graph_and_its_file_are_compiled_alike(tmp_path):
    nir.write(tmp_path / "x.nir", graph())
    chips = [compile(each, steps=8) for each in (graph(), tmp_path / "x.nir", str(tmp_path / "x.nir"))]
    by_hand = compile_graph(graph(), "loihi2", 8).program
    assert [differences(chip.program, by_hand) for chip in chips] == [[], [], []]


def test_steps_come_from_the_arguments_then_the_metadata_then_the_inputs():
    assert compile(graph(steps=6)).steps == 6
    assert compile(graph(steps=6), steps=8).steps == 8
    assert compile(graph(), inputs=np.zeros((3, 5, 4)), layout="samples,steps,...").steps == 5
    assert compile(graph(), inputs=np.zeros((3, 5, 4)), layout="steps,samples,...").steps == 3
    assert compile(graph(), inputs=Samples(np.zeros((3, 5, 4)))).steps == 5  # samples first by definition
    with pytest.raises(BadInput, match=r"3 samples of 5 steps or 5 samples of 3 steps, and the.*give one: layout="):
        compile(graph(), inputs=np.zeros((3, 5, 4)))
    with pytest.raises(BadInput, match="number of time steps per sample is missing; give steps or inputs"):
        compile(graph())
    with pytest.raises(BadInput, match=r"have 5 steps per sample; the network requires 6.*compile with steps=5"):
        compile(graph(steps=6), inputs=np.zeros((3, 5, 4)))


def test_a_given_time_step_is_kept_in_the_graph():
    without = graph(dt_s=None)
    with pytest.raises(BadInput, match="no 'dt_s' in its metadata"):
        compile(without, steps=8)
    chip = compile(without, steps=8, dt_s=1e-4)
    assert chip.graph.metadata["dt_s"] == chip.program.dt_s == 1e-4
    assert "dt_s" not in without.metadata


def test_graded_inputs_become_payloads_and_this_is_said():
    inputs = np.tile([0.2, 0.5, 0.9, 1.0], (1, 8, 1))
    chip = compile(graph(steps=8), inputs=inputs)
    assert [finding.kind for finding in chip.findings] == ["graded-input"]
    assert "payloads of 8 bits, 255 per unit" in str(chip.findings[0])
    assert chip.run(inputs).trace.input_spikes[0, 0].tolist() == [51, 128, 230, 255]
    assert compile(graph(steps=8), inputs=4 * inputs).program.input_scale == 255 / 4
    told = compile(graph(steps=8), inputs=inputs, input_bits=6)
    assert (told.program.input_scale, told.findings) == (63.0, ())
    assert compile(graph(steps=8), inputs=inputs > 0.6).program.input_bits == 1


def test_graded_inputs_into_a_program_of_spikes_are_refused():
    chip = compile(graph(), steps=8)
    with pytest.raises(BadInput, match=r"from 0\.2 to 1\).*accepts only spikes.*input_bits=8"):
        chip.run(np.tile([0.2, 0.5, 0.9, 1.0], (1, 8, 1)))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"input_scale": 3.0}, "input_scale is 3, but the input is spikes"),
        (
            {"input_bits": 1, "inputs": np.full((1, 8, 4), 0.5)},
            "input_bits is 1, but inputs contain values other than 0 and 1",
        ),
        ({"input_bits": 17}, "input_bits is 17"),
        ({"calibrate": 5}, "calibrate searches scales on inputs"),
        (
            {"tie_safe": True, "thresholds": "folded"},
            "thresholds, tie_safe: a NIR graph is compiled unchanged; omit them",
        ),
        ({"layout": STEPS_FIRST}, "layout: describes inputs, and none are given; omit it"),
        ({"inputs": np.zeros((2, 8, 5))}, "have 5 lines per step; the network requires 4"),
    ],
)
def test_arguments_that_contradict_each_other_or_the_graph_are_refused(more, words):
    with pytest.raises(BadInput, match=words):
        compile(graph(), **{"steps": 8} | more)


def test_scales_are_searched_on_the_inputs():
    rng = np.random.default_rng(0)
    inputs = Samples(rng.random((6, 8, 4)))
    plain, searched = (compile(graph(), inputs=inputs, calibrate=number) for number in (None, 6))
    assert (plain.decisions, dict(plain.scalings)) == ((), {})
    (decision,) = searched.decisions
    assert (decision.subject, decision.samples) == ("scales", "6 samples")
    assert set(searched.scalings) == ({"lif"} if decision.chosen == decision.candidates[1].name else set())


# Modules.


def test_a_module_compiles_to_what_its_graph_compiles_to(tmp_path):
    write_nir(tmp_path / "model.nir", to_nir(module(), 6))
    by_hand = compile_graph(read_nir(tmp_path / "model.nir"), "loihi2", 6).program
    assert differences(compile(module(), steps=6).program, by_hand) == []


def test_a_module_takes_its_steps_and_its_input_from_some_inputs():
    inputs = torch.rand(6, 3, 12)
    chip = compile(module(), inputs=inputs, layout=STEPS_FIRST)
    assert (chip.steps, chip.program.input_bits, chip.input_shape) == (6, 8, (12,))
    spikes = (inputs > 0.5).float()
    chip = compile(module(), inputs=spikes, layout=STEPS_FIRST)
    with torch.no_grad():
        expected = module()(spikes).sum(0).numpy()
    found = chip.run(spikes, layout=STEPS_FIRST).trace.output_spikes.sum(axis=1)
    assert found.sum() > 5
    assert np.abs(found - expected).max() <= 1  # rounding may move a spike


def test_a_module_goes_on_training_as_it_was():
    network = module().train()
    compile(network, steps=6)
    assert all(layer.training for layer in network.modules())


def test_a_module_without_steps_is_refused():
    with pytest.raises(BadInput, match="a torch module does not determine the number of time steps"):
        compile(module())


# Anything else.


def test_what_cannot_be_compiled_is_refused_by_name(exported):
    with pytest.raises(BadInput, match="list cannot be compiled; give a run, a NIR graph"):
        compile([1, 2])
    with pytest.raises(BadInput, match="is already compiled; open it with load_compiled"):
        compile(exported.folder)
    with pytest.raises(BadInput, match="no such file"):
        compile(Path("nowhere.nir"))


def test_a_check_says_what_prevents_compilation_or_what_it_needs():
    assert [finding.kind for finding in check(graph(dt_s=None)).findings] == ["no-time-step"]
    checked = check(graph(), load_target("loihi2"), steps=8)
    assert checked.compiles
    assert checked.fits
    assert {row.resource: row.used for row in checked.utilisation}["neurons_per_chip"] == 4
