"""Every field of a recipe with its type, default and meaning, and the nearest spelling of a wrong name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import tomli_w

from esl_neuro.errors import BadInput
from esl_neuro.recipes.recipe import Recipe, field_names
from esl_neuro.recipes.sections import (
    KINDS,
    BudgetSection,
    DataSection,
    ExpectedSection,
    PublishedSection,
    Section,
    TrainingSection,
)

SECTIONS: dict[str, type[Section]] = {
    "data": DataSection,
    "training": TrainingSection,
    "budget": BudgetSection,
    "expected": ExpectedSection,
    "published": PublishedSection,
}
REQUIRED = "required"
MOST = 2**31 - 1  # the largest count, which is not worth a word


@dataclass(frozen=True)
class RecipeField:
    """One field.

    Attributes
    ----------
    name : str
        With its section, ``training.epochs``.
    type : str
        What it takes, in words.
    default : str
        In TOML; ``"required"`` if there is none, empty if the field may be absent.
    description : str
        What it means.
    kinds : tuple of str
        The neurons or learners that have the field; empty if it does not depend on them.
    """

    name: str
    type: str
    default: str
    description: str
    kinds: tuple[str, ...] = ()


def recipe_fields(name: str | None = None) -> list[RecipeField]:
    """Return all fields of a recipe, those of a section, or one by its name.

    Raises
    ------
    BadInput
        If there is no such field or section; the message has the nearest spelling.
    """
    found = [field for field in _every() if name in (None, field.name, field.name.partition(".")[0])]
    if not found:
        raise BadInput(f"field '{name}' is unknown; {nearest_field(str(name))}")
    return found


def nearest_field(name: str) -> str:
    """Return a hint with the fields, or the section, of which a name may be the spelling, with or without the section.

    Examples
    --------
    >>> nearest_field("epochs")
    "did you mean 'training.epochs'? 'esl-neuro models fields' lists all fields"
    """
    names, last = field_names(), name.rpartition(".")[2]
    by_last = {each.rpartition(".")[2]: each for each in names}
    close = [each for each in names if each.rpartition(".")[2] == last]
    sections = {each.partition(".")[0] for each in names}
    close = close or difflib.get_close_matches(name, [*names, *sections], n=1, cutoff=0.6)
    close = close or [by_last[each] for each in difflib.get_close_matches(last, by_last, n=1, cutoff=0.6)]
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return f"{hint}'esl-neuro models fields' lists all fields"


@cache
def _every() -> tuple[RecipeField, ...]:
    """Return the fields in the order of a recipe; a field of several kinds once for each of its meanings."""
    return tuple(_fields())


def _fields() -> Iterator[RecipeField]:
    whole = Recipe.model_json_schema()
    for name in ("name", "title"):
        yield RecipeField(name, *_described(Recipe, name, whole))
    for section in ("data", "network", "sparsity", "training", "budget", "expected", "published"):
        if section not in KINDS:
            model = SECTIONS[section]
            schema = model.model_json_schema()
            for name in model.model_fields:
                yield RecipeField(f"{section}.{name}", *_described(model, name, schema))
            continue
        found: dict[tuple[str, str, str, str], list[str]] = {}
        for kind, model in KINDS[section][1].items():
            schema = model.model_json_schema()
            for name in model.model_fields:
                if name == KINDS[section][0]:
                    continue
                found.setdefault((f"{section}.{name}", *_described(model, name, schema)), []).append(kind)
        teller, kinds = KINDS[section]
        default = next(kind for kind, model in kinds.items() if not model.model_fields[teller].is_required())
        yield RecipeField(
            f"{section}.{teller}",
            _one_of(list(kinds)),
            _toml(default),
            next(iter(kinds.values())).model_fields[teller].description or "",
        )
        for entry, of in found.items():
            yield RecipeField(*entry, () if len(of) == len(kinds) else tuple(of))


def _described(model: type[Section], name: str, schema: dict[str, Any]) -> tuple[str, str, str]:
    field = model.model_fields[name]
    default = REQUIRED if field.is_required() else "" if field.default is None else _toml(field.default)
    return _type(schema["properties"][name]), default, field.description or ""


def _toml(value: Any) -> str:
    return tomli_w.dumps({"v": value}).removeprefix("v = ").strip()


def _type(schema: dict[str, Any]) -> str:
    """Return a JSON schema in words."""
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"] if each.get("type") != "null")
    if "enum" in schema or "const" in schema:
        return _one_of(schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "array":
        most, least = schema.get("maxItems"), schema.get("minItems")
        count = f"{most} " if most is not None and most == least else ""
        return f"list of {count}({_type(schema['items'])})"
    if kind == "object":
        return f"table of ({_type(schema['additionalProperties'])})" if "additionalProperties" in schema else "table"
    words = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}
    return words.get(str(kind), str(kind)) + _range(schema)


def _range(schema: dict[str, Any]) -> str:
    limits = [
        f"{word} {schema[key]:g}"
        for key, word in (
            ("minimum", "from"),
            ("exclusiveMinimum", "above"),
            ("maximum", "to"),
            ("exclusiveMaximum", "below"),
        )
        if key in schema and schema[key] < MOST
    ]
    return f" {' '.join(limits)}" if limits else ""


def _one_of(values: list[Any]) -> str:
    return " | ".join(map(_toml, values))
