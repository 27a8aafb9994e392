"""The commands that show what there is: text for people, JSON for programs, one line for what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from esl_neuro.cli.main import main
from esl_neuro.recipes import load_recipe, parse_recipe
from esl_neuro.resources import parse_toml, resource_names

OLD = Path(__file__).parents[1] / "pipeline" / "written_by_0_1_0"


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """Run a command in a folder with one run; return exit code, standard output and standard error."""
    shutil.copytree(OLD, tmp_path / "runs" / "old-001")
    np.save(tmp_path / "digit.npy", np.zeros(64, np.float32))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ESL_NEURO_DATA", raising=False)

    def run(*arguments):
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.mark.parametrize(
    "command",
    ["models list", "models show mlp-digits", "models fields", "models fields training.epochs", "runs list",
     "inspect runs/old-001", "inspect runs/old-001/loihi2/model.nir", "predict runs/old-001/loihi2 digit.npy", "doctor",
     "train --print-config", "targets new mychip --from loihi2"],
)  # fmt: skip
def test_text_and_json(said, command):
    code, text, _ = said(*command.split())
    assert code == 0
    assert text.strip()
    (Path("mychip.toml")).unlink(missing_ok=True)
    code, document, _ = said(*command.split(), "--json")
    assert code == 0
    assert isinstance(json.loads(document), dict)


def test_the_printed_config_is_what_would_be_trained(said):
    _, text, _ = said("train", "--set", "training.epochs=3", "--seed", "5", "--print-config")
    printed = parse_recipe(parse_toml(text, "printed"), "printed")
    assert printed == load_recipe("mlp-digits", ("training.epochs=3", "training.seed=5"))
    assert not list(Path("runs").glob("mlp-digits-*"))
    assert said("train", "--print-config", "--seed", "1", "--seed", "2")[0] == 2
    assert said("train", "--print-config", "--resume", "runs/old-001")[0] == 2


def test_every_recipe_is_listed_and_shown(said):
    _, text, _ = said("models", "list", "--json")
    assert [each["name"] for each in json.loads(text)["models"]] == resource_names("models")
    assert (
        said("models", "show", "mlp-digits")[1].startswith("#") or "name = " in said("models", "show", "mlp-digits")[1]
    )


def test_the_latest_run_is_marked(said):
    _, text, _ = said("runs", "list")
    assert "runs/old-001 *" in text
    assert json.loads(said("runs", "list", "--json")[1])["latest"] == "runs/old-001"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("models show mlp-digit", "did you mean 'mlp-digits'"),
        ("models fields epochs", "did you mean 'training.epochs'"),
        ("train --set epochs=1", "did you mean 'training.epochs'"),
        ("inspect missing", "no such file or folder"),
        ("runs list --runs nowhere", "no such folder"),
        ("targets new loihi2 --from loihi", "one of the package"),
        ("predict runs/old-001/loihi2 runs/old-001/config.toml", "neither .npy nor .csv nor an image"),
    ],
)
def test_what_is_wrong_is_one_line(said, command, words):
    code, out, err = said(*command.split())
    assert code == 2
    assert out == ""
    assert words in err
    assert len(err.splitlines()) == 1
