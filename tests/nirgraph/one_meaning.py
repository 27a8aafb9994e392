"""The proof at length: random NIR graphs, simulated node by node, against the groups that the compiler makes of them.

    python tests/nirgraph/one_meaning.py                       # 2,000 graphs: every spike and potential, with ==
    python tests/nirgraph/one_meaning.py --graphs 500 --seed 1

Their numbers have few bits, so that neither side rounds. Exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import nir
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from esl_neuro.compiler.float_groups import run_groups
from esl_neuro.compiler.frontend import read_network
from esl_neuro.nirgraph.reading import discretise
from esl_neuro.nirgraph.simulation import simulate
from random_graphs import DT, KINDS, random_exact_graph

SAMPLES, STEPS = 2, 12
COUNTED = ("graphs", "groups", "loops", "delayed", "nested", "spikes", "values", "differences")


def compared(seed, number):
    """Counts of one graph: its nodes, simulated one by one, against its groups."""
    kind = KINDS[number % len(KINDS)]
    rng = np.random.default_rng([seed, number])
    graph = random_exact_graph(rng, kind)
    discrete, network = discretise(graph), read_network(graph)
    inputs = (rng.random((SAMPLES, STEPS, network.input_size)) < rng.choice([0.2, 0.5, 0.9])).astype(float)
    nodes, groups = simulate(discrete, inputs), run_groups(network, inputs)
    pairs = list(matched(discrete, network, nodes, groups))
    return {
        "kind": kind,
        "graphs": 1,
        "groups": len(network.groups),
        "loops": len(discrete.structure.feedback),
        "delayed": sum(each.delay > 0 for each in network.connections),
        "nested": sum(isinstance(node, nir.NIRGraph) for node in graph.nodes.values()),
        "spikes": sum(int(fired.sum()) for fired in nodes.spikes.values()),
        "values": sum(one.size for one, _ in pairs),
        "differences": sum(int((one != other).sum()) for one, other in pairs),
    }


def matched(discrete, network, nodes, groups):
    """Pairs of arrays, shape (samples, steps, neurons), that must be equal; every neuron node is in one."""
    missing = set(discrete.neurons) - set(groups.v) - {name for name in discrete.neurons if filters(discrete, name)}
    assert not missing, missing
    for name, neurons in discrete.neurons.items():
        if name in groups.v:
            yield flat(nodes.potentials[name]), groups.v[name] + neurons.reset
        if neurons.fires:
            yield flat(nodes.spikes[name]), groups.spikes[name]
    last = network.groups[-1]
    if last.name not in discrete.neurons:  # what leaves the graph without firing is summed
        yield flat(nodes.outputs).cumsum(axis=1), groups.v[last.name]


def filters(discrete, name):
    """Tell whether a node is a filter, which may have become the synapse of the neurons behind it."""
    return isinstance(discrete.structure.nodes[name], nir.LI)


def flat(values):
    return values.reshape(*values.shape[:2], -1)


def summary(results):
    """A line of counts for each kind and for all of them."""
    lines = [f"{'kind':<12}" + "".join(f"{name:>13}" for name in COUNTED)]
    for kind in (*KINDS, "all"):
        rows = [result for result in results if kind in (result["kind"], "all")]
        total = sum((Counter({name: row[name] for name in COUNTED}) for row in rows), Counter())
        lines.append(f"{kind:<12}" + "".join(f"{total[name]:>13,}" for name in COUNTED))
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description="NIR graphs node by node against their groups.")
    parser.add_argument("--graphs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    results = [compared(options.seed, number) for number in range(options.graphs)]
    print(summary(results))
    print(f"time step {DT:g} s, {STEPS} steps, {SAMPLES} samples; {time.monotonic() - started:.0f} s")
    sys.exit(1 if sum(result["differences"] for result in results) else 0)


if __name__ == "__main__":
    main()
