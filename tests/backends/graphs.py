"""Random graphs of groups, and an oracle that runs them with dense matrices from the equations alone."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from backends.random_programs import random_group, random_weights
from esl_neuro.backends.trace import Trace
from esl_neuro.compiler.program import INPUT, Connection, Program
from esl_neuro.nirgraph.kernel import Kernel

M = 2**23


def truncated(product):
    return np.where(product >= 0, product // 4096, -(-product // 4096))


def oracle(program, inputs):
    """Run a program step by step in aligned time, all samples at once."""
    samples, steps, _ = inputs.shape
    spikes = {group.name: np.zeros((samples, steps, group.neurons), np.int64) for group in program.groups}
    u, v = ({name: np.zeros_like(record) for name, record in spikes.items()} for _ in range(2))
    sent = {INPUT: inputs.astype(np.int64), **spikes}
    matrices = [connection.matrix.toarray().astype(np.int64) for connection in program.connections]
    for step in range(steps):
        for group in program.groups:
            a = np.zeros((samples, group.neurons), np.int64)
            for connection, matrix in zip(program.connections, matrices, strict=True):
                if connection.target == group.name and step >= connection.delay:
                    total = sent[connection.source][:, step - connection.delay] @ matrix.T
                    a += np.floor_divide(
                        total * 2 ** max(connection.weight_exp, 0), 2 ** max(-connection.weight_exp, 0)
                    )
            before_u, before_v = (state[group.name][:, step - 1] if step else 0 * a for state in (u, v))
            current = truncated(before_u * (4095 - group.du)) + 64 * a
            current = np.where(current > M, current - 2 * M, current)
            current = np.where(current <= -M, current + 2 * M, current)
            potential = truncated(before_v * (4096 - group.dv)) + current + group.bias_mant * 2**group.bias_exp
            potential = np.clip(potential, 1 - M, M - 1)
            fired = potential > 64 * group.vth
            spikes[group.name][:, step] = fired
            u[group.name][:, step] = current
            after = 0 if group.reset_by is None else potential - group.reset_by
            v[group.name][:, step] = np.where(fired, after, potential)
    potential = v[program.output.name][:, -1] if program.readout == "potential" else None
    return Trace("oracle", inputs, {name: record.astype(np.uint8) for name, record in spikes.items()}, u, v, potential)


def assert_equal(trace, expected):
    """Every spike, current and potential, and the readout."""
    assert list(trace.spikes) == list(expected.spikes)
    for name, record in expected.spikes.items():
        assert (trace.spikes[name] == record).all(), f"spikes of {name}"
        if trace.u:
            assert trace.u[name].dtype == trace.v[name].dtype == np.int64
            assert (trace.u[name] == expected.u[name]).all(), f"u of {name}"
            assert (trace.v[name] == expected.v[name]).all(), f"v of {name}"
    assert (trace.potential is None) == (expected.potential is None)
    if expected.potential is not None:
        assert (trace.potential == expected.potential).all()


def random_kernel(rng, channels=None, image=None):
    """A kernel with random geometry, its output at least one position large."""
    groups = int(rng.integers(1, 3))
    per_group = int(rng.integers(1, 3))
    image = image or tuple(int(size) for size in rng.integers(3, 7, 2))
    taps, stride, padding = ([int(size) for size in rng.integers(low, 4, 2)] for low in (1, 1, 0))
    dilation = [int(size) for size in rng.integers(1, 3, 2)]
    for axis in (0, 1):
        if image[axis] + 2 * padding[axis] < dilation[axis] * (taps[axis] - 1) + 1:
            taps[axis], dilation[axis] = 1, 1
    if channels is not None:
        groups, per_group = 1, channels
    out = groups * int(rng.integers(1, 3))
    values = 2 * rng.integers(-127, 128, (out, per_group, *taps)) * (rng.random((out, per_group, *taps)) < 0.8)
    shape = (per_group * groups, *image)
    return Kernel(values.astype(np.int32), shape, tuple(stride), tuple(padding), tuple(dilation), groups)


def random_graph(rng, steps=None, input_bits=1, kernels=True, loops=True, extreme=False, prefix=""):
    """Groups in a row with connections that skip, join and go back, some of them kernels, most parameters extreme."""
    count = int(rng.integers(2, 5))
    input_size = int(rng.integers(1, 20))
    shapes: dict[str, int] = {INPUT: input_size}
    connections, groups = [], []

    def exponent():
        return int(rng.integers(4, 8)) if extreme else int(rng.integers(-2, 3))

    def connect(source, target, delay, weights=None):
        if weights is None:
            weights = random_weights(
                rng, shapes[target], shapes[source], rng.choice([0.0, 0.2, 0.7], p=[0.1, 0.5, 0.4])
            )
        connections.append(Connection(source, target, weights, exponent(), weights.shape[0] * weights.shape[1], delay))

    first_kernel = random_kernel(rng) if kernels and rng.random() < 0.7 else None
    if first_kernel is not None:
        input_size = shapes[INPUT] = first_kernel.shape[1]
    for k in range(count):
        name = f"{prefix}group {k}"
        source = INPUT if k == 0 else groups[-1].name
        kernel = first_kernel if k == 0 else None
        if k == 1 and first_kernel is not None and rng.random() < 0.7:
            channels, *image = first_kernel.output_shape
            kernel = random_kernel(rng, channels, tuple(image))
        neurons = kernel.shape[0] if kernel is not None else int(rng.integers(1, 15))
        shapes[name] = neurons
        group = random_group(rng, name, neurons, 131_072 if extreme else 2000)
        if extreme:
            group.du[:], group.dv[:] = rng.integers(-1, 30, neurons), rng.integers(0, 30, neurons)
        groups.append(group)
        connect(source, name, int(rng.choice([0, 0, 0, 2])), kernel)
        for earlier in (INPUT, *(group.name for group in groups[:-1])):
            if rng.random() < 0.25:
                connect(earlier, name, int(rng.integers(0, 3)))
        if loops and rng.random() < 0.4:
            connect(name, name, int(rng.integers(1, 4)))
    if loops and rng.random() < 0.6:
        connect(groups[-1].name, groups[0].name, count + int(rng.integers(0, 3)))
    connections.sort(key=lambda connection: [group.name for group in groups].index(connection.target))
    return Program(
        "loihi2",
        input_size,
        steps or int(rng.integers(3, 10)),
        1e-3,
        tuple(connections),
        tuple(groups),
        readout=str(rng.choice(["spikes", "potential"])),
        input_bits=input_bits,
    )


def joined(programs):
    """Put programs of equal steps and payload into one, where none has a way to another."""
    width, start = sum(program.input_size for program in programs), 0
    connections, groups = [], []
    for program in programs:
        for connection in program.connections:
            if connection.source == INPUT:
                part = connection.matrix.tocoo()
                place = (part.row, part.col + start)
                weights = sp.csr_matrix((part.data, place), shape=(part.shape[0], width))
                connection = replace(connection, weights=weights)
            connections.append(connection)
        groups += program.groups
        start += program.input_size
    return replace(programs[0], input_size=width, connections=tuple(connections), groups=tuple(groups))


def random_inputs(rng, program, samples, rate=0.4):
    largest = 2**program.input_bits - 1
    shape = (samples, program.steps, program.input_size)
    values = rng.integers(1, largest + 1, shape) * (rng.random(shape) < rate)
    return values.astype(np.uint8 if largest == 1 else np.int32)


def spikes_of(trace):
    return sum(int(record.sum()) for record in trace.spikes.values())


def many_channels(rng):
    """An image of 130 channels that becomes one of 140: more than the bytes in which Conv keeps its sizes hold."""
    weights = 2 * rng.integers(-60, 60, (140, 130, 2, 2))
    kernel = Kernel(weights.astype(np.int32), (130, 3, 2), padding=(1, 0))
    group = random_group(rng, "wide", kernel.shape[0])
    return Program("loihi2", kernel.shape[1], 3, 1e-3, (Connection(INPUT, "wide", kernel, 0, kernel.nnz),), (group,))


def conv_graph(rng, steps, weight_exp=0, delay=0, input_bits=1):
    """Input -> kernel -> group -> kernel -> group, and a kernel beside the second one."""
    first = Kernel(2 * rng.integers(-60, 61, (4, 2, 3, 3)).astype(np.int32), (2, 5, 6), padding=(1, 1), groups=1)
    second = Kernel(
        2 * rng.integers(-60, 61, (6, 2, 2, 3)).astype(np.int32), first.output_shape, (2, 1), (1, 0), (1, 2), groups=2
    )
    beside = Kernel(2 * rng.integers(-60, 61, (4, 4, 1, 1)).astype(np.int32), first.output_shape)
    names = ["a", "b", "c"]
    sizes = [math.prod(kernel.output_shape) for kernel in (first, beside, second)]
    groups = tuple(random_group(rng, name, size, 600) for name, size in zip(names, sizes, strict=True))
    ends = [(INPUT, "a", first, 0), ("a", "b", beside, 0), ("b", "c", second, 0), ("a", "c", second, delay)]
    connections = tuple(Connection(s, t, kernel, weight_exp, kernel.nnz, d) for s, t, kernel, d in ends)
    return Program("loihi2", first.shape[1], steps, 1e-3, connections, groups, input_bits=input_bits)
