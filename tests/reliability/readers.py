"""Every reader of files, with a small valid example made by code, and what happens to the content afterwards.

A reader here reads and then uses, because a number that nobody checked does its damage where it is used.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

LIBRARY = Path(__file__).parents[1]
RUN = LIBRARY / "pipeline" / "written_by_0_1_0"


@dataclass(frozen=True)
class Reader:
    """A reader.

    Attributes
    ----------
    make : callable
        Writes a valid example into an empty folder.
    read : callable
        Reads the folder and uses what it read.
    files : tuple of str
        Files of the example that are damaged.
    free : str
        Pattern of the places, ``file/key/key``, that may say anything.
    needs_torch : bool
        Whether it loads torch, which makes every child process slower.
    """

    make: Callable[[Path], None]
    read: Callable[[Path], object]
    files: tuple[str, ...]
    free: str = "$^"
    needs_torch: bool = False

    def may_say_anything(self, file: str, place: str) -> bool:
        """Return whether nothing depends on a place of a file."""
        return re.match(self.free, f"{file}/{place}") is not None


READERS: dict[str, Reader] = {}

# A reader draws its inputs by its place here; new ones come last, so that the names of inputs stay what they are.
ORDER = (
    "array",
    "cifar",
    "events",
    "export",
    "frames",
    "gestures",
    "golden",
    "idx",
    "measurement",
    "netx",
    "nir",
    "placement",
    "power_log",
    "program",
    "program_of_images",
    "recipe",
    "resume",
    "run_folder",
    "samples",
    "shd",
    "sweep",
    "target",
    "reproduction",
    "aedat",
    "own_arrays",
    "own_images",
    "own_events",
    "inspected",
    "predicted",
    "history",
    "stored_run",
    "readers_of_nir",
    "resume_sparse",
    "sparse_nir",
    "scheduler_file",
    "search",
    "study",
)


def reader(
    make: Callable[[Path], None], *files: str, free: str = "$^", needs_torch: bool = False
) -> Callable[[Any], Any]:
    """Register a function ``folder -> object`` as a reader under its name."""

    def register(read: Callable[[Path], object]) -> Callable[[Path], object]:
        READERS[read.__name__] = Reader(make, read, files, free, needs_torch)
        return read

    return register


# NIR and .net files.


def small_graph() -> Any:
    """A graph with a convolution, a flatten, a bias, two kinds of neurons and metadata."""
    import nir

    rng = np.random.default_rng(0)
    full = lambda size, value: np.full(size, float(value))  # noqa: E731
    nodes = {
        "input": nir.Input({"input": np.array([1, 4, 4])}),
        "conv": nir.Conv2d((4, 4), rng.normal(0, 0.5, (2, 1, 3, 3)), 1, 1, 1, 1, full(2, 0.1)),
        "lif": nir.LIF(*(np.full((2, 4, 4), value) for value in (2e-4, 1.0, 0.0, 0.7)), v_reset=np.zeros((2, 4, 4))),
        "flat": nir.Flatten({"input": np.array([2, 4, 4])}, 0, -1),
        "fc": nir.Affine(rng.normal(0, 0.3, (3, 32)), full(3, 0)),
        "cuba": nir.CubaLIF(
            *(full(3, value) for value in (3e-4, 2e-4, 1, 0, 0.5)), v_reset=full(3, 0), w_in=full(3, 1)
        ),
        "output": nir.Output({"output": np.array([3])}),
    }
    return in_a_row(nodes)


def make_nir(folder: Path) -> None:
    from esl_neuro.nirgraph.files import write_nir

    write_nir(folder / "model.nir", small_graph())


@reader(make_nir, "model.nir", free=r".*/(metadata|version|input_type|output_type)")
def nir(folder: Path) -> object:
    """Check a NIR file as `esl-neuro check` does, and compile it."""
    from esl_neuro.compiler.check import check_graph
    from esl_neuro.compiler.compile import compile_graph
    from esl_neuro.nirgraph.files import read_nir

    graph = read_nir(folder / "model.nir")
    checked = check_graph(graph, "loihi2", 4, 1e-4)
    return compile_graph(graph, "loihi2", 4, 1e-4) if checked.compiles else refused(checked)


def make_sparse_nir(folder: Path) -> None:
    from esl_neuro.nirgraph.files import write_nir
    from reliability.golden import sparse_network

    write_nir(folder / "model.nir", sparse_network())


@reader(
    make_sparse_nir, "model.nir", free=r"model.nir/(version|node/metadata|node/nodes/(?!fc)[^/]*/(metadata|.*_type))"
)
def sparse_nir(folder: Path) -> object:
    """Check and compile a NIR file whose layers are stored by their connections, and run the program."""
    graph = nir(folder)
    return run(graph.program)


def refused(checked: Any) -> None:
    """Raise what a checked graph lacks, in one line."""
    from esl_neuro.errors import BadInput

    raise BadInput("; ".join(map(str, checked.findings)))


def chain() -> Any:
    """A program that every format can hold: two layers, one after the other."""
    from backends.random_programs import random_program

    return random_program(np.random.default_rng(3), depth=2, steps=4, exponents=[0, 0], widest=12)


def small_layer() -> Any:
    """A graph of five lines and three neurons."""
    import nir

    full = lambda value: np.full(3, float(value))  # noqa: E731
    return in_a_row(
        {
            "input": nir.Input({"input": np.array([5])}),
            "fc": nir.Linear(np.random.default_rng(0).normal(0, 0.5, (3, 5))),
            "lif": nir.LIF(tau=full(2e-4), r=full(1), v_leak=full(0), v_threshold=full(0.7), v_reset=full(0)),
            "output": nir.Output({"output": np.array([3])}),
        }
    )


def in_a_row(nodes: dict[str, Any]) -> Any:
    """A graph of nodes, each connected with the next."""
    import nir

    return nir.NIRGraph(nodes, list(itertools.pairwise(nodes)), {"dt_s": 1e-4, "steps": 4})


def make_netx(folder: Path) -> None:
    from esl_neuro.backends.netx import write_netx
    from esl_neuro.compiler.compile import compile_graph

    write_netx(compile_graph(small_layer(), "loihi2", 4).program, folder / "network.net")


@reader(make_netx, "network.net", free=r".*/(simulation|name)")
def netx(folder: Path) -> object:
    """Read a .net file and run it."""
    from esl_neuro.backends.netx_reading import from_netx

    return run(from_netx(folder / "network.net", 4))


# Programs, exports, traces.


def run(program: Any) -> object:
    """Run a program on random inputs, if it is of the size of the examples."""
    from esl_neuro.backends.integer import count_integer, run_integer

    lines = min(int(program.input_size), 1000)
    spikes = (np.random.default_rng(0).random((2, min(int(program.steps), 50), lines)) < 0.3).astype(np.uint8)
    run_integer(program, spikes, record_potentials=True, threads=1)
    return count_integer(program, spikes, threads=1)


def make_program(folder: Path) -> None:
    chain().save(folder)


@reader(make_program, "program.json", "program.safetensors", free=r"program.safetensors/__metadata__")
def program(folder: Path) -> object:
    """Read a program of matrices, and run it."""
    from esl_neuro.compiler.program import Program

    return run(Program.load(folder))


def make_images(folder: Path) -> None:
    from backends.random_programs import random_graph

    random_graph(np.random.default_rng(5), "everything", steps=4, widest=12).save(folder)


@reader(make_images, "program.json", "program.safetensors", free=r"program.safetensors/__metadata__")
def program_of_images(folder: Path) -> object:
    """Read a program with kernels, loops, delays and graded input, run it and place it on cores."""
    from esl_neuro.compiler.placement import place
    from esl_neuro.compiler.program import Program
    from esl_neuro.hardware import load_target

    loaded = Program.load(folder)
    run(loaded)
    return place(loaded, load_target("loihi2"))


def make_export(folder: Path) -> None:
    from esl_neuro.pipeline.compilation import compile

    compile(small_graph(), steps=4, accept_loss=True).save(folder)


FREE_OF_EXPORT = r"export.json/(environment|recipe|source|accuracy|findings/\d+/message|decisions)|.*/metadata"


@reader(make_export, "export.json", "program.json", "program.safetensors", free=FREE_OF_EXPORT)
def export(folder: Path) -> object:
    """Open an export, run it and place it on a chip."""
    from esl_neuro.pipeline.compiled_network import load_compiled

    compiled = load_compiled(folder)
    spikes = np.zeros((2, 4, 1, 4, 4), np.uint8)
    spikes[:, ::2] = 1
    str(compiled)
    return compiled.run(spikes).trace, compiled.utilisation


@reader(make_export, "golden.h5", "model.nir", "export.json", free=FREE_OF_EXPORT + "|.*/@attributes/esl_neuro_backend")
def golden(folder: Path) -> object:
    """Verify an export: compile it again, repeat its golden trace."""
    from esl_neuro.pipeline.verification import verify

    return verify(folder, with_lava=False)


# Documents.


def copies(*names: str) -> Callable[[Path], None]:
    """Return a maker that copies recipes, chips or sweeps of the package."""

    def make(folder: Path) -> None:
        from esl_neuro.resources import find_resource

        for name in names:
            kind, stem = name.split("/")
            shutil.copyfile(find_resource(kind, stem), folder / f"{stem}.toml")

    return make


WORDS = r".*/(title|source|note|condition|printed|unit|process)$"


@reader(copies("models/mlp-digits"), "mlp-digits.toml", free=r".*/(name|title|source|text)$")
def recipe(folder: Path) -> object:
    """Read a recipe and the names in it."""
    from esl_neuro.recipes import load_recipe

    read = load_recipe(str(folder / "mlp-digits.toml"))
    return read.to_document()


@reader(copies("hw_targets/loihi2"), "loihi2.toml", free=WORDS)
def target(folder: Path) -> object:
    """Read a chip, compile for it and price a run on it."""
    from esl_neuro.compiler.compile import compile_graph
    from esl_neuro.energy.report import energy_report
    from esl_neuro.hardware import load_target

    path = str(folder / "loihi2.toml")
    made = compile_graph(small_graph(), load_target(path), 4, 1e-4).program
    return energy_report(made, run(made), (path,), 1e-3)


@reader(copies("sweeps/digits-density"), "digits-density.toml", free=r".*/title$")
def sweep(folder: Path) -> object:
    """Read a sweep and plan its runs."""
    from esl_neuro.training.sweep import load_plan

    plan = load_plan(str(folder / "digits-density.toml"), folder / "runs")
    return [each.label for each in plan.runs], plan.headings


@reader(
    copies("reproductions/table1"),
    "table1.toml",
    free=r".*/(title|paper|unpublished|source|network|text|row|notes.*|x_label|line|not_run.*|published|x|drawn)$",
)
def reproduction(folder: Path) -> object:
    """Read a reproduction, plan its sweeps and describe its cells."""
    from esl_neuro.pipeline.reproduction import describe, load_reproduction
    from esl_neuro.report.reproduction_text import reproduction_text

    return reproduction_text(describe(load_reproduction(str(folder / "table1.toml"), "smoke", folder / "runs")))


def make_measurement(folder: Path) -> None:
    from esl_neuro.energy.measurement import measure

    times = np.arange(20.0)
    made = measure(times, 1 + 0.1 * np.sin(times), 100, "loihi2", "log.csv")
    (folder / "measured.json").write_text(json.dumps(made.to_dict()))


@reader(make_measurement, "measured.json", free=r".*/(source|target)$")
def measurement(folder: Path) -> object:
    """Read a measurement and show it in a report."""
    from esl_neuro.energy.measurement import Measurement
    from esl_neuro.energy.report import energy_report
    from esl_neuro.report.energy_text import render_energy_report

    measured = Measurement.load(folder / "measured.json")
    made = chain()
    return render_energy_report(energy_report(made, run(made), ("loihi2",), 1e-3, None, [measured]))


def make_power_log(folder: Path) -> None:
    rows = [f"2026/01/01 10:00:{second:02d}.500, {50 + second} W" for second in range(20)]
    (folder / "power.csv").write_text("\n".join(["timestamp, power.draw [W]", *rows]) + "\n")


@reader(make_power_log, "power.csv")
def power_log(folder: Path) -> object:
    """Read a power log and integrate it."""
    from esl_neuro.energy.measurement import measure, read_power_log

    return measure(*read_power_log(folder / "power.csv"), 100, "loihi2", "power.csv")


# Arrays of users.


def make_samples(folder: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(folder / "dense.npz", input=(rng.random((3, 4, 5)) < 0.3).astype(np.uint8), labels=np.array([0, 1, 2]))


@cache
def small_chain() -> Any:
    """A compiled network of five lines and three neurons."""
    from esl_neuro.pipeline.compilation import compile

    return compile(small_layer(), accept_loss=True)


@reader(make_samples, "dense.npz")
def samples(folder: Path) -> object:
    """Read dense inputs with labels, and run them."""
    return small_chain().run(folder / "dense.npz").accuracy


def make_array(folder: Path) -> None:
    np.save(folder / "dense.npy", (np.random.default_rng(0).random((3, 4, 5)) < 0.3).astype(np.float32))


@reader(make_array, "dense.npy")
def array(folder: Path) -> object:
    """Read one array of inputs, and run it."""
    return small_chain().run(folder / "dense.npy")


def make_events(folder: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(
        folder / "events.npz",
        sample=rng.integers(0, 3, 20),
        time_s=rng.random(20) * 4e-4,
        line=rng.integers(0, 5, 20),
        labels=np.array([0, 1, 2]),
    )


@reader(make_events, "events.npz")
def events(folder: Path) -> object:
    """Read inputs as events, and run them."""
    return small_chain().run(folder / "events.npz").accuracy


def make_placement(folder: Path) -> None:
    groups = small_chain().program.groups
    np.savez(folder / "cores.npz", input=np.arange(5), **{group.name: np.arange(3) % 2 for group in groups})


@reader(make_placement, "cores.npz")
def placement(folder: Path) -> object:
    """Read the cores of the neurons, and count messages and hops."""
    from esl_neuro.energy.core_map import read_placement
    from esl_neuro.energy.counts import count

    made = small_chain().program
    return count(made, run(made), read_placement(folder / "cores.npz"))


# What commands show of any file.


def make_inspected(folder: Path) -> None:
    make_export(folder)
    make_samples(folder)


INSPECTED = ("model.nir", "golden.h5", "program.json", "program.safetensors", "dense.npz")


@reader(make_inspected, *INSPECTED, free=r".*")  # what it shows is what the file says
def inspected(folder: Path) -> object:
    """Show the contents of files of several formats."""
    from esl_neuro.pipeline.inspection import inspect_path

    return [inspect_path(folder / name) for name in INSPECTED]


def make_predicted(folder: Path) -> None:
    np.save(folder / "sample.npy", np.random.default_rng(0).random(64).astype(np.float32))
    (folder / "sample.csv").write_text(", ".join(f"{each:.3f}" for each in np.random.default_rng(1).random(64)))


@reader(make_predicted, "sample.npy", "sample.csv")
def predicted(folder: Path) -> object:
    """Classify samples with a stored export."""
    from esl_neuro.pipeline.prediction import predict_sample

    return [predict_sample(RUN / "loihi2", folder / name) for name in ("sample.npy", "sample.csv")]


# Data sets.


def make_idx(folder: Path) -> None:
    import gzip

    from data.image_files import SAMPLES, write_mnist

    SAMPLES["train"], kept = 20, SAMPLES["train"]
    write_mnist(folder)
    SAMPLES["train"] = kept
    for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()[:2000], mtime=0))


@reader(make_idx, "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte.gz")
def idx(folder: Path) -> object:
    """Read image files of MNIST, one of them compressed."""
    from esl_neuro.data.idx import read_idx

    return [read_idx(path) for path in sorted(folder.iterdir()) if "t10k-images" not in path.name]


def make_cifar(folder: Path) -> None:
    from data.image_files import write_cifar

    write_cifar(folder, 100, samples=10)
    home = folder / "cifar-100-python"
    for name in ("train", "test"):
        (home / name).rename(folder / name)
    shutil.rmtree(home)


@reader(make_cifar, "train", "test")
def cifar(folder: Path) -> object:
    """Read batch files of CIFAR-100."""
    from esl_neuro.data.datasets import load_dataset

    return load_dataset("cifar100", folder)


def make_shd(folder: Path) -> None:
    from data.test_event_datasets import write_shd

    write_shd(folder, train=40, test=5)


@reader(make_shd, "shd_train.h5", "shd_test.h5", free=r".*/extra")
def shd(folder: Path) -> object:
    """Read spoken digits and cut them into frames."""
    from esl_neuro.data.datasets import load_dataset

    return load_dataset("shd", folder)


def make_frames(folder: Path) -> None:
    from esl_neuro.data.datasets import load_dataset

    make_shd(folder)
    load_dataset("shd", folder)


CACHE = "frames-train-10-count-binary-1x700.npz"


@reader(make_frames, CACHE)
def frames(folder: Path) -> object:
    """Read the cache of frames; if it is damaged, it is made anew, which counts as a refusal."""
    from esl_neuro.data.datasets import load_dataset
    from esl_neuro.errors import BadInput

    before = (folder / CACHE).read_bytes()
    dataset = load_dataset("shd", folder)
    if (folder / CACHE).read_bytes() != before:
        raise BadInput(f"{folder / CACHE}: was damaged and has been made anew")
    return dataset


def make_gestures(folder: Path) -> None:
    from data.test_event_datasets import write_gestures

    write_gestures(folder, users=1)


GESTURE = "ibmGestureTrain/user00_fluorescent/0.npy"


@reader(make_gestures, GESTURE)
def gestures(folder: Path) -> object:
    """Read a recording of gestures."""
    from esl_neuro.data import event_datasets

    return (
        event_datasets._part_of_files("train", [folder / GESTURE], [0], event_datasets._read_gesture).read().__next__()
    )


def make_aedat(folder: Path) -> None:
    from data.test_aedat import aedat2_bytes
    from data.test_event_datasets import recording

    (folder / "cat.aedat").write_bytes(aedat2_bytes(recording(0, (2, 128, 128)), clock=2**32 - 2000))


@reader(make_aedat, "cat.aedat")
def aedat(folder: Path) -> object:
    """Read a recording of DVS-CIFAR10 in its original format, and cut it into frames."""
    from esl_neuro.data.aedat import read_aedat2
    from esl_neuro.data.frames import frames

    return frames(read_aedat2(folder / "cat.aedat"), 10, (2, 128, 128))


# Data of users.


def own_data(path: Path, **settings: Any) -> Any:
    """Load a user's own data, of a section of a recipe."""
    from esl_neuro.data.prepare import prepare
    from esl_neuro.recipes.sections import DataSection

    return prepare(DataSection(name=str(path), steps=4, **settings))


