"""The integer program: what a network is once every number is one that the chip can hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from esl_neuro.errors import BadInput

IntArray = NDArray[np.int64]

SCHEMA = 1
INPUT = "input"


@dataclass(frozen=True)
class Group:
    """A population of integer CUBA-LIF neurons, every parameter per neuron.

    One step, all integers (Lava 0.10.0 ``fixed_pt``; ``a`` is the sum of the arriving weights)::

        u = trunc0(u * (4096 - (du + 1)) / 4096) + (a << 6)         wraps at +-2**23
        v = trunc0(v * (4096 - dv) / 4096) + u + (bias_mant << bias_exp)   saturates at +-(2**23 - 1)
        spike = v > (vth << 6);  v = 0 where it spikes

    Attributes
    ----------
    name : str
        Name of the layer, as in the NIR graph.
    du, dv : int64 array, shape (neurons,)
        12-bit decays of synaptic current and membrane potential; ``du = 4095`` is a LIF without synaptic filter.
    vth : int64 array, shape (neurons,)
        17-bit thresholds.
    bias_mant, bias_exp : int64 array, shape (neurons,)
        13-bit signed bias mantissa and 3-bit exponent.
    scale : float
        Integer threshold units per unit of the float network (``vth = round(scale * v_threshold)``).
    """

    name: str
    du: IntArray
    dv: IntArray
    vth: IntArray
    bias_mant: IntArray
    bias_exp: IntArray
    scale: float

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return int(self.vth.size)


@dataclass(frozen=True)
class Connection:
    """The synapses from one group (or the input) to another.

    Attributes
    ----------
    source, target : str
        Names of the groups; the source of the first connection is ``"input"``.
    weights : scipy.sparse.csr_matrix, shape (target neurons, source neurons)
        Even integers in [-254, 254]; only non-zero weights are stored.
    weight_exp : int
        The weighted sum is shifted left by this many bits.
    declared : int
        Connections of the float network; ``declared - stored`` were rounded to zero.
    """

    source: str
    target: str
    weights: sp.csr_matrix
    weight_exp: int
    declared: int

    @property
    def stored(self) -> int:
        """Number of stored (non-zero) synapses."""
        return int(self.weights.nnz)


@dataclass(frozen=True)
class Program:
    """A feed-forward chain of connections and groups, ready for a backend.

    Attributes
    ----------
    target : str
        Hardware target, a name of ``hw_targets/``.
    input_size : int
        Number of input lines, each carrying 0/1 spikes.
    steps : int
        Time steps per sample; the state is reset between samples.
    dt_s : float
        Duration of a time step of the NIR graph, in seconds.
    connections, groups : tuple
        ``connections[k]`` feeds ``groups[k]``.
    """

    target: str
    input_size: int
    steps: int
    dt_s: float
    connections: tuple[Connection, ...]
    groups: tuple[Group, ...]

    def layers(self) -> Iterator[tuple[Connection, Group]]:
        """Each connection with the group that it feeds, from input to output."""
        return zip(self.connections, self.groups, strict=True)

    @property
    def neurons(self) -> int:
        """Neurons of all groups, input lines not counted."""
        return sum(group.neurons for group in self.groups)

    @property
    def synapses(self) -> int:
        """Stored synapses of all connections."""
        return sum(connection.stored for connection in self.connections)

    def save(self, folder: Path) -> None:
        """Write ``program.json`` (structure) and ``program.safetensors`` (integers) into a folder."""
        from safetensors.numpy import save_file

        arrays: dict[str, NDArray[Any]] = {}
        layers: list[dict[str, Any]] = []
        for connection, group in self.layers():
            layers.append(
                {
                    "source": connection.source,
                    "target": connection.target,
                    "weight_exp": connection.weight_exp,
                    "declared": connection.declared,
                    "stored": connection.stored,
                    "neurons": group.neurons,
                    "scale": group.scale,
                }
            )
            arrays |= {f"{group.name}/{key}": getattr(group, key) for key in _GROUP_ARRAYS}
            arrays |= {
                f"{group.name}/weights/{key}": getattr(connection.weights, key).astype(np.int32)
                for key in _WEIGHT_ARRAYS
            }
        document = {
            "schema": SCHEMA,
            "target": self.target,
            "input_size": self.input_size,
            "steps": self.steps,
            "dt_s": self.dt_s,
            "layers": layers,
        }
        (folder / "program.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        save_file(arrays, str(folder / "program.safetensors"))

    @classmethod
    def load(cls, folder: Path) -> Program:
        """Read a program that :meth:`save` wrote.

        Raises
        ------
        BadInput
            If a file is missing, unreadable, or of another schema.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        for name in ("program.json", "program.safetensors"):
            if not (folder / name).is_file():
                raise BadInput(f"{folder}: not an export ({name} is missing); make one with 'esl-neuro export'")
        try:
            document = json.loads((folder / "program.json").read_text(encoding="utf-8"))
            schema = document["schema"]
            if schema != SCHEMA:
                raise BadInput(
                    f"{folder}: schema of the program is {schema}, this version reads {SCHEMA}; export again"
                )
            arrays = load_file(str(folder / "program.safetensors"))
            layers = [_read_layer(entry, arrays, document["input_size"]) for entry in document["layers"]]
            return cls(
                target=document["target"],
                input_size=document["input_size"],
                steps=document["steps"],
                dt_s=document["dt_s"],
                connections=tuple(connection for connection, _ in layers),
                groups=tuple(group for _, group in layers),
            )
        except (KeyError, TypeError, ValueError, SafetensorError) as error:
            if isinstance(error, BadInput):
                raise
            raise BadInput(f"{folder}: the program is damaged ({error!r}); export again") from error


