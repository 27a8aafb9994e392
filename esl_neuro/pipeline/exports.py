"""Export a run, or compile a NIR file into the same folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esl_neuro.errors import CheckFailed
from esl_neuro.hardware import arithmetic_of, as_target
from esl_neuro.pipeline.choices import CHIP
from esl_neuro.pipeline.compilation import Target, compile
from esl_neuro.pipeline.compiled_network import GOLDEN_SAMPLES, CompiledNetwork, save_compiled
from esl_neuro.pipeline.decisions import predict
from esl_neuro.pipeline.float_predictions import float_predictions
from esl_neuro.pipeline.inputs import Given, Layout
from esl_neuro.pipeline.training import TrainingRun, load_run


@dataclass(frozen=True)
class Export:
    """A run or a file that was compiled, tested and saved as an export.

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
        """Accuracy loss by quantisation, as a fraction of the samples; 0 if no labels are known."""
        accuracy = self.document.get("accuracy")
        return 0.0 if accuracy is None else float(accuracy["float"] - accuracy["integer"])

    def refuse_loss(self, most: float) -> None:
        """Raise an error if quantisation costs more than ``most`` points of test accuracy.

        Raises
        ------
        CheckFailed
            With the loss and the limit.
        """
        if not 100 * self.loss <= most:  # also if one of them is not a number
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
    allow_code: bool = False,
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
    allow_code : bool
        As in :func:`~esl_neuro.pipeline.training.load_run`.
    **how
        As in :func:`~esl_neuro.pipeline.compilation.compile`.

    Raises
    ------
    BadInput, LimitExceeded
        As in :func:`~esl_neuro.pipeline.compilation.compile`; an earlier export remains unchanged.
    """
    chip = as_target(target)
    arithmetic_of(chip)  # a chip without integers, or a folder that is no run, is reported before torch loads
    source = run if isinstance(run, TrainingRun) else load_run(run, allow_code=allow_code)
    compiled = compile(source, chip, **how)
    from esl_neuro.training.evaluation import accuracy

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
    golden = compiled.payloads(test.part(GOLDEN_SAMPLES))[1]
    document = save_compiled(compiled, where, golden, more, formats=formats, nir_version=nir_version)
    return Export(where, compiled, document)


def compile_file(
    file: str | Path,
    target: Target = CHIP,
    folder: str | Path | None = None,
    *,
    inputs: Given | None = None,
    layout: Layout | None = None,
    formats: tuple[str, ...] = (),
    nir_version: str = "current",
    **how: Any,
) -> Export:
    """Compile a NIR file and save the same folder as :func:`export_run` does.

    Parameters
    ----------
    file : str or Path
        The NIR file.
    target : str, Path or HardwareTarget
        The chip.
    folder : str or Path, optional
        Folder to write. Default: the name of the file and of the chip, as ``model-loihi2``, in the current folder.
    inputs : Samples, array, arrays by name or path of a file, optional
        Inputs of the network, with labels. The first are those of the golden trace; with labels, the accuracies of the
        float network and of the integers are stored. Without inputs, the golden trace has random spikes.
    layout : {"samples,steps,...", "steps,samples,...", "steps,..."}, optional
        Order of the first axes of ``inputs`` and of calibration data.
    formats, nir_version
        As in :meth:`CompiledNetwork.save`.
    **how
        As in :func:`~esl_neuro.pipeline.compilation.compile`.

    Raises
    ------
    BadInput, LimitExceeded
        As in :func:`~esl_neuro.pipeline.compilation.compile`; an earlier export remains unchanged.
    """
    chip, path = as_target(target), Path(file)
    compiled = compile(path, chip, inputs=inputs, layout=layout, **how)
    more: dict[str, Any] = {"source": str(path)}
    golden = compiled.golden_inputs()
    if inputs is not None:
        given, arriving = compiled.payloads(inputs, layout)
        golden = arriving[:GOLDEN_SAMPLES]
        if given.labels is not None:
            classes, ties = predict(compiled, given)
            more["accuracy"] = {
                "samples": len(given),
                "float": float((float_predictions(compiled, given) == given.labels).mean()),
                "integer": float((classes == given.labels).mean()),
                "ties": float(ties.mean()),
            }
    where = Path(folder) if folder is not None else Path(f"{path.stem}-{chip.name}")
    document = save_compiled(compiled, where, golden, more, formats=formats, nir_version=nir_version)
    return Export(where, compiled, document)
