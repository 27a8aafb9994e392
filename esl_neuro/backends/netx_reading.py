"""Read a ``.net`` file (HDF5) of lava-dl as a program, without torch and without lava-dl.

The integers are those that the loader of lava-dl 0.6.0 (``lava.lib.dl.netx.hdf5.Network``) passes to Lava: weights,
decays, thresholds, biases times ``2**6``, delays. What a file does not contain is an argument: steps, time step, chip.

An input layer with neurons of its own encodes values by its bias, which the user of the loader sets; a program begins
behind it, with the spikes of these neurons. A last layer without neurons, or with the largest threshold, is read by its
potential.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from esl_neuro.backends.netx import BIAS_EXP, LARGEST_WEIGHT, LONGEST_DELAY
from esl_neuro.backends.validate import validate
from esl_neuro.compiler.program import INPUT, Connection, Group, IntArray, Program
from esl_neuro.errors import BadInput
from esl_neuro.hardware import arithmetic_of, as_target
from esl_neuro.nirgraph.kernel import Kernel
from esl_neuro.reading.documents import reason
from esl_neuro.reading.hdf5 import open_hdf5
from esl_neuro.reading.names import printable

NO_THRESHOLD = 131071  # the largest; lava-dl gives it to layers that only integrate
INTEGRATOR = {"iDecay": 4096, "vDecay": 0, "vThMant": NO_THRESHOLD}
MOST_NEURONS = 2**24
CUBA = ("CUBA", "LOIHI")
Shape = tuple[int, ...]
Entries = dict[str, Any]


def from_netx(
    path: str | Path, steps: int, *, target: str = "loihi2", dt_s: float = 1e-3, layers: int | None = None
) -> Program:
    """Read a ``.net`` file as a program.

    Parameters
    ----------
    path : str or Path
        The file.
    steps : int
        Time steps per sample.
    target : str
        The chip whose registers the integers must fit.
    dt_s : float
        Time step in seconds, which the integers do not depend on.
    layers : int, optional
        Number of layers to read, the input included. Default: all.

    Returns
    -------
    Program
        Lines and neurons in row-major order of (channels, rows, columns). A delay per neuron gives several connections.

    Raises
    ------
    BadInput
        If the file cannot be read, or has a layer, a neuron or a number without integer form; the message lists all.
    """
    path = Path(path)
    entries = _read_layers(path)
    reader = _Reader()
    for index, entry in enumerate(entries[:layers]):
        reader.add(index, entry)
    if not reader.groups and not reader.findings:
        reader.findings.append("the file has no layer of neurons")
    if reader.findings:
        raise BadInput(f"{path}: " + "; ".join(reader.findings))
    last = reader.groups[-1]
    program = Program(
        target=target,
        input_size=math.prod(reader.input_shape),
        steps=steps,
        dt_s=dt_s,
        connections=tuple(reader.connections),
        groups=tuple(reader.groups),
        readout="potential" if (last.vth == NO_THRESHOLD).all() else "spikes",
        arithmetic=arithmetic_of(as_target(target)),
    )
    try:
        validate(program)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error
    return program


def _read_layers(path: Path) -> list[Entries]:
    """Return the layers as dictionaries, in order."""
    import h5py

    with open_hdf5(path, "a readable .net file") as file:
        root = file.get("layer")
        if not isinstance(root, h5py.Group) or not all(name.isdecimal() for name in root):
            raise BadInput(f"{path}: is not a .net file of lava-dl: it has no group 'layer' of numbered layers")
        return [_values(root[name]) for name in sorted(root, key=int)]


def _values(group: Any) -> Entries:
    values: Entries = {"name": group.attrs["name"]} if "name" in group.attrs else {}
    for name, part in group.items():
        values[name] = _values(part) if hasattr(part, "items") else part[()]
    return values


@dataclass
class _Reader:
    """The program so far.

    Attributes
    ----------
    shape : tuple of int
        Of the last layer: (neurons,) or (channels, rows, columns).
    """

    groups: list[Group] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    input_shape: Shape = ()
    shape: Shape = ()

    def add(self, index: int, entry: Entries) -> None:
        """Add a layer; whatever has no integer form is a finding."""
        kind = _word(entry.get("type", ""))
        try:
            if kind == "input":
                self.input_shape = self.shape = _shape(entry)
            elif kind == "flatten":
                self.shape = (math.prod(self.shape),)
            elif kind in ("dense", "dense_rec"):
                self._dense(index, entry)
            elif kind == "conv":
                self._conv(index, entry)
            else:
                raise _Unsupported(f"layers of type '{kind}' are not supported; read those before it: layers={index}")
        except _Unsupported as unsupported:
            self.findings.append(f"layer {index} ({kind or 'of no type'}): {unsupported}")
            with suppress(_Unsupported, ValueError, TypeError, OverflowError, KeyError):
                self.shape = _shape(entry)
        except KeyError as missing:
            self.findings.append(f"layer {index} ({kind}): has no {missing}")
        except (ValueError, TypeError, IndexError, ArithmeticError, AttributeError) as error:
            self.findings.append(f"layer {index} ({kind}): a field has another form than expected ({reason(error)})")

    def _dense(self, index: int, entry: Entries) -> None:
        neurons = math.prod(_shape(entry))
        weight = np.asarray(entry["weight"], dtype=np.float64)
        if weight.size % neurons:
            raise _Unsupported(f"{weight.size} weights do not divide among {neurons} neurons")
        weight = weight.reshape(neurons, -1)
        for name in ("inFeatures", "outFeatures"):
            _whole(entry.get(name, 0), name)
        self._from(weight.shape[1])
        parts = [weight]
        if "weight_rec" in entry:
            parts.append(np.asarray(entry["weight_rec"], dtype=np.float64).reshape(neurons, -1))
        stored, exponent = _stored(np.hstack(parts))
        group = self._group(index, entry, (neurons,))
        forward = stored[:, : weight.shape[1]]
        for delay, rows in _delays(entry, weight.shape):
            part = sp.csr_matrix(np.where(rows, forward, 0).astype(np.int32))
            self._connect(self._source(), group.name, part, exponent, delay)
        if len(parts) > 1:
            loop = sp.csr_matrix(stored[:, weight.shape[1] :].astype(np.int32))
            self._connect(group.name, group.name, loop, exponent, 1)
        self.groups.append(group)
        self.shape = (neurons,)

    def _conv(self, index: int, entry: Entries) -> None:
        if len(self.shape) != 3:
            raise _Unsupported(f"needs an input of (channels, rows, columns), the layer before has shape {self.shape}")
        if "delay" in entry:
            raise _Unsupported("delays of convolutions are not supported")
        weight = np.asarray(entry["weight"], dtype=np.float64)
        stored, exponent = _stored(weight.reshape(weight.shape[:4]))
        stride, padding, dilation = (_pair(entry[name]) for name in ("stride", "padding", "dilation"))
        shape = (self.shape[0], self.shape[1], self.shape[2])
        kernel = Kernel(stored.astype(np.int32), shape, stride, padding, dilation, int(np.ravel(entry["groups"])[0]))
        if kernel.output_shape != _shape(entry):
            raise _Unsupported(f"declares the shape {_shape(entry)}, its kernel gives {kernel.output_shape}")
        group = self._group(index, entry, kernel.output_shape)
        self._connect(self._source(), group.name, kernel, exponent, 0)
        self.groups.append(group)
        self.shape = kernel.output_shape

    def _from(self, size: int) -> None:
        if not self.shape:
            self.input_shape = self.shape = (size,)
        if math.prod(self.shape) != size:
            raise _Unsupported(f"takes {size} lines, the layer before has {math.prod(self.shape)}")

    def _source(self) -> str:
        return self.groups[-1].name if self.groups else INPUT

    def _connect(self, source: str, target: str, weights: Any, exponent: int, delay: int) -> None:
        self.connections.append(Connection(source, target, weights, exponent, int(weights.nnz), delay))

    def _group(self, index: int, entry: Entries, shape: Shape) -> Group:
        neuron: Entries = INTEGRATOR | entry.get("neuron", {})
        kind = _word(neuron.get("type", CUBA[0]))
        if kind not in CUBA:
            raise _Unsupported(f"neurons of type '{kind}' are not supported; supported: {', '.join(CUBA)}")
        for name, usual in (("wgtExp", 0), ("refDelay", 1), ("gradedSpike", False)):
            if np.any(np.asarray(neuron.get(name, usual)) != usual):
                raise _Unsupported(f"{name} is {neuron[name]}; supported: {usual}")
        name = _word(entry.get("name", f"layer{index}"))
        bias = _per_neuron(entry.get("bias", 0), shape, "bias")
        return Group(
            name if name not in (INPUT, *(group.name for group in self.groups)) else f"{name}_{index}",
            du=_per_neuron(neuron["iDecay"], shape, "iDecay") - 1,
            dv=_per_neuron(neuron["vDecay"], shape, "vDecay"),
            vth=_per_neuron(neuron["vThMant"], shape, "vThMant"),
            bias_mant=bias,
            bias_exp=np.full(bias.shape, BIAS_EXP if bias.any() else 0, np.int64),
            scale=np.ones(bias.shape),
        )


class _Unsupported(Exception):
    """A layer that has no integer form."""


def _word(value: Any) -> str:
    (word,) = np.ravel(value)[:1] if np.size(value) else ("",)
    return printable(word.decode("ascii", "replace") if isinstance(word, bytes) else str(word))


def _shape(entry: Entries) -> Shape:
    """Return the shape of a layer; (neurons, 1, 1) and (1, 1, neurons) remain three axes, as convolutions need them."""
    shape = tuple(int(size) for size in np.ravel(entry["shape"]))
    if not 1 <= math.prod(shape) <= MOST_NEURONS or min(shape, default=0) < 1:
        raise _Unsupported(f"has the shape {shape}; a layer has 1 to {MOST_NEURONS:,} neurons")
    return shape


def _pair(value: Any) -> tuple[int, int]:
    rows, columns = (int(size) for size in np.broadcast_to(np.ravel(value), 2))
    return rows, columns


def _whole(values: Any, name: str) -> NDArray[np.int64]:
    numbers = np.asarray(values, dtype=np.float64)
    if not (np.isfinite(numbers).all() and (numbers == np.rint(numbers)).all()):
        wrong = numbers[~(numbers == np.rint(numbers))].flat[0]
        raise _Unsupported(f"{name} is {wrong:g}; only whole numbers reach the chip")
    if not (np.abs(numbers) < 2**31).all():
        raise _Unsupported(f"{name} is {np.abs(numbers).max():g}; only numbers below 2**31 reach the chip")
    return numbers.astype(np.int64)


def _stored(weights: NDArray[np.float64]) -> tuple[NDArray[np.int64], int]:
    """Return even weights and their exponent: odd weights are stored doubled, with an exponent of -1."""
    whole = _whole(weights, "a weight")
    exponent = -1 if (whole % 2 != 0).any() else 0
    stored = whole << -exponent
    if np.abs(stored).max(initial=0) > LARGEST_WEIGHT:
        raise _Unsupported(
            f"a weight is {whole.flat[int(np.abs(whole).argmax())]}; supported: even from -{LARGEST_WEIGHT} to "
            f"{LARGEST_WEIGHT}, or any from -{LARGEST_WEIGHT // 2} to {LARGEST_WEIGHT // 2}"
        )
    return stored, exponent


def _per_neuron(value: Any, shape: Shape, name: str) -> IntArray:
    """Return one integer per neuron, from one value, one per channel, or one per neuron in Lava's order."""
    values, neurons = _whole(value, name), math.prod(shape)
    if values.size == 1:
        return np.full(neurons, values.item())
    if len(shape) == 3 and values.size == shape[0]:
        return np.repeat(values.ravel(), neurons // shape[0])
    if values.size != neurons:
        raise _Unsupported(f"{name} has {values.size} values; the layer has {neurons} neurons")
    # Lava's order of an image is (columns, rows, channels).
    return np.ascontiguousarray(values.transpose()).ravel() if values.ndim == 3 else values.ravel()


def _delays(entry: Entries, shape: tuple[int, ...]) -> Iterator[tuple[int, Any]]:
    """Yield each delay with the weights that it applies to: of a target or, if their number differs, of a source."""
    if "delay" not in entry:
        yield 0, True
        return
    delays = np.minimum(_whole(entry["delay"], "delay"), LONGEST_DELAY)  # as the loader does
    if delays.size == 1:
        yield int(delays.item()), True
        return
    if delays.size == shape[0]:
        delays = np.broadcast_to(delays.reshape(-1, 1), shape)
    elif delays.size == shape[1]:
        delays = np.broadcast_to(delays.reshape(1, -1), shape)
    elif delays.size == math.prod(shape):
        delays = delays.reshape(shape)
    else:
        raise _Unsupported(f"has {delays.size} delays; expected one, or one for each of {shape[0]} neurons")
    for delay in np.unique(delays):
        yield int(delay), delays == delay
