"""Choose the bits of each layer's weights under a limit of synaptic memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from esl_neuro.compiler.quantise import Scaling
from esl_neuro.errors import BadInput
from esl_neuro.hardware.weight_bits import Bits

WIDTHS = (6, 4, 2)  # that are tried below the chip's own


@dataclass(frozen=True)
class Width:
    """One step of the choice.

    Attributes
    ----------
    bits : dict of str to int
        Of each layer.
    stored_bits : int
        Synaptic memory of all cores.
    loss : float
        On the samples of the choice.
    """

    bits: dict[str, int]
    stored_bits: int
    loss: float


def as_scalings(bits: Bits) -> dict[str, Scaling]:
    """Return what :func:`~esl_neuro.compiler.quantise.quantise` needs for these bits."""
    return {name: Scaling(weight_bits=each) for name, each in bits.items()}


def choose_weight_bits(
    layers: Sequence[str],
    widest: int,
    most_bits: int,
    stored: Callable[[Bits], int],
    loss: Callable[[Bits], float],
) -> tuple[Width, ...]:
    """Narrow the layers one by one until the synapses fit, each time where a stored bit costs the least loss.

    From layers with the chip's bits, each step takes the layer and the next of :data:`WIDTHS` with the least::

        (loss(narrower) - loss(now)) / (stored(now) - stored(narrower))

    Layers interact, so all losses are measured anew in each step.

    Parameters
    ----------
    layers : sequence of str
        Names; the first wins a tie.
    widest : int
        Bits of the chip's weights.
    most_bits : int
        Limit of the synaptic memory of all cores.
    stored : callable
        Synaptic memory of the network with these bits.
    loss : callable
        Its loss.

    Returns
    -------
    tuple of Width
        From the chip's bits to the first that fit.

    Raises
    ------
    BadInput
        If the narrowest layers do not fit.
    """
    now = dict.fromkeys(layers, widest)
    path = [Width(now, stored(now), loss(now))]
    while path[-1].stored_bits > most_bits:
        tried = []
        for name in layers:
            narrower = next((each for each in WIDTHS if each < path[-1].bits[name]), None)
            if narrower is not None:
                bits = {**path[-1].bits, name: narrower}
                tried.append(Width(bits, stored(bits), loss(bits)))
        saving = [each for each in tried if each.stored_bits < path[-1].stored_bits]
        if not saving:
            raise BadInput(
                f"stored_bits: the synapses take {path[-1].stored_bits:,} bits with weights of {min(WIDTHS)} bits, "
                f"the limit is {most_bits:,}; raise it, or remove connections"
            )
        path.append(min(saving, key=lambda each: _price(path[-1], each)))
    return tuple(path)


def _price(now: Width, narrower: Width) -> float:
    return (narrower.loss - now.loss) / (now.stored_bits - narrower.stored_bits)
