"""One sample through a compiled network: its class, the scores of all classes, and the spikes of each layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.data.class_names import CLASS_NAMES
from esl_neuro.data.datasets import Split
from esl_neuro.data.encodings import ENCODINGS, encode_for_evaluation
from esl_neuro.data.images import NORMALISATIONS
from esl_neuro.data.own import is_own
from esl_neuro.data.own_folders import EVENT_ARRAYS, FIELDS, RECORDINGS, recording_frames
from esl_neuro.data.prepare import frame_settings
from esl_neuro.errors import BadInput
from esl_neuro.pipeline.activity import export_of, is_nir_file
from esl_neuro.pipeline.compiled_network import CompiledNetwork, load_compiled
from esl_neuro.pipeline.inputs import Samples
from esl_neuro.pipeline.simulation import OnStatus, run_program
from esl_neuro.reading.arrays import SINGLE, read_arrays
from esl_neuro.reading.documents import read_text
from esl_neuro.reading.images import SUFFIXES as IMAGES
from esl_neuro.reading.images import read_image
from esl_neuro.recipes.sections import DataSection

PIXEL_MAXIMUM = 255
WHAT = {"potential": "potential after the last step", "first_spike": "minus the step of the first spike"}


@dataclass(frozen=True)
class Prediction:
    """The answer of a network to one sample.

    Attributes
    ----------
    network, sample : str
        The export and the file.
    predicted : int
        The class.
    class_names : list of str
        Names of the classes; empty if their numbers are all that is known.
    tie : bool
        Whether another class has the same score; the first of them is taken.
    score : str
        What the scores are.
    scores : list of int
        One for each class; the highest decides.
    spikes : dict of str to int
        Spikes of each layer, ``input`` first (for graded input, the steps with a value).
    steps : int
    read_as : str
        How the file was read.
    """

    network: str
    sample: str
    predicted: int
    class_names: list[str]
    tie: bool
    score: str
    scores: list[int]
    spikes: dict[str, int]
    steps: int
    read_as: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        document = asdict(self)
        document["class"] = document.pop("predicted")
        document["class_name"] = self.name_of(self.predicted) or None
        return document

    def name_of(self, label: int) -> str:
        """Return the name of a class; empty if it has none but its number."""
        return self.class_names[label] if label < len(self.class_names) else ""


def predict_sample(
    path: Path, sample: Path, on_status: OnStatus = lambda _: None, *, allow_code: bool = False
) -> Prediction:
    """Run one sample through the integers of an export, or of a run, which is exported first if it is not.

    Parameters
    ----------
    path : Path
        The export or the run.
    sample : Path
        An ``.npy`` file, an image, or numbers separated by commas in a ``.csv`` file. uint8 and images are pixels,
        divided by 255; other numbers are taken as they are, in the unit of the training samples. For a network trained
        on recordings of the user's own, also a recording: ``.aedat``, ``.aedat4``, or ``.npz`` with t, x, y and p.
    on_status : callable
        Called with a message before each long operation.
    allow_code : bool
        Consent to the code that a run outside the current folder names, if it is exported first.

    Raises
    ------
    BadInput
        If the network is unknown or has no data set whose encoding is known, or the sample does not fit its input.
    """
    if is_nir_file(path):
        raise BadInput(f"{path}: has no encoding of samples; give an export or a run, or spikes to 'esl-neuro run'")
    network = load_compiled(export_of(path, on_status, allow_code=allow_code))
    if network.data is None:
        raise BadInput(
            f"{path}: the data set that it was trained for is unknown; give spikes to 'esl-neuro run --input'"
        )
    shape = network.input_shape
    if isinstance(shape, Mapping):
        raise BadInput(f"{path}: has several inputs; give them to 'esl-neuro run --input'")
    values, read_as = _read(sample, tuple(shape), network.data)
    encoded = encode_for_evaluation(network.data.encoding, values, network.data.steps)
    _, arriving = network.payloads(Samples(encoded))
    trace = run_program(network.program, arriving, str(sample)).trace
    (scores,) = trace.scores().tolist()
    return Prediction(
        str(path),
        str(sample),
        int(trace.predictions()[0]),
        _class_names(network, network.data),
        bool(trace.ties()[0]),
        WHAT.get(network.program.readout, "spikes of the output neuron"),
        scores,
        {"input": int(np.count_nonzero(trace.input_spikes)), **_spikes(network, trace.spikes)},
        network.steps,
        read_as,
    )


def _class_names(network: CompiledNetwork, data: DataSection) -> list[str]:
    """Return the names of the classes; none if they are the numbers."""
    names = [*(network.class_names or CLASS_NAMES.get(data.name, ()))]
    return [] if names == [str(number) for number in range(len(names))] else names


def _spikes(network: CompiledNetwork, spikes: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    silent = network.program.output.name if network.program.readout == "potential" else None
    return {name: int(fired.sum(dtype=np.int64)) for name, fired in spikes.items() if name != silent}


def _read(path: Path, shape: tuple[int, ...], data: DataSection) -> tuple[NDArray[Any], str]:
    """Return the sample as one batch of values in the unit of training, and how it was read."""
    timed = ENCODINGS[data.encoding].timed
    wanted = (data.steps, *shape) if timed else shape
    recorded = _recording(path, wanted, data)
    values, read_as = _values(path, wanted) if recorded is None else recorded
    if values.size != math.prod(wanted):
        raise BadInput(
            f"{path}: has {values.size} values ({read_as}), the network takes {math.prod(wanted)}, of shape {wanted}"
        )
    one = tuple(length for length in values.shape if length > 1)
    if values.ndim > 1 and len(wanted) > 1 and one != tuple(length for length in wanted if length > 1):
        raise BadInput(f"{path}: has the shape {values.shape}, the network takes {wanted}; move the axes")
    pixels = values.dtype == np.uint8 and not timed
    read_as += ", divided by 255" if pixels else ""
    if pixels and values.max(initial=0) == 1:
        raise BadInput(f"{path}: is uint8 without a value above 1; uint8 are pixels from 0 to 255, so give float32")
    split = Split(values.reshape(1, *wanted), np.zeros(1, np.int64), PIXEL_MAXIMUM if pixels else 1)
    batch: NDArray[Any] = split.batch()
    if not timed and not is_own(data.name) and not (batch.min() >= 0 and batch.max() <= 1):
        raise BadInput(
            f"{path}: values from {batch.min():g} to {batch.max():g}; the network was trained on values from 0 to 1"
        )
    known = NORMALISATIONS.get(data.name)
    if known is not None and ENCODINGS[data.encoding].signal == "graded":
        batch = known.applied(batch)
    return batch, read_as


def _recording(path: Path, wanted: tuple[int, ...], data: DataSection) -> tuple[NDArray[Any], str] | None:
    """Return an event recording as the frames of training; None for a file of another kind."""
    suffix = path.suffix.lower()
    if suffix not in RECORDINGS or (suffix == EVENT_ARRAYS and set(read_arrays(path)) != {*FIELDS}):
        return None
    if not ENCODINGS[data.encoding].timed:
        raise BadInput(f"{path}: is a recording of events; the network was trained on values ('{data.encoding}')")
    if not is_own(data.name):
        raise BadInput(
            f"{path}: is a recording; those of '{data.name}' have a format of their own: give the frames as .npy"
        )
    frames = recording_frames(path, frame_settings(data), None if data.sensor is None else (*data.sensor,))  # type: ignore[arg-type]
    read_as = f"recording, {data.steps} frames of {frames.shape[-2]} x {frames.shape[-1]}"
    fits = frames.size == math.prod(wanted)  # a network without an image as its input takes the frames in one row
    return frames.reshape(wanted) if fits else frames, read_as


def _values(path: Path, wanted: tuple[int, ...]) -> tuple[NDArray[Any], str]:
    suffix = path.suffix.lower()
    if suffix in IMAGES:
        return _image(path, wanted)
    if suffix == ".csv":
        values = _csv(path)
        return values, f"{values.size} numbers"
    if suffix not in (".npy", ".npz"):
        raise BadInput(
            f"{path}: is neither .npy nor .csv nor an image ({', '.join(IMAGES)}) nor a recording "
            f"({', '.join(RECORDINGS)})"
        )
    arrays = read_arrays(path)
    if len(arrays) != 1:
        raise BadInput(f"{path}: has {len(arrays)} arrays; give the one of a single sample, as .npy")
    (values,) = arrays.values()
    if values.dtype.kind not in "buif" or not np.isfinite(values).all():
        raise BadInput(f"{path}: holds {values.dtype}, not finite numbers")
    if values.dtype.kind in "ui" and values.dtype != np.uint8:
        raise BadInput(f"{path}: is {values.dtype}; give pixels as uint8, and other values as float32")
    return values, f"{SINGLE} of {values.dtype}, shape {values.shape}"


def _image(path: Path, wanted: tuple[int, ...]) -> tuple[NDArray[np.uint8], str]:
    channels = wanted[0] if len(wanted) == 3 and wanted[0] in (1, 3) else None
    pixels = read_image(path, channels=channels)
    if len(wanted) < 3 and pixels.shape[0] == 3 and pixels[0].size == math.prod(wanted):
        pixels = read_image(path, channels=1)  # a network of one value per pixel sees brightness
    return pixels, f"image of {pixels.shape[2]} x {pixels.shape[1]} pixels, {'grey' if len(pixels) == 1 else 'RGB'}"


def _csv(path: Path) -> NDArray[np.float32]:
    words = read_text(path).replace(",", " ").replace(";", " ").split()
    try:
        values = np.array([float(word) for word in words], dtype=np.float32)
    except ValueError as error:
        raise BadInput(f"{path}: is not numbers separated by commas ({error})") from error
    if not np.isfinite(values).all():
        raise BadInput(f"{path}: holds values that are not finite")
    return values
