"""The folder of a training run: its files and its name. No torch here.

``config.toml`` (the recipe as resolved), ``environment.json``, ``metrics.jsonl`` (a line per epoch),
``structure.jsonl`` (a line per layer and update of its connections), ``last.*`` and ``best.*`` (checkpoints),
``result.json`` (written when the run is complete).
"""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from esl_neuro.errors import BadInput
from esl_neuro.formats import other_version, read_quietly
from esl_neuro.recipes import Recipe, load_recipe, save_recipe
from esl_neuro.version import __version__

SCHEMA = 1  # of the folder as a whole: recipe, logs, checkpoints, result
PACKAGES = ("torch", "numpy", "scipy", "nir", "scikit-learn", "safetensors", "lava-nc", "lava-dl")


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """Recipe as resolved; ``esl-neuro train`` with this path repeats the run."""
        return self.path / "config.toml"

    @property
    def metrics(self) -> Path:
        """One JSON object per line, one line per epoch."""
        return self.path / "metrics.jsonl"

    @property
    def structure(self) -> Path:
        """One JSON object per line: the update of a layer's structure."""
        return self.path / "structure.jsonl"

    @property
    def result(self) -> Path:
        """Final figures."""
        return self.path / "result.json"

    def recipe(self) -> Recipe:
        """Read the recipe of the run.

        Raises
        ------
        BadInput
            If the folder is not a run, or another version wrote it in a form that this one does not read.
        """
        stated = read_quietly(self.path / "environment.json")
        schema = stated.get("run_schema", SCHEMA) if isinstance(stated, dict) else SCHEMA  # 0.1.0 does not state it
        if schema != SCHEMA:
            raise other_version(self.path, self.path, "run", schema, (SCHEMA,), "train again")
        if not self.config.is_file():
            raise BadInput(f"{self.path}: not a run ({self.config.name} is missing); create one with 'esl-neuro train'")
        return load_recipe(str(self.config))

    def append_metrics(self, entry: dict[str, Any]) -> None:
        """Add one line to the metrics."""
        _append(self.metrics, entry)

    def append_structure(self, entry: dict[str, Any]) -> None:
        """Add one line to the history of the structure."""
        _append(self.structure, entry)

    def keep_metrics(self, epochs: int) -> None:
        """Delete the log after the given number of epochs, before these are repeated."""
        _keep(self.metrics, "epoch", epochs)

    def keep_structure(self, iterations: int) -> None:
        """Delete the log after the given number of iterations, before these are repeated."""
        _keep(self.structure, "iteration", iterations)


def _append(path: Path, entry: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def _keep(path: Path, counter: str, last: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:  # the run was killed while it wrote its last line
            break
        if entry[counter] <= last:
            kept.append(line + "\n")
    write_atomically(path, "".join(kept))


def create_run_folder(root: Path, recipe: Recipe) -> RunFolder:
    """Create the next free ``<root>/<recipe name>-NNN``, and write config and environment to it."""
    root.mkdir(parents=True, exist_ok=True)
    number = 1 + max((_number(path.name, recipe.name) for path in root.iterdir()), default=0)
    while True:
        folder = RunFolder(root / f"{recipe.name}-{number:03d}")
        try:
            folder.path.mkdir()
            break
        except FileExistsError:  # created by another process
            number += 1
    save_recipe(recipe, folder.config)
    (folder.path / "environment.json").write_text(json.dumps(environment(), indent=2) + "\n", encoding="utf-8")
    return folder


def environment() -> dict[str, Any]:
    """Return the versions of everything that can change a result, and the command line."""
    return {
        "esl_neuro": __version__,
        "run_schema": SCHEMA,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "packages": {package: _version(package) for package in PACKAGES},
        "command": ["esl-neuro", *sys.argv[1:]],
    }


def write_atomically(path: Path, text: str) -> None:
    """Replace a file atomically, so that a reader or a crash never finds a partial file."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _number(folder: str, recipe: str) -> int:
    suffix = folder.removeprefix(recipe + "-")
    return int(suffix) if suffix != folder and suffix.isdigit() else 0
