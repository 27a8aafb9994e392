"""Write a program as a Python script that builds and runs it with lava-nc only.

The script uses only Lava's own processes, so that users can read it with Lava's documentation and edit it, and defines
the one that Lava lacks: neurons with a reset by subtraction.
"""

from __future__ import annotations

import builtins
import keyword
import math
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.backends.lava_conv import conv_arguments, conv_computes
from esl_neuro.backends.validate import validate
from esl_neuro.compiler.program import INPUT, Connection, Group, Program
from esl_neuro.compiler.timing import timing
from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.findings import Finding
from esl_neuro.nirgraph.kernel import Kernel
from esl_neuro.reading.names import is_plain
from esl_neuro.storage import write, write_arrays

# Up to this many integers are in the script itself, more in a separate file.
INLINE_INTEGERS = 2500
SCRIPT = "network.py"  # in the examples of a script whose own name could be taken for text
SOURCE = "source"
LONGEST_HOLD = 63
# Scores of the classes, in the words of the script.
READINGS = {
    "spikes": "spikes.sum(axis=0)",
    "first_spike": "np.where(spikes.any(axis=0), -spikes.argmax(axis=0), -STEPS)",
    "potential": "neurons.v.get().astype(int)",
}


def write_lava_script(program: Program, path: Path) -> list[Path]:
    """Write a script, and a separate file for its integers if there are many.

    The script takes an ``.npz`` file whose array ``input`` has shape (samples, steps, input lines), as ``esl-neuro run
    --spikes`` writes it, and prints the class of each sample.

    Parameters
    ----------
    program : Program
        What :mod:`esl_neuro.compiler` made.
    path : Path
        Script to write, ``name.py``; the integers go to ``name.npz``.

    Returns
    -------
    list of Path
        Paths of the written files.

    Raises
    ------
    BadInput
        If the program is invalid, or has delays that Lava does not support.
    """
    validate(program)
    findings = [*_hold_findings(program)]
    if findings:
        raise BadInput("the program cannot be written as a Lava script: " + "; ".join(map(str, findings)))
    script = _Script(program)
    text = script.text(path)
    beside = path.with_suffix(".npz")
    if not script.inline:
        write_arrays(beside, script.arrays)
    write(path, text)
    return [path] if script.inline else [path, beside]


def _hold_findings(program: Program) -> Iterator[Finding]:
    for connection, hold in zip(program.connections, timing(program).hold, strict=True):
        if hold > LONGEST_HOLD:
            yield Finding(
                "long-delay",
                f"{connection.source} -> {connection.target}",
                f"spikes are delayed by {hold} steps, Lava's DelaySparse supports up to {LONGEST_HOLD}; "
                "shorten the delay, or run with --backend lava",
            )


