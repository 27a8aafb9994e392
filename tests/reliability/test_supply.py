"""Everything installed is pinned with hashes and free of the GPL, and the wheel is the same bytes every time."""

from __future__ import annotations

import re
import runpy
import shutil
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from esl_neuro.interchange import readers
from esl_neuro.version import __version__

ROOT = Path(__file__).parents[2]
LOCKS = sorted([*(ROOT / "locks").glob("*.lock"), *readers.LOCKS.glob("*.lock")])
PINS = {"build": readers.BUILD, "shared": readers.SHARED, **readers.READERS}


def pinned(path):
    """The pins of a lock, each with its hashes."""
    found = {}
    for entry in re.split(r"\n(?=[a-z0-9])", path.read_text()):
        first = re.match(r"([A-Za-z0-9_.-]+==[^ \n;\\]+)", entry)
        if first:
            found[first[1]] = re.findall(r"--hash=sha256:[0-9a-f]{64}", entry)
    return found


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_package_of_a_lock_has_hashes_and_no_address(path):
    found = pinned(path)
    assert found
    assert all(found.values())
    assert "://" not in path.read_text()


@pytest.mark.parametrize("name", PINS)
def test_the_lock_of_a_reader_has_its_pins(name):
    """After a change of the pins, `make lock` writes the locks anew."""
    assert sorted(pinned(readers.LOCKS / f"{name}.lock")) == sorted(PINS[name])


def test_readers_are_installed_by_hash_alone(tmp_path, monkeypatch):
    """Each pip command requires hashes, but for torch, and builds with tools that were installed by hash."""
    asked = []
    monkeypatch.setattr(
        readers, "_run_or_explain", lambda command, *_, builders=None: asked.append((command, builders))
    )
    monkeypatch.setattr(readers, "_find_python", lambda: sys.executable)
    for name in (*PINS, "python"):  # what the commands would have made
        (tmp_path / name).mkdir()
    monkeypatch.setattr(readers.shutil, "rmtree", lambda *_, **__: None)
    readers.install(tmp_path, say=lambda _: None)
    pips = [(command[4:], builders) for command, builders in asked if "pip" in command]
    plain = [command for command, _ in pips if "--require-hashes" not in command]
    assert plain == [["--quiet", "--no-deps", readers.TORCH]]
    assert len(pips) == 1 + len(PINS)
    assert all(builders == tmp_path / "build" for _, builders in pips)
    assert all(
        "--no-build-isolation" in command for command, _ in pips if any(name in command[-1] for name in readers.READERS)
    )


# Licences.

REPORT = runpy.run_path(str(ROOT / "scripts" / "core-install"), run_name="report")


def test_no_package_that_is_always_installed_is_under_the_gpl():
    found = REPORT["installed"]("esl-neuro")
    assert {"numpy", "torch", "h5py"} <= found.keys()
    assert [name for name, package in found.items() if REPORT["copyleft"](REPORT["licence"](package))] == []


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("GPL-3.0-only", True),
        ("GNU General Public License v3 (GPLv3)", True),
        ("AGPL-3.0-or-later", True),
        ("GNU Affero General Public License v3", True),
        ("LGPL-2.1-or-later", False),
        ("GNU Lesser General Public License v3 (LGPLv3)", False),
        ("MPL-2.0 AND MIT", False),
        ("BSD-3-Clause AND GPL-3.0-or-later WITH GCC-exception-3.1", False),
        ("Apache-2.0", False),
        ("not stated", False),
    ],
)
def test_copyleft_is_told_from_weaker_licences_and_runtime_exceptions(licence, expected):
    assert REPORT["copyleft"](licence) == expected


def test_packages_under_the_gpl_are_extras_that_say_so():
    requirements = distribution("esl-neuro").requires or []
    for name in ("tonic",):
        assert all("extra ==" in line for line in requirements if line.startswith(name))


# The release.

RELEASE = runpy.run_path(str(ROOT / "scripts" / "release-check"), run_name="release")


def sources(folder):
    """A copy of what a wheel is built from, with other times and modes."""
    for name in ("esl_neuro", "hw_targets", "models", "reproductions", "searches", "sweeps"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return RELEASE["disturbed"](folder)


def test_the_wheel_is_the_same_bytes_every_time_and_from_the_sdist(tmp_path):
    try:
        distribution("hatchling")
    except PackageNotFoundError:
        pytest.skip("hatchling is not installed")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    source = sources(tmp_path / "source")
    sdist = RELEASE["build"](source, "sdist", tmp_path / "one")
    wheel = RELEASE["build"](source, "wheel", tmp_path / "one")
    again = RELEASE["build"](RELEASE["unpacked"](sdist, tmp_path / "unpacked"), "wheel", tmp_path / "two", "Asia/Tokyo")
    assert RELEASE["same"](wheel, again)
    assert wheel.name == f"esl_neuro-{__version__}-py3-none-any.whl"
    assert RELEASE["wrong_metadata"](wheel) == []


def test_files_that_differ_are_named(tmp_path):
    for name, content in (("a", "1"), ("b", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.whl").write_text(content)
    with pytest.raises(SystemExit, match="differ"):
        RELEASE["same"](tmp_path / "a" / "x.whl", tmp_path / "b" / "x.whl")


def test_the_documents_name_the_version_of_the_code():
    assert RELEASE["wrong_words"](ROOT, __version__) == []
    assert len(RELEASE["wrong_words"](ROOT, "9.9.9")) == 2
