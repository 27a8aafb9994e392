"""The folder of an export: the NIR graph, the integer program, and the files needed to run and verify them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nir

from esl_neuro.backends.golden import write_trace
from esl_neuro.backends.lava_script import write_lava_script
from esl_neuro.backends.netx import write_netx
from esl_neuro.backends.trace import Trace
from esl_neuro.compiler.program import Program
from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.formats import other_version
from esl_neuro.pipeline.choices import FORMATS
from esl_neuro.recipes.sections import DataSection
from esl_neuro.storage import finish_replacing, replacing, write

SCHEMA = 1
DOCUMENT = "export.json"
GRAPH = "model.nir"
# The first test samples with every spike, current and potential, so that the folder alone suffices for a proof.
GOLDEN = "golden.h5"


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
    """

    folder: Path
    program: Program
    data: DataSection | None
    document: dict[str, Any]

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
    """Read an export.

    Raises
    ------
    BadInput
        If the folder is not a complete export, or has another schema.
    """
    finish_replacing(folder)
    path = folder / DOCUMENT
    if not path.is_file():
        raise BadInput(f"{folder}: not an export ({path.name} is missing); make one with 'esl-neuro export'")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        schema = document["schema"]
        if schema != SCHEMA:
            raise other_version(path, folder, "export", schema, (SCHEMA,), "export again")
        data = None if document["data"] is None else DataSection.model_validate(document["data"])
    except BadInput:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: damaged ({str(error).splitlines()[0]}); export again") from error
    return ExportFolder(folder, Program.load(folder), data, document)


def _write_formats(program: Program, folder: Path, formats: tuple[str, ...]) -> None:
    if "netx" in formats:
        write_netx(program, folder / FORMATS["netx"])
    if "lava-script" in formats:
        write_lava_script(program, folder / FORMATS["lava-script"])
