"""The integer formats of a chip's neuron model."""

from __future__ import annotations

from pydantic import Field

from esl_neuro.hardware.tables import Table


class Arithmetic(Table):
    """Integer formats of the neuron model of a chip; ``*_bits`` include the sign where there is one."""

    weight_min: int
    weight_max: int
    weight_step: int = Field(gt=0)
    decay_bits: int = Field(gt=0)
    threshold_bits: int = Field(gt=0)
    bias_mantissa_bits: int = Field(gt=0)
    bias_exponent_bits: int = Field(gt=0)
    potential_bits: int = Field(gt=0)
    source: str
