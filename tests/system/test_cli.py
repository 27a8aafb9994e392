"""The contract of the command line."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from system.command_workspace import REPOSITORY, Workspace

COMMANDS = (
    *("", "train", "sweep", "reproduce", "evaluate", "export", "run", "verify", "report", "quickstart"),
    *("energy", "energy report", "energy compare", "energy import", "energy measure", "energy validate"),
    *("targets", "targets list", "targets show", "targets new", "targets validate"),
    *("models", "models list", "models show", "models fields", "runs", "runs list", "inspect", "predict", "doctor"),
)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The single line of an error on stderr; nothing may be on stdout."""
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("esl-neuro")] == lines[-1:], done.stderr
    return lines[-1]


def start(command: list[str], folder: Path) -> subprocess.Popen[str]:
    """Start esl-neuro as the leader of its own process group, as a shell would."""
    return subprocess.Popen(
        [sys.executable, "-m", "esl_neuro.cli.main", *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


# Help.


@pytest.mark.parametrize("command", COMMANDS)
def test_help_starts_with_examples(workspace, command):
    done = workspace.once(f"esl-neuro {command} --help")
    assert done.returncode == 0
    assert done.stdout.startswith("Examples:\n  esl-neuro")
    assert done.stderr == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_neither_torch_nor_lava_nor_numpy(command):
    script = (
        "import sys; from esl_neuro.cli.main import main; "
        f"code = main({[*command.split(), '--help']!r}); "
        "print(sorted({'torch', 'numpy', 'lava', 'rich', 'pydantic', 'nir'} & set(sys.modules)), code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"


@pytest.mark.parametrize("command", ["", "train", "energy report"])
def test_help_takes_less_than_300_ms_of_the_processor(command, tmp_path):
    def seconds() -> float:
        started = resource.getrusage(resource.RUSAGE_CHILDREN)
        start([*command.split(), "--help"], tmp_path).communicate()
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ended.ru_utime + ended.ru_stime - started.ru_utime - started.ru_stime

    assert min(seconds() for _ in range(5)) < 0.3


# Wrong input: exit code 2, one line that names field, value, what is allowed and the nearest spelling.


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("esl-neuro trian", ["'trian'", "did you mean 'train'", "quickstart"]),
        ("esl-neuro energy reprot", ["'reprot'", "did you mean 'report'"]),
        ("esl-neuro train --sed 1", ["--sed", "--seed"]),
        ("esl-neuro train --seed -1", ["--seed", "-1", "0<=x"]),
        ("esl-neuro train mlp-digit", ["'mlp-digit'", "did you mean 'mlp-digits'"]),
        ("esl-neuro train no/such.toml", ["no/such.toml", "no such file"]),
        ("esl-neuro train --set sparsity.densty=0.1", ["sparsity.densty", "did you mean 'density'"]),
        ("esl-neuro train --set sparsity.density=1.5", ["sparsity.density", "1.5", "less than or equal to 1"]),
        ("esl-neuro train --set training.epochs", ["training.epochs", "section.field=value"]),
        ("esl-neuro train --set sparsity.prune=magnitud", ["'magnitud'", "did you mean 'magnitude'"]),
        ("esl-neuro train --set data.encoding=even_rat", ["'even_rat'", "did you mean 'even_rate'"]),
        ("esl-neuro train --set network.surrogate=arctn", ["'arctn'", "did you mean 'arctan'"]),
        ("esl-neuro train --set network.notation=64*10", ["'64*10'", "800 (neurons)"]),
        ("esl-neuro train --set network.notation=63-10", ["63 inputs", "64"]),
        ("esl-neuro train --set 'sparsity.layers=[\"fc9\"]'", ["'fc9'", "fc1"]),
        ("esl-neuro train --budget fanin=3", ["budget.fanin", "did you mean 'fan_in'"]),
        ("esl-neuro train --budget cores=1 --budget neurons_per_core=260", ["cores 1", "2 layers", "raise cores to 2"]),
        ("esl-neuro train --budget cores=200", ["cores 200", "128 of 'loihi2'", "lower it"]),
        ("esl-neuro train --budget energy=1nJ", ["1 nJ", "updates of 266 neurons", "raise it above"]),
        ("esl-neuro train --resume nowhere --budget fan_in=3", ["--resume", "--budget"]),
        ("esl-neuro train --resume nowhere", ["nowhere", "not a run"]),
        ("esl-neuro train --resume nowhere --seed 1", ["--resume", "--seed"]),
        ("esl-neuro train --resume nowhere --from runs/1", ["--resume", "--from"]),
        ("esl-neuro train --from nowhere", ["nowhere", "not a run"]),
        ("esl-neuro train --quantize lohi2", ["'lohi2'", "did you mean 'loihi2'"]),
        ("esl-neuro train --quantize truenorth", ["'truenorth'", "[arithmetic]", "loihi2"]),
        ("esl-neuro evaluate nowhere", ["nowhere", "not a run"]),
        ("esl-neuro evaluate --noise jitter", ["jitter", "name=level"]),
        ("esl-neuro evaluate --noise jiter=1", ["'jiter'", "did you mean 'jitter'"]),
        ("esl-neuro evaluate --noise spike_drop=2", ["spike_drop", "2"]),
        ("esl-neuro export nowhere", ["nowhere", "not a run"]),
        ("esl-neuro export --runs empty", ["empty", "no completed run"]),
        ("esl-neuro export --target lohi2", ["'lohi2'", "did you mean 'loihi2'"]),
        ("esl-neuro export --target v100-pcie", ["'v100-pcie'", "[arithmetic]"]),
        ("esl-neuro run --backend lav", ["'lav'", "'lava'"]),
        ("esl-neuro run nowhere", ["nowhere", "not an export"]),
        ("esl-neuro run --samples 0", ["--samples", "0"]),
        ("esl-neuro run --samples 100000", ["100000", "359"]),
        ("esl-neuro verify --runs empty", ["empty", "no export"]),
        ("esl-neuro energy report --preset esl2032", ["'esl2032'", "did you mean 'esl2023'"]),
        ("esl-neuro energy report --backend integer --target truenort", ["'truenort'", "did you mean 'truenorth'"]),
        ("esl-neuro energy report --tick-s 0", ["--tick-s", "0"]),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(workspace, command, words):
    done = workspace.run(command)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("esl-neuro")] == lines[-1:], done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in lines[-1], lines[-1]


def test_a_wrong_recipe_leaves_no_run_behind(workspace, tmp_path):
    workspace.run("esl-neuro train --set network.notation=63-10", tmp_path)
    assert not list(tmp_path.glob("runs/*"))


def test_all_wrong_fields_are_named_at_once(workspace):
    line = one_line(workspace.run("esl-neuro train --set training.epochs=0 --set network.tau=2 --set data.stps=4"))
    for word in ("training.epochs", "network.tau", "data.stps", "'steps'"):
        assert word in line


@pytest.mark.parametrize("name", ["export.json", "program.json", "program.safetensors"])
def test_a_damaged_export_is_one_line_and_exit_code_2(small_run, workspace, name):
    (small_run / "loihi2" / name).write_bytes(b"not what it was")
    done = workspace.run("esl-neuro run", small_run.parents[1])
    assert done.returncode == 2
    assert "loihi2" in one_line(done)


def test_a_damaged_nir_file_is_one_line_and_exit_code_2(small_run, workspace):
    (small_run / "loihi2" / "model.nir").write_bytes(b"not what it was")
    done = workspace.run("esl-neuro verify", small_run.parents[1])
    assert done.returncode == 2
    assert "model.nir" in one_line(done)


def test_a_damaged_checkpoint_is_one_line_and_exit_code_2(small_run, workspace):
    (small_run / "best.safetensors").write_bytes(b"not what it was")
    done = workspace.run("esl-neuro export", small_run.parents[1])
    assert done.returncode == 2
    assert "best.safetensors" in one_line(done)


# Failed checks: exit code 1.


def test_an_export_that_loses_too_much_accuracy_fails_but_is_kept(small_run, workspace):
    # Weights of one step and one scale for all neurons make the quantisation as bad as it can be.
    chip = small_run.parents[1] / "coarse.toml"
    text = (REPOSITORY / "hw_targets" / "loihi2.toml").read_text().replace("weight_min = -254", "weight_min = -2")
    text = text.replace("weight_max = 254", "weight_max = 2").replace(
        'thresholds_per = "neuron"', 'thresholds_per = "group"'
    )
    chip.write_text(text.replace('"loihi2"', '"coarse"'))
    done = workspace.run(
        "esl-neuro export --target ./coarse.toml --max-loss 0 --accept-loss --json", small_run.parents[1]
    )
    document = json.loads(done.stdout)
    lost = document["accuracy"]["float"] > document["accuracy"]["integer"]
    assert done.returncode == (1 if lost else 0)
    assert lost, "the test needs a quantisation that costs something"
    assert "--max-loss 0" in done.stderr
    assert (small_run / "coarse" / "export.json").is_file()


def test_verify_finds_a_program_that_was_changed(small_run, workspace):
    path = small_run / "loihi2" / "program.json"
    path.write_text(path.read_text().replace('"dt_s": 0.0001', '"dt_s": 0.0002'))
    done = workspace.run("esl-neuro verify", small_run.parents[1])
    assert done.returncode == 1
    assert "dt_s" in one_line(done)


@pytest.mark.lava
def test_a_spike_that_differs_fails_and_is_named(workspace, monkeypatch, capsys):
    from esl_neuro.cli.main import main
    from esl_neuro.pipeline import simulation

    honest = simulation.integer.run_integer

    def flipped(program, inputs, *records):
        trace = honest(program, inputs, *records)
        trace.spikes["lif1"][3, 5, 7] ^= 1
        return trace

    monkeypatch.setattr(simulation, "integer", SimpleNamespace(run_integer=flipped))
    monkeypatch.chdir(workspace.folder)
    assert main(["run", "--backend", "lava", "--samples", "5"]) == 1
    assert "layer 'lif1', neuron 7, step 5 of sample 3" in capsys.readouterr().err


# Missing dependencies and limits: exit codes 3 and 4.


@pytest.mark.parametrize(
    "command", [["run", "--backend", "lava"], ["verify"], ["energy", "report", "--backend", "lava"]]
)
def test_without_lava_exit_code_3_and_the_command_that_installs_it(workspace, command):
    script = f"import sys; sys.modules['lava'] = None; from esl_neuro.cli.main import main; sys.exit(main({command!r}))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=workspace.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "pip install 'esl-neuro[lava]'" in done.stderr.splitlines()[-1]


def test_a_network_too_large_for_the_chip_is_exit_code_4(small_run, workspace):
    chip = small_run.parents[1] / "tiny.toml"
    text = (REPOSITORY / "hw_targets" / "loihi2.toml").read_text()
    chip.write_text(text.replace("value = 1048576", "value = 20").replace("value = 120000000", "value = 30"))
    done = workspace.run("esl-neuro export --target ./tiny.toml", small_run.parents[1])
    assert done.returncode == 4
    line = one_line(done)
    assert "neurons_per_chip: needs 26, the limit is 20" in line
    assert "synapses_per_chip" in line


def test_a_failed_export_leaves_the_earlier_one_as_it_was(small_run, workspace):
    before = {path.name: path.read_bytes() for path in (small_run / "loihi2").iterdir()}
    chip = small_run.parents[1] / "tiny.toml"
    text = (REPOSITORY / "hw_targets" / "loihi2.toml").read_text()
    chip.write_text(text.replace("value = 1048576", "value = 20"))
    done = workspace.run("esl-neuro export --target ./tiny.toml --out runs/mlp-digits-001/loihi2", small_run.parents[1])
    assert done.returncode == 4
    assert {path.name: path.read_bytes() for path in (small_run / "loihi2").iterdir()} == before


def test_a_file_that_cannot_be_written_is_one_line(small_run, workspace):
    done = workspace.run("esl-neuro run --spikes no/such/folder/spikes.npz", small_run.parents[1])
    assert done.returncode == 2
    assert "no/such/folder/spikes.npz" in one_line(done)


@pytest.mark.parametrize("data", ["5", '{"name": "digits"}', '{"name": "digit", "encoding": "latency", "steps": 4}'])
def test_an_export_with_damaged_data_is_one_line(small_run, workspace, data):
    path = small_run / "loihi2" / "export.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": json.loads(data)}))
    done = workspace.run("esl-neuro run", small_run.parents[1])
    assert done.returncode == 2
    one_line(done)


