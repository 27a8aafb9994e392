"""The folder of an export: the NIR graph, the integer program, and the files needed to run and verify them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import nir
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from esl_neuro.backends.golden import write_trace
from esl_neuro.backends.lava_script import write_lava_script
from esl_neuro.backends.netx import write_netx
from esl_neuro.backends.trace import Trace
from esl_neuro.backends.validate import wrong_numbers
from esl_neuro.compiler.fidelity import Fidelity
from esl_neuro.compiler.program import Program
from esl_neuro.compiler.program_document import damaged
from esl_neuro.compiler.quantise import QuantisationError, Scaling
from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.formats import other_version
from esl_neuro.hardware.arithmetic import SMALLEST_WEIGHT_BITS
from esl_neuro.nirgraph.findings import Finding
from esl_neuro.pipeline.choices import FORMATS
from esl_neuro.pipeline.decisions import Decision
from esl_neuro.reading.documents import problems, read_json_object
from esl_neuro.reading.names import printable
from esl_neuro.recipes.sections import DataSection
from esl_neuro.storage import read_together, replacing, write

SCHEMA = 1
SHOWN = 5  # findings in one message
LARGEST_SHIFT = 31  # of the exponents of weights
DOCUMENT = "export.json"
GRAPH = "model.nir"
# The first test samples with every spike, current and potential, so that the folder alone suffices for a proof.
GOLDEN = "golden.h5"


Share = Annotated[float, Field(ge=0, le=1)]


class AccuracyTable(BaseModel):
    """Shares of the test samples that the float network and the integers classify rightly, if that was measured."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    samples: PositiveInt
    in_float: Share = Field(alias="float")
    integer: Share


class ExportTable(BaseModel):
    """The entries of ``export.json`` that are read again; earlier versions lack those with a default."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    data: DataSection | None
    recipe: str
    quantisation: tuple[QuantisationError, ...]
    findings: tuple[Finding, ...]
    scalings: dict[str, Scaling] = {}
    input_steps: tuple[NonNegativeInt, ...] | None = None
    fidelity: Fidelity | None = None
    decisions: tuple[Decision, ...] = ()
    accuracy: AccuracyTable | None = None
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExportFolder:
    """The contents of an export.

    Attributes
    ----------
    folder : Path
        Contains ``model.nir``, ``program.json``, ``program.safetensors`` and ``export.json``.
    program : Program
        The integer program.
    data : DataSection or None
        Data set and encoding that the network was trained for, if known.
    document : dict
        All of ``export.json``: origin, quantisation errors, accuracies.
    contents : ExportTable
        What the commands use of it, checked.
    """

    folder: Path
    program: Program
    data: DataSection | None
    document: dict[str, Any]
    contents: ExportTable

    @property
    def graph_path(self) -> Path:
        """Path of the NIR graph."""
        return self.folder / GRAPH


def write_export(
    folder: Path,
    graph: nir.NIRGraph,
    program: Program,
    golden: Trace,
    data: DataSection | None,
    document: Mapping[str, Any],
    *,
    formats: tuple[str, ...] = (),
    nir_version: str = "current",
) -> dict[str, Any]:
    """Write an export and return the contents of ``export.json``, which is written last.

    An earlier export in the folder is replaced as a whole, or stays as it is.

    Raises
    ------
    BadInput
        If a format is unknown, the given version of NIR cannot represent the graph, the folder cannot be written, or
        another process writes it.
    """
    from esl_neuro.nirgraph.files import write_nir

    for name in formats:
        if name not in FORMATS:
            raise BadInput(f"format '{name}' is unknown; {did_you_mean(name, FORMATS)}")
    complete = {"schema": SCHEMA, "data": None if data is None else data.model_dump(), **document}
    with replacing(folder, last=DOCUMENT, earlier=(*FORMATS.values(), "network.npz")) as new:
        write_nir(new / GRAPH, graph, nir_version)
        _write_formats(program, new, formats)
        write_trace(new / GOLDEN, golden, program.dt_s)
        program.save(new)
        write(new / DOCUMENT, json.dumps(complete, indent=2) + "\n")
    return complete


def read_export(folder: Path) -> ExportFolder:
    """Read an export; all its files are of one export, also if another process replaces it meanwhile.

    Raises
    ------
    BadInput
        If the folder is not a complete export, or has another schema.
    """
    return read_together(folder, partial(_read_export, folder))


def _read_export(folder: Path) -> ExportFolder:
    path = folder / DOCUMENT
    if not path.is_file():
        raise BadInput(f"{folder}: not an export ({path.name} is missing); make one with 'esl-neuro export'")
    document = read_json_object(path, "export again")
    schema = document.get("schema")
    if schema is not None and schema != SCHEMA:
        raise other_version(path, folder, "export", schema, (SCHEMA,), "export again")
    try:
        contents = ExportTable.model_validate(document)
    except ValidationError as error:
        raise BadInput(f"{path}: damaged ({'; '.join(map(problems, error.errors()[:SHOWN]))}); export again") from error
    program = Program.load(folder)
    findings = [*_contradictions(contents, program)]
    if findings:
        raise BadInput(f"{path}: damaged ({'; '.join(findings)}); export again")
    wrong = wrong_numbers(program)
    if wrong:
        raise damaged(folder, wrong)
    return ExportFolder(folder, program, contents.data, document, contents)


def _contradictions(contents: ExportTable, program: Program) -> Iterator[str]:
    """Find what does not fit the program."""
    sizes = {group.name: group.neurons for group in program.groups}
    for name, scaling in contents.scalings.items():
        factors = np.atleast_1d(np.asarray(scaling.factor))
        if name not in sizes or factors.size not in (1, sizes[name]):
            yield f"scalings: '{printable(name)}' has {factors.size} factors; the program has the layers {sizes}"
        elif not (np.isfinite(factors) & (factors > 0)).all() or abs(scaling.shift) > LARGEST_SHIFT:
            yield f"scalings: '{name}' is not positive and finite"
        widest = program.formats.weight_bits
        if scaling.weight_bits is not None and not SMALLEST_WEIGHT_BITS <= scaling.weight_bits <= widest:
            yield f"scalings: '{printable(name)}' has weights of {scaling.weight_bits} bits; the chip has {widest}"
    steps = contents.input_steps
    if steps is not None and (list(steps) != sorted(set(steps)) or (steps and steps[-1] >= program.steps)):
        yield f"input_steps do not ascend within the {program.steps} steps of the program"


def _write_formats(program: Program, folder: Path, formats: tuple[str, ...]) -> None:
    if "netx" in formats:
        write_netx(program, folder / FORMATS["netx"])
    if "lava-script" in formats:
        write_lava_script(program, folder / FORMATS["lava-script"])
