"""Citations for a paper: BibTeX of the constants used, and a sentence for the caption."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from esl_neuro.energy.estimate import Estimate
from esl_neuro.energy.uncertainty import Distribution
from esl_neuro.errors import BadInput, counted, did_you_mean
from esl_neuro.hardware import KIND, Constant
from esl_neuro.resources import resource_folder

FILE = "sources.bib"
_ENTRY = re.compile(r"^@\w+\{([^,\s]+),.*?^\}", re.MULTILINE | re.DOTALL)


def sources() -> dict[str, str]:
    """Return every entry of ``hw_targets/sources.bib`` by its key."""
    text = (resource_folder(KIND) / FILE).read_text(encoding="utf-8")
    return {match[1]: match[0] for match in _ENTRY.finditer(text)}


def bibliography(constants: Iterable[Constant]) -> str:
    """Return the BibTeX entries that the constants cite, each once, after a comment with the constants that cite it.

    A constant without an entry, for example from a user's own file, becomes a ``@misc`` with its source as the note.

    Raises
    ------
    BadInput
        If a constant cites an entry that ``sources.bib`` does not have.
    """
    known = sources()
    needed: dict[str, list[str]] = {}
    entries: dict[str, str] = {}
    for constant in constants:
        for key in constant.cite or [_own_key(constant)]:
            if constant.cite and key not in known:
                raise BadInput(f"{constant.id} cites '{key}'; {did_you_mean(key, known)}")
            entries[key] = known[key] if constant.cite else f"@misc{{{key},\n  note = {{{constant.source}}}\n}}"
            needed.setdefault(key, []).append(constant.id)
    return "\n\n".join(f"% {', '.join(needed[key])}\n{entry}" for key, entry in entries.items())


def _own_key(constant: Constant) -> str:
    return re.sub(r"\W+", "_", constant.id)


def caption(samples: int, steps: int, rows: Sequence[tuple[Estimate, Distribution | None]]) -> str:
    """Return a sentence for the caption of a table or figure with these rows."""
    priced = [estimate for estimate, found in rows if found is not None]
    scopes = ", ".join(dict.fromkeys(f"{e.target} ({e.scope.replace('_', ' ')}, {e.evidence})" for e in priced))
    bounds = ", ".join(dict.fromkeys(e.target for e in priced if e.lower_bound))
    lower = f"; lower bounds: {bounds}" if bounds else ""
    return (
        f"Energy per inference, estimated and not measured: exact operation counts of {counted(samples, 'sample')} of "
        f"{steps} time steps, priced with published constants; medians and 5-95% intervals over the published ranges "
        f"of the constants and the samples; scope and weakest evidence of each: {scopes}{lower}."
    )
