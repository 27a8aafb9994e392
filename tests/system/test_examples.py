"""Every program of ``examples/`` runs, and prints the same figures as the commands."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from esl_neuro.compiler.program import Program, differences
from esl_neuro.pipeline.compiled_network import load_compiled
from system.command_workspace import REPOSITORY, Workspace, served

EXAMPLES = REPOSITORY / "examples"
# What each of them prints, as a pattern: the figures that matter.
PRINTED = {
    "digits_end_to_end": r"accuracy \d\d\.\d\d %.*float 0\.\d+, integers 0\.\d+.*truenorth.*loihi.*v100-pcie",
    "own_module": r"payloads of 8 bits.*float 0\.9\d+\nintegers 0\.9\d+",
    "any_nir_file": r"False\n.*no 'dt_s'.*neurons_per_chip: 20 neurons.*10 samples x 50 steps, integer\nspikes of 'lif",
    "own_training_loop": r"1,638 of 16,384 connections.*synapses on the chip\ntest accuracy 0\.[89]\d+",
    "spike_time_rules": r"accuracy 0\.8\d+ in continuous.*: (0\.99|1\.0)\d+ of the.*learned \[ ?(39|40)\.\d.*\] ms",
    "stdp_pretraining": r"conv1: .*conv3: weights moved by 0\.\d+.*epochs: 0\.\d+ pre-trained, 0\.\d+ not",
    "operations_and_energy": r"of 9,472 multiply-accumulates.*cmos45:arithmetic: dense needs \d+\.\d\d",
}


def printed(name: str, folder: Path) -> str:
    """Run an example in a folder and return what it prints."""
    done = served(("python", str(EXAMPLES / f"{name}.py")), folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run():
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == sorted(PRINTED)


@pytest.mark.parametrize("name", [name for name in PRINTED if name != "digits_end_to_end"])
def test_an_example_prints_its_figures(name, tmp_path):
    text = printed(name, tmp_path)
    assert re.search(PRINTED[name], text, re.DOTALL), text


def test_the_program_and_the_commands_give_the_same_numbers(tmp_path):
    text = printed("digits_end_to_end", tmp_path)
    assert re.search(PRINTED["digits_end_to_end"], text, re.DOTALL), text
    by_program = load_compiled(tmp_path / "out")

    space = Workspace(tmp_path / "commands")
    space.folder.mkdir()
    trained = space.json("esl-neuro train --seed 0 --set training.epochs=4 --json")["runs"][0]
    exported = space.json("esl-neuro export --json")
    ran = space.json("esl-neuro run --json")
    priced = space.json("esl-neuro energy report --backend integer --target truenorth --target loihi --json")

    of_program = json.loads((tmp_path / "runs" / "mlp-digits-001" / "result.json").read_text())
    same = [name for name in trained if name not in ("folder", "seconds", "memory")]
    assert {name: trained[name] for name in same} == {name: of_program[name] for name in same}
    assert differences(by_program.program, Program.load(space.folder / exported["folder"])) == []
    accuracy = exported["accuracy"]
    assert f"float {accuracy['float']:.4f}, integers {accuracy['integer']:.4f}" in text
    assert ran["accuracy"] == accuracy["integer"]
    spikes = ", ".join(f"'{name}': {count:,}" for name, count in ran["spikes"].items())
    assert f"spikes of {spikes}" in text
    operations = sum(layer["sop_effective"] for layer in priced["counts"]["layers"]) / ran["samples"]
    assert f"{operations:,.0f} synaptic operations per sample" in text


def test_examples_use_the_front_door():
    for path in EXAMPLES.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), path.name
        modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not [name for name in modules if name and name.startswith(("esl_neuro.pipeline", "esl_neuro.cli"))]
