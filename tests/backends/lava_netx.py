"""Run ``.net`` files in Lava's CPU simulator, loaded by lava-dl 0.6.0 (``lava.lib.dl.netx.hdf5.Network``).

Starting the processes of Lava takes longer than running them. So several networks run side by side in one Lava
network: each with an input of its own, and all with one process that records them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from esl_neuro.backends.lava_session import lava_dl_session
from esl_neuro.backends.lava_stream import Stream, shared
from esl_neuro.backends.supervise import run_network
from esl_neuro.backends.trace import Difference, Spikes, Trace, first_difference
from esl_neuro.compiler.program import INPUT
from esl_neuro.errors import BadInput

# Copies side by side of a network that takes one sample: far more make messages that take longer than Lava's start.
COPIES = 16

Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Outline:
    """What a file says of its network.

    Attributes
    ----------
    path : Path
        The file.
    shape : tuple of int
        Of the input.
    neurons : dict of str to int
        Of each layer that has some.
    remembers : bool
        Whether spikes stay under way for several steps, and would pass from one sample into the next.
    """

    path: Path
    shape: Shape
    neurons: dict[str, int]
    remembers: bool


@dataclass(frozen=True)
class _Copy:
    """A network that Lava runs.

    Attributes
    ----------
    outline : _Outline
        What it is.
    inputs : uint8 array, shape (samples, steps, input lines)
        Samples that follow each other.
    records : list of uint8 arrays, each of shape (samples * steps, neurons)
        What its layers do, in memory that Lava's processes share.
    """

    outline: _Outline
    inputs: Spikes
    records: list[Spikes]

    @property
    def stream(self) -> Stream:
        samples, steps, _ = self.inputs.shape
        return Stream(samples, steps, gap=0, copies=1)


def run_netx(
    path: Path,
    input_spikes: Spikes,
    progress: Callable[[int, int], None] | None = None,
    timeout_s: float | None = None,
) -> Trace:
    """Load a ``.net`` file with lava-dl and run it in Lava's simulator, each sample from ``u = v = 0``.

    Samples follow each other; of a network with loops or delays, whose spikes would pass into the next sample, copies
    run side by side, each with one sample.

    Parameters
    ----------
    path : Path
        File that :func:`~esl_neuro.backends.netx.write_netx` wrote.
    input_spikes : uint8 array, shape (samples, steps, input lines)
        0 or 1.
    progress : callable, optional
        Called with the samples done and the samples in all, whenever more are done.
    timeout_s : float, optional
        Seconds after which a run is given up.

    Returns
    -------
    Trace
        Spikes of every layer, latency removed.

    Raises
    ------
    BadInput
        If the file cannot be read, or takes other inputs.
    MissingDependency
        If lava-dl is not installed.
    LavaError
        If the loader or a process of Lava fails, or the time is over.
    """
    inputs = np.asarray(input_spikes, dtype=np.uint8)
    at_once = COPIES if _outline(path).remembers else len(inputs)
    parts = []
    for start in range(0, len(inputs), at_once):
        parts += run_netx_files([(path, inputs[start : start + at_once])], timeout_s)
        if progress is not None:
            progress(min(start + at_once, len(inputs)), len(inputs))
    return Trace(
        "netx", inputs, {name: np.concatenate([part.spikes[name] for part in parts]) for name in parts[0].spikes}
    )


def run_netx_files(files: Sequence[tuple[Path, Spikes]], timeout_s: float | None = None) -> list[Trace]:
    """Load ``.net`` files and run them side by side, each with its own input.

    Parameters
    ----------
    files : sequence of (Path, uint8 array of shape (samples, steps, input lines))
        As for :func:`run_netx`; the numbers of samples and steps may differ.
    timeout_s : float, optional
        Seconds after which the run is given up.

    Returns
    -------
    list of Trace
        One for each file.

    Raises
    ------
    BadInput, MissingDependency, LavaError
        As :func:`run_netx`.
    """
    copies = [_copies(path, np.asarray(inputs, dtype=np.uint8)) for path, inputs in files]
    together = list(chain.from_iterable(copies))
    with lava_dl_session():
        run_network(_build(together), max(_steps_to_run(copy) for copy in together), timeout_s)
    return [_trace(own) for own in copies]


def verify_netx(path: Path, expected: Trace, timeout_s: float | None = None) -> Difference | None:
    """Run a ``.net`` file on the input of a trace; return the first spike that differs, None if none does."""
    return first_difference(expected, run_netx(path, expected.input_spikes.astype(np.uint8), timeout_s=timeout_s))


def _outline(path: Path) -> _Outline:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            layers = [file["layer"][str(index)] for index in range(len(file["layer"]))]
            neurons = {
                str(layer.attrs.get("name", f"layer {index}")): math.prod(map(int, layer["shape"][()]))
                for index, layer in enumerate(layers)
                if "neuron" in layer
            }
            recurrent = any(layer["type"][0] == b"dense_rec" for layer in layers)
            late = any("delay" in layer for layer in layers)
            return _Outline(path, tuple(map(int, layers[0]["shape"][()])), neurons, recurrent or late)
    except (OSError, KeyError, ValueError) as error:
        raise BadInput(f"{path}: not a .net file ({error})") from error


def _copies(path: Path, inputs: Spikes) -> list[_Copy]:
    """One copy for all samples, or one for each where the network remembers."""
    outline = _outline(path)
    lines = math.prod(outline.shape)
    if inputs.ndim != 3 or inputs.shape[2] != lines:
        raise BadInput(f"input spikes have shape {inputs.shape}; {path} takes (samples, steps, {lines})")
    parts = np.split(inputs, len(inputs)) if outline.remembers else [inputs]
    return [_Copy(outline, part, _records(outline, len(part) * part.shape[1])) for part in parts]


def _records(outline: _Outline, steps: int) -> list[Spikes]:
    return [shared((steps, neurons), np.uint8) for neurons in outline.neurons.values()]


def _steps_to_run(copy: _Copy) -> int:
    return copy.stream.length + len(copy.records)


def _build(copies: list[_Copy]) -> Any:
    """Load the networks, and connect all of their layers with one process, which is returned."""
    from esl_neuro.backends.lava_processes.spike_sink import SpikeSink

    return SpikeSink(
        ports=[port for copy in copies for port in _load(copy)],
        records=[record for copy in copies for record in copy.records],
        latency_steps=[layer for copy in copies for layer in range(1, len(copy.records) + 1)],
        clock=shared((1,), np.int64),
        name="spikes",
    )


def _load(copy: _Copy) -> list[Any]:
    """Load a network and connect its input; return the output of every layer."""
    from lava.lib.dl.netx import hdf5

    from esl_neuro.backends.lava_processes.spike_source import SpikeSource

    shape, stream = copy.outline.shape, copy.stream
    # Lava lays images out by column, row, channel.
    frames = stream.deal(copy.inputs).reshape(stream.length, *shape)
    frames = np.ascontiguousarray(frames.transpose(0, *range(len(shape), 0, -1)))
    # An offset of 1: with 0 every layer would be reset one step early, since the loader counts an input layer.
    network = hdf5.Network(net_config=str(copy.outline.path), reset_interval=stream.steps, reset_offset=1)
    network.net_config.f.close()
    SpikeSource(frames=frames, name=INPUT).s_out.connect(network.inp)
    return [
        layer.out.transpose([2, 1, 0]).flatten() if len(layer.shape) == 3 else layer.out for layer in network.layers
    ]


def _trace(copies: list[_Copy]) -> Trace:
    """Put together what the copies of one network did."""
    spikes = {
        name: np.concatenate([copy.stream.collect(copy.records[layer]) for copy in copies])
        for layer, name in enumerate(copies[0].outline.neurons)
    }
    return Trace("netx", np.concatenate([copy.inputs for copy in copies]), spikes)
