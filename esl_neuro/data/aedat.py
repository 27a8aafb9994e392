"""Read AEDAT 2.0 recordings of a DVS128 camera, the format of jAER in which DVS-CIFAR10 is distributed.

A header of lines that begin with ``#``, of which the first is ``#!AER-DAT2.0``, then eight bytes per event, big endian:
an address of 32 bits and a time of 32 bits in microseconds.

====== ===============================================================================
bit    of the address
====== ===============================================================================
0      polarity: 0 is ON (brighter), 1 is OFF
1-7    x of the sensor
8-14   y of the sensor
15, 31 not a pixel: a synchronisation signal or another special event of jAER
16-30  not used by this camera
====== ===============================================================================

Sources: jAER's extractor of the DVS128, and ``dat2mat.m`` and ``mat2dat.m``, to which the data set's README refers.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esl_neuro.data.frames import EVENT, Events
from esl_neuro.errors import BadInput
from esl_neuro.reading.documents import reason
from esl_neuro.reading.limits import refuse_large

MARK = b"#!AER-DAT"
VERSION = b"2.0"
WORD = np.dtype(">u4")
LAST = 127  # row and column of the 128 x 128 sensor
OFF = 0x1
X_BITS, X_SHIFT = 0xFE, 1
Y_BITS, Y_SHIFT = 0x7F00, 8
SPECIAL = 0x80008000
UNUSED = 0x7FFF0000


def read_aedat2(path: Path) -> Events:
    """Read a recording of a DVS128.

    The image is upright as SpikingJelly and early versions of tonic read it: column ``127 - y`` and row ``127 - x`` of
    the sensor; ``dat2mat.m`` has column ``127 - x`` and row ``y`` instead.

    Parameters
    ----------
    path : Path
        An ``.aedat`` file.

    Returns
    -------
    structured array, shape (events,)
        Fields of :data:`~esl_neuro.data.frames.EVENT`: ``t`` in microseconds from the earliest event, ``x`` and ``y``
        from 0 to 127, ``p`` 1 for ON and 0 for OFF. Special events are left out, and a warning counts them.

    Raises
    ------
    BadInput
        If the file cannot be read, is too large, has another version, is cut off, or is of another camera.
    """
    try:
        refuse_large(path, "its events take", path.stat().st_size // (2 * WORD.itemsize) * EVENT.itemsize)
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({reason(error)})") from error
    words = _words(content, path)
    address, clock = words[:, 0].astype(np.int64), words[:, 1]
    special = (address & SPECIAL) != 0
    if special.any():
        warnings.warn(
            f"{path}: {int(special.sum()):,} of {special.size:,} events are special events of jAER, not of a pixel, "
            "and are left out",
            stacklevel=2,
        )
    return _decoded(address[~special], clock[~special], path)


def _words(content: bytes, path: Path) -> NDArray[np.uint32]:
    """Return address and time of each event, shape (events, 2)."""
    start = 0
    while content.startswith(b"#", start):
        end = content.find(b"\n", start)
        if end < 0:
            raise BadInput(f"{path}: the header has no end; each of its lines ends with a line break")
        if start == 0:
            _check_version(content[:end].rstrip(b"\r"), path)
        start = end + 1
    if start == 0:
        raise BadInput(f"{path}: begins without {(MARK + VERSION).decode()}; only AEDAT 2.0 is read")
    size = len(content) - start
    if size % (2 * WORD.itemsize):
        raise BadInput(
            f"{path}: {size:,} bytes of events after the header, expected a multiple of {2 * WORD.itemsize}; "
            "the file is cut off or damaged"
        )
    words: NDArray[np.uint32] = np.frombuffer(content, WORD, offset=start).reshape(-1, 2).astype(np.uint32)
    return words


def _check_version(line: bytes, path: Path) -> None:
    if line != MARK + VERSION:
        raise BadInput(f"{path}: begins with {line[:40]!r}, expected {MARK + VERSION!r}; only AEDAT 2.0 is read")


def _decoded(address: NDArray[np.int64], clock: NDArray[np.uint32], path: Path) -> Events:
    foreign = np.flatnonzero(address & UNUSED)
    if foreign.size:
        raise BadInput(
            f"{path}: the address of an event is 0x{address[foreign[0]]:08x}, expected at most 0x00007fff; "
            "the recording is damaged or of another camera than the DVS128"
        )
    events = np.empty(address.size, dtype=EVENT)
    events["t"] = _elapsed(clock)
    events["x"] = LAST - ((address & Y_BITS) >> Y_SHIFT)
    events["y"] = LAST - ((address & X_BITS) >> X_SHIFT)
    events["p"] = 1 - (address & OFF)
    return events


def _elapsed(clock: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return the time since the earliest event, from a clock of 32 bits that may begin anywhere and overflow.

    From event to event the clock moves by less than half of its range, 35 minutes, ahead or back.
    """
    moves = np.diff(clock, prepend=clock[:1]).astype(np.int32)  # modulo 2**32
    elapsed: NDArray[np.int64] = np.cumsum(moves, dtype=np.int64)
    elapsed -= elapsed.min(initial=0)
    return elapsed
