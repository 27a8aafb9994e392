"""What workers compute of a compiled network: traces, and classes by integers and equations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from esl_neuro.backends.integer import count_integer, run_integer
from esl_neuro.backends.lava_stream import as_payloads
from esl_neuro.backends.trace import ConnectionCounts, Payloads, RunCounts, Trace
from esl_neuro.compiler.program import Program
from esl_neuro.nirgraph.files import write_nir
from esl_neuro.pipeline.compiled_network import CompiledNetwork
from esl_neuro.pipeline.float_predictions import float_predictions
from esl_neuro.pipeline.inputs import Samples
from esl_neuro.pipeline.shards import LAVA, Arrays, Elsewhere, Forms, divided, once, repeated, shard_size
from esl_neuro.pipeline.simulation import Progress, simulate
from esl_neuro.pipeline.workers import allow_children

GRAPH = "model.nir"
COUNTED = tuple(each.name for each in fields(ConnectionCounts) if each.name not in ("source", "target"))

Classes = Arrays
"""``"integer"`` and ``"float"``: the class of each sample by the integers, and by the equations."""


@lru_cache(maxsize=1)
def _program(folder: Path) -> Program:
    """Read the program once for all shards that a worker computes; a digest in the name stands for the contents."""
    return Program.load(folder)


# Traces.


def trace_elsewhere(
    elsewhere: Elsewhere,
    program: Program,
    arriving: Payloads,
    backend: str,
    *,
    record_potentials: bool = False,
    counting: bool = False,
) -> Callable[[], Trace] | None:
    """Return what runs a program in shards; None if it does not pay.

    Parameters
    ----------
    elsewhere : Elsewhere
        The workers.
    program, arriving, backend, record_potentials
        As in :func:`~esl_neuro.pipeline.simulation.simulate`.
    counting : bool
        Count the operations as :func:`~esl_neuro.backends.integer.count_integer` does, in the integer simulator.
    """
    size = shard_size(program.synapses, program.steps) * (1 if backend == "integer" else LAVA)
    if not elsewhere.pays(-(-len(arriving) // size)):
        return None
    simulation = Simulation(backend, record_potentials, counting and backend == "integer")
    return partial(_trace, elsewhere, simulation, program, arriving, size)


def _trace(elsewhere: Elsewhere, simulation: Simulation, program: Program, arriving: Payloads, size: int) -> Trace:
    given = divided({"arriving": arriving}, size)
    return simulation.trace(
        program, arriving, elsewhere.compute(simulation, given, simulation.forms(program), program.save)
    )


@dataclass(frozen=True)
class Simulation:
    """Runs a program on the samples of a shard. Spikes are saved as bits, everything else as in a trace."""

    backend: str
    record_potentials: bool
    counting: bool

    def __call__(self, folder: Path, given: Arrays, threads: int, progress: Progress) -> Arrays:
        """Return the arrays of a trace."""
        program, arriving = _program(folder), given["arriving"]
        if self.counting:
            trace = count_integer(program, arriving, threads)
        elif self.backend == "integer":
            trace = run_integer(program, arriving, self.record_potentials, threads)
        else:
            allow_children()
            trace = simulate(program, arriving, self.backend, self.record_potentials, progress)
        return _arrays(trace)

    def forms(self, program: Program) -> Forms:
        """Return the arrays of a trace of a program."""
        steps, groups = program.steps, program.groups
        states = ("u", "v") if self.record_potentials else ()
        forms: dict[str, tuple[type, tuple[int, ...]]] = {}
        for index, group in enumerate(groups):
            forms[f"spikes/{index}"] = np.uint8, (steps, -(-group.neurons // 8))
            forms |= {f"{state}/{index}": (np.int64, (steps, group.neurons)) for state in states}
        if program.readout == "potential":
            forms["potential"] = np.int64, (program.output.neurons,)
        if self.counting:
            forms |= {f"spikes_out/{index}": (np.int64, (steps,)) for index in range(len(groups))}
            connections = range(len(program.connections))
            forms |= {f"{name}/{index}": (np.int64, (steps,)) for index in connections for name in COUNTED}
        return forms

    def trace(self, program: Program, arriving: Payloads, found: Arrays) -> Trace:
        """Return the trace that arrays come from."""
        groups = {f"{index}": group for index, group in enumerate(program.groups)}

        def each(kind: str) -> Arrays:
            return {group.name: found[f"{kind}/{index}"] for index, group in groups.items()}

        spikes = {
            group.name: np.unpackbits(found.pop(f"spikes/{index}"), axis=2, count=group.neurons)
            for index, group in groups.items()
        }
        connections = [
            ConnectionCounts(
                connection.source, connection.target, **{name: found[f"{name}/{index}"] for name in COUNTED}
            )
            for index, connection in enumerate(program.connections if self.counting else ())
        ]
        return Trace(
            self.backend,
            as_payloads(arriving, program),
            spikes,
            each("u") if self.record_potentials else {},
            each("v") if self.record_potentials else {},
            found.get("potential"),
            program.readout,
            RunCounts(tuple(connections), each("spikes_out")) if self.counting else None,
        )


def _arrays(trace: Trace) -> Arrays:
    arrays: Arrays = {}
    for index, name in enumerate(trace.spikes):
        arrays[f"spikes/{index}"] = np.packbits(trace.spikes[name], axis=2)
        arrays |= {f"{state}/{index}": getattr(trace, state)[name] for state in ("u", "v") if getattr(trace, state)}
    if trace.potential is not None:
        arrays["potential"] = trace.potential
    if trace.counts is not None:
        arrays |= {f"spikes_out/{index}": out for index, out in enumerate(trace.counts.spikes_out.values())}
        for index, counted in enumerate(trace.counts.connections):
            arrays |= {f"{name}/{index}": getattr(counted, name) for name in COUNTED}
    return arrays


# Classes.


def classes(elsewhere: Elsewhere, compiled: CompiledNetwork, samples: Samples, arriving: Payloads) -> Classes:
    """Return the classes of samples by the integers and by the equations of a network.

    Parameters
    ----------
    elsewhere : Elsewhere
        The workers, if they pay.
    compiled : CompiledNetwork
        The network.
    samples, arriving : Samples, and array of shape (samples, steps, lines)
        The samples in the units given, and as payloads.
    """
    size = shard_size(compiled.program.synapses, compiled.steps)
    if not elsewhere.pays(-(-len(arriving) // size)):
        return {
            "integer": run_integer(compiled.program, arriving).predictions(),
            "float": float_predictions(compiled, samples),
        }

    def store(folder: Path) -> None:
        compiled.program.save(folder)
        write_nir(folder / GRAPH, compiled.graph)

    given = divided({"arriving": arriving, "values": once(samples.values)}, size)
    forms: Forms = dict.fromkeys(("integer", "float"), (np.int64, ()))
    return elsewhere.compute(Classification(samples.steps, compiled.input_steps), given, forms, store)


@dataclass(frozen=True)
class Classification:
    """Classifies the samples of a shard by the integers and by the equations of a network.

    Attributes
    ----------
    steps : int
        Time steps of each sample.
    input_steps : tuple of int or None
        As in :class:`~esl_neuro.pipeline.compiled_network.CompiledNetwork`.
    """

    steps: int
    input_steps: tuple[int, ...] | None

    def __call__(self, folder: Path, given: Arrays, threads: int, progress: Progress) -> Classes:
        """Return the classes."""
        program, arriving = _program(folder), given["arriving"]
        compiled = CompiledNetwork(folder.name, folder / GRAPH, program, (), (), input_steps=self.input_steps)
        by_integers = run_integer(program, arriving, threads=threads).predictions()
        progress(0, len(arriving))
        with threadpool_limits(threads):
            by_equations = float_predictions(compiled, Samples(repeated(given["values"], self.steps)))
        return {"integer": by_integers, "float": by_equations}
