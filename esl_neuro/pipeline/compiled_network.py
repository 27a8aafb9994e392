"""A network compiled for a chip: run it, save it, load it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import nir
import numpy as np

from esl_neuro.backends.integer import run_integer
from esl_neuro.backends.trace import Payloads
from esl_neuro.compiler.calibrate import check_activity
from esl_neuro.compiler.fidelity import Fidelity
from esl_neuro.compiler.frontend import read_network
from esl_neuro.compiler.placement import Utilisation, place, utilisation
from esl_neuro.compiler.program import Program
from esl_neuro.compiler.quantise import QuantisationError, Scaling
from esl_neuro.data import Dataset
from esl_neuro.errors import BadInput
from esl_neuro.hardware import HardwareTarget, load_target
from esl_neuro.nirgraph.files import read_nir
from esl_neuro.nirgraph.findings import Finding
from esl_neuro.nirgraph.reading import input_shapes
from esl_neuro.pipeline.decisions import Decision
from esl_neuro.pipeline.export_folder import ExportFolder, read_export, write_export
from esl_neuro.pipeline.fidelity import compare
from esl_neuro.pipeline.inputs import (
    Given,
    InputShape,
    Layout,
    Samples,
    arrange,
    evaluation_samples,
    payloads,
    random_samples,
    spread,
)
from esl_neuro.pipeline.simulation import Progress, RunResult, run_program
from esl_neuro.recipes.consent import code_of, refuse_code
from esl_neuro.recipes.sections import DataSection
from esl_neuro.training.run_folder import environment

GOLDEN_SAMPLES = 4
GOLDEN_RATE = 0.3  # of the random spikes in the golden trace of a network without a data set


@dataclass(frozen=True)
class CompiledNetwork:
    """The integer program of a network, with everything needed to run, verify and save it.

    Attributes
    ----------
    name : str
        Name of the recipe, the file or the module.
    source : nir.NIRGraph, Path or None
        The network, with time step and steps in its metadata, or its file; None for a ``.net`` file, which has integers
        only.
    program : Program
        The integers.
    quantisation : tuple of QuantisationError
        Error of each layer, from input to output.
    findings : tuple of Finding
        Warnings of the compiler; each prints as one line.
    hardware : HardwareTarget or None
        The chip, if the package has no target of that name, or another one.
    scalings : mapping of str to Scaling
        Layers whose scale differs from the compiler's formula.
    data : DataSection or None
        Data set and encoding that it was trained for; None if unknown.
    input_steps : tuple of int or None
        Step of the program in which each step of the encoding arrives, if the program has more steps.
    fidelity : Fidelity or None
        How closely the integers follow the float network; None for an export of a version that did not measure it.
    decisions : tuple of Decision
        What the compiler chose by trying it on samples.
    class_names : tuple of str
        Names of the classes of its data, if they have any.
    allow_code : bool
        Consent to the code that it names as its data (``module:function``), if it lies outside the current folder.
    """

    name: str
    source: nir.NIRGraph | Path | None = field(repr=False)
    program: Program = field(repr=False)
    quantisation: tuple[QuantisationError, ...] = field(repr=False)
    findings: tuple[Finding, ...]
    hardware: HardwareTarget | None = field(default=None, repr=False)
    scalings: Mapping[str, Scaling] = field(default_factory=dict, repr=False)
    data: DataSection | None = field(default=None, repr=False)
    input_steps: tuple[int, ...] | None = None
    fidelity: Fidelity | None = field(default=None, repr=False)
    decisions: tuple[Decision, ...] = field(default=(), repr=False)
    class_names: tuple[str, ...] = field(default=(), repr=False)
    allow_code: bool = field(default=False, repr=False)

    @property
    def target(self) -> str:
        """Name of the chip."""
        return self.program.target

    @property
    def steps(self) -> int:
        """Time steps per sample."""
        return self.program.steps

    @cached_property
    def graph(self) -> nir.NIRGraph:
        """The NIR graph.

        Raises
        ------
        BadInput
            If its file is damaged, or it has none.
        """
        if self.source is None:
            raise BadInput(f"{self.name}: has integers only, no NIR graph; it can be run and priced")
        return read_nir(self.source) if isinstance(self.source, Path) else self.source

    @cached_property
    def input_shape(self) -> InputShape:
        """Shape of the input at one step; by name if there are several inputs."""
        shape = None if self.source is None else input_shapes(self.graph, self.program.dt_s)
        return (self.program.input_size,) if shape is None else shape

    @cached_property
    def utilisation(self) -> tuple[Utilisation, ...]:
        """How much of one chip it uses.

        Raises
        ------
        BadInput
            If it was loaded from a folder, and this package does not have the chip that it was compiled for.
        """
        chip = self.hardware or load_target(self.target)
        return tuple(utilisation(self.program, place(self.program, chip), chip))

    def __str__(self) -> str:
        program = self.program
        size = f"{program.neurons:,} neurons, {program.synapses:,} synapses, {program.steps} steps"
        said = (*self.decisions, *self.findings)
        return "\n".join([f"{self.name} compiled for {self.target}: {size}", *map(str, said)])

    def test_set(self, samples: int | None = None, dataset: Dataset | None = None) -> Samples:
        """Return the first test samples (all by default) of the data that the network was trained for.

        Raises
        ------
        BadInput
            If its data set is unknown, there are fewer samples, or an export outside the current folder names code as
            its data without consent.
        """
        if self.data is None:
            raise BadInput(f"{self.name}: the data set that it was trained for is unknown; give inputs (--input FILE)")
        if dataset is None and isinstance(self.source, Path) and not self.allow_code:
            refuse_code(self.source, code_of({"data": {"name": self.data.name}}))
        return evaluation_samples(self.data, samples, dataset)

    def payloads(self, inputs: Given, layout: Layout | None = None) -> tuple[Samples, Payloads]:
        """Return inputs as (samples, steps, lines), in the units given and as the payloads that enter the program.

        Raises
        ------
        BadInput
            If the program does not accept their shape or their values.
        """
        steps = self.steps
        if self.input_steps is not None and isinstance(inputs, Samples) and inputs.steps == len(self.input_steps):
            steps = len(self.input_steps)
        samples = arrange(inputs, self.input_shape, steps, layout, self.program.dt_s)
        arriving = payloads(samples.values, self.program)
        return samples, arriving if steps == self.steps else spread(arriving, self.steps, self.input_steps)

    def run(
        self,
        inputs: Given,
        backend: str = "integer",
        *,
        layout: Layout | None = None,
        record_potentials: bool = False,
        progress: Progress | None = None,
    ) -> RunResult:
        """Run samples in a simulator.

        Parameters
        ----------
        inputs : Samples, array of shape (samples, steps, ...), arrays by name of the input, or path of a file
            0/1 spikes, or graded values in units of the network's input if the network was compiled for them; see
            :func:`~esl_neuro.pipeline.inputs.arrange`.
        backend : {"integer", "lava", "lava-batched"}
            Simulator. Every spike in Lava is compared with the integer simulator.
        layout : {"samples,steps,...", "steps,samples,...", "steps,..."}, optional
            Order of the first axes of an array.
        record_potentials : bool
            Also record currents and potentials of every neuron and step in the trace.
        progress : callable, optional
            Called with the number of finished samples and of all samples, in Lava.

        Raises
        ------
        BadInput
            If the program does not accept the shape or the values.
        CheckFailed
            If a spike in Lava differs from the integer simulator.
        MissingDependency
            If Lava is needed and not installed.
        """
        samples, arriving = self.payloads(inputs, layout)
        result = run_program(
            self.program,
            arriving,
            samples.name,
            samples.labels,
            backend,
            record_potentials=record_potentials,
            progress=progress,
        )
        result.refuse_difference()
        return result

    def compare(self, inputs: Samples) -> tuple[Fidelity | None, list[Finding]]:
        """Run floats and integers side by side on the first of some samples; return what differs, and what is too far.

        Parameters
        ----------
        inputs : Samples
            As in :meth:`run`.
        """
        return compare(read_network(self.graph), self.program, inputs, self.input_steps)

    def save(self, folder: str | Path, *, formats: tuple[str, ...] = (), nir_version: str = "current") -> Path:
        """Write an export, which ``load_compiled`` reads and ``verify`` checks; return its path.

        Parameters
        ----------
        folder : str or Path
            Created if it does not exist; an earlier export in it is replaced.
        formats : tuple of str
            More formats: ``"netx"`` (``network.net`` for lava-dl), ``"lava-script"`` (``network.py`` for Lava alone).
        nir_version : {"current", "1.0.4"}
            Version of ``model.nir``.

        Raises
        ------
        BadInput
            If a format is unknown, or cannot represent the network.
        """
        save_compiled(self, Path(folder), self.golden_inputs(), {}, formats=formats, nir_version=nir_version)
        return Path(folder)

    def golden_inputs(self) -> Payloads:
        """Return the inputs of the golden trace: the first test samples, or random spikes without a data set."""
        if self.data is not None:
            return self.payloads(self.test_set(GOLDEN_SAMPLES))[1]
        program = self.program
        drawn = random_samples(GOLDEN_SAMPLES, program.steps, program.input_size, GOLDEN_RATE).values
        largest = 2**program.input_bits - 1
        payloads: Payloads = (drawn * largest).astype(np.uint8 if largest <= 255 else np.int32)
        return payloads


def save_compiled(
    compiled: CompiledNetwork,
    folder: Path,
    golden_inputs: Payloads,
    more: Mapping[str, Any],
    *,
    formats: tuple[str, ...] = (),
    nir_version: str = "current",
) -> dict[str, Any]:
    """Write a compiled network with a golden trace on these inputs; return the contents of ``export.json``.

    Parameters
    ----------
    compiled : CompiledNetwork
        The network.
    folder : Path
        Folder of the export.
    golden_inputs : array, shape (samples, steps, lines)
        Payloads.
    more : mapping
        Further entries of ``export.json``, such as accuracies.
    formats, nir_version
        As in :meth:`CompiledNetwork.save`.
    """
    program = compiled.program
    golden = run_integer(program, golden_inputs, record_potentials=True)
    known = {(finding.kind, finding.place) for finding in compiled.findings}
    seen = [
        each for each in check_activity(program, golden.input_spikes, golden) if (each.kind, each.place) not in known
    ]
    findings = (*compiled.findings, *seen)
    document = {
        "recipe": compiled.name,
        "target": program.target,
        "quantisation": [asdict(error) for error in compiled.quantisation],
        "input_steps": None if compiled.input_steps is None else list(compiled.input_steps),
        "readout": program.readout,
        "scalings": {name: asdict(scaling) for name, scaling in compiled.scalings.items()},
        "findings": [asdict(finding) for finding in findings],
        "fidelity": None if compiled.fidelity is None else asdict(compiled.fidelity),
        "decisions": [asdict(decision) for decision in compiled.decisions],
        **({"class_names": list(compiled.class_names)} if compiled.class_names else {}),
        "environment": environment(),
        **more,
    }
    return write_export(
        folder,
        compiled.graph,
        program,
        golden,
        compiled.data,
        document,
        formats=formats,
        nir_version=nir_version,
    )


def load_compiled(folder: str | Path, *, allow_code: bool = False) -> CompiledNetwork:
    """Read an export, written by ``CompiledNetwork.save`` or ``esl-neuro export``.

    Parameters
    ----------
    folder : str or Path
        The export.
    allow_code : bool
        Consent to the code that an export outside the current folder names as its data, ``module:function``.

    Raises
    ------
    BadInput
        If the folder is not a complete export, is damaged, or was written by a version that this one cannot read.
    """
    return replace(from_export(read_export(Path(folder))), allow_code=allow_code)


def from_export(files: ExportFolder) -> CompiledNetwork:
    """Return the network of an export; see :func:`load_compiled`."""
    contents = files.contents
    return CompiledNetwork(
        name=contents.recipe,
        source=files.graph_path,
        program=files.program,
        quantisation=contents.quantisation,
        findings=contents.findings,
        scalings=contents.scalings,
        data=files.data,
        input_steps=contents.input_steps,
        fidelity=contents.fidelity,
        decisions=contents.decisions,
        class_names=contents.class_names,
    )
