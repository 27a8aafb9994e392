"""Read and write traces as NIRData files, the data format of NIR."""

from __future__ import annotations

import io
from pathlib import Path

import h5py
import nir
import numpy as np

from esl_neuro.backends.trace import Payloads, Potentials, Spikes, Trace
from esl_neuro.compiler.program import INPUT
from esl_neuro.errors import BadInput
from esl_neuro.formats import other_version
from esl_neuro.storage import write

SCHEMA = 1  # of our attributes; the rest is NIRData
VERSION = "esl_neuro_schema"
BACKEND, ORDER, READOUT = "esl_neuro_backend", "esl_neuro_order", "esl_neuro_readout"


def write_trace(path: Path, trace: Trace, dt_s: float) -> None:
    """Write a trace as NIRData: for each node the observables ``spikes`` and, if recorded, ``u`` and ``v``.

    Spikes are bool, graded inputs int32, ``u`` and ``v`` int32 in the units of the program. Step ``t`` of every node
    belongs to input step ``t``.

    Parameters
    ----------
    path : Path
        File to write.
    trace : Trace
        Trace of a run.
    dt_s : float
        Time step in seconds.
    """
    observables = {INPUT: {"spikes": _gridded(_lean(trace.input_spikes), dt_s)}}
    for name, fired in trace.spikes.items():
        observables[name] = {"spikes": _gridded(fired.astype(bool), dt_s)}
        for quantity, records in (("u", trace.u), ("v", trace.v)):
            if name in records:
                observables[name][quantity] = _gridded(records[name].astype(np.int32), dt_s)
    if trace.potential is not None:
        last = trace.potential[:, None, :].astype(np.int32)
        observables[next(reversed(trace.spikes))]["last_v"] = _gridded(last, dt_s)
    content = io.BytesIO()  # on a full disk, HDF5 would end the process
    nir.write_data(content, nir.NIRGraphData({name: nir.NIRNodeData(each) for name, each in observables.items()}))
    with h5py.File(content, "a") as file:
        file.attrs[VERSION] = SCHEMA
        file.attrs[BACKEND] = trace.backend
        file.attrs[READOUT] = trace.readout
        file.attrs[ORDER] = list(trace.spikes)  # HDF5 sorts by name
    write(path, content.getvalue())


def read_trace(path: Path) -> Trace:
    """Read a trace written by :func:`write_trace`, or by another program in the same form.

    Raises
    ------
    BadInput
        If the file is missing, or is not NIRData with spikes of an input and of at least one group.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    try:
        data = nir.read_data(str(path))
        with h5py.File(path, "r") as file:
            backend = str(file.attrs.get(BACKEND, path.stem))
            order = [str(name) for name in file.attrs.get(ORDER, [])]
            readout = str(file.attrs.get(READOUT, "spikes"))
            schema = file.attrs.get(VERSION, SCHEMA)  # neither 0.1.0 nor other programs state it
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise BadInput(f"{path}: not a readable NIRData file: {error}") from error
    if not np.array_equal(schema, SCHEMA):
        raise other_version(path, path.parent, "trace", np.asarray(schema).tolist(), (SCHEMA,), "record it again")
    nodes = {name: node.observables for name, node in data.nodes.items() if isinstance(node, nir.NIRNodeData)}
    names = order or [name for name in nodes if name != INPUT]
    lacking = [name for name in (INPUT, *names) if "spikes" not in nodes.get(name, {})]
    if lacking or not names:
        raise BadInput(f"{path}: the file has no spikes of {', '.join(map(repr, lacking)) or 'any group'}")
    inputs: Payloads = _array(nodes[INPUT]["spikes"])
    spikes: dict[str, Spikes] = {name: _array(nodes[name]["spikes"]).astype(np.uint8) for name in names}
    u, v = (
        {name: _array(nodes[name][quantity]).astype(np.int64) for name in names if quantity in nodes[name]}
        for quantity in ("u", "v")
    )
    last = nodes[names[-1]].get("last_v")
    return Trace(
        backend,
        inputs.astype(np.uint8) if inputs.dtype == bool else inputs,
        spikes,
        u,
        v,
        potential=None if last is None else _array(last)[:, 0].astype(np.int64),
        readout=readout,
    )


def _gridded(values: Payloads | Potentials, dt_s: float) -> nir.TimeGriddedData:
    return nir.TimeGriddedData(values, dt_s)


def _lean(inputs: Payloads) -> Payloads:
    """Return 0/1 inputs as bool, payloads unchanged."""
    return inputs.astype(bool) if inputs.size == 0 or inputs.max() <= 1 else inputs


def _array(observable: nir.TimeGriddedData | nir.EventData) -> Payloads:
    gridded = observable if isinstance(observable, nir.TimeGriddedData) else observable.to_time_gridded(1.0)
    return np.asarray(gridded.data)
