"""Run a NIR file in independent readers, and its compiled program in Lava."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from esl_neuro.backends.golden import read_trace
from esl_neuro.compiler.check import Checked
from esl_neuro.errors import BadInput, CheckFailed, MissingDependency
from esl_neuro.interchange.readers import (
    READERS,
    ReaderCase,
    Verdict,
    ask,
    default_folder,
    install,
    installed,
    make_reader_case,
)
from esl_neuro.nirgraph.files import read_nir
from esl_neuro.nirgraph.reading import discretise, input_shapes
from esl_neuro.nirgraph.time_step import time_step
from esl_neuro.pipeline.choices import CHIP, LAVA
from esl_neuro.pipeline.compilation import check
from esl_neuro.pipeline.export_folder import GOLDEN, read_export
from esl_neuro.pipeline.fidelity import refuse_losses
from esl_neuro.pipeline.inputs import Given, Layout, Samples, arrange
from esl_neuro.pipeline.lava_verdict import ask_lava
from esl_neuro.pipeline.simulation import OnStatus
from esl_neuro.pipeline.stored_readers import store_readers


@dataclass(frozen=True)
class ReaderReport:
    """The verdicts of readers on a NIR file.

    Attributes
    ----------
    file : Path
        The file.
    verdicts : tuple of Verdict
        One for each reader that ran the file or should have.
    demanded : tuple of str
        Readers that were asked for by name, and so must be installed.
    checked : Checked or None
        Whether the file compiles for the chip, and how closely its integers follow it; None if Lava was not asked.
    """

    file: Path
    verdicts: tuple[Verdict, ...]
    demanded: tuple[str, ...] = ()
    checked: Checked | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, with None for NaN."""
        document: dict[str, Any] = {
            "file": str(self.file),
            "readers": [_without_nan(asdict(verdict)) for verdict in self.verdicts],
        }
        if self.checked is not None and self.checked.compiles:
            document["fidelity"] = None if self.checked.fidelity is None else asdict(self.checked.fidelity)
            document["findings"] = [asdict(finding) for finding in self.checked.findings]
        return document

    def refuse_losses(self) -> None:
        """Raise an error if the integers for the chip are too far from the file.

        Raises
        ------
        CheckFailed
            With every loss above the error bounds.
        """
        if self.checked is not None and self.checked.compiles:
            refuse_losses(self.checked.findings, str(self.file))

    def refuse_difference(self) -> None:
        """Raise an error if a reader differs or breaks, or a reader that was asked for, or every reader, is missing.

        Raises
        ------
        CheckFailed
            If spikes differ, or a reader's process died.
        MissingDependency
            If a reader that was asked for by name is not installed, or none of all is.
        """
        wrong = [each.reader for status in ("different", "broken") for each in self.verdicts if each.status == status]
        if wrong:
            raise CheckFailed(f"{self.file}: not confirmed by {', '.join(wrong)}")
        absent = [each for each in self.verdicts if each.status == "absent"]
        missing = [each for each in absent if each.reader in self.demanded or len(absent) == len(self.verdicts)]
        if missing:
            names = ", ".join(each.reader for each in missing)
            reasons = "; ".join(dict.fromkeys(f"{each.reader}: {each.reason}" for each in missing))
            raise MissingDependency(f"{self.file}: not run in {names} ({reasons})")


def install_readers(on_status: OnStatus, names: tuple[str, ...] = (), folder: Path | None = None) -> None:
    """Install readers (all by default), about 1.2 GB, and report each one."""
    install(folder or default_folder(), names or READERS, on_status)


def verify_nir(
    file: str | Path,
    readers: tuple[str, ...] = (),
    *,
    folder: Path | None = None,
    on_status: OnStatus = lambda _: None,
    inputs: Given | None = None,
    layout: Layout | None = None,
    **options: Any,
) -> ReaderReport:
    """Run a NIR file in independent readers, and its compiled program in Lava (all of these by default).

    With Lava, the integers of the program are also compared with the file in floating point, on ``inputs`` or drawn
    input.

    Parameters
    ----------
    file : str or Path
        The file.
    readers : tuple of str
        Names from :data:`~esl_neuro.pipeline.choices.READERS`.
    folder : Path, optional
        The folder in which the readers are installed.
    on_status : callable
        Called with a message before each long operation.
    inputs : Samples, array or path of a file, optional
        Inputs instead of random spikes; the first ``samples`` of them.
    layout : {"samples,steps,...", "steps,samples,...", "steps,..."}, optional
        Order of the first axes of ``inputs``.
    **options
        Samples, steps, time step and reset; see :func:`~esl_neuro.interchange.readers.make_reader_case`.

    Raises
    ------
    BadInput
        If the file cannot be read, or a reader is unknown.
    CheckFailed
        If a layer fires too rarely for a comparison to show anything.
    """
    path = Path(file)
    if inputs is not None:
        options["inputs"] = _arranged(path, inputs, layout, options)
    case, chosen = make_reader_case(path, **options), readers or (*READERS, LAVA)
    for finding in case.findings:
        on_status(f"{path}: {finding}")
    report = _ask(path, case, chosen, readers, folder, on_status)
    if LAVA not in chosen:
        return report
    given = None if inputs is None else Samples(case.inputs, name="the given inputs")
    how = {"steps": case.inputs.shape[1], "dt_s": options.get("dt_s"), "reset": options.get("reset")}
    checked = check(path, CHIP, inputs=given, **how)
    return replace(report, checked=checked)


def _ask(
    path: Path,
    case: ReaderCase,
    chosen: tuple[str, ...],
    demanded: tuple[str, ...],
    folder: Path | None,
    on_status: OnStatus,
) -> ReaderReport:
    """Run a case in readers and in Lava."""
    on_status(f"{path}: running in {', '.join(chosen)}")
    verdicts = ask(case, [name for name in chosen if name != LAVA], folder)
    return ReaderReport(path, (*verdicts, *((ask_lava(case, path),) if LAVA in chosen else ())), demanded)


def _arranged(path: Path, inputs: Given, layout: Layout | None, options: dict[str, Any]) -> NDArray[Any]:
    """Return inputs as (samples, steps, lines), checked against the file."""
    graph, dt_s = read_nir(path), options.get("dt_s")
    shape = input_shapes(graph, dt_s)
    if shape is None:
        discretise(graph, dt_s)  # raises all findings
    steps = options.get("steps") or graph.metadata.get("steps")
    assert shape is not None
    samples = arrange(inputs, shape, None if steps is None else int(steps), layout, time_step(graph, dt_s))
    return samples.values[: options.get("samples")]


def verify_export_graph(
    folder: Path, readers: tuple[str, ...] = (), *, on_status: OnStatus = lambda _: None
) -> ReaderReport:
    """Run the NIR graph of an export in readers (all that are installed by default), on its golden inputs.

    The export keeps the verdicts, for its report.
    """
    files = read_export(folder)
    chosen = readers or installed(default_folder())
    if not chosen:
        return ReaderReport(files.graph_path, ())
    golden = read_trace(folder / GOLDEN).input_spikes / files.program.input_scale
    try:
        case = make_reader_case(files.graph_path, inputs=golden)
    except CheckFailed as quiet:
        on_status(f"{folder / GOLDEN}: {quiet}; using random spikes instead")
        case = make_reader_case(files.graph_path)
    report = _ask(files.graph_path, case, chosen, readers, None, on_status)
    try:
        store_readers(folder, report.verdicts)
    except BadInput as error:  # the verdicts are complete; only their copy in the export is not
        on_status(f"{error}; the verdicts are not saved in the export")
    return report


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
