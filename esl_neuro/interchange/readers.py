"""Run a NIR file in other programs, and compare their spikes with the reference, entry by entry.

Each reader has its own folder of pinned packages, and all share one Python with a CPU build of torch. A reader runs in
its own process without this package and communicates through files.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from esl_neuro.errors import BadInput, CheckFailed, MissingDependency, did_you_mean
from esl_neuro.interchange.comparison import ReaderDivergence, compare
from esl_neuro.nirgraph.files import read_nir, write_nir
from esl_neuro.nirgraph.findings import Finding, refuse
from esl_neuro.nirgraph.reading import READING, run_passes
from esl_neuro.nirgraph.reset_notes import RESET_FINDINGS, read_resets
from esl_neuro.nirgraph.shapes import DiscreteGraph
from esl_neuro.nirgraph.simulation import Simulation, simulate
from esl_neuro.nirgraph.sparse_nodes import SparseAffine
from esl_neuro.nirgraph.structure import flat_graph
from esl_neuro.reading.arrays import read_arrays
from esl_neuro.reading.documents import read_json_object
from esl_neuro.storage import locked, refusing, scratch_folder, write, writing

NIR = ("nir==1.0.8", "nirtorch==2.6")
PLOTTING = (  # sinabs imports it
    "matplotlib==3.11.2",
    "contourpy==1.3.3",
    "cycler==0.12.1",
    "fonttools==4.68.0",
    "kiwisolver==1.5.1",
    "packaging==26.4",
    "pillow==13.0.0",
    "pyparsing==3.3.3",
    "python-dateutil==4.0.0",
)
READERS: dict[str, tuple[str, ...]] = {
    "norse": ("norse==1.1.0", *NIR),
    "snntorch": ("snntorch==1.0.0", *NIR),
    "spikingjelly": ("spikingjelly==2.0.0", *NIR, "loguru==0.7.3", "tqdm==4.70.1"),
    "nirtorch": NIR,
    "sinabs": ("sinabs==3.1.3", "nir==1.0.4", "nirtorch==2.0.2", "pbr==7.1.3", *PLOTTING),
}
"""Packages of each reader, installed without their dependencies, which would install a CUDA build of torch."""

OLDER_NIR = frozenset({"sinabs"})
"""Readers that need a file without the fields added in NIR 1.0.5."""

TORCH = "torch==2.13.0"  # without a hash: each index has builds of its own, for processors and for versions of CUDA
SHARED = (
    "numpy==2.4.6",
    "scipy==1.17.1",
    "h5py==3.16.0",
    "filelock==4.2.12",
    "fsspec==2026.9.0",
    "jinja2==3.1.6",
    "markupsafe==3.0.4",
    "mpmath==1.4.1",
    "networkx==3.6.1",
    "setuptools==66.1.1",
    "sympy==1.14.0",
    "typing-extensions==4.16.0",
)
BUILD = ("setuptools==80.9.0", "setuptools-scm==8.3.1", "packaging==26.4", "typing-extensions==4.16.0")
"""What builds a reader that has no wheel (Norse); pip would download the newest."""

LOCKS = Path(__file__).parent / "locks"
"""The same packages with the hashes of their files; ``make lock`` writes them."""

PYTHONS = ("3.11", "3.12", "3.13")  # SpikingJelly 2.0 needs 3.11
RUNNERS = Path(__file__).parent / "runners"
RATES = (0.2, 0.5, 0.05, 0.8, 1.0)
"""Rates of random input spikes, tried in order until every layer fires often enough."""

MINIMUM = 10
"""Least number of spikes of every layer."""

PATIENCE_S = 900
INSTALL = "esl-neuro verify --install-readers"


def default_folder() -> Path:
    """Return the folder of the readers: ``ESL_NEURO_READERS``, else a folder in the user's cache."""
    given = os.environ.get("ESL_NEURO_READERS")
    return Path(given) if given else Path.home() / ".cache" / "esl-neuro" / "readers"


def installed(folder: Path) -> tuple[str, ...]:
    """Return the names of the readers in a folder."""
    return tuple(name for name in READERS if (folder / name / "complete").is_file() and _python(folder).exists())


def install(folder: Path, names: Iterable[str] = READERS, say: Callable[[str], None] = print) -> None:
    """Install readers in pinned versions, each in its own folder, and one Python for all.

    Parameters
    ----------
    folder : Path
        Destination; about 1.2 GB.
    names : iterable of str
        Names of :data:`READERS`.
    say : callable
        Receives progress messages.

    Raises
    ------
    BadInput
        If there is no reader of that name.
    MissingDependency
        If no suitable Python is found, or a package cannot be installed.
    """
    chosen = _known(names)
    with refusing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "another process is installing readers here; wait for it"):
        _install(folder, chosen, say)