class _Script:
    """The text of a script and the arrays that it needs."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.schedule = timing(program)
        # Spikes in transit, or a potential that is read at the end, require a new network for each sample.
        self.rebuild_per_sample = self.schedule.flush > 0 or program.readout == "potential"
        self.inline = self._integers() <= INLINE_INTEGERS
        taken = _words()
        self.names = _identifiers([group.name for group in program.groups], taken)
        self.links = self._link_names(taken)
        self.arrays: dict[str, NDArray[np.int32]] = {}
        groups = [line for group in program.groups for line in self._group(group)]
        connections = [
            line
            for index in range(len(program.connections))
            for line in self._connection(index, program.connections[index])
        ]
        self.body = [*groups, *connections]
        self.run = self._run_text(self.names[program.output.name])

    def text(self, path: Path) -> str:
        program = self.program
        output = self.names[program.output.name]
        processes = {self._process(group) for group in program.groups}
        sizes = [f"{INPUT} {program.input_size}", *(f"{self.names[g.name]} {g.neurons}" for g in program.groups)]
        return TEMPLATE.format(
            title=", ".join(sizes),
            script=path.name if is_plain(path.name) else SCRIPT,
            lif=", ".join(sorted({"LIFReset" if name == SUBTRACTING else name for name in processes})),
            imports=SUBTRACTING_IMPORTS if SUBTRACTING in processes else "",
            processes=SUBTRACTING_PROCESS if SUBTRACTING in processes else "",
            steps=program.steps,
            lines=program.input_size,
            latency=self.schedule.latency[program.output.name],
            largest=2**program.input_bits - 1,
            payload="0 or 1" if program.input_bits == 1 else f"0 to {2**program.input_bits - 1}",
            arrays=self._arrays_text(path),
            body="\n".join(f"    {line}".rstrip() for line in self.body),
            neurons=", ".join(f'"{name}": {name}' for name in self.names.values()),
            output=output,
            size=program.output.neurons,
            run=self.run,
        )

    def _arrays_text(self, path: Path) -> str:
        if not self.inline:
            return f"ARRAYS = np.load(Path(__file__).with_name({path.with_suffix('.npz').name!r}))"
        entries = [f"    {name!r}: {_array_text(values)}," for name, values in self.arrays.items()]
        return "\n".join(["ARRAYS = {", *entries, "}"])

    def _integers(self) -> int:
        """Return the largest number of integers that the script would contain, weights with zeros."""
        sizes = [
            each.weights.weights.size if self._is_conv(index) else math.prod(each.weights.shape)
            for index, each in enumerate(self.program.connections)
        ]
        return sum(sizes) + 6 * self.program.neurons

    def _is_conv(self, index: int) -> bool:
        connection = self.program.connections[index]
        if not isinstance(connection.weights, Kernel) or self.schedule.hold[index] or connection.weight_exp < 0:
            return False
        return conv_computes(connection.weights, connection.weight_exp, 2 ** self._bits(connection) - 1)

    def _bits(self, connection: Connection) -> int:
        return self.program.input_bits if connection.source == INPUT else 1

    def _array(self, name: str, values: NDArray[Any]) -> str:
        """Return the expression of an array in the script: a number if all values are equal."""
        first = values.flat[0]
        if (values == first).all():
            return str(int(first))
        self.arrays[name] = np.asarray(values, dtype=np.int32)
        return f'ARRAYS["{name}"]'

    def _process(self, group: Group) -> str:
        if group.reset_by is not None:
            return SUBTRACTING
        return "LIF" if self.rebuild_per_sample else "LIFReset"

    def _group(self, group: Group) -> Iterator[str]:
        name, latency = self.names[group.name], self.schedule.latency[group.name]
        steps = "step" if latency == 1 else "steps"
        known_as = name if name == group.name else f"{name} ({group.name!a})"
        yield f"# {known_as}: works {latency} {steps} after the input."
        keys = ["du", "dv", "vth"]
        if group.bias_mant.any():
            keys += ["bias_exp"] if self.rebuild_per_sample else ["bias_mant", "bias_exp"]
        arguments = [f"shape=({group.neurons},)"]
        arguments += [f"{key}={self._array(f'{name}_{key}', getattr(group, key))}" for key in keys]
        if group.reset_by is not None:
            arguments.append(f"reset_by={self._array(f'{name}_reset_by', group.reset_by)}")
        if not self.rebuild_per_sample:
            arguments += ["reset_interval=STEPS", f"reset_offset={latency + 1}"]
        yield from _call(name, self._process(group), arguments)

    def _connection(self, index: int, connection: Connection) -> Iterator[str]:
        hold = self.schedule.hold[index]
        source = SOURCE if connection.source == INPUT else self.names[connection.source]
        target = self.names[connection.target]
        name = self.links[index]
        bits = self._bits(connection)
        yield ""
        if self._is_conv(index):
            yield from self._conv(name, source, target, connection, bits)
            return
        matrix = self._matrix(name, connection)
        arguments = [f"weights={matrix}"]
        if hold:
            steps = "step" if hold == 1 else "steps"
            yield f"# The spikes are delayed by {hold} {steps} beyond the one that every connection takes."
            yield "# Each synapse has a delay: Lava would expand a single number to a full matrix."
            yield f"weights = {matrix}"
            arguments = ["weights=weights", f"delays={hold} * (weights != 0).astype(int)"]
        arguments += [f"weight_exp={connection.weight_exp}", f"num_message_bits={bits}"]
        yield from _call(name, "DelaySparse" if hold else "Sparse", arguments)
        yield f"{source}.s_out.connect({name}.s_in)"
        yield f"{name}.a_out.connect({target}.a_in)"

    def _conv(self, name: str, source: str, target: str, connection: Connection, bits: int) -> Iterator[str]:
        kernel: Any = connection.weights
        arguments = conv_arguments(kernel, connection.weight_exp)
        self.arrays[name] = arguments.pop("weight")
        options = [f"{key}={value}" for key, value in arguments.items()]
        yield "# Lava's images are (column, row, channel)."
        yield from _call(name, "Conv", [f'weight=ARRAYS["{name}"]', *options, f"num_message_bits={bits}"])
        yield f"{source}.s_out.reshape({kernel.input_shape}).transpose([2, 1, 0]).connect({name}.s_in)"
        yield f"{name}.a_out.transpose([2, 1, 0]).flatten().connect({target}.a_in)"

    def _matrix(self, name: str, connection: Connection) -> str:
        matrix = connection.matrix
        if self.inline:
            self.arrays[name] = matrix.toarray().astype(np.int32)
            return f'csr_matrix(ARRAYS["{name}"])'
        for part in ("data", "indices", "indptr"):
            self.arrays[f"{name}_{part}"] = np.asarray(getattr(matrix, part), dtype=np.int32)
        parts = ", ".join(f'ARRAYS["{name}_{part}"]' for part in ("data", "indices", "indptr"))
        return f"csr_matrix(({parts}), shape={matrix.shape})"

    def _link_names(self, taken: set[str]) -> list[str]:
        """Name each connection by its ends, and by a number where others connect the same ends."""
        ends = [(each.source, each.target) for each in self.program.connections]
        names = {INPUT: SOURCE} | self.names
        found = []
        for index, (source, target) in enumerate(ends):
            double = ends.count((source, target)) > 1
            found.append(_free(f"{names[source]}_to_{names[target]}" + (f"_{index}" if double else ""), taken))
        return found

    def _run_text(self, output: str) -> str:
        if not self.rebuild_per_sample:
            return RUN_STREAM.format(output=output)
        biased = sorted(
            (group for group in self.program.groups if group.bias_mant.any()),
            key=lambda group: self.schedule.latency[group.name],
        )
        lines, done = [], 0
        for group in biased:
            latency, name = self.schedule.latency[group.name], self.names[group.name]
            if latency > done:
                lines.append(f"advance({latency - done})")
            done = latency
            shape = f"np.zeros({group.neurons}, int) + "
            lines.append(f'network["{name}"].bias_mant.set({shape}{self._array(f"{name}_bias_mant", group.bias_mant)})')
        lines.append(f"advance(STEPS + LATENCY - {done})" if done else "advance(STEPS + LATENCY)")
        reading = READINGS[self.program.readout]
        return RUN_REBUILT.format(
            output=output,
            size=self.program.output.neurons,
            body="\n".join(f"    {line}" for line in lines),
            reading=reading,
        )


def _call(name: str, function: str, arguments: list[str]) -> list[str]:
    """Return the lines of a function call, with one argument per line if they do not fit on one line."""
    line = f"{name} = {function}({', '.join(arguments)})"
    return [line] if len(line) < 115 else [f"{name} = {function}(", *(f"    {each}," for each in arguments), ")"]


def _array_text(values: NDArray[Any]) -> str:
    """Return an array in Python syntax, with one or more lines per row."""
    if values.ndim > 2:
        return f"{_array_text(values.reshape(-1, values.shape[-1]))}.reshape({values.shape})"
    if values.ndim == 2:
        rows = "\n".join(f"{_wrapped(row)}," for row in values)
        return f"np.array(\n        [\n{rows}\n        ],\n        np.int32,\n    )"
    text = str(values.tolist())
    return (
        f"np.array({text}, np.int32)" if len(text) < 80 else f"np.array(\n{_wrapped(values)},\n        np.int32,\n    )"
    )


def _wrapped(values: NDArray[Any]) -> str:
    indent = " " * 12
    return textwrap.fill(str(values.tolist()), 118, initial_indent=indent, subsequent_indent=indent + " ")


def _words() -> set[str]:
    """Return all words of the script, which a group of the same name would replace."""
    texts = (TEMPLATE, SUBTRACTING_PROCESS, SUBTRACTING_IMPORTS, RUN_STREAM, RUN_REBUILT, *READINGS.values())
    written = {"LIF", "LIFReset", "Conv", "Sparse", "DelaySparse"}
    return {*re.findall(r"[A-Za-z_]\w*", " ".join(texts)), *written, *keyword.kwlist, *dir(builtins)}


def _identifiers(names: list[str], taken: set[str]) -> dict[str, str]:
    """Give each group a valid Python name similar to its own, in ASCII, where equal letters have equal codes."""
    found = {}
    for name in names:
        base = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "group"
        base = f"group_{base}" if base[0].isdigit() or keyword.iskeyword(base) else base
        found[name] = _free(base, taken)
    return found


def _free(base: str, taken: set[str]) -> str:
    """Return a name that is not taken, and take it."""
    name, number = base, 2
    while name in taken:
        name, number = f"{base}_{number}", number + 1
    taken.add(name)
    return name


TEMPLATE = '''"""A spiking network on Lava: {title}.

    python {script}                  # one sample of random spikes
    python {script} inputs.npz       # array "input", shape (samples, {steps}, {lines}), values {payload}
    python {script} inputs.npz --out output.npz