def make_own_arrays(folder: Path) -> None:
    from data.own_files import write_arrays

    write_arrays(folder / "own.npz")


@reader(make_own_arrays, "own.npz")
def own_arrays(folder: Path) -> object:
    """Read arrays x and y, and encode them."""
    from esl_neuro.data.inputs import evaluation_inputs

    dataset = own_data(folder / "own.npz", encoding="even_rate")
    return evaluation_inputs(dataset, dataset.test, "even_rate", 4), dataset.test.labels


def make_own_images(folder: Path) -> None:
    from data.own_files import write_images

    write_images(folder / "images", 15)


@reader(make_own_images, "images/left/000.png")
def own_images(folder: Path) -> object:
    """Read an image of a folder of images, and the others."""
    return own_data(folder / "images", encoding="direct")


def make_own_events(folder: Path) -> None:
    from data.own_files import write_events

    write_events(folder / "events", 15)


@reader(make_own_events, "events/left/000.npz")
def own_events(folder: Path) -> object:
    """Read a recording of a folder of recordings, and make frames of all."""
    return own_data(folder / "events", encoding="events", sensor=[6, 6])


# Runs; these need torch.


def make_run(folder: Path) -> None:
    for path in RUN.iterdir():
        if path.is_file():
            shutil.copyfile(path, folder / path.name)


