"""Run a NIR file in Norse with its own importer."""

from importlib.metadata import version

import norse.torch
from recording import Refused, run


def load(graph, dt_s, resets):
    if set(resets.values()) - {"zero"}:
        raise Refused("its neurons reset to v_reset only, this graph has resets by subtraction")
    return norse.torch.from_nir(graph, dt=dt_s)


def potential(_module, output):
    state = output[1]
    while not hasattr(state, "v"):  # the state of a current-based neuron contains those of synapse and membrane
        state = state[-1]
    return state.v


run(version("norse"), load, potential)
