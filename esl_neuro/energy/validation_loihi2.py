"""Every published measurement of Loihi 2 beside the prediction of the fitted model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from esl_neuro.energy.chip_fit import RISE_NEURONS, Observation, observations
from esl_neuro.energy.core_use import CoreUse
from esl_neuro.energy.counts import Counts
from esl_neuro.energy.estimate import PJ_PER_J
from esl_neuro.energy.fitted import CORNERS
from esl_neuro.energy.measurements import Measurements, Point, measurements, points
from esl_neuro.energy.prices import PRICE_MODELS
from esl_neuro.energy.step_time import summed, timing
from esl_neuro.energy.uncertainty import Draws, draw
from esl_neuro.energy.validation import ValidationPoint, quantiles_of, workload
from esl_neuro.hardware import Constant, HardwareTarget, Interval, load_target
from esl_neuro.hardware.units import convert
from esl_neuro.random_streams import stream

CHIP = "loihi2"
N3C1 = "N3C1"
RISE = "the rise of total power over a sweep, because its static power and rails are not stated"
TABLE2 = "Loihi's Table 2, every update active"
DRAWS = 4000
Predicted = tuple[str, float, float, float]  # model, 5 %, nominal, 95 %


def loihi2_points() -> Iterator[ValidationPoint]:
    """Yield every reading of the table; those of unknown workloads without a prediction."""
    chip, table = load_target(CHIP), measurements(CHIP)
    for point in points(table):
        predictions = list(_predictions(point, chip))
        for prediction in predictions:
            yield _validation(point, table, prediction)
        if not predictions:
            yield _validation(point, table, None)
    for rise in observations(points(table)):
        if not rise.chips:
            yield from _rises(rise, chip, table)


def _validation(point: Point, table: Measurements, prediction: Predicted | None) -> ValidationPoint:
    reading, load = point.reading, point.workload
    model, low, nominal, high = prediction or ("", None, None, None)
    scatter = None if reading.quantity == "step time" else table.repeatability
    if reading.sd is not None:
        scatter = abs(reading.sd / reading.value)
    return ValidationPoint(
        CHIP,
        f"{reading.id} {reading.quantity}",
        model,
        nominal,
        low,
        high,
        reading.value,
        reading.unit,
        (point.use == "fit" or model == "fitted-board")
        and not reading.suspect
        and not load.fit_rise
        and "table2" not in model,
        f"{load.id}: {load.title}, {load.board} {load.revision}; {load.why} [{load.source}; read from: {load.read}]",
        scatter,
        reading.suspect,
        "table2" in model,
    )


def run_counts(point: Point) -> Counts:
    """Return the counts of the workload of a reading, as if it ran on one chip."""
    load = point.workload
    steps = min(load.steps, 1000)  # the same in every step, so any number of them has the same mean
    counts = workload(point.sop * steps, point.neuron_updates * steps, point.neuron_updates * steps, steps)
    busiest = np.full((1, steps), round(load.busiest_core_sop or 0.0), dtype=np.int64)
    return replace(counts, core_use={CHIP: CoreUse(max(point.cores, 1), None, 0, busiest, 0)})


def _predictions(point: Point, chip: HardwareTarget) -> Iterator[Predicted]:
    """Yield the predictions of one reading, in its unit."""
    reading, load = point.reading, point.workload
    if point.use == "unpredicted" or (load.fit_rise and reading.quantity == "total power"):
        return
    if reading.quantity == "static power":
        yield _static(chip, load.revision, reading.unit)
        return
    counts = run_counts(point)
    if reading.quantity == "step time":
        time = timing(counts, chip, None)
        low, _, high = (convert(each / counts.steps, "s", reading.unit) for each in summed(time, Draws()))
        yield "step time", low, convert(time.step_s.nominal, "s", reading.unit), high
        return
    level = reading.quantity.split()[0]
    tick = None if load.step_time_us is None else load.step_time_us * 1e-6
    if reading.quantity.endswith("energy"):
        scale = load.steps / counts.steps / convert(1.0, reading.unit, "pJ")
    else:
        seconds = (load.step_time_us or 0.0) * 1e-6
        scale = 1 / (PJ_PER_J * counts.steps * seconds) / convert(1.0, reading.unit, "W")
    for model in _models(level, load.revision):
        yield model, *quantiles_of(PRICE_MODELS[model](counts, chip, tick), scale)
    if load.id == "pilotnet-lif" and level == "dynamic":
        prices = PRICE_MODELS["table2"](counts, load_target("loihi"), None)
        yield "loihi table2", *quantiles_of(prices, scale)


def _models(level: str, revision: str) -> tuple[str, ...]:
    if level == "dynamic":
        return tuple(f"fitted-{corner}" for corner in CORNERS)
    if level == "board":
        return ("fitted-board",)
    return ("fitted-chip-n3c1",) if revision == N3C1 else ("fitted-chip",)


def _static(chip: HardwareTarget, revision: str, unit: str) -> Predicted:
    name = "p_static_chip_n3c1" if revision == N3C1 else "p_static_chip"
    ends: Interval = chip.constant(name).interval(unit)
    return name, ends.low, ends.nominal, ends.high


def _rises(rise: Observation, chip: HardwareTarget, table: Measurements) -> Iterator[ValidationPoint]:
    """Yield the predicted rise of the energy of a step with the neurons."""
    for corner in CORNERS:
        keys = ("e_core_step", "operations_factor", f"e_neuron_{corner}")
        core, factor, neuron = (_drawn(chip.constant(key)) for key in keys)
        values = (core * rise.cores * 1e3 + factor * neuron * rise.neuron_updates) / 1e3
        one, two, three = (chip.constant(key).nominal for key in keys)
        low, high = np.quantile(values, (0.05, 0.95))
        yield ValidationPoint(
            CHIP,
            f"+{RISE_NEURONS:,.0f} neurons",
            f"fitted-{corner}",
            one * rise.cores + two * three * rise.neuron_updates / 1e3,
            float(low),
            float(high),
            rise.energy_nj,
            "nJ",
            True,
            f"{rise.workload}: {RISE}; operations left out, as in the fit",
            table.repeatability,
        )


def _drawn(constant: Constant) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return draw(constant, stream(0, constant.id), DRAWS)
