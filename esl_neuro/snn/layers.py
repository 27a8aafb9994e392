"""Layers over time: every signal has the shape (steps, batch, ...).

Layers without state treat steps as samples, so that one call processes all steps. A constant signal, recognised by
steps that share memory (``samples.expand(steps, ...)``), is processed once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from esl_neuro.errors import BadInput
from esl_neuro.neuron_major import columns_first, columns_last, is_neuron_major
from esl_neuro.spike_bits import flattened


class StepInvariant:
    """Mix-in for a layer without state: process a constant signal only once."""

    def forward(self, signal: Tensor) -> Tensor:
        """Return the layer's output, shape (steps, batch, ...), which is constant too."""
        if len(signal) < 2 or signal.stride(0) != 0:
            return super().forward(signal)  # type: ignore[misc,no-any-return]
        output: Tensor = super().forward(signal[:1])  # type: ignore[misc]
        return output.expand(len(signal), *output.shape[1:])


class OverTime:
    """Mix-in for a torch layer without state: merge steps and batch, apply the layer, and split them again."""

    def forward(self, signal: Tensor) -> Tensor:
        """Return the layer's output, shape (steps, batch, ...)."""
        merged: Tensor = super().forward(signal.flatten(0, 1))  # type: ignore[misc]
        return merged.reshape(*signal.shape[:2], *merged.shape[1:])


class Linear(StepInvariant, nn.Linear):
    """Linear layer at every step; torch's layer accepts any number of leading dimensions."""

    def forward(self, signal: Tensor) -> Tensor:
        """Return the layer's output, shape (steps, batch, outputs)."""
        if not is_neuron_major(signal):
            return super().forward(signal)
        # Neither this product nor the errors of the signal, which have its layout, need a transposed copy.
        columns = self.weight @ signal.flatten(0, 1).t()
        if self.bias is not None:
            columns = columns + self.bias[:, None]
        return columns.t().unflatten(0, signal.shape[:2])  # type: ignore[no-untyped-call,no-any-return]


class Conv1d(StepInvariant, OverTime, nn.Conv1d):
    """Convolution over one axis, at every step."""


class Conv2d(StepInvariant, OverTime, nn.Conv2d):
    """Convolution of every step."""


class Conv3d(nn.Conv3d):
    """Convolution over time and space, causal over the steps.

    ``y[t] = b + sum over k < span of W_k * x[t - k]``, with two-dimensional convolutions ``*`` and zero before the
    first step. ``W_k`` is ``weight[:, :, span - 1 - k]``, as in torch.

    Parameters
    ----------
    channels_in, channels : int
        Channels of input and output.
    span : int
        Steps that the kernel spans.
    kernel, stride, padding : int
        Of both axes of the image.
    bias : bool
        Whether there is a bias.
    """

    def __init__(
        self, channels_in: int, channels: int, span: int, kernel: int, stride: int, padding: int, *, bias: bool = True
    ) -> None:
        size, steps, border = (span, kernel, kernel), (1, stride, stride), (0, padding, padding)
        super().__init__(channels_in, channels, size, steps, border, bias=bias)

    def forward(self, signal: Tensor) -> Tensor:
        """Return the sums, shape (steps, batch, channels, height, width)."""
        earlier = signal.new_zeros(self.kernel_size[0] - 1, *signal.shape[1:])
        return super().forward(torch.cat([earlier, signal]).permute(1, 2, 0, 3, 4)).permute(2, 0, 1, 3, 4)


class BatchNorm2d(OverTime, nn.BatchNorm2d):
    """Batch normalisation with statistics shared over the steps, as TET does."""

    def forward(self, signal: Tensor) -> Tensor:
        """Return the layer's output, shape (steps, batch, ...)."""
        constant = len(signal) > 1 and signal.stride(0) == 0
        if not is_neuron_major(signal[:1] if constant else signal):
            return super().forward(signal)
        rows = columns_last(signal)  # the channels of one sample that has all columns
        normalised: Tensor = super(OverTime, self).forward(rows.flatten(1, 2)[None])
        return columns_first(normalised.view(rows.shape), (signal.shape[0], signal.shape[1]))


