"""What a command can know at once, it says at once: before it trains, compiles, runs or writes anything."""

from __future__ import annotations

import subprocess
import sys

import nir
import numpy as np
import pytest

from esl_neuro.cli.main import main
from esl_neuro.pipeline import activity
from system.command_workspace import environment


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ESL_NEURO_DATA", raising=False)
    return tmp_path


def graph(**metadata):
    full = lambda value: np.full(4, float(value))  # noqa: E731
    nodes = {
        "input": nir.Input({"input": np.array([4])}),
        "fc": nir.Linear(np.eye(4)),
        "lif": nir.LIF(tau=full(2e-4), r=full(2), v_leak=full(0), v_threshold=full(0.7), v_reset=full(0)),
        "output": nir.Output({"output": np.array([4])}),
    }
    return nir.NIRGraph(nodes, [("input", "fc"), ("fc", "lif"), ("lif", "output")], metadata)


def said(capsys, *arguments):
    """Run a command; return its exit code and standard error."""
    code = main(arguments)
    return code, capsys.readouterr().err


OUTPUTS = (
    ("energy", "report", "--csv"),
    ("run", "--trace"),
    ("run", "--spikes"),
    ("sweep", "digits-density", "--plot"),
    ("energy", "import", "power.csv", "--samples", "1", "--target", "loihi", "--out"),
)


@pytest.mark.parametrize("command", OUTPUTS)
def test_a_file_to_write_in_a_folder_that_does_not_exist_creates_none(folder, capsys, command):
    (folder / "power.csv").write_text("time,power\n0,1\n1,1\n", encoding="utf-8")
    code, words = said(capsys, *command, "new/a.csv")
    assert code == 2
    assert "the folder 'new' does not exist; create it first" in words
    assert not (folder / "new").exists()


def test_a_link_that_leads_to_itself_is_refused_and_one_to_a_new_file_is_not(folder, capsys):
    (folder / "loop.html").symlink_to("loop.html")
    (folder / "link.html").symlink_to("new.html")
    code, words = said(capsys, "report", "--out", "loop.html")
    assert code == 2
    assert "it is a link that leads back to itself; delete the link" in words
    assert "contains no completed run" in said(capsys, "report", "--out", "link.html")[1]  # what is looked for next


@pytest.mark.parametrize("command", [("export", "--out"), ("energy", "report", "--plots")])
def test_a_folder_to_write_may_be_new_but_not_below_a_file(folder, capsys, command):
    (folder / "file").touch()
    code, words = said(capsys, *command, "file/new")
    assert code == 2
    assert "'file' is not a folder" in words


def test_a_row_that_the_report_will_not_have(folder, capsys, monkeypatch):
    nir.write(folder / "x.nir", graph(dt_s=1e-4, steps=4))
    monkeypatch.setattr(activity, "run_network", None)  # nothing may run
    code, words = said(capsys, "energy", "report", "x.nir", "--rate", "0.1", "--explain", "99")
    assert code == 2
    assert "no such row; use 1 to 27" in words


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("verify", "nosuch.nir"), "nosuch.nir: there is no such file"),
        (("verify", "nosuch"), "nosuch: there is no such export"),
        (("train", "--resume", "nosuch"), "nosuch: not a run"),
        (("export", "nosuch", "--target", "akida"), "'akida' has no [arithmetic]"),
        (("check", "x.nir", "--dt", "-1"), "-1.0 is not in the range"),
    ],
)
def test_what_does_not_exist(capsys, command, words):
    code, found = said(capsys, *command)
    assert code == 2
    assert words in found


