"""Run a NIR file in snnTorch with its own importer."""

import contextlib
import io
from importlib.metadata import version

from recording import Refused, run
from snntorch.import_nir import import_from_nir

DT_S = 1e-4


def load(graph, dt_s):
    if abs(dt_s - DT_S) > 1e-9 * DT_S:
        raise Refused(f"its importer assumes a time step of {DT_S:g} s, this graph has {dt_s:g} s")
    with contextlib.redirect_stdout(io.StringIO()):
        return import_from_nir(graph)


def potential(module, _output):
    return getattr(module, "mem", None)


run(version("snntorch"), load, potential)