class ByChannel(OverTime):
    """Mix-in for a pooling layer: the columns of images with one row per neuron are channels that follow each other."""

    def forward(self, signal: Tensor) -> Tensor:
        """Return the layer's output, shape (steps, batch, ...)."""
        if not is_neuron_major(signal):
            return super().forward(signal)
        pooled: Tensor = super(OverTime, self).forward(columns_last(signal).permute(0, 3, 1, 2))  # type: ignore[misc]
        return columns_first(pooled.permute(0, 2, 3, 1), (signal.shape[0], signal.shape[1]))


class AvgPool2d(StepInvariant, ByChannel, nn.AvgPool2d):
    """Average pooling of every step."""


class MaxPool2d(StepInvariant, ByChannel, nn.MaxPool2d):
    """Maximum pooling of every step; of spikes, a logical or."""


class GlobalAvgPool2d(nn.Module):
    """Mean over all positions: (steps, batch, channels, height, width) to (steps, batch, channels)."""

    def forward(self, signal: Tensor) -> Tensor:
        """Return the means."""
        return signal.mean((-2, -1))


class Flatten(nn.Module):
    """Flatten the features of a step: (steps, batch, ...) to (steps, batch, features)."""

    def forward(self, signal: Tensor) -> Tensor:
        """Return the flattened signal."""
        return flattened(signal)


class Delay(nn.Module):
    """Delay a signal: ``y[t] = x[t - steps]``, zero before its first step.

    Parameters
    ----------
    steps : int
        Delay in steps, 1 or more.

    Raises
    ------
    BadInput
        If it is less.
    """

    def __init__(self, steps: int = 1) -> None:
        super().__init__()
        if steps < 1:
            raise BadInput(f"Delay: {steps} steps are not allowed; use 1 or more, or no delay")
        self.steps = steps

    def forward(self, signal: Tensor) -> Tensor:
        """Return the delayed signal, of the same shape."""
        nothing = signal.new_zeros(min(self.steps, len(signal)), *signal.shape[1:])
        return torch.cat([nothing, signal[: -self.steps]])


class DelaySlots(nn.Module):
    """Offer each signal line with several delays: ``y[t, k N + j] = x[t - k stride, j]``, zero before its first step.

    A linear layer behind it has a weight for each (target, source, delay slot), so its connections are pruned and grown
    over sources and delays alike. Several slots of one pair of neurons are separate connections.

    Parameters
    ----------
    slots : int
        Number K of delay slots, 1 or more; slot k delays by ``k * stride`` steps.
    stride : int
        Steps between two slots, 1 or more.

    Raises
    ------
    BadInput
        If one of them is less.
    """

    def __init__(self, slots: int, stride: int = 1) -> None:
        super().__init__()
        if slots < 1 or stride < 1:
            raise BadInput(f"DelaySlots: {slots} slots of {stride} steps are not allowed; both must be 1 or more")
        self.slots, self.stride = slots, stride

    @property
    def delays(self) -> range:
        """Delay of each slot, in steps."""
        return range(0, self.slots * self.stride, self.stride)

    def forward(self, signal: Tensor) -> Tensor:
        """Return the delayed copies, (steps, batch, N) to (steps, batch, K N)."""
        steps, longest = len(signal), self.delays[-1]
        late = torch.cat([signal.new_zeros(longest, *signal.shape[1:]), signal])
        return torch.cat([late[longest - delay : longest - delay + steps] for delay in self.delays], dim=2)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"slots={self.slots}, stride={self.stride}"


class Concatenate(nn.Module):
    """Concatenate the channels of several signals, shape (steps, batch, channels, ...)."""

    def forward(self, *signals: Tensor) -> Tensor:
        """Return one signal with the channels of all, in their order."""
        return torch.cat(signals, dim=2)


