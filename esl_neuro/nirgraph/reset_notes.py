"""Read from the metadata of a NIR graph what a spike does to the potential: reset to zero, or by subtraction.

NIR since 1.0.5 has ``v_reset`` only, so programs whose neurons subtract the threshold note it in the metadata of a node
or of a graph, in words of their own. This is the only place that reads these notes. :mod:`esl_neuro.resets` defines the
three resets.
"""

from __future__ import annotations

import contextlib
import copy
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np

from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.nirgraph.findings import WARNING, Finding
from esl_neuro.resets import RESETS, SUBTRACT, SUBTRACT_NEXT_STEP, ZERO, Reset

RESET_FINDINGS = ("reset-note", "reset-unknown", "reset-conflict")
KEY = "reset"  # of our own note
DEEPEST = 50  # levels of nested metadata
NIR_VERSION = "nir_version"  # noted by read_nir for a file whose neurons have no v_reset
DT_OF_SNNTORCH_S = 1e-4
STATED_KEYS = {"dt_s", "steps"}  # a user's statements about a file, which compile() adds to its metadata
STATE_IT = f"state it: --reset {', --reset '.join(RESETS)}"


def read_resets(graph: nir.NIRGraph) -> tuple[dict[str, Reset], list[Finding]]:
    """Return the reset of every neuron that fires, by its name after nested graphs are unpacked, and the findings.

    The note of a node counts before that of its graph, and that before the note of the graph around it. Without a note,
    the reset is ``zero``; if the file looks like the work of a program that subtracts, a warning says so.
    """
    resets: dict[str, Reset | None] = {}
    findings: list[Finding] = []

    def note(metadata: Any, place: str) -> Reset | None:
        reset, found = read_note(metadata, place)
        findings.extend(found)
        return reset

    def walk(inner: nir.NIRGraph, prefix: str, around: Reset | None) -> None:
        place = f"graph '{prefix[:-1]}'" if prefix else "graph"
        own = note(getattr(inner, "metadata", None), place) or around
        for name, node in inner.nodes.items():
            if isinstance(node, nir.NIRGraph):
                walk(node, f"{prefix}{name}.", own)
            elif resets_potential(node):
                of_node = note(getattr(node, "metadata", None), f"node '{prefix}{name}'")
                resets[f"{prefix}{name}"] = of_node or own
            elif read_note(getattr(node, "metadata", None), "")[0] not in (None, ZERO):
                message = (
                    "its metadata note a reset by subtraction, but it has no potential that resets; note it on a neuron"
                )
                findings.append(Finding("reset-note", f"node '{prefix}{name}'", message, WARNING))

    walk(graph, "", None)
    if not findings and any(reset is None for reset in resets.values()):
        findings += _guess(graph, [name for name, reset in resets.items() if reset is None])
    return {name: reset or ZERO for name, reset in resets.items()}, findings


def with_reset(graph: nir.NIRGraph, reset: str) -> tuple[nir.NIRGraph, list[Finding]]:
    """Return a copy of a graph whose neurons all have a stated reset, and a finding for every contrary note.

    Raises
    ------
    BadInput
        If there is no reset of that name.
    """
    if reset not in RESETS:
        raise BadInput(f"reset '{reset}' is unknown; {did_you_mean(reset, RESETS)}")
    findings: list[Finding] = []

    def stated(node: Any, place: str) -> Any:
        found, _ = read_note(getattr(node, "metadata", None), place)
        if found not in (None, reset) and (found, reset) != (SUBTRACT, SUBTRACT_NEXT_STEP):
            message = f"its metadata note the reset '{found}', but '{reset}' is stated; omit the statement"
            findings.append(Finding("reset-conflict", place, message))
            return copy.copy(node)
        changed = copy.copy(node)
        changed.metadata = {**_metadata_of(node), KEY: reset}
        return changed

    def walk(inner: nir.NIRGraph, prefix: str) -> nir.NIRGraph:
        changed: nir.NIRGraph = stated(inner, f"graph '{prefix[:-1]}'" if prefix else "graph")
        changed.nodes = {
            name: walk(node, f"{prefix}{name}.")
            if isinstance(node, nir.NIRGraph)
            else stated(node, f"node '{prefix}{name}'")
            if resets_potential(node)
            else node
            for name, node in inner.nodes.items()
        }
        return changed

    return walk(graph, ""), findings


def noted(nodes: Mapping[str, Any], resets: Mapping[str, Reset]) -> dict[str, Any]:
    """Return nodes with their reset in their own metadata, so that no graph around them needs to note it."""
    changed = dict(nodes)
    for name in resets.keys() & nodes.keys():
        changed[name] = copy.copy(nodes[name])
        changed[name].metadata = {**_metadata_of(nodes[name]), KEY: resets[name]}
    return changed