FREE_OF_RUN = r"config.toml/(name|title|expected|published)|best.json|result.json/(recipe|folder|environment)"

FREE_OF_LOGS = r"(metrics.jsonl/\d+/(?!epoch)|structure.jsonl/\d+/(?!iteration))"


@cache
def digits() -> Any:
    """The data set of the runs."""
    from esl_neuro.data.datasets import load_dataset

    return load_dataset("digits")


@reader(make_run, "config.toml", "result.json", "best.safetensors", free=FREE_OF_RUN, needs_torch=True)
def run_folder(folder: Path) -> object:
    """Open a run: its recipe, its figures and its network."""
    from esl_neuro.pipeline.training import load_run
    from esl_neuro.training.evaluation import load_network

    opened = load_run(folder)
    return opened.figures, opened.accuracy, load_network(opened.files, digits())


def make_interrupted(folder: Path, *more: str) -> None:
    from esl_neuro.pipeline.training import start_training

    changes = ("training.epochs=2", "network.notation=64-16-10", "data.steps=2", "data.samples=200", *more)
    trainer = start_training("mlp-digits", changes=changes, runs=folder)
    trainer.run(lambda *_: None, lambda *_: None)
    made = trainer.folder.path
    (made / "result.json").unlink()
    for path in list(made.iterdir()):
        path.rename(folder / path.name)
    made.rmdir()


