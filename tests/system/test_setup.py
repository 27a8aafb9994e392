"""The set-up: the commands of the README, the lock, the search for Python, and the contents of the wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path

import pytest

from esl_neuro.resources import resource_folder, resource_names

ROOT = Path(__file__).resolve().parents[2]
SH = shutil.which("sh") or "sh"
README_COMMANDS = ["make quickstart", "make test"]
THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def run_script(path: Path, *arguments: str, search: list[Path], home: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell script that can see nothing but the folders of ``search`` and an empty home."""
    environment = {"PATH": os.pathsep.join(map(str, search)), "HOME": str(home)}
    return subprocess.run([SH, str(path), *arguments], env=environment, capture_output=True, text=True, timeout=60)


LOCKS = sorted((ROOT / "locks").glob("*.lock"))


def lock_entries(name: str) -> list[str]:
    text = (ROOT / "locks" / f"{name}.lock").read_text()
    return re.split(r"\n(?=[^ #\n])", re.sub(r"\A(#.*\n)+", "", text))


def test_readme_opens_with_the_two_commands() -> None:
    block = re.search(r"^```\w*\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert block is not None
    commands = [line.split("#")[0].strip() for line in block.group(1).splitlines()]
    assert [command for command in commands if command.startswith("make ")][:2] == README_COMMANDS


@pytest.mark.parametrize("command", README_COMMANDS)
def test_ci_runs_the_readme_commands(command: str) -> None:
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_lock_pins_every_package_with_hashes_and_holds_no_address(path: Path) -> None:
    for entry in lock_entries(path.stem):
        assert re.match(r"[a-z0-9-]+==\S+ ", entry), entry
        assert "--hash=sha256:" in entry, entry
    text = path.read_text()
    assert "://" not in text
    assert "index" not in text
    assert not re.search(r"\s/\w", text), "a machine's path"


def pins(lock: str) -> dict[str, list[str]]:
    """Versions by package: several where they depend on Python."""
    found: dict[str, list[str]] = {}
    for entry in lock_entries(lock):
        name, version = entry.split(" ")[0].split("==")
        found.setdefault(name, []).append(version)
    return found


def test_the_environment_is_locked_for_every_python_but_for_torch_which_is_pinned() -> None:
    environment = pins("environment")
    assert {"nir", "tonic", "click", "pytest", "hatchling", "uv", "pip", "asteval", "networkx"} <= set(environment)
    assert all(version.startswith("2.") for version in environment["numpy"])
    assert len(environment["numpy"]) > 1, "one version for each range of Pythons"
    assert "torch" not in environment
    assert not [name for name in environment if name.startswith(("nvidia-", "cuda-"))]
    assert re.search(r"^torch==\d", (ROOT / "locks" / "torch.txt").read_text(), re.MULTILINE)
    assert pins("lava") == {"lava-nc": ["0.10.0"]}


def test_what_torch_needs_is_in_the_lock() -> None:
    needed = [re.split(r"[^\w-]", line)[0].lower() for line in requires("torch") or [] if "extra ==" not in line]
    light = [name for name in needed if not name.startswith(("nvidia", "cuda", "triton"))]
    assert light
    assert set(light) <= set(pins("environment"))


def test_the_loader_of_net_files_has_what_it_declares() -> None:
    oracle = pins("lava-dl")
    assert oracle["lava-dl"] == ["0.6.0"]
    assert oracle["torch"][0].startswith("2.3.")


def test_find_python_names_what_to_install_when_there_is_none(tmp_path: Path) -> None:
    found = run_script(ROOT / "scripts" / "find-python", "3.10", search=[tmp_path], home=tmp_path)
    assert found.returncode == 1
    assert found.stdout == ""
    assert len(found.stderr.splitlines()) == 1
    assert "Python 3.10" in found.stderr
    assert "install" in found.stderr


def test_find_python_takes_the_first_wanted_version_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "python3").write_text(f"#!/bin/sh\nexec '{sys.executable}' \"$@\"\n")
    (tmp_path / "python3").chmod(0o755)
    found = run_script(ROOT / "scripts" / "find-python", "3.99", THIS_PYTHON, search=[tmp_path], home=tmp_path)
    assert found.returncode == 0, found.stderr
    without = run_script(ROOT / "scripts" / "find-python", "3.98", "3.99", search=[tmp_path], home=tmp_path)
    assert without.returncode == 1
    assert "no Python 3.98, 3.99 found" in without.stderr


