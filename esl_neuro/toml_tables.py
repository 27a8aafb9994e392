"""Common base of the tables of TOML files, and the error messages for invalid ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.reading.names import CHIP_NAME, LONGEST_NAME, PLAIN_NAME, is_printable, printable


class Table(BaseModel):
    """A TOML table: no unknown fields, no silent conversion, read only."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=Table)


def _printable(text: str) -> str:
    if not (text and is_printable(text)):
        raise ValueError("must have only characters that can be printed")
    return text


PrintableText = Annotated[str, AfterValidator(_printable)]
"""A text of one line, without control characters."""


def _no_path(text: str) -> str:
    if "/" in text or "\\" in text or text in (".", ".."):
        raise ValueError("must be a name, not a path")
    return text


NoPath = Annotated[PrintableText, AfterValidator(_no_path)]
"""A text of one line that leads nowhere if it becomes the name of a file."""
PlainName = Annotated[str, Field(pattern=PLAIN_NAME, max_length=LONGEST_NAME)]
"""A name that also becomes that of a file or folder."""
ChipName = Annotated[str, Field(pattern=CHIP_NAME, max_length=LONGEST_NAME)]
"""A name that also becomes that of a folder, and may have several words."""


def one_of(allowed: Iterable[str]) -> Callable[[str], str]:
    """Return a validator that accepts these words, and suggests the closest one otherwise."""

    def check(value: str) -> str:
        if value not in allowed:
            raise ValueError(did_you_mean(value, allowed))
        return value

    return check


def validated(model: type[Model], document: dict[str, Any], origin: str, explain: Callable[[Any], str]) -> Model:
    """Read a document as a table.

    Parameters
    ----------
    model : type of Table
        Expected table.
    document : dict
        Content of the TOML file.
    origin : str
        Source of the document, for the message.
    explain : callable
        Converts a pydantic error to a message in terms of the file; see :func:`explain_finding`.

    Raises
    ------
    BadInput
        If the document is invalid; the message lists all findings.
    """
    hidden = [*_hidden_characters(document)]
    if hidden:
        raise BadInput(f"{origin}: {'; '.join(hidden)}")
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise BadInput(f"{origin}: {'; '.join(map(explain, error.errors()))}") from error


def _hidden_characters(part: Any, place: str = "") -> Iterator[str]:
    """Find texts that a terminal would obey rather than print; only texts of several lines have line breaks."""
    if isinstance(part, dict):
        for key, value in part.items():
            if not is_printable(str(key)):
                yield f"{printable(str(key))}: the name of a field has characters that cannot be printed"
            yield from _hidden_characters(value, f"{place}.{key}" if place else str(key))
    elif isinstance(part, list):
        for value in part:
            yield from _hidden_characters(value, place)
    elif isinstance(part, str) and not is_printable(part.replace("\n", "").replace("\t", "")):
        yield f"{printable(place)}: '{printable(part)}' has characters that cannot be printed"


def explain_finding(finding: Any, place: Sequence[str], fields: Iterable[str], whose: str = "") -> str:
    """Convert a pydantic error to a message in terms of a TOML file: field, value, what is allowed.

    Parameters
    ----------
    finding : dict
        Error from pydantic.
    place : sequence of str
        Tables and field, outermost first.
    fields : iterable of str
        Fields of the table, for suggestions if the field is unknown.
    whose : str
        Owner of the fields, such as ``" of neuron 'if'"``.
    """
    field, given = ".".join(place), finding["input"]
    if finding["type"] == "extra_forbidden":
        return f"{field}: unknown field{whose}; {did_you_mean(place[-1], fields)}"
    if finding["type"] == "missing":
        return f"{field}: is missing; add it"
    message = str(finding["msg"])
    if finding["type"] == "value_error":
        message = message.removeprefix("Value error, ")
        if not field:
            return message
        return f"{field}: {message}" if isinstance(given, dict) else f"{field}: {given!r} is not allowed; {message}"
    for subject in ("Input ", "String ", "List "):
        message = message.removeprefix(subject)
    return f"{field}: {given!r} is not allowed: it {message}"
