"""The integer formats of a chip's neuron model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from esl_neuro.toml_tables import Table

# Formats of Lava 0.10.0 `fixed_pt`, and so of every simulator in this project.
DECAY_BITS = 12
DECAY_ONE: int = 2**DECAY_BITS  # decays are multiples of 1 / 4096
POTENTIAL_SHIFT = 6  # weights and thresholds enter u and v shifted left by 6 bits
POTENTIAL_BITS = 24
HALF_RANGE: int = 2 ** (POTENTIAL_BITS - 1)  # u wraps at +-2**23, v saturates just below

# Wider registers than those of any chip, whose values int64 still holds.
LARGEST_BITS = 62
LARGEST_EXPONENT_BITS = 6
LARGEST_SHIFT = 62

SMALLEST_WEIGHT_BITS = 2  # a sign and one size

ChipReset = Literal["zero", "subtract"]


class Arithmetic(Table):
    """Integer formats of the neuron model of a chip; ``*_bits`` include the sign where there is one.

    Attributes
    ----------
    weight_min, weight_max, weight_step : int
        Weights are the multiples of the step in this range.
    weight_exp_min, weight_exp_max : int
        Weighted sums are shifted left by an exponent in this range; a negative one shifts right.
    decay_bits : int
        Decays are the multiples of ``2**-decay_bits``. A program stores decays in 1/4096, so 12 bits are the maximum.
    threshold_bits : int
        Thresholds are unsigned.
    thresholds_per, weight_exp_per : str
        Whether each ``"neuron"`` or only each ``"group"`` has a threshold, and whether each ``"connection"`` or only
        each ``"group"`` has a weight exponent.
    bias_mantissa_bits, bias_exponent_bits : int
        A bias is a signed mantissa, shifted left by an unsigned exponent.
    potential_bits : int
        Synaptic current and membrane potential, signed.
    resets : list of {"zero", "subtract"}
        What a spike can do to the membrane potential: set it to zero, or subtract a constant of the neuron.
    source : str
        Where the formats are described.
    """

    weight_min: int = Field(gt=-(2**31))
    weight_max: int = Field(gt=0, lt=2**31)
    weight_step: int = Field(gt=0, lt=2**31)
    weight_exp_min: int = Field(le=0, ge=-LARGEST_SHIFT)
    weight_exp_max: int = Field(ge=0, le=LARGEST_SHIFT)
    decay_bits: int = Field(gt=0, le=DECAY_BITS)
    threshold_bits: int = Field(gt=0, le=LARGEST_BITS)
    thresholds_per: Literal["neuron", "group"] = "neuron"
    weight_exp_per: Literal["connection", "group"] = "connection"
    bias_mantissa_bits: int = Field(gt=0, le=LARGEST_BITS)
    bias_exponent_bits: int = Field(gt=0, le=LARGEST_EXPONENT_BITS)
    potential_bits: int = Field(gt=POTENTIAL_SHIFT, le=LARGEST_BITS)
    resets: list[ChipReset] = Field(default=["zero"], min_length=1)
    source: str

    @model_validator(mode="after")
    def _ends_are_weights(self) -> Arithmetic:
        for name in ("weight_min", "weight_max"):
            value = getattr(self, name)
            if value % self.weight_step:
                raise ValueError(f"{name} is {value}; it must be a multiple of weight_step ({self.weight_step})")
        return self

    @property
    def weight_bits(self) -> int:
        """Bits of a stored weight, with its sign."""
        return (self.weight_max // self.weight_step).bit_length() + 1

    def with_weight_bits(self, bits: int | None) -> Arithmetic:
        """Return the formats with weights of fewer bits: coarser steps, and as many on both sides of zero.

        Weights of ``b`` bits are ``k step 2**n`` with ``|k| < 2**(b - 1)`` and the largest ``n`` with which they are
        within the chip's range, so the chip holds them exactly, and its arithmetic is the same.

        Parameters
        ----------
        bits : int or None
            From :data:`SMALLEST_WEIGHT_BITS` to the chip's; None leaves the formats as they are.
        """
        if bits is None or bits == self.weight_bits:
            return self
        levels = 2 ** (bits - 1) - 1
        step = self.weight_step << ((self.weight_max // (self.weight_step * levels)).bit_length() - 1)
        largest = step * levels
        return self.model_copy(
            update={"weight_step": step, "weight_max": largest, "weight_min": -largest if self.weight_min < 0 else 0}
        )

    @property
    def decay_step(self) -> int:
        """Step of the decays, in 1/4096."""
        return int(2 ** (DECAY_BITS - self.decay_bits))

    @property
    def ranges(self) -> dict[str, tuple[int, int, int]]:
        """Smallest value, largest value and step of each quantity of a program.

        ``du = -1`` is a synaptic current without decay. It is not a value of the chip's register, but Lava computes it,
        and Lava's own file format uses it.
        """
        bias = 2 ** (self.bias_mantissa_bits - 1) - 1
        return {
            "weights": (self.weight_min, self.weight_max, self.weight_step),
            "weight_exp": (self.weight_exp_min, self.weight_exp_max, 1),
            "du": (-1, DECAY_ONE - 1, self.decay_step),
            "dv": (0, DECAY_ONE - self.decay_step, self.decay_step),
            "vth": (0, 2**self.threshold_bits - 1, 1),
            "bias_mant": (-bias, bias, 1),
            "bias_exp": (0, 2**self.bias_exponent_bits - 1, 1),
            "reset_by": (0, 2 ** (self.potential_bits - 1) - 1, 1),
        }
