"""``esl-neuro verify FILE.nir``: a NIR file in independent readers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nir
import numpy as np
import pytest

from esl_neuro.cli.readers import render
from esl_neuro.errors import CheckFailed, MissingDependency
from esl_neuro.interchange import readers
from esl_neuro.interchange.comparison import ReaderDivergence
from esl_neuro.interchange.readers import Verdict
from esl_neuro.pipeline.choices import READERS
from esl_neuro.pipeline.readers import ReaderReport, verify_nir
from system.command_workspace import Workspace, environment


@pytest.fixture
def file(tmp_path):
    full = lambda value: np.full(4, float(value))  # noqa: E731
    neurons = nir.LIF(tau=full(2e-4), r=full(1), v_leak=full(0), v_threshold=full(0.7), v_reset=full(0))
    nodes = {
        "input": nir.Input({"input": np.array([4])}),
        "fc": nir.Affine(np.eye(4) + 0.5, full(0)),
        "lif": neurons,
        "output": nir.Output({"output": np.array([4])}),
    }
    edges = [("input", "fc"), ("fc", "lif"), ("lif", "output")]
    nir.write(tmp_path / "x.nir", nir.NIRGraph(nodes, edges, {"dt_s": 1e-4}))
    return tmp_path / "x.nir"


@pytest.fixture
def without_readers(tmp_path, monkeypatch):
    monkeypatch.setattr("system.command_workspace.environment", _with_folder(environment, tmp_path / "none"))
    return Workspace(tmp_path)


def _with_folder(plain, folder):
    return lambda: plain() | {"ESL_NEURO_READERS": str(folder)}


def test_names_of_the_readers_are_those_of_the_room():
    assert (*readers.READERS, "lava") == READERS


@pytest.mark.usefixtures("file")
def test_a_reader_that_was_asked_for_must_be_installed(without_readers):
    done = without_readers.run("esl-neuro verify x.nir --steps 20 --reader norse --reader lava")
    assert done.returncode == 3
    assert "absent" in done.stdout
    assert "not run in norse" in done.stderr
    assert "esl-neuro verify --install-readers" in done.stderr


@pytest.mark.lava
@pytest.mark.usefixtures("file")
def test_readers_are_optional_where_lava_is_equal(without_readers):
    done = without_readers.run("esl-neuro verify x.nir --steps 20")
    assert done.returncode == 0, done.stderr
    assert "equal" in done.stdout
    assert "norse absent: not installed; run 'esl-neuro verify --install-readers'" in done.stdout


def test_nothing_that_runs_is_a_missing_dependency_with_every_reason():
    nothing = report(verdict("absent", reason="no reader"), Verdict("lava", "", "absent", "no lava"))
    with pytest.raises(MissingDependency, match=r"norse: no reader; lava: no lava"):
        nothing.refuse_difference()
    report(verdict("absent", reason="no reader"), Verdict("lava", "", "equal")).refuse_difference()


@pytest.mark.usefixtures("file")
def test_result_as_json(without_readers):
    done = without_readers.run("esl-neuro verify x.nir --reader norse --json")
    (verdict,) = json.loads(done.stdout)["readers"]
    assert (verdict["reader"], verdict["status"], verdict["divergence"]) == ("norse", "absent", None)


@pytest.mark.lava
@pytest.mark.usefixtures("file")
def test_lava_runs_the_integers_of_the_file(without_readers):
    done = without_readers.run("esl-neuro verify x.nir --steps 20 --reader lava --json")
    assert done.returncode == 0, done.stderr
    (verdict,) = json.loads(done.stdout)["readers"]
    assert (verdict["reader"], verdict["status"], verdict["differing"]) == ("lava", "equal", 0)
    assert verdict["compared"] == 20 * 8 * 4
    assert verdict["spikes"] > 100


def test_a_difference_in_lava_has_a_place(file, monkeypatch):
    from esl_neuro.backends.integer import run_integer

    def broken(program, inputs, record_potentials):
        trace = run_integer(program, inputs, record_potentials)
        trace.spikes["lif"][2, 5, 1] ^= 1
        return replace(trace, backend="lava")

    monkeypatch.setattr("esl_neuro.backends.lava.run_lava", broken)
    monkeypatch.setattr("esl_neuro.backends.lava_session.lava_installed", lambda: True)
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "0.10.0")
    report = verify_nir(file, ("lava",), steps=20)
    (verdict,) = report.verdicts
    assert (verdict.status, verdict.differing) == ("different", 1)
    assert "'lif', step 5, sample 2, neuron 1" in render(report.to_dict())
    with pytest.raises(CheckFailed, match="not confirmed by lava"):
        report.refuse_difference()


@pytest.mark.lava
def test_what_has_no_integer_form_is_refused_by_name(file, tmp_path):
    graph = nir.read(file)
    graph.nodes["lif"].tau[:] = 0.5e-4
    nir.write(tmp_path / "short.nir", graph)
    (verdict,) = verify_nir(tmp_path / "short.nir", ("lava",), steps=20).verdicts
    assert verdict.status == "refused"
    assert "node 'lif': tau is 5e-05 s, less than the time step" in verdict.reason


def test_wrong_use_has_exit_code_2(without_readers):
    for command in ("esl-neuro verify no.nir", "esl-neuro verify x --reader nourse"):
        done = without_readers.run(command)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1


def report(*verdicts):
    return ReaderReport(Path("x.nir"), verdicts)


def verdict(status, **more):
    return Verdict("norse", "1.1.0", status, **{"compared": 1000, "spikes": 200} | more)


DIVERGENCE = ReaderDivergence(
    layer="lif1",
    step=3,
    sample=0,
    neuron=7,
    expected=1.0,
    found=0.0,
    potential=1.25,
    threshold=1.0,
    reader_potential=float("nan"),
    cause="a tie",
)


def test_table_and_first_divergence():
    found = report(verdict("different", differing=12, divergence=DIVERGENCE))
    text = render(found.to_dict())
    assert "norse   1.1.0    different    1,000     200         12" in text
    assert "'lif1', step 3, sample 0, neuron 7: 0 instead of 1; potential 1.25, threshold 1" in text
    assert "in the reader after the reset unknown" in text
    assert "likely cause: a tie" in text
    with pytest.raises(CheckFailed, match="not confirmed by norse"):
        found.refuse_difference()


@pytest.mark.parametrize(("status", "error"), [("broken", CheckFailed), ("absent", MissingDependency)])
def test_what_shows_nothing_is_no_confirmation(status, error):
    with pytest.raises(error):
        report(verdict(status, reason="why")).refuse_difference()


def test_a_refusal_beside_an_agreement_is_none_of_the_networks_fault():
    report(verdict("equal"), verdict("refused", reason="no I nodes")).refuse_difference()
