"""The folder of an export: the NIR graph, the integer program, and what is needed to run and check them. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.compiler.program import Program
from esl_neuro.data import Dataset, prepare
from esl_neuro.data.inputs import evaluation_inputs
from esl_neuro.errors import BadInput
from esl_neuro.recipes.sections import DataSection

SCHEMA = 1
DOCUMENT = "export.json"
# The first test samples with every spike, current and potential: a proof that travels with the network.
GOLDEN = "golden.h5"


@dataclass(frozen=True)
class Bundle:
    """An export, read.

    Attributes
    ----------
    folder : Path
        Holds ``model.nir``, ``program.json``, ``program.safetensors`` and ``export.json``.
    program : Program
        The integer program.
    data : DataSection
        Data set and encoding that the network was trained for.
    document : dict
        All of ``export.json``: origin, quantisation errors, accuracies.
    """

    folder: Path
    program: Program
    data: DataSection
    document: dict[str, Any]

    @property
    def graph_path(self) -> Path:
        """Path of the NIR graph."""
        return self.folder / "model.nir"

    def test_inputs(self, samples: int | None) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Inputs and labels of the first test samples (of all if ``samples`` is None).

        Raises
        ------
        BadInput
            If the test set has fewer samples.
        """
        dataset = prepare(self.data)
        test = dataset.test
        if samples is not None and samples > len(test):
            raise BadInput(f"--samples {samples}: the test set of '{self.data.name}' has {len(test)} samples")
        inputs = program_inputs(dataset, self.data, self.program, self.document.get("input_steps"))
        return inputs[:samples], test.labels[:samples]


def program_inputs(
    dataset: Dataset, data: DataSection, program: Program, input_steps: Sequence[int] | None = None
) -> NDArray[Any]:
    """Return the inputs of the whole test part as the program takes them.

    Parameters
    ----------
    dataset, data : Dataset, DataSection
        The data and how they are encoded.
    program : Program
        The program.
    input_steps : sequence of int, optional
        Step of the program in which each step of the encoding arrives, where the program has more steps.

    Returns
    -------
    uint8 or int32 array, shape (samples, steps, input lines)
        0 or 1; for a graded encoding the payloads ``round(input_scale * value)``.

    Raises
    ------
    BadInput
        If a value is negative or too large for the payload of the program's input.
    """
    values = evaluation_inputs(dataset, dataset.test, data.encoding, data.steps)
    arriving = payloads(values.reshape(*values.shape[:2], -1), program)
    if input_steps is None:
        return arriving
    spread = np.zeros((len(arriving), program.steps, arriving.shape[2]), arriving.dtype)
    spread[:, list(input_steps)] = arriving
    return spread


def payloads(values: NDArray[Any], program: Program) -> NDArray[Any]:
    """Round graded values to the payloads of a program's input; 0/1 spikes stay as they are.

    Raises
    ------
    BadInput
        If a value is negative or too large for the payload.
    """
    largest = 2**program.input_bits - 1
    rounded = np.rint(values * program.input_scale) if program.input_bits > 1 else values
    if rounded.size and not (rounded.min() >= 0 and rounded.max() <= largest):
        raise BadInput(
            f"inputs reach from {values.min():g} to {values.max():g}; with input_scale {program.input_scale:g} the "
            f"payload of {program.input_bits} bits holds 0 to {largest / program.input_scale:g}"
        )
    return rounded.astype(np.uint8 if largest <= 255 else np.int32)


def begin_bundle(folder: Path) -> None:
    """Make the folder of an export; until :func:`write_bundle` completes it, nothing takes it for one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DOCUMENT).unlink(missing_ok=True)


def write_bundle(folder: Path, program: Program, data: DataSection, document: dict[str, Any]) -> Bundle:
    """Write the program and ``export.json`` beside the NIR graph; ``export.json`` comes last and completes it."""
    program.save(folder)
    complete = {"schema": SCHEMA, "data": data.model_dump(), **document}
    (folder / DOCUMENT).write_text(json.dumps(complete, indent=2) + "\n", encoding="utf-8")
    return Bundle(folder, program, data, complete)


def read_bundle(folder: Path) -> Bundle:
    """Read an export.

    Raises
    ------
    BadInput
        If the folder is no complete export, or of another schema.
    """
    path = folder / DOCUMENT
    if not path.is_file():
        raise BadInput(f"{folder}: not an export ({path.name} is missing); make one with 'esl-neuro export'")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        schema = document["schema"]
        if schema != SCHEMA:
            raise BadInput(f"{path}: schema is {schema}, this version reads {SCHEMA}; export again")
        data = DataSection.model_validate(document["data"])
    except BadInput:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: damaged ({str(error).splitlines()[0]}); export again") from error
    return Bundle(folder, Program.load(folder), data, document)
