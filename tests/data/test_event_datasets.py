"""Event data sets, from small files in the real formats, through the real readers."""

from __future__ import annotations

import struct
import sys
import types
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from data.test_aedat import aedat2_bytes
from esl_neuro.data import FrameSettings, load_dataset
from esl_neuro.data import event_datasets as events_module
from esl_neuro.data.augment import flip_and_roll
from esl_neuro.data.availability import missing_datasets
from esl_neuro.data.frames import EVENT, frames, shrink
from esl_neuro.errors import BadInput, MissingDependency

STEPS = 4
COUNTS = FrameSettings(STEPS, "time", binary=False)


def recording(number, shape, length=60, unit_of_time=1):
    """Random events in order of time; every recording has its own."""
    rng = np.random.default_rng([number, *shape])
    made = np.zeros(length, dtype=EVENT)
    made["t"] = np.sort(rng.integers(0, 5000, length)) * unit_of_time
    for name, size in zip("pyx", shape, strict=True):
        made[name] = rng.integers(0, size, length)
    return made


def everything(dataset):
    """Frames and labels of all parts: (train and validation by content), test in order."""
    values = np.concatenate([dataset.train.values, dataset.validation.values])
    labels = np.concatenate([dataset.train.labels, dataset.validation.labels])
    return sorted((frame.tobytes(), int(label)) for frame, label in zip(values, labels, strict=True))


def write_n_mnist(folder, train=100, test=10, **more):
    """Five bytes per event: x, y, polarity and 23 bits of microseconds."""
    written = {}
    for part, first, count in (("Train", 0, train), ("Test", 1000, test)):
        written[part] = []
        for number in range(first, first + count):
            made = recording(number, (2, 34, 34), **more)
            t, x, y, p = (made[name] for name in "txyp")
            columns = np.stack([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255], axis=1)
            path = folder / part / str(number % 10) / f"{number:05d}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(columns.astype(np.uint8).tobytes())
            written[part].append((made, number % 10))
    return written


