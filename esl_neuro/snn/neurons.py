"""Neurons with learnable thresholds."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.resets import RESETS, SUBTRACT_NEXT_STEP, ZERO, Reset
from esl_neuro.snn.functional import ACTIVATIONS, SURROGATES, liaf, lif, recurrent_lif
from esl_neuro.snn.layers import Delay, SynapticFilter, keep_decay

# Makes the neurons of a layer with signals of a shape: (neurons,) or (channels, height, width).
NeuronFactory = Callable[[tuple[int, ...]], nn.Module]


class LIF(nn.Module):
    """Leaky integrate-and-fire neurons with one positive threshold each (STL-SNN).

    The threshold is ``softplus(raw_threshold)`` and so always positive, because the chip needs positive thresholds.

    The defaults are those of the recipe ``mlp-digits``: decay and threshold of TET, surrogate gradient and learned
    thresholds of STL-SNN.

    Parameters
    ----------
    neurons : int or tuple of int
        Shape of the thresholds: the number of neurons, or a shape that broadcasts with the signal, such as (channels,
        1, 1) for one threshold per channel of a convolution.
    tau : float or Tensor
        Membrane decay factor (the papers' tau), in [0, 1]; a tensor of the thresholds' shape if neurons differ.
    threshold : float
        Initial threshold, positive.
    surrogate : str
        Name of the surrogate gradient.
    surrogate_width : float
        Its width, in units of potential.
    learn_threshold : bool
        Whether the thresholds are trained.
    reset : {"zero", "subtract", "subtract_next_step"}
        What a spike does to the potential, see :mod:`esl_neuro.resets`.

    Raises
    ------
    BadInput
        If there is no reset of that name, or nothing of the potential remains from which the next step could subtract.
    """

    def __init__(
        self,
        neurons: int | tuple[int, ...],
        tau: float | Tensor = 0.5,
        threshold: float = 1.0,
        surrogate: str = "arctan",
        surrogate_width: float = 1.0,
        learn_threshold: bool = True,
        reset: Reset = ZERO,
    ) -> None:
        super().__init__()
        if reset not in RESETS:
            raise BadInput(f"reset '{reset}' is unknown; {did_you_mean(reset, RESETS)}")
        if reset == SUBTRACT_NEXT_STEP and bool((torch.as_tensor(tau) == 0).any()):
            raise BadInput(f"reset '{reset}' needs a tau above 0, because the next step subtracts from what remains")
        self.reset: Reset = reset
        self.tau: float | Tensor
        keep_decay(self, "tau", tau)
        self.surrogate = SURROGATES[surrogate]
        self.surrogate_width = surrogate_width
        inverse_softplus = threshold + math.log(-math.expm1(-threshold))  # of softplus; no overflow for large ones
        self.raw_threshold = nn.Parameter(torch.full(_shape(neurons), inverse_softplus), requires_grad=learn_threshold)

    @property
    def threshold(self) -> Tensor:
        """Thresholds, all positive."""
        return nn.functional.softplus(self.raw_threshold)

    def forward(self, currents: Tensor) -> Tensor:
        """Return spikes, shape (steps, batch, ...), starting from rest."""
        if currents.dtype in (torch.float16, torch.bfloat16):
            currents = currents.float()  # potentials accumulate over the steps, so mixed precision ends here
        return lif(currents, self.tau, self.threshold, self.surrogate, self.surrogate_width, self.reset)


class CubaLIF(LIF):
    """LIF neurons with exponential synapses (current-based LIF).

    ``u[t] = tau_syn u[t-1] + I[t]`` is the current of the LIF; the other parameters are those of :class:`LIF`.

    Parameters
    ----------
    tau_syn : float or Tensor
        Factor by which the synaptic current decays per step, in [0, 1); a tensor if neurons differ. Default: the decay
        of the membrane.
    """

    def __init__(
        self,
        neurons: int | tuple[int, ...],
        tau: float | Tensor = 0.5,
        tau_syn: float | Tensor = 0.5,
        threshold: float = 1.0,
        surrogate: str = "arctan",
        surrogate_width: float = 1.0,
        learn_threshold: bool = True,
        reset: Reset = ZERO,
    ) -> None:
        super().__init__(neurons, tau, threshold, surrogate, surrogate_width, learn_threshold, reset)
        self.synapses = SynapticFilter(tau_syn)

    def forward(self, currents: Tensor) -> Tensor:
        """Return spikes, shape (steps, batch, ...), starting from rest."""
        return super().forward(self.synapses(currents))


class RecurrentLIF(LIF):
    """LIF neurons with recurrent connections to all neurons of their layer, with a delay of one step.

    ``i[t] = tau_syn i[t-1] + I[t] + W_rec o[t-1]`` is the current of the LIF; the other parameters are those of
    :class:`LIF`. The weights are a linear layer named ``recurrent``, which structure learning can mask like any other
    layer.

    Parameters
    ----------
    neurons : int
        Number of neurons.
    tau_syn : float or Tensor
        Factor by which the synaptic current decays per step, in [0, 1); 0 for neurons without synapses.
    """

    def __init__(
        self,
        neurons: int,
        tau: float | Tensor = 0.5,
        threshold: float = 1.0,
        surrogate: str = "arctan",
        surrogate_width: float = 1.0,
        learn_threshold: bool = True,
        tau_syn: float | Tensor = 0.0,
        reset: Reset = ZERO,
    ) -> None:
        super().__init__(neurons, tau, threshold, surrogate, surrogate_width, learn_threshold, reset)
        self.tau_syn: float | Tensor
        keep_decay(self, "tau_syn", tau_syn)
        self.recurrent = nn.Linear(neurons, neurons, bias=False)

    def forward(self, currents: Tensor) -> Tensor:
        """Return spikes, shape (steps, batch, neurons), starting from rest."""
        if currents.dtype in (torch.float16, torch.bfloat16):
            currents = currents.float()  # as in LIF
        return recurrent_lif(
            currents,
            self.tau,
            self.tau_syn,
            self.threshold,
            self.surrogate,
            self.surrogate_width,
            self.recurrent,
            self.reset,
        )


class LIAF(LIF):
    """Leaky integrate and analog fire neurons, whose output is an activation of their potential (LIAF-Net).

    The equations are those of :func:`~esl_neuro.snn.functional.liaf_step`; the defaults are those of the authors'
    program for DVS128-Gesture. The output of a step is any number, so a chip would need graded spikes; NIR has no such
    neuron.

    Parameters
    ----------
    neurons, tau, threshold, surrogate, surrogate_width, learn_threshold
        As in :class:`LIF`.
    activation : str
        Name of the activation.
    """

    def __init__(
        self,
        neurons: int | tuple[int, ...],
        tau: float | Tensor = 0.3,
        threshold: float = 0.3,
        activation: str = "selu",
        surrogate: str = "rectangle",
        surrogate_width: float = 0.5,
        learn_threshold: bool = False,
    ) -> None:
        super().__init__(neurons, tau, threshold, surrogate, surrogate_width, learn_threshold)
        self.activation = ACTIVATIONS[activation]

    def forward(self, currents: Tensor) -> Tensor:
        """Return analog outputs, shape (steps, batch, ...), starting from rest."""
        if currents.dtype in (torch.float16, torch.bfloat16):
            currents = currents.float()  # as in LIF
        return liaf(currents, self.tau, self.threshold, self.activation, self.surrogate, self.surrogate_width)


def _shape(neurons: int | tuple[int, ...]) -> tuple[int, ...]:
    return (neurons,) if isinstance(neurons, int) else neurons


def lif_per_channel(
    tau: float = 0.5,
    threshold: float = 1.0,
    surrogate: str = "triangle",
    surrogate_width: float = 1.0,
    learn_threshold: bool = False,
    reset: Reset = ZERO,
) -> NeuronFactory:
    """Return a factory of LIF neurons with one threshold per neuron of a linear layer and per channel of a convolution.

    A threshold per channel can be folded into the shared weights of a convolution, one per position cannot. The
    defaults are those of TET.
    """

    def make(shape: tuple[int, ...]) -> nn.Module:
        thresholds = (shape[0], *[1] * (len(shape) - 1))
        return LIF(thresholds, tau, threshold, surrogate, surrogate_width, learn_threshold, reset)

    return make


def lif_per_position(
    tau: float = 0.5,
    threshold: float = 2.0,
    surrogate: str = "arctan",
    surrogate_width: float = 1.0,
    learn_threshold: bool = True,
    reset: Reset = ZERO,
) -> NeuronFactory:
    """Return a factory of LIF neurons with one threshold per neuron, also in convolutions; defaults of STL-SNN."""

    def make(shape: tuple[int, ...]) -> nn.Module:
        return LIF(shape, tau, threshold, surrogate, surrogate_width, learn_threshold, reset)

    return make


def streaming_neurons(neurons: NeuronFactory) -> NeuronFactory:
    """Return a factory of neurons whose spikes take one step to arrive at whatever reads them.

    In a streaming rollout (Kugele et al., Front. Neurosci. 14:439, 2020) every connection takes one step, as on a chip,
    and paths of different length are not equalised: ``I_l[t] = sum over sources k of W_lk s_k[t-1]``. The delay of the
    network's input would shift all layers by the same step, so it is left out. For all neurons but those of the output.
    """

    def make(shape: tuple[int, ...]) -> nn.Module:
        return nn.Sequential(OrderedDict(neurons=neurons(shape), delay=Delay(1)))

    return make