class DenseLayer(nn.Module):
    """Convolution, batch norm and neurons, whose spikes are appended to the input (DenseNet, Huang et al., CVPR 2017).

    ``x_l = [x_{l-1}, N(BN(W_l * x_{l-1}))]``, so that the layer after l of them reads the spikes of all. In the order
    of the layers it differs from DenseNet's, because what travels here are spikes.

    Parameters
    ----------
    channels, growth : int
        Channels of the input, and of what is appended.
    kernel : int
        Side of the kernel, odd.
    neurons : nn.Module
        Neurons of ``growth`` channels.
    streaming : bool
        Whether their spikes take one step to arrive.
    """

    def __init__(self, channels: int, growth: int, kernel: int, neurons: nn.Module, *, streaming: bool = False) -> None:
        super().__init__()
        self.conv = Conv2d(channels, growth, kernel, 1, kernel // 2, bias=False)
        self.bn = BatchNorm2d(growth)
        self.lif = neurons
        self.delay = Delay(1) if streaming else nn.Identity()
        self.append = Concatenate()

    def forward(self, signal: Tensor) -> Tensor:
        """Return spikes, shape (steps, batch, channels + growth, height, width)."""
        spikes: Tensor = self.append(signal, self.delay(self.lif(self.bn(self.conv(signal)))))
        return spikes


class Vote(nn.Module):
    """Mean over groups of neighbouring output neurons, one group per class (STL-SNN).

    Parameters
    ----------
    group : int
        Neurons per class.
    """

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def forward(self, signal: Tensor) -> Tensor:
        """Return the means, shape (steps, batch, neurons / group)."""
        return signal.reshape(*signal.shape[:-1], -1, self.group).mean(-1)


class Members(nn.Module):
    """Sub-networks that read the same signal and decide together: the mean of their outputs.

    ``O(t) = 1/M sum_m O_m(t)`` with ``O_m`` the spikes or the weighted sums of the last layer of member m. The class is
    the largest output, summed over the steps, so members vote with their spikes, or with their potentials if their
    last layers do not fire. This rule is ours.

    Parameters
    ----------
    members : sequence of nn.Module
        Sub-networks with equally many outputs; they are named ``member1``, ``member2``, ...
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        for number, member in enumerate(members, start=1):
            self.add_module(f"member{number}", member)

    def forward(self, signal: Tensor) -> Tensor:
        """Return the mean of the outputs, shape (steps, batch, classes)."""
        first, *others = self.children()
        total = first(signal)
        for member in others:
            total = total + member(signal)
        mean: Tensor = total * (1 / (1 + len(others)))
        return mean


class SynapticFilter(nn.Module):
    """Exponential synapses before the membrane, which make a LIF a CUBA-LIF.

    ``u[t] = tau_syn u[t-1] + I[t]``

    Parameters
    ----------
    tau_syn : float or Tensor
        Factor by which the synaptic current decays per step, in [0, 1); a tensor that broadcasts with a step if
        synapses differ.
    """

    def __init__(self, tau_syn: float | Tensor) -> None:
        super().__init__()
        self.tau_syn: float | Tensor
        keep_decay(self, "tau_syn", tau_syn)

    def forward(self, currents: Tensor) -> Tensor:
        """Return the filtered currents, shape (steps, batch, ...), from rest."""
        filtered, current = [], torch.zeros_like(currents[0])
        for arriving in currents.unbind(0):
            if isinstance(self.tau_syn, Tensor):
                current = torch.addcmul(arriving, current, self.tau_syn)
            else:
                current = torch.add(arriving, current, alpha=self.tau_syn)
            filtered.append(current)
        return torch.stack(filtered)


def keep_decay(module: nn.Module, name: str, decay: float | Tensor) -> None:
    """Register decays per neuron as a buffer of the module, and a common decay as a plain number."""
    if isinstance(decay, Tensor):
        module.register_buffer(name, decay)
    else:
        setattr(module, name, decay)
