"""A network of each kind, small, for the tests of budgets: how it is made, and the shape of a sample."""

from __future__ import annotations

from torch import nn

from esl_neuro.snn import LIF, RecurrentLIF, build_layers
from esl_neuro.snn.layers import Conv2d, Flatten, Linear
from esl_neuro.snn.neurons import lif_per_channel
from esl_neuro.sparsity import SparseLinear


class Shortcut(nn.Module):
    """Two paths of different sources meet before the same neurons."""

    def __init__(self):
        super().__init__()
        self.fc1, self.lif1 = Linear(12, 9), LIF(9)
        self.fc2, self.skip, self.lif2 = Linear(9, 7), Linear(12, 7, bias=False), LIF(7)
        self.fc3, self.lif3 = Linear(7, 4), LIF(4)

    def forward(self, signal):
        return self.lif3(self.fc3(self.lif2(self.fc2(self.lif1(self.fc1(signal))) + self.skip(signal))))


def recurrent():
    return nn.Sequential(Linear(12, 9), RecurrentLIF(9), Linear(9, 4), LIF(4))


def built(notation, shape, **settings):
    return build_layers(notation, shape, lif_per_channel(), **({"spiking_output": True} | settings))


NETWORKS = {
    "feed-forward": (lambda: built("12-9-7-4", (12,)), (12,)),
    "a readout that does not fire": (lambda: built("12-9-4", (12,), spiking_output=False), (12,)),
    "in sparse storage": (lambda: built("12-9-4", (12,), linear=lambda _n, i, o, b: SparseLinear(i, o, b)), (12,)),
    "pooled convolutions": (lambda: built("4C3-BN-AP2-5C3S2-BN-6-3", (2, 8, 8)), (2, 8, 8)),
    "a dense block, streaming": (lambda: built("3C3-BN-2D3x2-AP2-3", (1, 6, 6), streaming=True), (1, 6, 6)),
    "groups": (
        lambda: nn.Sequential(Conv2d(2, 4, 3, groups=2), LIF((4, 1, 1)), Flatten(), Linear(64, 3), LIF(3)),
        (2, 6, 6),
    ),
    "recurrent": (recurrent, (12,)),
    "a shortcut": (Shortcut, (12,)),
    "members": (lambda: built("12-(8-4)x2", (12,)), (12,)),
}
