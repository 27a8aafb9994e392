"""End to end on real data: the figures of the README."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def test_quickstart_takes_less_than_four_minutes_and_prints_the_folders(workspace):
    document = workspace.json("esl-neuro quickstart --json")
    assert document["seconds"] < 240
    assert (workspace.folder / document["export"]["folder"] / "model.nir").is_file()


def test_quickstart_ends_in_one_screen(workspace, monkeypatch):
    from esl_neuro.cli.energy import report_network
    from esl_neuro.cli.quickstart import render
    from esl_neuro.pipeline.activity import Activity, run_recorded
    from esl_neuro.pipeline.workers import HERE

    document = workspace.json("esl-neuro quickstart --json")
    monkeypatch.chdir(workspace.folder)
    monkeypatch.setenv("COLUMNS", "80")
    folder, activity = Path(document["export"]["folder"]), Activity("integer", 20)
    ran, priced = run_recorded(folder, activity), report_network(folder, activity, HERE)
    lines = render(document, ran, priced, {"run": "runs/1"}).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    starts = [line.split("  ")[0] for line in lines]
    for fact in ("accuracy", "density", "fits", "energy", "loihi2", "run"):
        assert fact in starts
    assert "Lava not installed" in " ".join(lines)  # the integer simulator ran, so nothing is said of Lava
    assert lines[-1] == f"Next: esl-neuro energy report {folder} --backend integer"


def test_two_seeds_reach_94_percent_with_a_sparse_layer_and_learned_thresholds(workspace):
    workspace.json("esl-neuro quickstart --json")  # so that the runs below are the latest
    document = json.loads(workspace.once("esl-neuro train --seed 0 --seed 1 --json").stdout)
    assert document["mean_test_accuracy"] >= 0.94
    for run in document["runs"]:
        assert run["seconds"] < 120
        assert run["density"] <= 0.2
        metrics = (workspace.folder / run["folder"] / "metrics.jsonl").read_text().splitlines()
        epochs = [json.loads(line) for line in metrics]
        assert {epoch["connections"] for epoch in epochs} == {2458}
        assert all(low > 0 for epoch in epochs for low, _, _ in epoch["thresholds"].values())
        low, _, high = epochs[-1]["thresholds"]["lif1"]
        assert high - low > 0.1
        assert epochs[-1]["explored"] > 2 * run["density"]


def test_quantisation_costs_at_most_one_point(workspace):
    accuracy = workspace.json("esl-neuro quickstart --json")["export"]["accuracy"]
    assert accuracy["samples"] >= 200
    assert accuracy["float"] - accuracy["integer"] <= 0.01


@pytest.mark.lava
def test_every_spike_in_lava_is_the_integer_simulators(workspace):
    ran = workspace.json("esl-neuro quickstart --json")["run"]
    assert ran["backend"] == "lava"
    assert ran["samples"] >= 200
    assert ran["parity"]["equal"]
    assert ran["parity"]["values_compared"] == ran["samples"] * ran["steps"] * (256 + 10)
    assert min(ran["spikes"].values()) > 1000  # silence would be equal too


@pytest.mark.lava
def test_counts_do_not_depend_on_the_simulator(workspace):
    export = workspace.json("esl-neuro quickstart --json")["export"]["folder"]
    lava = workspace.json(f"esl-neuro energy report {export} --json")
    integer = workspace.json(f"esl-neuro energy report {export} --backend integer --json")
    assert lava["run"].pop("backend") == "lava"
    assert integer["run"].pop("backend") == "integer"
    assert lava == integer


def test_the_preset_prints_table_1(workspace):
    text = workspace.once("esl-neuro energy report --preset esl2023").stdout
    for figure in ("1.13E-05", "7.95E-06", "1.84E-06", "1.29E-06"):
        assert figure in text


def test_explain_prints_unit_condition_scope_and_source_of_every_constant(workspace):
    report = workspace.json("esl-neuro energy report --backend integer --json")
    text = workspace.once("esl-neuro energy report --backend integer --explain").stdout
    assert report["constants"]
    for name, constant in report["constants"].items():
        block = text[text.index(f"{name} = ") :]
        flat = " ".join(block.split())
        assert constant["unit"] in flat
        for key in ("condition", "scope", "source"):
            assert " ".join(str(constant[key]).split()) in flat
