"""Read and write NIR files, for current and older readers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import h5py
import nir

from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.nirgraph.nesting import unpack
from esl_neuro.nirgraph.reset_notes import KEY, NIR_VERSION, read_resets
from esl_neuro.resets import ZERO

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
        If there is no such level, or a neuron resets to a non-zero potential, or some neurons reset to zero and others
        by subtraction, which the older format cannot express.
    """
    if compatibility not in COMPATIBILITY:
        raise BadInput(f"compatibility '{compatibility}' is unknown; {did_you_mean(compatibility, COMPATIBILITY)}")
    if compatibility != "current":
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
    nir.write(path, graph)
    if compatibility != "current":
        with h5py.File(path, "r+") as file:
            _remove_later_fields(file["node"])
            del file["version"]
            file.create_dataset("version", data=compatibility, dtype=h5py.string_dtype())


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
    which is wrong for non-square kernels and groups. :func:`~esl_neuro.nirgraph.shapes.read_nodes` infers shapes itself
    and reports contradictions.

    Raises
    ------
    BadInput
        If there is no such file, or it is not a NIR file.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        return _unchecked(path)
    except Exception as error:  # the reader raises whatever HDF5 or a node constructor raises
        raise BadInput(f"{path}: not a readable NIR file: {error}") from error


def _unchecked(path: Path) -> nir.NIRGraph:
    def leave_unchecked(node: dict[str, Any]) -> None:
        if node.get("type") == "NIRGraph":
            node["type_check"] = False
            for nested in node["nodes"].values():
                leave_unchecked(nested)

    with h5py.File(path, "r") as file:
        document = nir.serialization.hdf2dict(file["node"])
        lacks_reset = _lacks_reset(file["node"])
        version = file["version"].asstr()[()] if "version" in file else "of an unknown version"
    leave_unchecked(document)
    graph = nir.dict2NIRNode(document)
    if not isinstance(graph, nir.NIRGraph):
        raise ValueError(f"it holds a single {type(graph).__name__} node, not a graph")
    if lacks_reset:
        graph.metadata = {**graph.metadata, NIR_VERSION: version}
    return graph


def _lacks_reset(node: h5py.Group) -> bool:
    """Tell whether a neuron has no ``v_reset``: NIR has it since 1.0.5, and reads zeros from a file without it."""
    nested = node["nodes"].values() if "nodes" in node else ()
    return ("v_threshold" in node and "v_reset" not in node) or any(map(_lacks_reset, nested))
