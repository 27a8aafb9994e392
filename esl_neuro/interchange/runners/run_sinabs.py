"""Run a NIR file in sinabs with its own importer.

The importer (3.1.3) silently drops unknown nodes, and makes neurons that subtract the threshold at a spike, whatever
the file contains. Both change the network, so both are rejected.
"""

from importlib.metadata import version

import nir
import sinabs.activation
import sinabs.layers
import sinabs.nir
from recording import Refused, run

TAKEN = (nir.Input, nir.Output, nir.Affine, nir.Conv2d, nir.SumPool2d, nir.Flatten, nir.LIF, nir.IF, nir.LI)


def load(graph, _dt_s):
    dropped = sorted({type(node).__name__ for node in graph.nodes.values() if not isinstance(node, TAKEN)})
    if dropped:
        raise Refused(f"its importer silently drops {', '.join(dropped)} nodes")
    network = sinabs.nir.from_nir(graph, batch_size=1)
    for module in network.modules():
        if isinstance(getattr(module, "reset_fn", None), sinabs.activation.MembraneSubtract):
            raise Refused("its importer makes neurons that subtract the threshold at a spike, NIR resets to v_reset")
    return network


def potential(module, _output):
    return getattr(module, "v_mem", None)


run(version("sinabs"), load, potential)
