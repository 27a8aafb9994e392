"""Searches: one TOML file that says which fields of a recipe are searched, and for what. No torch here.

A trial is the recipe with one value of each field of ``[space]``, trained once for each seed in the folder
``<runs>/<search>/trial-<number>-seed<k>``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from esl_neuro.errors import BadInput
from esl_neuro.reading.names import is_plain
from esl_neuro.recipes import Recipe, load_recipe
from esl_neuro.recipes.consent import code_of, refuse_code
from esl_neuro.recipes.fields import recipe_fields
from esl_neuro.recipes.sections import Count, Natural, Section
from esl_neuro.resources import find_resource, read_toml
from esl_neuro.toml_tables import explain_finding, validated
from esl_neuro.training.run_folder import RunFolder
from esl_neuro.training.sweep import (
    FIELD,
    MOST_RUNS,
    NOT_COMPARED,
    SEED,
    Run,
    SweepCase,
    by_message,
    covers,
    describe,
    flat,
    misplaced,
    no_fields,
    refuse,
    repeated,
    short_names,
    to_toml,
)

WHOLE, DECIMAL, TEXT, CHOICE = "whole numbers", "numbers", "a text", "one of some values"


class Dimension(Section):
    """The values that a field can take: a range, or choices."""

    low: float | None = Field(default=None, description="smallest number")
    high: float | None = Field(default=None, description="largest number")
    log: bool = Field(default=False, description="draw the logarithm, for numbers of different sizes")
    step: float | None = Field(default=None, description="distance of the numbers from low on")
    unit: str | None = Field(default=None, description="unit behind the number, for fields such as budget.energy")
    choices: list[Any] | None = Field(default=None, min_length=2, description="the values, instead of a range")

    def __str__(self) -> str:
        if self.choices is not None:
            return ", ".join(map(describe, self.choices))
        unit = "" if self.unit is None else f" {self.unit}"
        how = " on a logarithmic scale" if self.log else "" if self.step is None else f" in steps of {self.step:g}"
        return f"{self.low:g} to {self.high:g}{unit}{how}"

    def ends(self, whole: bool) -> list[Any]:
        """Return the values at both ends of the range, or all choices."""
        if self.choices is not None:
            return self.choices
        return [self.value(int(end) if whole else end) for end in (self.low, self.high) if end is not None]

    def value(self, number: float) -> float | str:
        """Return a number of the range as the recipe takes it."""
        return number if self.unit is None else f"{number!r} {self.unit}"


class Search(Section):
    """A search as in its file."""

    title: str
    recipe: str
    trials: Annotated[Count, Field(le=MOST_RUNS)] = Field(description="trials, of which some are stopped early")
    seeds: list[Annotated[int, Field(ge=0, lt=2**63)]] = Field(default=[0], min_length=1)
    objectives: list[Literal["accuracy", "energy", "connections"]] = Field(
        default=["accuracy", "energy", "connections"], description="what is searched for"
    )
    target: str = Field(default="loihi2", description="hardware target whose prices the energy has")
    random: Count = Field(default=10, description="first trials, which are drawn at random")
    stop_after: list[Count] = Field(default=[], description="epochs after which a beaten trial is stopped")
    sampler_seed: Natural = Field(default=0, description="seed of what is drawn from the space")
    fixed: dict[str, Any] = Field(default={}, description="fields changed in every trial")
    space: dict[str, Dimension] = Field(min_length=1, description="the fields that are searched")


@dataclass(frozen=True)
class Trial:
    """One point of the space, with a run for each seed."""

    number: int
    runs: tuple[Run, ...]

    @property
    def epochs(self) -> int:
        """Epochs of each of its runs."""
        return self.runs[0].recipe.training.epochs


@dataclass(frozen=True)
class SearchPlan:
    """What a search does.

    Attributes
    ----------
    name : str
        Name of its file, and of its folder.
    path : str
        The name or path that it was loaded by.
    overrides : tuple of str
        Changes of every trial.
    first : Recipe
        The recipe at the first value of every field, with the first seed.
    """

    name: str
    search: Search
    folder: Path
    overrides: tuple[str, ...]
    allow_code: bool
    first: Recipe

    @property
    def summary(self) -> Path:
        """File of the summary."""
        return self.folder / "summary.json"

    @property
    def headings(self) -> dict[str, str]:
        """Heading of each field, by its name."""
        return short_names(self.search.space, ("trial", "rank", "seed", "state", *self.search.objectives))

    def is_whole(self, field: str) -> bool:
        """Return whether a field takes whole numbers."""
        return takes(field) == WHOLE

    def trial(self, number: int, values: Mapping[str, Any]) -> Trial:
        """Return the runs of a trial.

        Raises
        ------
        BadInput
            If these values do not go together.
        """
        parts = {"trial": str(number), **texts(self, values)}
        case = SweepCase(self.search.recipe, parts, self.search.fixed, dict(values))
        recipes = [
            _recipe(self.search, values, self.overrides, seed, allow_code=self.allow_code) for seed in self.search.seeds
        ]
        return Trial(
            number,
            tuple(
                Run(case, seed, recipe, RunFolder(self.folder / f"trial-{number:03d}-seed{seed}", allow_code=True))
                for seed, recipe in zip(self.search.seeds, recipes, strict=True)
            ),
        )

    def identity(self) -> dict[str, Any]:
        """Return everything that decides which trials there are and what they mean, but for their number."""
        stated = self.search.model_dump(exclude={"title", "trials", "recipe", "fixed"}, exclude_none=True)
        recipe = {name: part for name, part in self.first.to_document().items() if name not in NOT_COMPARED}
        stated["space"] = {f"'{field}'": each for field, each in stated["space"].items()}  # a field is one name
        return dict(flat({**stated, "recipe": recipe}))


def texts(plan: SearchPlan, values: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of a trial as a table shows them, by their headings."""
    return {
        heading: f"{values[field]:.4g}" if isinstance(values[field], float) else describe(_rounded(values[field]))
        for field, heading in plan.headings.items()
    }


