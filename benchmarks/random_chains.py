"""Random integer programs, one layer behind the other, and their input, for the benchmarks of the simulator."""

from __future__ import annotations

import itertools

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from esl_neuro.compiler.program import INPUT, Connection, Group, Program

SIZES = (784, 800, 10)
STEPS = 20
RATE = 0.1
DENSITIES = (0.16, 0.02)
FAN_OUT = 32


def chain(sizes: tuple[int, ...], density: float, steps: int, rng: np.random.Generator) -> Program:
    """Plain LIF layers with random even weights, decay 0.5 and per-neuron thresholds."""
    matrices = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        weights = 2 * rng.integers(1, 128, (fan_out, fan_in)) * rng.choice([-1, 1], (fan_out, fan_in))
        matrices.append(sp.csr_matrix((weights * (rng.random((fan_out, fan_in)) < density)).astype(np.int32)))
    return of_matrices(matrices, steps, rng)


def of_matrices(matrices: list[sp.csr_matrix], steps: int, rng: np.random.Generator) -> Program:
    connections, groups, source = [], [], INPUT
    for index, matrix in enumerate(matrices, start=1):
        name, neurons = f"lif{index}", matrix.shape[0]
        zeros = np.zeros(neurons, np.int64)
        connections.append(Connection(source, name, matrix, 0, matrix.nnz))
        groups.append(
            Group(name, zeros + 4095, zeros + 2048, rng.integers(200, 1000, neurons), zeros, zeros, np.ones(neurons))
        )
        source = name
    return Program("loihi2", matrices[0].shape[1], steps, 1e-4, tuple(connections), tuple(groups))


def fixed_fan_out(neurons: int, rng: np.random.Generator) -> sp.csr_matrix:
    """As many inputs as neurons, each with 32 synapses to anywhere."""
    stride = neurons // FAN_OUT
    targets = np.arange(FAN_OUT) * stride + rng.integers(0, stride, (neurons, FAN_OUT))
    weights = (
        2 * rng.integers(1, 128, targets.size, dtype=np.int32) * rng.choice(np.array([-1, 1], np.int32), targets.size)
    )
    starts = np.arange(0, targets.size + 1, FAN_OUT)
    return sp.csr_matrix(sp.csc_matrix((weights, targets.ravel(), starts), shape=(neurons, neurons)))


def spikes_for(program: Program, samples: int, rate: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    return (rng.random((samples, program.steps, program.input_size), dtype=np.float32) < rate).astype(np.uint8)
