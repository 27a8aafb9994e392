"""The proof at length: random networks of every kind, the integer simulator against stock Lava ``fixed_pt``.

    python tests/backends/parity.py                         # 1,000 networks: every spike, u and v, compared with ==
    python tests/backends/parity.py --networks 5000 --seed 1 --backend lava-batched
    python tests/backends/parity.py --kind subtraction      # 1,000 networks with resets by subtraction
    python tests/backends/parity.py --backend netx          # each a .net file, loaded by lava-dl: every spike

Networks run side by side in one Lava network, since starting Lava takes longer than running it: those of one plan as
parts of the same layers, ``.net`` files each with layers of its own. What is done is kept in ``--out``; the same
command again goes on from there. Exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from backends.lava_netx import run_netx_files
from backends.oracle import extremes
from backends.random_chains import CHAINS, random_files
from backends.random_programs import KINDS, random_networks, random_plan, random_spikes, side_by_side
from esl_neuro.backends.integer import run_integer
from esl_neuro.backends.lava import run_lava
from esl_neuro.backends.lava_batched import run_lava_batched
from esl_neuro.backends.netx import write_netx
from esl_neuro.backends.trace import Trace
from esl_neuro.errors import EslNeuroError

NETWORKS = 10  # of a batch: far more make messages between the processes of Lava that take longer than its start
SAMPLES = 3
TIMEOUT_S = 300.0
COUNTED = ("networks", "wrapping", "saturating", "firing", "spikes", "values", "differences")


@dataclass(frozen=True)
class Backend:
    """How the networks of a batch are drawn, and run.

    ``draw(rng, kind, extreme, count)`` returns programs, their inputs, and how many were refused by the kind of what
    was found; ``run(programs, inputs)`` returns a trace for each.
    """

    kinds: tuple[str, ...]
    draw: Callable
    run: Callable


def draw_alike(rng, kind, extreme, count):
    """Networks of one plan; none is refused."""
    plan = random_plan(rng, kind, extreme, steps=int(rng.integers(2, 17)))
    programs = random_networks(rng, plan, count)
    inputs = [random_spikes(rng, program, SAMPLES, rate=rng.choice([0.1, 0.3, 0.6])) for program in programs]
    return programs, inputs, {}


def run_side_by_side(run, programs, inputs):
    trace = run(side_by_side(programs), np.concatenate(inputs, axis=2), record_potentials=True, timeout_s=TIMEOUT_S)
    return [part(trace, programs, index, inputs[index]) for index in range(len(programs))]


def part(trace, programs, index, inputs):
    """What one of the networks did."""
    starts = [sum(other.groups[k].neurons for other in programs[:index]) for k in range(len(programs[0].groups))]
    groups = list(zip(programs[index].groups, starts, strict=True))
    spikes, u, v = (
        {group.name: record[group.name][:, :, start : start + group.neurons] for group, start in groups}
        for record in (trace.spikes, trace.u, trace.v)
    )
    return Trace(trace.backend, inputs, spikes, u, v)


def run_files(programs, inputs):
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.net" for index in range(len(programs))]
        for program, path in zip(programs, paths, strict=True):
            write_netx(program, path)
        return run_netx_files(list(zip(paths, inputs, strict=True)), timeout_s=TIMEOUT_S)


BACKENDS = {
    "lava": Backend(KINDS, draw_alike, partial(run_side_by_side, run_lava)),
    "lava-batched": Backend(KINDS, draw_alike, partial(run_side_by_side, run_lava_batched)),
    "netx": Backend(CHAINS, random_files, run_files),
}


def run_batch(seed, batch, name="lava", networks=NETWORKS):
    """Run the networks of one batch in both simulators; return what was compared and what differs."""
    started = time.monotonic()
    backend, rng = BACKENDS[name], np.random.default_rng([seed, batch])
    kind, extreme = backend.kinds[batch % len(backend.kinds)], batch // len(backend.kinds) % 2 == 1
    programs, inputs, refused = backend.draw(rng, kind, extreme, networks)
    lavas = backend.run(programs, inputs)
    result = dict.fromkeys(COUNTED, 0) | {"kind": kind, "seed": seed, "batch": batch, "backend": name}
    for program, spikes, found in zip(programs, inputs, lavas, strict=True):
        for key, count in compared(program, spikes, found).items():
            result[key] += count
    return result | {"refused": refused, "seconds": time.monotonic() - started}


def compared(program, inputs, found):
    """Counts of one network: what Lava recorded of it against the integer simulator."""
    trace = run_integer(program, inputs, record_potentials=True)
    wraps, saturations = extremes(program, trace)
    spikes = sum(int(values.sum()) for values in trace.spikes.values())
    pairs = [(values, found.spikes[name]) for name, values in trace.spikes.items()]
    for ours, lavas in ((trace.u, found.u), (trace.v, found.v)):
        pairs += [(ours[name], values) for name, values in lavas.items()]
    return {
        "networks": 1,
        "wrapping": wraps > 0,
        "saturating": saturations > 0,
        "firing": spikes > 0,
        "spikes": spikes,
        "values": sum(ours.size for ours, _ in pairs),
        "differences": sum(int((ours != lavas).sum()) for ours, lavas in pairs),
    }


def summary(results, kinds):
    """A line of counts for each kind and for all of them, what was refused and why, and the time that it took."""
    lines = [f"{'kind':<14}" + "".join(f"{name:>14}" for name in COUNTED)]
    for kind in (*kinds, "all"):
        rows = [result for result in results if kind in (result["kind"], "all")]
        lines.append(f"{kind:<14}" + "".join(f"{sum(row[name] for row in rows):>14,}" for name in COUNTED))
    refused = sum((Counter(result["refused"]) for result in results), Counter())
    if refused:
        reasons = ", ".join(f"{reason} {count}" for reason, count in refused.most_common())
        lines.append(f"refused with a reason: {refused.total():,} more ({reasons})")
    lines.append(f"{sum(result['seconds'] for result in results) / 60:.1f} minutes")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description="Integer simulator against Lava on random networks.")
    parser.add_argument("--networks", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", choices=BACKENDS, default="lava")
    parser.add_argument("--kind", help="only networks of this kind")
    parser.add_argument("--out", type=Path, default=Path("parity.jsonl"), help="where results are kept")
    options = parser.parse_args()
    if options.kind not in (None, *BACKENDS[options.backend].kinds):
        parser.error(f"--kind {options.kind}: one of {', '.join(BACKENDS[options.backend].kinds)}")

    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    done = [result for result in done if (result["seed"], result["backend"]) == (options.seed, options.backend)]
    kinds = BACKENDS[options.backend].kinds
    done = [result for result in done if options.kind in (None, result["kind"])]
    known = {result["batch"] for result in done}
    count = -(-options.networks // NETWORKS)
    numbers = (batch for batch in itertools.count() if options.kind in (None, kinds[batch % len(kinds)]))
    batches = list(itertools.islice(numbers, count))
    started = time.monotonic()
    with options.out.open("a") as file:
        for batch in batches:
            if batch not in known:
                done.append(run_batch(options.seed, batch, options.backend))
                file.write(json.dumps(done[-1]) + "\n")
                file.flush()
                print(f"\r{len(done)} of {count} batches, {time.monotonic() - started:.0f} s", end="", file=sys.stderr)
    print(file=sys.stderr)
    print(summary(done, kinds))
    sys.exit(1 if sum(result["differences"] for result in done) else 0)


if __name__ == "__main__":
    try:
        main()
    except EslNeuroError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