def warn_of_resets(findings: Sequence[Finding], stacklevel: int) -> None:
    """Issue a ``UserWarning`` for each finding about resets, for callers who get no findings."""
    for finding in findings:
        if finding.kind in RESET_FINDINGS:
            warnings.warn(str(finding), stacklevel=stacklevel + 1)


def resets_potential(node: Any) -> bool:
    """Return whether a node fires and has a potential; a ``Threshold`` has none."""
    return hasattr(node, "v_threshold")


# The words of a note.

_SUBTRACTS = re.compile(r"\bsub(s|tract(s|ed|ing|ion|ive)?)?\b|\bsoft\b|\blinear\b|\bminus\b|\bdecrements?\b")
_TO_ZERO = re.compile(r"\bzeros?\b|\bhard\b|\bto 0\b")
_TO_A_VALUE = re.compile(r"^0(\.0*)?$|\bv ?reset\b|\bmembrane reset\b|\bfixed\b|\babsolute\b")
_NEVER = re.compile(r"^(none|off|no reset|without reset|disabled)$")
_NEXT_STEP = re.compile(r"\bnext\b|\bdelay(ed)?\b")
_NOT = re.compile(r"\b(not|no|never|without|instead|rather)\b")
# Entries about the time at which a state is cleared, about gradients, or about values, not about what a spike does.
_OTHER_KEYS = re.compile(
    r"\b(detach|state|between|samples?|interval|offset|period|every|refractory|init|value|hidden|potential)\b"
)
# Without the word "reset" these are a hint, not a statement.
_HINT = re.compile(r"^(by )?(sub|subtract|subtraction|subtractive|soft)$")
_KEYS_OF_A_RULE = ("reset", "mechanism", "mode", "type", "method", "fn", "function", "rule", "kind", "style", "policy")


def read_note(metadata: Any, place: str) -> tuple[Reset | None, list[Finding]]:
    """Return the reset that metadata note, None if they say nothing, and a finding if they are unclear.

    Parameters
    ----------
    metadata : mapping or None
        Of a node or a graph; nested mappings, lists and JSON texts are searched too.
    place : str
        The node or graph, for findings.
    """
    if not isinstance(metadata, Mapping):
        return None, []
    entries = [_Entry.of(key, value) for key, value in _leaves(metadata)]
    entries = [entry for entry in entries if entry.mentions_resets]
    listed = ", ".join(f"'{entry.shown}'" for entry in entries)
    if any(_NEVER.search(entry.text) for entry in entries):
        return None, [Finding("reset-note", place, f"is noted to fire without a reset ({listed}); not supported")]
    said = {reset for entry in entries if (reset := entry.reset) is not None}
    if len(said) > 1:
        return None, [Finding("reset-note", place, f"its notes contradict each other ({listed}); keep one of them")]
    if said:
        (reset,) = said
        late = reset == SUBTRACT and any(entry.waits for entry in entries)
        return (SUBTRACT_NEXT_STEP if late else reset), []
    unclear = ", ".join(f"'{entry.shown}'" for entry in entries if entry.names_a_rule)
    message = f"its note {unclear} is not understood and is ignored; {STATE_IT}"
    return None, [Finding("reset-note", place, message, WARNING)] if unclear else []


@dataclass(frozen=True)
class _Entry:
    """An entry of metadata: the words of its key, and its value as words or as yes or no."""

    shown: str
    key: str
    text: str
    yes: bool | None

    @classmethod
    def of(cls, key: str, value: Any) -> _Entry:
        text = _words(value) if isinstance(value, str) else ""
        yes = text == "true" if text in ("true", "false") else None if isinstance(value, str) else bool(value)
        return cls(f"{key}: {value}", _words(key), "" if yes is not None else text, yes)

    @property
    def mentions_resets(self) -> bool:
        if _OTHER_KEYS.search(self.key):
            return False
        return self._is_of_resets or bool(_HINT.search(self.key if self.yes else self.text))

    @property
    def _is_of_resets(self) -> bool:
        return any(re.search(r"\breset|membrane subtract", words) for words in (self.key, self.text))

    @property
    def reset(self) -> Reset | None:
        """``zero`` or ``subtract``, None if it says neither."""
        if not self._is_of_resets:
            return None
        words = self.key if self.yes is not None else self.text
        subtracts, to_zero = bool(_SUBTRACTS.search(words)), bool(_TO_ZERO.search(words))
        if self.yes is None:
            to_zero = to_zero or (not subtracts and bool(_TO_A_VALUE.search(words)))
        if subtracts == to_zero or _NOT.search(words):
            return None
        return SUBTRACT if subtracts == (self.yes is not False) else ZERO

    @property
    def waits(self) -> bool:
        """Whether it says that the subtraction waits for the next step."""
        return (
            bool(_NEXT_STEP.search(self.text)) if self.yes is None else self.yes and bool(_NEXT_STEP.search(self.key))
        )

    @property
    def names_a_rule(self) -> bool:
        """Whether it seems to say what a spike does, rather than to mention resets."""
        if any(words.search(self.text) for words in (_SUBTRACTS, _TO_ZERO)) or not self._is_of_resets:
            return True
        return self.key != "v reset" and self.key.split()[-1:] in [[name] for name in _KEYS_OF_A_RULE]