Needs lava-nc 0.10.0. It works with Python 3.11 and numpy 2, although its metadata exclude them: pip install
'asteval<0.10' 'networkx<=2.8.7' scikit-learn pip install --ignore-requires-python --no-deps lava-nc==0.10.0
"""

import argparse
import dataclasses
import functools
import sys
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

if sys.version_info >= (3, 11):
    # Python 3.11 requires hashable defaults of dataclass fields; this makes those of one Lava module hashable.
    original = dataclasses.dataclass

    def dataclass(cls=None, /, **options):
        if cls is None:
            return functools.partial(dataclass, **options)
        return original(cls, **options, **({{"unsafe_hash": True}} if cls.__name__.endswith("Encoder") else {{}}))

    dataclasses.dataclass = dataclass
    import lava.magma.compiler.var_model

    dataclasses.dataclass = original

{imports}from lava.magma.core.process.ports.ports import ReshapePort
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.conv import utils
from lava.proc.conv.process import Conv
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import {lif}
from lava.proc.sparse.process import DelaySparse, Sparse

STEPS = {steps}  # of each sample
LATENCY = {latency}  # steps from input to output: every connection takes one
FIXED_POINT = Loihi2SimCfg(select_tag="fixed_pt")  # without the tag, Lava would compute in floating point



def reshaped(data, shape):
    return data.reshape(shape)


# Lava reshapes the input of a convolution with an argument name that numpy 2.4 has removed.
ReshapePort.get_transform_func_fwd = lambda port: functools.partial(reshaped, shape=port.shape)
ReshapePort.get_transform_func_bwd = lambda port: functools.partial(reshaped, shape=port.old_shape)


def convolved(convolve, spikes, weights, *sizes):
    return convolve(spikes, weights, *(size.tolist() for size in sizes))


# The sizes of a convolution are bytes in Lava, with which numpy 2 refuses 128 channels and more.
utils.conv = functools.partial(convolved, utils.conv)

{processes}{arrays}


def build(frames):
    """Connect the network to a source of spikes, shape (lines, time steps); return its groups of neurons."""
    source = Source(data=frames)

{body}

    return {{{neurons}}}


{run}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="?", help='.npz file with an array "input"')
    parser.add_argument("--out", help='.npz file to write: arrays "output" (spikes) and "classes"')
    options = parser.parse_args()
    if options.inputs:
        inputs = np.load(options.inputs)["input"].astype(np.int32)
    else:
        inputs = (np.random.default_rng(0).random((1, STEPS, {lines})) < 0.1).astype(np.int32) * {largest}
    if inputs.ndim != 3 or inputs.shape[1:] != (STEPS, {lines}):
        sys.exit(f"the input has shape {{inputs.shape}}; expected (samples, {{STEPS}}, {lines})")
    spikes, scores = run(inputs)
    classes = scores.argmax(axis=1)
    for sample, (label, score) in enumerate(zip(classes, scores)):
        print(f"sample {{sample}}: class {{label}}, scores {{score.tolist()}}, {{spikes[sample].sum()}} output spikes")
    if options.out:
        np.savez_compressed(options.out, output=spikes.astype(np.uint8), classes=classes)


if __name__ == "__main__":
    main()
'''

SUBTRACTING = "SubtractingLIF"
SUBTRACTING_PROCESS = '''
class SubtractingLIF(LIFReset):
    """Lava's LIFReset, but a spike subtracts reset_by from v: Lava itself only resets to zero."""

    def __init__(self, *, shape, reset_by, reset_interval=2**30, **arguments):
        super().__init__(shape=shape, reset_interval=reset_interval, **arguments)
        self.reset_by = Var(shape=shape, init=np.zeros(shape, np.int32) + reset_by)


