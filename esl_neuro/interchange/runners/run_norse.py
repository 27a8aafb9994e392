"""Run a NIR file in Norse with its own importer."""

from importlib.metadata import version

import norse.torch
from recording import run


def load(graph, dt_s):
    return norse.torch.from_nir(graph, dt=dt_s)


def potential(_module, output):
    state = output[1]
    while not hasattr(state, "v"):  # the state of a current-based neuron contains those of synapse and membrane
        state = state[-1]
    return state.v


run(version("norse"), load, potential)
