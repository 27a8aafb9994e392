"""The benchmark of a million neurons compares networks of the same memory."""

from __future__ import annotations

import subprocess
import sys
from ast import literal_eval
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from itertools import pairwise

import pytest

from esl_neuro.recipes import load_recipe
from esl_neuro.snn.notation import parse_layers
from system.command_workspace import REPOSITORY

SCRIPT = REPOSITORY / "benchmarks" / "million_neurons.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = spec_from_loader("million_neurons", SourceFileLoader("million_neurons", str(SCRIPT)))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("neurons", "data"), [(250_000, "mnist"), (500, "digits")])
def test_both_networks_have_the_same_memory(benchmark, tmp_path, neurons, data):
    sizes = {}
    for name, text in benchmark.recipes(neurons, data, 100, 1).items():
        (tmp_path / f"{name}.toml").write_text(text)
        recipe = load_recipe(str(tmp_path / f"{name}.toml"))
        sizes[name] = [layer.neurons for layer in parse_layers(recipe.network.notation)]
    inputs, *hidden, classes = sizes["million-neurons"]
    connections = sum(min(32, before) * here for before, here in pairwise([inputs, *hidden]))
    wide = sizes["same-memory"]
    weights = sum(before * here for before, here in pairwise(wide))
    assert sum(hidden) + classes == 4 * neurons + 10
    assert 16 * weights == pytest.approx(28 * (connections + hidden[-1] * classes), rel=0.01)


def test_times_and_memory_are_those_of_the_program(benchmark, tmp_path):
    code = "import time\nheld = bytearray(200_000_000)\nwhile time.process_time() < 0.3: pass\nprint('done')"
    # In a process of its own, as the benchmark is: the peak of a child begins with the memory of its parent.
    measure = f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); from million_neurons import measured"
    program = f"{measure}\nimport pathlib\nprint(measured(['-c', {code!r}], pathlib.Path({str(tmp_path)!r})))"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    found = literal_eval(printed)
    assert found["printed"] == "done\n"
    assert found["wall_s"] + 0.1 >= found["processor_s"] >= 0.3
    assert 200 < found["peak_mb"] < 400
    with pytest.raises(RuntimeError, match="failed"):
        benchmark.measured(["-c", "raise SystemExit(3)"], tmp_path)


def test_it_says_what_it_takes():
    said = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, check=True).stdout
    assert "--neurons" in said
    assert "--time" not in said
