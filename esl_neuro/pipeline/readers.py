"""Run a NIR file in independent readers, and its compiled program in Lava."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from esl_neuro.backends.golden import read_trace
from esl_neuro.compiler.check import Checked
from esl_neuro.errors import CheckFailed, MissingDependency
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
from esl_neuro.pipeline.choices import CHIP, LAVA
from esl_neuro.pipeline.compilation import check
from esl_neuro.pipeline.export_folder import GOLDEN, read_export
from esl_neuro.pipeline.fidelity import refuse_losses
from esl_neuro.pipeline.lava_verdict import ask_lava
from esl_neuro.pipeline.simulation import OnStatus


@dataclass(frozen=True)
class ReaderReport:
    """The verdicts of readers on a NIR file.

    Attributes
    ----------
    file : Path
        The file.
    verdicts : tuple of Verdict
        One for each reader that ran the file or should have.
    checked : Checked or None
        Whether the file compiles for the chip, and how closely its integers follow it; None if Lava was not asked.
    """

    file: Path
    verdicts: tuple[Verdict, ...]
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
        """Raise an error if a reader differs or breaks, or if no reader is installed.

        Raises
        ------
        CheckFailed
            If spikes differ, or a reader's process died.
        MissingDependency
            If no reader is installed.
        """
        wrong = [each.reader for status in ("different", "broken") for each in self.verdicts if each.status == status]
        if wrong:
            raise CheckFailed(f"{self.file}: not confirmed by {', '.join(wrong)}")
        # Lava runs the compiled program, so it cannot confirm how the file is read.
        asked = [each for each in self.verdicts if each.reader != LAVA] or self.verdicts
        if asked and all(each.status == "absent" for each in asked):
            raise MissingDependency(asked[0].reason)


def install_readers(on_status: OnStatus, names: tuple[str, ...] = (), folder: Path | None = None) -> None:
    """Install readers (all by default), about 1.2 GB, and report each one."""
    install(folder or default_folder(), names or READERS, on_status)


def verify_nir(
    file: str | Path,
    readers: tuple[str, ...] = (),
    *,
    folder: Path | None = None,
    on_status: OnStatus = lambda _: None,
    **options: Any,
) -> ReaderReport:
    """Run a NIR file in independent readers, and its compiled program in Lava (all of these by default).

    With Lava, the integers of the program are also compared with the file in floating point, on drawn input.

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
    **options
        Inputs, samples, steps and time step; see :func:`~esl_neuro.interchange.readers.make_reader_case`.

    Raises
    ------
    BadInput
        If the file cannot be read, or a reader is unknown.
    CheckFailed
        If a layer fires too rarely for a comparison to show anything.
    """
    path = Path(file)
    case, chosen = make_reader_case(path, **options), readers or (*READERS, LAVA)
    report = _ask(path, case, chosen, folder, on_status)
    if LAVA not in chosen:
        return report
    return replace(report, checked=check(path, CHIP, steps=case.inputs.shape[1], dt_s=options.get("dt_s")))


def _ask(
    path: Path, case: ReaderCase, chosen: tuple[str, ...], folder: Path | None, on_status: OnStatus
) -> ReaderReport:
    """Run a case in readers and in Lava."""
    on_status(f"{path}: running in {', '.join(chosen)}")
    verdicts = ask(case, [name for name in chosen if name != LAVA], folder)
    return ReaderReport(path, (*verdicts, *((ask_lava(case, path),) if LAVA in chosen else ())))


def verify_export_graph(
    folder: Path, readers: tuple[str, ...] = (), *, on_status: OnStatus = lambda _: None
) -> ReaderReport:
    """Run the NIR graph of an export in readers (all that are installed by default), on its golden inputs."""
    files = read_export(folder)
    chosen = readers or installed(default_folder())
    if not chosen:
        return ReaderReport(files.graph_path, ())
    payloads = read_trace(folder / GOLDEN).input_spikes
    try:
        case = make_reader_case(files.graph_path, inputs=payloads / files.program.input_scale)
    except CheckFailed as quiet:
        on_status(f"{folder / GOLDEN}: {quiet}; using random spikes instead")
        case = make_reader_case(files.graph_path)
    return _ask(files.graph_path, case, chosen, None, on_status)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
