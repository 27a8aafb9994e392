"""Check the file of a target, and report all findings at once."""

from __future__ import annotations

from esl_neuro.energy.cite import sources
from esl_neuro.energy.estimate import Refused
from esl_neuro.energy.prices import PRICE_MODELS
from esl_neuro.energy.validation import workload
from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.hardware import HardwareTarget, UnpublishedConstant, load_target
from esl_neuro.resources import find_resource

PROBE = workload(1000, 100, 50)


def findings(name_or_path: str) -> list[str]:
    """Return every finding: form, units, ranges, requirements of price models, citations, file name."""
    try:
        target = load_target(name_or_path)
    except BadInput as error:
        return str(error).split("; ") if str(error).startswith(f"{name_or_path}: ") else [str(error)]
    return [
        f"{name_or_path}: {finding}"
        for finding in (*_models(target), *_citations(target), *_name(target, name_or_path))
    ]


def _models(target: HardwareTarget) -> list[str]:
    found = []
    for model in target.target.price_models:
        if model not in PRICE_MODELS:
            found.append(f"target.price_models: '{model}' is unknown; {did_you_mean(model, PRICE_MODELS)}")
            continue
        try:
            PRICE_MODELS[model](PROBE, target, 1e-3)
        except (UnpublishedConstant, Refused):
            continue  # refused with a reason when it is priced
        except (BadInput, ValueError) as error:
            found.append(f"price model '{model}': {error}")
    return found


def _citations(target: HardwareTarget) -> list[str]:
    known = sources()
    return [
        f"constants.{key}.cite: '{entry}' is not an entry of sources.bib; {did_you_mean(entry, known)}"
        for key, constant in target.constants.items()
        for entry in constant.cite
        if entry not in known
    ]


def _name(target: HardwareTarget, name_or_path: str) -> list[str]:
    stem = find_resource("hw_targets", name_or_path).stem
    return (
        []
        if stem == target.name
        else [f"target.name is '{target.name}', the file name is '{stem}'; they must be equal"]
    )
