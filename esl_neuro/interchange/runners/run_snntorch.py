"""Run a NIR file in snnTorch with its own importer, which makes neurons that reset to zero.

For a reset by subtraction, the neurons get snnTorch's own ``reset_mechanism="subtract"``, with ``reset_delay`` if the
next step subtracts. Without it, snnTorch takes a potential that is still above the threshold after the subtraction for
one that has fired already, unlike the reference.
"""

import contextlib
import io
from importlib.metadata import version

from recording import Refused, run, subtracting
from snntorch.import_nir import import_from_nir

DT_S = 1e-4


def load(graph, dt_s, resets):
    if abs(dt_s - DT_S) > 1e-9 * DT_S:
        raise Refused(f"its importer assumes a time step of {DT_S:g} s, this graph has {dt_s:g} s")
    with contextlib.redirect_stdout(io.StringIO()):
        network = import_from_nir(graph)
    for module, reset in subtracting(network, resets):
        module.reset_mechanism = "subtract"
        module.state_function, module.reset_delay = module._base_sub, reset == "subtract_next_step"
    return network


def potential(module, _output):
    return getattr(module, "mem", None)


run(version("snntorch"), load, potential)
