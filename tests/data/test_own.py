"""A user's own data: arrays, functions, folders of images and of recordings."""

from __future__ import annotations

import hashlib
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from data.own_files import CLASSES, samples, write_arrays, write_events, write_images
from esl_neuro.data import prepare
from esl_neuro.data.frames import EVENT, frames
from esl_neuro.data.own import is_own, is_own_data, recorded
from esl_neuro.errors import BadInput
from esl_neuro.recipes.sections import DataSection

PARTS = ("train", "validation", "test")


def section(name, **values):
    return DataSection(name=str(name), **({"encoding": "even_rate", "steps": 4} | values))


def rows(*splits):
    return sorted((row.tobytes(), int(label)) for split in splits for row, label in zip(split.values, split.labels))  # noqa: B905


def refusal(name, **values):
    with pytest.raises(BadInput) as caught:
        prepare(section(name, **values))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Arrays.


def test_arrays_are_divided_by_class_into_parts_that_no_seed_changes(tmp_path):
    write_arrays(tmp_path / "own.npz")
    x, y = samples()
    dataset = prepare(section(tmp_path / "own.npz"), seed=0)
    assert [len(getattr(dataset, part)) for part in PARTS] == [42, 6, 12]
    assert rows(*(getattr(dataset, part) for part in PARTS)) == sorted(
        (row.tobytes(), int(label)) for row, label in zip(x, y, strict=True)
    )
    for part in PARTS:
        assert np.bincount(getattr(dataset, part).labels).tolist() == [len(getattr(dataset, part)) // 3] * 3
    assert rows(prepare(section(tmp_path / "own.npz"), seed=7).test) == rows(dataset.test)
    assert dataset.shape == (1, 6, 6)
    assert dataset.train.batch([0]).max() == dataset.train.values[0].max() / np.float32(255)
    assert "20 % of each class are for test" in dataset.notes[0]


def test_a_test_part_is_kept_whole(tmp_path):
    (x, y), (x_test, y_test) = samples(60), samples(9, seed=1)
    np.savez(tmp_path / "own.npz", x=x, y=y, x_test=x_test, y_test=y_test)
    dataset = prepare(section(tmp_path / "own.npz"), seed=3)
    assert np.array_equal(dataset.test.values[:, 0], x_test)
    assert [len(getattr(dataset, part)) for part in PARTS] == [54, 6, 9]
    other = prepare(section(tmp_path / "own.npz"), seed=4)
    assert rows(other.validation) != rows(dataset.validation)  # as of every data set with an official test part


X, Y = samples(30)
BAD = {
    "nothing": ({"a": X}, "the arrays x and y are missing (found: a)"),
    "half of a test part": ({"x": X, "y": Y, "x_test": X}, "x_test and y_test come together"),
    "an array that would be ignored": ({"x": X, "y": Y, "x_val": X}, "unknown arrays: x_val"),
    "labels of another length": ({"x": X, "y": Y[1:]}, "give one whole number for each of the 30 samples of x"),
    "labels that are floats": ({"x": X, "y": Y * 1.0}, "y is float64 of shape (30,)"),
    "classes from 1": ({"x": X, "y": Y + 1}, "class 0 of 4 has no training sample"),
    "negative classes": ({"x": X, "y": Y - 1}, "classes from -1 to 1; number them from 0"),
    "NaN": (
        {"x": np.where(np.arange(30 * 36).reshape(30, 36) == 72, np.nan, 0.5), "y": Y},
        "has 1 values that are not finite as float32, the first in sample 2",
    ),
    "floats that overflow": ({"x": np.full((30, 36), 1e39), "y": Y}, "1,080 values that are not finite as float32"),
    "complex numbers": ({"x": X * 1j, "y": Y}, "give real numbers as float32"),
    "no samples": ({"x": X[:0], "y": Y[:0]}, "give (samples, ...), at least one of each"),
    "large whole numbers": ({"x": X.astype(np.int32), "y": Y}, "whole numbers are pixels as uint8"),
    "0 and 1 that would become 1/255": ({"x": (X > 100).astype(np.uint8), "y": Y}, "without a value above 1"),
    "channels last": ({"x": np.stack([X] * 3, -1), "y": Y}, "numpy.moveaxis(x, -1, -3)"),
    "values above 1": ({"x": X.astype(np.float32), "y": Y}, "encoding 'even_rate' takes 0 to 1"),
    "other test samples": ({"x": X, "y": Y, "x_test": X[:, :5], "y_test": Y}, "x has samples of shape (6, 6), x_test"),
    "pixels and fractions": ({"x": X, "y": Y, "x_test": X / 255, "y_test": Y}, "give both in the same unit"),
    "too few": ({"x": X[:3], "y": Y[:3]}, "too few samples"),
}


@pytest.mark.parametrize("name", BAD)
def test_arrays_that_could_be_misread_are_refused(tmp_path, name):
    arrays, message = BAD[name]
    np.savez(tmp_path / "own.npz", **arrays)
    assert message in refusal(tmp_path / "own.npz")


def test_all_findings_of_arrays_are_named_at_once(tmp_path):
    np.savez(tmp_path / "own.npz", x=X.astype(np.int32), y=Y - 1)
    message = refusal(tmp_path / "own.npz")
    assert "x is int32" in message
    assert "y has classes" in message


def test_truth_values_and_floats_are_read_as_they_are(tmp_path):
    np.savez(tmp_path / "own.npz", x=X > 100, y=Y)
    assert set(np.unique(prepare(section(tmp_path / "own.npz")).train.batch())) == {0.0, 1.0}
    np.savez(tmp_path / "own.npz", x=X.reshape(30, 36) * 2.0 - 100, y=Y)
    direct = prepare(section(tmp_path / "own.npz", encoding="direct"))
    assert direct.shape == (36,)
    assert direct.train.values.min() == X.min() * 2.0 - 100


def test_frames_have_the_steps_of_the_recipe(tmp_path):
    counts = np.random.default_rng(0).integers(0, 3, (30, 5, 2, 4, 4))
    np.savez(tmp_path / "own.npz", x=counts, y=Y)
    dataset = prepare(section(tmp_path / "own.npz", encoding="event_counts", steps=5))
    assert (dataset.steps, dataset.shape) == (5, (2, 4, 4))
    assert dataset.train.batch().max() == 2
    assert "data.steps is 4: set it to 5" in refusal(tmp_path / "own.npz", encoding="event_counts")
    assert "use 'event_counts'" in refusal(tmp_path / "own.npz", encoding="events", steps=5)


def test_python_objects_are_not_loaded(tmp_path):
    np.savez(tmp_path / "own.npz", x=np.array([{}] * 30, dtype=object), y=Y)
    assert "can run code" in refusal(tmp_path / "own.npz")


# The same data again.


def test_a_run_records_the_absolute_path_and_the_digest(tmp_path, monkeypatch):
    write_arrays(tmp_path / "own.npz")
    monkeypatch.chdir(tmp_path)
    asked = section("./own.npz")
    named = recorded(asked, prepare(asked))
    assert named.name == str(tmp_path / "own.npz")
    assert named.sha256 == hashlib.sha256((tmp_path / "own.npz").read_bytes()).hexdigest()
    monkeypatch.chdir("/")
    assert rows(prepare(named).test) == rows(prepare(named, seed=9).test)


def test_data_that_changed_are_refused(tmp_path):
    write_images(tmp_path / "images")
    named = recorded(section(tmp_path / "images"), prepare(section(tmp_path / "images")))
    assert prepare(named).sha256 == named.sha256
    path = next((tmp_path / "images" / "left").iterdir())
    path.write_bytes((next((tmp_path / "images" / "right").iterdir())).read_bytes())
    assert "the data have changed since the run was trained" in refusal(named.name, sha256=named.sha256)


def test_data_that_moved_are_found_in_the_folder_of_data(tmp_path, monkeypatch):
    write_arrays(tmp_path / "own.npz")
    named = recorded(section(tmp_path / "own.npz"), prepare(section(tmp_path / "own.npz")))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "own.npz").rename(tmp_path / "elsewhere" / "own.npz")
    assert "no such file or folder" in refusal(named.name, sha256=named.sha256)
    monkeypatch.setenv("ESL_NEURO_DATA", str(tmp_path / "elsewhere"))
    assert len(prepare(named).test) == 12
    monkeypatch.setenv("ESL_NEURO_DATA", str(tmp_path / "elsewhere" / "own.npz"))
    assert len(prepare(named).test) == 12


