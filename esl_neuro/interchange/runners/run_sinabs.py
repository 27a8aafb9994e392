"""Run a NIR file in sinabs with its own importer.

The importer (3.1.3) silently drops unknown nodes, and makes neurons that subtract the threshold at a spike, whatever
the file contains. Both change the network, so both are rejected. Of a graph whose neurons subtract, those without leak
run, with one spike in a step and without a lowest potential, which are not in the file; those with leak decay by
``exp(-1 / tau)`` in sinabs, not by forward Euler.
"""

from importlib.metadata import version

import nir
import sinabs.activation
import sinabs.layers
import sinabs.nir
from recording import Refused, run, subtracting

TAKEN = (nir.Input, nir.Output, nir.Affine, nir.Conv2d, nir.SumPool2d, nir.Flatten, nir.LIF, nir.IF, nir.LI)


def load(graph, _dt_s, resets):
    dropped = sorted({type(node).__name__ for node in graph.nodes.values() if not isinstance(node, TAKEN)})
    if dropped:
        raise Refused(f"its importer silently drops {', '.join(dropped)} nodes")
    network = sinabs.nir.from_nir(graph, num_timesteps=1)
    right = [module for module, _ in subtracting(network, resets)]
    for module in network.modules():
        if not isinstance(getattr(module, "reset_fn", None), sinabs.activation.MembraneSubtract):
            continue
        if module not in right:
            raise Refused("its importer makes neurons that subtract the threshold at a spike, NIR resets to v_reset")
        if not isinstance(module, sinabs.layers.IAF):
            raise Refused("its neurons with leak decay by exp(-1 / tau), not by the dt / tau of forward Euler")
        module.spike_fn, module.min_v_mem = sinabs.activation.SingleSpike, None
    return network


def potential(module, _output):
    return getattr(module, "v_mem", None)


run(version("sinabs"), load, potential)