# JSON.


@pytest.mark.parametrize(
    "command",
    [
        "esl-neuro evaluate --noise gaussian=0.2 --noise jitter=1 --json",
        "esl-neuro export --json",
        "esl-neuro run --json",
        "esl-neuro energy report --backend integer --json",
        "esl-neuro energy report --preset esl2023 --json",
        pytest.param("esl-neuro verify --json", marks=pytest.mark.lava),
        pytest.param("esl-neuro run --backend lava --json", marks=pytest.mark.lava),
    ],
)
def test_stdout_holds_only_json(workspace, command):
    assert isinstance(workspace.json(command), dict)


def test_spikes_are_saved_on_request(workspace):
    import numpy as np

    done = workspace.run("esl-neuro run --samples 3 --spikes spikes.npz --json")
    arrays = np.load(workspace.folder / "spikes.npz")
    assert arrays["input"].shape == (3, 16, 64)
    spikes = json.loads(done.stdout)["spikes"]
    assert {name: int(arrays[name].sum()) for name in spikes} == spikes


# Interruption.


@pytest.mark.disturbed
def test_ctrl_c_saves_the_state_and_resuming_ends_as_if_nothing_had_happened(tmp_path, workspace):
    options = ["--set", "training.epochs=6", "--set", "data.steps=4"]
    process = start(["train", *options], tmp_path)
    metrics = tmp_path / "runs" / "mlp-digits-001" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "esl-neuro train --resume runs/mlp-digits-001" in err
    assert "Traceback" not in err

    resumed = workspace.run("esl-neuro train --resume runs/mlp-digits-001", tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    straight = workspace.run("esl-neuro train " + " ".join(options), tmp_path)
    assert straight.returncode == 0, straight.stderr
    first, second = (tmp_path / "runs" / f"mlp-digits-00{number}" for number in (1, 2))
    assert (first / "metrics.jsonl").read_text() == (second / "metrics.jsonl").read_text()
    assert _tensors(first / "last.safetensors") == _tensors(second / "last.safetensors")
    assert _tensors(first / "best.safetensors") == _tensors(second / "best.safetensors")


def test_fine_tuning_on_integers_gives_the_accuracy_of_the_chip(small_run, workspace, tmp_path):
    tuned = workspace.run(
        f"esl-neuro train --from {small_run} --quantize loihi2 --set training.epochs=1 --json", tmp_path
    )
    assert tuned.returncode == 0, tuned.stderr
    (run,) = json.loads(tuned.stdout)["runs"]
    exported = workspace.run(f"esl-neuro export {run['folder']} --json", tmp_path)
    assert exported.returncode == 0, exported.stderr
    accuracy = json.loads(exported.stdout)["accuracy"]
    assert accuracy["float"] == accuracy["integer"] == run["test_accuracy"]


def test_a_run_is_repeated_exactly_from_its_saved_config(small_run, workspace):
    done = workspace.run("esl-neuro train runs/mlp-digits-001/config.toml", small_run.parents[1])
    assert done.returncode == 0, done.stderr
    again = small_run.with_name("mlp-digits-002")
    assert (again / "config.toml").read_text() == (small_run / "config.toml").read_text()
    assert (again / "metrics.jsonl").read_text() == (small_run / "metrics.jsonl").read_text()
    assert _tensors(again / "last.safetensors") == _tensors(small_run / "last.safetensors")


@pytest.mark.lava
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ending_a_lava_run_leaves_no_process(workspace, number):
    process = start(["run", "--backend", "lava"], workspace.folder)
    deadline = time.monotonic() + 60
    while len(_group(process.pid)) < 4 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert len(_group(process.pid)) >= 4, "Lava's processes were never seen"
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        os.kill(process.pid, number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err
    deadline = time.monotonic() + 5
    while _group(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _group(process.pid) == []


@pytest.mark.disturbed
def test_second_training_of_a_run_is_refused_and_a_terminated_one_saves_its_state(tmp_path, workspace):
    process = start(["train", "--set", "training.epochs=1000", "--set", "data.steps=4"], tmp_path)
    run = tmp_path / "runs" / "mlp-digits-001"
    deadline = time.monotonic() + 60
    while not (run / "last.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    second = workspace.run(f"esl-neuro train --resume {run}", tmp_path)
    assert second.returncode == 2
    assert f"{run}: another process is training this run" in second.stderr
    assert f"(process {process.pid})" in second.stderr
    before = json.loads((run / "last.json").read_text())
    began = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - began < 3  # two seconds, and one for a busy machine
    assert (process.returncode, out) == (143, ""), err
    assert "state saved in runs/mlp-digits-001" in err
    after = json.loads((run / "last.json").read_text())
    assert (after["epoch"], after["batch"]) >= (before["epoch"], before["batch"])
    assert after["epoch"] == len((run / "metrics.jsonl").read_text().splitlines())  # no epoch that was shown is lost
    assert not list(run.glob(".esl-neuro-*"))


def test_result_is_printed_even_if_the_export_cannot_keep_it(workspace, monkeypatch, capsys):
    from esl_neuro.cli.main import main
    from esl_neuro.errors import BadInput
    from esl_neuro.pipeline import activity

    def refuse(path, _):
        raise BadInput(f"{path}: cannot be written: the file system is read-only")

    monkeypatch.setattr(activity, "write", refuse)
    monkeypatch.chdir(workspace.folder)
    assert main(["run", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["samples"]
    assert "run-integer.json: cannot be written: the file system is read-only; the result is not saved" in printed.err


@pytest.mark.parametrize("reader", ["head -n 1", "true"])
@pytest.mark.parametrize("command", ["energy report --preset esl2023 --json", "--help"])
def test_reader_that_ends_early_changes_neither_exit_code_nor_messages(workspace, command, reader):
    line = f"'{sys.executable}' -m esl_neuro.cli.main {command} | {reader} > /dev/null; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=workspace.folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_result_that_cannot_be_printed_is_an_error(workspace):
    line = f"'{sys.executable}' -m esl_neuro.cli.main energy report --preset esl2023 --json > /dev/full"
    done = subprocess.run(["bash", "-c", line], cwd=workspace.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "the result cannot be printed: the disk is full" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_closed_pipe_is_no_error(workspace):
    command = f"'{sys.executable}' -m esl_neuro.cli.main energy report --preset esl2023 | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=workspace.folder, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def _tensors(path: Path) -> dict[str, list[object]]:
    from safetensors.numpy import load_file

    return {name: array.tolist() for name, array in load_file(str(path)).items()}


def _group(leader: int) -> list[int]:
    """Processes of a process group that are not zombies."""
    found = subprocess.run(["ps", "-eo", "pid,pgid,stat"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in found.splitlines()[1:]]
    return [int(pid) for pid, group, state in rows if int(group) == leader and not state.startswith("Z")]


@pytest.fixture(scope="module", autouse=True)
def _needs_ps():
    if shutil.which("ps") is None:
        pytest.skip("ps is not installed")


# Other formats of an export.


@pytest.mark.lava
def test_formats_of_an_export_run_and_do_not_outlive_it(small_run):
    workspace = Workspace(small_run.parents[1])
    done = workspace.run("esl-neuro export --format netx --format lava-script")
    assert done.returncode == 0, done.stderr
    export = small_run / "loihi2"
    assert {"model.nir", "program.json", "export.json", "network.net", "network.py"} <= {
        path.name for path in export.iterdir()
    }
    assert workspace.run("esl-neuro run --samples 40 --spikes spikes.npz").returncode == 0
    script = f"python {export / 'network.py'} spikes.npz --out output.npz"
    assert workspace.run(script).returncode == 0
    ours, scripts = (np.load(workspace.folder / name) for name in ("spikes.npz", "output.npz"))
    assert ours["lif2"].any()
    assert (ours["lif2"] == scripts["output"]).all()
    assert workspace.run("esl-neuro export").returncode == 0
    assert not (export / "network.net").exists()
    assert not (export / "network.py").exists()


@pytest.mark.lava
def test_batched_lava_is_compared_with_the_integer_simulator(small_run):
    ran = Workspace(small_run.parents[1]).json("esl-neuro run --backend lava-batched --samples 40 --json")
    assert (ran["backend"], ran["parity"]["equal"]) == ("lava-batched", True)
    assert ran["spikes"]["lif1"] > 100
