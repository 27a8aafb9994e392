"""Count the operations of a run exactly, and price the counts with published constants.

Counting (:mod:`~esl_neuro.energy.counts`) is independent of hardware, pricing (:mod:`~esl_neuro.energy.prices`) is
independent of the network. Nothing in this room imports torch.
"""

from typing import TYPE_CHECKING

from esl_neuro.lazy import lazily

if TYPE_CHECKING:
    from esl_neuro.energy.breakeven import BreakEven, break_even
    from esl_neuro.energy.core_map import CoreMap, compiled_placement, read_placement
    from esl_neuro.energy.counts import Counts, LayerCounts, count, count_recording
    from esl_neuro.energy.estimate import Estimate
    from esl_neuro.energy.measurement import Measurement, measure
    from esl_neuro.energy.presets import PRESETS
    from esl_neuro.energy.prices import PRICE_MODELS, price
    from esl_neuro.energy.report import EnergyReport, energy_report
    from esl_neuro.energy.uncertainty import Distribution, Draws, distribution

_HOMES = {
    "BreakEven": "breakeven",
    "break_even": "breakeven",
    "CoreMap": "core_map",
    "compiled_placement": "core_map",
    "read_placement": "core_map",
    "Counts": "counts",
    "LayerCounts": "counts",
    "count": "counts",
    "count_recording": "counts",
    "Estimate": "estimate",
    "Measurement": "measurement",
    "measure": "measurement",
    "PRESETS": "presets",
    "PRICE_MODELS": "prices",
    "price": "prices",
    "EnergyReport": "report",
    "energy_report": "report",
    "Distribution": "uncertainty",
    "Draws": "uncertainty",
    "distribution": "uncertainty",
}
__all__ = [
    "PRESETS",
    "PRICE_MODELS",
    "BreakEven",
    "CoreMap",
    "Counts",
    "Distribution",
    "Draws",
    "EnergyReport",
    "Estimate",
    "LayerCounts",
    "Measurement",
    "break_even",
    "compiled_placement",
    "count",
    "count_recording",
    "distribution",
    "energy_report",
    "measure",
    "price",
    "read_placement",
]
__getattr__ = lazily(__name__, _HOMES)
