"""Record a torch network and its spikes as plain arrays, whichever way its weights are masked.

The rooms that count and price do not depend on torch, so this room converts. It records the torch operations with their
actual weights. Zeros written into the weight, ``torch.nn.utils.prune``, ``torch.nn.utils.parametrize``, a layer that
masks in its ``forward`` and a custom module therefore give the same arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from esl_neuro.errors import BadInput
from esl_neuro.recording import RecordedLayer
from esl_neuro.snn.neurons import LIF, CubaLIF

INPUT = "input"
WEIGHTED = ("linear", "conv1d", "conv2d")
# Operations with weights that cannot be counted. Ordinary arithmetic of neurons is not among them.
REFUSED = frozenset(
    (
        *("matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "addmm", "addmv", "baddbmm", "einsum", "tensordot"),
        *("bilinear", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "conv_tbc"),
        *("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
        *("embedding", "embedding_bag", "scaled_dot_product_attention", "multi_head_attention_forward"),
    )
)


@dataclass
class _Calls:
    """The calls of one weighted operation: inputs, weights, and the output of its neurons."""

    operation: str
    weight: Tensor
    options: dict[str, Any]
    biased: bool
    bias: Tensor | None
    inputs: list[Tensor] = field(default_factory=list)
    output_shape: tuple[int, ...] = ()
    emitted: list[Tensor] = field(default_factory=list)
    states: int = 1


def record(
    network: nn.Module,
    inputs: Tensor,
    *,
    signals: Mapping[str, str] | None = None,
    neurons: tuple[type[nn.Module], ...] = (LIF,),
    run: Callable[[nn.Module, Tensor], object] | None = None,
) -> list[RecordedLayer]:
    """Run a network and record every weighted layer.

    Parameters
    ----------
    network : nn.Module
        Any network of linear layers and one- or two-dimensional convolutions, masked in any way.
    inputs : Tensor, shape (steps, batch, ...)
        Input of the network.
    signals : mapping of str to str, optional
        Kind of the input of a layer, by the name of the layer: ``"spike"`` (default), ``"graded"`` or ``"analog"``.
    neurons : tuple of types
        Modules whose outputs are spikes (the output, or the first of a tuple of outputs).
    run : callable, optional
        ``run(network, inputs)``, if a plain call is not enough, for example a loop over the steps.

    Returns
    -------
    list of RecordedLayer
        In order of the first call. A layer that processes a constant input once is counted once, in the first step.

    Raises
    ------
    BadInput
        If the network multiplies by weights in a way that cannot be counted, a layer with weights was not used, or the
        calls of a layer do not add up to steps and batch.
    """
    steps, batch = int(inputs.shape[0]), int(inputs.shape[1])
    recorder = _Recorder(neurons)
    hooks = recorder.watch(network)
    try:
        with torch.no_grad(), recorder:
            (run or _call)(network, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    _refuse_silent(network, recorder)
    kinds = dict(signals or {})
    unknown = sorted(set(kinds) - set(recorder.calls))
    if unknown:
        raise BadInput(f"signals: {unknown} are not weighted layers; allowed: {', '.join(recorder.calls)}")
    layers, source = [], INPUT
    for name, calls in recorder.calls.items():
        layers.append(_layer(name, source, kinds.get(name, "spike"), calls, steps, batch))
        source = name
    return layers


def _call(network: nn.Module, inputs: Tensor) -> object:
    return network(inputs)


class _Recorder(TorchFunctionMode):  # type: ignore[misc,unused-ignore]
    """Intercepts every torch function, with the module that calls it."""

    def __init__(self, neurons: tuple[type[nn.Module], ...]) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        self.neurons = neurons
        self.calls: dict[str, _Calls] = {}
        self.used: set[str] = set()
        self._stack: list[tuple[str, int]] = []
        self._last: _Calls | None = None

    def watch(self, network: nn.Module) -> list[torch.utils.hooks.RemovableHandle]:
        """Track which module is running."""
        hooks = []
        for name, module in network.named_modules():
            if "parametrizations" in name.split("."):
                continue
            hooks.append(module.register_forward_pre_hook(self._enter(name)))
            hooks.append(module.register_forward_hook(self._leave))
        return hooks

    def _enter(self, name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            self._stack.append((name, 0))

        return hook

    def _leave(self, module: nn.Module, _inputs: object, output: object) -> None:
        self._stack.pop()
        if isinstance(module, self.neurons) and self._last is not None:
            spikes = output[0] if isinstance(output, tuple) else output
            assert isinstance(spikes, Tensor)
            self._last.emitted.append(spikes.detach())
            if isinstance(module, CubaLIF):
                self._last.states = 2

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the function, and record it if it uses weights."""
        options = kwargs or {}
        name = getattr(function, "__name__", "")
        if name in REFUSED:
            raise BadInput(
                f"layer '{self._where()}': '{name}' cannot be counted; countable: {', '.join(WEIGHTED)} of "
                "torch.nn.functional"
            )
        output = function(*args, **options)
        if name in WEIGHTED:
            self._keep(name, args, options, output)
        return output

    def _where(self) -> str:
        return self._stack[-1][0] if self._stack else ""

    def _keep(self, operation: str, args: tuple[Any, ...], options: dict[str, Any], output: Tensor) -> None:
        names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
        given = dict(zip(names, args, strict=False)) | options
        module, index = self._stack[-1] if self._stack else ("", 0)
        if self._stack:
            self._stack[-1] = (module, index + 1)
        name = module if index == 0 else f"{module}#{index + 1}"
        self.used.add(module)
        bias = given.get("bias")
        weight = given["weight"].detach()
        calls = self.calls.get(name)
        if calls is None:
            shape = {key: given[key] for key in names[3:] if key in given}
            calls = self.calls[name] = _Calls(operation, weight.clone(), shape, bias is not None, bias)
        elif not torch.equal(calls.weight, weight):
            raise BadInput(f"layer '{name}': its weights change during the run, so its operations cannot be counted")
        calls.inputs.append(given["input"].detach())
        calls.output_shape = tuple(output.shape)
        self._last = calls