def _install(folder: Path, chosen: Iterable[str], say: Callable[[str], None]) -> None:
    if not (folder / "python" / "complete").is_file():
        say(f"{folder / 'python'}: Python with a CPU build of torch")
        shutil.rmtree(folder / "python", ignore_errors=True)
        _run_or_explain([_find_python(), "-m", "venv", str(folder / "python")])
        _pip(folder, TORCH)
        _pip(folder, *pinned("shared"))
        _run_or_explain([str(_python(folder)), "-c", "import torch"], _CPU_TORCH)
        write(folder / "python" / "complete", "")
    if not (folder / "build" / "complete").is_file():
        shutil.rmtree(folder / "build", ignore_errors=True)
        _pip(folder, "--target", str(folder / "build"), *pinned("build"))
        write(folder / "build" / "complete", "")
    for name in chosen:
        complete, pins = folder / name / "complete", " ".join(READERS[name])
        if complete.is_file() and complete.read_text(encoding="utf-8") == pins:
            say(f"{folder / name}: already installed")
            continue
        say(f"{folder / name}: {pins}")
        shutil.rmtree(folder / name, ignore_errors=True)
        _pip(folder, "--target", str(folder / name), "--no-build-isolation", *pinned(name))
        write(complete, pins)


_CPU_TORCH = (
    "pip found a CUDA build of torch; set an index with CPU builds and try again: "
    "PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu"
)


def _known(names: Iterable[str]) -> tuple[str, ...]:
    chosen = tuple(names)
    for name in chosen:
        if name not in READERS:
            raise BadInput(f"reader '{name}' is unknown; {did_you_mean(name, READERS)}")
    return chosen


def _python(folder: Path) -> Path:
    return folder / "python" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _find_python() -> str:
    own = "{}.{}".format(*sys.version_info)
    candidates = ([sys.executable] if own in PYTHONS else []) + [f"python{version}" for version in PYTHONS]
    for candidate in candidates:
        try:
            found = subprocess.run([candidate, "-c", "import venv, ensurepip"], capture_output=True, check=False)
        except OSError:
            continue
        if found.returncode == 0:
            return candidate
    raise MissingDependency(f"the readers need Python {' or '.join(PYTHONS)}; none was found on PATH, install one")


def pinned(name: str) -> tuple[str, ...]:
    """Return the arguments that make pip install a lock, and refuse any file with another hash."""
    return "--require-hashes", "-r", str(LOCKS / f"{name}.lock")


def _pip(folder: Path, *arguments: str) -> None:
    command = [str(_python(folder)), "-m", "pip", "install", "--quiet", "--no-deps", *arguments]
    _run_or_explain(command, builders=folder / "build")


def _run_or_explain(command: list[str], hint: str = "", builders: Path | None = None) -> None:
    environment = {**_environment(), **({} if builders is None else {"PYTHONPATH": str(builders)})}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise MissingDependency(f"'{' '.join(command[:4])} ...' failed: {last}{'; ' if hint else ''}{hint}")


@dataclass(frozen=True)
class Verdict:
    """Result of one reader.

    Attributes
    ----------
    reader, version : str
        Its name and its installed version.
    status : str
        ``equal``, ``different``, ``refused`` (it does not support the graph), ``absent`` (not installed) or ``broken``
        (its process failed).
    reason : str
        Why it refused or failed.
    compared : int
        Number of compared entries of spike trains.
    spikes : int
        Number of reference spikes among them.
    differing : int
        Number of entries that differ.
    latency_steps : dict of str to int
        Latency of each layer relative to the reference, removed before the comparison.
    divergence : ReaderDivergence or None
        First divergence.
    """

    reader: str
    version: str
    status: str
    reason: str = ""
    compared: int = 0
    spikes: int = 0
    differing: int = 0
    latency_steps: dict[str, int] | None = None
    divergence: ReaderDivergence | None = None


@dataclass(frozen=True)
class ReaderCase:
    """A graph with its inputs and its reference simulation, for the readers to repeat.

    Attributes
    ----------
    graph : nir.NIRGraph
        Flat, with its time step; without a final ``I`` node, which no reader supports.
    fires : list of str
        Nodes that fire, in order of execution.
    inputs : float32 array, shape (samples, steps, ...)
    reference : Simulation
    reset : str or None
        The reset that was stated for the file.
    findings : tuple of Finding
        Warnings about the reset.
    """

    graph: nir.NIRGraph
    fires: list[str]
    inputs: NDArray[np.float32]
    reference: Simulation
    reset: str | None = None
    findings: tuple[Finding, ...] = ()


