"""Data sets: complete, disjoint, stratified, always the same."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from esl_neuro.data import load_dataset
from esl_neuro.data.datasets import stratified_parts
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


def test_parts_are_the_same_for_every_run(digits):
    np.random.seed(1)  # noqa: NPY002 (the global state must not matter)
    again = load_dataset("digits")
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
