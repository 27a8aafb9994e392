"""The integer program: a network whose numbers all fit the registers of the chip."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from esl_neuro.compiler.core_plan import CorePlan
from esl_neuro.compiler.program_document import (
    GROUP_ARRAYS,
    INTEGERS,
    READOUTS,
    SCHEMA,
    SCHEMA_SINCE_0_2,
    STRUCTURE,
    Arrays,
    ConnectionTable,
    GroupTable,
    damaged,
    read_integers,
    read_structure,
    unsound,
)
from esl_neuro.errors import BadInput
from esl_neuro.hardware import KIND, Arithmetic, arithmetic_of, load_target
from esl_neuro.nirgraph.kernel import Kernel
from esl_neuro.reading.matrices import MATRIX_ARRAYS
from esl_neuro.resources import resource_names
from esl_neuro.storage import write

__all__ = [
    "INPUT",
    "READOUTS",
    "Connection",
    "Group",
    "IntArray",
    "Program",
    "Weights",
    "differences",
    "refuse_unsound",
]

IntArray = NDArray[np.int64]
Floats = NDArray[np.float64]
Weights: TypeAlias = "sp.csr_matrix | Kernel"

INPUT = "input"


@dataclass(frozen=True)
class Group:
    """A population of integer CUBA-LIF neurons, every parameter per neuron.

    One step, all integers (Lava 0.10.0 ``fixed_pt``; ``a`` is the sum over all connections)::

        u = trunc0(u * (4096 - (du + 1)) / 4096) + (a << 6)         wraps at +-2**23
        v = trunc0(v * (4096 - dv) / 4096) + u + (bias_mant << bias_exp)   saturates at +-(2**23 - 1)
        spike = v > (vth << 6);  v = 0 where it spikes, or v = v - reset_by in a reset by subtraction

    A subtraction happens once in a step, so a potential far above its threshold spikes again in the next steps. It can
    neither wrap nor saturate: ``v`` is above ``vth << 6``, which is at least 0, and ``reset_by`` is below ``2**23``.

    Attributes
    ----------
    name : str
        Name of the layer, as in the NIR graph.
    du, dv : int64 array, shape (neurons,)
        Decays of synaptic current and membrane potential in 1/4096; ``du = 4095`` is a LIF without synaptic filter.
    vth : int64 array, shape (neurons,)
        Thresholds.
    bias_mant, bias_exp : int64 array, shape (neurons,)
        Signed bias mantissa and its exponent.
    scale : float64 array, shape (neurons,)
        Integer threshold units per unit of the float network (``vth = round(scale * v_threshold)``). One number stands
        for all neurons.
    reset_by : int64 array, shape (neurons,), or None
        What a spike subtracts from ``v``: ``vth << 6``, or more if the float network subtracts in the next step. None
        for a reset to zero.
    """

    name: str
    du: IntArray
    dv: IntArray
    vth: IntArray
    bias_mant: IntArray
    bias_exp: IntArray
    scale: Floats
    reset_by: IntArray | None = None

    def __post_init__(self) -> None:
        if np.ndim(self.scale) == 0:
            object.__setattr__(self, "scale", np.full(np.shape(self.vth), self.scale, dtype=np.float64))

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return int(self.vth.size)

    @property
    def reset(self) -> str:
        """What a spike does to the potential: ``"zero"`` or ``"subtract"``."""
        return "zero" if self.reset_by is None else "subtract"


@dataclass(frozen=True)
class Connection:
    """The synapses from one group (or the input) to another; a group may have several.

    Attributes
    ----------
    source, target : str
        Names of the groups; ``"input"`` is the input. They may be the same group.
    weights : scipy.sparse.csr_matrix or Kernel, shape (target neurons, source neurons)
        Integers that the chip can store (Loihi: even, in [-254, 254]); a matrix stores non-zero weights only.
    weight_exp : int
        The weighted sum is shifted left by this many bits; a negative one shifts right, rounding down.
    declared : int
        Connections of the float network; ``declared - stored`` were rounded to zero.
    delay : int
        Spikes of step ``t`` arrive in step ``t + delay``. At least 1 around a loop. Spikes that would arrive after the
        last step of their sample are lost.
    weight_bits : int, optional
        Bits of each stored weight, if fewer than the chip's: its synaptic memory follows them.
    """

    source: str
    target: str
    weights: Weights
    weight_exp: int
    declared: int
    delay: int = 0
    weight_bits: int | None = None

    @property
    def stored(self) -> int:
        """Number of stored (non-zero) synapses; those of a kernel are counted at every position."""
        return int(self.weights.nnz)

    @property
    def fan_in(self) -> IntArray:
        """Stored synapses of each target neuron, shape (target neurons,)."""
        weights = self.weights
        return weights.fan_in() if isinstance(weights, Kernel) else np.diff(weights.indptr).astype(np.int64)

    def row(self, neuron: int) -> tuple[IntArray, NDArray[Any]]:
        """Return the sources of a target neuron and their weights."""
        if isinstance(self.weights, Kernel):
            return self.weights.row(neuron)
        row = self.weights[neuron]
        return row.indices.astype(np.int64), row.data

    @property
    def matrix(self) -> sp.csr_matrix:
        """The weights as a sparse matrix; large for a kernel."""
        return self.weights.matrix() if isinstance(self.weights, Kernel) else self.weights


@dataclass(frozen=True)
class Program:
    """Groups of neurons and the connections between them, ready for a backend.

    Attributes
    ----------
    target : str
        Hardware target, a name of ``hw_targets/``.
    input_size : int
        Number of input lines.
    steps : int
        Time steps per sample; the state is reset between samples.
    dt_s : float
        Duration of a time step of the NIR graph, in seconds.
    connections : tuple of Connection
        In the order of the groups that they feed.
    groups : tuple of Group
        No group comes before one that feeds it without delay; the last one is the output.
    readout : str
        What determines the class: the output neuron with the most ``"spikes"``, with the ``"first_spike"``, or with the
        highest ``"potential"`` after the last step.
    input_bits : int
        Bits of the payload of an input spike: 1 for 0/1 spikes, else values from 0 to ``2**input_bits - 1``.
    input_scale : float
        Payload per unit of the float network's input; 1 for 0/1 spikes.
    arithmetic : Arithmetic, optional
        Integer formats that it was compiled for. Default: those of the target, see :attr:`formats`.
    one_scale_per_group : bool
        Whether a file of version 0.1.0 was read, which rounded by other rules.
    core_plan : CorePlan, optional
        The cores that the network was trained for; without, :func:`~esl_neuro.compiler.placement.place` chooses.
    """

    target: str
    input_size: int
    steps: int
    dt_s: float
    connections: tuple[Connection, ...]
    groups: tuple[Group, ...]
    readout: str = "spikes"
    input_bits: int = 1
    input_scale: float = 1.0
    arithmetic: Arithmetic | None = None
    one_scale_per_group: bool = False
    core_plan: CorePlan | None = None

    @property
    def formats(self) -> Arithmetic:
        """Integer formats of the chip; default: those of the target.

        Programs of version 0.1.0 store none; they are Loihi programs, even if the target is a user's own file.
        """
        if self.arithmetic is not None:
            return self.arithmetic
        return arithmetic_of(load_target(self.target if self.target in resource_names(KIND) else "loihi2"))

    def layers(self) -> Iterator[tuple[Connection, Group]]:
        """Each connection with the group that it feeds."""
        groups = {group.name: group for group in self.groups}
        return ((connection, groups[connection.target]) for connection in self.connections)

    def incoming(self, name: str) -> tuple[Connection, ...]:
        """Return the connections that feed a group."""
        return tuple(connection for connection in self.connections if connection.target == name)

    @property
    def output(self) -> Group:
        """The readout group."""
        return self.groups[-1]

    @property
    def neurons(self) -> int:
        """Number of neurons of all groups, without input lines."""
        return sum(group.neurons for group in self.groups)

    @property
    def synapses(self) -> int:
        """Stored synapses of all connections."""
        return sum(connection.stored for connection in self.connections)

    def save(self, folder: Path) -> None:
        """Write ``program.json`` (structure) and ``program.safetensors`` (integers) to a folder."""
        from safetensors.numpy import save

        arrays: dict[str, NDArray[Any]] = {
            f"groups/{group.name}/{key}": np.ascontiguousarray(getattr(group, key))
            for group in self.groups
            for key in GROUP_ARRAYS
        }
        arrays |= {
            f"groups/{group.name}/reset_by": np.ascontiguousarray(group.reset_by)
            for group in self.groups
            if group.reset_by is not None
        }
        entries: list[dict[str, Any]] = [
            {"name": group.name, "neurons": group.neurons, "reset": group.reset} for group in self.groups
        ]
        for group, entry in zip(self.groups, entries, strict=True):
            if self.one_scale_per_group:
                entry["scale"] = float(group.scale[0])
            else:
                arrays[f"groups/{group.name}/scale"] = np.ascontiguousarray(group.scale)
        connections: list[dict[str, Any]] = []
        for index, connection in enumerate(self.connections):
            entry = {name: getattr(connection, name) for name in _CONNECTION_FIELDS}
            if connection.weight_bits is not None:
                entry["weight_bits"] = connection.weight_bits
            weights = connection.weights
            if isinstance(weights, Kernel):
                entry["kernel"] = {name: getattr(weights, name) for name in _KERNEL_FIELDS}
                parts = {"weights": weights.weights}
            else:
                ordered = weights.sorted_indices()
                parts = {key: getattr(ordered, key) for key in MATRIX_ARRAYS}
            arrays |= {
                f"connections/{index}/{key}": np.ascontiguousarray(part, dtype=np.int32) for key, part in parts.items()
            }
            connections.append(entry)
        document = {
            "schema": SCHEMA if self.one_scale_per_group else SCHEMA_SINCE_0_2,
            **{name: getattr(self, name) for name in _PROGRAM_FIELDS},
            "arithmetic": self.formats.model_dump(),
            "groups": entries,
            "connections": connections,
        }
        if self.core_plan is not None:
            document["core_plan"] = self.core_plan.to_document()
        write(folder / STRUCTURE, json.dumps(document, indent=2) + "\n")
        write(folder / INTEGERS, save(arrays))

    @classmethod
    def load(cls, folder: Path) -> Program:
        """Read a program written by :meth:`save`.

        Raises
        ------
        BadInput
            If a file is missing, damaged, of another schema, or contradicts the other; the message lists all findings.
        """
        table = read_structure(folder)
        arrays = read_integers(folder, table)
        groups = tuple(_read_group(entry, arrays) for entry in table.groups)
        sizes = {INPUT: table.input_size, **{group.name: group.neurons for group in groups}}
        connections = tuple(
            _read_connection(index, entry, arrays, sizes) for index, entry in enumerate(table.connections)
        )
        program = cls(
            connections=connections,
            groups=groups,
            arithmetic=table.arithmetic,  # programs of version 0.1.0 have none
            one_scale_per_group=all(entry.scale is not None for entry in table.groups),
            core_plan=None if table.core_plan is None else CorePlan.of_document(table.core_plan.model_dump()),
            **{name: getattr(table, name) for name in _PROGRAM_FIELDS},
        )
        if findings := [*_wrong_bits(program)]:
            raise damaged(folder, findings)
        return program


_PROGRAM_FIELDS = ("target", "input_size", "steps", "dt_s", "readout", "input_bits", "input_scale")
_CONNECTION_FIELDS = ("source", "target", "weight_exp", "declared", "delay")
_KERNEL_FIELDS = ("input_shape", "stride", "padding", "dilation", "groups")


def _read_group(entry: GroupTable, arrays: Arrays) -> Group:
    place = f"groups/{entry.name}"
    parameters: dict[str, IntArray] = {key: arrays[f"{place}/{key}"].astype(np.int64) for key in GROUP_ARRAYS}
    reset_by = arrays[f"{place}/reset_by"].astype(np.int64) if entry.reset == "subtract" else None
    # Programs of version 0.1.0 have one scale for a group, beside its name.
    scale: Any = arrays[f"{place}/scale"] if entry.scale is None else entry.scale
    return Group(name=entry.name, scale=scale, reset_by=reset_by, **parameters)


def _read_connection(index: int, entry: ConnectionTable, arrays: Arrays, sizes: dict[str, int]) -> Connection:
    weights: Weights
    shape = (sizes[entry.target], sizes[entry.source])
    if entry.kernel is None:
        weights = sp.csr_matrix(tuple(arrays[f"connections/{index}/{key}"] for key in MATRIX_ARRAYS), shape=shape)
    else:
        geometry: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in entry.kernel
        }
        weights = Kernel(arrays[f"connections/{index}/weights"], **geometry)
        wrong = weights.misfit or (
            "" if weights.shape == shape else f"its kernel connects {weights.shape}, not {shape}"
        )
        if wrong:
            raise BadInput(f"connection '{entry.source}' -> '{entry.target}': {wrong}; export again")
    fields = {name: getattr(entry, name) for name in (*_CONNECTION_FIELDS, "weight_bits")}
    return Connection(weights=weights, **fields)


def _wrong_bits(program: Program) -> Iterator[str]:
    """Find weights that do not have the bits that are stored for them, by which their memory is counted."""
    bits: dict[str, set[int | None]] = {}
    for each in program.connections:
        bits.setdefault(each.target, set()).add(each.weight_bits)
        if each.weight_bits is None:
            continue
        where, widest = f"connection '{each.source}' -> '{each.target}'", program.formats.weight_bits
        if each.weight_bits > widest:
            yield f"{where} has weights of {each.weight_bits} bits; the chip has {widest}"
            continue
        formats = program.formats.with_weight_bits(each.weight_bits)
        values = each.weights.weights if isinstance(each.weights, Kernel) else each.weights.data
        if (values % formats.weight_step).any() or np.abs(values).max(initial=0) > formats.weight_max:
            yield f"{where} has weights that {each.weight_bits} bits do not hold"
    for group, found in bits.items():
        if len(found) > 1:
            yield f"the connections to '{group}' have weights of different bits"


def refuse_unsound(program: Program) -> None:
    """Reject weights with which a loop over synapses would leave its arrays.

    Raises
    ------
    BadInput
        If there are any; the message lists all findings.
    """
    findings = []
    for each in program.connections:
        where = f"connection '{each.source}' -> '{each.target}'"
        if isinstance(each.weights, Kernel):
            findings += [f"{where}: {each.weights.misfit}"] if each.weights.misfit else []
        else:
            findings += unsound(each.weights, where)
    if findings:
        raise BadInput("the program is invalid:\n" + "\n".join(f"- {finding}" for finding in findings))


def differences(first: Program, second: Program) -> list[str]:
    """Return the names of all fields that differ between two programs, compared with ``==``."""
    found = [name for name in _PROGRAM_FIELDS if getattr(first, name) != getattr(second, name)]
    if first.formats != second.formats:
        found.append("arithmetic")
    if first.core_plan != second.core_plan:
        found.append("core_plan")
    for part in ("groups", "connections"):
        if len(getattr(first, part)) != len(getattr(second, part)):
            return [*found, part]
    for group, other in zip(first.groups, second.groups, strict=True):
        found += [f"{group.name}.name"] if group.name != other.name else []
        found += [
            f"{group.name}.{name}"
            for name in ("scale", *GROUP_ARRAYS, "reset_by")
            if not np.array_equal(getattr(group, name), getattr(other, name))
        ]
    for one, two in zip(first.connections, second.connections, strict=True):
        place = f"{one.source} -> {one.target}"
        fields = (*_CONNECTION_FIELDS, "weight_bits")
        found += [f"{place}.{name}" for name in fields if getattr(one, name) != getattr(two, name)]
        if not _equal_weights(one.weights, two.weights):
            found.append(f"{place}.weights")
    return found


def _equal_weights(first: Weights, second: Weights) -> bool:
    if isinstance(first, Kernel) and isinstance(second, Kernel):
        same = all(getattr(first, name) == getattr(second, name) for name in _KERNEL_FIELDS)
        return same and np.array_equal(first.weights, second.weights)
    if isinstance(first, Kernel) or isinstance(second, Kernel) or first.shape != second.shape:
        return False
    return bool((first != second).nnz == 0)
