"""What a NIR graph means, computed node by node and step by step from the equations, without the compiler."""

from __future__ import annotations

import nir
import numpy as np
import torch
from torch.nn import functional

FIRING = (nir.LIF, nir.CubaLIF, nir.IF, nir.Threshold)
SILENT = (nir.LI, nir.CubaLI, nir.I)


def unpack(graph, prefix=""):
    """Nodes and edges of a graph and of the graphs in it."""
    nodes, edges, enter, leave = {}, [], {}, {}
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            inner_nodes, inner_edges = unpack(node, f"{prefix}{name}.")
            nodes.update(inner_nodes)
            edges += inner_edges
            enter[name], leave[name] = (
                next(f"{name}.{key}" for key, inner in node.nodes.items() if isinstance(inner, kind))
                for kind in (nir.Input, nir.Output)
            )
        else:
            nodes[prefix + name] = node
    for source, target in graph.edges:
        edges.append((prefix + leave.get(source, source), prefix + enter.get(target, target)))
    return nodes, edges


def closing(nodes, edges, waiting):
    """Edges that close a loop in which nothing else is late."""
    found, done, path, later = set(), set(), [], []

    def walk(name):
        path.append(name)
        for source, target in edges:
            if source != name:
                continue
            if name in waiting:
                later.append(target)
            elif target in path:
                found.add((source, target))
            elif target not in done:
                walk(target)
        path.pop()
        done.add(name)

    walk(next(name for name, node in nodes.items() if isinstance(node, nir.Input) and "." not in name))
    while later:
        name = later.pop(0)
        if name not in done:
            walk(name)
    return found


def delays(nodes, edges, dt):
    """Steps of each Delay node; in a loop that they can hold, elements without delay take one."""
    steps = {
        name: np.rint(np.asarray(node.delay) / dt).astype(int)
        for name, node in nodes.items()
        if isinstance(node, nir.Delay)
    }
    always = {name for name, values in steps.items() if np.min(values) > 0}

    def leads_back(start):
        seen, waiting = set(), [start]
        while waiting:
            name = waiting.pop()
            for source, target in edges:
                if source == name and name not in always:
                    if target == start:
                        return True
                    if target not in seen:
                        seen.add(target)
                        waiting.append(target)
        return False

    for name, values in steps.items():
        if name not in always and np.max(values) > 0 and leads_back(name):
            steps[name] = np.maximum(values, 1)
    return steps


def tensor(value):
    return torch.from_numpy(np.asarray(value, dtype=np.float64))


def numbers(value):
    return value if isinstance(value, str) else tuple(int(number) for number in np.ravel(value))


def linear(node, x):
    """One linear node, without its delay."""
    if isinstance(node, nir.Linear | nir.Affine):
        return node.weight @ x.ravel() + getattr(node, "bias", 0)
    if isinstance(node, nir.Scale):
        return x * node.scale
    if isinstance(node, nir.Flatten):
        return torch.flatten(tensor(x), node.start_dim, node.end_dim).numpy()
    if isinstance(node, nir.Conv1d | nir.Conv2d):
        convolve = functional.conv1d if isinstance(node, nir.Conv1d) else functional.conv2d
        how = {name: numbers(getattr(node, name)) for name in ("stride", "padding", "dilation")}
        result = convolve(tensor(x)[None], tensor(node.weight), tensor(node.bias), groups=int(node.groups), **how)
        return result[0].numpy()
    if isinstance(node, nir.SumPool2d | nir.AvgPool2d):
        kernel, stride, padding = (numbers(getattr(node, name)) for name in ("kernel_size", "stride", "padding"))
        mean = functional.avg_pool2d(tensor(x)[None], kernel, stride, padding)[0].numpy()
        return mean * (kernel[0] * kernel[1] if isinstance(node, nir.SumPool2d) else 1)
    return x  # markers, and what is late


class Neurons:
    """State of one neuron node."""

    def __init__(self, node, dt):
        self.node, self.dt = node, dt
        self.i = 0.0
        self.v = getattr(node, "v_reset", 0.0)

    def step(self, x):
        """Potential before the reset, and spikes."""
        node, dt, kind = self.node, self.dt, type(self.node)
        if kind is nir.Threshold:
            return x, (x > node.threshold).astype(float)
        if kind in (nir.IF, nir.I):
            v = self.v + dt * node.r * x
        elif kind in (nir.LIF, nir.LI):
            v = self.v + dt / node.tau * (node.v_leak - self.v + node.r * x)
        else:
            self.i = self.i + dt / node.tau_syn * (node.w_in * x - self.i)
            v = self.v + dt / node.tau_mem * (node.v_leak - self.v + node.r * self.i)
        fired = np.zeros_like(v) if kind in SILENT else (v > node.v_threshold).astype(float)
        self.v = np.where(fired > 0, getattr(node, "v_reset", 0.0), v)
        return v, fired


def simulate_nir(graph, dt, inputs):
    """Potential before the reset and spikes of each neuron node, (steps, neurons), and what the output gets.

    ``inputs`` has shape (steps, input lines).
    """
    nodes, edges = unpack(graph)
    waits = delays(nodes, edges, dt)
    late = closing(nodes, edges, {name for name, steps in waits.items() if np.min(steps) > 0})
    shape = next(
        node.input_type["input"] for name, node in nodes.items() if isinstance(node, nir.Input) and "." not in name
    )
    states = {name: Neurons(node, dt) for name, node in nodes.items() if isinstance(node, FIRING + SILENT)}
    potentials = {name: [] for name in states}
    known = {}

    def arriving(name, step):
        parts = [value(source, step - ((source, name) in late)) for source, target in edges if target == name]
        return sum(np.asarray(part) for part in parts)

    def value(name, step):
        step = max(step, -1)  # before the first step it has always been silent
        if (name, step) not in known:
            known[name, step] = compute(name, step)
        return known[name, step]

    def compute(name, step):
        node = nodes[name]
        if isinstance(node, nir.Input) and "." not in name:
            return np.zeros(shape) if step < 0 else inputs[step].reshape(shape)
        if name in states:
            if step < 0:
                return np.zeros(np.broadcast_shapes(*(np.shape(v) for v in parameters(node))))
            value(name, step - 1)
            charged, fired = states[name].step(arriving(name, step))
            potentials[name].append(charged)
            return charged if isinstance(node, SILENT) else fired
        if isinstance(node, nir.Delay):
            result = np.array(arriving(name, -1))  # for its shape
            steps = np.broadcast_to(waits[name], result.shape)
            for delay in np.unique(steps):
                result[steps == delay] = np.asarray(arriving(name, step - delay))[steps == delay]
            return result
        return linear(node, arriving(name, step))

    end = next(name for name, node in nodes.items() if isinstance(node, nir.Output) and "." not in name)
    output = [np.ravel(value(end, step)) for step in range(len(inputs))]
    spikes = {
        name: np.array([np.ravel(value(name, step)) for step in range(len(inputs))])
        for name in states
        if isinstance(nodes[name], FIRING)
    }
    for name in states:
        value(name, len(inputs) - 1)
    return {name: np.array([np.ravel(v) for v in rows]) for name, rows in potentials.items()}, spikes, np.array(output)


def parameters(node):
    return [value for value in vars(node).values() if isinstance(value, np.ndarray)]
