"""Run a NIR file in SpikingJelly with its own importer; its neurons subtract the threshold if they have no v_reset."""

from importlib.metadata import version

from recording import Refused, run, subtracting
from spikingjelly.activation_based.nir_exchange.from_nir import import_from_nir


def load(graph, dt_s, resets):
    network = import_from_nir(graph, dt=dt_s)
    for module, reset in subtracting(network, resets):
        if reset != "subtract":
            raise Refused(f"its neurons subtract at once, this graph has the reset '{reset}'")
        module.module.v_reset = None
    return network


def potential(module, output):
    names = list(getattr(module.module, "_memories", {}))
    return output[1][names.index("v")] if "v" in names else None


run(version("spikingjelly"), load, potential)
