"""Write a program as a ``.net`` file (HDF5) for the loader of lava-dl 0.6.0, ``lava.lib.dl.netx.hdf5.Network``.

A ``.net`` file is a chain of layers: dense, optionally with an input delay, dense with a recurrent connection of one
step, convolution. Its neurons reset to zero. It has no exponents for weights and biases, and the loader shifts, clips
and truncates what it reads. So a program that would not reach Lava unchanged is rejected, with all findings at once.

Different thresholds are written as an array: Lava's simulator supports them, but a core of a chip has one threshold per
population. To get one threshold per layer, fold the thresholds into the weights before compilation.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from esl_neuro.backends.lava_conv import conv_computes
from esl_neuro.backends.validate import validate
from esl_neuro.compiler.program import INPUT, Connection, Group, IntArray, Program
from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.findings import Finding
from esl_neuro.nirgraph.kernel import Kernel
from esl_neuro.storage import write

# Exponent that the loader uses for every bias.
BIAS_EXP = 6
LARGEST_BIAS_MANT = 4095
LARGEST_WEIGHT = 254
# A matrix is written with its zeros, and the loader converts them to 64-bit integers.
DENSE_ENTRIES = 2**27
# The loader truncates longer delays. With any delay, Lava's DelayDense makes a matrix for every possible delay.
LONGEST_DELAY = 62

Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Layer:
    """A layer of the file.

    Attributes
    ----------
    group : Group
        Neurons of the layer.
    weights : csr_matrix or Kernel
        Weights from the previous layer, multiplied by ``2**weight_exp``.
    delay : int
        Delay of the spikes from the previous layer, in steps.
    recurrent : csr_matrix or None
        Recurrent weights, with a delay of one step.
    shape : tuple of int
        (neurons,), or (channels, rows, columns) of a convolution.
    """

    group: Group
    weights: sp.csr_matrix | Kernel
    delay: int
    recurrent: sp.csr_matrix | None
    shape: Shape

    @property
    def parts(self) -> list[sp.csr_matrix | Kernel]:
        """Weights, and recurrent weights if there are any."""
        return [self.weights] if self.recurrent is None else [self.weights, self.recurrent]

    @property
    def entries(self) -> int:
        """Number of weights, including zeros."""
        return sum(math.prod(part.shape) for part in self.parts)


def write_netx(program: Program, path: Path) -> None:
    """Write a program as a ``.net`` file; an existing file is replaced, even while a loader has it open.

    Parameters
    ----------
    program : Program
        A chain of layers, with or without recurrent connections of delay 1 or input delays.
    path : Path
        File to write.

    Raises
    ------
    BadInput
        If the program is invalid, or the loader would change it; the message lists all findings.
    """
    validate(program)
    findings = netx_findings(program)
    if findings:
        raise BadInput("the program cannot be written as a .net file: " + "; ".join(map(str, findings)))
    import h5py

    layers = _layers(program)
    content = io.BytesIO()  # on a full disk, HDF5 would end the process
    with h5py.File(content, "w") as file:
        root = file.create_group("layer")
        _write_input(root.create_group("0"), program, layers[0])
        before: Shape = ()
        for layer in layers:
            if len(before) > len(layer.shape):
                flatten = root.create_group(str(len(root)))
                flatten["type"] = _text("flatten")
                flatten["shape"] = np.array([math.prod(before)])
            _write_layer(root.create_group(str(len(root))), layer)
            before = layer.shape
    write(path, content.getvalue())


def netx_findings(program: Program) -> list[Finding]:
    """Return everything that prevents a program from being written as a ``.net`` file."""
    findings = [*_structure_findings(program)]
    if findings:
        return findings
    layers = _layers(program)
    last = _last_layer_with_late_targets(layers)
    for index, layer in enumerate(layers):
        findings += _weight_findings(program, layer)
        findings += _bias_findings(layer, late_targets=index <= last)
    return findings


def _last_layer_with_late_targets(layers: list[_Layer]) -> int:
    """Return the index of the last layer whose spikes arrive later than in the next step, -1 if there is none."""
    loops = [index for index, layer in enumerate(layers) if layer.recurrent is not None]
    return max([-1, *loops, *(index - 1 for index, layer in enumerate(layers) if layer.delay)])


def _structure_findings(program: Program) -> Iterator[Finding]:
    other = "use --format lava-script, which writes any network"
    if program.input_bits > 1:
        yield Finding(
            "graded-input",
            INPUT,
            f"the file does not support payloads of {program.input_bits} bits; encode as 0/1 spikes, or {other}",
        )
    if program.readout != "spikes":
        yield Finding(
            "potential-readout",
            program.output.name,
            f"the readout is '{program.readout}', the file supports 'spikes' only; use a spiking output, or {other}",
        )
    for group in program.groups:
        if group.reset_by is not None:
            yield Finding(
                "soft-reset",
                group.name,
                f"resets by subtraction, lava-dl's neurons reset to zero only; train with a reset to zero, or {other}",
            )
    before = INPUT
    for group in program.groups:
        forward = [each for each in program.incoming(group.name) if each.source != group.name]
        loops = [each for each in program.incoming(group.name) if each.source == group.name]
        if {each.source for each in forward} != {before}:
            sources = ", ".join(f"'{source}'" for source in dict.fromkeys(each.source for each in forward))
            sources = sources or "only itself"
            yield Finding(
                "several-sources",
                group.name,
                f"is fed by {sources}; in the file it can be fed by '{before}' only; {other}",
            )
        elif len(forward) > 1:
            yield Finding(
                "several-delays",
                group.name,
                f"spikes from '{before}' have {len(forward)} delays, the file supports one; {other}",
            )
        for each in forward:
            if each.delay > LONGEST_DELAY or (each.delay and loops):
                limit = "none into a recurrent layer" if loops else f"at most {LONGEST_DELAY}"
                yield Finding(
                    "delay",
                    group.name,
                    f"spikes from '{each.source}' have a delay of {each.delay}, the file supports {limit}; {other}",
                )
        if len(loops) > 1 or any(each.delay != 1 for each in loops):
            delays = ", ".join(str(each.delay) for each in loops)
            yield Finding(
                "loop",
                group.name,
                f"loops of delay {delays}; the file supports one loop per layer, of delay 1; {other}",
            )
        before = group.name
    # A connection back to an earlier group is a second source of that group, and is reported there.


def _layers(program: Program) -> list[_Layer]:
    layers: list[_Layer] = []
    image: Shape | None = None  # of the previous layer; None: given by the kernel
    for group in program.groups:
        parts = {each.source == group.name: each for each in program.incoming(group.name)}
        forward, loop = parts[False], parts.get(True)
        kernel = forward.weights
        late = forward.delay > 0 or loop is not None
        follows = isinstance(kernel, Kernel) and not late and image in (None, kernel.input_shape)
        if isinstance(kernel, Kernel) and follows and conv_computes(kernel, forward.weight_exp):
            layer = _Layer(group, _scaled_kernel(kernel, forward.weight_exp), 0, None, kernel.output_shape)
        else:
            recurrent = None if loop is None else _scaled_matrix(loop)
            layer = _Layer(group, _scaled_matrix(forward), forward.delay, recurrent, (group.neurons,))
        layers.append(layer)
        image = layer.shape
    return layers


def _scaled_matrix(connection: Connection) -> sp.csr_matrix:
    matrix = connection.matrix.astype(np.float64) * 2.0**connection.weight_exp
    matrix.eliminate_zeros()
    return matrix


def _scaled_kernel(kernel: Kernel, weight_exp: int) -> Kernel:
    weights: Any = kernel.weights * 2.0**weight_exp
    return Kernel(weights, kernel.input_shape, kernel.stride, kernel.padding, kernel.dilation, kernel.groups)


def _weight_findings(program: Program, layer: _Layer) -> Iterator[Finding]:
    """Find weights that the file or its loader does not support."""
    stored = [part.weights.ravel() if isinstance(part, Kernel) else part.data for part in layer.parts]
    values = np.concatenate(stored)
    fractional = [*_fractional_weights(program, layer, values)]
    if fractional:
        yield from fractional
    elif isinstance(layer.weights, Kernel):
        yield from _odd_kernel(layer, values)
    else:
        yield from _matrix_size(layer)
        if values.any():
            yield from _loaded_weights(layer, stored)
        else:
            yield Finding(
                "no-weights-left",
                layer.group.name,
                "has no synapse left, and the loader fails on a matrix of zeros; keep one synapse, or use lava-script",
            )


def _fractional_weights(program: Program, layer: _Layer, values: NDArray[Any]) -> Iterator[Finding]:
    exponents = ", ".join(str(each.weight_exp) for each in program.incoming(layer.group.name))
    wrong = values[(values != np.round(values)) | (np.abs(values) > LARGEST_WEIGHT)]
    if wrong.size:
        yield Finding(
            "fractional-weights",
            layer.group.name,
            f"with its exponent ({exponents}) a weight is {wrong[0]:g}, the file holds integers from {-LARGEST_WEIGHT} "
            f"to {LARGEST_WEIGHT} ({wrong.size} of {values.size} weights); quantise the layer to weight_exp 0",
        )


def _odd_kernel(layer: _Layer, values: NDArray[Any]) -> Iterator[Finding]:
    if (values % 2 != 0).any():
        message = "has odd weights in a kernel, which no core supports; quantise the layer to weight_exp 0"
        yield Finding("odd-weights", layer.group.name, message)


def _matrix_size(layer: _Layer) -> Iterator[Finding]:
    """Find matrices that are too large with their zeros, which the file stores."""
    entries = layer.entries
    limit = DENSE_ENTRIES // (LONGEST_DELAY + 1) if layer.delay else DENSE_ENTRIES
    if entries > limit:
        late = f" and a delay of {layer.delay}" if layer.delay else ""
        message = f"has {entries:,} weights with zeros{late}, more than {limit:,}; keep it a kernel, or use lava-script"
        yield Finding("too-large", layer.group.name, message)


def _loaded_weights(layer: _Layer, stored: list[NDArray[Any]]) -> Iterator[Finding]:
    """Find weights that the loader would shift to values that Lava changes."""
    name, values = layer.group.name, np.concatenate(stored)
    scale_bits = _loader_shift(values, has_zeros=bool(np.count_nonzero(values) < layer.entries))
    if scale_bits == 0 and (values % 2 != 0).any():
        yield Finding(
            "odd-weights",
            name,
            "odd weights with some beyond 127 need 9 bits, which no core has; quantise the layer to weight_exp 0",
        )
    for part, kind in zip(stored, ("weights", "recurrent weights"), strict=False):
        smallest = part.min(initial=0)
        if part.max(initial=0) <= 0 and smallest * 2.0**scale_bits == -256:
            yield Finding(
                "shifted-weights",
                name,
                f"{kind} are all negative and the smallest is {smallest:g}: the loader shifts it to -256, which Lava "
                "clips to -255; change the smallest by 2, or use lava-script",
            )


def _loader_shift(values: NDArray[Any], has_zeros: bool) -> int:
    """Return how far the loader shifts weights left (``lava.lib.dl.netx.utils.optimize_weight_bits``), in bits."""
    if has_zeros:
        values = np.append(values, 0)
    smallest, largest = values.min(), values.max()
    if largest < 0:
        return math.floor(math.log2(-256 / smallest))
    if smallest >= 0:
        return math.floor(math.log2(255 / largest))
    scales = [-128 / smallest, *([127 / largest] if largest > 0 else [])]
    return math.floor(math.log2(min(scales))) + 1


def _bias_findings(layer: _Layer, late_targets: bool) -> Iterator[Finding]:
    bias = _bias(layer.group)
    wrong = bias[(bias % 2**BIAS_EXP != 0) | (np.abs(bias) > LARGEST_BIAS_MANT << BIAS_EXP)]
    if wrong.size:
        yield Finding(
            "bias-format",
            layer.group.name,
            f"a bias is {wrong[0]}, the file supports multiples of {2**BIAS_EXP} up to {LARGEST_BIAS_MANT << BIAS_EXP} "
            f"({wrong.size} of {bias.size} biases); quantise biases to an exponent of {BIAS_EXP}, or use lava-script",
        )
    if late_targets and (bias > 0).any():
        yield Finding(
            "bias-before-input",
            layer.group.name,
            "a positive bias in or before a recurrent layer, or before a delay, can cause spikes before the input "
            "arrives, which the loop or delay carries into the sample; remove the bias, or use lava-script",
        )


def _bias(group: Group) -> IntArray:
    return np.asarray(group.bias_mant, dtype=np.int64) << np.asarray(group.bias_exp, dtype=np.int64)


def _write_input(entry: Any, program: Program, first: _Layer) -> None:
    shape = first.weights.input_shape if isinstance(first.weights, Kernel) else (program.input_size,)
    entry["type"] = _text("input")
    entry["shape"] = np.array(shape, dtype=np.int64)


def _write_layer(entry: Any, layer: _Layer) -> None:
    entry.attrs["name"] = layer.group.name
    entry["shape"] = np.array(layer.shape, dtype=np.int64)
    if isinstance(layer.weights, Kernel):
        kernel = layer.weights
        entry["type"] = _text("conv")
        _write_weights(entry, "weight", kernel.weights)
        for key in ("stride", "padding", "dilation"):
            entry[key] = np.array(getattr(kernel, key), dtype=np.int64)
        entry["groups"] = np.int64(kernel.groups)
        entry["kernelSize"] = np.array(kernel.weights.shape[2:], dtype=np.int64)
        entry["inChannels"], entry["outChannels"] = np.int64(kernel.input_shape[0]), np.int64(kernel.weights.shape[0])
    else:
        entry["type"] = _text("dense" if layer.recurrent is None else "dense_rec")
        _write_weights(entry, "weight", layer.weights.toarray())
        if layer.recurrent is not None:
            _write_weights(entry, "weight_rec", layer.recurrent.toarray())
        if layer.delay:
            entry["delay"] = np.int64(layer.delay)
        entry["outFeatures"], entry["inFeatures"] = map(np.int64, layer.weights.shape)
    bias = _bias(layer.group)
    if bias.any():
        entry["bias"] = _in_lavas_order(bias >> BIAS_EXP, layer.shape)
    neuron = entry.create_group("neuron")
    neuron["type"] = _text("CUBA")
    neuron["iDecay"] = _one_if_equal(layer.group.du + 1, layer.shape)
    neuron["vDecay"] = _one_if_equal(layer.group.dv, layer.shape)
    neuron["vThMant"] = _one_if_equal(layer.group.vth, layer.shape)
    neuron["refDelay"], neuron["gradedSpike"] = np.int64(1), False


def _write_weights(entry: Any, key: str, weights: NDArray[Any]) -> None:
    # As floats, like lava-dl: every integer up to 2**24 is exact.
    entry.create_dataset(key, data=weights.astype(np.float32), compression="gzip")


def _one_if_equal(values: IntArray, shape: Shape) -> NDArray[np.int64] | np.int64:
    """Return one integer if all neurons share it: a float, or an array of one, would stop Lava without an error."""
    values = np.asarray(values, dtype=np.int64)
    return np.int64(values[0]) if (values == values[0]).all() else _in_lavas_order(values, shape)


def _in_lavas_order(values: IntArray, shape: Shape) -> IntArray:
    """Return per-neuron values in Lava's order of neurons: images by column, row, channel."""
    return np.ascontiguousarray(values.reshape(shape).transpose())


def _text(word: str) -> NDArray[np.bytes_]:
    return np.array([word], dtype="S10")
