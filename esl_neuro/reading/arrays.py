"""Read ``.npz`` and ``.npy`` files: no pickle, and no more memory than the limit, whatever they declare."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.errors import BadInput
from esl_neuro.reading.documents import reason
from esl_neuro.reading.limits import refuse_large

SINGLE = "array"
"""Name of the only array of an ``.npy`` file."""


def read_arrays(path: Path, problem: str = "is not a readable .npz or .npy file") -> dict[str, NDArray[Any]]:
    """Read all arrays of an ``.npz`` file by name, or the one of an ``.npy`` file as :data:`SINGLE`.

    Parameters
    ----------
    path : Path
        The file.
    problem : str
        What the message says of a file that cannot be read.

    Raises
    ------
    BadInput
        If the file is missing, damaged or too large, or holds Python objects.
    """
    if not path.is_file():
        raise BadInput(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                file.seek(0)
                if file.read(2) == b"PK":
                    raise ValueError("the archive is cut off or damaged")
                file.seek(0)
                return {SINGLE: _read(path, file)}
        with zipfile.ZipFile(path) as archive:
            entries = [each for each in archive.infolist() if each.filename.endswith(".npy")]
            refuse_large(path, "its arrays take", sum(each.file_size for each in entries))
            return {each.filename.removesuffix(".npy"): _read(path, archive.open(each)) for each in entries}
    except BadInput:
        raise
    except Exception as error:  # numpy and zipfile raise many kinds of errors for a damaged file
        raise BadInput(f"{path}: {problem}: {reason(error)}") from error


def _read(path: Path, file: IO[bytes]) -> NDArray[Any]:
    """Read one array; its header is read first, because numpy takes the declared memory before it reads."""
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(file)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded, because reading Python objects can run code")
    if min(shape, default=0) < 0:
        raise ValueError(f"an array has the shape {shape}")
    size = math.prod(shape) * dtype.itemsize
    refuse_large(path, "an array takes", size)
    content = at_most(file, size)
    if len(content) < size:
        raise ValueError(f"an array of shape {shape} needs {size:,} bytes, the file has {len(content):,}")
    array: NDArray[Any] = np.frombuffer(content, dtype, count=math.prod(shape)).reshape(
        shape[::-1] if fortran else shape
    )
    return array.transpose() if fortran else array


def at_most(file: IO[bytes], size: int) -> bytearray:
    """Read in pieces, so that a file that declares more than it has takes no more memory than it has."""
    content = bytearray()
    while len(content) < size:
        piece = file.read(min(size - len(content), 2**24))
        if not piece:
            break
        content += piece
    return content