def test_fields_of_own_data_are_refused_for_a_data_set_by_name():
    assert "data.sensor: for your own data only" in refusal("digits", sensor=[3, 4])


# Functions.

MODULE = """
import numpy as np
from data.own_files import samples

def pair():
    return samples()

def mapping():
    x, y = samples()
    return {"x": x[:50], "y": y[:50], "x_test": x[50:], "y_test": y[50:]}

def wrong():
    return samples()[0]

def fails():
    return {}["samples"]
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    name = "own_data_for_tests"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_a_function_returns_arrays(own_module):
    dataset = prepare(section(f"{own_module}:pair"))
    assert len(dataset.test) == 12
    assert recorded(section(f"{own_module}:pair"), dataset).sha256 == dataset.sha256
    assert len(prepare(section(f"{own_module}:mapping")).test) == 10


def test_what_a_function_returns_is_recorded(own_module):
    assert "the data have changed" in refusal(f"{own_module}:pair", sha256=64 * "0")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("wrong", "returned ndarray; the function takes nothing and returns arrays (x, y)"),
        ("fails", "raised KeyError: 'samples' ("),
        ("pear", "has no function 'pear'; did you mean 'pair'?"),
    ],
)
def test_a_function_that_breaks_its_contract_is_one_line(own_module, function, message):
    assert message in refusal(f"{own_module}:{function}")


def test_two_torch_datasets_are_training_and_test():
    from esl_neuro.data.own_arrays import from_function

    x, y = (torch.from_numpy(each) for each in samples())
    given = TensorDataset(x[:50] / 255, y[:50]), TensorDataset(x[50:] / 255, y[50:])
    dataset = from_function(given, "mymod:pair", None, 0, "contract")
    assert np.array_equal(dataset.test.values[:, 0], (x[50:] / 255).numpy())
    images = [(Image.fromarray(np.zeros((4, 5, 3), np.uint8)), 0)] * 6 + [
        (Image.fromarray(np.full((4, 5, 3), 9, np.uint8)), 1)
    ] * 6
    assert from_function((images, images), "mymod:images", None, 0, "contract").shape == (3, 4, 5)


def test_items_that_cannot_be_read_are_one_line():
    from esl_neuro.data.own_arrays import from_function

    class Broken:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return np.zeros(3), "cat"

    with pytest.raises(BadInput, match=r"returned raised ValueError: invalid literal.*the contract"):
        from_function((Broken(), Broken()), "mymod:pair", None, 0, "the contract")


# Folders.


def test_images_are_read_with_the_names_of_their_folders(tmp_path):
    write_images(tmp_path / "images")
    dataset = prepare(section(tmp_path / "images"))
    x, y = samples()
    assert rows(*(getattr(dataset, part) for part in PARTS)) == sorted(
        (row.tobytes(), int(label)) for row, label in zip(x, y, strict=True)
    )
    assert "0 = left, 1 = middle, 2 = right" in dataset.notes[-1]


def test_folders_of_training_and_test(tmp_path):
    write_images(tmp_path / "images" / "train", 30)
    write_images(tmp_path / "images" / "test", 9)
    assert [len(getattr(prepare(section(tmp_path / "images")), part)) for part in PARTS] == [27, 3, 9]
    write_images(tmp_path / "images" / "val", 9)
    assert "give train and test, and no other" in refusal(tmp_path / "images")


def test_folders_of_numbers_are_in_the_order_of_numbers(tmp_path):
    for number in range(11):
        (tmp_path / "images" / str(number)).mkdir(parents=True)
        for copy in range(5):
            Image.fromarray(np.full((2, 2), 20 * number + 1, np.uint8)).save(tmp_path / f"images/{number}/{copy}.png")
    dataset = prepare(section(tmp_path / "images"))
    assert (dataset.train.values[:, 0, 0, 0] == 20 * dataset.train.labels + 1).all()


def test_images_of_several_sizes_need_a_shape(tmp_path):
    write_images(tmp_path / "images")
    Image.fromarray(np.zeros((7, 6), np.uint8)).save(tmp_path / "images" / "left" / "odd.png")
    assert "set data.shape, such as [1, 6, 6]" in refusal(tmp_path / "images")
    assert prepare(section(tmp_path / "images", shape=[3, 5, 4])).shape == (3, 5, 4)


def test_what_is_no_image_is_said_to_be_left_out(tmp_path):
    write_images(tmp_path / "images")
    (tmp_path / "images" / "left" / "notes.txt").write_text("hello")
    assert "left out 1 other files, such as notes.txt" in prepare(section(tmp_path / "images")).notes[-1]
    (tmp_path / "images" / "fourth").mkdir()
    assert "fourth: contains no image or recording" in refusal(tmp_path / "images")


def test_a_link_to_nothing_is_a_sample_that_is_missing(tmp_path):
    write_images(tmp_path / "images")
    for name, target in (("gone.png", "nowhere"), ("loop.png", "loop.png")):
        (tmp_path / "images" / "left" / name).symlink_to(target)
    assert "gone.png: is one of 2 links in its folder that lead to no file" in refusal(tmp_path / "images")


def test_a_class_without_a_test_sample_is_said(tmp_path):
    write_images(tmp_path / "images" / "train")
    write_images(tmp_path / "images" / "test")
    shutil.rmtree(tmp_path / "images" / "test" / "right")
    assert "the test part has no sample of right" in " ".join(prepare(section(tmp_path / "images")).notes)


def test_a_damaged_image_is_named_without_its_place_in_memory(tmp_path):
    write_images(tmp_path / "images")
    (tmp_path / "images" / "left" / "000.png").write_bytes(b"nothing")
    assert refusal(tmp_path / "images").endswith("PPM): no known format, or cut off")


def test_recordings_become_frames(tmp_path):
    write_events(tmp_path / "events")
    asked = section(tmp_path / "events", encoding="events", sensor=[6, 6], cut="time")
    dataset = prepare(asked)
    assert dataset.shape == (2, 6, 6)
    read = np.load(tmp_path / "events" / "left" / "000.npz")
    events = np.zeros(len(read["t"]), EVENT)
    for name in "txyp":
        events[name] = read[name]
    expected = frames(events, 4, (2, 6, 6), "time")
    every = [row for part in PARTS for row in getattr(dataset, part).values]
    assert any(np.array_equal(expected, row) for row in every)


def test_recordings_need_the_size_of_the_camera(tmp_path):
    write_events(tmp_path / "events")
    assert "data.sensor: is missing" in refusal(tmp_path / "events", encoding="events")
    assert "data.sensor is [5, 6], height and width" in refusal(tmp_path / "events", encoding="events", sensor=[5, 6])
    assert "set data.encoding = 'events'" in refusal(tmp_path / "events")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"t": [1], "x": [1], "y": [1]}, "expected t, x, y and p"),
        ({"t": [1], "x": [1, 2], "y": [1], "p": [1]}, "give one entry per event in each"),
        ({"t": [1], "x": [1.5], "y": [1], "p": [1]}, "its x are not all whole numbers"),
        ({"t": [np.inf], "x": [1], "y": [1], "p": [1]}, "not all finite"),
        ({"t": [1], "x": [1], "y": [1], "p": [2]}, "event with p = 2, expected 0 to 1"),
    ],
)
def test_a_damaged_recording_is_named(tmp_path, arrays, message):
    write_events(tmp_path / "events")
    np.savez(tmp_path / "events" / "left" / "000.npz", **arrays)
    line = refusal(tmp_path / "events", encoding="events", sensor=[6, 6])
    assert message in line
    assert "000.npz" in line


def test_a_recording_of_a_dvs128_needs_no_size(tmp_path):
    from data.test_aedat import aedat2_bytes
    from data.test_event_datasets import recording

    for label, name in enumerate(CLASSES):
        (tmp_path / "events" / name).mkdir(parents=True)
        for copy in range(5):
            content = aedat2_bytes(recording(5 * label + copy, (2, 128, 128)))
            (tmp_path / "events" / name / f"{copy}.aedat").write_bytes(content)
    dataset = prepare(section(tmp_path / "events", encoding="events", shape=[2, 32, 32]))
    assert dataset.shape == (2, 32, 32)


def test_recordings_of_tonic_are_read_by_tonic(tmp_path):
    pytest.importorskip("tonic")
    pytest.importorskip("aedat")
    from data.test_event_datasets import aedat4_bytes, recording

    made = {}
    for label, name in enumerate(CLASSES):
        (tmp_path / "events" / name).mkdir(parents=True)
        for copy in range(5):
            made[label, copy] = recording(5 * label + copy, (2, 128, 128))
            (tmp_path / "events" / name / f"{copy}.aedat4").write_bytes(aedat4_bytes(made[label, copy]))
    assert "data.sensor: is missing" in refusal(tmp_path / "events", encoding="events")
    dataset = prepare(section(tmp_path / "events", encoding="events", sensor=[128, 128], cut="time"))
    expected = sorted((frames(each, 4, (2, 128, 128), "time").tobytes(), label) for (label, _), each in made.items())
    assert rows(*(getattr(dataset, part) for part in PARTS)) == expected


def test_names_paths_and_functions():
    assert [is_own(name) for name in ("digits", "mymod:f", "./a", "a.npz", "/a/b", "pkg.mod:f")] == [
        False,
        True,
        True,
        True,
        True,
        True,
    ]


def test_what_is_own_data(tmp_path):
    write_arrays(tmp_path / "own.npz")
    write_images(tmp_path / "images")
    write_images(tmp_path / "parts" / "train")
    (tmp_path / "mnist").mkdir()
    assert [is_own_data(tmp_path / name) for name in ("own.npz", "images", "parts", "mnist", "")] == [True] * 3 + [
        False
    ] * 2