def make_reader_case(
    path: Path,
    *,
    inputs: NDArray[Any] | None = None,
    steps: int | None = None,
    samples: int = 8,
    seed: int = 0,
    dt_s: float | None = None,
    reset: str | None = None,
    minimum: int = MINIMUM,
) -> ReaderCase:
    """Read a NIR file and run the reference simulation.

    Parameters
    ----------
    path : Path
        The file.
    inputs : array, shape (samples, steps, ...), optional
        Input spikes. Default: random spikes at the first of :data:`RATES` at which every layer fires.
    steps : int, optional
        Steps of random inputs. Default: ``steps`` of the file's metadata, or 50.
    samples, seed : int
        Number and seed of random inputs.
    dt_s : float, optional
        Time step in seconds. Default: ``dt_s`` of the file.
    reset : {"zero", "subtract", "subtract_next_step"}, optional
        Reset of all neurons, if the metadata of the file do not note it.
    minimum : int
        Least number of reference spikes of every layer, because equal silence proves nothing.

    Raises
    ------
    BadInput
        If the file cannot be read or simulated.
    CheckFailed
        If a layer has fewer spikes.
    """
    read = read_nir(path)
    discrete, findings = run_passes(READING, read, dt_s, reset)
    refuse(findings, "the NIR graph cannot be read")
    assert isinstance(discrete, DiscreteGraph)
    if not discrete.fires:
        raise BadInput(f"{path}: no node fires, so there are no spikes to compare")
    structure, shape = discrete.structure, discrete.shapes[discrete.structure.input]
    graph = _without_readout(flat_graph(structure, discrete.dt_s, read.metadata), structure.output)
    if inputs is None:
        inputs, reference = _random_run(
            graph, (samples, steps or int(graph.metadata.get("steps", 50)), *shape), seed, minimum
        )
    else:
        inputs = np.asarray(inputs, dtype=np.float32).reshape(*inputs.shape[:2], *shape)
        reference = simulate(graph, inputs)
    _demand_spikes(reference, minimum)
    of_resets = tuple(finding for finding in findings if finding.kind in RESET_FINDINGS)
    return ReaderCase(graph, list(discrete.fires), inputs, reference, reset, of_resets)


def ask(case: ReaderCase, names: Iterable[str] = READERS, folder: Path | None = None) -> tuple[Verdict, ...]:
    """Run a case in readers and compare all spikes with the reference, entry by entry.

    The input of a final ``I`` node is compared within a thousandth.

    Parameters
    ----------
    case : ReaderCase
        The graph, inputs and reference.
    names : iterable of str
        Names of readers.
    folder : Path, optional
        Folder of the installed readers.

    Returns
    -------
    tuple of Verdict
        One for each reader.

    Raises
    ------
    BadInput
        If there is no reader of that name.
    """
    chosen, folder = _known(names), folder or default_folder()
    latest = len(case.fires)  # no reader has a latency of more than one step per layer
    shape = case.inputs.shape
    longer = np.concatenate([case.inputs, np.zeros((shape[0], latest, *shape[2:]), np.float32)], axis=1)
    return tuple(
        _ask(name, folder, case.graph, case.fires, longer, case.reference)
        if name in installed(folder)
        else Verdict(name, "", "absent", f"not installed; run '{INSTALL}'")
        for name in chosen
    )


def verify(
    path: Path, *, names: Iterable[str] = READERS, folder: Path | None = None, **options: Any
) -> tuple[Verdict, ...]:
    """Run a NIR file in readers; see :func:`make_reader_case` for the options and :func:`ask` for the comparison."""
    chosen = _known(names)
    return ask(make_reader_case(path, **options), chosen, folder)


def _without_readout(graph: nir.NIRGraph, output: str) -> nir.NIRGraph:
    """Remove a final ``I`` node; its input becomes the output."""
    last = [source for source, target in graph.edges if target == output]
    if len(last) != 1 or not isinstance(graph.nodes[last[0]], nir.I):
        return graph
    nodes = {name: node for name, node in graph.nodes.items() if name != last[0]}
    edges = [(a, output if b == last[0] else b) for a, b in graph.edges if a != last[0]]
    return nir.NIRGraph(nodes, edges, graph.metadata, type_check=False)


