"""HDF5 files are read whole by another process before this one opens them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

import h5py
import numpy as np
import pytest

from esl_neuro.errors import BadInput
from esl_neuro.reading import hdf5, hdf5_screen
from esl_neuro.reading.hdf5 import open_hdf5, screen

WHAT = "a file of the test"


def make(path, write):
    with h5py.File(path, "w") as file:
        write(file)
    return path


def refused(path, *words):
    with pytest.raises(BadInput) as caught, open_hdf5(path, WHAT):
        pass
    assert "\n" not in str(caught.value)
    for word in (str(path), *words):
        assert word in str(caught.value)


@pytest.fixture
def good(tmp_path):
    def write(file):
        file["group/numbers"] = np.arange(6).reshape(2, 3)
        file["text"] = "a word"
        file["nothing"] = h5py.Empty("f")
        file["zeros"] = np.zeros((64, 64))
        file.create_dataset("packed", data=np.zeros(100_000), compression="gzip")
        file.create_dataset("ragged", (2,), h5py.vlen_dtype(np.int32))[:] = [np.arange(3), np.arange(2)]
        file["again"] = h5py.SoftLink("/group/numbers")
        file.attrs["names"] = ["a", "b"]

    return make(tmp_path / "good.h5", write)


def test_content_is_read_as_it_is(good):
    with open_hdf5(good, WHAT) as file:
        assert file["group/numbers"][()].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert file["again"].shape == (2, 3)
        assert [each.tolist() for each in file["ragged"]] == [[0, 1, 2], [0, 1]]
        assert list(file.attrs["names"]) == ["a", "b"]


def test_a_new_process_judges_like_a_fork(good, tmp_path, monkeypatch):
    linked = make(tmp_path / "linked.h5", lambda file: file.__setitem__("a", h5py.ExternalLink("b.h5", "/c")))
    answers = [screen(path.read_bytes()) for path in (good, linked)]
    monkeypatch.setattr(hdf5, "_ask_fork", hdf5._ask_program)
    monkeypatch.setattr(sys, "platform", "win32")
    assert [screen(path.read_bytes()) for path in (good, linked)] == answers
    assert answers[0] == ""


def view(file):
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "data", (4,))
    file.create_virtual_dataset("seen", layout)


def cycle(file):
    file.create_group("inner")["outer"] = file


def doubling(file):
    group = file
    for _ in range(40):
        below = group.create_group("left")
        group["right"] = below
        group = below


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda file: file.__setitem__("far", h5py.ExternalLink("/etc/passwd", "/x")), "another file ('/etc/passwd')"),
        (lambda file: file.create_dataset("raw", (4,), "u1", external=[("/etc/passwd", 0, 4)]), "in another file"),
        (view, "a view of data sets in other files"),
        (cycle, "group '/inner/outer' contains itself"),
        (lambda file: file.__setitem__("round", h5py.SoftLink("/")), "contains itself"),
        (doubling, "by many paths"),
        (lambda file: file.__setitem__("lost", h5py.SoftLink("/nowhere")), "damaged"),
        (lambda file: file.create_dataset("large", (2**28,), "f8", chunks=(1024,)), "stores 0 bytes"),
        (lambda file: file.create_dataset("huge", (2**50,), "f8", chunks=(1024,)), "the limit is 4,096 MB"),
    ],
    ids=["link", "raw", "view", "cycle", "soft cycle", "doubling", "lost", "large", "huge"],
)
def test_a_file_that_reaches_out_or_does_not_end_is_refused(tmp_path, write, words):
    started = time.monotonic()
    refused(make(tmp_path / "bad.h5", write), words)
    assert time.monotonic() - started < 5


def test_the_limit_can_be_set(good, monkeypatch):
    monkeypatch.setenv("ESL_NEURO_MAX_READ_MB", "0.5")
    refused(good, "the limit is 0 MB (ESL_NEURO_MAX_READ_MB)")
    monkeypatch.setenv("ESL_NEURO_MAX_READ_MB", "much")
    refused_variable = pytest.raises(BadInput, match="ESL_NEURO_MAX_READ_MB is 'much'; give a positive number")
    with refused_variable, open_hdf5(good, WHAT):
        pass


def crash(_image, _limit):
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(_image, _limit):
    while True:
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="only a fork takes over what the test replaces")
@pytest.mark.parametrize(("judge", "words"), [(crash, "fails on it (SIGSEGV)"), (hang, "cannot be read within 1 s")])
def test_a_crash_and_a_hang_of_the_library_are_one_line(good, monkeypatch, capfd, judge, words):
    monkeypatch.setenv("ESL_NEURO_MAX_READ_S", "1")
    monkeypatch.setattr(hdf5_screen, "judge", judge)
    refused(good, words)
    assert capfd.readouterr() == ("", "")


def test_what_is_no_hdf5_file_is_told_apart(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    refused(tmp_path / "empty", "it is empty")
    (tmp_path / "text").write_text("a" * 5000)
    refused(tmp_path / "text", "it is not an HDF5 file (it begins with b'aaaaaaaa')")
    refused(tmp_path / "nothing", "no such file")
    refused(tmp_path, "not a file")


def test_content_of_another_form_than_the_body_expects_is_one_line(good):
    with (
        pytest.raises(BadInput, match="not a file of the test: its content has another form"),
        open_hdf5(good, WHAT) as file,
    ):
        file["missing"]


@pytest.mark.parametrize("seed", range(2))
def test_random_damage_is_read_or_refused_in_one_line(good, tmp_path, seed):
    rng, whole = np.random.default_rng(seed), good.read_bytes()
    for _ in range(15):
        damaged = bytearray(whole)
        for _ in range(int(rng.integers(1, 20))):
            damaged[int(rng.integers(len(damaged)))] = int(rng.integers(256))
        path = tmp_path / "damaged.h5"
        path.write_bytes(damaged)
        assert "\n" not in screen(bytes(damaged))
        with contextlib.suppress(BadInput), open_hdf5(path, WHAT) as file:
            list(file)
