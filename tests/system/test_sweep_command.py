"""The command ``sweep``: whole sweeps on a tiny network, interrupted and continued."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from esl_neuro.cli.main import main
from esl_neuro.interruption import TOO_SLOW
from system.command_workspace import Workspace
from system.processes import PATIENCE_S, children, group, opened, start, wait_for

TINY = """
title = "Tiny"
recipe = "mlp-digits"
seeds = [0, 1]
noise = ["spike_drop=0.5"]
plot_x = "sparsity.density"
[fixed]
"training.epochs" = {epochs}
"network.notation" = "64-16-10"
"data.steps" = 4
[axes]
"sparsity.density" = [0.1, 0.5]
"""

BAD_NETWORK = {
    "network.notation": "",
    "plot_x": "",
    "sparsity.density": '"network.notation" = ["63-10", "64-16-10"]',
}
EPOCHS = 8  # of the runs that are interrupted
PARALLEL = "esl-neuro sweep ./tiny.toml --jobs 2 --plot tiny.svg"


def make(folder: Path, epochs: int = 1, **replaced: str) -> Path:
    text = TINY.replace("{epochs}", str(epochs))
    for old, new in replaced.items():
        text = re.sub(f'^"?{old}"? = .*$', new, text, flags=re.MULTILINE)
    (folder / "tiny.toml").write_text(text)
    return folder


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Contents and times of all files below a folder, except for the lock and the summary, which is written anew."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("summary.json", "lock")
    }


def weights(folder: Path) -> dict[str, dict[str, object]]:
    from safetensors.numpy import load_file

    return {
        path.parent.name: {name: array.tolist() for name, array in load_file(str(path)).items()}
        for path in folder.rglob("last.safetensors")
    }


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Workspace:
    """A folder in which the tiny sweep has been run, two runs at a time, and drawn."""
    space = Workspace(make(tmp_path_factory.mktemp("swept")))
    done = space.once(PARALLEL)
    assert done.returncode == 0, done.stderr
    return space


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    """Folder of a longer sweep that nothing has interrupted."""
    folder = make(tmp_path_factory.mktemp("straight"), epochs=EPOCHS)
    assert main(["sweep", str(folder / "tiny.toml"), "--runs", str(folder / "runs")]) == 0
    return folder / "runs" / "tiny"


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a command in this process, where torch is loaded already: exit code, output, errors."""

    def call(folder: Path, command: str) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        code = main(shlex.split(command)[1:])
        return code, *capsys.readouterr()

    return call


# A whole sweep.


def test_help_starts_with_examples_and_loads_nothing_heavy():
    script = (
        "import sys; from esl_neuro.cli.main import main; main(['sweep', '--help']); "
        "print(sorted({'torch', 'numpy', 'matplotlib', 'rich', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Examples:\n  esl-neuro sweep")
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_table_has_a_row_for_each_case(swept):
    lines = swept.once(PARALLEL).stdout.splitlines()
    assert lines[0] == "Tiny"
    assert lines[2].split("  ")[0] == "density"
    for heading in ("test accuracy", "spread", "seeds", "connections", "spikes/neuron", "time", "spike_drop=0.5"):
        assert heading in lines[2]
    assert [line.split()[0] for line in lines[4:6]] == ["0.1", "0.5"]
    assert "seeds 0, 1" in lines[-1]


def test_runs_side_by_side_say_at_once_that_they_train_and_then_how_far_they_are(swept):
    first, *lines = swept.once(PARALLEL).stderr.splitlines()
    assert first == "runs/tiny: 4 runs to do, 2 at a time"
    told = [line for line in lines if line.startswith("4 runs, 2 at a time: ")]
    epochs = int(told[0].split("training, ")[1].split()[0])
    assert [line.split("epoch ")[1].split()[0] for line in told[1:]] == [f"{n}/{epochs}" for n in range(1, epochs + 1)]


def test_each_finished_run_is_reported_with_its_figures(swept):
    told = [line for line in swept.once(PARALLEL).stderr.splitlines() if " at a time" not in line]
    assert [line.split()[0] for line in told] == ["1/4", "2/4", "3/4", "4/4"]
    assert {line.split(":")[0].split(" ", 1)[1] for line in told} == {
        f"density {density} seed {seed}" for density in (0.1, 0.5) for seed in (0, 1)
    }
    assert all(line.endswith(" s") and " %, " in line for line in told)


def test_the_summary_is_what_json_prints_and_every_run_is_in_it(swept, call):
    printed = json.loads(call(swept.folder, "esl-neuro sweep tiny.toml --json")[1])
    assert printed == json.loads((swept.folder / "runs" / "tiny" / "summary.json").read_text())
    for case, density in zip(printed["cases"], ("0.1", "0.5"), strict=True):
        assert case["case"] == {"density": density}
        for seed, run in enumerate(case["runs"]):
            assert run["folder"] == f"runs/tiny/density-{density}-seed{seed}"
            result = json.loads((swept.folder / run["folder"] / "result.json").read_text())
            assert {**run, **result} == run
            tested = json.loads(
                call(swept.folder, f"esl-neuro evaluate {run['folder']} --noise spike_drop=0.5 --json")[1]
            )
            assert run["noise"] == {"spike_drop=0.5": tested["noise"][0]["accuracy"]}