def write_gestures(folder, users=4):
    """One array per gesture: columns x, y, polarity and milliseconds."""
    written = {}
    for part, first in (("ibmGestureTrain", 0), ("ibmGestureTest", 100)):
        written[part] = []
        for user in range(first, first + users):
            home = folder / part / f"user{user:02d}_fluorescent"
            home.mkdir(parents=True)
            for label in range(11):
                made = recording(user * 11 + label, (2, 128, 128), unit_of_time=1000)
                columns = np.stack([made["x"], made["y"], made["p"], made["t"] // 1000], axis=1)
                np.save(home / f"{label}.npy", columns.astype(np.float64))
                written[part].append((made, label))
    return written


def write_shd(folder, train=40, test=10, length=50):
    """HDF5 with ragged arrays: float16 seconds and uint16 units."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for part, first, count in (("train", 0, train), ("test", 1000, test)):
        written[part] = []
        with h5py.File(folder / f"shd_{part}.h5", "w") as file:
            times = file.create_dataset("spikes/times", count, dtype=h5py.vlen_dtype(np.float16))
            units = file.create_dataset("spikes/units", count, dtype=h5py.vlen_dtype(np.uint16))
            for place in range(count):
                made = recording(first + place, (1, 1, 700), length + place)
                seconds = (made["t"] / 5000).astype(np.float16)
                made["t"] = (seconds.astype(np.float64) * 1e6).astype(np.int64)
                times[place], units[place] = seconds, made["x"].astype(np.uint16)
                written[part].append((made, place % 20))
            file["labels"] = np.array([label for _, label in written[part]], dtype=np.uint16)
            file["extra/speaker"] = np.zeros(count, dtype=np.uint16)
            file["extra/keys"] = np.array([b"zero"] * 20)
    return written


AEDAT4_EVENT = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("on", "u1"), ("", "V3")])
AEDAT4_INFO = (
    b'<dv version="2.0"><node name="outInfo" path="/outInfo/"><node name="0" path="/outInfo/0/">'
    b'<attr key="typeIdentifier" type="string">EVTS</attr><node name="info" path="/outInfo/0/info/">'
    b'<attr key="sizeX" type="int">128</attr><attr key="sizeY" type="int">128</attr></node></node></node></dv>'
)


def flatbuffer(identifier, fields, table, content):
    """Size, root, identifier, table of fields, the table, then what it refers to: as FlatBuffers lays it out."""
    fields = struct.pack(f"<{2 + len(fields)}H", 4 + 2 * len(fields), 4 + len(table), *fields)
    fields += bytes(-len(fields) % 4)
    body = struct.pack("<I", 8 + len(fields)) + identifier + fields + struct.pack("<i", len(fields)) + table + content
    return struct.pack("<I", len(body)) + body


def aedat4_bytes(made):
    """An AEDAT4 file without compression: version, header with the description of streams, one packet of events."""
    events = np.zeros(made.size, dtype=AEDAT4_EVENT)
    for theirs, ours in zip(AEDAT4_EVENT.names, "txyp", strict=False):
        events[theirs] = made[ours]
    info = struct.pack("<I", len(AEDAT4_INFO)) + AEDAT4_INFO + bytes(4 - len(AEDAT4_INFO) % 4)
    header = flatbuffer(b"IOHE", (4, 0, 8), struct.pack("<iI", 0, 4), info)
    packet = flatbuffer(b"EVTS", (4,), struct.pack("<I", 4), struct.pack("<I", made.size) + events.tobytes())
    return b"#!AER-DAT4.0\r\n" + header + struct.pack("<ii", 0, len(packet)) + packet


def write_dvs_cifar10(folder, per_class=10, suffix="aedat4"):
    encoded = {"aedat": aedat2_bytes, "aedat4": aedat4_bytes}[suffix]
    written = {}
    for label, name in enumerate(events_module.DVS_CIFAR10_CLASSES):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            made = recording(label * 1000 + number, (2, 128, 128))
            (folder / name / f"cifar10_{name}_{number}.{suffix}").write_bytes(encoded(made))
            written[label, number] = made
    return written


class StandInDecoder:
    """What tonic needs of ``aedat.Decoder``, for files of :func:`aedat4_bytes` only."""

    def __init__(self, path):
        content = Path(path).read_bytes()
        first = content.rindex(b"EVTS") + 24  # after the identifier, 8 bytes of fields, 8 of the table, 4 of the length
        dtype = [("t", "<u8"), ("x", "<u2"), ("y", "<u2"), (("p", "on"), "?")]
        self.events = np.frombuffer(content[first:], AEDAT4_EVENT)[["t", "x", "y", "on"]].astype(dtype)

    def id_to_stream(self):
        return {0: {"type": "events"}, 1: {"type": "frame"}}

    def __iter__(self):
        for half in np.array_split(self.events, 2):
            yield {"stream_id": 0, "events": half}
            yield {"stream_id": 1, "frame": None}


@pytest.fixture
def aedat(monkeypatch):
    """The decoder that tonic calls for AEDAT4 files, or a stand-in where it is not installed; all else is tonic's."""
    pytest.importorskip("tonic")
    try:
        import aedat  # noqa: F401
    except ImportError:
        module = types.ModuleType("aedat")
        module.Decoder = StandInDecoder
        monkeypatch.setitem(sys.modules, "aedat", module)


def check(dataset, train, test, shape, settings=COUNTS, squeeze=False):
    """Compare a data set with frames made here of what was written."""

    def expected(made):
        result = frames(made, settings.steps, shape, settings.cut, settings.binary)
        return result.reshape(settings.steps, -1) if squeeze else result

    assert everything(dataset) == sorted((expected(made).tobytes(), label) for made, label in train)
    assert sorted(zip(map(bytes, dataset.test.values), dataset.test.labels.tolist(), strict=True)) == sorted(
        (expected(made).tobytes(), label) for made, label in test
    )
    assert dataset.steps == settings.steps
    assert dataset.train.values.shape[1] == settings.steps
    assert dataset.shape == ((shape[2],) if squeeze else shape)


@pytest.mark.parametrize("place", ["NMNIST", "n-mnist", ""])
def test_n_mnist(tmp_path, place):
    pytest.importorskip("tonic")
    written = write_n_mnist(tmp_path / place)
    dataset = load_dataset("n_mnist", tmp_path, frames=COUNTS)
    check(dataset, written["Train"], written["Test"], (2, 34, 34))
    assert (len(dataset.train), len(dataset.validation), dataset.classes) == (90, 10, 10)
    assert dataset.augment is None


def test_gestures(tmp_path):
    written = write_gestures(tmp_path / "DVSGesture", users=5)
    dataset = load_dataset("dvs128_gesture", tmp_path, frames=COUNTS)
    check(dataset, written["ibmGestureTrain"], written["ibmGestureTest"], (2, 128, 128))
    assert dataset.classes == 11
    assert dataset.augment is None  # mirrored, a left hand would be a right one


def test_shd(tmp_path):
    written = write_shd(tmp_path / "SHD")
    dataset = load_dataset("shd", tmp_path, frames=COUNTS)
    check(dataset, written["train"], written["test"], (1, 1, 700), squeeze=True)
    assert (dataset.classes, dataset.features) == (20, 700)
    assert dataset.test.values.shape == (10, STEPS, 700)


@pytest.mark.parametrize("suffix", ["aedat", "aedat4"])
def test_dvs_cifar10(tmp_path, suffix, request):
    if suffix == "aedat4":
        request.getfixturevalue("aedat")
    written = write_dvs_cifar10(tmp_path / "CIFAR10DVS", per_class=20, suffix=suffix)
    dataset = load_dataset("dvs_cifar10", tmp_path, frames=COUNTS)
    small = {key: (shrink(made, (128, 128), (48, 48)), key[0]) for key, made in written.items()}
    train = [made for (_, number), made in small.items() if number < 18]
    test = [made for (_, number), made in small.items() if number >= 18]
    check(dataset, train, test, (2, 48, 48))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (160, 20, 20)
    assert dataset.augment is flip_and_roll


def test_original_recordings_need_no_tonic(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tonic", None)
    write_dvs_cifar10(tmp_path / "originals", suffix="aedat")
    write_dvs_cifar10(tmp_path / "copies")
    assert missing_datasets(["dvs_cifar10"], tmp_path / "originals") == {}
    assert "reading dvs_cifar10 needs 'tonic'" in missing_datasets(["dvs_cifar10"], tmp_path / "copies")["dvs_cifar10"]


@pytest.mark.parametrize("per_class", [10, 0])
def test_recordings_in_two_formats_are_refused(tmp_path, per_class):
    """Both would be the same recordings twice, in training and in test; and each has an orientation of its own."""
    write_dvs_cifar10(tmp_path, suffix="aedat")
    write_dvs_cifar10(tmp_path, per_class)
    if per_class == 0:
        path = tmp_path / "cat" / "cifar10_cat_3.aedat"
        path.rename(path.with_suffix(".aedat4"))
    copies = {10: 10, 0: 1}[per_class]
    words = f"recordings of 10 as .aedat and {copies} as .aedat4, expected all 10 classes in one format"
    with pytest.raises(BadInput, match=words):
        load_dataset("dvs_cifar10", tmp_path)
    assert words in missing_datasets(["dvs_cifar10"], tmp_path)["dvs_cifar10"]


def test_frames_of_another_start_are_other_frames(tmp_path):
    written = write_dvs_cifar10(tmp_path, suffix="aedat")
    found = {}
    for start in (0, 1000):
        settings = FrameSettings(4, "duration", size=(128, 128), duration=500, start=start)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[start] = load_dataset("dvs_cifar10", tmp_path, frames=settings).test
    assert sorted(path.name for path in tmp_path.glob("frames-test*")) == [
        "frames-test-4-duration500-binary-128x128.npz",
        "frames-test-4-duration500from1000-binary-128x128.npz",
    ]
    made = written[3, 9]
    made["t"] -= made["t"].min()
    for start, test in found.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = frames(made, 4, (2, 128, 128), "duration", duration=500, start=start)
        assert np.array_equal(test.values[3], expected)


def test_size_is_a_setting(tmp_path):
    written = write_dvs_cifar10(tmp_path, suffix="aedat")
    settings = FrameSettings(2, size=(128, 128))
    dataset = load_dataset("dvs_cifar10", tmp_path, frames=settings)
    train = [(made, label) for (label, number), made in written.items() if number < 9]
    test = [(made, label) for (label, number), made in written.items() if number >= 9]
    check(dataset, train, test, (2, 128, 128), settings)
    with pytest.raises(BadInput, match=r"size is \(129, 128\), expected at most \(128, 128\)"):
        load_dataset("dvs_cifar10", tmp_path, frames=FrameSettings(2, size=(129, 128)))


@pytest.mark.parametrize(
    ("name", "theirs", "folder", "write"),
    [
        ("n_mnist", "NMNIST", "NMNIST", write_n_mnist),
        ("dvs128_gesture", "DVSGesture", "DVSGesture", write_gestures),
        ("shd", "SHD", "SHD", write_shd),
    ],
)
def test_recordings_are_what_tonic_reads(tmp_path, monkeypatch, name, theirs, folder, write):
    datasets = pytest.importorskip("tonic").datasets
    import numpy.lib.recfunctions  # noqa: F401 (tonic uses it without importing it)

    write(tmp_path / folder)
    theirs_class = getattr(datasets, theirs)
    monkeypatch.setattr(theirs_class, "_check_exists", lambda _: True)  # it wants the archive and all files
    test = load_dataset(name, tmp_path, frames=COUNTS).test
    reader = theirs_class(str(tmp_path), train=False)
    found = []
    for index in range(len(reader)):
        raw, label = reader[index]
        made = np.zeros(len(raw), dtype=EVENT)
        for field in raw.dtype.names:
            made[field] = raw[field]
        made["p"] *= name != "shd"  # tonic gives the cochlea a polarity of 1
        shape = (1, 1, 700) if name == "shd" else (2, *reader.sensor_size[1::-1])
        found.append((frames(made, STEPS, shape, "time", binary=False).tobytes(), int(label)))
    assert sorted(found) == sorted(
        (value.tobytes(), int(label)) for value, label in zip(test.values, test.labels, strict=True)
    )


def test_binary_frames_of_equal_count_are_the_default(tmp_path):
    written = write_shd(tmp_path)
    dataset = load_dataset("shd", tmp_path)
    assert dataset.test.values.dtype == np.uint8
    assert dataset.steps == 10
    for value, (made, _) in zip(dataset.test.values, written["test"], strict=True):
        assert np.array_equal(value, frames(made, 10, (1, 1, 700)).reshape(10, 700))


def caches(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("frames-*")}


def test_frames_are_made_once_per_setting(tmp_path, monkeypatch):
    write_shd(tmp_path)
    first = load_dataset("shd", tmp_path, frames=COUNTS)
    assert sorted(caches(tmp_path)) == [f"frames-{part}-4-time-counts-1x700.npz" for part in ("test", "train")]
    load_dataset("shd", tmp_path, frames=FrameSettings(STEPS, "time", binary=True))
    load_dataset("shd", tmp_path, frames=FrameSettings(STEPS, "count", binary=False))
    load_dataset("shd", tmp_path, frames=FrameSettings(5, "time", binary=False))
    assert len(caches(tmp_path)) == 8

    def never(*arguments, **keywords):
        raise AssertionError(f"frames are made again: {arguments} {keywords}")

    monkeypatch.setattr(events_module, "frames", never)
    again = load_dataset("shd", tmp_path, frames=COUNTS)
    assert everything(again) == everything(first)
    assert np.array_equal(again.test.values, first.test.values)


def test_frames_of_other_recordings_are_made_anew(tmp_path):
    write_shd(tmp_path)
    load_dataset("shd", tmp_path, frames=COUNTS)
    written = write_shd(tmp_path, train=60, test=20)
    check(load_dataset("shd", tmp_path, frames=COUNTS), written["train"], written["test"], (1, 1, 700), squeeze=True)


@pytest.mark.parametrize(
    "damage", [lambda content: content[: len(content) // 2], lambda _: b"", lambda _: b"\x80\x04N."]
)
def test_damaged_cache_is_made_anew(tmp_path, damage):
    written = write_shd(tmp_path)
    load_dataset("shd", tmp_path, frames=COUNTS)
    for name in caches(tmp_path):
        (tmp_path / name).write_bytes(damage((tmp_path / name).read_bytes()))
    check(load_dataset("shd", tmp_path, frames=COUNTS), written["train"], written["test"], (1, 1, 700), squeeze=True)


def test_folder_that_cannot_be_written_is_read(tmp_path, monkeypatch):
    written = write_shd(tmp_path)

    def refuse(*arguments, **keywords):
        raise OSError(f"no space left: {arguments} {keywords}")

    monkeypatch.setattr(events_module.np, "savez", refuse)
    check(load_dataset("shd", tmp_path, frames=COUNTS), written["train"], written["test"], (1, 1, 700), squeeze=True)
    assert not caches(tmp_path)


def test_damaged_recording_is_named(tmp_path):
    write_gestures(tmp_path, users=1)
    path = tmp_path / "ibmGestureTest" / "user100_fluorescent" / "3.npy"
    good = np.load(path)
    for content, message in (
        (good[:, :3], "3.npy: not a recording: not enough values to unpack"),
        (good + np.array([128, 0, 0, 0]), r"3.npy: event with x = \d+, expected 0 to 127"),
        (good + np.array([0, 0, 0, np.nan]), "3.npy: times are not all finite and below 1e.06 s"),
        (good + np.array([0, 0, 0, 1e10]), "3.npy: times are not all finite and below 1e.06 s"),
        (np.array([None]), "3.npy: not a recording: Object arrays cannot be loaded"),
    ):
        np.save(path, content)
        with pytest.raises(BadInput, match=message):
            load_dataset("dvs128_gesture", tmp_path, frames=COUNTS)
    (path.parent / "11.npy").write_bytes(path.read_bytes())
    with pytest.raises(BadInput, match="labels of the test part are not all from 0 to 10"):
        load_dataset("dvs128_gesture", tmp_path, frames=COUNTS)


def test_damaged_shd_is_named(tmp_path):
    write_shd(tmp_path)
    with h5py.File(tmp_path / "shd_test.h5", "a") as file:
        file["spikes/units"][4] = np.full(54, 700, dtype=np.uint16)
    with pytest.raises(BadInput, match=r"shd_test.h5, recording 4: event with x = 700, expected 0 to 699"):
        load_dataset("shd", tmp_path)
    with h5py.File(tmp_path / "shd_test.h5", "a") as file:
        del file["labels"]
        file["labels"] = np.zeros(9, dtype=np.uint16)
    with pytest.raises(BadInput, match=r"shd_test.h5: \(10, 10\) recordings of times and units, expected 9"):
        load_dataset("shd", tmp_path)
    with h5py.File(tmp_path / "shd_test.h5", "a") as file:
        del file["labels"]
    with pytest.raises(BadInput, match=r"shd_test.h5: not a file of SHD"):
        load_dataset("shd", tmp_path)
    (tmp_path / "shd_train.h5").write_bytes(b"nothing")
    with pytest.raises(BadInput, match=r"shd_train.h5: not a file of SHD"):
        load_dataset("shd", tmp_path)


def test_shd_has_no_size(tmp_path):
    write_shd(tmp_path)
    with pytest.raises(BadInput, match="'shd': frames have no height and width"):
        load_dataset("shd", tmp_path, frames=FrameSettings(size=(1, 350)))


def test_without_tonic_the_command_is_named(tmp_path, monkeypatch):
    write_n_mnist(tmp_path)
    monkeypatch.setitem(sys.modules, "tonic", None)
    with pytest.raises(MissingDependency, match=r"reading N-MNIST needs 'tonic'.* pip install 'esl-neuro\[events\]'"):
        load_dataset("n_mnist", tmp_path)


@pytest.mark.parametrize(("name", "theirs", "parts"), [("shd", "SHD", 2), ("dvs_cifar10", "CIFAR10DVS", 1)])
def test_download_is_tonics(tmp_path, monkeypatch, name, theirs, parts):
    datasets = pytest.importorskip("tonic").datasets
    asked = []
    monkeypatch.setattr(getattr(datasets, theirs), "download", lambda self: asked.append(self.location_on_system))
    with pytest.raises(BadInput):
        load_dataset(name, tmp_path)
    assert not asked
    with pytest.raises(BadInput):  # nothing came, so that tonic or the search afterwards finds nothing
        load_dataset(name, tmp_path, download=True)
    assert asked[0] == str(tmp_path / theirs)
    assert len(asked) <= parts
