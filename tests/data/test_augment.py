"""Augmentation, against every outcome that the definition allows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from esl_neuro.data.augment import crop_and_flip, flip_and_roll


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


@pytest.mark.parametrize(
    ("augment", "outcomes", "shape", "possible"),
    [(crop_and_flip, crops, (3, 12, 10), 9 * 9 * 2), (flip_and_roll, rolls, (4, 2, 12, 13), 11 * 11 * 2)],
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
    mirrored = sum(count for outcome, count in seen.items() if outcome[2])
    assert abs(mirrored - 2000) < 5 * np.sqrt(1000)


@pytest.mark.parametrize(("augment", "shape"), [(crop_and_flip, (6, 3, 8, 8)), (flip_and_roll, (6, 2, 2, 8, 8))])
def test_augmentation_is_pure(augment, shape):
    values = np.random.default_rng(0).random(shape, dtype=np.float32)
    before = values.copy()
    first, same, other = (augment(values, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(values, before)
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
