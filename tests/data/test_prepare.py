"""The data that a recipe asks for: a budget of samples, and images of another shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.image_files import write_cifar, write_mnist
from esl_neuro.data import Split, load_dataset, prepare
from esl_neuro.data.augment import AUGMENTATIONS
from esl_neuro.data.datasets import DATASETS, Dataset
from esl_neuro.data.frames import FrameSettings
from esl_neuro.data.prepare import limit, shape
from esl_neuro.errors import BadInput
from esl_neuro.recipes.sections import DataSection

PARTS = ("train", "validation", "test")


def section(name="digits", **values):
    return DataSection(name=name, **({"encoding": "direct", "steps": 4} | values))


def images_of(values, divisor=255):
    """A data set whose three parts have these images."""
    parts = [Split(values, np.arange(len(values)) % 10, divisor) for _ in PARTS]
    return Dataset("made", 10, *parts)


def rows(split):
    return {(row.tobytes(), int(label)) for row, label in zip(split.values, split.labels, strict=True)}


@pytest.fixture
def mnist(tmp_path, monkeypatch):
    monkeypatch.setenv("ESL_NEURO_DATA", str(tmp_path))
    write_mnist(tmp_path)


# Samples.


@pytest.mark.parametrize("samples", [1, 7, 300, 10**6])
def test_every_part_has_at_most_so_many_samples(samples):
    whole, limited = load_dataset("digits"), prepare(section(samples=samples))
    for part in PARTS:
        some, every = getattr(limited, part), getattr(whole, part)
        assert len(some) == min(samples, len(every)) == len(some.values)
        assert rows(some) <= rows(every)


def test_without_a_limit_all_samples_are_there():
    for part in PARTS:
        assert np.array_equal(getattr(prepare(section()), part).values, getattr(load_dataset("digits"), part).values)


def test_limit_takes_the_same_samples_in_every_run_and_each_once():
    first = prepare(section(samples=50))
    again = prepare(section(samples=50))
    for part in PARTS:
        assert np.array_equal(getattr(first, part).values, getattr(again, part).values)
        assert len(rows(getattr(first, part))) == 50


def test_limit_is_no_head_of_the_file():
    whole, limited = load_dataset("digits").train, prepare(section(samples=50)).train
    assert not np.array_equal(limited.values, whole.values[:50])


def test_more_samples_hold_the_fewer():
    few, many = (prepare(section(samples=count)) for count in (20, 60))
    assert rows(few.train) < rows(many.train)


@pytest.mark.usefixtures("mnist")
def test_test_samples_are_the_same_for_any_seed_and_the_others_are_not():
    one, other = (prepare(section("mnist", samples=5), seed=seed) for seed in (0, 1))
    assert np.array_equal(one.test.values, other.test.values)
    assert rows(one.train) != rows(other.train)


@settings(max_examples=30)
@given(size=st.integers(1, 40), samples=st.integers(1, 50))
def test_limit_is_exact_for_any_size(size, samples):
    values = np.arange(size, dtype=np.uint8).reshape(size, 1, 1, 1)
    kept = limit(images_of(values), samples).train
    assert len(kept) == min(size, samples)
    assert np.array_equal(kept.labels, kept.values.ravel() % 10)  # image and label stay together
    assert kept.divisor == 255


# Shape.


@pytest.mark.usefixtures("mnist")
def test_images_are_enlarged_and_their_channel_is_repeated():
    plain, dataset = load_dataset("mnist"), prepare(section("mnist", shape=[3, 32, 32]))
    assert dataset.shape == (3, 32, 32)
    for part in PARTS:
        split, before = getattr(dataset, part), getattr(plain, part)
        assert split.values.shape == (len(before), 3, 32, 32)
        assert split.values.dtype == np.uint8
        assert split.divisor == 255
        assert np.array_equal(split.labels, before.labels)
        assert np.array_equal(split.values[:, 0], split.values[:, 1])
        assert np.array_equal(split.values[:, 0], split.values[:, 2])


@pytest.mark.usefixtures("mnist")
def test_images_of_the_shape_already_stay_as_they_are():
    plain, dataset = load_dataset("mnist"), prepare(section("mnist", shape=[1, 28, 28]))
    assert np.array_equal(dataset.train.values, plain.train.values)


@pytest.mark.usefixtures("mnist")
def test_limit_comes_before_the_shape():
    both = prepare(section("mnist", samples=5, shape=[1, 14, 14]))
    assert both.train.values.shape == (5, 1, 14, 14)
    assert np.array_equal(both.train.values, shape(prepare(section("mnist", samples=5)), (1, 14, 14)).train.values)


@settings(max_examples=40)
@given(
    level=st.integers(0, 255),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    wanted=st.tuples(st.integers(1, 16), st.integers(1, 16)),
    whole=st.booleans(),
)
def test_constant_image_stays_constant(level, size, wanted, whole):
    dtype, divisor = (np.uint8, 255) if whole else (np.float32, 1)
    values = np.full((2, 1, *size), level, dtype) if whole else np.full((2, 1, *size), level / 255, dtype)
    made = shape(images_of(values, divisor), (3, *wanted)).train.values
    assert made.shape == (2, 3, *wanted)
    assert made.dtype == dtype
    np.testing.assert_allclose(made, values.flat[0], rtol=1e-6)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    wanted=st.tuples(st.integers(1, 14), st.integers(1, 14)),
)
def test_pixels_stay_between_the_darkest_and_the_brightest(seed, size, wanted):
    values = np.random.default_rng(seed).integers(0, 256, (3, 1, *size), dtype=np.uint8)
    made = shape(images_of(values), (1, *wanted)).train.values
    for image, before in zip(made, values, strict=True):
        assert before.min() <= image.min()
        assert image.max() <= before.max()


def test_enlarged_pixels_are_weighed_by_their_distance():
    """Twice the size: centres lie a quarter and three quarters between two old centres; edges repeat."""
    values = np.array([[[[0, 80], [160, 240]]]], dtype=np.uint8)
    made = shape(images_of(values), (1, 4, 4)).train.values[0, 0]
    along = [0, 20, 60, 80]
    assert made.tolist() == [[y + x for x in along] for y in (0, 40, 120, 160)]


def test_whole_pixels_are_rounded_and_intensities_are_not():
    values = np.array([[[[0, 3]]]], dtype=np.uint8)
    assert shape(images_of(values), (1, 1, 4)).train.values.ravel().tolist() == [0, 1, 2, 3]
    made = shape(images_of(values.astype(np.float32), 1), (1, 1, 4)).train.values
    assert made.ravel().tolist() == [0, 0.75, 2.25, 3]


def test_samples_do_not_mix():
    values = np.random.default_rng(0).integers(0, 256, (3, 1, 5, 5), dtype=np.uint8)
    together = shape(images_of(values), (2, 7, 7)).train.values
    for index in range(3):
        assert np.array_equal(shape(images_of(values[[index]]), (2, 7, 7)).train.values[0], together[index])


def test_channels_are_kept_apart():
    values = np.zeros((1, 3, 4, 4), dtype=np.uint8)
    values[:, 1], values[:, 2] = 100, 200
    made = shape(images_of(values), (3, 6, 6)).train.values
    assert [set(made[0, channel].ravel().tolist()) for channel in range(3)] == [{0}, {100}, {200}]


def test_samples_that_are_no_images_are_refused_with_the_reason():
    with pytest.raises(BadInput) as caught:
        prepare(section(shape=[1, 8, 8]))
    assert str(caught.value) == "data.shape: data set 'digits' has samples of shape (64,), which are not images"


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_other_channels_are_refused_with_those_allowed(tmp_path, monkeypatch, channels):
    monkeypatch.setenv("ESL_NEURO_DATA", str(tmp_path))
    write_cifar(tmp_path, 10)
    with pytest.raises(BadInput) as caught:
        prepare(section("cifar10", shape=[channels, 48, 48]))
    expected = f"data.shape: {channels} channels cannot be made of the 3 of data set 'cifar10'; allowed: 3"
    assert str(caught.value) == expected
    assert prepare(section("cifar10", shape=[3, 40, 40])).shape == (3, 40, 40)


@pytest.mark.parametrize("download", [False, True])
def test_download_is_asked_for_or_not(monkeypatch, download):
    asked = []

    def remembering(request):
        asked.append(request.download)
        return load_dataset("digits")

    monkeypatch.setitem(DATASETS._entries, "remembering", remembering)
    prepare(DataSection(name="remembering", encoding="even_rate", steps=2), download=download)
    assert asked == [download]


def test_frames_of_event_data_are_those_of_the_recipe(monkeypatch):
    asked = []

    def remembering(request):
        asked.append(request.frames)
        return load_dataset("digits")

    monkeypatch.setitem(DATASETS._entries, "remembering", remembering)
    for more in ({}, {"cut": "duration", "frame_us": 500}, {"cut": "duration", "frame_us": 500, "start_us": 200}):
        prepare(DataSection(name="remembering", encoding="events", steps=2, **more))
    prepare(DataSection(name="remembering", encoding="event_counts", steps=2, cut="time"))
    assert asked == [
        FrameSettings(2),
        FrameSettings(2, "duration", duration=500),
        FrameSettings(2, "duration", duration=500, start=200),
        FrameSettings(2, "time", binary=False),
    ]


@pytest.mark.usefixtures("mnist")
def test_recipe_can_replace_the_augmentation_of_the_data_set():
    assert prepare(section("mnist")).augment is None
    assert prepare(section("mnist", augment="shift_one_pixel")).augment is AUGMENTATIONS["shift_one_pixel"]


def test_unknown_augmentation_gets_the_nearest_name():
    with pytest.raises(BadInput, match="augmentation 'shift_one_pixl' is unknown; did you mean 'shift_one_pixel'"):
        prepare(section(augment="shift_one_pixl"))
