"""One step of training, as the benchmarks time it, and the network with sparse hidden layers that they train."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torch.optim import Optimizer

from esl_neuro.snn.network import build_layers
from esl_neuro.snn.neurons import lif_per_channel
from esl_neuro.sparsity import FewOutputs, SparseLinear
from esl_neuro.training.losses import LOSSES

TAU = 0.5


def make_step(network: nn.Module, optimizer: Optimizer, inputs: Tensor, labels: Tensor) -> None:
    """Make a step: forward, cross-entropy of every time step averaged, backward, optimiser."""
    loss = LOSSES["tet"](network(inputs), labels)
    network.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def lif_network(sizes: Sequence[int], sparse: Sequence[str] = ()) -> nn.Module:
    """Return linear layers with LIF neurons between; those that are named store their connections only.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, neurons of each layer, classes.
    sparse : sequence of str
        Names of the sparse layers, ``fc1`` the first. They have no connections yet: a learner draws them.
    """
    neurons = lif_per_channel(tau=TAU, learn_threshold=True)
    linear = partial(_linear, sparse) if sparse else None
    return build_layers("-".join(map(str, sizes)), (sizes[0],), neurons, bias=False, linear=linear)


def _linear(sparse: Sequence[str], name: str, inputs: int, outputs: int, bias: bool) -> nn.Module:
    return SparseLinear(inputs, outputs, bias) if name in sparse else FewOutputs(inputs, outputs, bias)
