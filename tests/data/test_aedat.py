"""AEDAT 2.0 of a DVS128, against the bit layout written for one event at a time."""

from __future__ import annotations

import struct
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_neuro.data.aedat import read_aedat2
from esl_neuro.data.frames import EVENT
from esl_neuro.errors import BadInput

HEADER = (
    b"#!AER-DAT2.0\r\n"
    b"# This is a raw AE data file - do not edit\r\n"
    b"# Data format is int32 address, int32 timestamp (8 bytes total), repeated for each event\r\n"
    b"# Timestamps tick is 1 us\r\n"
    b"# created Wed Jan 20 2016\r\n"
)


def aedat2_bytes(made, clock=0):
    """A file of events: the place of each, as SpikingJelly reads it, to the bits of its address."""
    body = b"".join(
        struct.pack(
            ">II",
            (127 - int(event["x"])) * 256 + (127 - int(event["y"])) * 2 + (1 - int(event["p"])),
            (int(event["t"]) + clock) % 2**32,
        )
        for event in made
    )
    return HEADER + body


def read(folder, content):
    path = folder / "cifar10_cat_7.aedat"
    path.write_bytes(content)
    return read_aedat2(path)


def event(address, clock):
    return struct.pack(">II", address, clock)


@pytest.mark.parametrize(
    ("address", "x", "y", "p"),
    [
        (0x0000, 127, 127, 1),
        (0x0001, 127, 127, 0),
        (0x00FE, 127, 0, 1),
        (0x7F00, 0, 127, 1),
        (0x7FFF, 0, 0, 0),
        (0b0_0000011_0000101_0, 124, 122, 1),
    ],
)
def test_bits_of_an_address(tmp_path, address, x, y, p):
    (only,) = read(tmp_path, HEADER + event(address, 5)).tolist()
    assert only == (0, x, y, p)


pixels = st.tuples(st.integers(0, 10**6), st.integers(0, 127), st.integers(0, 127), st.integers(0, 1))


@given(made=st.lists(pixels, max_size=30), clock=st.integers(0, 2**32 - 1))
def test_what_was_written_is_read_from_the_earliest_event_on(tmp_path_factory, made, clock):
    """Wherever the camera's clock began, also if it overflows, and in whatever order the events are."""
    given_events = np.array(made, dtype=EVENT)
    found = read(tmp_path_factory.mktemp("aedat"), aedat2_bytes(given_events, clock))
    given_events["t"] -= given_events["t"].min(initial=10**6)
    assert found.dtype == EVENT
    assert found.tolist() == given_events.tolist()


def test_a_clock_may_overflow_more_than_once(tmp_path):
    ticks = [0, 2**30, 2**31, 3 * 2**30, 2**32, 2**32 + 2**30, 2**33 + 7]
    ticks = sorted({*ticks, *range(0, 2**33, 2**30)})
    found = read(tmp_path, HEADER + b"".join(event(0, tick % 2**32) for tick in ticks))
    assert found["t"].tolist() == ticks


def test_special_events_are_left_out_and_counted(tmp_path):
    content = HEADER + event(0x8000, 1) + event(0x0001, 2) + event(0x80000000, 3) + event(0x80008FFF, 4)
    with pytest.warns(UserWarning, match="cat_7.aedat: 3 of 4 events are special events of jAER, not of a pixel"):
        found = read(tmp_path, content)
    assert found.tolist() == [(0, 127, 127, 0)]


def test_header_ends_where_no_line_begins_with_a_number_sign(tmp_path):
    """The first byte of an address is never one; a time or a later byte may be."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read(tmp_path, HEADER + event(0x2322, ord("#") << 24) + event(0x0A0D, (ord("#") << 24) + 1))
        assert found["t"].tolist() == [0, 1]
        assert read(tmp_path, HEADER).size == 0
        assert read(tmp_path, b"#!AER-DAT2.0\n# \xff\xfe\n" + event(0, 0)).size == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins without #!AER-DAT2.0"),
        (event(0, 0), "begins without #!AER-DAT2.0"),
        (b"#!AER-DAT1.0\r\n" + event(0, 0), r"begins with b'#!AER-DAT1.0', expected b'#!AER-DAT2.0'"),
        (b"#!AER-DAT3.1\r\n" + event(0, 0), r"begins with b'#!AER-DAT3.1', expected b'#!AER-DAT2.0'"),
        (b"# a comment\r\n" + event(0, 0), r"begins with b'# a comment', expected b'#!AER-DAT2.0'"),
        (b"#!AER-DAT2.0", "the header has no end"),
        (HEADER + event(0, 0)[:-1], "7 bytes of events after the header, expected a multiple of 8"),
        (
            HEADER + event(0, 0) + event(0x10000, 1),
            "the address of an event is 0x00010000, expected at most 0x00007fff",
        ),
        (HEADER + event(0x7FC00000, 1), "the address of an event is 0x7fc00000.* of another camera than the DVS128"),
    ],
)
def test_other_content_is_refused(tmp_path, content, message):
    with pytest.raises(BadInput, match=f"cat_7.aedat: .*{message}"):
        read(tmp_path, content)


def test_missing_and_large_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match=r"no.aedat: cannot be read \(No such file"):
        read_aedat2(tmp_path / "no.aedat")
    monkeypatch.setenv("ESL_NEURO_MAX_READ_MB", "0.01")
    with pytest.raises(BadInput, match=r"its events take .* ESL_NEURO_MAX_READ_MB raises it"):
        read(tmp_path, HEADER + event(0, 0) * 400)
