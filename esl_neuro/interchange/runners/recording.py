"""Run the network that a reader made from a NIR file, and record its spikes. Does not depend on esl-neuro.

Called as ``python run_<reader>.py JOB``, where JOB is a folder with ``graph.nir``, ``inputs.npy`` of shape (steps,
batch, ...) and ``job.json`` (time step, names of the nodes that fire, their resets). Writes ``result.json`` and
``result.npz``.
"""

import json
import sys
import warnings
from pathlib import Path

import nir
import numpy as np
import torch


class Refused(Exception):
    """The reader does not support this graph, but its importer does not report that."""


def run(version, load, potential):
    """Read the job, run it step by step, write the result.

    ``load(graph, dt_s, resets)`` makes the network, a module that maps (input, state) to (output, state); importers
    ignore the notes of a reset by subtraction, so ``load`` sets it in their neurons, or refuses. ``potential(module,
    output)`` returns the potential of a neuron module after a step, or None if it is not accessible.
    """
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text())
    try:
        arrays = _record(
            load(nir.read(folder / "graph.nir"), job["dt_s"], job["resets"]), potential, job["fires"], folder
        )
    except Exception as error:
        reason = str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"
        result = {"status": "refused", "reason": (reason.strip().splitlines() or [""])[0]}
    else:
        result = {"status": "ran", "reason": ""}
        np.savez(folder / "result.npz", **arrays)
    (folder / "result.json").write_text(json.dumps({"version": version, **result}))


def subtracting(network, resets):
    """Return (module, reset) of every neuron of a network that subtracts."""
    modules = {path.replace(".", "_"): module for path, module in network.named_modules()}
    return [(modules[name], reset) for name, reset in resets.items() if reset != "zero" and name in modules]


def _record(network, potential, fires, folder):
    inputs = torch.from_numpy(np.load(folder / "inputs.npy"))
    modules = {path.replace(".", "_"): module for path, module in network.named_modules()}
    now = {}

    def keep(name):
        def hook(module, _arguments, output):
            fired = output[0] if isinstance(output, tuple) else output
            now["spikes/" + name] = fired.detach().numpy()
            level = potential(module, output)
            if level is not None:
                now["potentials/" + name] = level.detach().numpy()

        return hook

    for name in fires:
        if name.replace(".", "_") in modules:
            modules[name.replace(".", "_")].register_forward_hook(keep(name))
    steps, state = [], None
    with torch.no_grad():
        for arriving in inputs:
            now.clear()
            output, state = network(arriving, state)
            output = output[0] if isinstance(output, tuple) else output
            steps.append({**now, "outputs": output.detach().numpy()})
    return {name: np.stack([step[name] for step in steps]) for name in steps[0]}