def test_set_up_refuses_a_python_that_is_not_supported(tmp_path: Path) -> None:
    checkout = copy_of_the_set_up(tmp_path)
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\necho 'set-up: PYTHON is Python 3.9; 3.10 to 3.13 are supported' >&2\nexit 1\n")
    old.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHON": str(old)}
    done = subprocess.run(
        [SH, str(checkout / "scripts" / "setup")], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "3.10 to 3.13 are supported" in done.stderr


def copy_of_the_set_up(folder: Path) -> Path:
    checkout = folder / "a checkout"
    shutil.copytree(ROOT / "locks", checkout / "locks")
    (checkout / "scripts").mkdir()
    for name in ("pyproject.toml", "scripts/setup", "scripts/find-python"):
        shutil.copy2(ROOT / name, checkout / name)
    return checkout


def test_set_up_names_what_to_install_when_there_is_no_python(tmp_path: Path) -> None:
    checkout, tools = copy_of_the_set_up(tmp_path), tmp_path / "tools"
    tools.mkdir()
    for name in ("awk", "cat", "cksum", "mkdir", "mktemp", "mv", "rm", "sed", "sh"):
        (tools / name).symlink_to(shutil.which(name) or pytest.skip(f"no {name} here"))
    done = run_script(checkout / "scripts" / "setup", search=[tools], home=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "install" in done.stderr


def test_find_python_passes_over_one_that_does_not_run(tmp_path: Path) -> None:
    broken, good = tmp_path / "broken", tmp_path / "a good one"
    for folder in (broken, good):
        folder.mkdir()
    name = f"python{THIS_PYTHON}"
    (broken / name).write_text("#!/bin/sh\necho 'version is not set' >&2\nexit 127\n")
    (good / name).write_text(f"#!/bin/sh\nexec '{sys.executable}' \"$@\"\n")
    for folder in (broken, good):
        (folder / name).chmod(0o755)
    found = run_script(ROOT / "scripts" / "find-python", THIS_PYTHON, search=[broken, good], home=tmp_path)
    assert found.returncode == 0, found.stderr
    printed = Path(found.stdout.strip())
    assert printed.exists()
    if sys.prefix != sys.base_prefix:
        assert not printed.is_relative_to(sys.prefix), "the interpreter of a virtual environment may go with it"


def test_find_python_finds_pyenv_versions(tmp_path: Path) -> None:
    python = tmp_path / ".pyenv" / "versions" / f"{THIS_PYTHON}.99" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\nexec '{sys.executable}' \"$@\"\n")
    python.chmod(0o755)
    assert run_script(ROOT / "scripts" / "find-python", THIS_PYTHON, search=[], home=tmp_path).returncode == 0


def test_python_version_file_agrees() -> None:
    wanted = (ROOT / ".python-version").read_text().strip()
    assert f"set -- {wanted} " in (ROOT / "scripts" / "find-python").read_text(), "the one that is looked for first"


def test_wheel_holds_one_package_with_the_data_files(tmp_path: Path) -> None:
    if find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"esl_neuro"}
    assert "esl_neuro/py.typed" in names or not (ROOT / "esl_neuro" / "py.typed").exists()
    for kind in ("hw_targets", "models", "reproductions", "sweeps"):
        shipped = sorted(path.name for path in (ROOT / kind).rglob("*") if path.is_file())
        assert shipped
        assert sorted(Path(name).name for name in names if name.startswith(f"esl_neuro/{kind}/")) == shipped
    assert {"esl_neuro/hw_targets/loihi2.toml", "esl_neuro/models/mlp-digits.toml"} <= set(names)


@pytest.mark.parametrize("kind", ["hw_targets", "models", "reproductions", "sweeps"])
def test_the_installed_package_finds_the_files_of_the_checkout(kind: str) -> None:
    assert resource_names(kind) == sorted(path.stem for path in (ROOT / kind).glob("*.toml"))
    for name in resource_names(kind):
        assert (resource_folder(kind) / f"{name}.toml").read_bytes() == (ROOT / kind / f"{name}.toml").read_bytes()
