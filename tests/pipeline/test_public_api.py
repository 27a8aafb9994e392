"""The public API: complete, typed, and imported on first use."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import esl_neuro

PACKAGE = Path(esl_neuro.__file__).parent
HEAVY = ("torch", "numpy", "scipy", "numba", "nir", "lava", "pydantic", "click")

PROGRAM = """
import numpy as np

import esl_neuro as esl


def own_inputs(chip: esl.CompiledNetwork) -> esl.Samples:
    return esl.Samples(np.zeros((2, chip.steps, 64)))


run = esl.train("mlp-digits", seed=0)
chip = esl.compile(run, "loihi2")
result = chip.run(esl.test_set(run), backend="lava")
print(chip.findings, chip.utilisation, result.accuracy)
report = esl.energy_report(result, targets=["truenorth", "loihi", "v100-pcie"])
print(report)
folder = chip.save("out")
esl.verify(folder).refuse_difference()
again = esl.load_compiled("out")
print(again.run(own_inputs(again)).spikes["lif1"], esl.load_run("runs/mlp-digits-001").recipe.data.steps)
other = esl.compile(esl.read_nir("model.nir"), esl.load_target("loihi2"), steps=16, inputs=np.ones((1, 16, 64)))
print(esl.compare_energy(result, other.run(np.ones((1, 16, 64)), layout="samples,steps,...")).comparisons)
reveal_type(run)
reveal_type(chip)
reveal_type(result.accuracy)
reveal_type(result.predictions)
reveal_type(report)
"""
REVEALED = (
    '"esl_neuro.pipeline.training.TrainingRun"',
    '"esl_neuro.pipeline.compiled_network.CompiledNetwork"',
    '"float | None"',
    "numpy.ndarray",
    '"esl_neuro.energy.report.EnergyReport"',
)


def test_importing_the_package_loads_nothing_and_takes_less_than_150_ms():
    script = (
        "import sys, time; started = time.perf_counter(); import esl_neuro; "
        f"print(time.perf_counter() - started, sorted({set(HEAVY)!r} & set(sys.modules)))"
    )
    ran = [subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True) for _ in range(3)]
    seconds, loaded = zip(*(each.stdout.split(maxsplit=1) for each in ran), strict=True)
    assert {each.strip() for each in loaded} == {"[]"}
    assert min(map(float, seconds)) < 0.15


def test_every_public_name_is_there():
    for name in esl_neuro.__all__:
        assert getattr(esl_neuro, name).__doc__, name
    assert sorted(esl_neuro._HOMES) == sorted(esl_neuro.__all__)
    assert set(esl_neuro.__all__) <= set(dir(esl_neuro))


def test_no_public_name_is_that_of_a_module():
    modules = {path.stem for path in PACKAGE.iterdir()}
    assert not modules & set(esl_neuro.__all__), "importing the module would replace the name"


def test_another_name_is_refused():
    with pytest.raises(AttributeError, match="has no attribute 'compil'"):
        _ = esl_neuro.compil


def test_the_package_is_marked_as_typed():
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed")
def test_user_code_passes_mypy_strict(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = true\nfollow_imports = silent\n", encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", str(tmp_path / "mypy.ini"), str(tmp_path / "program.py")]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert [line for line in lines if "error:" in line] == [], done.stdout
    revealed = [line for line in lines if "Revealed type" in line]
    assert len(revealed) == len(REVEALED), done.stdout + done.stderr
    for line, kind in zip(revealed, REVEALED, strict=True):
        assert kind in line
        assert "Any" not in line.replace("tuple[Any, ...]", "")