def test_the_chart_is_drawn(swept):
    assert (swept.folder / "tiny.svg").read_bytes().startswith(b"<?xml")


def test_done_runs_are_not_touched_again(swept, call):
    before = files(swept.folder / "runs")
    code, out, err = call(swept.folder, "esl-neuro sweep tiny.toml")
    assert code == 0
    assert out == swept.once(PARALLEL).stdout
    assert err == ""
    assert files(swept.folder / "runs") == before


def test_two_at_a_time_give_what_one_after_the_other_gives(swept, tmp_path, call):
    _, alone, _ = call(make(tmp_path), "esl-neuro sweep tiny.toml --json")
    _, together, _ = call(swept.folder, "esl-neuro sweep tiny.toml --json")
    documents = [json.loads(text) for text in (alone, together)]
    for document in documents:
        for case in document["cases"]:
            for entry in (case, *case["runs"]):
                del entry["seconds"]
                entry.pop("memory", None)
    assert documents[0] == documents[1]
    assert weights(tmp_path) == weights(swept.folder)


def test_list_says_what_is_done_and_trains_nothing(swept, tmp_path, call):
    _, out, _ = call(swept.folder, "esl-neuro sweep tiny.toml --list --json")
    assert [run["state"] for run in json.loads(out)["runs"]] == ["done"] * 4
    _, out, _ = call(make(tmp_path), "esl-neuro sweep tiny.toml --list")
    assert out.splitlines()[-1] == "4 runs: 4 to do"
    assert not (tmp_path / "runs").exists()


def test_new_noise_is_tested_without_training_again(swept, tmp_path, call):
    shutil.copytree(swept.folder, tmp_path, dirs_exist_ok=True)
    make(tmp_path, noise='noise = ["spike_drop=0.5", "jitter=1"]')
    before = weights(tmp_path)
    code, out, err = call(tmp_path, "esl-neuro sweep tiny.toml --json")
    assert code == 0, err
    assert "epoch" not in err
    for case in json.loads(out)["cases"]:
        assert list(case["noise"]) == ["spike_drop=0.5", "jitter=1"]
    assert weights(tmp_path) == before


# Wrong input.


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("esl-neuro sweep", ["Missing argument 'SWEEP'"]),
        ("esl-neuro sweep digits-densty", ["sweep 'digits-densty' is unknown; did you mean 'digits-density'?"]),
        ("esl-neuro sweep no/such.toml", ["no/such.toml: no such file"]),
        ("esl-neuro sweep tiny.toml --jobs 0", ["--jobs", "0", "1<=x"]),
        ("esl-neuro sweep tiny.toml --plot x.jpg", ["x.jpg: '.jpg' is not a chart format"]),
        ("esl-neuro sweep tiny.toml --set training.epoch=1", ["(and 3 more runs)", "did you mean 'epochs'?"]),
        (
            "esl-neuro sweep tiny.toml --set sparsity.density=1",
            ["--set sparsity.density=1: this field is varied by the sweep"],
        ),
        (
            "esl-neuro sweep tiny.toml --set training.epochs=2",
            ["runs/tiny/density-0.1-seed0: training.epochs is 1 there, 2 is requested", "--runs", "delete"],
        ),
    ],
)
def test_wrong_input_is_one_line_exit_code_2_and_no_training(swept, call, command, words):
    before = files(swept.folder)
    code, out, err = call(swept.folder, command)
    assert code == 2, err
    (line,) = err.splitlines()
    for word in words:
        assert word in line
    assert out == ""
    assert files(swept.folder) == before


def test_the_other_runs_finish_when_one_fails(tmp_path, call):
    make(tmp_path, **BAD_NETWORK)
    code, out, err = call(tmp_path, "esl-neuro sweep tiny.toml")
    assert code == 2
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("esl-neuro: 2 of 4 runs failed: notation 63-10 seed 0 (and 1 more run): ")
    assert "63 inputs" in last
    _, out, _ = call(tmp_path, "esl-neuro sweep tiny.toml --list")
    assert out.splitlines()[-1] == "4 runs: 2 to do, 2 done"


@pytest.mark.disturbed
def test_runs_fail_alone_and_the_workers_end_with_their_parent(tmp_path):
    make(tmp_path, epochs=1000, **BAD_NETWORK)
    process = start("esl-neuro sweep tiny.toml --jobs 2", tmp_path)
    wait_for(lambda: saved(tmp_path) >= 2)
    process.kill()
    _, err = process.communicate(timeout=PATIENCE_S)
    wait_for(lambda: group(process.pid) == [])
    assert err.count("63 inputs") == 1  # printed once, however many runs fail
    assert err.count("failed, for the same reason") == 1
    assert "Traceback" not in err


