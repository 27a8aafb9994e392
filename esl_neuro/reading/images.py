"""Read image files: PNG, JPEG, BMP, PGM and PPM, by Pillow; the size is compared with the limit before decoding."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.errors import BadInput, MissingDependency
from esl_neuro.reading.documents import reason
from esl_neuro.reading.limits import refuse_large

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm")
FORMATS = ("PNG", "JPEG", "BMP", "PPM")
GREY, COLOUR = 1, 3
# Pillow's names: a bit, 8 bits of grey, a palette, three colours. What has more bits or transparency would lose some.
CHANNELS = {"1": GREY, "L": GREY, "P": COLOUR, "RGB": COLOUR}
MODES = {GREY: "L", COLOUR: "RGB"}
INSTALL = "pip install 'esl-neuro[images]'"


def read_image(path: Path, size: tuple[int, int] | None = None, channels: int | None = None) -> NDArray[np.uint8]:
    """Read an image.

    Parameters
    ----------
    path : Path
        The file. A JPEG is turned as its EXIF entry says.
    size : tuple of int, optional
        Height and width to which it is resized (bilinear, averaged if it becomes smaller); its own by default.
    channels : {1, 3}, optional
        Converted to grey or to colours; its own by default.

    Returns
    -------
    uint8 array, shape (channels, height, width)

    Raises
    ------
    BadInput
        If the file is missing, damaged or too large, or has transparency or more than 8 bits.
    MissingDependency
        If Pillow is not installed.
    """
    content = _content(path)
    try:
        return _decoded(path, content, size, channels)
    except (BadInput, MissingDependency):
        raise
    except Exception as error:  # the decoders raise many kinds of errors for a damaged file
        # Pillow names its own object in memory where it knows no format.
        said = "no known format, or cut off" if type(error).__name__ == "UnidentifiedImageError" else reason(error)
        raise BadInput(f"{path}: not a readable image (PNG, JPEG, BMP, PGM, PPM): {said}") from error


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise BadInput(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        refuse_large(path, "the file has", path.stat().st_size)
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({reason(error)})") from error


def _decoded(path: Path, content: bytes, size: tuple[int, int] | None, channels: int | None) -> NDArray[np.uint8]:
    image_module, image_ops = _pillow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large images, which the limit below judges, and of odd metadata
        with image_module.open(io.BytesIO(content), formats=FORMATS) as image:
            refuse_large(path, f"its {image.width} x {image.height} pixels take", 4 * image.width * image.height)
            if image.mode not in CHANNELS:
                raise BadInput(
                    f"{path}: is an image of Pillow's mode '{image.mode}', which would lose transparency or bits; "
                    "convert it to 8 bits of grey or RGB"
                )
            mode = MODES[CHANNELS[image.mode] if channels is None else channels]
            upright = image_ops.exif_transpose(image).convert(mode)
    if size is not None and upright.size != size[::-1]:
        upright = upright.resize(size[::-1], image_module.Resampling.BILINEAR)
    pixels: NDArray[np.uint8] = np.asarray(upright, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise MissingDependency(
            f"reading images needs Pillow, which is not installed; install it: {INSTALL}"
        ) from error
    return Image, ImageOps
