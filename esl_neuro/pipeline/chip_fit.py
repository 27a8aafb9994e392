"""Fit the energy of a chip's step to published measurements and a user's own, and write the target of the fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esl_neuro.energy.chip_fit import ChipFit, OpenFit, fit, fit_open, observations, own_observation
from esl_neuro.energy.fit_file import Numbers, fitted_constants, refuse_name, target_text
from esl_neuro.energy.measurement import Measurement
from esl_neuro.energy.measurements import measurements, points
from esl_neuro.storage import write


@dataclass(frozen=True)
class FittedChip:
    """A fit, and the constants of a target that it determines.

    Attributes
    ----------
    chip : str
        Chip whose readings were fitted.
    readings, own : int
        Number of readings, and of those of the user among them.
    found : ChipFit
        The fit with the published ratio of the two prices of operations.
    free : OpenFit
        The fit with both prices free.
    constants : dict of str to tuple of float
        Value, low and high of each constant, in the unit of the target.
    """

    chip: str
    readings: int
    own: int
    found: ChipFit
    free: OpenFit
    constants: dict[str, Numbers]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "chip": self.chip,
            "readings": self.readings,
            **self.found.to_dict(),
            "open": self.free.to_dict(),
            "constants": {
                key: dict(zip(("value", "low", "high"), numbers, strict=True))
                for key, numbers in self.constants.items()
            },
        }


def fit_chip(chip: str, readings: Sequence[Path] = (), out: Path | None = None) -> FittedChip:
    """Fit the energy of a step of a chip, and write a target with the fitted constants if a file is given.

    Parameters
    ----------
    chip : str
        Chip whose published measurements are fitted.
    readings : sequence of Path
        Files of ``esl-neuro energy import``, with counts, of the user's own board.
    out : Path, optional
        File of the target; its name without ending is the name of the target.

    Raises
    ------
    BadInput
        If the chip has no measurements, a reading does not fit, or the target cannot be named so or written.
    """
    if out is not None:
        refuse_name(out.stem)
    published = measurements(chip)
    own = [own_observation(Measurement.load(path), chip, published.repeatability) for path in readings]
    given = [*observations(points(published)), *own]
    found, free = fit(given), fit_open(given)
    constants = fitted_constants(found, free)
    if out is not None:
        write(out, target_text(chip, out.stem, constants))
    return FittedChip(chip, len(given), len(own), found, free, constants)
