"""Networks of the kinds that the NIR paper publishes, on the integers of a chip and in Lava.

``python benchmarks/nir_paper.py`` does it for small networks of these kinds, ``python benchmarks/nir_paper.py
--files NIR/paper`` for the files of a clone of github.com/neuromorphs/NIR. Every file is compiled for Loihi 2 and run
on random spikes in the integer simulator and in Lava, or it is refused, with everything that is wrong with it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from esl_neuro.backends.integer import run_integer
from esl_neuro.backends.lava import run_lava
from esl_neuro.backends.lava_session import lava_installed
from esl_neuro.compiler.compile import compile_graph
from esl_neuro.compiler.float_groups import run_groups
from esl_neuro.compiler.frontend import analyse
from esl_neuro.hardware import load_target
from esl_neuro.nirgraph.files import read_nir
from esl_neuro.nirgraph.findings import errors
from esl_neuro.report.tables import table

DT_S = 1e-4  # of the paper; sinabs, whose neurons have no time constants, counts in steps of 1
SAMPLES, STEPS = 2, 200
RATES = (0.4, 0.8, 1.0)  # of random input spikes, tried in turn until every layer fires
TIMEOUT_S = 300.0


# --- small networks -------------------------------------------------------------------------------------------------


def full(shape: Any, value: float) -> NDArray[np.float64]:
    """Return an array of one value."""
    return np.full(shape, float(value))


def pool(kind: type = nir.SumPool2d, size: int = 2) -> nir.NIRNode:
    """Return a pooling without overlap."""
    return kind(np.array([size, size]), np.array([size, size]), np.array([0, 0]))


def chain(shape: tuple[int, ...], outputs: tuple[int, ...], **nodes: nir.NIRNode) -> nir.NIRGraph:
    """Return a graph of nodes one behind the other."""
    every = {
        "input": nir.Input({"input": np.array(shape)}),
        **nodes,
        "output": nir.Output({"output": np.array(outputs)}),
    }
    return nir.NIRGraph(every, list(pairwise(every)), metadata={}, type_check=False)


def conv(rng: Any, out: int, channels: int, taps: int, shape: Any, stride: int = 1, padding: int = 1) -> nir.Conv2d:
    """Return a random convolution."""
    weight = rng.normal(0.05, 0.3, (out, channels, taps, taps)).astype(np.float32)
    return nir.Conv2d(shape, weight, stride, padding, 1, 1, rng.normal(0, 0.05, out).astype(np.float32))


def lif(shape: tuple[int, ...], dt: float = DT_S) -> nir.LIF:
    """Return neurons that leak."""
    return nir.LIF(full(shape, 20 * dt), full(shape, 20), full(shape, 0), full(shape, 1), full(shape, 0))


def cuba(size: int) -> nir.CubaLIF:
    """Return neurons behind synapses, as the recurrent network has them: without ``v_reset``, as files of 2023."""
    names = {"tau_syn": 5 * DT_S, "tau_mem": 10 * DT_S, "r": 10, "v_leak": 0, "v_threshold": 1, "w_in": 5}
    return nir.CubaLIF(**{name: full(size, value) for name, value in names.items()})


def one_lif(_rng: Any) -> nir.NIRGraph:
    """01_lif: a neuron behind a weight."""
    neuron = nir.LIF(*(full(1, x) for x in (25 * DT_S, 10, 0, 0.1, 0)))
    return chain((1,), (1,), affine=nir.Affine(full((1, 1), 1), full(1, 0)), lif=neuron)


def two_lif(_rng: Any) -> nir.NIRGraph:
    """01_lif, ``two_lif_neurons``: one neuron drives another."""
    nodes = [
        node
        for gain in (1, 8)
        for node in (
            nir.Affine(full((1, 1), gain), full(1, 0)),
            nir.LIF(*(full(1, x) for x in (25 * DT_S, 10, 0, 0.1, 0))),
        )
    ]
    return chain((1,), (1,), **{str(place): node for place, node in enumerate(nodes)})


def cnn(rng: Any) -> nir.NIRGraph:
    """02_cnn: of sinabs, integrate-and-fire neurons behind convolutions, sums of spikes, linear layers."""
    fire = [
        nir.IF(full(shape, 1), full(shape, 1), full(shape, 0))
        for shape in ((4, 5, 5), (4, 5, 5), (3, 2, 2), (8,), (5,))
    ]
    nodes = {
        "0": conv(rng, 4, 2, 5, (12, 12), stride=2),
        "1": fire[0],
        "2": conv(rng, 4, 4, 3, (5, 5)),
        "3": fire[1],
        "4": pool(),
        "5": conv(rng, 3, 4, 3, (2, 2)),
        "6": fire[2],
        "7": nir.Flatten({"input": np.array([3, 2, 2])}, 0, 2),
        "8": nir.Linear(rng.normal(0.2, 0.5, (8, 12))),
        "9": fire[3],
        "10": nir.Linear(rng.normal(0.2, 0.5, (5, 8))),
        "11": fire[4],
    }
    return chain((2, 12, 12), (5,), **nodes)


def scnn(rng: Any) -> nir.NIRGraph:
    """Make a spiking CNN with pooling of spikes, mean pooling, and a read-out by potential."""
    nodes = {
        "conv1": conv(rng, 4, 1, 3, (8, 8)),
        "lif1": lif((4, 8, 8)),
        "pool1": pool(nir.AvgPool2d),
        "conv2": conv(rng, 6, 4, 3, (4, 4)),
        "lif2": lif((6, 4, 4)),
        "pool2": pool(),
        "flat": nir.Flatten({"input": np.array([6, 2, 2])}, 0, -1),
        "fc": nir.Affine(rng.normal(0, 0.3, (4, 24)), rng.normal(0, 0.1, 4)),
        "li": nir.LI(full(4, 20 * DT_S), full(4, 1), full(4, 0)),
    }
    return chain((1, 8, 8), (4,), **nodes)


SIZE, HIDDEN, OUTPUTS = 12, 8, 4


def _weights(rng: Any, bias: bool) -> tuple[nir.NIRNode, nir.NIRNode, nir.NIRNode]:
    """Return the three connections of the recurrent network."""
    shapes = ((HIDDEN, SIZE, 0.2, 0.5), (HIDDEN, HIDDEN, 0.0, 0.4), (OUTPUTS, HIDDEN, 0.2, 0.5))
    weights = [rng.normal(mean, spread, (rows, columns)) for rows, columns, mean, spread in shapes]
    first, back, last = (
        nir.Affine(weight, rng.normal(0, 0.1, len(weight))) if bias else nir.Linear(weight) for weight in weights
    )
    return first, back, last


def braille(rng: Any, bias: bool = True) -> nir.NIRGraph:
    """03_rnn: two layers, the first one recurrent, written flat; with biases into the synaptic filters, or without."""
    first, back, last = _weights(rng, bias)
    graph = chain((SIZE,), (OUTPUTS,), fc1=first, lif1=cuba(HIDDEN), fc2=last, lif2=cuba(OUTPUTS))
    graph.nodes["lif1.w_rec"] = back
    graph.edges += [("lif1", "lif1.w_rec"), ("lif1.w_rec", "lif1")]
    return graph


def braille_nested(rng: Any, neurons: str = "lif") -> nir.NIRGraph:
    """03_rnn/extras: the same with the recurrent layer as a graph of its own."""
    first, back, last = _weights(rng, bias=True)
    inner = {
        "input": nir.Input({"input": np.array([HIDDEN])}),
        neurons: cuba(HIDDEN),
        "lin": back,
        "output": nir.Output({"output": np.array([HIDDEN])}),
    }
    edges = [("input", "lif"), ("lif", "lin"), ("lin", "lif"), ("lif", "output")]
    nested = nir.NIRGraph(inner, edges, metadata={}, type_check=False)
    return chain((SIZE,), (OUTPUTS,), fc1=first, lif1=nested, fc2=last, lif2=cuba(OUTPUTS))


KINDS: dict[str, Callable[[Any], nir.NIRGraph]] = {
    "LIF": one_lif,
    "two LIF": two_lif,
    "CNN (IF, sum pooling)": cnn,
    "SCNN (LIF, mean pooling, LI)": scnn,
    "recurrent, with bias": braille,
    "recurrent, without bias": lambda rng: braille(rng, bias=False),
    "recurrent, nested": braille_nested,
    "recurrent, nested, as published": lambda rng: braille_nested(rng, neurons="lif1"),
}
"""The last one has edges to a node ``lif`` where the graph has ``lif1``: so are both published files."""


# --- the question ---------------------------------------------------------------------------------------------------


def dt_of(graph: nir.NIRGraph) -> float:
    """Return the paper's time step, 1 where nothing in the graph has a time constant."""
    nodes = list(graph.nodes.values())
    inner = [each for node in nodes if isinstance(node, nir.NIRGraph) for each in node.nodes.values()]
    return DT_S if any(hasattr(node, name) for node in nodes + inner for name in ("tau", "tau_mem")) else 1.0


