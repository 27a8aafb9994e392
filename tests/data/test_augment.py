"""Augmentation, against every outcome that the definition allows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from esl_neuro.data.augment import AUGMENTATIONS, crop_and_flip, flip_and_roll, shift_one_pixel
from esl_neuro.errors import BadInput


def crops(image):
    """Every crop of an image padded by 4, plain and mirrored, by its bytes."""
    padded = np.zeros((image.shape[0], image.shape[1] + 8, image.shape[2] + 8), image.dtype)
    padded[:, 4:-4, 4:-4] = image
    found = {}
    for top in range(9):
        for left in range(9):
            crop = padded[:, top : top + image.shape[1], left : left + image.shape[2]]
            found[crop.tobytes()] = (top, left, False)
            found[crop[:, :, ::-1].tobytes()] = (top, left, True)
    return found


def rolls(recording):
    """Every roll by up to 5 rows and columns, plain and mirrored, by its bytes."""
    found = {}
    for mirrored, source in ((False, recording), (True, recording[..., ::-1])):
        for down in range(-5, 6):
            for right in range(-5, 6):
                found[np.roll(source, (down, right), axis=(-2, -1)).tobytes()] = (down, right, mirrored)
    return found


def shifts(image):
    """Every shift by up to 1 row and column, zeros coming in, by its bytes; None: not mirrored."""
    padded = np.zeros((image.shape[0], image.shape[1] + 2, image.shape[2] + 2), image.dtype)
    padded[:, 1:-1, 1:-1] = image
    height, width = image.shape[1:]
    places = [(top, left) for top in range(3) for left in range(3)]
    return {padded[:, top : top + height, left : left + width].tobytes(): (top, left, None) for top, left in places}


@pytest.mark.parametrize(
    ("augment", "outcomes", "shape", "possible"),
    [
        (crop_and_flip, crops, (3, 12, 10), 9 * 9 * 2),
        (flip_and_roll, rolls, (4, 2, 12, 13), 11 * 11 * 2),
        (shift_one_pixel, shifts, (1, 12, 10), 3 * 3),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_every_outcome_is_allowed_and_every_allowed_one_occurs(augment, outcomes, shape, possible, dtype):
    sample = np.random.default_rng(0).integers(1, 255, shape).astype(dtype)
    allowed = outcomes(sample)
    assert len(allowed) == possible
    result = augment(np.repeat(sample[None], 4000, axis=0), np.random.default_rng(1))
    assert result.dtype == dtype
    assert result.shape == (4000, *shape)
    seen = Counter(allowed[one.tobytes()] for one in result)
    # 4,000 draws of 242 equally likely outcomes miss one of them with probability 2e-5; seeds are fixed anyway.
    assert len(seen) == possible
    mirrors = any(outcome[2] is not None for outcome in seen)
    mirrored = sum(count for outcome, count in seen.items() if outcome[2])
    assert abs(mirrored - 2000 * mirrors) < 5 * np.sqrt(1000)


@pytest.mark.parametrize(
    ("augment", "shape"),
    [(crop_and_flip, (6, 3, 8, 8)), (flip_and_roll, (6, 2, 2, 8, 8)), (shift_one_pixel, (6, 1, 8, 8))],
)
def test_augmentation_is_pure(augment, shape):
    values = np.random.default_rng(0).random(shape, dtype=np.float32)
    before = values.copy()
    first, same, other = (augment(values, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(values, before)
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", ["crop_and_flip", "flip_and_roll", "shift_one_pixel"])
def test_samples_of_another_kind_are_refused(name):
    with pytest.raises(BadInput, match=rf"data.augment = '{name}' takes .* not samples of shape \(64,\)"):
        AUGMENTATIONS[name](np.zeros((2, 64)), np.random.default_rng(0))


def test_none_changes_nothing():
    values = np.random.default_rng(0).random((2, 3, 4, 4))
    assert np.array_equal(AUGMENTATIONS["none"](values, np.random.default_rng(1)), values)
