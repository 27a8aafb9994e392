"""Arrays are read without pickle, and what a file declares takes no memory before it is compared with the limit."""

from __future__ import annotations

import pickle
import zipfile

import numpy as np
import pytest

from esl_neuro.errors import BadInput
from esl_neuro.reading.arrays import SINGLE, read_arrays


def refused(path, *words):
    with pytest.raises(BadInput) as caught:
        read_arrays(path)
    assert "\n" not in str(caught.value)
    for word in (str(path), *words):
        assert word in str(caught.value)


def header_of(shape, dtype="<f8"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (63 - (len(text) + 10) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "array",
    [np.arange(12).reshape(3, 4), np.asfortranarray(np.random.default_rng(0).random((3, 4, 5))), np.zeros((0, 2)),
     np.array(3.5), np.array([True, False]), np.array(["a", "bc"])],
)  # fmt: skip
def test_arrays_are_those_that_were_saved(tmp_path, array):
    np.save(tmp_path / "one.npy", array)
    np.savez(tmp_path / "several.npz", first=array, second=np.ones(2))
    np.savez_compressed(tmp_path / "packed.npz", first=array, second=np.ones(2))
    assert np.array_equal(read_arrays(tmp_path / "one.npy")[SINGLE], array)
    for name in ("several.npz", "packed.npz"):
        again = read_arrays(tmp_path / name)
        assert list(again) == ["first", "second"]
        assert np.array_equal(again["first"], array)
        assert again["first"].dtype == array.dtype


def test_declared_sizes_are_compared_with_the_limit(tmp_path):
    path = tmp_path / "bomb.npy"
    path.write_bytes(header_of((2**40,)) + bytes(8))
    refused(path, "an array takes 8,796,093 MB, more than the limit of 4,096 MB; ESL_NEURO_MAX_READ_MB raises it")
    path.write_bytes(header_of((2**28,)) + bytes(8))
    refused(path, "needs 2,147,483,648 bytes, the file has 8")
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header_of((10**6,)) + bytes(8 * 10**6))
    assert read_arrays(tmp_path / "bomb.npz")["a"].size == 10**6
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ESL_NEURO_MAX_READ_MB", "1")
        refused(tmp_path / "bomb.npz", "its arrays take 8 MB")


@pytest.mark.parametrize("shape", [(-1,), (-2, -2), (2**62, 2**62), "(1.5,)", "[3]"])
def test_impossible_shapes_are_refused(tmp_path, shape):
    (tmp_path / "a.npy").write_bytes(header_of(shape) + bytes(64))
    refused(tmp_path / "a.npy")


def test_python_objects_are_never_made(tmp_path):
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps({"a": 1}))
    refused(tmp_path / "pickle.npz")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    refused(tmp_path / "objects.npy", "Object arrays cannot be loaded")


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"PK\x03\x04", bytes(100), b"\x93NUMPY\x01\x00\xff\xff{"])
def test_damage_is_one_line(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    refused(tmp_path / "a.npz", "is not a readable .npz or .npy file")


def test_an_archive_that_is_cut_off_is_called_that(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(1000))
    path.write_bytes(path.read_bytes()[:500])
    refused(path, "the archive is cut off or damaged")
