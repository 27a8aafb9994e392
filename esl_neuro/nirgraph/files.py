"""Read and write NIR files, for current and older readers."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from pathlib import Path

import h5py
import nir
import numpy as np

from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.nirgraph.batch_axes import read_nodes
from esl_neuro.nirgraph.documents import Malformed, read_document
from esl_neuro.nirgraph.findings import refuse
from esl_neuro.nirgraph.nesting import unpack
from esl_neuro.nirgraph.reset_notes import KEY, NIR_VERSION, read_resets
from esl_neuro.nirgraph.sparse_nodes import SparseAffine
from esl_neuro.nirgraph.structure import read_structure
from esl_neuro.reading.hdf5 import open_hdf5
from esl_neuro.reading.names import is_printable
from esl_neuro.resets import ZERO
from esl_neuro.storage import write

WHAT = "a readable NIR file"
COMPATIBILITY = ("current", "1.0.4")
"""``1.0.4`` is the last version without ``v_reset`` and node metadata, on which sinabs and Rockpool fail."""


def write_nir(path: str | Path, graph: nir.NIRGraph, compatibility: str = "current") -> None:
    """Write a graph.

    Parameters
    ----------
    path : str or Path
        File to write.
    graph : nir.NIRGraph
        The network.
    compatibility : {"current", "1.0.4"}
        ``1.0.4`` omits ``v_reset``, which is zero in every network of this project, and node metadata; the metadata of
        the graph note the reset. sinabs 3.1 and Rockpool 3.1 can open such a file; they still integrate and reset in
        their own ways.

    Raises
    ------
    BadInput
        If there is no such level, a neuron resets to a non-zero potential, or some neurons reset to zero and others by
        subtraction, which the older format cannot express, or a convolution has no ``input_shape`` and the graph does
        not determine it.
    """
    if compatibility not in COMPATIBILITY:
        raise BadInput(f"compatibility '{compatibility}' is unknown; {did_you_mean(compatibility, COMPATIBILITY)}")
    if compatibility != "current":
        unknown = [f"'{name}'" for name, node in unpack(graph)[0].items() if isinstance(node, SparseAffine)]
        if unknown:
            raise BadInput(
                f"nodes {', '.join(unknown)} are stored by their connections (SparseAffine), which NIR 1.0.4 does not "
                "have; write the current version"
            )
        lost = [
            f"'{name}'"
            for name, node in unpack(graph)[0].items()
            if getattr(node, "v_reset", None) is not None
            if node.v_reset.any()
        ]
        if lost:
            raise BadInput(f"nodes {', '.join(lost)} have a v_reset other than 0, which NIR 1.0.4 does not have")
        resets = set(read_resets(graph)[0].values())
        if len(resets) > 1:
            raise BadInput(
                f"the neurons have different resets ({', '.join(sorted(resets))}); NIR 1.0.4 has one for all"
            )
        graph = copy.copy(graph)
        graph.metadata = {**graph.metadata, KEY: min(resets, default=ZERO)}
    _refuse_names(graph)
    content = io.BytesIO()  # on a full disk, HDF5 would end the process
    nir.write(content, _writable(graph, _conv_shapes(graph)))
    if compatibility != "current":
        with h5py.File(content, "r+") as file:
            _remove_later_fields(file["node"])
            del file["version"]
            file.create_dataset("version", data=compatibility, dtype=h5py.string_dtype())
    write(Path(path), content.getvalue())


def _refuse_names(graph: nir.NIRGraph) -> None:
    """Reject names that the file would take for a path, or that read_nir rejects."""
    wrong = [name for name in graph.nodes if "/" in name or name in ("", ".", "..") or not is_printable(name)]
    if wrong:
        names = ", ".join(ascii(name) for name in wrong)
        raise BadInput(f"nodes {names}: a name in a file has no '/' and only characters that can be printed")
    for node in graph.nodes.values():
        if isinstance(node, nir.NIRGraph):
            _refuse_names(node)


def _conv_shapes(graph: nir.NIRGraph) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes that arrive at the nodes, by full name, if a convolution does not declare its own."""
    nodes = unpack(graph)[0]
    if all(getattr(node, "input_shape", 0) is not None for node in nodes.values()):
        return {}
    structure, _ = read_structure(graph, 1.0)  # shapes do not depend on the time step
    return {} if structure is None else read_nodes(structure, 1.0)[0].arriving


def _writable(graph: nir.NIRGraph, arriving: Mapping[str, tuple[int, ...]], prefix: str = "") -> nir.NIRGraph:
    """Return a copy that ``nir.write`` can write: parameters of no dimension as numbers, no field None."""
    nodes = {}
    for name, node in graph.nodes.items():
        full = f"{prefix}{name}"
        if isinstance(node, nir.NIRGraph):
            nodes[name] = _writable(node, arriving, f"{full}.")
            continue
        nodes[name] = written = copy.copy(node)
        for field, value in vars(node).items():
            if isinstance(value, np.ndarray) and value.ndim == 0:
                setattr(written, field, value.item())
        if getattr(node, "input_shape", 0) is None:
            if full not in arriving:
                raise BadInput(f"node '{full}' has no input_shape, and the graph does not determine it; set it")
            written.input_shape = arriving[full][1] if isinstance(node, nir.Conv1d) else arriving[full][1:]
    again = copy.copy(graph)
    again.nodes = nodes
    return again


def _remove_later_fields(graph: h5py.Group) -> None:
    for node in graph["nodes"].values():
        for later in ("v_reset", "metadata"):
            if later in node:
                del node[later]
        if "nodes" in node:
            _remove_later_fields(node)


def read_nir(path: str | Path) -> nir.NIRGraph:
    """Read a graph.

    Shapes are not checked: NIR derives the output shape of a convolution from one side of its kernel and one group,
    which is wrong for non-square kernels and groups. :func:`~esl_neuro.nirgraph.batch_axes.read_nodes` infers shapes
    itself and reports contradictions.

    Raises
    ------
    BadInput
        If there is no such file, it is not a NIR file, or a part of it cannot be read; the message lists all findings
        with the names of the nodes.
    """
    path = Path(path)
    with open_hdf5(path, WHAT) as file:
        try:
            graph, findings = read_document(file)
        except Malformed as error:
            raise BadInput(f"{path}: not {WHAT}: {error}") from error
        if graph is not None and _lacks_reset(file["node"]):
            version = file["version"].asstr()[()] if "version" in file else "of an unknown version"
            graph.metadata = {**graph.metadata, NIR_VERSION: version}
    refuse(findings, f"{path}: not {WHAT}")
    assert graph is not None  # read_document returns a graph unless it found an error
    return graph


def _lacks_reset(node: h5py.Group) -> bool:
    """Tell whether a neuron has no ``v_reset``: NIR has it since 1.0.5, and reads zeros from a file without it."""
    nested = node["nodes"].values() if "nodes" in node else ()
    return ("v_threshold" in node and "v_reset" not in node) or any(map(_lacks_reset, nested))
