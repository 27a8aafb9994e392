"""``python -m esl_neuro.cli.readers``: a NIR file in independent readers."""

from __future__ import annotations

import json
import subprocess
import sys

import nir
import numpy as np
import pytest
from command_workspace import REPOSITORY

from esl_neuro.cli.readers import refuse_difference, render
from esl_neuro.errors import CheckFailed, MissingDependency


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "esl_neuro.cli.readers", *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


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


def test_without_readers_the_command_that_installs_them_is_named(file, tmp_path):
    done = command(file, "--readers", tmp_path / "none", "--steps", 20)
    assert done.returncode == 3
    assert "absent" in done.stdout
    assert "python -m esl_neuro.cli.readers --install" in done.stderr


def test_result_as_json(file, tmp_path):
    done = command(file, "--readers", tmp_path / "none", "--reader", "norse", "--json")
    (verdict,) = json.loads(done.stdout)["readers"]
    assert (verdict["reader"], verdict["status"], verdict["divergence"]) == ("norse", "absent", None)


def test_wrong_use_has_exit_code_2(tmp_path):
    assert command().returncode == 2
    assert command(tmp_path / "no.nir").returncode == 2


def verdict(status, **more):
    figures = {"compared": 1000, "spikes": 200, "differing": 0, "reason": "", "divergence": None}
    return {"reader": "norse", "version": "1.1.0", "status": status, **figures, **more}


DIVERGENCE = {
    "layer": "lif1",
    "step": 3,
    "sample": 0,
    "neuron": 7,
    "expected": 1.0,
    "found": 0.0,
    "potential": 1.25,
    "threshold": 1.0,
    "reader_potential": None,
    "cause": "a tie",
}


def test_table_and_first_divergence():
    document = {"file": "x.nir", "readers": [verdict("different", differing=12, divergence=DIVERGENCE)]}
    text = render(document)
    assert "norse   1.1.0    different    1,000     200         12" in text
    assert "'lif1', step 3, sample 0, neuron 7: 0 instead of 1; potential 1.25, threshold 1" in text
    assert "likely cause: a tie" in text
    with pytest.raises(CheckFailed, match="not confirmed by norse"):
        refuse_difference(document)


@pytest.mark.parametrize(("status", "error"), [("broken", CheckFailed), ("absent", MissingDependency)])
def test_what_shows_nothing_is_no_confirmation(status, error):
    with pytest.raises(error):
        refuse_difference({"file": "x.nir", "readers": [verdict(status, reason="why")]})


def test_a_refusal_beside_an_agreement_is_none_of_the_networks_fault():
    refuse_difference({"file": "x.nir", "readers": [verdict("equal"), verdict("refused", reason="no I nodes")]})