@reader(
    make_interrupted,
    "last.safetensors",
    "metrics.jsonl",
    "structure.jsonl",
    "config.toml",
    free=f"{FREE_OF_RUN}|{FREE_OF_LOGS}",
    needs_torch=True,
)
def resume(folder: Path) -> object:
    """Open an interrupted run to continue it, and train one batch on what was read."""
    from esl_neuro.pipeline.training import resume_training

    trainer = resume_training(folder)
    trainer._train_batch(next(iter(trainer._remaining_batches())))
    return trainer


@reader(make_interrupted, "metrics.jsonl", "structure.jsonl", "connections.jsonl", free=".*", needs_torch=True)
def history(folder: Path) -> object:
    """Read what a run has recorded, as its report does; a log may hold any figure in range."""
    from esl_neuro.pipeline.run_history import EpochLine, LayerUpdate, PictureLine, read_log

    logs = folder / "metrics.jsonl", folder / "structure.jsonl", folder / "connections.jsonl"
    return [read_log(log, kind) for log, kind in zip(logs, (EpochLine, LayerUpdate, PictureLine), strict=True)]


def make_stored_run(folder: Path) -> None:
    spikes, parity = {"lif1": 40, "lif2": 3}, {"values_compared": 1040, "equal": True, "first_difference": None}
    stored = {"backend": "lava", "samples": 5, "steps": 8, "accuracy": 0.8, "spikes": spikes, "parity": parity}
    (folder / "run-lava.json").write_text(json.dumps(stored), encoding="utf-8")


