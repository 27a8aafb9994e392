"""Read and write traces as NIRData files, the data format of NIR."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np

from esl_neuro.backends.trace import Payloads, Potentials, Trace
from esl_neuro.compiler.program import INPUT, READOUTS
from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.formats import other_version
from esl_neuro.reading.hdf5 import open_hdf5
from esl_neuro.reading.limits import content_limit
from esl_neuro.storage import write

SCHEMA = 1  # of our attributes; the rest is NIRData
VERSION = "esl_neuro_schema"
BACKEND, ORDER, READOUT = "esl_neuro_backend", "esl_neuro_order", "esl_neuro_readout"
WHAT = "a readable NIRData file"
AXES = 3  # samples, steps, neurons


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
    with open_hdf5(path, WHAT) as file:
        backend = str(file.attrs.get(BACKEND, path.stem))
        order = [str(name) for name in file.attrs.get(ORDER, [])]
        readout = str(file.attrs.get(READOUT, READOUTS[0]))
        schema = np.asarray(file.attrs.get(VERSION, SCHEMA)).tolist()  # neither 0.1.0 nor other programs state it
        data = nir.read_data(file.id)
    if schema != SCHEMA:
        raise other_version(path, path.parent, "trace", schema, (SCHEMA,), "record it again")
    nodes = {name: node.observables for name, node in data.nodes.items() if isinstance(node, nir.NIRNodeData)}
    names = order or [name for name in nodes if name != INPUT]
    lacking = [name for name in (INPUT, *names) if "spikes" not in nodes.get(name, {})]
    if lacking or not names:
        raise BadInput(f"{path}: the file has no spikes of {', '.join(map(repr, lacking)) or 'any group'}")
    inputs = _values(nodes[INPUT]["spikes"])
    lead = inputs.shape[:2]
    spikes, u, v = (
        {name: _values(nodes[name][quantity]) for name in names if quantity in nodes[name]}
        for quantity in ("spikes", "u", "v")
    )
    last = {name: _values(nodes[name]["last_v"]) for name in names[-1:] if "last_v" in nodes[name]}
    findings = _wrong({INPUT: inputs}, "spikes", lambda _: lead)
    findings += _wrong(spikes, "spikes", lambda _: lead) + _not_binary(spikes)
    findings += _wrong(u, "u", lambda name: spikes[name].shape) + _wrong(v, "v", lambda name: spikes[name].shape)
    findings += _wrong(last, "last_v", lambda name: (*lead[:1], 1, *spikes[name].shape[2:]))
    findings += [
        f"the time step of {quantity} of '{name}' is {record.dt}; expected a number above 0"
        for name, observables in nodes.items()
        for quantity, record in observables.items()
        if isinstance(record, nir.TimeGriddedData) and not (np.isreal(record.dt) and 0 < record.dt < np.inf)
    ]
    findings += [f"group '{name}' is listed more than once" for name in sorted(set(names)) if names.count(name) > 1]
    if readout not in READOUTS:
        findings.append(f"readout '{readout}' is unknown; {did_you_mean(readout, READOUTS)}")
    if findings:
        raise BadInput(f"{path}: not {WHAT}: {'; '.join(findings)}")
    return Trace(
        backend,
        inputs.astype(np.uint8) if inputs.dtype == bool else inputs,
        {name: values.astype(np.uint8) for name, values in spikes.items()},
        {name: values.astype(np.int64) for name, values in u.items()},
        {name: values.astype(np.int64) for name, values in v.items()},
        potential=last[names[-1]][:, 0].astype(np.int64) if last else None,
        readout=readout,
    )


def _gridded(values: Payloads | Potentials, dt_s: float) -> nir.TimeGriddedData:
    return nir.TimeGriddedData(values, dt_s)


def _lean(inputs: Payloads) -> Payloads:
    """Return 0/1 inputs as bool, payloads unchanged."""
    return inputs.astype(bool) if inputs.size == 0 or inputs.max() <= 1 else inputs


def _wrong(records: Mapping[str, Any], quantity: str, begins: Callable[[str], tuple[int, ...]]) -> list[str]:
    """Find arrays that are not integers of shape (samples, steps, neurons), or begin with another shape than given."""
    findings = []
    for name, values in records.items():
        start = begins(name)
        if values.ndim != AXES or values.shape[: len(start)] != start:
            expected = (*start, *("samples", "steps", "neurons")[len(start) :])
            findings.append(
                f"{quantity} of '{name}' has shape {values.shape}; expected ({', '.join(map(str, expected))})"
            )
        elif values.dtype.kind not in "biu":
            findings.append(f"{quantity} of '{name}' is {values.dtype}; expected integers")
    return findings


def _not_binary(spikes: Mapping[str, Any]) -> list[str]:
    return [
        f"spikes of '{name}' range from {values.min()} to {values.max()}; expected 0 and 1"
        for name, values in spikes.items()
        if values.size and values.dtype.kind in "iu" and not 0 <= values.min() <= values.max() <= 1
    ]


def _values(observable: nir.TimeGriddedData | nir.EventData) -> Any:
    if isinstance(observable, nir.TimeGriddedData):
        return np.asarray(observable.data)
    size = observable.n_neurons * (observable.t_max + 1) * observable.idx.size
    if not 0 <= size <= content_limit():  # before the events become an array of that size
        raise BadInput(f"events of {observable.n_neurons} neurons and {observable.t_max:g} steps are too many")
    return np.asarray(observable.to_time_gridded(1.0).data)