@pytest.mark.disturbed
def test_a_killed_worker_loses_nothing(tmp_path, straight):
    """Another one continues its run from the last checkpoint, and nobody notices."""
    process = start("esl-neuro sweep tiny.toml --jobs 2", make(tmp_path, epochs=EPOCHS))
    wait_for(lambda: list(tmp_path.glob("runs/tiny/*/metrics.jsonl")))
    begun = next(path.parent for path in tmp_path.glob("runs/tiny/*/metrics.jsonl"))
    (worker,) = [pid for pid in children(process.pid) if str(begun) in opened(pid)]
    os.kill(worker, signal.SIGKILL)
    assert not (begun / "result.json").exists()
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert worker not in group(process.pid)
    lines = err.splitlines()
    assert [line.split()[0] for line in lines if " at a time" not in line] == ["1/4", "2/4", "3/4", "4/4"]
    same_as(straight, tmp_path)


# Interruption.


def saved(folder: Path) -> int:
    return len(list(folder.glob("runs/tiny/*/last.safetensors")))


def same_as(straight: Path, folder: Path) -> None:
    assert weights(folder) == weights(straight)
    for path in straight.glob("*/metrics.jsonl"):
        assert (folder / "runs" / "tiny" / path.parent.name / path.name).read_text() == path.read_text()


@pytest.mark.disturbed
@pytest.mark.parametrize(
    ("jobs", "send"), [(1, os.killpg), (2, os.kill)], ids=["one, to the group", "two, to the parent"]
)
def test_ctrl_c_saves_what_was_begun_and_the_same_command_ends_as_if_nothing_had_happened(
    tmp_path, straight, call, jobs, send
):
    command = f"esl-neuro sweep tiny.toml --jobs {jobs}"
    process = start(command, make(tmp_path, epochs=EPOCHS))
    wait_for(lambda: list(tmp_path.glob("runs/tiny/*/metrics.jsonl")))
    send(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    if TOO_SLOW.decode() not in err:  # a machine so busy that the processes cannot end in time ends the command first
        assert "of 4 runs are done, the others are saved in runs/tiny; continue with the same command\n" in err
        assert err.endswith("esl-neuro: interrupted\n")
    wait_for(lambda: group(process.pid) == [])
    assert '"started"' in call(tmp_path, "esl-neuro sweep tiny.toml --list --json")[1]

    code, _, err = call(tmp_path, "esl-neuro sweep tiny.toml")
    assert code == 0, err
    same_as(straight, tmp_path)


@pytest.mark.disturbed
def test_ctrl_c_before_the_first_run_has_begun_is_quiet(tmp_path):
    process = start("esl-neuro sweep tiny.toml --jobs 2", make(tmp_path))
    wait_for(lambda: len(children(process.pid)) >= 2)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    wait_for(lambda: group(process.pid) == [])


@pytest.fixture(scope="module", autouse=True)
def _needs_ps_and_proc():
    if shutil.which("ps") is None or not Path("/proc/self/task").is_dir():
        pytest.skip("ps or /proc is missing")


def test_a_second_sweep_in_the_same_folder_is_refused(swept, call):
    with FileLock(swept.folder / "runs" / "tiny" / "lock"):
        code, _, errors = call(swept.folder, "esl-neuro sweep ./tiny.toml")
    assert code == 2
    assert (
        errors == "esl-neuro: runs/tiny: another sweep is running in this folder; wait for it, or give another --runs\n"
    )


def test_accuracy_against_energy_is_that_of_the_integers_each_run_exports(swept, call):
    code, out, err = call(swept.folder, "esl-neuro sweep tiny.toml --pareto pareto.pdf --target loihi --json")
    assert code == 0, err
    assert (swept.folder / "pareto.pdf").read_bytes().startswith(b"%PDF")
    document = json.loads(out)
    energy = document.pop("energy")
    assert document == json.loads((swept.folder / "runs" / "tiny" / "summary.json").read_text())
    for density, case in zip(("0.1", "0.5"), energy, strict=True):
        runs = [swept.folder / "runs" / "tiny" / f"density-{density}-seed{seed}" for seed in (0, 1)]
        accuracies = [json.loads((run / "loihi2" / "export.json").read_text())["accuracy"]["integer"] for run in runs]
        assert case["accuracy"] == pytest.approx(sum(accuracies) / 2)
        assert (case["place"], case["target"], case["seeds"], case["covers"]) == (density, "loihi", 2, "chip")
        assert case["energy"]["low_pj"] < case["energy"]["median_pj"] < case["energy"]["high_pj"]
    assert any(case["on_front"] for case in energy)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--width single", "--width would change nothing, because no chart is drawn; add --plot FILE or --pareto FILE"),
        ("--target loihi", "--target and --tick change only the chart of --pareto; add --pareto FILE"),
        ("--pareto a.pdf --target lohi", "did you mean 'loihi'?"),
    ],
)
def test_options_of_charts_are_checked_before_anything_is_trained(tmp_path, call, options, words):
    code, _, err = call(tmp_path, f"esl-neuro sweep digits-density {options}")
    assert code == 2
    assert words in " ".join(err.split())
    assert not (tmp_path / "runs").exists()
