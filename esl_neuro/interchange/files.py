"""NIR files, for today's readers and for older ones."""

from __future__ import annotations

from pathlib import Path

import h5py
import nir

from esl_neuro.errors import BadInput, did_you_mean

COMPATIBILITY = ("current", "1.0.4")
"""``1.0.4`` is the last version before ``v_reset`` and notes on nodes, at which sinabs and Rockpool fail."""


def write_nir(path: Path, graph: nir.NIRGraph, compatibility: str = "current") -> None:
    """Write a graph.

    Parameters
    ----------
    path : Path
        File to write.
    graph : nir.NIRGraph
        The network.
    compatibility : {"current", "1.0.4"}
        ``1.0.4`` leaves away ``v_reset``, which is zero in every network of this project, and notes on nodes. Such a
        file can be opened by sinabs 3.1 and Rockpool 3.1; that they integrate and reset in ways of their own it does
        not change.

    Raises
    ------
    BadInput
        If there is no such level, or a neuron resets to anything but zero, which the older format cannot say.
    """
    if compatibility not in COMPATIBILITY:
        raise BadInput(f"compatibility '{compatibility}'; {did_you_mean(compatibility, COMPATIBILITY)}")
    if compatibility != "current":
        lost = [
            f"'{name}'"
            for name, node in graph.nodes.items()
            if getattr(node, "v_reset", None) is not None
            if node.v_reset.any()
        ]
        if lost:
            raise BadInput(f"nodes {', '.join(lost)} reset to another potential than 0, which NIR 1.0.4 cannot say")
    nir.write(path, graph)
    if compatibility != "current":
        with h5py.File(path, "r+") as file:
            for node in file["node/nodes"].values():
                for later in ("v_reset", "metadata"):
                    if later in node:
                        del node[later]
            del file["version"]
            file.create_dataset("version", data=compatibility, dtype=h5py.string_dtype())


def read_nir(path: Path) -> nir.NIRGraph:
    """Read a graph, with the types of its nodes checked if they can be.

    NIR derives the shape behind a convolution from one side of its kernel and one group, so files with oblong kernels
    or groups fail its check of types; they are read without it.

    Raises
    ------
    BadInput
        If there is no such file, or it is no NIR file.
    """
    if not path.is_file():
        raise BadInput(f"{path}: {'is no file' if path.exists() else 'no such file'}")
    try:
        try:
            return nir.read(path)
        except ValueError:
            return nir.read(path, type_check=False)
    except Exception as error:  # the reader raises whatever HDF5 or a node's constructor raises
        raise BadInput(f"{path}: not a readable NIR file: {error}") from error
