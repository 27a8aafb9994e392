"""Read the nodes and edges of an open NIR file, and report every one that is incomplete, unknown or unreadable.

Parts that older or foreign writers leave out, and that the rest of the graph determines, are filled in: the
``input_shape`` of a convolution, and neuron parameters of one value beside others of one value per neuron.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from importlib import metadata
from typing import Any

import h5py
import nir
import numpy as np

from esl_neuro.errors import did_you_mean
from esl_neuro.nirgraph.findings import Finding
from esl_neuro.nirgraph.linear_nodes import LINEAR, Port
from esl_neuro.nirgraph.neuron_nodes import NEURONS
from esl_neuro.reading.names import is_printable, printable

GRAPH = "NIRGraph"
UNREADABLE = object()


class Malformed(Exception):
    """A file that has no graph; the message says what it has instead."""


def read_document(file: h5py.File) -> tuple[nir.NIRGraph | None, list[Finding]]:
    """Read the graph of an open file; return None with the findings if a part of it cannot be read.

    Raises
    ------
    Malformed
        If the file does not contain a NIR graph.
    """
    root = file.get("node")
    if not isinstance(root, h5py.Group):
        raise Malformed(_other_content(file))
    kind = _kind(root)
    if kind is not None and kind != GRAPH:
        raise Malformed(f"it holds a single {kind} node, not a graph")
    graph, findings = _read_graph(root, "", _written_by(file))
    return graph, findings


def _other_content(file: h5py.File) -> str:
    if "layer" in file:
        return "it is a .net file of lava-dl (group 'layer'); read it with esl_neuro.from_netx"
    if file.attrs.get("__type__") == "NIRGraphData":
        return "it is NIRData, recorded signals, not a network"
    found = ", ".join(f"'{printable(name)}'" for name in list(file)[:5])
    return f"it is an HDF5 file without the group 'node'; it has {found or 'nothing'}"


def _written_by(file: h5py.File) -> str:
    """Return a note on the version of the library, if the file was written by another one."""
    stored = _decoded(file["version"][()]) if "version" in file else None
    here = metadata.version("nir")
    return "" if stored in (None, here) else f" (the file was written by nir {stored}, nir {here} is installed)"


def _kind(group: h5py.Group) -> str | None:
    if not isinstance(group.get("type"), h5py.Dataset):
        return None
    value = _decoded(group["type"][()])
    return value if isinstance(value, str) else None


def _read_graph(group: h5py.Group, prefix: str, version: str) -> tuple[nir.NIRGraph | None, list[Finding]]:
    place = f"graph '{prefix[:-1]}'" if prefix else "graph"
    findings: list[Finding] = []
    nodes: dict[str, Any] = {}
    stored = group.get("nodes")
    if not isinstance(stored, h5py.Group) or not len(stored):
        findings.append(Finding("malformed", place, "has no nodes; the file was not written completely"))
    else:
        for name, part in stored.items():
            if not is_printable(name):
                message = "the name has characters that cannot be printed; rename the node"
                findings.append(Finding("malformed", f"node '{prefix}{printable(name)}'", message))
                continue
            nodes[name], found = _read_node(part, f"{prefix}{name}", version)
            findings += found
    edges, found = _read_edges(group, place)
    findings += found
    about, found = _read_fields(group.get("metadata"), f"{place}, metadata")
    findings += found
    return (None if findings else nir.NIRGraph(nodes, edges, about, type_check=False)), findings


def _read_edges(group: h5py.Group, place: str) -> tuple[list[tuple[str, str]], list[Finding]]:
    if not isinstance(group.get("edges"), h5py.Dataset):
        return [], [Finding("malformed", place, "has no edges; the file was not written completely")]
    try:
        pairs = [tuple(_decoded(name) for name in pair) for pair in group["edges"][()]]
    except (OSError, TypeError, ValueError) as error:
        return [], [Finding("malformed", place, f"edges cannot be read ({_one_line(error)})")]
    wrong = [pair for pair in pairs if len(pair) != 2 or not all(isinstance(name, str) for name in pair)]
    if wrong:
        return [], [Finding("malformed", place, f"edge {wrong[0]!r:.60} is not a pair of node names")]
    return [(source, target) for source, target in pairs], []


def _read_node(part: Any, name: str, version: str) -> tuple[Any, list[Finding]]:
    place = f"node '{name}'"
    if not isinstance(part, h5py.Group):
        return None, [Finding("malformed", place, "is a number, not a node; the file was not written completely")]
    kind = _kind(part)
    if kind is None:
        has = ", ".join(map(printable, sorted(part))) or "nothing"
        return None, [Finding("malformed", place, f"has no type (it has {has}); the file was not written completely")]
    if kind == GRAPH:
        return _read_graph(part, f"{name}.", version)
    kinds = _kinds()
    if kind not in kinds:
        return None, [Finding("unknown-node", place, f"type '{kind}' is unknown; {did_you_mean(kind, kinds)}{version}")]
    values, findings = _read_fields(part, place)
    findings += _contradictions(kinds[kind], kind, values, place, version)
    if findings:
        return None, findings
    del values["type"]
    return _made(kinds[kind], kind, values, place)


def _kinds() -> dict[str, type]:
    """Return the types of nodes by name: those of the library, and those that were registered here."""
    registered = {kind.__name__: kind for kind in (*LINEAR, *NEURONS)}
    return {
        name: kind
        for name, kind in ({name: getattr(nir, name) for name in nir.ir.__all__} | registered).items()
        if isinstance(kind, type) and issubclass(kind, nir.NIRNode) and kind not in (nir.NIRNode, nir.NIRGraph, Port)
    }


def _read_fields(group: Any, place: str) -> tuple[dict[str, Any], list[Finding]]:
    """Return the values of a group by name; nested groups become dictionaries."""
    values: dict[str, Any] = {}
    findings: list[Finding] = []
    for name, part in () if group is None else group.items():
        if isinstance(part, h5py.Group):
            values[name], found = _read_fields(part, place)
            findings += found
            continue
        try:
            values[name] = _decoded(part[()])
        except (OSError, TypeError, ValueError, KeyError) as error:
            findings.append(Finding("malformed", place, f"{printable(name)} cannot be read ({_one_line(error)})"))
    return values, findings


# Fields of nodes.

# Stored under another name than that of the field.
SHAPE_FIELDS = {nir.Input: "input_type", nir.Output: "output_type"}
FILLED = ("input_shape", "v_reset", "w_in", "input_type", "metadata")


def _contradictions(kind: type, name: str, values: Mapping[str, Any], place: str, version: str) -> list[Finding]:
    """Compare the stored fields with those of the type."""
    expected = [field.name for field in fields(kind) if field.init]
    if kind in SHAPE_FIELDS:
        expected = ["shape" if field == SHAPE_FIELDS[kind] else field for field in expected]
    missing = [field for field in expected if field not in values and field not in FILLED]
    extra = [field for field in values if field not in (*expected, "type")]
    findings = []
    if missing:
        findings.append(Finding("malformed", place, f"{name} has no {', '.join(missing)}{version}"))
    if extra:
        message = (
            f"{name} has the field {', '.join(map(printable, extra))}, which NIR does not define{version}; remove it"
        )
        findings.append(Finding("malformed", place, message))
    return findings


def _made(kind: type, name: str, values: dict[str, Any], place: str) -> tuple[Any, list[Finding]]:
    """Make a node from its fields; whatever its constructor rejects is a finding."""
    if "input_shape" in {field.name for field in fields(kind)}:
        values.setdefault("input_shape", None)
    if kind in NEURONS:
        values = _same_shape(values, NEURONS[kind].parameters)
    try:
        return kind.from_dict({"type": name, **values}), []  # type: ignore[attr-defined]
    except Exception as error:  # a constructor raises anything for a field of another kind than it expects
        shapes = ", ".join(f"{field} {_shape(value)}" for field, value in values.items() if field != "metadata")
        return None, [Finding("malformed", place, f"{name} is inconsistent ({_one_line(error)}); it has {shapes}")]


def _same_shape(values: dict[str, Any], parameters: tuple[str, ...]) -> dict[str, Any]:
    """Repeat parameters of one value, where others have one value per neuron."""
    arrays = {name: np.asarray(values[name]) for name in parameters if name in values}
    several = {array.shape for array in arrays.values() if array.size != 1}
    shapes = several or {max((array.shape for array in arrays.values()), key=len, default=())}
    if len(shapes) > 1:
        return values
    (shape,) = shapes
    return values | {name: np.full(shape, array.item()) if array.size == 1 else array for name, array in arrays.items()}


def _shape(value: Any) -> str:
    return repr(value) if isinstance(value, str) else f"{np.shape(value)}"


def _decoded(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