@reader(make_stored_run, "run-lava.json", free=".*")
def stored_run(folder: Path) -> object:
    """Read the result that a run in Lava has left in an export."""
    from esl_neuro.pipeline.stored_run import stored_lava_run

    return stored_lava_run(folder)


def make_readers_of_nir(folder: Path) -> None:
    from esl_neuro.interchange.readers import Verdict
    from esl_neuro.pipeline.stored_readers import store_readers

    (folder / "model.nir").write_bytes(b"a graph")
    store_readers(folder, [Verdict("norse", "1.1", "equal", compared=40, spikes=9), Verdict("sinabs", "3", "refused")])


@reader(make_readers_of_nir, "readers.json", free=".*")
def readers_of_nir(folder: Path) -> object:
    """Read the verdicts of NIR readers that an export keeps."""
    from esl_neuro.pipeline.stored_readers import stored_readers

    return stored_readers(folder)


def make_interrupted_sparse(folder: Path) -> None:
    make_interrupted(folder, "sparsity.storage=sparse", "sparsity.growth={random_unfired=1.0}")


@reader(make_interrupted_sparse, "last.safetensors", "config.toml", free=FREE_OF_RUN, needs_torch=True)
def resume_sparse(folder: Path) -> object:
    """Do the same for a run with sparse storage."""
    return resume(folder)