def judge(path: Path, steps: int = STEPS, samples: int = SAMPLES) -> dict[str, Any]:
    """Compile a file and run it in both simulators, or return everything that prevents it."""
    graph, rng = read_nir(path), np.random.default_rng(0)
    dt_s = dt_of(graph)
    network, findings = analyse(graph, dt_s)
    if network is None:
        return {"outcome": "refused", "reasons": [str(finding) for finding in errors(findings)]}
    program = compile_graph(graph, load_target("loihi2"), steps, dt_s).program
    draws = rng.random((samples, steps, program.input_size))
    for rate in RATES:
        inputs = (draws < rate).astype(np.uint8)
        floats = run_groups(network, inputs)
        if all(floats.spikes[group.name].any() for group in network.groups if group.fires):
            break
    integer = run_integer(program, inputs, record_potentials=True)
    compared: dict[str, int] = {}
    if lava_installed():
        lava = run_lava(program, inputs, record_potentials=True, timeout_s=TIMEOUT_S)
        pairs = [
            (one[name], two[name])
            for one, two in ((integer.spikes, lava.spikes), (integer.u, lava.u), (integer.v, lava.v))
            for name in integer.spikes
        ]
        compared["values_compared"] = sum(one.size for one, _ in pairs)
        compared["differing_in_lava"] = sum(int((one != two).sum()) for one, two in pairs)
    return {
        "outcome": "runs",
        "dt_s": dt_s,
        "steps": steps,
        "samples": samples,
        "rate": rate,
        "neurons": sum(group.neurons for group in program.groups),
        "synapses": program.synapses,
        "spikes": sum(int(fired.sum()) for fired in integer.spikes.values()),
        "spikes_in_float": sum(int(fired.sum()) for fired in floats.spikes.values()),
        **compared,
    }


