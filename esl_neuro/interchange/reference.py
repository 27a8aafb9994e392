"""What a NIR graph does, in double precision: the standard that other programs are compared with.

Forward Euler, a spike when the potential is strictly above the threshold, then a hard reset; all state starts at zero;
what closes a cycle arrives a step later. Slow and plain on purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
from numpy.typing import ArrayLike, NDArray

from esl_neuro.errors import BadInput
from esl_neuro.interchange.graphs import NEURONS, flat, order
from esl_neuro.time_step import time_step

Floats = NDArray[np.float64]
Step = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Simulation:
    """What one run shows.

    Attributes
    ----------
    outputs : float64 array, shape (steps, batch, ...)
        What arrives at the output: spikes, or potentials of a readout that does not fire.
    spikes : dict of str to float64 array, shape (steps, batch, ...)
        Of each node that fires.
    potentials : dict of str to float64 array, shape (steps, batch, ...)
        Of each node that has them, before the reset: what was compared with the threshold.
    """

    outputs: Floats
    spikes: dict[str, Floats]
    potentials: dict[str, Floats]


def simulate(graph: nir.NIRGraph, inputs: ArrayLike, dt_s: float | None = None) -> Simulation:
    """Run a graph.

    Parameters
    ----------
    graph : nir.NIRGraph
        Any, nested or with cycles.
    inputs : array, shape (steps, batch, ...)
        What the input emits.
    dt_s : float, optional
        Time step in seconds; without it the graph's own.

    Raises
    ------
    BadInput
        If the graph has no time step, not exactly one input and output, or a node of a kind that is not known.
    """
    dt = time_step(graph, dt_s)
    graph = flat(graph)
    unknown = [f"'{name}' ({type(node).__name__})" for name, node in graph.nodes.items() if type(node) not in _KINDS]
    if unknown:
        raise BadInput(f"the reference knows no nodes {', '.join(unknown)}")
    run = _Run(graph, dt)
    outputs = run.all(np.asarray(inputs, dtype=np.float64))
    spikes = {name: values for name, values in run.signals.items() if isinstance(graph.nodes[name], NEURONS)}
    return Simulation(outputs, spikes, {name: np.stack(values) for name, values in run.potentials.items()})


def signal_shapes(graph: nir.NIRGraph, dt_s: float) -> dict[str, tuple[int, ...]]:
    """Return the shape of the output of each node of a flat graph, without steps and batch."""
    run = _Run(graph, dt_s)
    run.all(np.zeros((1, 1, *_input_shape(graph.nodes[run.order.input]))))
    return {name: signal.shape[2:] for name, signal in run.signals.items()}


def _input_shape(node: Any) -> tuple[int, ...]:
    (shape,) = node.input_type.values()
    return tuple(int(side) for side in shape)


class _Run:
    def __init__(self, graph: nir.NIRGraph, dt_s: float) -> None:
        self.graph, self.order = graph, order(graph)
        self.signals: dict[str, Floats] = {}
        self.potentials: dict[str, list[Floats]] = {}
        self.steps: dict[str, Step] = {}
        for name, node in graph.nodes.items():
            kind = _KINDS[type(node)]
            if isinstance(node, _STATEFUL):
                self.potentials[name] = []
                self.steps[name] = kind(node, dt_s, self.potentials[name])
            else:
                self.steps[name] = kind(node, dt_s)

    def all(self, inputs: Floats) -> Floats:
        for component in self.order.components:
            if len(component) > 1 or (component[0], component[0]) in self.order.delayed:
                self._cycle(component, len(inputs))
                continue
            (name,) = component
            signal = inputs if name == self.order.input else sum(self.signals[a] for a in self._sources(name))
            self.signals[name] = self._over_time(name, np.asarray(signal))
        return self.signals[self.order.output]

    def _sources(self, name: str) -> list[str]:
        return [source for source, target in self.graph.edges if target == name]

    def _over_time(self, name: str, signal: Floats) -> Floats:
        if isinstance(self.graph.nodes[name], (*_STATEFUL, nir.Delay)):
            return np.stack([self.steps[name](now) for now in signal])
        merged = self.steps[name](signal.reshape(-1, *signal.shape[2:]))
        return merged.reshape(*signal.shape[:2], *merged.shape[1:])

    def _cycle(self, component: tuple[str, ...], steps: int) -> None:
        history: dict[str, list[Floats]] = {name: [] for name in component}
        for step in range(steps):
            for name in component:
                arriving = [value for a in self._sources(name) for value in self._arriving(a, name, step, history)]
                history[name].append(self.steps[name](np.asarray(sum(arriving))))
        self.signals.update({name: np.stack(values) for name, values in history.items()})

    def _arriving(self, source: str, name: str, step: int, history: dict[str, list[Floats]]) -> list[Floats]:
        if source not in history:
            return [self.signals[source][step]]
        late = (source, name) in self.order.delayed
        return history[source][step - late : step - late + 1] if step >= late else []


# --- one step of each kind of node, on signals of shape (batch, ...) ---


def _pass_on(_node: Any, _dt_s: float) -> Step:
    return lambda signal: signal


def _affine(node: Any, _dt_s: float) -> Step:
    weight, bias = _array(node.weight), _array(getattr(node, "bias", 0.0))
    return lambda signal: signal @ weight.T + bias


def _scale(node: Any, _dt_s: float) -> Step:
    return lambda signal: signal * _array(node.scale)


def _flatten(node: Any, _dt_s: float) -> Step:
    def step(signal: Floats) -> Floats:
        dimensions = signal.ndim - 1  # without the batch, as NIR counts
        first, last = int(node.start_dim) % dimensions + 1, int(node.end_dim) % dimensions + 1
        return signal.reshape(*signal.shape[:first], -1, *signal.shape[last + 1 :])

    return step


def _conv(node: Any, _dt_s: float) -> Step:
    weight, bias, groups = _array(node.weight), _array(node.bias), int(node.groups)
    axes = weight.ndim - 2
    stride, dilation = _per_axis(node.stride, axes), _per_axis(node.dilation, axes)
    reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    padding = _padding(node.padding, reach)

    def step(signal: Floats) -> Floats:
        parts = []
        windows = _windows(signal, weight.shape[2:], stride, padding, dilation)
        for inputs, kernels in zip(np.split(windows, groups, axis=1), np.split(weight, groups), strict=True):
            inner = [1, *range(2 + axes, 2 + 2 * axes)]
            parts.append(np.moveaxis(np.tensordot(inputs, kernels, (inner, list(range(1, kernels.ndim)))), -1, 1))
        return np.asarray(np.concatenate(parts, axis=1) + bias.reshape(-1, *[1] * axes))

    return step


def _pool(node: Any, _dt_s: float) -> Step:
    kernel, stride = _per_axis(node.kernel_size, 2), _per_axis(node.stride, 2)
    padding = _padding(node.padding, [0, 0])
    divisor = np.prod(kernel) if isinstance(node, nir.AvgPool2d) else 1
    return lambda signal: np.asarray(_windows(signal, kernel, stride, padding, (1, 1)).sum((-2, -1)) / divisor)


def _windows(signal: Floats, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Floats:
    """View a signal as (batch, channels, *positions, *kernel)."""
    axes = tuple(range(2, signal.ndim))
    padded = np.pad(signal, [(0, 0), (0, 0), *padding])
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, tuple(spans), axes)  # type: ignore[call-overload]
    places = tuple(slice(None, None, s) for s in stride)
    taps = tuple(slice(None, None, d) for d in dilation)
    selection = (slice(None), slice(None), *places, *taps)
    view: Floats = windows[selection]
    return view


def _per_axis(value: Any, axes: int) -> tuple[int, ...]:
    return tuple(int(v) for v in np.broadcast_to(value, axes))


def _padding(padding: Any, reach: list[int]) -> list[tuple[int, int]]:
    if isinstance(padding, str):
        return [(r // 2, r - r // 2) if padding == "same" else (0, 0) for r in reach]
    return [(side, side) for side in _per_axis(padding, len(reach))]


def _delay(node: Any, dt_s: float) -> Step:
    steps, past = np.rint(_array(node.delay) / dt_s).astype(int), []

    def step(signal: Floats) -> Floats:
        past.append(signal)
        late = np.broadcast_to(steps, signal.shape[1:])
        delayed = np.zeros_like(signal)
        for lag in np.unique(late[late < len(past)]):
            delayed = np.where(late == lag, past[-1 - lag], delayed)
        return delayed

    return step


def _threshold(node: Any, _dt_s: float, potentials: list[Floats]) -> Step:
    def step(signal: Floats) -> Floats:
        potentials.append(signal)
        return np.asarray(signal > node.threshold, dtype=np.float64)

    return step


def _integrator(node: Any, dt_s: float, potentials: list[Floats]) -> Step:
    """``I``, ``IF``, ``LI``, ``LIF``: dv/dt = R I, or tau dv/dt = v_leak - v + R I."""
    r = _array(node.r)
    leak = dt_s / _array(node.tau) if hasattr(node, "tau") else np.zeros(())
    gain = leak * r if hasattr(node, "tau") else dt_s * r
    drive = leak * _array(getattr(node, "v_leak", 0.0))
    return _membrane(node, lambda signal, v: (1 - leak) * v + gain * signal + drive, potentials)


def _current_based(node: Any, dt_s: float, potentials: list[Floats]) -> Step:
    """``CubaLI``, ``CubaLIF``: an integrator behind tau_syn du/dt = -u + w_in S."""
    leak_syn, leak = dt_s / _array(node.tau_syn), dt_s / _array(node.tau_mem)
    current: list[Floats] = [np.zeros(())]

    def charge(signal: Floats, v: Floats) -> Floats:
        current[0] = (1 - leak_syn) * current[0] + leak_syn * _array(node.w_in) * signal
        return (1 - leak) * v + leak * (_array(node.v_leak) + _array(node.r) * current[0])

    return _membrane(node, charge, potentials)


def _membrane(node: Any, charge: Callable[[Floats, Floats], Floats], potentials: list[Floats]) -> Step:
    fires = hasattr(node, "v_threshold")
    reset = _array(node.v_reset) if fires and node.v_reset is not None else np.zeros(())
    state: list[Floats] = [np.zeros(())]

    def step(signal: Floats) -> Floats:
        v = charge(signal, state[0])
        potentials.append(v)
        if not fires:
            state[0] = v
            return v
        spikes = v > _array(node.v_threshold)
        state[0] = np.where(spikes, reset, v)
        return spikes.astype(np.float64)

    return step


def _array(value: Any) -> Floats:
    return np.asarray(value, dtype=np.float64)


_STATEFUL = (nir.I, nir.IF, nir.LI, nir.LIF, nir.CubaLI, nir.CubaLIF, nir.Threshold)
_KINDS: dict[type, Callable[..., Step]] = {
    nir.Input: _pass_on,
    nir.Output: _pass_on,
    nir.Affine: _affine,
    nir.Linear: _affine,
    nir.Scale: _scale,
    nir.Flatten: _flatten,
    nir.Conv1d: _conv,
    nir.Conv2d: _conv,
    nir.SumPool2d: _pool,
    nir.AvgPool2d: _pool,
    nir.Delay: _delay,
    nir.Threshold: _threshold,
    **dict.fromkeys((nir.I, nir.IF, nir.LI, nir.LIF), _integrator),
    **dict.fromkeys((nir.CubaLI, nir.CubaLIF), _current_based),
}
