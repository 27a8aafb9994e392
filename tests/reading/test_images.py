"""Image files: what is read, and what is refused before it takes memory."""

from __future__ import annotations

import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from esl_neuro.errors import BadInput, MissingDependency
from esl_neuro.reading.images import read_image

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
COLOURS = np.stack([GREY, 255 - GREY, GREY // 2], -1)


@pytest.mark.parametrize("suffix", ["png", "bmp", "pgm"])
def test_grey_and_colour_come_with_channels_first(tmp_path, suffix):
    Image.fromarray(GREY).save(tmp_path / f"grey.{suffix}")
    assert np.array_equal(read_image(tmp_path / f"grey.{suffix}"), GREY[None])
    Image.fromarray(COLOURS).save(tmp_path / "colour.png")
    assert np.array_equal(read_image(tmp_path / "colour.png"), COLOURS.transpose(2, 0, 1))


def test_size_and_channels_on_request(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", (5, 2), 1).shape == (1, 5, 2)
    halved = read_image(tmp_path / "a.png", (3, 2), 3)
    assert abs(int(halved[0, 0, 0]) - int(GREY[0, :2].mean())) <= 5  # averaged, not every second pixel


@pytest.mark.parametrize("mode", ["RGBA", "I;16", "LA", "CMYK"])
def test_what_would_lose_bits_or_transparency_is_refused(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new(mode, (4, 3)).save(path)
    with pytest.raises(BadInput, match="convert it to 8 bits of grey or RGB"):
        read_image(path)


def png(width, height):
    """A PNG file that declares a size and holds nothing of it."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_declared_size_is_compared_with_the_limit(tmp_path):
    (tmp_path / "a.png").write_bytes(png(100_000, 100_000))
    with pytest.raises(BadInput, match=r"a\.png"):
        read_image(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(png(100, 100))
    with pytest.raises(BadInput, match="not a readable image"):
        read_image(tmp_path / "b.png")


def test_other_formats_are_not_opened(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.gif")
    (tmp_path / "a.gif").rename(tmp_path / "a.png")
    with pytest.raises(BadInput, match="not a readable image"):
        read_image(tmp_path / "a.png")


def test_without_pillow_the_command_is_named(tmp_path, monkeypatch):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingDependency, match=r"pip install 'esl-neuro\[images\]'"):
        read_image(tmp_path / "a.png")
