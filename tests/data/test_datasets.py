"""Data sets: complete, disjoint, stratified, always the same."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from esl_neuro.data import Dataset, Split, load_dataset
from esl_neuro.data.availability import LAYOUTS
from esl_neuro.data.datasets import BUILT_IN, DATASETS, Normalisation, split_validation, stratified_parts
from esl_neuro.errors import BadInput

SHARES = {"test": 0.2, "validation": 0.1, "train": 0.7}


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def images(split):
    return Counter((row.tobytes(), int(label)) for row, label in zip(split.values, split.labels, strict=True))


def test_digits_are_1797_images_of_64_pixels_in_10_classes(digits):
    assert len(digits.train) + len(digits.validation) + len(digits.test) == 1797
    assert (digits.features, digits.classes) == (64, 10)
    for part in SHARES:
        split = getattr(digits, part)
        assert split.values.shape == (len(split), 64)
        assert set(split.labels.tolist()) == set(range(10))


def test_intensities_are_float32_in_0_to_1(digits):
    for part in SHARES:
        values = getattr(digits, part).values
        assert values.dtype == np.float32
        assert getattr(digits, part).labels.dtype == np.int64
        assert values.min() == 0
        assert values.max() == 1


def test_every_image_of_the_source_is_in_exactly_one_part(digits):
    source = load_digits()
    everything = Counter(
        ((row / 16).astype(np.float32).tobytes(), int(label))
        for row, label in zip(source.data, source.target, strict=True)
    )
    assert images(digits.train) + images(digits.validation) + images(digits.test) == everything


@pytest.mark.parametrize("part", SHARES)
def test_every_class_has_its_share_in_every_part(digits, part):
    totals = Counter(load_digits().target.tolist())
    counts = Counter(getattr(digits, part).labels.tolist())
    for label, total in totals.items():
        assert abs(counts[label] - SHARES[part] * total) <= 1


def test_parts_are_the_same_for_every_run_and_seed(digits):
    np.random.seed(1)  # noqa: NPY002 (the global state must not matter)
    again = load_dataset("digits", seed=7)
    for part in SHARES:
        assert np.array_equal(getattr(again, part).values, getattr(digits, part).values)
        assert np.array_equal(getattr(again, part).labels, getattr(digits, part).labels)


def test_unknown_data_set_is_refused():
    with pytest.raises(BadInput, match=r"data set 'digit' is unknown; did you mean 'digits'\?"):
        load_dataset("digit")


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=200),
    shares=st.sampled_from([(), (0.5,), (0.2, 0.1), (0.25, 0.25, 0.25)]),
    seed=st.integers(0, 1000),
)
def test_parts_are_a_stratified_partition(labels, shares, seed):
    parts = stratified_parts(np.array(labels, dtype=np.int64), shares, seed)
    assert len(parts) == len(shares) + 1
    assert sorted(index for part in parts for index in part.tolist()) == list(range(len(labels)))
    for part, share in zip(parts, [*shares, 1 - sum(shares)], strict=True):
        assert part.tolist() == sorted(part.tolist())
        for label in set(labels):
            members = sum(labels[index] == label for index in part)
            assert abs(members - share * labels.count(label)) <= 1 + 1e-9


def test_seed_decides_the_permutation():
    labels = np.repeat(np.arange(3), 50)
    first, same, other = (stratified_parts(labels, (0.5,), seed) for seed in (1, 1, 2))
    assert np.array_equal(first[0], same[0])
    assert not np.array_equal(first[0], other[0])


def test_digits_have_flat_samples_without_time(digits):
    assert digits.shape == (64,)
    assert digits.steps is None
    assert digits.augment is None
    assert digits.normalise(digits.test.values) is digits.test.values
    assert np.array_equal(digits.train.batch(), digits.train.values)


def pixels(samples=50, classes=5, shape=(3, 4, 4)):
    rng = np.random.default_rng(0)
    labels = np.arange(samples, dtype=np.int64) % classes
    return Split(rng.integers(0, 256, (samples, *shape), dtype=np.uint8), labels, 255)


def test_batches_are_float32_intensities_of_the_stored_values():
    split = pixels()
    assert np.array_equal(split.batch(), (split.values / 255).astype(np.float32))
    for indices in (slice(3, 9), np.array([4, 4, 0])):
        batch = split.batch(indices)
        assert batch.dtype == np.float32
        assert np.array_equal(batch, (split.values[indices] / 255).astype(np.float32))


def test_counts_are_batches_of_counts():
    split = Split(np.array([[0, 1], [2, 40_000]], dtype=np.uint16), np.array([0, 1]))
    assert split.batch().tolist() == [[0, 1], [2, 40_000]]
    assert split.batch().dtype == np.float32


def test_validation_is_split_off_by_seed():
    official = pixels(200)
    train, validation = split_validation(official, 1)
    assert (len(train), len(validation)) == (180, 20)
    assert Counter(validation.labels.tolist()) == dict.fromkeys(range(5), 4)
    assert images(train) + images(validation) == images(official)
    assert train.divisor == validation.divisor == 255
    same, other = (split_validation(official, seed)[1] for seed in (1, 2))
    assert np.array_equal(same.values, validation.values)
    assert not np.array_equal(other.values, validation.values)


def test_shape_has_no_time():
    still, moving = pixels(), pixels(shape=(10, 2, 6, 5))
    assert Dataset("still", 5, still, still, still).shape == (3, 4, 4)
    assert Dataset("still", 5, still, still, still).features == 48
    assert Dataset("moving", 5, moving, moving, moving, steps=10).shape == (2, 6, 5)
    assert Dataset("moving", 5, moving, moving, moving, steps=10).features == 60


def test_each_channel_is_normalised_with_its_own_statistics():
    split = pixels()
    dataset = Dataset("any", 5, split, split, split, normalisation=Normalisation((0.5, 0.25, 0), (1, 0.5, 2)))
    values = split.batch()
    normalised = dataset.normalise(values)
    assert normalised.dtype == np.float32
    for channel, (mean, std) in enumerate([(0.5, 1), (0.25, 0.5), (0, 2)]):
        # All constants are powers of two, so that float32 is exact up to one rounding of the difference.
        assert np.array_equal(normalised[:, channel], (values[:, channel] - np.float32(mean)) / np.float32(std))


def test_every_data_set_is_built_in_or_known_to_have_files():
    shipped = {name for name in DATASETS.names() if DATASETS[name].__module__.startswith("esl_neuro.")}
    assert shipped == {*LAYOUTS, *BUILT_IN}