_GROUP_ARRAYS = ("du", "dv", "vth", "bias_mant", "bias_exp")
_WEIGHT_ARRAYS = ("data", "indices", "indptr")


def _read_layer(entry: dict[str, Any], arrays: dict[str, NDArray[Any]], input_size: int) -> tuple[Connection, Group]:
    name = entry["target"]
    source_size = arrays[f"{entry['source']}/vth"].size if entry["source"] != INPUT else input_size
    data, indices, indptr = (arrays[f"{name}/weights/{key}"] for key in _WEIGHT_ARRAYS)
    weights = sp.csr_matrix((data, indices, indptr), shape=(entry["neurons"], source_size))
    connection = Connection(entry["source"], name, weights, entry["weight_exp"], entry["declared"])
    parameters: dict[str, IntArray] = {key: arrays[f"{name}/{key}"].astype(np.int64) for key in _GROUP_ARRAYS}
    group = Group(name=name, scale=entry["scale"], **parameters)
    return connection, group


def differences(first: Program, second: Program) -> list[str]:
    """Names of everything that differs between two programs, compared with ``==``; empty if they are equal."""
    found = [
        name for name in ("target", "input_size", "steps", "dt_s") if getattr(first, name) != getattr(second, name)
    ]
    if len(first.groups) != len(second.groups):
        return [*found, "groups"]
    for (connection, group), (other_connection, other_group) in zip(first.layers(), second.layers(), strict=True):
        found += [
            f"{group.name}.{name}" for name in ("name", "scale") if getattr(group, name) != getattr(other_group, name)
        ]
        found += [
            f"{group.name}.{name}"
            for name in _GROUP_ARRAYS
            if not np.array_equal(getattr(group, name), getattr(other_group, name))
        ]
        found += [
            f"{group.name}.{name}"
            for name in ("source", "target", "weight_exp", "declared")
            if getattr(connection, name) != getattr(other_connection, name)
        ]
        if not np.array_equal(connection.weights.toarray(), other_connection.weights.toarray()):
            found.append(f"{group.name}.weights")
    return found
