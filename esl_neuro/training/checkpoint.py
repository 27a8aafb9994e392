"""Checkpoints: tensors in safetensors, everything else in JSON, no pickle."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.optim import Optimizer

from esl_neuro.errors import BadInput
from esl_neuro.reading.documents import reason
from esl_neuro.reading.names import printable
from esl_neuro.sparsity.moments import without_momentum
from esl_neuro.storage import refusing, write

OPTIMIZER = "optimizer"
NOT_FINITE = "has values that are not finite numbers"
SHOWN = 3  # differences in one message
STEP, MOST_STEPS = "step", 2**31 - 1
ADAM, SGD = {STEP, "exp_avg", "exp_avg_sq"}, {"momentum_buffer"}  # what torch's optimisers keep for a parameter


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
        problem = f"{path}: the checkpoint is damaged"
        if not path.is_file():
            raise BadInput(f"{path}: no such checkpoint; train first with 'esl-neuro train'")
        with refusing(path, "cannot be read"), path.open("rb"):  # safetensors calls every error "No such file"
            pass
        try:
            # Read the copy inside the tensor file, because the two files cannot be replaced atomically.
            with safe_open(str(path), framework="pt") as file:
                progress = json.loads(file.metadata()["progress"])
            tensors = load_file(str(path))
        except (SafetensorError, KeyError, TypeError, ValueError, RecursionError, OSError) as error:
            raise BadInput(f"{problem} ({reason(error)}); train again") from error
        if not isinstance(progress, dict):
            raise BadInput(f"{problem} (its progress is a {type(progress).__name__}); train again")
        return cls(tensors, progress)


def refuse_misfit(
    given: Mapping[str, Tensor], expected: Mapping[str, Tensor], any_length: Collection[str] = ()
) -> None:
    """Reject tensors that do not have the names and shapes of others, or hold NaN or an infinity.

    Compiled loops run over the tensors of a parameter together, and ``copy_`` repeats a smaller tensor. Tensors in
    ``any_length`` may have any shape; whoever loads them checks it.

    Raises
    ------
    ValueError
        With all differences.
    """
    names = sorted((given.keys() | expected.keys()) - {name for name in any_length if name in given})
    findings = [
        f"{printable(name)} has shape {_shape(given, name)}, expected {_shape(expected, name)}"
        for name in names
        if _shape(given, name) != _shape(expected, name)
    ]
    findings += [
        f"{printable(name)} {NOT_FINITE}" for name, tensor in given.items() if not torch.isfinite(tensor).all()
    ]
    if findings:
        more = f" and {len(findings) - SHOWN} more" if len(findings) > SHOWN else ""
        raise ValueError("; ".join(findings[:SHOWN]) + more)


def _shape(tensors: Mapping[str, Tensor], name: str) -> str:
    return str(tuple(tensors[name].shape)) if name in tensors else "none"


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

    Compiled loops run over a parameter and its moments together, so each parameter must have all of them, in its shape.

    Raises
    ------
    ValueError
        If a parameter lacks a moment, or one has another shape or a value that cannot be. Plain gradient descent needs
        none.
    """
    state: dict[int, dict[str, Tensor]] = {}
    shapes = [parameter.shape for group in optimizer.param_groups for parameter in group["params"]]
    for name, value in tensors.items():
        index, key = name.split("/")
        expected = None if not 0 <= int(index) < len(shapes) else torch.Size(()) if key == STEP else shapes[int(index)]
        if value.shape != expected:
            raise ValueError(f"the optimiser state {printable(name)} has shape {tuple(value.shape)}")
        if not torch.isfinite(value).all():
            raise ValueError(f"the optimiser state {printable(name)} {NOT_FINITE}")
        if key == STEP and not 1 <= value <= MOST_STEPS:
            raise ValueError(f"the optimiser state {printable(name)} is {float(value):g}, allowed: 1 to {MOST_STEPS:,}")
        state.setdefault(int(index), {})[key] = value
    parameters = len(shapes)
    if not state and all(without_momentum(group) for group in optimizer.param_groups):
        parameters = 0
    if len(state) != parameters:
        raise ValueError(f"the optimiser state has {len(state)} parameters, expected {parameters}")
    wanted = ADAM if "betas" in optimizer.defaults else SGD
    for number, kept in state.items():
        if kept.keys() != wanted:
            raise ValueError(
                f"the optimiser state {number} has {', '.join(sorted(map(printable, kept)))}; expected "
                f"{', '.join(sorted(wanted))}"
            )
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
