"""Files as trees of plain values, so that one set of changes damages every format from inside.

A tree is made of dicts, lists, numbers, words, bytes and numpy arrays. HDF5 groups are dicts; their attributes stand
under ``ATTRIBUTES``. What only HDF5 has is a marker: :class:`Outside`, :class:`Raw`, :class:`Declared`, :class:`Loop`.
"""

from __future__ import annotations

import csv
import io
import json
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ATTRIBUTES = "@attributes"
METADATA = "__metadata__"


@dataclass(frozen=True)
class Outside:
    """An HDF5 link into another file."""

    file: str


@dataclass(frozen=True)
class Raw:
    """An HDF5 data set whose bytes lie in another file."""

    file: str
    size: int = 64


@dataclass(frozen=True)
class Declared:
    """An HDF5 data set that declares a shape and stores nothing."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class Loop:
    """An HDF5 group that contains itself."""


@dataclass(frozen=True)
class Format:
    """Reads and writes one format; both raise an exception for what the format cannot hold."""

    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    binary: bool = True  # a binary file that is cut off is damaged; a text may end anywhere


def _read_hdf5(content: bytes) -> dict[str, Any]:
    with h5py.File(io.BytesIO(content), "r") as file:
        return _tree(file)


def _tree(group: h5py.Group) -> dict[str, Any]:
    tree: dict[str, Any] = {ATTRIBUTES: dict(group.attrs)} if len(group.attrs) else {}
    for name, item in group.items():
        tree[name] = _tree(item) if isinstance(item, h5py.Group) else _attributed(item)
    return tree


def _attributed(item: h5py.Dataset) -> Any:
    return item[()]


def _write_hdf5(tree: Any) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        _fill(file, tree)
    return buffer.getvalue()


def _fill(group: h5py.Group, tree: dict[str, Any]) -> None:
    for name, value in tree.items():
        if name == ATTRIBUTES:
            for key, attribute in value.items():
                group.attrs[key] = attribute
        elif isinstance(value, dict):
            _fill(group.create_group(name), value)
        elif isinstance(value, Outside):
            group[name] = h5py.ExternalLink(value.file, "/")
        elif isinstance(value, Raw):
            group.create_dataset(name, (value.size,), "u1", external=[(value.file, 0, h5py.h5f.UNLIMITED)])
        elif isinstance(value, Declared):
            group.create_dataset(name, value.shape, "f8", chunks=(1024,) * len(value.shape), fillvalue=0.5)
        elif isinstance(value, Loop):
            group[name] = group.file["/"]
        elif isinstance(value, np.ndarray) and value.dtype == object:
            _fill_ragged(group, name, value)
        elif value is None:
            group[name] = h5py.Empty("f8")
        else:
            group[name] = value


def _fill_ragged(group: h5py.Group, name: str, rows: Any) -> None:
    dataset = group.create_dataset(name, rows.shape, dtype=h5py.vlen_dtype(rows.flat[0].dtype))
    for index, row in enumerate(rows):
        dataset[index] = row


def _read_npz(content: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)


def _write_npz(tree: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.asarray(value) for name, value in tree.items()})
    return buffer.getvalue()


def _write_npy(tree: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(tree), allow_pickle=False)
    return buffer.getvalue()


SAFETENSORS = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
SAFETENSORS |= {"U8": "u1", "BOOL": "?"}


def _read_safetensors(content: bytes) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", content[:8])
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    tree: dict[str, Any] = {METADATA: header.pop(METADATA)} if METADATA in header else {}
    for name, entry in header.items():
        first, end = entry["data_offsets"]
        values = np.frombuffer(body[first:end], np.dtype(SAFETENSORS[entry["dtype"]]))
        tree[name] = values.reshape(entry["shape"]).copy()
    return tree


def _write_safetensors(tree: Any) -> bytes:
    """Write without checks, unlike the library: the header may say anything."""
    names = {np.dtype(code): name for name, code in SAFETENSORS.items()}
    header: dict[str, Any] = {}
    body = b""
    for name, value in tree.items():
        if name == METADATA:
            header[name] = value
            continue
        array = np.ascontiguousarray(value)
        header[name] = {
            "dtype": names[array.dtype],
            "shape": list(np.shape(value)),
            "data_offsets": [len(body), len(body) + array.nbytes],
        }
        body += array.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def _read_lines(content: bytes) -> list[Any]:
    return [json.loads(line) for line in content.decode().splitlines()]


def _write_lines(tree: Any) -> bytes:
    return "".join(json.dumps(entry) + "\n" for entry in tree).encode()


def _read_csv(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode())))


def _write_csv(tree: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(tree)
    return text.getvalue().encode()


def _write_toml(tree: Any) -> bytes:
    import tomli_w

    return tomli_w.dumps(tree).encode()


HDF5 = Format(_read_hdf5, _write_hdf5)
JSON = Format(json.loads, lambda tree: json.dumps(tree).encode(), binary=False)
FORMATS = {
    ".nir": HDF5,
    ".net": HDF5,
    ".h5": HDF5,
    ".json": JSON,
    ".jsonl": Format(_read_lines, _write_lines, binary=False),
    ".toml": Format(lambda content: tomllib.loads(content.decode()), _write_toml, binary=False),
    ".csv": Format(_read_csv, _write_csv, binary=False),
    ".npz": Format(_read_npz, _write_npz),
    ".npy": Format(lambda content: np.load(io.BytesIO(content), allow_pickle=False), _write_npy),
    ".safetensors": Format(_read_safetensors, _write_safetensors),
}


def format_of(path: Path) -> Format | None:
    """Return the format of a file by its suffix; None if only its bytes can be damaged."""
    return FORMATS.get(path.suffix)