def _rounded(value: Any) -> Any:
    """Shorten the number before a unit."""
    number, space, unit = value.partition(" ") if isinstance(value, str) else ("", "", "")
    try:
        return f"{float(number):.4g}{space}{unit}"
    except ValueError:
        return value


# Reading.


def load_search(
    name: str, runs: Path, overrides: Sequence[str] = (), *, trials: int | None = None, allow_code: bool = False
) -> SearchPlan:
    """Read a search and check it.

    Parameters
    ----------
    name : str
        A name of ``searches/``, or the path of a TOML file.
    runs : Path
        Folder of all runs.
    overrides : sequence of str
        Changes of every trial, ``"training.epochs=1"``.
    trials : int, optional
        Number of trials, instead of that of the file.
    allow_code : bool
        Consent to code that a search or a recipe outside the current folder names; see
        :mod:`~esl_neuro.recipes.consent`.

    Raises
    ------
    BadInput
        If the file, a field or a recipe at an end of the space is invalid; the message lists all findings.
    """
    path = find_resource("searches", name)
    if not is_plain(path.stem):
        raise BadInput(
            f"{path}: the name of a search is also that of its folder; use letters, digits, '.', '-' and '_'"
        )
    search = parse_search(read_toml(path), name)
    if not allow_code:
        refuse_code(path, [code for changes in _all_changes(search) for code in code_of(changes)])
    refuse(name, list(_overridden(search, overrides)))
    first, *others = _points(search)
    recipes = _recipes_at([first, *others], search, overrides, name, allow_code)
    if trials is not None:
        search = search.model_copy(update={"trials": trials})
    return SearchPlan(path.stem, search, runs / path.stem, tuple(overrides), allow_code, recipes[0])


def parse_search(document: dict[str, Any], origin: str) -> Search:
    """Check a document and return the search; see :func:`load_search`."""
    tables, keys = ("fixed", "space"), set(Search.model_fields) - {"fixed", "space"}
    refuse(origin, list(misplaced(document, tables, keys)))
    search = validated(Search, document, origin, _explain)
    refuse(origin, list(_findings(search)))
    return search


def _explain(finding: Any) -> str:
    place = [str(part) for part in finding["loc"]]
    known = Dimension if place[0] == "space" and len(place) > 1 else Search
    if place[0] == "space" and len(place) > 2 and finding["type"] == "extra_forbidden" and _is_table(finding["input"]):
        return f'space.{place[1]}: quote a field with a dot: "{place[1]}.{place[2]}"'
    hint = "; write low and high, or choices" if place[0] == "space" and len(place) == 2 else ""
    return explain_finding(finding, place, known.model_fields) + hint


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _findings(search: Search) -> Iterator[str]:
    """Find errors other than the types of the fields."""
    yield from no_fields("fixed", search.fixed)
    yield from no_fields("space", search.space)
    yield from repeated("seeds", map(str, search.seeds))
    yield from repeated("objectives", search.objectives)
    yield from repeated("stop_after", map(str, search.stop_after))
    if "accuracy" not in search.objectives:
        yield "objectives: 'accuracy' is missing; without it the best network is the smallest one"
    for field, dimension in search.space.items():
        for other in (*search.fixed, *search.space):
            if other in search.fixed and other == field:
                yield f"space: '{field}' is also fixed; remove one of them"
            elif other != field and covers(other, field):
                yield f"space: '{field}' is part of '{other}'; remove one of them"
        if FIELD.fullmatch(field) and field != SEED:
            yield from (f"space: {finding}" for finding in _unknown(field))
            if not [*_unknown(field)]:
                yield from (f"space.{field}: {finding}" for finding in _misfits(dimension, takes(field)))


