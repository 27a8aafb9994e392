"""Run a NIR file in sinabs, through its own importer.

The importer (3.1.3) drops nodes that it does not know without a word, and makes neurons that subtract the threshold at
a spike, whatever the file says. Both would be another network, so both are refused.
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
        raise Refused(f"its importer drops {', '.join(dropped)} nodes without a word")
    network = sinabs.nir.from_nir(graph, batch_size=1)
    for module in network.modules():
        if isinstance(getattr(module, "reset_fn", None), sinabs.activation.MembraneSubtract):
            raise Refused("its importer makes neurons that subtract the threshold at a spike, NIR resets to v_reset")
    return network


def potential(module, _output):
    return getattr(module, "v_mem", None)


run(version("sinabs"), load, potential)
