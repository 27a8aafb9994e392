"""Export a run, and run an export in a simulator."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from esl_neuro.errors import CheckFailed
from esl_neuro.hardware import as_target
from esl_neuro.pipeline.choices import CHIP
from esl_neuro.pipeline.compilation import Target, compile
from esl_neuro.pipeline.compiled_network import CompiledNetwork, load_compiled, save_compiled
from esl_neuro.pipeline.decisions import predict
from esl_neuro.pipeline.simulation import Progress, RunResult, run_program
from esl_neuro.pipeline.training import TrainingRun, load_run


@dataclass(frozen=True)
class Export:
    """A run that was compiled, tested and saved as an export.

    Attributes
    ----------
    folder : Path
        The folder of the export.
    compiled : CompiledNetwork
        The network.
    document : dict
        The contents of ``export.json``: quantisation errors, findings, accuracies and more.
    """

    folder: Path
    compiled: CompiledNetwork
    document: dict[str, Any]

    @property
    def loss(self) -> float:
        """Accuracy loss by quantisation, as a fraction of the test samples."""
        accuracy = self.document["accuracy"]
        return float(accuracy["float"] - accuracy["integer"])

    def refuse_loss(self, most: float) -> None:
        """Raise an error if quantisation costs more than ``most`` points of test accuracy.

        Raises
        ------
        CheckFailed
            With the loss and the limit.
        """
        if 100 * self.loss > most:
            raise CheckFailed(
                f"quantisation costs {100 * self.loss:.2f} points of test accuracy, more than --max-loss {most:g}; "
                f"the export in {self.folder} is complete but loses accuracy"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"folder": str(self.folder), **self.document}


def export_run(
    run: TrainingRun | str | Path,
    target: Target = CHIP,
    folder: str | Path | None = None,
    *,
    formats: tuple[str, ...] = (),
    nir_version: str = "current",
    **how: Any,
) -> Export:
    """Compile a run, test its integers on the whole test set, and save both beside the run.

    Parameters
    ----------
    run : TrainingRun or path
        The run or its folder.
    target : str, Path or HardwareTarget
        The chip.
    folder : str or Path, optional
        Folder of the export. Default: the name of the chip, in the run folder.
    formats, nir_version
        As in :meth:`CompiledNetwork.save`.
    **how
        As in :func:`~esl_neuro.pipeline.compilation.compile`.

    Raises
    ------
    BadInput, LimitExceeded
        As in :func:`~esl_neuro.pipeline.compilation.compile`; an earlier export remains unchanged.
    """
    chip = as_target(target)
    source = run if isinstance(run, TrainingRun) else load_run(run)
    compiled = compile(source, chip, **how)
    from esl_neuro.training.trainer import accuracy

    test = compiled.test_set(dataset=source.dataset)
    classes, ties = predict(compiled, test)
    more = {
        "run": str(source.folder),
        "accuracy": {
            "samples": len(test),
            "float": accuracy(source.network, source.dataset, source.dataset.test, source.recipe.data),
            "integer": float((classes == test.labels).mean()),
            "ties": float(ties.mean()),
        },
    }
    where = Path(folder) if folder is not None else source.folder / chip.name
    document = save_compiled(compiled, where, compiled.golden_inputs(), more, formats=formats, nir_version=nir_version)
    return Export(where, compiled, document)


def run_export(
    folder: str | Path,
    backend: str = "integer",
    samples: int | None = None,
    *,
    record_potentials: bool = False,
    progress: Progress | None = None,
) -> RunResult:
    """Run an export on its first test samples (all by default), and save the result in its folder as JSON.

    The first samples also run in floating point, for the fidelity of the result. Unlike :meth:`CompiledNetwork.run`,
    this also returns a result that differs from the integer simulator.

    Raises
    ------
    BadInput
        If the folder is not an export, or the test set has fewer samples.
    MissingDependency
        If Lava is needed and not installed.
    """
    path = Path(folder)
    compiled = load_compiled(path)
    given, arriving = compiled.payloads(compiled.test_set(samples))
    result = run_program(
        compiled.program,
        arriving,
        given.name,
        given.labels,
        backend,
        record_potentials=record_potentials,
        progress=progress,
    )
    fidelity, findings = compiled.compare(given)
    result = replace(result, fidelity=fidelity, findings=tuple(findings))
    document = {"export": str(path), **result.to_dict()}
    (path / f"run-{backend}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return result
