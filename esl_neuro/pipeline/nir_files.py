"""NIR files by their path, whichever way it is given."""

from __future__ import annotations

from pathlib import Path

import nir

from esl_neuro.compiler.frontend import read_graph


def read_nir(path: str | Path) -> nir.NIRGraph:
    """Read a NIR file of any program.

    Raises
    ------
    BadInput
        If there is no such file, or it is no NIR file.
    """
    return read_graph(Path(path))


def write_nir(path: str | Path, graph: nir.NIRGraph, nir_version: str = "current") -> None:
    """Write a NIR file.

    Parameters
    ----------
    path : str or Path
        File to write.
    graph : nir.NIRGraph
        The network.
    nir_version : {"current", "1.0.4"}
        ``1.0.4`` can be opened by sinabs and Rockpool.

    Raises
    ------
    BadInput
        If there is no such version, or it cannot say what the graph holds.
    """
    from esl_neuro.interchange import files

    files.write_nir(Path(path), graph, nir_version)
