"""What a stranger wrote is refused in one line or escaped, and no number is outside its range."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import nir
import numpy as np
import pytest

from esl_neuro.backends.trace import Trace
from esl_neuro.cli.commands import emit, print_status
from esl_neuro.cli.main import main
from esl_neuro.energy.core_map import read_placement
from esl_neuro.energy.measurement import Measurement, measure, read_power_log
from esl_neuro.energy.report import energy_report
from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target
from esl_neuro.nirgraph.files import read_nir, write_nir
from esl_neuro.pipeline.inputs import random_samples
from esl_neuro.recipes import load_recipe
from esl_neuro.report.energy_csv import write_energy_csv
from esl_neuro.report.plots import Layout, Point, draw_dots
from esl_neuro.resources import resource_folder
from esl_neuro.training.sweep import load_plan
from report.programs import chain


def graph(name):
    nodes = {
        "input": nir.Input({"input": np.array([2])}),
        name: nir.LIF(*(np.ones(2) for _ in range(4)), np.zeros(2)),
        "output": nir.Output({"output": np.array([2])}),
    }
    return nir.NIRGraph(nodes, [("input", name), (name, "output")], {"dt_s": 1e-3, "steps": 3})


# Names.


@pytest.mark.parametrize("name", ["../../X", "/tmp/x", "a/b", ".hidden", "..", "a\\nb", "", "x" * 101])
def test_the_name_of_a_target_is_no_path(tmp_path, name):
    text = (resource_folder("hw_targets") / "loihi2.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text.replace('name = "loihi2"', f'name = "{name}"', 1))
    with pytest.raises(BadInput, match=r"target\.name") as caught:
        load_target(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "..", "a/b", "a\\nb"])
def test_the_name_of_a_recipe_is_no_path(tmp_path, name):
    text = (resource_folder("models") / "mlp-digits.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace('name = "mlp-digits"', f'name = "{name}"', 1))
    with pytest.raises(BadInput, match="name:"):
        load_recipe(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize("name", ["a\x1b[2J", "a\nb", "a\u202eb"])
def test_a_node_whose_name_a_terminal_would_obey_is_refused(tmp_path, name, capsys):
    path = tmp_path / "net.nir"
    nir.write(path, graph(name))
    with pytest.raises(BadInput, match="has characters that cannot be printed; rename the node"):
        read_nir(path)
    assert main(["check", str(path)]) == 2
    printed = capsys.readouterr()
    assert not set("\x1b\u202e") & set(printed.out + printed.err)
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("name", ["a/b", ".", "..", "", "a\x1b"])
def test_a_graph_with_a_name_that_no_file_can_hold_is_not_written(tmp_path, name):
    with pytest.raises(BadInput, match="a name in a file has no '/'"):
        write_nir(tmp_path / "net.nir", graph(name))
    assert not list(tmp_path.iterdir())


def test_the_terminal_gets_no_control_characters(capsys):
    emit({}, "a\x1b[31m\n\tb\r", as_json=False)
    print_status("c\x9b2J")
    printed = capsys.readouterr()
    assert printed.out == "a\\x1b[31m\n\tb\\r\n"
    assert printed.err == "c\\x9b2J\n"


def test_no_text_of_a_toml_file_reaches_the_terminal_as_a_command(tmp_path):
    (tmp_path / "mine.toml").write_text('title = "a\\u001b[2J"\nrecipe = "mlp-digits"\nseeds = [0]\n')
    with pytest.raises(BadInput, match=r"title: 'a\\x1b\[2J' has characters that cannot be printed"):
        load_plan(str(tmp_path / "mine.toml"), tmp_path)


def test_no_cell_of_a_table_is_a_formula(tmp_path):
    program, random = chain((30, 10, 5), 0.5), np.random.default_rng(1)
    first, second = program.groups
    hostile = "=HYPERLINK(1)"
    connections = (replace(program.connections[0], target=hostile), replace(program.connections[1], source=hostile))
    program = replace(program, groups=(replace(first, name=hostile), second), connections=connections)
    spikes = {g.name: (random.random((2, 4, g.neurons)) < 0.2).astype(np.uint8) for g in program.groups}
    report = energy_report(program, Trace("integer", (random.random((2, 4, 30)) < 0.1).astype(np.uint8), spikes))
    for path in write_energy_csv(report, tmp_path / "energy.csv"):
        with path.open(newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "@"))]
    assert "'=HYPERLINK(1)" in cells


def test_dollar_signs_in_a_chart_are_no_formula(tmp_path):
    draw_dots([Point(r"$\frac$", 1.0)], "$", tmp_path / "chart.svg", Layout(title=r"$\title"))
    assert (tmp_path / "chart.svg").stat().st_size


# Numbers.


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    "words",
    [["run", "--rate"], ["compile", "x.nir", "--dt"], ["export", "--max-loss"], ["compile", "x.nir", "--input-scale"]],
)
def test_no_option_takes_what_is_no_number(words, value, capsys):
    assert main([*words, value]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("words", [["run", "--samples", str(10**30)], ["train", "--seed", str(2**70)],
                                   ["compile", "x.nir", "--steps", str(2**40)]])  # fmt: skip
def test_no_option_takes_a_number_that_nothing_can_hold(words, capsys):
    assert main(words) == 2
    assert "range" in capsys.readouterr().err


def test_drawn_inputs_are_bounded_before_they_are_drawn(tmp_path, capsys):
    write_nir(tmp_path / "net.nir", graph("lif"))
    assert main(["run", str(tmp_path / "net.nir"), "--rate", "0.1", "--steps", str(2**31 - 1)]) == 2
    assert "more than the limit" in capsys.readouterr().err
    for rate in (float("nan"), -0.1, 1.1):
        with pytest.raises(BadInput, match="must be from 0 to 1"):
            random_samples(1, 1, 1, rate)
    assert main(["check", str(tmp_path / "net.nir"), "--dt", "1e-320"]) == 2
    assert "the shortest is 1e-15 s" in capsys.readouterr().err


@pytest.mark.parametrize("notation", ["64-99999999-9999999-10", "64-10x999999999", "64-" + "9" * 5000, "64-10x0"])
def test_a_network_that_fits_no_memory_is_one_line(notation, tmp_path, capsys):
    assert main(["train", "--set", f"network.notation={notation}", "--runs", str(tmp_path)]) == 2
    assert "network.notation" in capsys.readouterr().err


def test_a_sweep_of_millions_of_runs_is_refused_before_it_is_planned(tmp_path):
    axes = "\n".join(f'"training.{name}" = {list(range(1, 41))}' for name in ("epochs", "batch", "threads", "momentum"))
    (tmp_path / "mine.toml").write_text(f'title = "t"\nrecipe = "mlp-digits"\nseeds = [0]\n[axes]\n{axes}\n')
    with pytest.raises(BadInput, match="make 2,560,000 runs; at most 10,000 are planned"):
        load_plan(str(tmp_path / "mine.toml"), tmp_path)


# Files.


def test_core_numbers_are_integers_in_one_dimension(tmp_path):
    for cores in (np.zeros(3), np.zeros((2, 2), int), np.array(["a"])):
        np.savez(tmp_path / "cores.npz", lif1=cores)
        with pytest.raises(BadInput, match=r"not a readable \.npz file of core numbers: cores of 'lif1'"):
            read_placement(tmp_path / "cores.npz")


@pytest.mark.parametrize(
    "change",
    [
        {"samples": 0}, {"samples": "5"}, {"energy_j_per_sample": -1.0}, {"energy_j_per_sample": float("nan")},
        {"low_j": 2.0, "high_j": 1.0}, {"scope": "most"}, {"target": 3}, {"target": "a\x1b"}, {"schema": 9},
        {"more": 1},
    ],
)  # fmt: skip
def test_a_measurement_is_what_it_says_or_refused(tmp_path, change):
    good = measure(np.arange(5.0), np.full(5, 2.0), 10, "loihi2", "log.csv").to_dict()
    path = tmp_path / "m.json"
    path.write_text(json.dumps(good))
    assert Measurement.load(path).samples == 10
    path.write_text(json.dumps(good | change))
    said = "measurement schema is 9; this version" if "schema" in change else "not a measurement"
    with pytest.raises(BadInput, match=said) as caught:
        Measurement.load(path)
    assert "\n" not in str(caught.value)
    path.write_text("[" * 10**5)
    with pytest.raises(BadInput):
        Measurement.load(path)


@pytest.mark.parametrize("row", ["1e400,1", "1,1e999", "2," + "9" * 200_000])
def test_a_power_log_has_finite_numbers(tmp_path, row):
    (tmp_path / "log.csv").write_text(f"time,power\n0,1\n{row}\n3,1\n")
    with pytest.raises(BadInput) as caught:
        read_power_log(tmp_path / "log.csv")
    assert "\n" not in str(caught.value)
