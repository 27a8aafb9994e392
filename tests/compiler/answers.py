"""What the compiler answers about graphs that are easy, hard and impossible; references derive the numbers elsewhere.

``python tests/compiler/answers.py`` names what differs; with ``--write`` it stores the answers anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from answers import canonical, main
from compiler.integer_oracle import run
from esl_neuro.compiler.calibrate import Scaling, search_scalings
from esl_neuro.compiler.check import check_graph
from esl_neuro.compiler.compile import compile_any_size, input_payload
from esl_neuro.compiler.fidelity import Trial, measure_fidelity
from esl_neuro.compiler.frontend import read_network
from esl_neuro.compiler.program import Program
from esl_neuro.compiler.timing import timing
from esl_neuro.hardware import load_target
from random_graphs import KINDS, random_exact_graph

STORED = Path(__file__).with_suffix(".json")
STEPS, DT_S = 12, 2.0**-10
LOIHI2 = load_target("loihi2")


def per_neuron(size: int, value: Any) -> Any:
    """One number, or one for each neuron."""
    return np.broadcast_to(np.asarray(value, float), (size,)).copy()


def layers(*weights: Any, tau_s: float = 4 * DT_S, tau_syn_s: float = 0.0, threshold: Any = 1.0, **more: Any) -> Any:
    """A chain of layers of LIF neurons, with ``tau_syn_s`` of current-based ones; more: bias, leak, note, edges."""
    nodes: dict[str, Any] = {"input": nir.Input({"input": np.array([np.shape(weights[0])[1]])})}
    for index, given in enumerate(weights):
        weight = np.asarray(given, dtype=float)
        full = partial(per_neuron, len(weight))
        fires = {"v_threshold": full(threshold), "v_reset": full(0), "v_leak": full(more.get("leak", 0))}
        nodes[f"fc{index}"] = nir.Affine(weight, full(more.get("bias", 0)))
        if tau_syn_s:
            gains = {"r": full(tau_s / DT_S), "w_in": full(tau_syn_s / DT_S)}
            nodes[f"lif{index}"] = nir.CubaLIF(tau_syn=full(tau_syn_s), tau_mem=full(tau_s), **gains, **fires)
        else:
            nodes[f"lif{index}"] = nir.LIF(tau=full(tau_s), r=full(tau_s / DT_S), **fires)
    nodes["output"] = nir.Output({"output": np.array([len(weights[-1])])})
    edges = [*pairwise(nodes), *more.get("edges", [])]
    return nir.NIRGraph(nodes, edges, {"dt_s": DT_S} | more.get("note", {}), type_check=False)


def hard_graphs() -> dict[str, Any]:
    """Graphs of which the compiler has something to say."""
    rng = np.random.default_rng(0)
    plain = rng.integers(-8, 9, (6, 10)) / 16
    one_large = np.concatenate([np.full((6, 1), 40.0), plain], axis=1)
    both_signs = np.concatenate([np.full((3, 40), -0.5), np.full((3, 40), 0.5)], axis=1)
    return {
        "plain": layers(plain, plain[:, :6]),
        "large weights": layers(one_large),
        "large weight in one row": layers(np.concatenate([one_large[:1], np.eye(6, 11)[1:]])),
        "small thresholds": layers(plain, threshold=0.02),
        "thresholds of many sizes": layers(plain, threshold=np.array([0.01, 0.1, 1, 10, 100, 1000])),
        "slow membrane": layers(plain, tau_s=1600 * DT_S),
        "no decay of the membrane": layers(plain, tau_s=9000 * DT_S),
        "no decay of the current": layers(plain, tau_syn_s=9000 * DT_S),
        "slow current": layers(plain, tau_syn_s=1600 * DT_S),
        "large bias": layers(plain, bias=300.0),
        "bias": layers(plain, bias=0.25, leak=0.125),
        "saturating": layers(both_signs, tau_s=4000 * DT_S),
        "wrapping": layers(both_signs, tau_syn_s=2000 * DT_S),
        "silent": layers(plain, threshold=50.0),
        "subtracting": layers(plain, note={"reset": "subtract"}),
        "subtracting later": layers(plain, note={"reset": "subtract_next_step"}),
        "fast loop": layers(plain, plain[:, :6], edges=[("lif1", "fc1"), ("lif1", "lif0")]),
        "short time constant": layers(plain, tau_s=0.5 * DT_S),
        "threshold of zero": layers(plain, threshold=0.0),
        "wide": layers(np.ones((3, 5000))),
        "long": layers(plain, note={"steps": 7}),
    }


def integers(program: Program) -> Any:
    """Everything in a program but its float scales' last digits."""
    return {
        "groups": [{key: value for key, value in vars(each).items() if value is not None} for each in program.groups],
        "connections": [
            [each.source, each.target, each.matrix.toarray().sum(axis=1), each.weight_exp, each.declared, each.delay]
            for each in program.connections
        ],
        "readout": program.readout,
        "steps": program.steps,
        "timing": asdict(timing(program)),
    }


