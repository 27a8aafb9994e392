"""The runs on a Loihi 2 that would separate the prices of operations, as a Lava script.

One pair of layers, the rows of its connection dense, sparse or convolutional, the sources firing in no, every tenth or
every step, 100 to 4,000 neurons in 1 to 16 pairs of populations. The operations of a step are then known exactly, and
SOP, neurons and cores vary independently of each other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from esl_neuro.energy.chip_fit import CORNERS, LEAST_NJ, Observation, OpenFit, fit_open
from esl_neuro.energy.measurements import measurements
from esl_neuro.hardware import load_target
from esl_neuro.storage import write

FORMATS = ("dense", "sparse", "conv")
RATES = (0.0, 0.1, 1.0)
NEURONS = (100, 1000, 4000)
CORES = (1, 4, 16)
MOST_SOURCES = 200  # of a dense or sparse pair, so that its synapses fit into a core
DENSITY = 0.1
KERNEL = 3
STEPS = 1_000_000
SCRIPT = "loihi2_pairs.py"
CHIP = "loihi2"


@dataclass(frozen=True)
class Run:
    """One run: ``pairs`` times a population of sources and one of targets.

    Attributes
    ----------
    form : str
        One of :data:`FORMATS`.
    rate : float
        Spikes per source and step.
    targets, pairs : int
        Neurons of a target population, and pairs of populations.
    """

    form: str
    rate: float
    targets: int
    pairs: int

    @property
    def name(self) -> str:
        """Name of the run, as in ``"dense-r10-n250-p4"``."""
        return f"{self.form}-r{100 * self.rate:.0f}-n{self.targets}-p{self.pairs}"

    @property
    def sources(self) -> int:
        """Neurons of a source population."""
        return self.targets if self.form == "conv" else min(self.targets, MOST_SOURCES)

    @property
    def image(self) -> tuple[int, int]:
        """Rows and columns of the neurons of a convolution, as square as possible."""
        rows = max(each for each in range(1, math.isqrt(self.targets) + 1) if self.targets % each == 0)
        return rows, self.targets // rows

    @property
    def synapses(self) -> int:
        """Synapses of one pair."""
        if self.form == "dense":
            return self.sources * self.targets
        if self.form == "sparse":
            return self.sources * max(1, round(DENSITY * self.targets))
        rows, columns = self.image
        return _overlaps(rows) * _overlaps(columns)

    @property
    def sop(self) -> float:
        """Synaptic operations of a step, on average."""
        return self.rate * self.synapses * self.pairs

    @property
    def neuron_updates(self) -> int:
        """Neuron updates of a step."""
        return (self.sources + self.targets) * self.pairs

    @property
    def cores(self) -> int:
        """Cores, if each population is on one."""
        return 2 * self.pairs


def _overlaps(size: int) -> int:
    """Return the connections of a kernel of three along one axis with padding: two less than three for each."""
    return 1 if size == 1 else 3 * size - 2


def plan() -> tuple[Run, ...]:
    """Return every run."""
    found = (
        Run(form, rate, max(1, neurons // cores), cores)
        for form, neurons, cores, rate in itertools.product(FORMATS, NEURONS, CORES, RATES)
    )
    return tuple(dict.fromkeys(found))


def rehearse(runs: Sequence[Run], prices: tuple[float, float] = CORNERS["synapse"]) -> OpenFit:
    """Return what a fit to these runs would find on a chip with these prices, with the errors of published readings."""
    chip, repeatability = load_target(CHIP), measurements(CHIP).repeatability
    chip_nj, core_nj = (chip.constant(key).interval("nJ").nominal for key in ("e_chip_step", "e_core_step"))
    given = []
    for run in runs:
        operations = (prices[0] * run.sop + prices[1] * run.neuron_updates) / 1e3
        energy = chip_nj + core_nj * run.cores + operations
        given.append(
            Observation("own", energy, LEAST_NJ, repeatability * energy, 1, run.cores, run.sop, run.neuron_updates)
        )
    return fit_open(given)


def write_programs(folder: Path) -> Path:
    """Write the script that runs the plan on a board, or some of it in Lava's simulator."""
    rows = ",\n".join(f"    {_row(run)!r}" for run in plan())
    path = folder / SCRIPT
    write(path, TEMPLATE.replace("@PLAN@", rows).replace("@STEPS@", f"{STEPS:_}").replace("@DENSITY@", str(DENSITY)))
    return path


def _row(run: Run) -> tuple[object, ...]:
    image = run.image if run.form == "conv" else None
    counts = (round(run.sop, 1), run.neuron_updates)
    return run.name, run.form, run.rate, run.sources, run.targets, image, run.pairs, *counts


