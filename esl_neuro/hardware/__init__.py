"""Chips and processors as data, and rounding to the integers of a chip. No torch here.

A target is one TOML file of ``hw_targets/``: what fits (:class:`Limit`), the integer formats (:class:`Arithmetic`) and
the published energy figures (:class:`Constant`). :mod:`~esl_neuro.hardware.rounding` rounds to these formats.
"""

from esl_neuro.hardware.arithmetic import Arithmetic
from esl_neuro.hardware.constants import EVIDENCE, SCOPES, Constant, Interval, UnpublishedConstant
from esl_neuro.hardware.target import KIND, PROCESSORS, HardwareTarget, Limit, arithmetic_of, as_target, load_target
from esl_neuro.hardware.units import UNITS, convert

__all__ = [
    "EVIDENCE",
    "KIND",
    "PROCESSORS",
    "SCOPES",
    "UNITS",
    "Arithmetic",
    "Constant",
    "HardwareTarget",
    "Interval",
    "Limit",
    "UnpublishedConstant",
    "arithmetic_of",
    "as_target",
    "convert",
    "load_target",
]