def _unknown(field: str) -> Iterator[str]:
    try:
        recipe_fields(".".join(field.split(".")[:2]))
    except BadInput as error:
        yield str(error)


def takes(field: str) -> str:
    """Return which values a field takes, as far as it decides what can be drawn."""
    if field.count(".") > 1:  # an entry of a table, such as sparsity.densities.fc1
        return DECIMAL
    words = [each.type for each in recipe_fields(field)]
    for start, kind in (("whole number", WHOLE), ("number", DECIMAL), ("text", TEXT)):
        if any(each.startswith(start) for each in words):
            return kind
    return CHOICE


def _misfits(dimension: Dimension, kind: str) -> Iterator[str]:
    """Find why values cannot be drawn, or not for a field of this kind."""
    low, high, step = dimension.low, dimension.high, dimension.step
    if dimension.choices is not None:
        given = [name for name in ("low", "high", "step", "unit") if getattr(dimension, name) is not None]
        if given or dimension.log:
            yield f"has choices and {', '.join([*given, *(['log'] if dimension.log else [])])}; remove one of them"
        yield from repeated("choices", map(to_toml, dimension.choices))
        return
    if low is None or high is None:
        yield "needs low and high, or choices"
        return
    if kind == CHOICE or (kind == TEXT) != (dimension.unit is not None):
        fix = {
            CHOICE: "list them as choices",
            TEXT: 'list the texts as choices, or give a unit, such as unit = "nJ"',
        }.get(kind, "remove unit")
        yield f"the field takes {kind}; {fix}"
    if low >= high:
        yield f"low is {low:g} and high {high:g}; low must be less"
    if dimension.log and low <= 0:
        yield f"low is {low:g}, and log needs numbers above 0"
    if step is not None and (dimension.log or not 0 < step <= high - low):
        why = "does not go with log" if dimension.log else f"is {step:g}; it must be above 0 and at most high - low"
        yield f"step {why}"
    wrong = [f"{name} {value:g}" for name, value in (("low", low), ("high", high), ("step", step)) if value is not None]
    if kind == WHOLE and any(value % 1 for value in (low, high, step or 1)):
        yield f"the field takes whole numbers, not {', '.join(wrong)}"


def _all_changes(search: Search) -> Iterator[Mapping[str, Any]]:
    """Yield every change of a recipe that can name code."""
    yield search.fixed
    yield from ({field: value} for field, each in search.space.items() for value in each.choices or ())


def _overridden(search: Search, overrides: Iterable[str]) -> Iterator[str]:
    for override in overrides:
        field = override.partition("=")[0].strip()
        if any(covers(field, searched) for searched in (SEED, *search.space)):
            yield f"--set {override}: this field is varied by the search; change the search file"


def _points(search: Search) -> Iterator[dict[str, Any]]:
    """Yield every field at its ends, with the others at their first value."""
    ends = {field: each.ends(takes(field) == WHOLE) for field, each in search.space.items()}
    first = {field: values[0] for field, values in ends.items()}
    yield first
    for field, (_, *others) in ends.items():
        yield from ({**first, field: value} for value in others)


def _recipes_at(
    points: Iterable[Mapping[str, Any]], search: Search, overrides: Sequence[str], origin: str, allow_code: bool
) -> list[Recipe]:
    failed: list[tuple[str, str]] = []

    def load(values: Mapping[str, Any]) -> Iterator[Recipe]:
        try:
            yield _recipe(search, values, overrides, search.seeds[0], allow_code=allow_code)
        except BadInput as error:
            failed.append((", ".join(f"{field} = {to_toml(value)}" for field, value in values.items()), str(error)))

    recipes = [recipe for values in points for recipe in load(values)]
    refuse(origin, by_message(failed, "point"))
    return recipes


def _recipe(
    search: Search, values: Mapping[str, Any], overrides: Sequence[str], seed: int, *, allow_code: bool
) -> Recipe:
    fixed = {field: value for field, value in search.fixed.items() if not any(covers(name, field) for name in values)}
    changes = [f"{field}={to_toml(value)}" for field, value in {**fixed, **values}.items()]
    return load_recipe(search.recipe, (*changes, *overrides, f"{SEED}={seed}"), allow_code=allow_code)