@pytest.mark.parametrize("name", [".", "images"])
def test_a_data_folder_that_would_be_ignored(folder, capsys, name):
    (folder / "images" / "cats").mkdir(parents=True)
    code, words = said(capsys, "train", "--data", name)
    assert code == 2
    assert "the data set 'digits' is built in and reads no folder" in words
    assert "fashion_mnist" in words
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"dt_s": 1e-4, "steps": "many"}, "'steps' of the NIR graph is many; it must be a whole number"),
        ({"dt_s": 1e-4, "steps": 2.5}, "must be a whole number from 1"),
        ({"dt_s": 1e-4, "steps": -3}, "must be a whole number from 1"),
        ({"dt_s": 1e-4, "steps": np.array([1, 2])}, "must be a whole number"),
        ({"dt_s": 1e-4, "steps": 1e30}, "must be a whole number from 1"),
        ({"dt_s": "soon", "steps": 4}, "must be a number of seconds"),
        ({"dt_s": np.array([1e-4, 2e-4]), "steps": 4}, "must be a number of seconds"),
        ({"dt_s": -1.0, "steps": 4}, "it must be positive"),
        ({"steps": 4}, "give the time step in seconds (--dt)"),
    ],
)
@pytest.mark.parametrize("command", [("check",), ("energy", "report", "--rate", "0.1", "--backend", "integer")])
def test_wrong_metadata_is_one_line_without_a_wrong_cause(folder, capsys, metadata, words, command):
    nir.write(folder / "x.nir", graph(**metadata))
    code, found = said(capsys, *command, "x.nir")
    assert code == 2
    assert words in found
    assert len(found.splitlines()) == 1
    assert "cannot be compiled" not in found


def test_without_lava_the_energy_commands_run_the_integer_simulator_and_say_so(folder, capsys, monkeypatch):
    nir.write(folder / "x.nir", graph(dt_s=1e-4, steps=4))
    for module in ("backends.lava_session", "pipeline.activity"):  # the second holds the name of the first
        monkeypatch.setattr(f"esl_neuro.{module}.lava_installed", lambda: False)
    given = ("energy", "report", "x.nir", "--rate", "0.5", "--target", "cmos45")
    code, words = said(capsys, *given)
    assert code == 0
    assert "Lava is not installed, so the integer simulator runs" in words
    assert said(capsys, *given, "--backend", "lava")[0] == 3


def test_a_run_with_several_exports_is_not_chosen_from_silently(tmp_path):
    run = tmp_path / "run"
    for name in ("loihi", "loihi2"):
        (run / name).mkdir(parents=True)
        (run / name / "export.json").touch()
    (run / "result.json").touch()
    with pytest.raises(activity.BadInput, match=r"has 2 exports; give one of them: .*loihi, .*loihi2"):
        activity.export_of(run)
    (run / "loihi" / "export.json").unlink()
    assert activity.export_of(run) == run / "loihi2"
    assert activity.export_of(run / "loihi2") == run / "loihi2"


def test_the_package_is_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "esl_neuro", "--version"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("esl-neuro ")


def started_by_torchrun(monkeypatch, rank, local_rank):
    told = {"RANK": rank, "LOCAL_RANK": local_rank, "WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 2}
    for name, value in (told | {"TORCHELASTIC_RUN_ID": "mine", "TORCHELASTIC_RESTART_COUNT": 0}).items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("rank", "local_rank", "tells"), [(0, 0, True), (1, 1, False), (2, 0, True), (3, 1, False)])
def test_processes_that_fail_for_the_same_reason_say_it_once_on_each_machine(
    capsys, monkeypatch, rank, local_rank, tells
):
    started_by_torchrun(monkeypatch, rank, local_rank)
    code, words = said(capsys, "train", "mlp-digitz")
    assert code == 2
    assert ("recipe 'mlp-digitz' is unknown; did you mean 'mlp-digits'?" in words) == tells
    assert tells or not words


@pytest.mark.usefixtures("folder")
def test_the_first_process_alone_prints_a_result(capsys, monkeypatch):
    for rank, prints in ((0, True), (2, False)):
        started_by_torchrun(monkeypatch, rank, 0)
        assert main(["train", "--print-config"]) == 0
        assert bool(capsys.readouterr().out) == prints


@pytest.mark.usefixtures("folder")
def test_a_command_that_does_not_divide_its_work_is_refused_in_several_processes(capsys, monkeypatch):
    started_by_torchrun(monkeypatch, 0, 0)
    code, words = said(capsys, "export")
    assert code == 2
    assert "torchrun started 4 processes, and 'export' does not divide its work between them; start it without" in words
