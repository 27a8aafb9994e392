"""Run a NIR file in nirtorch, which connects graphs but has no neurons; these are NIR's equations in torch.

Its own conversion of Affine loses the bias (2.6) and is not used.
"""

from importlib.metadata import version

import nir
import nirtorch
import numpy as np
import torch
from recording import run


def tensor(values):
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def affine(node):
    module = torch.nn.Linear(node.weight.shape[1], node.weight.shape[0])
    module.weight.data, module.bias.data = tensor(node.weight), tensor(node.bias)
    return module


class Neuron(torch.nn.Module):
    """Forward Euler of IF, LIF, CubaLIF: strict threshold, starts at v_reset, reset to it or by subtraction."""

    def __init__(self, node, dt_s):
        super().__init__()
        ones = np.ones_like(node.r)
        leak_syn = dt_s / node.tau_syn if hasattr(node, "tau_syn") else ones
        leak = (
            dt_s / (node.tau_mem if hasattr(node, "tau_mem") else node.tau)
            if not isinstance(node, nir.IF)
            else 0 * ones
        )
        gain = dt_s * node.r if isinstance(node, nir.IF) else leak * node.r
        drive = leak * getattr(node, "v_leak", 0 * ones)
        self.keep_syn, self.w_in = tensor(1 - leak_syn), tensor(leak_syn * getattr(node, "w_in", ones))
        self.keep, self.gain, self.drive = tensor(1 - leak), tensor(gain), tensor(drive)
        self.threshold, self.reset = tensor(node.v_threshold), tensor(node.v_reset)
        self.rule = node.metadata.get("reset", "zero")

    def forward(self, x, state=None):
        u, v, fired = (torch.zeros_like(x), self.reset + torch.zeros_like(x), 0 * x) if state is None else state
        u = self.keep_syn * u + self.w_in * x
        v = self.keep * v + self.gain * u + self.drive
        if self.rule == "subtract_next_step":
            v = v - fired * self.threshold
        fired = (v > self.threshold).float()
        if self.rule == "zero":
            v = torch.where(fired > 0, self.reset, v)
        elif self.rule == "subtract":
            v = v - fired * self.threshold
        return fired, (u, v, fired)


def load(graph, dt_s, _resets):
    neuron = lambda node: Neuron(node, dt_s)  # noqa: E731
    return nirtorch.nir_to_torch(graph, {nir.Affine: affine, **dict.fromkeys((nir.IF, nir.LIF, nir.CubaLIF), neuron)})


def potential(_module, output):
    return output[1][1]


run(version("nirtorch"), load, potential)
