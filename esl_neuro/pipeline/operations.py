"""Operations of any torch module, and their energy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from esl_neuro.energy.counts import Counts, count_recording
from esl_neuro.energy.estimate import Estimate
from esl_neuro.energy.prices import price
from esl_neuro.hardware import load_target
from esl_neuro.pipeline.choices import ENERGY_TARGETS
from esl_neuro.pipeline.inputs import Layout, samples_first
from esl_neuro.pipeline.pricing import target_names

if TYPE_CHECKING:
    from torch import Tensor, nn


def count_operations(
    network: nn.Module,
    inputs: ArrayLike | Tensor,
    *,
    layout: Layout,
    signals: Mapping[str, str] | None = None,
    neurons: tuple[type[nn.Module], ...] = (),
    run: Callable[[nn.Module, Tensor], object] | None = None,
) -> Counts:
    """Run a torch module and count the operations of its linear layers and convolutions, whatever the kind of mask.

    Parameters
    ----------
    network : nn.Module
        The module; it is called with a float tensor (steps, samples, ...).
    inputs : array or tensor
        Inputs of the module.
    layout : {"samples,steps,...", "steps,samples,..."}
        Order of the first two axes of ``inputs``; required, because both are common.
    signals : mapping of str to str, optional
        Kind of input of a layer, by the name of the layer: ``"spike"`` (the default), ``"graded"`` or ``"analog"``.
    neurons : tuple of types
        Types of modules whose outputs are spikes, besides those of this package.
    run : callable, optional
        ``run(network, tensor)``, if a plain call is not enough.

    Raises
    ------
    BadInput
        If the module multiplies by weights in a way that cannot be counted, or an input that is declared as spikes
        contains other values.
    """
    import torch

    from esl_neuro.interchange.record import record
    from esl_neuro.snn.neurons import LIF

    values = samples_first(inputs, layout).astype(np.float32).swapaxes(0, 1)
    fed = torch.from_numpy(np.ascontiguousarray(values))
    return count_recording(record(network, fed, signals=signals, neurons=(LIF, *neurons), run=run))


def price_operations(
    counts: Counts, targets: Sequence[str | Path] = ENERGY_TARGETS, *, tick_s: float | None = None
) -> tuple[Estimate, ...]:
    """Price counted operations with every price model of each target.

    Parameters
    ----------
    counts : Counts
        From :func:`count_operations`, or ``counts`` of a :class:`RunResult`.
    targets : sequence of str or Path
        Names, or paths of TOML files; ``"all"`` for every target.
    tick_s : float, optional
        Duration of one time step of real time on a chip, in seconds. Default: the chips run freely.

    Raises
    ------
    BadInput
        If a target is unknown.
    """
    return tuple(each for name in target_names(targets) for each in price(counts, load_target(name), tick_s))
