"""Colours: one meaning each, apart for colour-blind readers, and the same on the page."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from esl_neuro.report.page.charts import PAINTS
from esl_neuro.report.palette import (
    CHIP_MARKERS,
    CHIPS,
    DYNAMIC,
    PAPER,
    SERIES,
    STATIC,
    TARGETS,
    TOTAL,
    processor_look,
    target_look,
)
from esl_neuro.resources import resource_names

SETS = {"parts": (DYNAMIC, STATIC, TOTAL), "series": SERIES, "targets": TARGETS}
# Machado, Oliveira, Fernandes 2009, severity 1.0: what is left of linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = TO_XYZ.sum(axis=1)
SEEN = 15  # distance in CIELAB; 2 is just noticeable side by side


def linear(colour):
    channels = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(colour, vision):
    xyz = TO_XYZ @ np.clip(np.asarray(vision) @ linear(colour), 0, 1) / WHITE
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("name", SETS)
def test_colours_of_one_set_stay_apart_for_colour_blind_readers(name, vision):
    for one, other in itertools.combinations(SETS[name], 2):
        assert np.linalg.norm(lab(one, VISION[vision]) - lab(other, VISION[vision])) > SEEN, (one, other)


def test_a_colour_has_one_meaning_and_is_one_of_the_page():
    every = [colour for colours in SETS.values() for colour in colours]
    assert len(set(every)) == len(every)
    assert set(every) <= set(PAINTS)


def test_parts_and_targets_stand_out_from_paper():
    def luminance(colour):
        return float(linear(colour) @ TO_XYZ[1])

    for colour in (*SETS["parts"], *SETS["targets"]):
        assert (luminance(PAPER) + 0.05) / (luminance(colour) + 0.05) > 3, colour


def test_every_chip_has_a_look_of_its_own_and_it_depends_on_its_name_only():
    known = [name for name in resource_names("hw_targets") if name in CHIPS]
    assert sorted(known) == sorted(CHIPS)
    assert len({(target_look(name).colour, target_look(name).marker) for name in CHIPS}) == len(CHIPS)
    own = target_look("my-chip")
    assert own == target_look("my-chip")
    assert own.marker not in CHIP_MARKERS
    assert processor_look("v100-pcie") == processor_look("v100-pcie")
