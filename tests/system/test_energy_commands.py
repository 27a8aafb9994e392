"""``esl-neuro energy`` and ``esl-neuro targets`` as a user runs them, but in this process, which is faster."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import nir
import numpy as np
import pytest

from esl_neuro.cli.main import main
from esl_neuro.resources import resource_folder

REPORT = "esl-neuro energy report --backend integer"
EXPORT = "runs/mlp-digits-001/loihi2"
NIR = f"{EXPORT}/model.nir"


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Run:
    """Runs commands in a folder with a small export."""

    folder: Path

    def __call__(self, command):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(shlex.split(command)[1:])
        return Done(code, out.getvalue(), err.getvalue())

    def json(self, command):
        done = self(command)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def run(small_workspace, tmp_path, monkeypatch):
    shutil.copytree(small_workspace, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Run(tmp_path)


def test_anybodys_nir_file_with_spikes_counts_as_the_export_does(run):
    run(f"esl-neuro run {EXPORT} --samples 7 --spikes seven.npz")
    of_export = run.json(f"{REPORT} {EXPORT} --samples 7 --json")
    arrays = np.load(run.folder / "seven.npz")
    np.save(run.folder / "input.npy", arrays["input"])
    for spikes in ("seven.npz", "input.npy"):
        of_file = run.json(f"{REPORT} {NIR} --spikes {spikes} --json")
        assert of_file["counts"] == of_export["counts"]
        assert of_file["ran_on"] == f"7 samples of {spikes}"


def test_graded_values_into_a_nir_file_are_multiplications_of_the_same_events(run):
    spikes = (np.random.default_rng(0).random((3, 4, 64)) < 0.2).astype(np.uint8)
    np.save(run.folder / "spikes.npy", spikes)
    np.save(run.folder / "graded.npy", spikes * 0.75)
    of_spikes, of_values = (
        run.json(f"{REPORT} {NIR} --spikes {name}.npy --json")["counts"]["layers"][0] for name in ("spikes", "graded")
    )
    assert (of_values["signal"], of_spikes["signal"]) == ("graded", "spike")
    assert of_values["sop_effective"] == of_spikes["macs_effective"] == 0
    assert of_values["spikes_in"] == of_spikes["spikes_in"] == int(spikes.sum())
    # The scale of the weights is not the same, so that a few more or less are rounded to zero.
    assert of_values["macs_effective"] == pytest.approx(of_spikes["sop_effective"], rel=0.02)


def test_a_network_too_large_for_a_chip_is_counted_all_the_same(run):
    channels, side = 260, 64  # 260 x 64 x 64 neurons; Loihi 2 has 1,048,576
    weight, bias = np.ones((channels, 1, 1, 1), np.float32), np.zeros(channels, np.float32)
    shape = (channels, side, side)
    parameters = {"tau": 1e-3, "r": 1.0, "v_leak": 0.0, "v_threshold": 0.5, "v_reset": 0.0}
    nodes = {
        "input": nir.Input({"input": np.array([1, side, side])}),
        "conv": nir.Conv2d((side, side), weight, 1, 0, 1, 1, bias),
        "lif": nir.LIF(**{name: np.full(shape, value, np.float32) for name, value in parameters.items()}),
        "output": nir.Output({"output": np.array(shape)}),
    }
    nir.write(run.folder / "large.nir", nir.NIRGraph(nodes, [("input", "conv"), ("conv", "lif"), ("lif", "output")]))
    spikes = np.zeros((1, 2, side * side), np.uint8)
    spikes[0, 0, :3] = 1
    np.save(run.folder / "three.npy", spikes)
    done = run(f"{REPORT} large.nir --spikes three.npy --steps 2 --dt 1e-4 --target cmos45 --json")
    assert done.returncode == 0, done.stderr
    assert "(simulated anyway)" in done.stderr
    assert json.loads(done.stdout)["counts"]["layers"][0]["sop_effective"] == 3 * channels


def test_a_stated_rate_is_drawn_and_said(run):
    report = run.json(f"{REPORT} {NIR} --rate 0.25 --samples 50 --json")
    assert "no real data" in report["ran_on"]
    layer = report["counts"]["layers"][0]
    assert layer["spikes_in"] / (50 * 4 * 64) == pytest.approx(0.25, rel=0.03)


@pytest.mark.lava
def test_lava_is_the_default_and_counts_the_same(run):
    done = run(f"esl-neuro energy report {EXPORT} --samples 5 --json")
    assert "5 test samples (lava)" in done.stderr
    integer = run.json(f"{REPORT} {EXPORT} --samples 5 --json")
    assert json.loads(done.stdout)["counts"] == integer["counts"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("{nir}", ["give --input FILE, or --rate"]),
        ("{nir} --rate 0.1 --spikes two.npy", ["keep one of the two"]),
        ("{export} --spikes two.npy", ["values other than 0 and 1"]),
        ("{nir} --spikes below.npy", ["values that are negative or not numbers"]),
        ("{nir} --spikes flat.npy", ["shape (3,)", "(samples, steps, ...)"]),
        ("{export} --samples 2 --explain loihi:silcon", ["did you mean 'loihi:silicon'"]),
        ("{export} --samples 2 --preset hu2017", ["did you mean 'hu2018'"]),
        ("{export} --samples 2 --placement two.npy", ["not a readable .npz file of core numbers"]),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(run, options, words):
    np.save(run.folder / "two.npy", np.full((1, 4, 64), 2))
    np.save(run.folder / "flat.npy", np.zeros(3))
    np.save(run.folder / "below.npy", np.full((1, 4, 64), -0.5))
    done = run(f"{REPORT} {options.format(nir=NIR, export=EXPORT)}")
    assert done.returncode == 2
    assert done.stdout == ""
    line = done.stderr.splitlines()[-1]
    assert all(word in line for word in words), line


def test_a_placement_adds_messages_and_hops(run):
    report = run.json(f"{REPORT} {EXPORT} --samples 3 --json")
    layers = report["counts"]["layers"]
    cores = {layer["name"]: np.arange(layer["neurons"]) // 8 + 7 * k for k, layer in enumerate(layers)}
    np.savez(run.folder / "cores.npz", **cores)
    placed = run.json(f"{REPORT} {EXPORT} --samples 3 --placement cores.npz --json")
    assert layers[0]["messages"] is None
    assert placed["counts"]["layers"][1]["hops_ew"] is not None
    # The ten outputs are on two cores, so that a spike is at most two messages.
    assert 0 < placed["counts"]["layers"][1]["messages"] <= 2 * layers[1]["spikes_in"]


def test_the_compilers_own_placement_is_one(run):
    command = f"{REPORT} {EXPORT} --samples 3 --target loihi --placement compiler"
    report = run.json(f"{command} --json")
    layers = report["counts"]["layers"]
    # Every layer of this network fits on one core, so that each spike is one message; some input lines lead nowhere.
    assert layers[1]["messages"] == layers[1]["spikes_in"]
    assert 0 < layers[0]["messages"] <= layers[0]["spikes_in"]
    assert [layer["hops_ew"] for layer in layers] == [None, 0]
    assert "messages sent" in run(f"{command} --explain loihi:silicon").stdout
    assert "as of Loihi" in run(f"{command} --full").stdout
    compared = run(f"esl-neuro energy compare {EXPORT} {EXPORT} --backend integer --samples 3 --placement compiler")
    assert compared.returncode == 0, compared.stderr
    done = run(f"{REPORT} {EXPORT} --samples 3 --placement complier")
    assert done.returncode == 2
    assert "'complier' is neither 'compiler' nor 'fewer-hops' nor a file" in done.stderr
    assert done.stderr.count("\n") == 1


def test_another_order_of_the_cores_changes_nothing_but_hops(run):
    command = f"{REPORT} {EXPORT} --samples 3 --target loihi --json"
    compilers, ordered = (run.json(f"{command} --placement {name}")["counts"] for name in ("compiler", "fewer-hops"))
    hopping = ("hops_ew", "hops_ns")
    for one, other in zip(compilers["layers"], ordered["layers"], strict=True):
        assert {**one, **dict.fromkeys(hopping)} == {**other, **dict.fromkeys(hopping)}


def test_csv_charts_and_citation(run):
    done = run(f"{REPORT} {EXPORT} --samples 3 --csv energy.csv --plots figures --cite")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("% Energy per inference, estimated")
    assert "@article{merolla2014," in done.stdout
    assert len(list(csv.DictReader((run.folder / "energy.csv").open()))) > 10
    assert len(list((run.folder / "figures").glob("*.png"))) == 3


def test_the_table_is_printed_in_the_forms_of_papers_and_programs(run):
    rows = list(csv.DictReader(run(f"{REPORT} {EXPORT} --samples 3 --csv").stdout.splitlines()))
    document = run.json(f"{REPORT} {EXPORT} --samples 3 --json")["answer"]
    assert [row["target"] for row in rows] == [row["target"] for row in document["rows"]]
    for row, entry in zip(rows, document["rows"], strict=True):
        total = entry["total"]
        assert row["total_median_j"] == ("" if total is None else str(total["median_pj"] / 1e12))
    assert "\\toprule" in run(f"{REPORT} {EXPORT} --samples 3 --latex").stdout
    assert run(f"{REPORT} {EXPORT} --samples 3 --markdown").stdout.startswith("| target |")
    assert run.json(f"{REPORT} {EXPORT} --samples 3 --cite --json")["citation"].startswith("% Energy per inference")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--latex --markdown", "--latex and --markdown each print another text"),
        ("--latex --json", "--latex and --json each print another text"),
        ("--full --explain 99", "--full and --explain each print another text"),
        ("--preset esl2023 --csv a.csv", "a published comparison, which has no --csv"),
        ("--explain 99", "'99': no such row"),
        ("--explain nosuch", "'nosuch': no such row"),
    ],
)
def test_forms_that_contradict_are_refused_before_anything_runs(run, options, words):
    done = run(f"{REPORT} {EXPORT} {options}")
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_one_number_is_explained(run):
    text = run(f"{REPORT} {EXPORT} --samples 3 --explain loihi:silicon").stdout
    assert "synaptic operations:" in text
    assert "loihi.e_synop_sparse = 33.6 pJ" in text
    assert "truenorth" not in text


def test_presets_of_the_literature_run_on_an_export(run):
    document = run.json(f"{REPORT} {EXPORT} --samples 3 --preset horowitz-ac-mac --json")
    assert document["label"].startswith("for reproduction")
    assert {entry["model"] for entry in document["estimates"]} == {"ann", "snn"}


def test_two_networks_are_compared(run):
    command = f"esl-neuro energy compare {EXPORT} {NIR} --backend integer --rate 0.1 --samples 5"
    document = run.json(f"{command} --json")
    assert all(entry["ratio"] == 1 for entry in document["comparisons"])
    assert "A/B" in run(command).stdout


def test_a_power_log_becomes_a_measured_row(run):
    (run.folder / "power.csv").write_text("time,power\n0,0.5\n1,0.5\n2,0.5\n")
    measured = run.json("esl-neuro energy import power.csv --samples 1000 --target loihi2 --json")
    assert measured["energy_j_per_sample"] == pytest.approx(1e-3)
    measured_row = f"{REPORT} {EXPORT} --samples 3 --measured loihi2-measured.json"
    assert re.search(r"^loihi2 measured +- +- +1 mJ", run(measured_row).stdout, re.MULTILINE)
    report = run(f"{measured_row} --full").stdout
    chip = report.partition("Whole chip")[2].partition("Whole board")[0]
    assert re.search(r"^loihi2 +measured +measured +1\.00E-03", chip, re.MULTILINE)
    assert "every figure but the measured ones is an estimate" in report


def test_validation_prints_every_residual(run):
    document = run.json("esl-neuro energy validate --json")
    assert len(document["points"]) >= 10
    text = run("esl-neuro energy validate").stdout
    predicted = [point["residual"] for point in document["points"] if point["residual"] is not None]
    assert len(predicted) >= 10
    assert all(f"{100 * residual:+.1f} %" in text for residual in predicted)


def test_targets_are_listed_shown_and_checked(run):
    names = {row["name"] for row in run.json("esl-neuro targets list --json")["targets"]}
    assert {"truenorth", "loihi", "spinnaker", "odin", "akida", "h100", "cmos45"} <= names
    assert "Merolla 2014" in run("esl-neuro targets show truenorth").stdout
    assert run("esl-neuro targets validate").returncode == 0
    (run.folder / "mine.toml").write_text('[target]\nname = "other"\n')
    done = run("esl-neuro targets validate ./mine.toml")
    assert done.returncode == 2
    assert done.stderr.count("is missing; add it") > 2
    assert "did you mean 'loihi2'" in run("esl-neuro targets show lohi2").stderr


def test_a_run_is_exported_where_it_has_no_export_and_its_export_is_used_otherwise(run):
    shutil.rmtree(run.folder / EXPORT)
    command = "esl-neuro energy compare runs/mlp-digits-001 runs/mlp-digits-001 --backend integer --samples 5"
    first = run(command)
    assert first.returncode == 0, first.stderr
    assert first.stderr.count("exporting for loihi2") == 1
    assert "5 test samples x 4 steps; accuracy" in first.stdout
    assert "A on the board v100-pcie over B on a whole chip, free running" in first.stdout
    assert "A on the board v100-pcie over B on a whole chip, 1 ms a step" in first.stdout
    assert "exporting" not in run(command).stderr
    assert run(f"{REPORT} runs/mlp-digits-001 --samples 5").returncode == 0


@pytest.mark.parametrize("command", ["report", "compare runs/mlp-digits-001"])
@pytest.mark.parametrize(
    ("target", "words"), [("lohi", "did you mean 'loihi'"), ("./mine.toml", "did you mean 'table2'")]
)
def test_a_wrong_target_is_found_before_anything_runs(run, command, target, words):
    text = (resource_folder("hw_targets") / "loihi.toml").read_text(encoding="utf-8")
    (run.folder / "mine.toml").write_text(text.replace('"table2"', '"tabel2"'))
    done = run(f"esl-neuro energy {command} runs/mlp-digits-001 --backend integer --target {target}")
    assert done.returncode == 2
    assert words in done.stderr
    assert "running" not in done.stderr