@implements(proc=SubtractingLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySubtractingLIF(AbstractPyLifModelFixed):
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    vth: int = LavaPyType(int, np.int32, precision=17)
    reset_by: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)

    def __init__(self, parameters):
        super().__init__(parameters)
        self.interval = parameters["reset_interval"]
        self.offset = parameters["reset_offset"] % self.interval

    def run_spk(self):
        arriving = self.a_in.recv()
        if self.time_step % self.interval == self.offset:  # a new sample
            self.u[:] = self.v[:] = 0
        self.scale_bias()
        self.subthr_dynamics(activation_in=arriving)
        spikes = self.v > np.left_shift(self.vth, self.vth_shift)
        self.v[spikes] -= self.reset_by[spikes]
        self.s_out.send(spikes)


'''
SUBTRACTING_IMPORTS = """from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.lif.models import AbstractPyLifModelFixed
"""

RUN_STREAM = '''def run(inputs):
    """Return the output spikes, shape (samples, steps, neurons), and the spike count of each neuron.

    The samples run one after the other. Each group is reset when the next sample reaches it.
    """
    silence = np.zeros((inputs.shape[2], LATENCY), np.int32)
    frames = np.concatenate([*inputs.transpose(0, 2, 1), silence], axis=1)
    neurons = build(frames)["{output}"]
    sink = Sink(shape=neurons.s_out.shape, buffer=frames.shape[1])
    neurons.s_out.connect(sink.a_in)
    neurons.run(condition=RunSteps(num_steps=frames.shape[1]), run_cfg=FIXED_POINT)
    record = sink.data.get().astype(int)[:, LATENCY:]
    neurons.stop()
    spikes = record.T.reshape(len(inputs), STEPS, -1)
    return spikes, spikes.sum(axis=1)'''

RUN_REBUILT = '''def run_sample(inputs):
    """Run a sample in a new network; return its output spikes, shape (steps, neurons), and the score of each neuron.

    A bias is zero until the first step of its group, because earlier spikes would count.
    """
    silence = np.zeros((inputs.shape[1], LATENCY), np.int32)
    network = build(np.concatenate([inputs.T, silence], axis=1))
    neurons = network["{output}"]
    sink = Sink(shape=({size},), buffer=STEPS + LATENCY)
    neurons.s_out.connect(sink.a_in)

    def advance(steps):
        neurons.run(condition=RunSteps(num_steps=steps), run_cfg=FIXED_POINT)

{body}
    spikes = sink.data.get().astype(int)[:, LATENCY:].T
    scores = {reading}
    neurons.stop()
    return spikes, scores


def run(inputs):
    """Return the output spikes, shape (samples, steps, neurons), and the score of each neuron."""
    spikes, scores = zip(*map(run_sample, inputs))
    return np.stack(spikes), np.stack(scores)'''