def write_small(folder: Path) -> dict[str, Path]:
    """Write a small network of each kind; return the files by kind."""
    files = {}
    for number, (kind, make) in enumerate(KINDS.items()):
        files[kind] = folder / f"{number}.nir"
        nir.write(files[kind], make(np.random.default_rng(0)))
    return files


def render(results: dict[str, dict[str, Any]]) -> str:
    """Write one line for each file, then why some were refused."""
    counts = ("neurons", "synapses", "spikes_in_float", "spikes", "values_compared", "differing_in_lava")
    rows = [
        (name, result["outcome"], *(f"{result[count]:,}" if count in result else "" for count in counts))
        for name, result in results.items()
    ]
    headers = ("network", "outcome", "neurons", "synapses", "float spikes", "spikes", "spikes, u, v", "Lava differs")
    refused = [f"{name}: {'; '.join(result['reasons'])}" for name, result in results.items() if "reasons" in result]
    return "\n".join([table(headers, rows, left=2), "", *refused])


def main() -> None:
    """Judge every file; exit code 1 if Lava differs anywhere."""
    parser = argparse.ArgumentParser(description="NIR files on the integers of Loihi 2, and in Lava.")
    parser.add_argument("--files", type=Path, help="folder with .nir files  [default: small networks made anew]")
    parser.add_argument("--steps", type=int, default=STEPS, help="time steps of each sample")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    options = parser.parse_args()
    with TemporaryDirectory() as scratch:
        if options.files is None:
            files = write_small(Path(scratch))
        else:
            files = {path.relative_to(options.files).as_posix(): path for path in sorted(options.files.rglob("*.nir"))}
        if not files:
            parser.error(f"--files {options.files}: no such folder, or no .nir file in it")
        results = {name: judge(path, options.steps) for name, path in files.items()}
    print(json.dumps(results, indent=2) if options.json else render(results))
    sys.exit(any(result.get("differing_in_lava") for result in results.values()))


if __name__ == "__main__":
    main()
