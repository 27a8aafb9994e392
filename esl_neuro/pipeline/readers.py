"""A NIR file in independent readers, and in Lava."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from esl_neuro.backends.golden import read_trace
from esl_neuro.errors import CheckFailed, MissingDependency
from esl_neuro.interchange.readers import READERS, Verdict, ask, default_folder, install, installed, make_reader_case
from esl_neuro.pipeline.bundle import GOLDEN, read_bundle
from esl_neuro.pipeline.choices import LAVA
from esl_neuro.pipeline.lava_verdict import ask_lava

Say = Callable[[str], None]


@dataclass(frozen=True)
class ReaderReport:
    """What readers made of a NIR file.

    Attributes
    ----------
    file : Path
        The file.
    verdicts : tuple of Verdict
        One for each reader that was asked.
    """

    file: Path
    verdicts: tuple[Verdict, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what is not a number is None."""
        return {"file": str(self.file), "readers": [_without_nan(asdict(verdict)) for verdict in self.verdicts]}

    def refuse_difference(self) -> None:
        """Fail if a reader differs or breaks, or if none is there to tell.

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
        # Lava was given integers, so it says nothing of how others read the file.
        asked = [each for each in self.verdicts if each.reader != LAVA] or self.verdicts
        if asked and all(each.status == "absent" for each in asked):
            raise MissingDependency(asked[0].reason)


def install_readers(say: Say, names: tuple[str, ...] = (), folder: Path | None = None) -> None:
    """Install readers (all if none is named), saying what is done; about 1.2 GB."""
    install(folder or default_folder(), names or READERS, say)


def verify_nir(
    file: str | Path,
    readers: tuple[str, ...] = (),
    *,
    folder: Path | None = None,
    say: Say = lambda _: None,
    **options: Any,
) -> ReaderReport:
    """Run a NIR file in independent readers and its integers in Lava (all if none is named).

    Parameters
    ----------
    file : str or Path
        The file.
    readers : tuple of str
        Of :data:`~esl_neuro.pipeline.choices.READERS`.
    folder : Path, optional
        Where the readers are installed.
    say : callable
        Told what is being done.
    **options
        Inputs, samples, steps and time step, see :func:`~esl_neuro.interchange.readers.make_reader_case`.

    Raises
    ------
    BadInput
        If the file cannot be read, or there is no reader of a name.
    CheckFailed
        If some layer hardly fires, so that nothing would be shown.
    """
    path = Path(file)
    case, chosen = make_reader_case(path, **options), readers or (*READERS, LAVA)
    say(f"{path}: asking {', '.join(chosen)}")
    verdicts = ask(case, [name for name in chosen if name != LAVA], folder)
    return ReaderReport(path, (*verdicts, *((ask_lava(case, path),) if LAVA in chosen else ())))


def verify_bundle_graph(folder: Path, readers: tuple[str, ...] = (), *, say: Say = lambda _: None) -> ReaderReport:
    """Run the NIR graph of an export in readers (all that are installed if none is named), on its golden inputs."""
    bundle = read_bundle(folder)
    chosen = readers or installed(default_folder())
    if not chosen:
        return ReaderReport(bundle.graph_path, ())
    payloads = read_trace(folder / GOLDEN).input_spikes.swapaxes(0, 1)
    try:
        return verify_nir(bundle.graph_path, chosen, say=say, inputs=payloads / bundle.program.input_scale)
    except CheckFailed as quiet:
        say(f"{folder / GOLDEN}: {quiet}; random spikes instead")
        return verify_nir(bundle.graph_path, chosen, say=say)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
