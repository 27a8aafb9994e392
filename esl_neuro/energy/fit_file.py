"""A fitted model as text, and as constants in the file of a target."""

from __future__ import annotations

import re

from esl_neuro.energy.chip_fit import CORNERS, ChipFit, OpenFit
from esl_neuro.errors import BadInput
from esl_neuro.reading.documents import read_text
from esl_neuro.reading.names import printable
from esl_neuro.resources import find_resource

Numbers = tuple[float, float, float]  # value, low, high


def fitted_constants(found: ChipFit, free: OpenFit) -> dict[str, Numbers]:
    """Return the constants of a target that a fit determines.

    If the readings separate the two prices, both pairs of prices become the one that was found.
    """
    numbers = {each.name: (each.value, each.low, each.high) for each in found.parameters}
    if free.separable:
        numbers["operations_factor"] = (1.0, 1.0, 1.0)
        for corner in CORNERS:
            for name, each in (("e_sop", free.e_sop), ("e_neuron", free.e_neuron)):
                numbers[f"{name}_{corner}"] = (each.value, each.low, each.high)
    return {name: (_three(value), _three(low), _three(high)) for name, (value, low, high) in numbers.items()}


def _three(number: float) -> float:
    return float(f"{number:.3g}")


def refuse_name(name: str) -> None:
    """Reject what cannot be the name of a fitted target.

    Raises
    ------
    BadInput
        If it has other letters than small ones, digits and hyphens.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise BadInput(f"'{printable(name)}' is not a name of a target; use small letters, digits and '-'")


def target_text(chip: str, name: str, constants: dict[str, Numbers]) -> str:
    """Return the file of a chip under another name, with other numbers for some constants.

    Raises
    ------
    BadInput
        If the name is not one of a file, or the chip has no such constant.
    """
    refuse_name(name)
    text = read_text(find_resource("hw_targets", chip)).replace(f'name = "{chip}"', f'name = "{name}"', 1)
    for key, numbers in constants.items():
        text = _with(text, key, numbers)
    return text


def _with(text: str, key: str, numbers: Numbers) -> str:
    head = f"[constants.{key}]\n"
    start = text.find(head)
    if start < 0:
        raise BadInput(f"the target has no constant '{key}'")
    end = text.find("\n[", start)
    section = text[start:] if end < 0 else text[start : end + 1]
    kept = re.sub(r"^(value|low|high) = .*\n", "", section[len(head) :], flags=re.MULTILINE)
    value, low, high = numbers
    own = f"value = {value!r}\nlow = {low!r}\nhigh = {high!r}\n"
    return text.replace(section, head + own + kept, 1)
