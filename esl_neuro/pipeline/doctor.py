"""What this installation has and lacks: versions, optional packages with the command for each, folders, data sets."""

from __future__ import annotations

import os
import platform
import tempfile
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from esl_neuro.backends.lava_session import INSTALL, lava_installed
from esl_neuro.data.availability import LAYOUTS, missing_datasets
from esl_neuro.data.datasets import BUILT_IN
from esl_neuro.data.folders import default_folder
from esl_neuro.version import __version__

OK, MISSING, PROBLEM = "ok", "missing", "problem"
REQUIRED = (
    "torch",
    "numpy",
    "scipy",
    "numba",
    "nir",
    "h5py",
    "scikit-learn",
    "safetensors",
    "pydantic",
    "click",
    "rich",
)
# Package, the module that shows that it is installed, what it is for, and the command that installs it.
OPTIONAL = (
    ("matplotlib", "matplotlib", "charts (--plot)", "pip install 'esl-neuro[plots]'"),
    ("pillow", "PIL", "folders of images, 'predict' on an image", "pip install 'esl-neuro[images]'"),
    ("tonic", "tonic", "N-MNIST, AEDAT4 recordings, downloads of event data", "pip install 'esl-neuro[events]'"),
    ("tensorboard", "tensorboard", "train --tensorboard", "pip install 'esl-neuro[tensorboard]'"),
    ("nvidia-ml-py", "pynvml", "energy measure", "pip install 'esl-neuro[gpu]'"),
)


@dataclass(frozen=True)
class Examined:
    """One thing that was looked for.

    Attributes
    ----------
    topic : str
        ``"machine"``, ``"package"``, ``"optional"``, ``"folder"`` or ``"data"``.
    name : str
    state : str
        ``"ok"``, ``"missing"`` (optional, needed for what ``detail`` says) or ``"problem"``.
    detail : str
        Version or place, or what it is for.
    fix : str
        The command or the step that changes it; empty if it is there.
    """

    topic: str
    name: str
    state: str
    detail: str
    fix: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def examine(runs: Path) -> list[Examined]:
    """Return everything that was looked for; nothing heavy is imported but torch, for its build.

    Parameters
    ----------
    runs : Path
        Folder of all runs.
    """
    packages = [_package(name) for name in REQUIRED if name != "torch"]
    return [*_machine(), _torch(), *packages, *map(_optional, OPTIONAL), _lava(), *_folders(runs), *_data()]


def _machine() -> list[Examined]:
    cores = os.cpu_count() or 0
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    processor = _processor()
    return [
        Examined("machine", "esl-neuro", OK, __version__),
        Examined("machine", "python", OK, f"{platform.python_version()}, {platform.platform()}"),
        Examined("machine", "processor", OK, f"{processor}, {usable} of {cores} cores usable"),
    ]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        named = []
    return named[0] if named else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _package(name: str) -> Examined:
    version = _version(name)
    if version is None:
        return Examined("package", name, PROBLEM, "not installed", f"pip install {name}")
    return Examined("package", name, OK, version)


def _torch() -> Examined:
    try:
        import torch
    except Exception as error:  # a broken installation raises anything
        return Examined("package", "torch", PROBLEM, f"cannot be imported ({error})", "docs/installation.md")
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    devices = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return Examined("package", "torch", OK, f"{torch.__version__} ({build}; {', '.join(devices) or 'no GPU'})")


def _optional(entry: tuple[str, str, str, str]) -> Examined:
    package, module, purpose, command = entry
    if find_spec(module) is None:
        return Examined("optional", package, MISSING, f"for {purpose}", command)
    return Examined("optional", package, OK, _version(package) or "installed")


def _lava() -> Examined:
    if lava_installed():
        return Examined("optional", "lava-nc", OK, _version("lava-nc") or "installed")
    return Examined("optional", "lava-nc", MISSING, "for --backend lava; the integer simulator gives the same", INSTALL)


def _folders(runs: Path) -> list[Examined]:
    refusal = _refusal(runs)
    place = str(runs.absolute())
    fix = "give another folder with --runs or ESL_NEURO_RUNS"
    found = Examined("folder", "runs", OK, place)
    if refusal:
        found = Examined("folder", "runs", PROBLEM, f"{place} cannot be written ({refusal})", fix)
    return [found, _compiled()]


def _compiled() -> Examined:
    """Find where numba keeps compiled functions: its variable, beside the package, or the user's cache."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    folders = [Path(given)] if given else [Path(__file__).parents[1], Path.home() / ".cache" / "numba"]
    usable = [folder for folder in folders if not _refusal(folder)]
    if usable:
        return Examined("folder", "compiled code", OK, str(usable[0]))
    fix = "set NUMBA_CACHE_DIR to a folder that can be written"
    return Examined("folder", "compiled code", MISSING, "no folder to keep it, so every command compiles anew", fix)


def _refusal(folder: Path) -> str:
    """Return why a folder, or the one in which it would be made, cannot be written; empty if it can."""
    above = folder
    while not above.exists() and above != above.parent:
        above = above.parent
    try:
        with tempfile.TemporaryFile(dir=above):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _data() -> list[Examined]:
    folder = default_folder().absolute()
    absent = missing_datasets(LAYOUTS)
    origin = {"spike_lags": "generated"}
    found = [Examined("data", name, OK, origin.get(name, "comes with scikit-learn")) for name in BUILT_IN]
    for name in sorted(LAYOUTS):
        if name in absent:
            fix = f"esl-neuro train RECIPE --set data.name={name} --download, or --data FOLDER"
            found.append(Examined("data", name, MISSING, f"not in {folder}", fix))
        else:
            found.append(Examined("data", name, OK, str(folder)))
    return found
