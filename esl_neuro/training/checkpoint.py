"""Checkpoints: tensors in safetensors, everything else in JSON, no pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.optim import Optimizer

from esl_neuro.errors import BadInput
from esl_neuro.sparsity.moments import without_momentum
from esl_neuro.storage import refusing, write

OPTIMIZER = "optimizer"


@dataclass(frozen=True)
class Checkpoint:
    """State of a run at one moment.

    Attributes
    ----------
    tensors : dict of str to Tensor
        Tensors by ``<part>/<name>``, where the part is ``network``, ``optimizer`` or ``learner``.
    progress : dict
        Epoch, batch and running sums; values that JSON represents exactly.
    """

    tensors: dict[str, Tensor]
    progress: dict[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """Return the tensors of one part, by name."""
        prefix = name + "/"
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}

    def save(self, folder: Path, name: str) -> None:
        """Write ``<name>.safetensors`` and ``<name>.json``; an interrupted write keeps the old pair."""
        contiguous = {key: value.detach().contiguous() for key, value in self.tensors.items()}
        write(folder / f"{name}.safetensors", save(contiguous, metadata={"progress": json.dumps(self.progress)}))
        self.save_progress(folder, name)
        for ending in ("safetensors", "json"):  # what a killed process of version 0.1 left behind
            (folder / f"{name}.{ending}.tmp").unlink(missing_ok=True)

    def save_progress(self, folder: Path, name: str) -> None:
        """Write ``<name>.json``, for people; the file of the tensors has the same."""
        write(folder / f"{name}.json", json.dumps(self.progress, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path, name: str) -> Checkpoint:
        """Read a checkpoint.

        Raises
        ------
        BadInput
            If it is missing or damaged.
        """
        from safetensors import safe_open

        path = folder / f"{name}.safetensors"
        if not path.is_file():
            raise BadInput(f"{path}: no such checkpoint; train first with 'esl-neuro train'")
        with refusing(path, "cannot be read"), path.open("rb"):  # safetensors calls every error "No such file"
            pass
        try:
            # Read the copy inside the tensor file, because the two files cannot be replaced atomically.
            with safe_open(str(path), framework="pt") as file:
                progress = json.loads(file.metadata()["progress"])
            return cls(load_file(str(path)), progress)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{path}: the checkpoint is damaged ({error}); train again") from error


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return moments and step counts of an optimiser, named ``<parameter number>/<moment>``."""
    return {
        f"{index}/{key}": value
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def load_optimizer_tensors(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load the moments from :func:`optimizer_tensors` into an optimiser.

    Raises
    ------
    ValueError
        If a parameter has none. Plain gradient descent needs none.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split("/")
        state.setdefault(int(index), {})[key] = value
    parameters = sum(len(group["params"]) for group in optimizer.param_groups)
    nothing_kept = not state and all(without_momentum(group) for group in optimizer.param_groups)
    if len(state) != parameters and not nothing_kept:
        raise ValueError(f"the optimiser state has {len(state)} parameters, expected {parameters}")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
