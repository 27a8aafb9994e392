"""The folder of a training run: its files and its name. No torch here.

``config.toml`` (the recipe as resolved), ``environment.json``, ``metrics.jsonl`` (a line per epoch),
``structure.jsonl`` (a line per layer and update of its connections), ``connections.jsonl`` (pictures of the connections
of each layer at a few moments), ``cores.json`` (how the layers are divided over the cores of a chip, of a run with a
budget of them), ``last.*`` and ``best.*`` (checkpoints), ``result.json`` (written when the run is complete).
"""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

from esl_neuro.errors import BadInput
from esl_neuro.formats import other_version, read_quietly
from esl_neuro.launch import launch
from esl_neuro.recipes import Recipe, load_recipe, save_recipe
from esl_neuro.storage import Lock, append, create_folder, remove_unfinished, write
from esl_neuro.version import __version__

SCHEMA = 1  # of the folder as a whole: recipe, logs, checkpoints, result
PACKAGES = ("torch", "numpy", "scipy", "nir", "scikit-learn", "safetensors", "lava-nc", "lava-dl")


LONGEST_NUMBER = 10  # digits of the number of a run


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run.

    Attributes
    ----------
    path : Path
        The folder.
    allow_code : bool
        Consent to code that its recipe names; see :mod:`~esl_neuro.recipes.consent`.
    """

    path: Path
    allow_code: bool = False

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
    def connections(self) -> Path:
        """One JSON object per line: a picture of a layer's connections."""
        return self.path / "connections.jsonl"

    @property
    def histories(self) -> tuple[Path, ...]:
        """Files that grow while a run trains."""
        return self.metrics, self.structure, self.connections

    @property
    def result(self) -> Path:
        """Final figures."""
        return self.path / "result.json"

    @property
    def last(self) -> Path:
        """Tensors of the last checkpoint."""
        return self.path / "last.safetensors"

    def begin_again(self, recipe: Recipe) -> RunFolder:
        """Empty the histories of a run that ended before it saved anything, and write its settings."""
        for history in self.histories:
            history.unlink(missing_ok=True)
        write_settings(self.path, recipe)
        return self

    @property
    def cores(self) -> Path:
        """How the layers are divided over the cores of a chip, of a run with a budget of cores."""
        return self.path / "cores.json"

    def recipe(self) -> Recipe:
        """Read the recipe of the run.

        Raises
        ------
        BadInput
            If the folder is not a run, its recipe names code without consent, or another version wrote it in a form
            that this one does not read.
        """
        stated = read_quietly(self.path / "environment.json")
        schema = stated.get("run_schema", SCHEMA) if isinstance(stated, dict) else SCHEMA  # 0.1.0 does not state it
        if schema != SCHEMA:
            raise other_version(self.path, self.path, "run", schema, (SCHEMA,), "train again")
        if not self.config.is_file():
            raise BadInput(f"{self.path}: not a run ({self.config.name} is missing); create one with 'esl-neuro train'")
        return load_recipe(str(self.config), allow_code=self.allow_code)

    def lock(self) -> Lock:
        """Let only this process train the run, until the lock is released.

        Raises
        ------
        BadInput
            If another process trains it.
        """
        return Lock(self.path, "another process is training this run; wait for it, or end it")

    def append_metrics(self, entry: dict[str, Any]) -> None:
        """Add one line to the metrics."""
        append(self.metrics, json.dumps(entry))

    def append_structure(self, entry: dict[str, Any]) -> None:
        """Add one line to the history of the structure."""
        append(self.structure, json.dumps(entry))

    def append_connections(self, entry: dict[str, Any]) -> None:
        """Add one line to the pictures of the connections."""
        append(self.connections, json.dumps(entry))

    def keep_metrics(self, epochs: int) -> None:
        """Delete the log after the given number of epochs, before these are repeated.

        Raises
        ------
        BadInput
            If a line before the last is damaged.
        """
        _keep(self.metrics, "epoch", epochs)

    def keep_structure(self, iterations: int) -> None:
        """Delete the log after the given number of iterations; see :meth:`keep_metrics`."""
        _keep(self.structure, "iteration", iterations)

    def keep_connections(self, iterations: int) -> None:
        """Delete the pictures after the given number of iterations; see :meth:`keep_metrics`."""
        _keep(self.connections, "iteration", iterations, first=0)


def _keep(path: Path, counter: str, last: int, first: int = 1) -> None:
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.splitlines()
    counts = [_count(line, counter) for line in lines]
    if counts and counts[-1] is None and not text.endswith("\n"):  # the run was killed while it wrote its last line
        counts.pop()
    for number, (before, this) in enumerate(zip([0, *counts], counts, strict=False), start=1):
        if this is None or before is None or this < max(first, before):
            raise BadInput(
                f"{path}: line {number} is damaged ({counter} must be a whole number, and not below that of the line "
                "before); delete the file to continue without this history, or train again"
            )
    kept = [line + "\n" for line, this in zip(lines, counts, strict=False) if this is not None and this <= last]
    write(path, "".join(kept))


def _count(line: str, counter: str) -> int | None:
    try:
        value = json.loads(line)[counter]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def create_run_folder(root: Path, recipe: Recipe) -> RunFolder:
    """Create the next free ``<root>/<recipe name>-NNN``; it appears with its config and environment.

    What killed processes left unfinished in earlier runs of the recipe is removed.

    Raises
    ------
    BadInput
        If it cannot be written.
    """
    numbers = {path: _number(path.name, recipe.name) for path in root.iterdir()} if root.is_dir() else {}
    for earlier in (path for path, number in numbers.items() if number):
        remove_unfinished(earlier)
    first = 1 + max(numbers.values(), default=0)
    names = (f"{recipe.name}-{number:03d}" for number in count(first))
    folder = create_folder(root, names, partial(write_settings, recipe=recipe))
    return RunFolder(folder, allow_code=True)  # the recipe is loaded already


def folder_of_launch(root: Path, recipe: Recipe) -> RunFolder | None:
    """Return the folder that this launch of torchrun made for a recipe before it was restarted, None without one."""
    here = launch()
    if not (here.restarts and root.is_dir()):
        return None
    for path in sorted(root.iterdir(), key=lambda path: -_number(path.name, recipe.name)):
        stated = read_quietly(path / "environment.json") if _number(path.name, recipe.name) else None
        if isinstance(stated, dict) and stated.get("launch") == here.name:
            folder = RunFolder(path, allow_code=True)  # the recipe is loaded already
            if folder.recipe().training.seed == recipe.training.seed:
                return folder
    return None


def write_settings(folder: Path, recipe: Recipe) -> None:
    """Write the config and the environment of a run."""
    save_recipe(recipe, RunFolder(folder).config)
    write(folder / "environment.json", json.dumps(environment(), indent=2) + "\n")


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
        "processes_of_run": launch().processes,
        "launch": launch().name,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _number(folder: str, recipe: str) -> int:
    suffix = folder.removeprefix(recipe + "-")
    return int(suffix) if suffix != folder and suffix.isdecimal() and len(suffix) < LONGEST_NUMBER else 0
