"""What a file or a folder is: its format, its version, what it contains and how large that is. Nothing of it is run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.backends.golden import BACKEND, VERSION
from esl_neuro.data.own_folders import holds_classes
from esl_neuro.errors import BadInput
from esl_neuro.formats import written_by
from esl_neuro.pipeline.export_folder import DOCUMENT, read_export
from esl_neuro.reading.arrays import SINGLE, read_arrays
from esl_neuro.reading.documents import read_json
from esl_neuro.reading.hdf5 import open_hdf5
from esl_neuro.reading.images import SUFFIXES as IMAGES
from esl_neuro.reading.images import read_image
from esl_neuro.reading.limits import DOCUMENT_MB
from esl_neuro.reading.names import nearest_path, printable
from esl_neuro.resources import read_toml
from esl_neuro.training.result import read_result
from esl_neuro.training.run_folder import RunFolder

MOST_ENTRIES = 200  # of a listing
MOST_AXES = 8
WIDEST = 80  # characters of a value
# The content of a JSON or TOML file by keys that only it has.
DOCUMENTS = (
    ({"quantisation", "data", "target"}, "export document of esl-neuro"),
    ({"groups", "connections"}, "integer program of esl-neuro"),
    ({"recipe", "best_epoch", "test_accuracy"}, "result of a run of esl-neuro"),
    ({"export", "backend", "spikes"}, "record of a run in a simulator, of esl-neuro"),
    ({"run_schema", "packages"}, "environment of a run of esl-neuro"),
    ({"data", "network", "sparsity", "training"}, "recipe of esl-neuro"),
    ({"target"}, "target (chip or processor) of esl-neuro"),
    ({"recipe", "space"}, "search of esl-neuro"),
    ({"recipe", "seeds"}, "sweep of esl-neuro"),
    ({"paper"}, "reproduction of esl-neuro"),
)


@dataclass(frozen=True)
class Inspected:
    """What is in a file or a folder.

    Attributes
    ----------
    path : str
    format : str
        What it is, in words.
    version : str
        Version of the format, or of the program that wrote it; empty if it does not say.
    bytes : int
        Size of the file, or of all files of the folder.
    contents : list of [name, description]
    """

    path: str
    format: str
    version: str
    bytes: int
    contents: list[tuple[str, str]]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def inspect_path(path: Path) -> Inspected:
    """Return what a file or a folder is.

    Parameters
    ----------
    path : Path
        A run, an export, a sweep, a search or own data; a NIR, HDF5, ``.net``, ``.npz``, ``.npy``, safetensors, JSON,
        TOML or image file.

    Raises
    ------
    BadInput
        If it does not exist, is damaged, or is of an unknown format.
    """
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise BadInput(f"{path}: no such file or folder{nearest_path(path)}")
    with path.open("rb") as file:
        beginning = file.read(16)
    suffix = path.suffix.lower()
    read = next((reader for fits, reader in READERS if fits(suffix, beginning)), None)
    if read is None:
        raise BadInput(
            f"{path}: is of an unknown format (it begins with {beginning[:8]!r}); known are NIR, HDF5, .net, .npz, "
            ".npy, safetensors, JSON, TOML and images, and folders of runs, exports, sweeps, searches and images"
        )
    format, version, contents = read(path)
    return Inspected(str(path), format, version, path.stat().st_size, _shown(contents))


def _shown(contents: list[tuple[str, str]]) -> list[tuple[str, str]]:
    more = len(contents) - MOST_ENTRIES
    return contents if more <= 0 else [*contents[:MOST_ENTRIES], ("...", f"and {more:,} more")]


Found = tuple[str, str, list[tuple[str, str]]]


# Folders.


def _folder(path: Path) -> Inspected:
    size = sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    if (path / DOCUMENT).is_file():
        format, contents = "export of esl-neuro", _export(path)
    elif RunFolder(path).config.is_file():
        format, contents = "run of esl-neuro", _run(path)
    elif (path / "study.journal").is_file():
        format, contents = "search of esl-neuro", _files(path)
    elif (path / "summary.json").is_file():
        format, contents = "sweep of esl-neuro", _files(path)
    elif holds_classes(path):
        format, contents = "data, one folder per class (see 'esl-neuro train --data')", _files(path)
    else:
        found = ", ".join(sorted(printable(each.name) for each in path.iterdir())[:5]) or "nothing"
        raise BadInput(f"{path}: is no run, export, sweep, search or folder of data (it contains {found})")
    by = written_by(path)
    return Inspected(str(path), format, f"esl-neuro {by}" if by else "", size, _shown(contents))


def _files(path: Path) -> list[tuple[str, str]]:
    return [
        (f"{printable(each.name)}/", f"{sum(1 for _ in each.iterdir()):,} entries")
        if each.is_dir()
        else (printable(each.name), f"{each.stat().st_size:,} bytes")
        for each in sorted(path.iterdir())
        if not each.name.startswith(".")
    ]


def _run(path: Path) -> list[tuple[str, str]]:
    files = RunFolder(path, allow_code=True)  # nothing is imported
    recipe = files.recipe()
    said = [
        ("recipe", f"{recipe.name}: {recipe.title}"),
        ("data", f"{recipe.data.name}, {recipe.data.encoding}, {recipe.data.steps} steps"),
        ("network", recipe.network.notation),
        ("learner", recipe.sparsity.learner),
    ]
    if files.result.is_file():
        figures = read_result(files.result, "train again")
        said.append(("test accuracy", f"{100 * figures.test_accuracy:.2f} % of {figures.test_samples:,} samples"))
        said.append(("connections", f"{figures.connections:,}, density {figures.density:.3f}"))
    else:
        said.append(("state", "not complete; continue it with 'esl-neuro train --resume'"))
    return [*said, *_files(path)]


def _export(path: Path) -> list[tuple[str, str]]:
    export = read_export(path)
    program = export.program
    accuracy = export.contents.accuracy
    data = "unknown" if export.data is None else f"{export.data.name}, {export.data.encoding}"
    said = [
        ("recipe", export.contents.recipe),
        ("data", data),
        ("target", program.target),
        ("program", f"{program.neurons:,} neurons, {program.synapses:,} synapses, {program.steps} steps"),
        ("readout", program.readout),
        *((group.name, f"{group.neurons:,} neurons") for group in program.groups),
    ]
    if accuracy is not None:
        said.append(("accuracy", f"integer {100 * accuracy.integer:.2f} %, float {100 * accuracy.in_float:.2f} %"))
    said += [("finding", str(finding)) for finding in export.contents.findings]
    return [*said, *_files(path)]


# Files.


def _hdf5(path: Path) -> Found:
    with open_hdf5(path, "a readable HDF5 file") as file:
        names = set(file)
        format = "HDF5"
        version = ""
        if {"node"} <= names:
            format, version = "NIR graph", f"nir {_scalar(file['version'])}" if "version" in names else ""
        elif BACKEND in file.attrs:
            format, version = "trace of esl-neuro (NIRData)", f"schema {file.attrs.get(VERSION, 1)}"
        elif "nodes" in names:
            format = "NIRData"
        elif {"layer", "simulation"} & names:
            format = "network of lava-dl (.net)"
        if format == "NIR graph":
            return format, version, _nodes(file)
        found: list[tuple[str, str]] = []
        file.visititems(
            lambda name, each: found.append((printable(name), _dataset(each))) if hasattr(each, "shape") else None
        )
    return format, version, found


def _scalar(entry: Any) -> str:
    value = entry[()]
    return printable(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))


def _dataset(entry: Any) -> str:
    return f"{entry.dtype} of shape {tuple(entry.shape)}"


def _nodes(file: Any) -> list[tuple[str, str]]:
    graph = file["node"]
    nodes = graph.get("nodes", {})
    said = []
    for name in nodes:
        node = nodes[name]
        arrays = [_parameter(key, node[key]) for key in node if getattr(node[key], "shape", ()) != ()]
        kind = _scalar(node["type"]) if "type" in node else "node"
        said.append((printable(name), ", ".join([kind, *map(printable, arrays)])))
    edges = len(graph["edges"]) if "edges" in graph else 0
    return [*said, ("edges", f"{edges:,}")]


def _parameter(name: str, entry: Any) -> str:
    """Return the shape of a parameter, or the values of one that is a shape itself."""
    return (
        f"{name} {tuple(entry[:].tolist())}" if name == "shape" and entry.size <= MOST_AXES else f"{name} {entry.shape}"
    )


def _arrays(path: Path) -> Found:
    arrays = read_arrays(path)
    names = set(arrays)
    if names == {SINGLE}:
        format = "numpy array"
    elif {"t", "x", "y", "p"} == names:
        format = "recording of an event camera"
    elif {"x", "y"} <= names <= {"x", "y", "x_test", "y_test"}:
        format = "own data (see 'esl-neuro train --data')"
    else:
        format = "numpy arrays"
    return format, "", [(printable(name), _array(array)) for name, array in arrays.items()]


def _array(array: NDArray[Any]) -> str:
    said = f"{array.dtype} of shape {array.shape}"
    if array.size and array.dtype.kind in "buif":
        finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
        lost = array.size - finite.size
        said += f", {finite.min():g} to {finite.max():g}" if finite.size else ""
        said += f", {lost:,} not finite" if lost else ""
        said += f", {100 * np.count_nonzero(array) / array.size:.1f} % not zero"
    return said


def _safetensors(path: Path) -> Found:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(DOCUMENT_MB * 1_000_000, path.stat().st_size):
            raise BadInput(f"{path}: not a readable safetensors file: its header has {length:,} bytes")
        content = file.read(length)
    try:
        header = json.loads(content)
        tensors = {name: each for name, each in header.items() if name != "__metadata__"}
        said = [(printable(name), f"{each['dtype']} of shape {tuple(each['shape'])}") for name, each in tensors.items()]
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(f"{path}: not a readable safetensors file: its header is damaged") from error
    return "safetensors", "", said


def _json(path: Path) -> Found:
    document = read_json(path)
    if not isinstance(document, dict):
        return "JSON", "", [("", _value(document))]
    version = document.get("schema", "")
    return _known(document, "JSON"), f"schema {version}" if version != "" else "", _entries(document)


def _toml(path: Path) -> Found:
    document = read_toml(path)
    return _known(document, "TOML"), "", _entries(document)


def _known(document: dict[str, Any], otherwise: str) -> str:
    return next((format for keys, format in DOCUMENTS if keys <= document.keys()), otherwise)


def _entries(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(printable(str(key)), _value(value)) for key, value in document.items()]


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return f"{len(value):,} entries: {_short(', '.join(map(str, value)))}"
    if isinstance(value, list):
        return f"list of {len(value):,}"
    return _short(str(value))


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."


def _image(path: Path) -> Found:
    pixels = read_image(path)
    return "image", "", [("pixels", f"(channels, height, width) {pixels.shape}, {pixels.min()} to {pixels.max()}")]


HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
READERS: tuple[tuple[Callable[[str, bytes], bool], Callable[[Path], Found]], ...] = (
    (lambda suffix, begins: suffix in (".nir", ".h5", ".hdf5", ".net") or begins.startswith(HDF5_MAGIC), _hdf5),
    (lambda suffix, begins: suffix in (".npz", ".npy") or begins.startswith(b"\x93NUMPY"), _arrays),
    (lambda suffix, _: suffix == ".safetensors", _safetensors),
    (lambda suffix, _: suffix == ".json", _json),
    (lambda suffix, _: suffix == ".toml", _toml),
    (lambda suffix, _: suffix in IMAGES, _image),
)