def _leaves(value: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Return every entry of nested metadata with its key, which begins with the keys around it.

    What is nested deeper than any note is left out.
    """
    if depth > DEEPEST:
        return
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    if isinstance(value, Mapping):
        for inner, each in value.items():
            yield from _leaves(each, f"{key} {inner}".strip(), depth + 1)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _leaves(each, key, depth + 1)
    elif isinstance(value, str | bool | int | float):
        yield key, value


def _words(text: str) -> str:
    """Return a text in lower case with a space between its words: ``"MembraneSubtract()"`` is ``membrane subtract``."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower()
    apart = re.sub(r"\bv\w*\s*-=?\s*v?_?th\w*", " minus threshold ", apart)
    apart = re.sub(r"(soft|hard|zero|sub|subtract)reset", r"\1 reset", apart)
    return re.sub(r"\bby ?sub", "by sub", re.sub(r"[^a-z0-9.]+", " ", apart).strip())


# Files that say nothing.


def _metadata_of(node: Any) -> Mapping[str, Any]:
    """Return the metadata of a node or graph; without entries where they are no mapping, which `check` reports."""
    metadata = getattr(node, "metadata", None)
    return metadata if isinstance(metadata, Mapping) else {}


def _guess(graph: nir.NIRGraph, names: list[str]) -> list[Finding]:
    """Warn if a file without notes looks like that of a program whose neurons subtract."""
    version = _metadata_of(graph).get(NIR_VERSION)
    if version is not None:
        why = (
            f"the file was written by NIR {version}, whose neurons have no v_reset and are defined to subtract their "
            "threshold; sinabs and Rockpool subtract it, other programs of that time do not"
        )
    elif _has_the_form_of_snntorch(graph):
        why = (
            "the parameters have the form that snnTorch writes (r = tau / 1e-4 s, single precision). Its neurons "
            "subtract the threshold in the next step unless made otherwise, and its files do not say which"
        )
    else:
        return []
    shown = ", ".join(f"'{name}'" for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return [Finding("reset-unknown", "graph", f"{why}; {shown} are read as reset to zero; {STATE_IT}", WARNING)]


def _flat(graph: nir.NIRGraph, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            yield from _flat(node, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", node


def _has_the_form_of_snntorch(graph: nir.NIRGraph) -> bool:
    """Recognise ``tau = dt / (1 - beta)`` and ``r = tau / dt`` with ``dt`` = 1e-4 s, in a graph without own metadata.

    The numbers are in single precision, except those of a recurrent layer, which has the nodes ``lif`` and ``w_rec``.
    """
    nodes = dict(_flat(graph))
    if _metadata_of(graph).keys() - STATED_KEYS or any(getattr(node, "metadata", None) for node in nodes.values()):
        return False
    neurons = {name: node for name, node in nodes.items() if resets_potential(node)}
    return bool(neurons) and all(
        _is_snntorchs(node, recurrent=name.endswith("lif") and f"{name[:-3]}w_rec" in nodes)
        for name, node in neurons.items()
    )


def _is_snntorchs(node: Any, *, recurrent: bool) -> bool:
    if not isinstance(node, nir.LIF | nir.CubaLIF):
        return False
    try:
        tau, r = (np.asarray(getattr(node, key)) for key in ("tau" if isinstance(node, nir.LIF) else "tau_mem", "r"))
        at_rest = not np.any(node.v_leak) and (node.v_reset is None or not np.any(node.v_reset))
        single = recurrent or tau.dtype == r.dtype == np.float32
        return bool(at_rest and single and np.allclose(r * DT_OF_SNNTORCH_S, tau, rtol=1e-5, atol=0))
    except (AttributeError, TypeError, ValueError):  # the check of the parameters names what is wrong
        return False
