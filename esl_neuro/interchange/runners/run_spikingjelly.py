"""Run a NIR file in SpikingJelly with its own importer."""

from importlib.metadata import version

from recording import run
from spikingjelly.activation_based.nir_exchange.from_nir import import_from_nir


def load(graph, dt_s):
    return import_from_nir(graph, dt=dt_s)


def potential(module, output):
    names = list(getattr(module.module, "_memories", {}))
    return output[1][names.index("v")] if "v" in names else None


run(version("spikingjelly"), load, potential)