TEMPLATE = '''"""Pairs of layers on a Loihi 2: the energy of synaptic operations apart from that of neuron updates.

    python loihi2_pairs.py --list              the runs, with the operations of a step
    python loihi2_pairs.py --simulate NAME     20 steps of one in Lava's CPU simulator, with its operations counted
    python loihi2_pairs.py NAME                one on the board, with Lava's profiler
    python loihi2_pairs.py                     all of them, about an hour; finished ones are skipped

Each run leaves what the profiler measured in NAME.txt, and prints the command that makes a reading of a power log. Note
the idle power before and after every run. If Lava's compiler uses another number of cores than stated, give that one.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

STEPS = @STEPS@
SHORT = 20
# name, form, spikes per source and step, sources, targets, image, pairs, SOP and neuron updates of a step
PLAN = [
@PLAN@,
]


def source(lif, count, rate):
    """Neurons that fire every step, every tenth step (a tenth of them in each), or never."""
    bias = 0 if rate == 0 else 641 if rate == 1 else 65
    start = np.arange(count) % 10 * 65 if rate == 0.1 else 0
    return lif(shape=(count,), vth=10, du=4095, dv=0, bias_mant=bias, bias_exp=0, v=start)


def connection(form, sources, targets, image):
    """Weights of 2: dense, a tenth of them, or a kernel of 3 x 3."""
    if form == "conv":
        from lava.proc.conv.process import Conv

        return Conv(weight=np.full((1, 3, 3, 1), 2), input_shape=(*image, 1), padding=1)
    if form == "dense":
        from lava.proc.dense.process import Dense

        return Dense(weights=np.full((targets, sources), 2))
    from lava.proc.sparse.process import Sparse
    from scipy.sparse import csr_matrix

    each = max(1, round(@DENSITY@ * targets))
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.choice(targets, each, replace=False) for _ in range(sources)])
    columns = np.repeat(np.arange(sources), each)
    return Sparse(weights=csr_matrix((np.full(len(rows), 2), (rows, columns)), shape=(targets, sources)))


def build(form, rate, sources, targets, image, pairs):
    """Return the source populations of a run, connected to targets that never spike."""
    from lava.proc.lif.process import LIF

    found = []
    for _ in range(pairs):
        first = source(LIF, sources, rate)
        last = LIF(shape=(targets,), vth=131071, du=4095, dv=4095, bias_mant=0)
        between = connection(form, sources, targets, image)
        first.s_out.reshape(between.s_in.shape).connect(between.s_in)
        between.a_out.reshape(last.a_in.shape).connect(last.a_in)
        found.append(first)
    return found


def measure(name, form, rate, sources, targets, image, pairs, sop, updates):
    """Run on the board, and keep every number of the profiler."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2HwCfg
    from lava.utils.profiler import Profiler

    configuration = Loihi2HwCfg()
    profiler = Profiler.init(configuration)
    profiler.execution_time_probe(num_steps=STEPS)
    profiler.energy_probe(num_steps=STEPS)
    network = build(form, rate, sources, targets, image, pairs)
    network[0].run(condition=RunSteps(num_steps=STEPS), run_cfg=configuration)
    network[0].stop()
    numbers = {key: getattr(profiler, key) for key in dir(profiler) if not key.startswith("_")}
    kept = {key: value for key, value in numbers.items() if isinstance(value, (int, float, np.ndarray))}
    Path(f"{name}.txt").write_text("\\n".join(f"{key} = {value}" for key, value in kept.items()) + "\\n")
    print(
        f"esl-neuro energy import POWER.csv --samples {STEPS} --target loihi2 --idle-w IDLE --steps 1 "
        f"--cores {2 * pairs} --sop {sop:g} --neuron-updates {updates} --out {name}.json"
    )


def simulate(name, form, rate, sources, targets, image, pairs, sop, updates):
    """Run one pair for a few steps in the CPU simulator, and count its operations."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.sink import RingBuffer

    (first,) = build(form, rate, sources, targets, image, 1)
    sink = RingBuffer(shape=(sources,), buffer=SHORT)
    first.s_out.connect(sink.a_in)
    first.run(condition=RunSteps(num_steps=SHORT), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    spikes = sink.data.get().astype(int)
    first.stop()
    if form == "conv":
        rows, columns = (np.minimum(np.arange(n) + 1, n - 1) - np.maximum(np.arange(n) - 1, 0) + 1 for n in image)
        fan_out = np.outer(rows, columns).ravel()
    else:
        fan_out = np.full(sources, targets if form == "dense" else max(1, round(@DENSITY@ * targets)))
    counted = int(spikes.sum(axis=1) @ fan_out) / SHORT * pairs
    print(f"{name}: {spikes.sum() / spikes.size:g} spikes per source and step, {counted:g} SOP a step; planned {sop:g}")


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\\n\\n")[0])
    parser.add_argument("name", nargs="?", help="one run; default: all")
    parser.add_argument("--list", action="store_true", help="list the runs")
    parser.add_argument("--simulate", action="store_true", help="a few steps in Lava's CPU simulator")
    given = parser.parse_args()
    rows = {row[0]: row for row in PLAN}
    if given.list:
        for name, *_, sop, updates in PLAN:
            print(f"{name:24} {sop:12,.0f} SOP {updates:8,} neuron updates a step")
    elif given.name is not None:
        if given.name not in rows:
            parser.error(f"no run '{given.name}'; see --list")
        (simulate if given.simulate else measure)(*rows[given.name])
    else:
        for name in rows:  # each in a process of its own, so that one failure ends one run
            if not Path(f"{name}.txt").exists():
                subprocess.run([sys.executable, __file__, name], check=False)


if __name__ == "__main__":
    main()
'''
