"""Random small programs that use the whole range of every parameter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from esl_neuro.compiler.program import INPUT, Connection, Group, Program


def random_weights(rng, targets, sources, density):
    values = 2 * rng.integers(-127, 128, (targets, sources))
    weights = sp.csr_matrix(values * (rng.random((targets, sources)) < density))
    weights.eliminate_zeros()
    return weights


def random_group(rng, name, neurons, largest_vth=2000):
    return Group(
        name,
        du=rng.choice([-1, 0, 4095, *rng.integers(0, 4096, 3)], neurons).astype(np.int64),
        dv=rng.choice([0, 4095, *rng.integers(0, 4096, 3)], neurons).astype(np.int64),
        vth=rng.integers(0, largest_vth, neurons),
        bias_mant=rng.integers(-4095, 4096, neurons) * (rng.random(neurons) < 0.5),
        bias_exp=rng.integers(0, 8, neurons),
        scale=1.0,
    )


def random_program(rng, depth=None, steps=None, exponents=None, extreme=False, widest=40):
    """A chain of 1 to 3 layers of 1 to 40 neurons.

    An extreme one has large exponents and thresholds and little decay, so that currents wrap and potentials saturate.
    """
    depth = depth or int(rng.integers(1, 4))
    exponents = exponents or random_exponents(rng, depth, extreme)
    sizes = [int(size) for size in rng.integers(1, widest + 1, depth + 1)]
    names = [f"layer {k}" for k in range(1, depth + 1)]
    groups = [
        random_group(rng, name, size, 131_072 if extreme else 2000) for name, size in zip(names, sizes[1:], strict=True)
    ]
    if extreme:
        for group in groups:
            group.du[:] = rng.integers(-1, 30, group.neurons)
            group.dv[:] = rng.integers(0, 30, group.neurons)
    connections = []
    for source, group, fan_in, exponent in zip([INPUT, *names[:-1]], groups, sizes[:-1], exponents, strict=True):
        density = rng.choice([0.0, 0.1, 0.5, 1.0], p=[0.05, 0.25, 0.4, 0.3])
        weights = random_weights(rng, group.neurons, fan_in, density)
        connections.append(Connection(source, group.name, weights, exponent, declared=fan_in * group.neurons))
    return Program("loihi2", sizes[0], steps or int(rng.integers(1, 13)), 1e-3, tuple(connections), tuple(groups))


def random_exponents(rng, depth, extreme):
    return [7 if extreme else int(rng.integers(-1, 4)) for _ in range(depth)]


def side_by_side(programs):
    """Join programs of one depth, step count and exponents into one that runs them without mixing them."""
    first = programs[0]
    groups, connections = [], []
    for k, group in enumerate(first.groups):
        parts = [program.groups[k] for program in programs]
        arrays = {
            key: np.concatenate([getattr(part, key) for part in parts])
            for key in ("du", "dv", "vth", "bias_mant", "bias_exp")
        }
        groups.append(Group(group.name, **arrays, scale=1.0))
        joined = [program.connections[k] for program in programs]
        weights = sp.csr_matrix(sp.block_diag([connection.weights for connection in joined], format="csr"))
        connections.append(replace(joined[0], weights=weights, declared=sum(part.declared for part in joined)))
    width = sum(program.input_size for program in programs)
    return replace(first, input_size=width, connections=tuple(connections), groups=tuple(groups))


def random_spikes(rng, program, samples, rate=0.3):
    return (rng.random((samples, program.steps, program.input_size)) < rate).astype(np.uint8)
