"""Weights of fewer bits than the chip's: which layers have how many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from esl_neuro.errors import BadInput, counted, did_you_mean
from esl_neuro.hardware.arithmetic import SMALLEST_WEIGHT_BITS, Arithmetic

Bits: TypeAlias = "Mapping[str, int]"
"""Bits of the weights of each layer."""


def bits_of_layers(given: int | Bits, layers: Sequence[str], arithmetic: Arithmetic, field: str) -> dict[str, int]:
    """Return the bits of each layer that has other bits than the chip.

    Parameters
    ----------
    given : int or mapping of str to int
        For all layers, or for some.
    layers : sequence of str
        Names of the layers.
    arithmetic : Arithmetic
        Integer formats of the chip.
    field : str
        Name of what was given, for errors.

    Raises
    ------
    BadInput
        If a layer does not exist, or the chip has no weights of as many bits; the message lists all findings.
    """
    bits = dict.fromkeys(layers, given) if isinstance(given, int) else dict(given)
    findings = [
        f"{field}: layer '{name}' does not exist; {did_you_mean(name, layers)}" for name in bits if name not in layers
    ]
    widest = arithmetic.weight_bits
    wrong = sorted({each for each in bits.values() if not SMALLEST_WEIGHT_BITS <= each <= widest})
    findings += [
        f"{field}: weights of {counted(each, 'bit')}; allowed: {SMALLEST_WEIGHT_BITS} to {widest}" for each in wrong
    ]
    if findings:
        raise BadInput("\n".join(findings))
    return {name: each for name, each in bits.items() if each != widest}