def make_scheduler_file(folder: Path) -> None:
    stated = {
        "type": "Scheduler",
        "id": "Scheduler-1",
        "address": "tcp://127.0.0.1:8786",
        "services": {},
        "workers": {},
    }
    (folder / "scheduler.json").write_text(json.dumps(stated), encoding="utf-8")


@reader(make_scheduler_file, "scheduler.json", free=".*")
def scheduler_file(folder: Path) -> object:
    """Read the address of a scheduler from the file that Dask writes; it may be any address."""
    from esl_neuro.pipeline.workers import address_of

    return address_of(str(folder / "scheduler.json"))


@reader(copies("searches/digits-budget"), "digits-budget.toml", free=r".*/title$")
def search(folder: Path) -> object:
    """Read a search, and plan a trial at the first point of its space."""
    from esl_neuro.training.search import load_search

    plan = load_search(str(folder / "digits-budget.toml"), folder / "runs")
    values = {field: each.ends(plan.is_whole(field))[0] for field, each in plan.search.space.items()}
    return [run.label for run in plan.trial(0, values).runs], plan.identity()


def planned(folder: Path) -> Any:
    from esl_neuro.training.search import load_search

    return load_search("digits-budget", folder)


def make_study(folder: Path) -> None:
    from esl_neuro.pipeline.study import Study
    from esl_neuro.training.trials import Measure

    (folder / "digits-budget").mkdir()
    study = Study(planned(folder), alone=True)
    for end in (lambda number: study.finish(number, Measure(0.9, 1e6, 900.0)), lambda number: study.stop(number, "no")):
        number = study.propose()
        study.note_reached(number, 3, Measure(0.5, 1e6, 900.0))
        end(number)
    study.propose()


@reader(make_study, "digits-budget/study.journal", free=".*")
def study(folder: Path) -> object:
    """Read what became of the trials of a search."""
    from esl_neuro.pipeline.study import Study

    return Study(planned(folder), alone=False).records()
