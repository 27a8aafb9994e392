"""The IDX reader, on files written byte by byte from the format's description."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_neuro.data.idx import read_idx
from esl_neuro.errors import BadInput

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array, code=None):
    header = bytes([0, 0, code or CODES[array.dtype.str[1:]], array.ndim])
    sizes = b"".join(struct.pack(">I", size) for size in array.shape)
    return header + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("idx") / "file"


@given(
    kind=st.sampled_from(list(CODES)),
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    compress=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_type_and_shape_is_read_back(path, kind, shape, compress, seed):
    array = np.random.default_rng(seed).integers(-100, 100, shape).astype(kind)
    content = idx_bytes(array)
    path.write_bytes(gzip.compress(content) if compress else content)
    result = read_idx(path)
    assert result.dtype == array.dtype
    assert result.dtype.isnative
    assert np.array_equal(result, array)
    assert result.shape == array.shape


def test_by_hand(path):
    path.write_bytes(bytes.fromhex("00000802 00000002 00000003 010203 0405ff"))
    assert read_idx(path).tolist() == [[1, 2, 3], [4, 5, 255]]
    path.write_bytes(bytes.fromhex("00000b01 00000002 0102 ffff"))
    assert read_idx(path).tolist() == [258, -1]


IMAGES = idx_bytes(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
GZIPPED = gzip.compress(IMAGES, mtime=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x01" + IMAGES[1:], "magic number is 0x01000803, expected 0x0000, a type of 0x08"),
        (idx_bytes(np.zeros(2, np.uint8), code=0x0A), "magic number is 0x00000a01"),
        (b"\0\0\x08\0", "magic number is 0x00000800"),
        (b"\0\0", "magic number is 0x0000, expected"),
        (b"", "magic number is 0x, expected"),
        (IMAGES[:9], "truncated: 5 bytes of dimensions, expected 12"),
        (IMAGES[:-1], "23 bytes of values, expected 24 for the declared shape (2, 3, 4)"),
        (IMAGES + b"\0", "more bytes of values, expected 24"),
        (GZIPPED[:-12], "cannot be read: "),
        (GZIPPED[:10] + b"\xff" * 9, "cannot be read: "),
        (GZIPPED[:-8] + b"\0" * 8, "cannot be read: CRC check failed"),
    ],
)
def test_damaged_file_is_named_with_value_and_expectation(path, content, message):
    path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="nothing: cannot be read"):
        read_idx(tmp_path / "nothing")
