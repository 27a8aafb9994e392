"""A NIR file in independent readers, a part of ``esl-neuro verify``."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from esl_neuro.cli.commands import talk
from esl_neuro.cli.lava_verdict import LAVA, TARGET, ask_lava
from esl_neuro.errors import CheckFailed, MissingDependency

INSTALL = "esl-neuro verify --install-readers"


def install_readers(names: tuple[str, ...] = (), folder: Path | None = None) -> None:
    """Install readers (all if none is named), saying what is done."""
    from esl_neuro.interchange.readers import READERS, default_folder, install

    install(folder or default_folder(), names or READERS, talk)


def verify_file(file: Path, names: tuple[str, ...] = (), folder: Path | None = None, **options: Any) -> dict[str, Any]:
    """Run a file in readers and in Lava (all if none is named) and return what there is to say, fit for JSON."""
    from esl_neuro.interchange.readers import READERS, ask, make_case

    case, chosen = make_case(file, **options), names or (*READERS, LAVA)
    talk(f"{file}: asking {', '.join(chosen)}")
    verdicts = [asdict(verdict) for verdict in ask(case, [name for name in chosen if name != LAVA], folder)]
    if LAVA in chosen:
        verdicts.append(asdict(ask_lava(case, file)))
    return {"file": str(file), "readers": [_without_nan(verdict) for verdict in verdicts]}


def verify_export(folder: Path, names: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run the NIR graph of an export in readers (all that are installed if none is named), on its golden inputs."""
    from esl_neuro.backends.golden import read_trace
    from esl_neuro.compiler.bundle import GOLDEN, read_bundle
    from esl_neuro.interchange.readers import default_folder, installed

    chosen = names or installed(default_folder())
    if not chosen:
        return {"file": str(folder / "model.nir"), "readers": []}
    file, payloads = folder / "model.nir", read_trace(folder / GOLDEN).input_spikes
    try:
        return verify_file(file, chosen, inputs=payloads / read_bundle(folder).program.input_scale)
    except CheckFailed as quiet:
        talk(f"{folder / GOLDEN}: {quiet}; random spikes instead")
        return verify_file(file, chosen)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def render(document: dict[str, Any]) -> str:
    """Verdicts as a table, then the first divergence of each reader that differs."""
    from esl_neuro.report.tables import table

    if not document["readers"]:
        return f"no independent reader of NIR is installed; install them once: {INSTALL}"
    rows, more = [], []
    for verdict in document["readers"]:
        ran = verdict["status"] in ("equal", "different")
        figures = [f"{verdict[name]:,}" if ran else "" for name in ("compared", "spikes", "differing")]
        rows.append((verdict["reader"], verdict["version"], verdict["status"], *figures))
        if verdict["reason"]:
            more.append(f"{verdict['reader']} {verdict['status']}: {verdict['reason']}")
        if verdict["divergence"]:
            more.append(f"{verdict['reader']} differs first at {_place(verdict['divergence'])}")
    if any(verdict["reader"] == LAVA and verdict["compared"] for verdict in document["readers"]):
        more.append(
            f"lava runs the integers for {TARGET}, compared with the integer simulator, the others the equations"
        )
    headers = ("reader", "version", "result", "entries", "spikes", "differing")
    return "\n".join([document["file"], "", table(headers, rows, left=3), *([""] if more else []), *more])


def _place(divergence: dict[str, Any]) -> str:
    if divergence["neuron"] < 0:
        return f"'{divergence['layer']}': {divergence['cause']}"
    found, expected, potential, threshold, theirs = (
        _figure(divergence[name]) for name in ("found", "expected", "potential", "threshold", "reader_potential")
    )
    return (
        f"'{divergence['layer']}', step {divergence['step']}, sample {divergence['sample']}, neuron "
        f"{divergence['neuron']}: {found} instead of {expected}; potential {potential}, threshold {threshold}, "
        f"in the reader after the reset {theirs}\n  likely cause: {divergence['cause']}"
    )


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.9g}"


def refuse_difference(document: dict[str, Any]) -> None:
    """Fail if a reader differs or breaks, or if none is there to tell.

    Raises
    ------
    CheckFailed
        If spikes differ, or a reader's process died.
    MissingDependency
        If no reader is installed.
    """
    by_status: dict[str, list[str]] = {}
    for verdict in document["readers"]:
        by_status.setdefault(verdict["status"], []).append(verdict["reader"])
    wrong = by_status.get("different", []) + by_status.get("broken", [])
    if wrong:
        raise CheckFailed(f"{document['file']}: not confirmed by {', '.join(wrong)}")
    # Lava was given integers, so it says nothing of how others read the file.
    asked = [verdict for verdict in document["readers"] if verdict["reader"] != LAVA] or document["readers"]
    if asked and all(verdict["status"] == "absent" for verdict in asked):
        raise MissingDependency(asked[0]["reason"])
