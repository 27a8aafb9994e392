"""Any NIR file to the end: compiled, run, evaluated, priced and verified, from its folder or at once."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
from itertools import pairwise
from pathlib import Path

import nir
import numpy as np
import pytest

from esl_neuro.backends.golden import read_trace
from esl_neuro.cli.main import main
from esl_neuro.compiler.program import Program, differences
from esl_neuro.nirgraph.files import read_nir, write_nir
from esl_neuro.nirgraph.simulation import simulate

STEPS, SAMPLES, SHAPE = 10, 6, (2, 4, 4)
RNG = np.random.default_rng(0)
SPIKES = (RNG.random((SAMPLES, STEPS, *SHAPE)) < 0.3).astype(np.uint8)


def neurons(shape):
    """Memoryless, with a threshold off the grid of the weights, so that integers and floats agree."""
    return nir.LIF(*(np.full(shape, value) for value in (1e-3, 1.0, 0.0, 0.9, 0.0)))


def network():
    """A convolution without input_shape, on weights that the chip holds."""
    rng = np.random.default_rng(1)
    nodes = {
        "input": nir.Input({"input": np.array(SHAPE)}),
        "conv": nir.Conv2d(None, rng.integers(-4, 5, (3, 2, 3, 3)) / 4, 1, 1, 1, 1, np.zeros(3)),
        "lif1": neurons((3, 4, 4)),
        "flatten": nir.Flatten({"input": np.array((3, 4, 4))}, 0, -1),
        "fc": nir.Affine(rng.integers(-4, 5, (3, 48)) / 4, np.zeros(3)),
        "lif2": neurons((3,)),
        "output": nir.Output({"output": np.array([3])}),
    }
    return nir.NIRGraph(nodes, list(pairwise(nodes)), {"dt_s": 1e-3}, type_check=False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_nir("net.nir", network())
    classes = simulate(network(), SPIKES).outputs.sum(axis=1).argmax(axis=1)
    np.savez("data.npz", input=SPIKES, labels=classes)
    np.savez("time_first.npz", input=SPIKES.swapaxes(0, 1), labels=classes)
    return tmp_path


def run(command):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(shlex.split(command))
    return code, out.getvalue(), err.getvalue()


def result(command):
    code, out, err = run(f"{command} --json")
    assert code == 0, err
    return json.loads(out)


def test_the_folder_of_a_file_is_that_of_an_export_and_every_command_takes_it(folder):
    written = result(f"compile net.nir --input data.npz --steps {STEPS} --format netx --format lava-script")
    assert written["accuracy"] == {"samples": 6, "float": 1.0, "integer": 1.0, "ties": written["accuracy"]["ties"]}
    names = {"export.json", "golden.h5", "model.nir", "network.net", "network.py", "program.json"}
    assert names <= {path.name for path in (folder / "net-loihi2").iterdir()}
    assert np.array_equal(read_trace(folder / "net-loihi2" / "golden.h5").input_spikes, SPIKES.reshape(6, 10, 32)[:4])
    assert read_nir("net-loihi2/model.nir").nodes["conv"].input_shape.tolist() == [4, 4]  # for other readers
    ran = result("run net-loihi2 --input data.npz")
    assert (ran["accuracy"], ran["samples"], ran["ran_on"]) == (1.0, 6, "6 samples of data.npz")
    tested = result("evaluate net-loihi2 --input data.npz")
    assert (tested["accuracy_float"], tested["accuracy_integer"], tested["moved"]) == (1.0, 1.0, 0)
    priced = result("energy report net-loihi2 --input data.npz --backend integer")
    assert priced["counts"]["layers"][0]["spikes_in"] == int(SPIKES.sum())
    assert run("verify net-loihi2 --without-lava")[0] in (0, 3)  # 3: no reader is installed


def test_the_file_at_once_runs_as_its_folder_does(folder):
    run(f"compile net.nir --steps {STEPS}")
    assert read_trace(folder / "net-loihi2" / "golden.h5").input_spikes.any()  # random spikes
    for name, layout in (("data.npz", ""), ("time_first.npz", "--layout steps,samples,...")):
        of_folder = result(f"run net-loihi2 --input {name} {layout}")
        of_file = result(f"run net.nir --input {name} {layout} --steps {STEPS} --samples 6")
        assert of_folder["spikes"] == of_file["spikes"]
        assert of_file["accuracy"] == 1.0
    assert result(f"evaluate net.nir --input data.npz --steps {STEPS} --samples 3")["samples"] == 3
    assert result(f"run net.nir --rate 0.3 --steps {STEPS} --samples 2")["accuracy"] is None


def test_what_comes_out_is_saved(folder):
    code, _, err = run(f"run net.nir --input data.npz --steps {STEPS} --save out.npz")
    assert code == 0, err
    saved, expected = np.load(folder / "out.npz"), simulate(network(), SPIKES)
    assert np.array_equal(saved["output_spikes"], expected.outputs)
    assert np.array_equal(saved["spikes/lif1"].reshape(6, 10, 3, 4, 4), expected.spikes["lif1"])
    assert saved["output_potential"].shape == (6, 10, 3)
    assert saved["predictions"].tolist() == saved["labels"].tolist()
    assert saved["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("compile net.nir", "the number of time steps per sample is missing"),
        ("compile net.nir --input data.npz", "can be 6 samples of 10 steps or 10 samples of 6 steps"),
        ("compile net.nir --input time_first.npz --steps 10", "The first axis fits the steps: give layout='steps,samp"),
        ("compile net.nir --input data.npz --steps 6", "have 10 steps per sample; the network requires 6"),
        ("compile nosuch.nir --steps 3", "nosuch.nir: no such file"),
        ("compile data.npz --steps 3", "it is not an HDF5 file"),
        ("compile net.nir --steps 3 --layout steps,...", "describes inputs, and none are given"),
        ("run net.nir", "a NIR file has no data set; give --input FILE, or --rate"),
        ("run data.npz", "data.npz: not a readable NIR file: it is not an HDF5 file"),
        ("run net.nir --input data.npz --rate 0.1", "--input and --rate are both given"),
        ("run net.nir --rate 0.1 --steps 4 --layout steps,...", "--layout describes --input"),
        ("run net.nir --rate 0.1 --steps 4 --save no/out.npz", "the folder 'no' does not exist"),
        ("evaluate net.nir --input bare.npz --steps 10", "has no labels"),
        ("evaluate net.nir --input data.npz --steps 10 --noise spike_drop=0.1", "is not a run"),
        ("verify net.nir --input data.npz --reader lava", "can be 6 samples of 10 steps or 10 samples of 6"),
    ],
)
def test_what_is_not_said_or_contradicts_is_refused_in_one_line(folder, command, words):
    np.savez("bare.npz", input=SPIKES)
    before = sorted(path.name for path in folder.iterdir())
    code, out, err = run(command)
    assert code == 2, err
    assert words in err
    assert err.count("\n") == 1
    assert out == ""
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.usefixtures("folder")
def test_graded_inputs_and_calibration_files():
    np.savez("graded.npz", input=SPIKES * 0.5, labels=np.zeros(6, int))
    written = result("compile net.nir --input graded.npz --steps 10 --calibrate graded.npz --max-loss 100 --out here")
    assert "graded-input" in {each["kind"] for each in written["findings"]}
    assert Program.load(Path("here")).input_bits == 8
    assert [each["subject"] for each in written["decisions"]] == ["scales"]
    again = result("compile net.nir --steps 10 --calibrate graded.npz --layout samples,steps,... --out there")
    assert again["scalings"] == written["scalings"]
    assert differences(Program.load(Path("here")), Program.load(Path("there"))) == []


@pytest.mark.usefixtures("folder")
def test_a_network_with_several_inputs_and_outputs_runs_on_arrays_of_their_names():
    weights = np.random.default_rng(2).integers(-4, 5, (4, 3)) / 2
    nodes = {
        "left": nir.Input({"input": np.array([3])}),
        "right": nir.Input({"input": np.array([2, 2])}),
        "fc": nir.Linear(weights),
        "flatten": nir.Flatten({"input": np.array([2, 2])}, 0, -1),
        "lif": neurons((4,)),
        "aside": neurons((4,)),
        "class": nir.Output({"output": np.array([4])}),
        "other": nir.Output({"output": np.array([4])}),
    }
    edges = [("left", "fc"), ("fc", "lif"), ("right", "flatten"), ("flatten", "lif"), ("lif", "class")]
    edges += [("flatten", "aside"), ("aside", "other")]
    write_nir("two.nir", nir.NIRGraph(nodes, edges, {"dt_s": 1e-3, "steps": 9}, type_check=False))
    rng = np.random.default_rng(3)
    left, right = rng.integers(0, 2, (5, 9, 3)), rng.integers(0, 2, (5, 9, 2, 2))
    np.savez("two.npz", left=left, right=right)
    code, _, err = run("run two.nir --input two.npz --save out.npz")
    assert code == 0, err
    joined = np.concatenate([left, right.reshape(5, 9, 4)], axis=2)
    expected = simulate(read_nir("two.nir"), joined).spikes
    saved = np.load("out.npz")
    for name in ("lif", "aside"):
        assert expected[name].any()
        assert np.array_equal(saved[f"spikes/{name}"], expected[name])
    assert np.array_equal(saved["output_spikes"], expected["lif"])
    said = result("compile two.nir --input two.npz")["findings"]
    assert {"several-inputs", "several-outputs"} <= {each["kind"] for each in said}
    assert result("run two-loihi2 --input two.npz")["spikes"]["lif"] == int(expected["lif"].sum())
