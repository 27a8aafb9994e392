"""A changed export is detected, and two runs are compared step by step."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from esl_neuro.backends.golden import read_trace, write_trace
from esl_neuro.errors import BadInput, CheckFailed
from esl_neuro.pipeline import readers
from esl_neuro.pipeline.compilation import compile
from esl_neuro.pipeline.compiled_network import load_compiled
from esl_neuro.pipeline.verification import compare_runs, verify
from esl_neuro.resources import resource_folder


@pytest.fixture
def folder(exported, tmp_path):
    return shutil.copytree(exported.folder, tmp_path / "loihi2")


def test_an_export_is_proven(folder):
    proof = verify(folder, golden=True, with_lava=False)
    assert proof.to_dict() == {"export": str(folder), "recompiled": "equal", "golden": {"integer": 3 * 4 * 4 * 26}}


def test_an_export_for_a_chip_of_the_user_is_proven_without_its_file(run, tmp_path):
    text = (resource_folder("hw_targets") / "loihi2.toml").read_text(encoding="utf-8")
    chip = tmp_path / "mine.toml"
    chip.write_text(text.replace('"loihi2"', '"mine"').replace("\nweight_max = 254\n", "\nweight_max = 30\n"))
    narrow = compile(run, chip)
    narrow.save(tmp_path / "export")
    chip.unlink()
    assert max(abs(each.matrix.data).max() for each in narrow.program.connections) <= 30
    verify(tmp_path / "export", golden=True, with_lava=False)


def test_a_changed_program_is_found(folder):
    path = folder / "program.json"
    path.write_text(path.read_text().replace('"dt_s": 0.0001', '"dt_s": 0.0002'))
    with pytest.raises(CheckFailed, match=r"compiles to another program.*dt_s"):
        verify(folder, with_lava=False)


def test_readers_get_the_golden_inputs_as_samples_then_steps(folder, monkeypatch):
    given = []
    monkeypatch.setattr(readers, "ask", lambda case, *_: given.append(case.inputs) or ())
    readers.verify_export_graph(folder, ("norse",))
    assert (given[0] == read_trace(folder / "golden.h5").input_spikes).all()


def test_a_changed_golden_trace_is_found_and_compared(folder):
    chip, path = load_compiled(folder), folder / "golden.h5"
    assert compare_runs(str(path), "integer", chip, 4).divergence is None
    trace = read_trace(path)
    v = {name: array.copy() for name, array in trace.v.items()}
    v["lif2"][1, 2, 3] += 64
    write_trace(path, replace(trace, v=v), 1e-4)
    with pytest.raises(
        CheckFailed, match="diverges from the golden trace in layer 'lif2', neuron 3, step 2 of sample 1"
    ):
        verify(folder, with_lava=False)
    found = compare_runs(str(path), "integer", chip, 4)
    assert (found.divergence.layer, found.divergence.step, found.divergence.sample) == ("lif2", 2, 1)
    assert found.spikes_compared == 4 * 4 * 26
    assert compare_runs(str(path), "integer", chip, 1).divergence is None


def test_traces_of_another_network_are_not_explained_by_this_one(folder):
    path, trace = folder / "other.h5", read_trace(folder / "golden.h5")
    fewer = {name: fired[..., :5] for name, fired in trace.spikes.items()}
    write_trace(path, replace(trace, spikes=fewer, u={}, v={}), 1e-4)
    assert compare_runs(str(path), str(path), None, None).divergence is None
    with pytest.raises(BadInput, match=r"the trace is not of mlp-digits: it has the layers .*5"):
        compare_runs(str(path), str(path), load_compiled(folder), None)


def test_what_is_neither_a_simulator_nor_a_trace_is_refused(folder):
    with pytest.raises(BadInput, match=r"neither a trace file nor a simulator; did you mean 'integer'"):
        compare_runs("intger", "integer", load_compiled(folder), 2)


def test_an_export_without_its_document_is_none(folder):
    (folder / "export.json").unlink()
    with pytest.raises(BadInput, match="not an export"):
        verify(folder)
    with pytest.raises(BadInput, match="not an export"):
        load_compiled(folder)
    assert json.loads((folder / "program.json").read_text())
