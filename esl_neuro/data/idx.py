"""Read the IDX format of MNIST: a magic number, the dimensions, then the values, all big endian.

Source: http://yann.lecun.com/exdb/mnist ("The IDX file format").
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from esl_neuro.errors import BadInput
from esl_neuro.reading.arrays import at_most
from esl_neuro.reading.limits import refuse_large

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MOST_DIMENSIONS = 32  # of numpy 1
GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: Path) -> NDArray[Any]:
    """Read an IDX file, compressed with gzip or not (detected by its first bytes, not by its name).

    Parameters
    ----------
    path : Path
        File: two zero bytes, a byte for the type, a byte for the number of dimensions, one uint32 per dimension,
        then the values in C order.

    Returns
    -------
    array
        Array of the declared shape and type, in native byte order.

    Raises
    ------
    BadInput
        If the file cannot be read, has another magic number, or more or fewer values than it declares.
    """
    try:
        with _open(path) as stream:
            return _parse(stream, path)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from error


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        compressed = stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    return cast(IO[bytes], gzip.open(path, "rb")) if compressed else path.open("rb")


def _parse(stream: IO[bytes], path: Path) -> NDArray[Any]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in DTYPES or magic[3] == 0:
        allowed = ", ".join(f"0x{code:02x}" for code in DTYPES)
        raise BadInput(
            f"{path}: magic number is 0x{magic.hex()}, expected 0x0000, a type of {allowed}, and a dimension"
        )
    header = stream.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise BadInput(f"{path}: truncated: {len(header)} bytes of dimensions, expected {4 * magic[3]}")
    shape = struct.unpack(f">{magic[3]}I", header)
    dtype = np.dtype(DTYPES[magic[2]])
    expected = math.prod(shape) * dtype.itemsize
    if len(shape) > MOST_DIMENSIONS:
        raise BadInput(f"{path}: {len(shape)} dimensions, expected at most {MOST_DIMENSIONS}")
    refuse_large(path, "its values take", expected)
    content = at_most(stream, expected + 1)
    if len(content) != expected:
        have = f"{len(content)}" if len(content) < expected else "more"
        raise BadInput(f"{path}: {have} bytes of values, expected {expected} for the declared shape {shape}")
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
