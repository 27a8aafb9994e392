"""Random chains of layers for ``.net`` files: most are what a file can hold, about one in six is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from backends.random_programs import random_groups, random_images, random_spikes
from esl_neuro.backends.netx import netx_findings
from esl_neuro.compiler.program import INPUT, Connection, Program
from esl_neuro.nirgraph.kernel import Kernel

CHAINS = ("dense", "recurrent", "conv", "delays", "mixed")
STREAMED = ("dense", "conv")  # their samples follow each other; the others are loaded anew for each sample


def random_files(rng, kind, extreme, count):
    """Draw chains until so many have a file; return them, their input, and how often which finding kept one out."""
    programs, inputs, refused = [], [], {}
    while len(programs) < count:
        program = random_chain(rng, kind, extreme)
        if rng.random() < 0.15:
            program = DEFECTS[rng.integers(len(DEFECTS))](rng, program)
        findings = netx_findings(program)
        if findings:
            first = findings[0].kind
            refused[first] = refused.get(first, 0) + 1
            continue
        programs.append(program)
        inputs.append(random_spikes(rng, program, 3 if kind in STREAMED else 1, rate=rng.choice([0.1, 0.3, 0.6])))
    return programs, inputs, refused


def random_chain(rng, kind, extreme):
    """A chain of 1 to 4 layers; an extreme one is wide and long enough for currents to wrap."""
    steps = int(rng.integers(32, 65) if extreme else rng.integers(2, 17))
    depth = int(rng.integers(1, 4))
    shapes, kernels = random_images(rng, int(rng.integers(1, 3)) if kind in ("conv", "mixed") else 0)
    sizes = [int(np.prod(shape)) for shape in shapes] or [int(rng.integers(1, 161 if extreme else 41))]
    sizes += [int(size) for size in rng.integers(1, 41, max(0, depth + 1 - len(sizes)))]
    if kind == "mixed":
        sizes.append(int(rng.integers(1, 41)))
    names = [f"layer {k}" for k in range(1, len(sizes))]
    loops = chosen(rng, range(len(kernels), len(names)), kind in ("recurrent", "mixed"))
    late = [k for k in chosen(rng, range(len(kernels), len(names)), kind in ("delays", "mixed")) if k not in loops]
    last = max([-1, *loops, *(k - 1 for k in late)])
    connections = []
    for k, (source, name) in enumerate(zip([INPUT, *names], names, strict=False)):
        ends = (source, name)
        delay = int(rng.choice([1, 2, 5, 30 if extreme else 8, 62], p=[0.4, 0.3, 0.2, 0.07, 0.03])) if k in late else 0
        if k < len(kernels):
            connections.append(kernel_connection(rng, ends, kernels[k], extreme))
        else:
            connections.append(matrix_connection(rng, ends, (sizes[k + 1], sizes[k]), delay, extreme))
        if k in loops:
            connections.append(matrix_connection(rng, (name, name), (sizes[k + 1], sizes[k + 1]), 1, extreme))
    groups = [
        with_bias(rng, as_one(rng, with_thresholds(rng, group)), positive=k > last)
        for k, group in enumerate(random_groups(rng, names, sizes[1:], extreme))
    ]
    return Program("loihi2", sizes[0], steps, 1e-3, tuple(connections), tuple(groups))


def chosen(rng, layers, wanted):
    """Some of the layers, at least one if any is wanted."""
    if not wanted or not layers:
        return []
    return sorted({int(rng.choice(layers)), *(k for k in layers if rng.random() < 0.4)})


def kernel_connection(rng, ends, kernel, extreme):
    """Weights times ``2**exponent`` are even, as a core holds them."""
    exponent = int(rng.choice([-2, -1, 0, 0, 0, 1, 2]))
    values = with_signs(rng, file_weights(rng, kernel.weights.shape, exponent, even=True, extreme=extreme), extreme)
    values = (values * (kernel.weights != 0)).astype(np.int32)
    drawn = Kernel(values, kernel.input_shape, kernel.stride, kernel.padding, kernel.dilation, kernel.groups)
    return Connection(*ends, drawn, exponent, drawn.nnz)


def matrix_connection(rng, ends, shape, delay, extreme):
    exponent = int(rng.choice([-2, -1, 0, 0, 0, 1, 2]))
    values = file_weights(rng, shape, exponent, even=rng.random() < 0.5, extreme=extreme)
    values = with_signs(rng, values, extreme)
    if rng.random() < 0.3:
        values = rng.choice([-1, 1]) * np.abs(values)  # the loader shifts a matrix of one sign in another way
    densities = [0.02, 0.1, 0.5, 1.0]
    density = rng.choice(densities, p=[0.05, 0.1, 0.25, 0.6] if extreme else [0.1, 0.2, 0.3, 0.4])
    weights = sp.csr_matrix(values * (rng.random(shape) < density))
    return Connection(*ends, weights, exponent, shape[0] * shape[1], delay)


def file_weights(rng, shape, exponent, even, extreme):
    """Even weights of a core that are integers of up to 254 in the file, and even there if asked."""
    unit = 2 ** max(1, (1 if even else 0) - exponent)
    largest = (254 >> max(exponent, 0)) // unit
    smallest = largest // 2 if extreme else 0
    return unit * rng.integers(smallest, largest + 1, shape) * rng.choice([-1, 1], shape)


def with_signs(rng, weights, extreme):
    """Some neurons, or channels, only excited or only inhibited: their currents wrap and potentials saturate."""
    probabilities = [0.3, 0.2, 0.5] if extreme else [0.1, 0.7, 0.2]
    sign = rng.choice([-1, 0, 1], (weights.shape[0], *[1] * (weights.ndim - 1)), p=probabilities)
    return np.where(sign == 0, weights, sign * np.abs(weights))


def with_thresholds(rng, group):
    """Mostly lower ones, or deep layers would be silent."""
    return replace(group, vth=group.vth // rng.choice([1, 8, 64]))


def as_one(rng, group):
    """Sometimes one threshold, and one decay, for the whole layer, as after folding."""
    same = [key for key in ("du", "dv", "vth") if rng.random() < 0.4]
    return replace(group, **{key: np.full(group.neurons, getattr(group, key)[0]) for key in same})


def with_bias(rng, group, positive):
    """Biases that are multiples of 64, half of the layers without any."""
    exponent = rng.integers(5, 8, group.neurons)
    largest = np.where(exponent == 6, 4095, 2047)
    mantissa = rng.integers(-largest, largest + 1) * np.where(exponent == 5, 2, 1)
    mantissa = mantissa * (rng.random(group.neurons) < 0.4) * (rng.random() < 0.5)
    weak = -np.abs(mantissa) // 128 * np.where(exponent == 5, 2, 1)
    return replace(group, bias_mant=mantissa if positive else weak, bias_exp=exponent)


def with_connection(program, index, **changes):
    connections = list(program.connections)
    connections[index] = replace(connections[index], **changes)
    return replace(program, connections=tuple(connections))


def any_exponent(rng, program):
    return with_connection(program, int(rng.integers(len(program.connections))), weight_exp=int(rng.integers(-6, 7)))


def any_delay(rng, program):
    return with_connection(program, -1, delay=int(rng.integers(1, 64)))


def any_bias(rng, program):
    groups = list(program.groups)
    k = int(rng.integers(len(groups)))
    bias = rng.integers(-4095, 4096, groups[k].neurons)
    groups[k] = replace(groups[k], bias_mant=bias, bias_exp=rng.integers(0, 8, groups[k].neurons))
    return replace(program, groups=tuple(groups))


def without_synapses(_rng, program):
    last = program.connections[-1]
    return with_connection(program, -1, weights=sp.csr_matrix(last.matrix.shape, dtype=np.int64))


def with_skip(rng, program):
    shape = (program.output.neurons, program.input_size)
    skip = matrix_connection(rng, (INPUT, program.output.name), shape, 0, False)
    return replace(program, connections=(*program.connections, skip))


def with_potential(_rng, program):
    return replace(program, readout="potential")


def with_payloads(rng, program):
    return replace(program, input_bits=int(rng.integers(2, 9)))


DEFECTS = (any_exponent, any_delay, any_bias, without_synapses, with_skip, with_potential, with_payloads)
