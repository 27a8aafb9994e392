"""Are our counts those of NeuroBench and SANA-FE? Prints them side by side and fails where they differ.

``python benchmarks/peer_counts.py --python ../peers/bin/python`` where that interpreter has the peers, which never
share a process with the package: ``pip install torch==2.13.0 snntorch==1.0.0 sanafe==2.2.9`` and
``pip install --no-deps neurobench==2.3.0``, with the dependencies of esl-neuro that counting needs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from esl_neuro.backends.trace import Trace
from esl_neuro.compiler.program import Connection, Group, Program
from esl_neuro.energy.core_map import CoreMap
from esl_neuro.energy.counts import count
from esl_neuro.energy.prices import PRICE_MODELS
from esl_neuro.hardware import load_target

HERE = Path(__file__).parent
RESULT = HERE / "peer_counts.json"
SIZES = {"input": 64, "hidden": 96, "output": 10}
STEPS = 24
PJ_PER_J = 1e12


def run_peer(python: str, script: str, *arguments: str) -> Any:
    """Run a script in the peers' environment and read its JSON."""
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    command = [python, str(HERE / "peers" / script), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout[done.stdout.index("{") :])


def random_network() -> dict[str, Any]:
    """Integer weights of density 0.16, random input spikes, and a placement over eight cores of five tiles."""
    rng = np.random.default_rng(0)
    network: dict[str, Any] = {"spikes": (rng.random((STEPS, SIZES["input"])) < 0.2).astype(np.int64)}
    for source, target in (("input", "hidden"), ("hidden", "output")):
        weights = 2 * rng.integers(-4, 9, (SIZES[target], SIZES[source]))
        network[f"weights_{target}"] = weights * (rng.random(weights.shape) < 0.16)
    network |= {"threshold_hidden": 30.0, "threshold_output": 40.0}
    network |= {
        "cores_input": np.zeros(SIZES["input"], dtype=np.int64),
        "cores_hidden": 5 + np.arange(SIZES["hidden"]) // 16,
        "cores_output": np.full(SIZES["output"], 40),
    }
    return network


def ours(network: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Our counts and energies of the spikes that SANA-FE saw, at the same constants."""
    spikes = {name: np.zeros((1, theirs["steps"], size), dtype=np.uint8) for name, size in SIZES.items()}
    for step, group, neuron in theirs["spikes"]:
        spikes[group][0, step, neuron] = 1
    connections, groups = [], []
    for source, target in (("input", "hidden"), ("hidden", "output")):
        weights = sp.csr_matrix(network[f"weights_{target}"])
        zeros = np.zeros(SIZES[target], dtype=np.int64)
        connections.append(Connection(source, target, weights, 0, weights.nnz))
        groups.append(Group(target, zeros + 4095, zeros, zeros + 1, zeros, zeros, np.ones(zeros.size)))
    program = Program("loihi", SIZES["input"], theirs["steps"], 1e-3, tuple(connections), tuple(groups))
    placement = CoreMap({name: network[f"cores_{name}"] for name in SIZES})
    counts = count(program, Trace("sanafe", spikes.pop("input"), spikes), placement)
    estimate = PRICE_MODELS["silicon"](counts, load_target("loihi"), 1e-3)
    assert estimate.energy_pj is not None
    return {
        "synaptic_operations": counts.total("sop_executed"),
        "messages": counts.total("messages"),
        "hops": counts.total("hops_ew") + counts.total("hops_ns"),
        "energy_j": {
            "total": estimate.energy_pj.nominal / PJ_PER_J,
            **{term.what: term.energy_pj.nominal / PJ_PER_J for term in estimate.terms},
        },
    }


def sanafe(python: str) -> dict[str, Any]:
    """Both sides of the network on SANA-FE's Loihi, and the ratio of the energies."""
    network = random_network()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.npz"
        np.savez(path, **network)
        theirs = run_peer(python, "sanafe_counts.py", str(path))
    own = ours(network, theirs)
    ratio = own["energy_j"]["total"] / theirs["energy_j"]["total"]
    return {"ours": own, "sanafe": {k: v for k, v in theirs.items() if k != "spikes"}, "energy_ratio": ratio}


def differences(result: dict[str, Any]) -> list[str]:
    """Name every count that is not equal."""
    found = [
        f"NeuroBench, {case}: {name} is {case_counts['neurobench'][name]}, ours {value}"
        for case, case_counts in result["neurobench"].items()
        for name, value in case_counts["ours"].items()
        if value != case_counts["neurobench"][name]
    ]
    return found + [
        f"SANA-FE: {name} is {result['sanafe']['sanafe'][name]}, ours {result['sanafe']['ours'][name]}"
        for name in ("synaptic_operations", "messages", "hops")
        if result["sanafe"]["sanafe"][name] != result["sanafe"]["ours"][name]
    ]


def compare(python: str) -> dict[str, Any]:
    """Run both peers in their own processes."""
    return {"neurobench": run_peer(python, "neurobench_counts.py"), "sanafe": sanafe(python)}


def main() -> None:
    """Compare, write the result beside this script, and fail where a count differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True, help="interpreter of an environment that has the peers")
    result = compare(parser.parse_args().python)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    if found := differences(result):
        raise SystemExit("; ".join(found))


if __name__ == "__main__":
    main()
