"""Report pages of real runs, exports and NIR files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from esl_neuro.errors import BadInput, CheckFailed
from esl_neuro.interchange.readers import Verdict
from esl_neuro.pipeline import readers
from esl_neuro.pipeline.activity import Activity
from esl_neuro.pipeline.exports import export_run
from esl_neuro.pipeline.report_page import _reader_checks, default_file, report_data, run_of, write_report
from esl_neuro.pipeline.run_history import PictureLine, read_log
from esl_neuro.pipeline.verification import repeat_golden
from esl_neuro.report.page import charts


@pytest.fixture(scope="module")
def made(run, tmp_path_factory):
    """A run with its export in it."""
    folder = tmp_path_factory.mktemp("report") / "mlp-digits-001"
    shutil.copytree(run.folder, folder)
    export_run(folder)
    return folder


@pytest.fixture(scope="module")
def data(made):
    return report_data(made, Activity())


@pytest.fixture
def copied(made, tmp_path):
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def _undrawn(monkeypatch):
    monkeypatch.setattr(charts, "can_draw", lambda: False)


def test_the_figures_are_those_of_the_files(made, data):
    export = json.loads((made / "loihi2" / "export.json").read_text())
    result = json.loads((made / "result.json").read_text())
    assert data.accuracies.in_float == export["accuracy"]["float"] == result["test_accuracy"]
    assert data.accuracies.in_integer == export["accuracy"]["integer"]
    assert (data.accuracies.samples_float, data.accuracies.samples_integer) == (359, 359)
    assert (data.name, data.kind, data.chip) == ("mlp-digits", "run", "loihi2")
    metrics = [json.loads(line) for line in (made / "metrics.jsonl").read_text().splitlines()]
    assert [each.validation_accuracy for each in data.history] == [line["validation_accuracy"] for line in metrics]
    structure = [json.loads(line) for line in (made / "structure.jsonl").read_text().splitlines()]
    births = [line["births"] for line in structure if line["layer"] == "fc1"]
    assert [update.births for each in data.rewiring if each.layer == "fc1" for update in each.updates] == births
    moved = [layer["moved"] for layer in export["fidelity"]["layers"]]
    assert [each.moved for each in data.agreement.layers] == moved


def test_the_cost_of_training_is_that_of_the_run(made, data):
    result = json.loads((made / "result.json").read_text())
    work, cost = result["cost"]["work"], data.training_cost
    assert [each.name for each in cost.phases] == list(work["run"]) == ["forward", "backward", "optimiser", "rewiring"]
    for each in cost.phases:
        for kind in ("run", "alone", "dense"):
            part = getattr(each, kind)
            assert {"operations": part.operations, "bytes": part.bytes} == work[kind][each.name]
    assert cost.parameter_bytes == result["cost"]["parameter_bytes"]
    assert cost.peak_bytes == result["memory"]["peak_bytes"]


def test_a_run_of_an_earlier_version_has_no_cost(copied):
    result = json.loads((copied / "result.json").read_text())
    del result["cost"], result["memory"]
    (copied / "result.json").write_text(json.dumps(result))
    data = report_data(copied, Activity())
    assert data.training_cost is None
    assert "not counted" in data.missing["training-cost"]


def test_the_film_begins_before_the_first_iteration_and_ends_after_the_last(made, data):
    (film,) = data.films
    pictures = read_log(made / "connections.jsonl", PictureLine)
    assert [each.iteration for each in film.pictures] == [each.iteration for each in pictures]
    assert film.pictures[0].iteration == 0
    last = pictures[-1]
    for row, counts, high in zip(film.pictures[-1].cells, last.counts, last.rows, strict=True):
        expected = [count / (high * wide) for count, wide in zip(counts, last.columns, strict=True)]
        assert list(row) == expected


def test_the_comparisons_are_made_and_named(made, data):
    passed = [each for each in data.checks if each.passed]
    assert [each.what for each in passed] == [
        "model.nir compiles to the stored program",
        "The golden trace, repeated by the integer simulator",
    ]
    assert f"{repeat_golden(made / 'loihi2', 'integer'):,}" in passed[1].outcome
    assert data.missing["Accuracy, Lava"].endswith("loihi2 --backend lava")
    assert data.failed == ()


def stored_run(export: Path, **changes: object) -> None:
    """Store the result of a run in Lava, as the integer simulator has it, with changes."""
    from esl_neuro.pipeline.activity import run_recorded

    document = run_recorded(export, Activity("integer")).to_dict()
    parity = {"with": "integer", "values_compared": 1000, "equal": True, "first_difference": None}
    (export / "run-lava.json").write_text(json.dumps(document | {"backend": "lava", "parity": parity} | changes))


def test_a_stored_run_in_lava_is_shown_only_if_it_has_the_spikes_of_this_program(copied):
    export = copied / "loihi2"
    stored_run(export)
    data = report_data(export, Activity())
    assert data.accuracies.in_lava == data.accuracies.in_integer
    assert next(each.outcome for each in data.checks if "Lava" in each.what).startswith("1,000 spike values of 359")
    stored_run(export, spikes={"lif1": 1, "lif2": 2})  # an export that was made again keeps the file
    data = report_data(export, Activity())
    assert data.accuracies.in_lava is None
    assert [each.passed for each in data.checks if "Lava" in each.what] == [None]
    (export / "run-lava.json").write_text('{"backend": 3}')
    with pytest.raises(BadInput, match=r"run-lava.json: damaged \(backend: 3.*run again"):
        report_data(export, Activity())


def reader_checks(export):
    return [(each.what, each.passed, each.outcome) for each in _reader_checks(export, "esl-neuro verify")]


def test_the_verdicts_of_readers_are_kept_and_shown_only_of_this_graph(copied, monkeypatch):
    export = copied / "loihi2"
    (unknown,) = reader_checks(export)
    assert unknown[1:] == (None, "no result of a reader on this graph is stored")
    ran = [Verdict("norse", "1.1", "equal", compared=40, spikes=9), Verdict("sinabs", "3", "refused", "no thresholds")]
    monkeypatch.setattr(readers, "ask", lambda *_: [*ran, Verdict("nirtorch", "", "absent")])
    readers.verify_export_graph(export, ("norse", "sinabs", "nirtorch"))
    assert reader_checks(export) == [
        ("NIR reader norse 1.1", True, "40 entries with 9 spikes, all equal"),
        ("NIR reader sinabs 3", None, "refused: no thresholds"),
    ]
    ran[:] = [Verdict("norse", "1.2", "different", compared=40, spikes=9, differing=2)]
    readers.verify_export_graph(export, ("norse",))  # what sinabs said of the same graph stays
    assert [each[1] for each in reader_checks(export)] == [False, None]
    (export / "model.nir").write_bytes((export / "model.nir").read_bytes() + b" ")
    assert reader_checks(export) == [unknown]
    (export / "readers.json").write_text('{"schema": 9}')
    with pytest.raises(BadInput, match=r"readers schema is 9.*reads 1; verify again: esl-neuro verify$"):
        reader_checks(export)


@pytest.mark.usefixtures("_undrawn")
def test_a_failed_comparison_is_written_and_then_raised(copied):
    export = copied / "loihi2"
    difference = {"with": "integer", "values_compared": 9, "equal": False, "first_difference": "lif1, neuron 3, step 2"}
    stored_run(export, parity=difference)
    written = write_report(export)
    assert written.file == export / "report.html"
    assert "lif1, neuron 3, step 2" in written.file.read_text()
    with pytest.raises(CheckFailed, match="lif1, neuron 3, step 2"):
        written.refuse_difference()


@pytest.mark.usefixtures("_undrawn")
def test_a_nir_file_has_a_report_that_says_what_only_runs_have(made, tmp_path):
    file = tmp_path / "net.nir"
    shutil.copyfile(made / "loihi2" / "model.nir", file)
    written = write_report(file, tmp_path / "out.html", Activity(samples=3, rate=0.2), tick_s=2e-3)
    data = written.data
    assert data.kind == "NIR file"
    assert set(data.missing) >= {
        "training",
        "training-cost",
        "rewiring",
        "film",
        "Accuracy, float",
        "Accuracy, integers",
    }
    assert [each.passed for each in data.checks] == [None] * 4
    page = written.file.read_text()
    assert all(reason in page or "'" in reason for reason in data.missing.values())
    assert written.size == written.file.stat().st_size
    lines = {each.step: each.line for each in data.commands}
    options = "--samples 3 --rate 0.2 --tick 0.002s"
    assert lines["This report"] == f"esl-neuro report {file} {options}"
    assert lines["Price"] == f"esl-neuro energy report {file} {options}"
    assert lines["Compile"] == f"esl-neuro compile {file}"


def test_an_export_keeps_its_steps_also_on_random_spikes(made):
    with pytest.raises(BadInput, match="an export has its time step, steps, reset and chip; omit"):
        report_data(made / "loihi2", Activity(rate=0.1, steps=1))


def test_default_files_stand_beside_what_they_are_of(made):
    assert default_file(made) == made / "report.html"
    assert default_file(Path("folder/net.nir")) == Path("net-report.html")


def test_no_command_of_the_page_names_the_folder_that_it_was_made_in(copied, monkeypatch):
    monkeypatch.chdir(copied.parent)
    assert run_of(Path(copied.name, "loihi2")).config == Path(copied.name, "config.toml")


def test_the_run_of_an_export_is_that_of_its_recipe(copied):
    assert run_of(copied / "loihi2").path.samefile(copied)
    result = json.loads((copied / "result.json").read_text())
    (copied / "result.json").write_text(json.dumps(result | {"recipe": "another"}))
    assert run_of(copied / "loihi2") is None or not run_of(copied / "loihi2").path.samefile(copied)


def test_what_is_missing_or_unfinished_is_said_before_anything_runs(tmp_path, made):
    with pytest.raises(BadInput, match="nosuch: there is no such run"):
        report_data(tmp_path / "nosuch", Activity())
    shutil.copyfile(made / "config.toml", tmp_path / "config.toml")
    with pytest.raises(BadInput, match="the run is not complete"):
        report_data(tmp_path, Activity())


def test_a_run_of_an_earlier_version_has_no_film_and_says_so(copied):
    (copied / "connections.jsonl").unlink()
    data = report_data(copied, Activity())
    assert data.films == ()
    assert "train again" in data.missing["film"]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"rows": [1]}, "counts must have 1 rows"),
        ({"counts": [[10**6]]}, "counts must have"),
        ({"iteration": -1}, "iteration"),
        ({"counts": "all"}, "counts"),
    ],
)
def test_a_damaged_picture_is_one_line(made, tmp_path, change, found):
    line = json.loads((made / "connections.jsonl").read_text().splitlines()[0])
    path = tmp_path / "connections.jsonl"
    path.write_text(json.dumps(line | change))
    with pytest.raises(BadInput, match=f"line 1 is damaged .*{found}"):
        read_log(path, PictureLine)


def test_a_block_holds_no_more_connections_than_are_possible(tmp_path):
    path = tmp_path / "connections.jsonl"
    line = {"layer": "a", "iteration": 0, "rows": [2], "columns": [3], "counts": [[7]]}
    path.write_text(json.dumps(line))
    with pytest.raises(BadInput, match="more connections than are possible"):
        read_log(path, PictureLine)
    path.write_text(json.dumps(line | {"counts": [[6]]}))
    assert read_log(path, PictureLine)[0].counts == [[6]]