def verdict(graph: Any, target: str, steps: int | None = STEPS) -> Any:
    """What a check says."""
    found = check_graph(graph, target, steps)
    return {
        "compiles": found.compiles,
        "fits": found.fits,
        "findings": [asdict(each) for each in found.findings],
        "losses": [each.kind for each in found.losses],
        "utilisation": [[each.resource, each.used, each.mean, each.limit, each.unit] for each in found.utilisation],
    }


def verdicts() -> Any:
    """What is said of every hard graph on two chips, and without steps."""
    graphs = hard_graphs()
    return {name: {chip: verdict(graph, chip) for chip in ("loihi", "loihi2")} for name, graph in graphs.items()} | {
        "steps of the graph": verdict(graphs["long"], "loihi2", None)["findings"],
        "default steps": verdict(graphs["saturating"], "loihi2", None)["findings"],
        "many steps": [
            verdict(graphs[name], "loihi2", 2000)["findings"] for name in ("saturating", "wrapping", "bias")
        ],
    }


def programs() -> Any:
    """The integers and the errors of the hard graphs that compile, and of random ones."""
    graphs = {name: graph for name, graph in hard_graphs().items() if check_graph(graph, "loihi2", STEPS).compiles}
    del graphs["wide"]
    for number, kind in enumerate(KINDS):
        graphs[f"random {kind}"] = random_exact_graph(np.random.default_rng([9, number]), kind)
    made = {}
    for name, graph in graphs.items():
        if not check_graph(graph, "loihi2", STEPS).compiles:
            continue
        bits = 4 if name == "bias" else 1
        compiled = compile_any_size(graph, "loihi2", STEPS, input_bits=bits)
        made[name] = {
            "program": integers(compiled.program),
            "errors": [asdict(each) for each in compiled.errors],
            "cores": compiled.placement.cores,
            "used": compiled.placement.used,
        }
    return made


def fidelities() -> Any:
    """Integers beside floats on one input, for graphs that are rounded well and badly."""
    found = {}
    for name in ("plain", "large weights", "small thresholds", "slow current", "silent", "saturating", "wrapping"):
        graph = hard_graphs()[name]
        network, program = read_network(graph), compile_any_size(graph, LOIHI2, 40).program
        drawn = np.random.default_rng(1).random((4, 40, program.input_size))
        spikes = (drawn < np.array([0.1, 0.1, 0.6, 0.9])[:, None, None]).astype(np.uint8)
        trial = Trial(spikes, spikes, "drawn", True, np.array([0.1, 0.1, 0.6, 0.9]))
        fidelity, findings = measure_fidelity(network, program, trial, run)
        found[name] = {"fidelity": asdict(fidelity), "findings": [asdict(each) for each in findings]}
    return found


def scalings() -> Any:
    """The scalings that data choose."""
    graph = hard_graphs()["large weights"]
    network = read_network(graph)
    inputs = (np.random.default_rng(2).random((20, STEPS, 11)) < 0.3).astype(np.uint8)
    tried = (Scaling(), Scaling(2.0, 1), Scaling(1.41), Scaling(4.0))
    found = search_scalings(network, LOIHI2.arithmetic, STEPS, inputs, run, input_payload(1), tried)
    return [asdict(each) for each in found]


def answered(ask: Callable[[], Any]) -> Callable[[], Any]:
    """Return an answer as plain data."""
    return lambda: canonical(ask())


ANSWERS = {each.__name__: answered(each) for each in (verdicts, programs, fidelities, scalings)}

if __name__ == "__main__":
    main(STORED, ANSWERS)
