"""The proof at length: random networks of every kind, the integer simulator against stock Lava ``fixed_pt``.

    python tests/backends/parity.py                         # 1,000 networks: every spike, u and v, compared with ==
    python tests/backends/parity.py --networks 5000 --seed 1 --backend lava-batched

Networks of one plan run side by side in one Lava network, since starting Lava takes longer than running it. What is
done is kept in ``--out``; the same command again goes on from there. Exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path

import numpy as np
from oracle import extremes
from random_programs import KINDS, random_networks, random_plan, random_spikes, side_by_side

from esl_neuro.backends.integer import run_integer

BACKENDS = ("lava", "lava-batched")
NETWORKS = 10  # of a batch: far more make messages between the processes of Lava that take longer than its start
SAMPLES = 3
TIMEOUT_S = 300.0
COUNTED = ("networks", "wrapping", "saturating", "firing", "spikes", "values", "differences")


def run_batch(seed, batch, backend="lava", networks=NETWORKS):
    """Run the networks of one batch in both simulators; return what was compared and what differs."""
    rng = np.random.default_rng([seed, batch])
    kind, extreme = KINDS[batch % len(KINDS)], batch // len(KINDS) % 2 == 1
    plan = random_plan(rng, kind, extreme, steps=int(rng.integers(2, 17)))
    programs = random_networks(rng, plan, networks)
    inputs = [random_spikes(rng, program, SAMPLES, rate=rng.choice([0.1, 0.3, 0.6])) for program in programs]
    ours = [
        run_integer(program, spikes, record_potentials=True) for program, spikes in zip(programs, inputs, strict=True)
    ]
    lavas = run_in_lava(side_by_side(programs), np.concatenate(inputs, axis=2), backend)
    result = dict.fromkeys(COUNTED, 0) | {"kind": kind, "seed": seed, "batch": batch, "backend": backend}
    for index, (program, trace) in enumerate(zip(programs, ours, strict=True)):
        wraps, saturations = extremes(program, trace)
        spikes = sum(int(values.sum()) for values in trace.spikes.values())
        result["networks"] += 1
        result["wrapping"] += wraps > 0
        result["saturating"] += saturations > 0
        result["firing"] += spikes > 0
        result["spikes"] += spikes
        for name, (quantity, values) in itertools.product(trace.spikes, quantities(trace)):
            group = names_of(programs[0]).index(name)
            start = sum(other.groups[group].neurons for other in programs[:index])
            found = dict(quantities(lavas))[quantity][name][:, :, start : start + values[name].shape[2]]
            result["values"] += values[name].size
            result["differences"] += int((values[name] != found).sum())
    return result


def names_of(program):
    return [group.name for group in program.groups]


def quantities(trace):
    return [("spikes", trace.spikes), ("u", trace.u), ("v", trace.v)]


def run_in_lava(program, spikes, backend):
    if backend == "lava":
        from esl_neuro.backends.lava import run_lava

        return run_lava(program, spikes, record_potentials=True, timeout_s=TIMEOUT_S)
    from esl_neuro.backends.lava_batched import run_lava_batched

    return run_lava_batched(program, spikes, record_potentials=True, timeout_s=TIMEOUT_S)


def summary(results):
    """A line of counts for each kind, and for all of them."""
    lines = [f"{'kind':<14}" + "".join(f"{name:>14}" for name in COUNTED)]
    for kind in (*KINDS, "all"):
        rows = [result for result in results if kind in (result["kind"], "all")]
        lines.append(f"{kind:<14}" + "".join(f"{sum(row[name] for row in rows):>14,}" for name in COUNTED))
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description="Integer simulator against Lava on random networks.")
    parser.add_argument("--networks", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", choices=BACKENDS, default="lava")
    parser.add_argument("--out", type=Path, default=Path("parity.jsonl"), help="where results are kept")
    options = parser.parse_args()

    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    done = [result for result in done if (result["seed"], result["backend"]) == (options.seed, options.backend)]
    known = {result["batch"] for result in done}
    batches = -(-options.networks // NETWORKS)
    started = time.monotonic()
    with options.out.open("a") as file:
        for batch in range(batches):
            if batch not in known:
                done.append(run_batch(options.seed, batch, options.backend))
                file.write(json.dumps(done[-1]) + "\n")
                file.flush()
                print(
                    f"\r{len(done)} of {batches} batches, {time.monotonic() - started:.0f} s", end="", file=sys.stderr
                )
    print(file=sys.stderr)
    print(summary(done))
    sys.exit(1 if sum(result["differences"] for result in done) else 0)


if __name__ == "__main__":
    main()