def _random_run(
    graph: nir.NIRGraph, shape: tuple[int, ...], seed: int, minimum: int
) -> tuple[NDArray[np.float32], Simulation]:
    """Find random inputs of a shape (samples, steps, ...) at which every layer fires."""
    samples, steps, *rest = shape
    draws = np.random.default_rng(seed).random((steps, samples, *rest), dtype=np.float32).swapaxes(0, 1)
    for rate in RATES:
        inputs = (draws < rate).astype(np.float32)
        reference = simulate(graph, inputs)
        if min(spikes.sum() for spikes in reference.spikes.values()) >= minimum:
            break
    return inputs, reference


def _demand_spikes(reference: Simulation, minimum: int) -> None:
    quiet = {name: int(spikes.sum()) for name, spikes in reference.spikes.items() if spikes.sum() < minimum}
    if quiet:
        layers = ", ".join(f"'{name}' ({count})" for name, count in quiet.items())
        raise CheckFailed(
            f"layers with fewer than {minimum} spikes: {layers}; too few for a comparison: give inputs at which they "
            "fire, or more steps or samples"
        )


def _ask(
    name: str,
    folder: Path,
    graph: nir.NIRGraph,
    fires: list[str],
    inputs: NDArray[np.float32],
    reference: Simulation,
) -> Verdict:
    unknown = [f"'{node}'" for node, each in graph.nodes.items() if isinstance(each, SparseAffine)]
    if unknown:
        reason = f"{', '.join(unknown)}: NIR has no node that stores connections only (SparseAffine)"
        return Verdict(name, "", "refused", reason)
    with scratch_folder() as job:
        names = portable_names(graph.nodes)
        try:
            write_nir(job / "graph.nir", _renamed(graph, names), "1.0.4" if name in OLDER_NIR else "current")
        except BadInput as error:
            return Verdict(name, "", "refused", str(error))
        with writing(job / "inputs.npy") as file:
            np.save(file, np.ascontiguousarray(inputs.swapaxes(0, 1)))  # readers take the steps first
        resets = {names[name]: reset for name, reset in read_resets(graph)[0].items()}
        written = {"dt_s": graph.metadata["dt_s"], "fires": [names[name] for name in fires], "resets": resets}
        write(job / "job.json", json.dumps(written))
        try:
            done = subprocess.run(
                [str(_python(folder)), str(RUNNERS / f"run_{name}.py"), str(job)],
                env={**_environment(), "PYTHONPATH": str(folder / name)},
                capture_output=True,
                text=True,
                check=False,
                timeout=PATIENCE_S,
            )
        except subprocess.TimeoutExpired:
            return Verdict(name, "", "broken", f"timed out after {PATIENCE_S} s")
        if not (job / "result.json").is_file():
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            return Verdict(name, "", "broken", last)
        result = read_json_object(job / "result.json")
        if result["status"] == "refused":
            return Verdict(name, result["version"], "refused", result["reason"])
        comparison = compare(graph, fires, reference, _ours(read_arrays(job / "result.npz"), names))
    return Verdict(
        reader=name,
        version=result["version"],
        status="different" if comparison.differing else "equal",
        compared=comparison.compared,
        spikes=comparison.spikes,
        differing=comparison.differing,
        latency_steps=comparison.latency_steps,
        divergence=comparison.divergence,
    )


def portable_names(nodes: Iterable[str]) -> dict[str, str]:
    """Return a unique name for each node that torch allows for a module, without dots."""
    names: dict[str, str] = {}
    for node in nodes:
        name = node.replace(".", "_")
        while name in names.values():
            name += "_"
        names[node] = name
    return names


def _renamed(graph: nir.NIRGraph, names: Mapping[str, str]) -> nir.NIRGraph:
    nodes = {names[name]: node for name, node in graph.nodes.items()}
    edges = [(names[source], names[target]) for source, target in graph.edges]
    return nir.NIRGraph(nodes, edges, graph.metadata, type_check=False)


def _ours(arrays: Mapping[str, NDArray[Any]], names: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a reader under the original node names, samples first."""
    ours = {name: node for node, name in names.items()}
    found = {}
    for key, values in arrays.items():
        quantity, _, name = key.partition("/")
        found[f"{quantity}/{ours[name]}" if name else quantity] = values.swapaxes(0, 1)
    return found


def _environment() -> dict[str, str]:
    """Return the environment without variables that would expose this Python's packages to another Python."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1"}