def _refuse_silent(network: nn.Module, recorder: _Recorder) -> None:
    """Reject a layer with weights but without a countable operation."""
    for name, module in network.named_modules():
        parts = name.split(".")
        own = dict(module.named_parameters(recurse=False))
        if "parametrizations" in parts or isinstance(module, recorder.neurons) or name in recorder.used:
            continue
        matrices = [key for key, value in own.items() if "weight" in key and value.ndim >= 2]
        if matrices:
            raise BadInput(
                f"layer '{name}' ({type(module).__name__}) has the weights {matrices}, but no countable operation "
                f"used them; countable: {', '.join(WEIGHTED)} of torch.nn.functional"
            )


def _layer(name: str, source: str, signal: str, calls: _Calls, steps: int, batch: int) -> RecordedLayer:
    geometry = _linear if calls.operation == "linear" else _convolution
    arriving, fan_out, fan_out_dense, touched, neurons = geometry(calls)
    emitted = torch.cat([spikes.reshape(-1, neurons) for spikes in calls.emitted]) if calls.emitted else None
    bias = calls.bias
    per_channel = neurons // len(bias) if bias is not None else 0
    return RecordedLayer(
        name=name,
        source=source,
        signal=signal,
        inputs=int(arriving.shape[1]),
        neurons=neurons,
        declared=int(fan_out_dense.sum()),
        stored=int(fan_out.sum()),
        weights=int(torch.count_nonzero(calls.weight)),
        arriving=_in_order(name, _numpy(arriving), steps, batch),
        fan_out=_numpy(fan_out).astype(np.int64),
        fan_out_dense=_numpy(fan_out_dense).astype(np.int64),
        touched=_in_order(name, _numpy(touched).astype(np.int64), steps, batch),
        emitted=np.zeros((batch, steps), dtype=np.int64)
        if emitted is None
        else _in_order(name, _numpy((emitted != 0).sum(1)).astype(np.int64), steps, batch),
        biased=0 if bias is None else int(torch.count_nonzero(bias)) * per_channel,
        states=calls.states * neurons,
    )


