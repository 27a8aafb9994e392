"""Random small programs that use the whole range of every parameter.

A :class:`Plan` says which groups there are and how they are connected; networks of one plan differ in sizes, weights
and parameters, and can run side by side in one program.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from esl_neuro.backends.validate import validate
from esl_neuro.compiler.compile import quantise_network
from esl_neuro.compiler.network import FloatConnection, FloatGroup, FloatNetwork
from esl_neuro.compiler.program import INPUT, Connection, Group, Program
from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target
from esl_neuro.hardware.rounding import InputFormat
from esl_neuro.nirgraph.kernel import Kernel

KINDS = ("feed-forward", "recurrent", "residual", "conv", "delays", "graded", "everything", "subtraction", "compiled")
GROUP_ARRAYS = ("du", "dv", "vth", "bias_mant", "bias_exp")


@dataclass(frozen=True)
class Plan:
    """What the networks of one batch have in common.

    ``edges`` are (source, target, delay, exponent); group 0 is the input. ``subtracting`` says of each group whether
    its spikes subtract; a network of the kind "subtraction" is one of "everything" otherwise.
    """

    kind: str
    depth: int
    steps: int
    edges: tuple[tuple[int, int, int, int], ...]
    extreme: bool
    images: int  # the input and so many groups after it are images, connected by kernels
    input_bits: int
    readout: str
    subtracting: tuple[bool, ...] = ()


def random_plan(rng, kind="everything", extreme=False, steps=None):
    everything = kind in ("everything", "subtraction", "compiled")
    depth = int(rng.integers(1, 4)) if kind in ("feed-forward", "graded", "delays") else int(rng.integers(2, 4))
    edges = [(layer, layer + 1, 0) for layer in range(depth)]
    if everything or kind == "residual":
        first = int(rng.integers(0, depth - 1))
        edges.append((first, int(rng.integers(first + 2, depth + 1)), 0))
    if everything or kind == "recurrent":
        for _ in range(int(rng.integers(1, 3))):
            target = int(rng.integers(1, depth + 1))
            source = int(rng.integers(target, depth + 1))
            # As many steps of delay as the loop has connections, or a chip could not run it.
            edges.append((source, target, source - target + 1 + int(rng.integers(0, 2))))
    if everything or kind == "delays":
        edges = [(source, target, delay + int(rng.choice([0, 1, 2, 5]))) for source, target, delay in edges]
        if kind == "delays":
            edges[0] = (*edges[0][:2], int(rng.integers(1, 5)))
    return Plan(
        kind=kind,
        depth=depth,
        steps=steps or int(rng.integers(1, 13)),
        edges=tuple(
            (*edge, 7 if extreme else int(rng.integers(-8, 4))) for edge in sorted(edges, key=lambda edge: edge[1])
        ),
        extreme=extreme,
        images=int(rng.integers(1, depth + 1)) if everything or kind == "conv" else 0,
        input_bits=int(rng.integers(2, 7)) if everything or kind == "graded" else 1,
        readout="potential" if kind == "everything" or rng.random() < 0.2 else "spikes",
        subtracting=tuple(rng.random(depth) < 0.8) if kind == "subtraction" else (False,) * depth,
    )


def random_network(rng, plan, widest=40):
    """A network of the plan; its sums may leave 32 bits."""
    names = [INPUT, *(f"layer {k}" for k in range(1, plan.depth + 1))]
    shapes, kernels = random_images(rng, plan.images)
    sizes = [int(np.prod(shape)) for shape in shapes]
    sizes += [int(size) for size in rng.integers(1, widest + 1, plan.depth + 1 - len(sizes))]
    groups = random_groups(rng, names[1:], sizes[1:], plan.extreme)
    groups = [
        replace(group, reset_by=random_reset(rng, group)) if subtracts else group
        for group, subtracts in zip(groups, plan.subtracting, strict=True)
    ]
    if plan.readout == "potential":
        groups[-1].vth[:] = 131_071
    connections = []
    for source, target, delay, exponent in plan.edges:
        weights = None
        if target == source + 1 and target < len(shapes):
            weights = kernels[source]
        elif max(source, target) < len(shapes):
            weights = random_kernel_between(rng, shapes[source], shapes[target])
        if weights is None:
            density = rng.choice([0.0, 0.02, 0.1, 0.5, 1.0], p=[0.05, 0.1, 0.2, 0.35, 0.3])
            weights = random_weights(rng, sizes[target], sizes[source], density)
        declared = sizes[source] * sizes[target]
        connections.append(Connection(names[source], names[target], weights, exponent, declared, delay))
    return Program(
        "loihi2", sizes[0], plan.steps, 1e-3, tuple(connections), tuple(groups), plan.readout, plan.input_bits
    )


def random_networks(rng, plan, count, widest=40):
    """Networks of one plan; exponents with which sums could leave 32 bits are lowered in all of them."""
    programs = [random_network(rng, plan, widest) for _ in range(count)]
    if plan.kind == "compiled":
        programs = compiled_networks(rng, programs, plan.extreme)
    while not all(valid(program) for program in programs):
        programs = [with_lower_exponents(program) for program in programs]
    return programs


def compiled_networks(rng, drawn, extreme):
    """Float networks like these, as the compiler rounds them, all at once, so that they have the same exponents.

    Rows differ by powers of ten, and so do connections; neurons lose all, some or nothing of their potential. So there
    are scales of single neurons, exponents of single connections, thresholds between two points of a lattice, and
    biases that make up for rounding.
    """
    joined = side_by_side(drawn)
    rows = {group.name: 10 ** rng.uniform(-2, 2, group.neurons) for group in joined.groups}
    groups = tuple(random_float_group(rng, group, rows[group.name], extreme) for group in joined.groups)
    if joined.readout == "potential":
        groups = (*groups[:-1], replace(groups[-1], threshold=np.full(groups[-1].neurons, np.inf)))
    connections = tuple(
        FloatConnection(
            each.source,
            each.target,
            sp.csr_matrix(sp.diags(rows[each.target] * 10 ** rng.uniform(-3, 0)) @ each.matrix),
            each.delay,
        )
        for each in joined.connections
    )
    network = FloatNetwork((joined.input_size,), joined.dt_s, groups, connections)
    payload = InputFormat(joined.input_bits, 2.0**joined.input_bits - 1)
    program, _ = quantise_network(network, "loihi2", load_target("loihi2").arithmetic, joined.steps, payload)
    return apart(program, drawn)


def random_float_group(rng, group, rows, extreme):
    """Thresholds from below one weight to many; half of the neurons without memory or without leak."""
    size = group.neurons
    threshold = rows * 10 ** rng.uniform(0, 5 if extreme else 2.5, size)
    bias = rng.normal(0, 0.1, size) * threshold * (rng.random(size) < 0.3)
    du = np.where(rng.random(size) < 0.5, 1.0, rng.uniform(0.01, 1, size))
    dv = rng.choice([0.0, 1.0, *rng.uniform(0, 1, 2)], size)
    return FloatGroup(group.name, bias, du, dv, threshold)


def apart(program, parts):
    """Split what :func:`side_by_side` joined."""
    starts, networks = dict.fromkeys([INPUT, *(group.name for group in program.groups)], 0), []
    for part in parts:
        ends = {INPUT: part.input_size, **{group.name: group.neurons for group in part.groups}}
        place = {name: slice(starts[name], starts[name] + size) for name, size in ends.items()}
        groups = [
            replace(group, **{key: getattr(group, key)[place[group.name]] for key in (*GROUP_ARRAYS, "scale")})
            for group in program.groups
        ]
        connections = [
            replace(each, weights=sp.csr_matrix(each.matrix[place[each.target], place[each.source]]))
            for each in program.connections
        ]
        networks.append(
            replace(program, input_size=part.input_size, groups=tuple(groups), connections=tuple(connections))
        )
        starts = {name: starts[name] + size for name, size in ends.items()}
    return networks


def valid(program):
    try:
        validate(program)
    except BadInput as error:
        if "32-bit" not in str(error):
            raise
        return False
    return True


def with_lower_exponents(program):
    lower = tuple(replace(each, weight_exp=each.weight_exp - 1) for each in program.connections)
    return replace(program, connections=lower)


def random_graph(rng, kind="everything", extreme=False, steps=None, widest=40):
    return random_networks(rng, random_plan(rng, kind, extreme, steps), 1, widest)[0]


def random_images(rng, images):
    """Shapes of so many images after a first one, and the kernels between them; nothing if there are none."""
    if not images:
        return [], []
    shapes, kernels = [(int(rng.integers(1, 4)), *(int(size) for size in rng.integers(3, 6, 2)))], []
    for _ in range(images):
        kernel = None
        while kernel is None:
            kernel = random_kernel(rng, shapes[-1], int(rng.choice([1, 2, 3, 4])))
        kernels.append(kernel)
        shapes.append(kernel.output_shape)
    return shapes, kernels


def random_kernel(rng, shape, outputs):
    """A kernel from images of this shape, or None if the draw does not fit."""
    blocks = int(rng.choice([blocks for blocks in range(1, 5) if shape[0] % blocks == 0 and outputs % blocks == 0]))
    taps = tuple(int(size) for size in rng.integers(1, 4, 2))
    values = 2 * rng.integers(-127, 128, (outputs, shape[0] // blocks, *taps)) * (rng.random((1, 1, *taps)) < 0.8)
    stride, padding, dilation = (
        tuple(int(size) for size in rng.integers(low, high, 2)) for low, high in ((1, 3), (0, 3), (1, 3))
    )
    kernel = Kernel(values.astype(np.int32), shape, stride, padding, dilation, blocks)
    return kernel if min(kernel.output_shape) >= 1 and np.prod(kernel.output_shape) <= 200 else None


def kernel_of_any_geometry(rng):
    """Any geometry: strides larger than the kernel, padding larger than the image, windows of equal weights."""
    blocks, block_inputs, block_outputs = (int(size) for size in rng.integers(1, 4, 3))
    taps, pools = rng.integers(1, 4, 2), rng.integers(1, 4, 2)
    shape = (blocks * block_outputs, block_inputs, *taps)
    weights = 2 * rng.integers(-127, 128, shape) * (rng.random(shape) < rng.choice([0.0, 0.2, 1.0]))
    weights = weights.repeat(pools[0], 2).repeat(pools[1], 3)
    stride = rng.integers(1, 4, 2) * np.where(rng.random() < 0.7, pools, 1)
    dilation = np.where(rng.random(2) < 0.3, rng.integers(1, 4, 2), 1)
    sizes = rng.integers(1, 9, 2)
    padding = np.maximum(rng.integers(0, 4, 2), -(-(dilation * (taps * pools - 1) + 1 - sizes) // 2))
    geometry = [tuple(int(each) for each in values) for values in (stride, padding, dilation)]
    return Kernel(weights.astype(np.int32), (blocks * block_inputs, *map(int, sizes)), *geometry, blocks)


def random_kernel_between(rng, source, target):
    for _ in range(100):
        kernel = random_kernel(rng, source, target[0])
        if kernel is not None and kernel.output_shape == target:
            return kernel
    return None


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


def random_reset(rng, group):
    """What a spike subtracts: the threshold, or anything that the register holds, or nothing."""
    anything = rng.choice([0, 1, 2**23 - 1, *rng.integers(0, 2**23, 3), *rng.integers(0, 2**17, 3)], group.neurons)
    return np.where(rng.random(group.neurons) < 0.6, group.vth << 6, anything).astype(np.int64)


def random_groups(rng, names, sizes, extreme):
    """Groups; extreme ones have large thresholds and little decay, so that currents wrap and potentials saturate."""
    largest_vth = 131_072 if extreme else 2000
    groups = [random_group(rng, name, size, largest_vth) for name, size in zip(names, sizes, strict=True)]
    if extreme:
        for group in groups:
            group.du[:] = rng.integers(-1, 30, group.neurons)
            group.dv[:] = rng.integers(0, 30, group.neurons)
    return groups


def random_program(rng, depth=None, steps=None, exponents=None, extreme=False, widest=40):
    """A chain of 1 to 3 layers of 1 to 40 neurons."""
    depth = depth or int(rng.integers(1, 4))
    exponents = exponents or random_exponents(rng, depth, extreme)
    sizes = [int(size) for size in rng.integers(1, widest + 1, depth + 1)]
    names = [f"layer {k}" for k in range(1, depth + 1)]
    groups = random_groups(rng, names, sizes[1:], extreme)
    connections = []
    for source, group, fan_in, exponent in zip([INPUT, *names[:-1]], groups, sizes[:-1], exponents, strict=True):
        density = rng.choice([0.0, 0.1, 0.5, 1.0], p=[0.05, 0.25, 0.4, 0.3])
        weights = random_weights(rng, group.neurons, fan_in, density)
        connections.append(Connection(source, group.name, weights, exponent, declared=fan_in * group.neurons))
    return Program("loihi2", sizes[0], steps or int(rng.integers(1, 13)), 1e-3, tuple(connections), tuple(groups))


def random_exponents(rng, depth, extreme):
    return [7 if extreme else int(rng.integers(-1, 4)) for _ in range(depth)]


def side_by_side(programs):
    """Join programs of one plan (groups, connections, exponents, steps) into one that runs them without mixing them."""
    first = programs[0]
    groups, connections = [], []
    for k, group in enumerate(first.groups):
        parts = [program.groups[k] for program in programs]
        arrays = {key: np.concatenate([getattr(part, key) for part in parts]) for key in GROUP_ARRAYS}
        subtracted = [part.reset_by for part in parts if part.reset_by is not None]
        reset_by = np.concatenate(subtracted) if subtracted else None
        groups.append(Group(group.name, **arrays, scale=1.0, reset_by=reset_by))
    for k, connection in enumerate(first.connections):
        joined = [program.connections[k] for program in programs]
        weights = sp.csr_matrix(sp.block_diag([each.matrix for each in joined], format="csr"))
        connections.append(replace(connection, weights=weights, declared=sum(each.declared for each in joined)))
    width = sum(program.input_size for program in programs)
    return replace(first, input_size=width, connections=tuple(connections), groups=tuple(groups))


def random_spikes(rng, program, samples, rate=0.3):
    """Spikes, or payloads where the program takes graded input."""
    shape = (samples, program.steps, program.input_size)
    spikes = rng.random(shape) < rate
    if program.input_bits == 1:
        return spikes.astype(np.uint8)
    return (spikes * rng.integers(0, 2**program.input_bits, shape)).astype(np.int32)
