"""Random NIR graphs of all node kinds: joins, residual paths, loops, delays, nested graphs."""

from __future__ import annotations

import math

import nir
import numpy as np

DT = 2.0**-10  # so that decays and gains can be exact


class Builder:
    """A graph that grows by one node at a time; ``ends`` are nodes that nothing reads yet."""

    def __init__(self, rng, shape):
        self.rng = rng
        self.nodes = {"input": nir.Input({"input": np.array(shape)})}
        self.edges = []
        self.shapes = {"input": tuple(shape)}
        self.loops = set()  # nodes on the way back of a loop

    def add(self, node, sources, shape, name=None):
        name = name or f"{type(node).__name__.lower()}{len(self.nodes)}"
        self.nodes[name] = node
        self.edges += [(str(source), name) for source in dict.fromkeys(sources)]
        self.shapes[name] = tuple(int(size) for size in shape)
        return name

    def ends(self):
        read = {source for source, target in self.edges if target not in self.loops}
        return [name for name in self.nodes if name not in read | self.loops]

    def values(self, shape, low, high):
        """Parameters: one for all, or one for each."""
        return self.rng.uniform(low, high, () if self.rng.random() < 0.2 else shape)

    def neurons(self, kind, shape):
        rng, size = self.rng, shape
        v_reset = rng.uniform(-0.3, 0.1, size) * (rng.random() < 0.5)
        tau, leak = DT * rng.uniform(1, 6, size), rng.normal(0, 0.2, size) * (rng.random() < 0.5)
        firing = {"v_threshold": rng.uniform(0.3, 1, size), "v_reset": v_reset}
        r = rng.uniform(0.5, 2, size)
        if rng.random() < 0.5:  # alike, so that kernels stay kernels
            r, tau = np.full(size, r.flat[0]), np.full(size, tau.flat[0])
        syn = {"tau_syn": DT * rng.choice([1.0, 2.5, 4.0], size), "tau_mem": tau, "w_in": rng.uniform(0.5, 2, size)}
        if kind is nir.Threshold:
            return nir.Threshold(rng.uniform(0.1, 0.8, shape))
        if kind in (nir.I, nir.IF):
            return kind(r=r / DT / 2, **(firing if kind is nir.IF else {}))
        if kind in (nir.LI, nir.LIF):
            return kind(tau=tau, r=r, v_leak=leak, **(firing if kind is nir.LIF else {}))
        return kind(r=r, v_leak=leak, **syn, **(firing if kind is nir.CubaLIF else {}))

    def linear(self, shape):
        """A random linear node that takes a shape, and what it gives."""
        rng, size = self.rng, math.prod(shape)
        kinds = ["scale", "delay"]
        kinds += ["affine", "linear"] if len(shape) == 1 else ["flatten"]
        kinds += ["conv1d"] if len(shape) == 2 else []
        kinds += ["conv2d", "conv2d", "pool", "pool"] if len(shape) == 3 else []
        kind = rng.choice(kinds)
        if kind == "scale":
            return nir.Scale(self.values(shape, -1, 2)), shape
        if kind == "delay":
            return nir.Delay(DT * rng.integers(0, 4, () if rng.random() < 0.5 else shape)), shape
        if kind in ("affine", "linear"):
            outputs = int(rng.integers(1, 6))
            weight = rng.normal(0.2, 1, (outputs, size)) * (rng.random((outputs, size)) < 0.7)
            if kind == "linear":
                return nir.Linear(weight), (outputs,)
            return nir.Affine(weight, rng.normal(0, 0.3, outputs)), (outputs,)
        if kind == "flatten":
            start = int(rng.integers(0, len(shape)))
            node = nir.Flatten({"input": np.array(shape)}, start, -1)
            return node, (*shape[:start], math.prod(shape[start:]))
        if kind == "pool":
            return self.pool(shape)
        return self.convolution(shape)

    def pool(self, shape):
        rng = self.rng
        window = tuple(int(min(size, rng.integers(1, 4))) for size in shape[1:])
        stride = window if rng.random() < 0.6 else tuple(int(rng.integers(1, 3)) for _ in window)
        padding = tuple(int(rng.integers(0, size // 2 + 1)) * int(rng.random() < 0.3) for size in window)
        node = (nir.AvgPool2d if rng.random() < 0.5 else nir.SumPool2d)(*map(np.array, (window, stride, padding)))
        return node, (shape[0], *reach(shape[1:], window, stride, padding, (1, 1)))

    def convolution(self, shape):
        rng, axes = self.rng, len(shape) - 1
        groups = int(rng.choice([each for each in (1, 2, 3) if shape[0] % each == 0]))
        outputs = groups * int(rng.integers(1, 3))
        same = rng.random() < 0.3
        dilation = tuple(int(rng.integers(1, 3)) for _ in range(axes))
        taps = tuple(
            int(min(rng.integers(1, 4), (size - 1) // step + 1)) for size, step in zip(shape[1:], dilation, strict=True)
        )
        stride = (1,) * axes if same else tuple(int(rng.integers(1, 3)) for _ in range(axes))
        padding = tuple(int(rng.integers(0, 3)) for _ in range(axes))
        weight = rng.normal(0.2, 1, (outputs, shape[0] // groups, *taps)) * (rng.random((outputs, 1, *taps)) < 0.8)
        bias = rng.normal(0, 0.2, outputs) * (rng.random() < 0.6)
        if axes == 1:
            how = (stride[0], "same" if same else padding[0], dilation[0])
            node = nir.Conv1d(None, weight, *how, groups, bias)
        else:
            node = nir.Conv2d(None, weight, stride, "same" if same else padding, dilation, groups, bias)
        after = shape[1:] if same else reach(shape[1:], taps, stride, padding, dilation)
        return node, (outputs, *after)

    def flat(self, name):
        """The node, or a Flatten behind it."""
        shape = self.shapes[name]
        if len(shape) == 1:
            return name
        return self.add(nir.Flatten({"input": np.array(shape)}, 0, -1), [name], (math.prod(shape),))


def reach(sizes, taps, stride, padding, dilation):
    every = zip(sizes, taps, stride, padding, dilation, strict=True)
    return tuple((size + 2 * pad - step * (tap - 1) - 1) // jump + 1 for size, tap, jump, pad, step in every)


def random_graph(rng):
    """A graph that compiles: everything reaches the output, loops have a step for each connection."""
    shape = tuple(int(size) for size in rng.integers(1, 7, rng.choice([1, 2, 3])))
    builder = Builder(rng, shape)
    for _ in range(int(rng.integers(1, 9))):
        source = str(rng.choice([name for name in builder.nodes if name not in builder.loops][-3:]))
        shape = builder.shapes[source]
        alike = [name for name in builder.nodes if builder.shapes[name] == shape and name not in builder.loops]
        sources = [source, *rng.choice(alike, int(rng.integers(0, 2)))]
        if rng.random() < 0.45:
            kind = [nir.LIF, nir.CubaLIF, nir.IF, nir.Threshold][rng.integers(4)]
            name = builder.add(builder.neurons(kind, shape), sources, shape)
            if rng.random() < 0.4:
                loop(builder, name)
        elif math.prod(shape) < 300:
            node, after = builder.linear(shape)
            builder.add(node, sources, after)
    return finish(builder)


def loop(builder, name):
    """Feed neurons back to themselves, through weights and perhaps a delay."""
    rng, shape = builder.rng, builder.shapes[name]
    if len(shape) > 1:
        node = nir.Scale(rng.normal(0, 1, shape))
    elif rng.random() < 0.5:
        node = nir.Affine(rng.normal(0, 1, (shape[0], shape[0])), rng.normal(0, 0.3, shape[0]))
    else:
        node = nir.Linear(rng.normal(0, 1, (shape[0], shape[0])))
    back = builder.add(node, [name], shape)
    builder.loops.add(back)
    if rng.random() < 0.3:
        back = builder.add(nir.Delay(np.array(DT * rng.integers(1, 4))), [back], shape)
        builder.loops.add(back)
    builder.edges.append((back, name))


def finish(builder):
    """Bring all ends together, with neurons or without, and close the graph."""
    rng, outputs = builder.rng, 3
    last = []
    for end in builder.ends():
        flat = builder.flat(end)
        weight = rng.normal(0.2, 1, (outputs, builder.shapes[flat][0]))
        last.append(builder.add(nir.Affine(weight, rng.normal(0, 0.2, outputs)), [flat], (outputs,)))
    kind = [None, nir.LIF, nir.CubaLIF, nir.LI, nir.CubaLI, nir.I][rng.integers(6)]
    if kind:
        last = [builder.add(builder.neurons(kind, (outputs,)), last, (outputs,))]
    builder.add(nir.Output({"output": np.array([outputs])}), last, (outputs,), name="output")
    return nir.NIRGraph(builder.nodes, builder.edges, metadata={"dt_s": DT}, type_check=False)


class Exact:
    """Random numbers of few bits: what a graph computes from them in a few steps has no rounding."""

    def __init__(self, rng):
        self.rng = rng

    def __getattr__(self, name):
        return getattr(self.rng, name)

    def normal(self, mean, spread, size):
        return np.rint(4 * self.rng.normal(mean, spread, size)) / 4

    def uniform(self, low, high, size):
        return np.rint(4 * self.rng.uniform(low, high, size)) / 4


class ExactBuilder(Builder):
    """A graph whose numbers are exact, and so are ties of potential and threshold."""

    def __init__(self, rng, shape):
        super().__init__(Exact(rng), shape)

    def neurons(self, kind, shape):
        rng = self.rng
        firing = {"v_threshold": rng.choice([0.5, 0.75, 1.0, 1.5], shape), "v_reset": np.zeros(shape)}
        if rng.random() < 0.5:
            firing["v_reset"] = rng.choice([-1.0, -0.25, 0.0, 0.25], shape)
        steps = rng.choice([1.0, 2.0] if kind in (nir.CubaLI, nir.CubaLIF) else [1.0, 2.0, 4.0], shape)
        r, leak = rng.choice([0.5, 1.0, 2.0], shape), rng.choice([-0.5, 0.0, 0.25], shape) * (rng.random() < 0.5)
        fires = firing if kind in (nir.IF, nir.LIF, nir.CubaLIF) else {}
        if kind is nir.Threshold:
            return nir.Threshold(firing["v_threshold"])
        if kind in (nir.I, nir.IF):
            return kind(r=r / DT / 2, **fires)
        if kind in (nir.LI, nir.LIF):
            return kind(tau=DT * steps, r=r, v_leak=leak, **fires)
        syn = DT * rng.choice([1.0, 2.0], shape)
        return kind(tau_syn=syn, tau_mem=DT * steps, r=r, v_leak=leak, w_in=rng.choice([1.0, 2.0], shape), **fires)

    def pool(self, shape):
        window = tuple(int(min(size, self.rng.integers(1, 3))) for size in shape[1:])
        stride = tuple(int(self.rng.integers(1, 3)) for _ in window)
        node = (nir.AvgPool2d if self.rng.random() < 0.5 else nir.SumPool2d)(*map(np.array, (window, stride, (0, 0))))
        return node, (shape[0], *reach(shape[1:], window, stride, (0, 0), (1, 1)))


KINDS = ("chain", "delays", "loops", "nested", "filters", "everything")


def random_exact_graph(rng, kind="everything"):
    """A graph of a kind, with exact numbers, that compiles."""
    likely = lambda *kinds: 0.6 if kind in kinds else 0.15 if kind == "everything" else 0.0  # noqa: E731
    shape = tuple(int(size) for size in rng.integers(1, 6, rng.choice([1, 1, 2, 3])))
    builder, own = ExactBuilder(rng, shape), {}
    for _ in range(int(rng.integers(2, 8))):
        forward = [name for name in builder.nodes if name not in builder.loops]
        source = str(rng.choice(forward[-3:]))
        shape = builder.shapes[source]
        alike = [name for name in forward if builder.shapes[name] == shape]
        sources = [source, *map(str, rng.choice(alike, int(rng.integers(0, 3))))]
        if rng.random() < likely("delays"):
            sources = [wait(builder, each, shape) for each in dict.fromkeys(sources)]
        if rng.random() < 0.5:
            if rng.random() < likely("filters"):
                ahead = nir.LI(DT * rng.choice([1.0, 2.0], shape), rng.choice([0.5, 1.0], shape), np.zeros(shape))
                sources = [builder.add(ahead, sources, shape)]
                builder.loops.add(sources[0])  # nothing else may hear it
                neurons = nir.LIF
            else:
                neurons = [nir.LIF, nir.CubaLIF, nir.IF, nir.Threshold][rng.integers(4)]
            name = builder.add(builder.neurons(neurons, shape), sources, shape)
            own[name] = []
            if neurons is not nir.LIF or not isinstance(builder.nodes[sources[0]], nir.LI):
                while rng.random() < likely("loops", "nested"):
                    own[name] += way_back(builder, name)
        elif math.prod(shape) < 200:
            node, after = builder.linear(shape)
            builder.add(node, sources, after)
    graph = finish(builder)
    return nest(rng, graph, own, builder) if rng.random() < 1.4 * likely("nested") else graph


def wait(builder, source, shape):
    steps = builder.rng.integers(0, 4, shape) if builder.rng.random() < 0.5 else builder.rng.integers(0, 30)
    return builder.add(nir.Delay(DT * np.asarray(steps, dtype=float)), [source], shape)


def way_back(builder, name):
    """Lead neurons back to themselves through a weight and a bias, a Delay for some or all, in any order."""
    rng, shape = builder.rng, builder.shapes[name]
    size, nodes = math.prod(shape), []
    if len(shape) == 1:
        bias = rng.normal(0, 0.5, size) * (rng.random() < 0.5)
        nodes.append(nir.Affine(rng.normal(0, 0.5, (size, size)), bias))
    else:
        nodes.append(nir.Scale(rng.normal(0, 0.5, shape)))
    if rng.random() < 0.7:
        nodes.append(nir.Delay(DT * (rng.integers(0, 4, shape) if rng.random() < 0.5 else rng.integers(0, 5)) * 1.0))
        nodes = nodes[:: int(rng.choice([-1, 1]))]
    added = []
    for node in nodes:
        added.append(builder.add(node, [added[-1] if added else name], shape))
        builder.loops.add(added[-1])
    builder.edges.append((added[-1], name))
    return added


def nest(rng, graph, own, builder):
    """Put nodes, neurons with their loops, into graphs of their own, once or twice; a signal may pass beside them."""
    nodes, edges = dict(graph.nodes), list(graph.edges)
    for name in [name for name in nodes if name not in ("input", "output") and name not in builder.loops]:
        if rng.random() < 0.5:
            inside = [name, *own.get(name, ())]
            within = [edge for edge in edges if edge[0] in inside and edge[1] in inside]
            inner = boxed({each: nodes[each] for each in inside}, name, within, builder.shapes[name])
            for each in inside:
                del nodes[each]
            edges = [edge for edge in edges if edge not in within]
            nodes[name] = boxed({name: inner}, name, [], builder.shapes[name]) if rng.random() < 0.3 else inner
    return nir.NIRGraph(nodes, edges, metadata={"dt_s": DT}, type_check=False)


def boxed(nodes, name, edges, shape):
    ends = {"input": nir.Input({"input": None}), "output": nir.Output({"output": np.array(shape)})}
    edges = [("input", name), *edges, (name, "output")]
    return nir.NIRGraph({**ends, **nodes}, edges, metadata={}, type_check=False)