def _in_order(name: str, rows: NDArray[Any], steps: int, batch: int) -> NDArray[Any]:
    """Reshape rows in the order (step, sample) to (samples, steps, ...); a single pass goes to the first step."""
    if len(rows) == batch != steps * batch:
        once = np.zeros((batch, steps, *rows.shape[1:]), dtype=rows.dtype)
        once[:, 0] = rows
        return once
    if len(rows) != steps * batch:
        raise BadInput(
            f"layer '{name}' received {len(rows)} rows, expected {steps} steps x {batch} samples; layers that "
            "are used twice in a step are not supported"
        )
    return rows.reshape(steps, batch, *rows.shape[1:]).swapaxes(0, 1)


Geometry = tuple[Tensor, Tensor, Tensor, Tensor, int]


def _linear(calls: _Calls) -> Geometry:
    weight = calls.weight
    rows = torch.cat([signal.reshape(-1, weight.shape[1]) for signal in calls.inputs])
    pattern = (weight != 0).to(torch.float64)
    reached = ((rows != 0).to(torch.float64) @ pattern.T > 0).sum(1)
    dense = torch.full((weight.shape[1],), weight.shape[0], dtype=torch.int64)
    return rows, pattern.sum(0), dense, reached, int(weight.shape[0])


def _convolution(calls: _Calls) -> Geometry:
    """Count the fan-out of every position; positions at the border have fewer targets."""
    if isinstance(calls.options.get("padding"), str):
        raise BadInput(f"convolutions with padding '{calls.options['padding']}' cannot be counted; give a number")
    spatial = calls.weight.ndim - 2
    convolve = nn.functional.conv1d if spatial == 1 else nn.functional.conv2d
    transpose: Any = nn.functional.conv_transpose1d if spatial == 1 else nn.functional.conv_transpose2d
    images = torch.cat([signal.reshape(-1, *signal.shape[-spatial - 1 :]) for signal in calls.inputs])
    positions = calls.output_shape[-spatial:]
    pattern = (calls.weight != 0).to(torch.float64)
    wide = _wide(calls.options, spatial)
    ones = torch.ones(1, len(pattern), *positions, dtype=torch.float64)

    def fan(kernel: Tensor) -> Tensor:
        full: Tensor = transpose(
            ones, kernel, stride=wide["stride"], dilation=wide["dilation"], groups=calls.options.get("groups", 1)
        )
        for axis, (size, padding) in enumerate(zip(images.shape[-spatial:], wide["padding"], strict=True), -spatial):
            # No padding on the left; on the right, positions that no kernel reaches get a fan-out of zero.
            missing = max(0, padding + size - full.shape[axis])
            full = nn.functional.pad(full, [0] * (2 * (-axis - 1)) + [0, missing]).narrow(axis, padding, size)
        return full.flatten()

    events = (images != 0).to(torch.float64)
    reached = (convolve(events, pattern, None, **calls.options) > 0).flatten(1).sum(1)
    neurons = len(pattern) * int(np.prod(positions))
    return images.flatten(1), fan(pattern), fan(torch.ones_like(pattern)), reached, neurons


def _wide(options: Mapping[str, Any], spatial: int) -> dict[str, tuple[int, ...]]:
    """Return stride, padding and dilation with one number per direction."""
    given = {
        "stride": options.get("stride", 1),
        "padding": options.get("padding", 0),
        "dilation": options.get("dilation", 1),
    }
    return {
        key: (value,) * spatial if isinstance(value, int) else tuple(value) * (spatial // len(tuple(value)))
        for key, value in given.items()
    }


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return np.asarray(tensor.detach().cpu().numpy())
