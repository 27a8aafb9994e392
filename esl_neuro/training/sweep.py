"""Sweeps: one TOML file that defines a family of runs, and one table of their results. No torch here.

Every combination of a case and of one value from each axis is trained once for each seed, in the folder
``<runs>/<sweep>/<slug>-seed<k>``. The field names of a recipe contain a dot and must be quoted in TOML; without quotes
the dot would start a table, which is a whole section.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.reading.documents import is_number, read_json_object
from esl_neuro.reading.names import is_plain, printable
from esl_neuro.recipes import Recipe, load_recipe
from esl_neuro.recipes.consent import code_of, refuse_code
from esl_neuro.recipes.own import is_path
from esl_neuro.recipes.sections import Section
from esl_neuro.resources import find_resource, read_toml
from esl_neuro.storage import refusing, write
from esl_neuro.toml_tables import explain_finding, validated
from esl_neuro.training.result import read_result
from esl_neuro.training.run_folder import RunFolder

if TYPE_CHECKING:
    from esl_neuro.training.trainer import Trainer

SCHEMA = 1  # of the summary
SEED = "training.seed"
FIELD = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
SLUG_LENGTH = 80
MOST_RUNS = 10_000
NOT_COMPARED = ("title", "expected", "published")  # they do not affect training
SHOWN = 3  # findings of one kind per line
AGAIN = "delete its folder and run the sweep again"
FIGURES = ("validation_accuracy", "density", "connections", "spikes_per_neuron", "seconds")

DONE, STARTED, TO_DO, DIFFERS = "done", "started", "to do", "another recipe"


class CaseTable(Section):
    """One entry of an explicit list of cases."""

    label: Annotated[str, Field(min_length=1)]
    recipe: str | None = Field(default=None, description="recipe, if not the sweep's")
    changes: dict[str, Any] = Field(default={}, alias="set", description="fields and their values")


class Sweep(Section):
    """A sweep as in its file."""

    title: str
    recipe: str
    seeds: list[Annotated[int, Field(ge=0, lt=2**63)]] = Field(min_length=1)
    noise: list[str] = Field(default=[], description="noises to test each finished run with, name=level")
    plot_x: str | None = Field(default=None, description="axis on the x axis of the plot")
    fixed: dict[str, Any] = Field(default={}, description="fields changed in every run")
    cases: list[CaseTable] = Field(default=[])
    axes: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default={}, description="choices per field")


@dataclass(frozen=True)
class SweepCase:
    """One row of the table: a set of changes, trained once for each seed.

    Attributes
    ----------
    recipe : str
        Name or path of the recipe.
    parts : dict of str to str
        Heading and text of each column that identifies the case.
    fixed : dict of str to Any
        Fields that are equal in all cases, and their values.
    varied : dict of str to Any
        Fields that differ between cases, and their values, in the order in which they are applied.
    """

    recipe: str
    parts: dict[str, str]
    fixed: dict[str, Any]
    varied: dict[str, Any]

    @property
    def label(self) -> str:
        """Description of the case: ``dense density 0.1``."""
        return label(self.parts)


@dataclass(frozen=True)
class Run:
    """One training run of a sweep; its folder may not exist yet."""

    case: SweepCase
    seed: int
    recipe: Recipe
    folder: RunFolder
    noises: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Description of the run: ``dense density 0.1 seed 0``."""
        return f"{self.case.label} seed {self.seed}"

    @property
    def noise_file(self) -> Path:
        """Test accuracy by noise."""
        return self.folder.path / "noise.json"

    @property
    def started(self) -> bool:
        """Whether the run has saved anything."""
        return self.folder.result.exists() or self.folder.last.exists()

    def state(self) -> str:
        """Return the state of the run: done, started, to do, or of another recipe."""
        if not self.started:
            return TO_DO
        if self.differences():
            return DIFFERS
        return DONE if self.folder.result.exists() and not self.missing_noises() else STARTED

    def differences(self) -> list[str]:
        """Return the fields in which the recipe in the folder differs from the requested one."""
        if not self.started:
            return []
        try:
            stored = self.folder.recipe()
            return [*differences(stored, self.recipe), *_changed_data(stored, self.recipe)]
        except BadInput as error:
            return [f"its recipe cannot be read: {error}"]

    def missing_noises(self) -> list[str]:
        """Return the noises that the finished run has not been tested with."""
        known = self.noise_accuracies()
        return [noise for noise in self.noises if noise not in known]

    def noise_accuracies(self) -> dict[str, float]:
        """Return the known test accuracies by noise."""
        return _read_accuracies(self.noise_file) if self.noise_file.exists() else {}

    def add_noise_accuracies(self, accuracies: Mapping[str, float]) -> None:
        """Store test accuracies by noise."""
        write(self.noise_file, json.dumps({**self.noise_accuracies(), **accuracies}, indent=2) + "\n")

    def make_folder(self) -> RunFolder:
        """Create the folder, or empty the folder of a run that ended before it saved anything."""
        with refusing(self.folder.path):
            self.folder.path.mkdir(parents=True, exist_ok=True)
            return self.folder.begin_again(self.recipe)

    def train(
        self,
        on_batch: Callable[..., None],
        on_epoch: Callable[..., None],
        on_notes: Callable[[Sequence[str]], None] = lambda _: None,
    ) -> None:
        """Start or continue the run, unless it is complete; see :meth:`Trainer.run`. Notes are those on own data."""
        if not self.folder.result.exists():
            trainer = self._trainer()
            on_notes(trainer.dataset.notes)
            trainer.run(on_batch, on_epoch)

    def train_to(self, epoch: int, on_batch: Callable[..., None], on_epoch: Callable[..., None]) -> int:
        """Start or continue the run to the end of an epoch, unless it is there; return its connections."""
        trainer = self._trainer()
        trainer.run_to(epoch, on_batch, on_epoch)
        return trainer.connections

    def _trainer(self) -> Trainer:
        from esl_neuro.training.trainer import Trainer  # torch takes seconds to load, so only if a run starts

        return Trainer.resume(self.folder) if self.started else Trainer.start(self.recipe, self.make_folder)

    def outcome(self) -> dict[str, Any]:
        """Return the results of the finished run, including the noises of the sweep."""
        accuracies = self.noise_accuracies()
        return {
            "folder": str(self.folder.path),
            **read_result(self.folder.result, AGAIN).model_dump(),
            "noise": {noise: accuracies[noise] for noise in self.noises},
        }


@dataclass(frozen=True)
class SweepPlan:
    """All runs of a sweep.

    Attributes
    ----------
    name : str
        Name of its file, and of its folder.
    cases : list of SweepCase
        Rows of the table.
    runs : list of Run
        All cases with all seeds, in the order of the table.
    """

    name: str
    sweep: Sweep
    folder: Path
    cases: list[SweepCase]
    runs: list[Run]

    @property
    def headings(self) -> dict[str, str]:
        """Heading of each axis, by its field."""
        return headings(self.sweep)

    @property
    def summary(self) -> Path:
        """File of the summary."""
        return self.folder / "summary.json"

    def refuse_other_recipes(self) -> None:
        """Reject folders that contain runs of other recipes.

        Raises
        ------
        BadInput
            If there are any; the message names folders and fields.
        """
        findings = [f"{run.folder.path}: {some(changed, '; ')}" for run in self.runs if (changed := run.differences())]
        if findings:
            fix = "use another folder with --runs, or delete the old runs"
            raise BadInput(f"{some(findings, '; ', 'folder')}; {fix}")


# Reading.


def load_plan(name: str, runs: Path, overrides: Sequence[str] = (), *, allow_code: bool = False) -> SweepPlan:
    """Read a sweep and plan its runs.

    Parameters
    ----------
    name : str
        A name of ``sweeps/``, or the path of a TOML file.
    runs : Path
        Folder of all runs.
    overrides : sequence of str
        Changes of every run, ``"training.epochs=1"``.
    allow_code : bool
        Consent to code that a sweep or a recipe outside the current folder names; see
        :mod:`~esl_neuro.recipes.consent`.

    Raises
    ------
    BadInput
        If the file, a field or the recipe of any run is invalid, or there are too many runs; the message lists all
        findings.
    """
    path = find_resource("sweeps", name)
    if not is_plain(path.stem):
        raise BadInput(f"{path}: the name of a sweep is also that of its folder; use letters, digits, '.', '-' and '_'")
    sweep = parse_sweep(read_toml(path), name)
    if not allow_code:
        for changes in _all_changes(sweep):
            refuse_code(path, code_of(changes))
    cases = expand(sweep)
    refuse(name, _overridden_changes(cases, overrides))
    folder = runs / path.stem
    planned = [
        # The recipe in the folder is compared with this one before anything of it is built.
        Run(case, seed, recipe, RunFolder(folder / f"{slug}-seed{seed}", allow_code=True), tuple(sweep.noise))
        for (case, slug), recipes in zip(
            zip(cases, slugs(cases), strict=True),
            _load_recipes(sweep, cases, overrides, name, allow_code),
            strict=True,
        )
        for seed, recipe in zip(sweep.seeds, recipes, strict=True)
    ]
    return SweepPlan(path.stem, sweep, folder, cases, planned)


def parse_sweep(document: dict[str, Any], origin: str) -> Sweep:
    """Check a document and return the sweep; see :func:`load_plan`."""
    refuse(origin, list(misplaced(document, ("fixed", "axes"), ("seeds", "noise", "plot_x"))))
    sweep = validated(Sweep, document, origin, _explain)
    refuse(origin, list(_findings(sweep)))
    return sweep


def refuse(origin: str, findings: Sequence[str]) -> None:
    """Raise :class:`BadInput` with all findings on a file, if there are any."""
    if findings:
        raise BadInput(f"{origin}: {'; '.join(findings)}")


def misplaced(document: dict[str, Any], tables: Iterable[str], keys: Collection[str]) -> Iterator[str]:
    """Find top-level keys that TOML assigns to a table because they follow its heading."""
    for table in tables:
        content = document.get(table)
        if isinstance(content, dict):
            for key in sorted({*keys} & {*content}):
                yield f"{table}.{key}: '{key}' is a top-level key; write it above the first [heading]"


def _explain(finding: Any) -> str:
    place = [str(part) for part in finding["loc"]]
    known = CaseTable if len(place) > 1 else Sweep
    names = [info.alias or name for name, info in known.model_fields.items()]
    hint = f'; quote a field with a dot: "{place[-1]}.{next(iter(finding["input"]), "")}"' if _unquoted(finding) else ""
    return explain_finding(finding, place, names) + hint


def _unquoted(finding: Any) -> bool:
    return finding["loc"][0] == "axes" and finding["type"] == "list_type" and isinstance(finding["input"], dict)


def _findings(sweep: Sweep) -> Iterator[str]:
    """Find errors other than the types of the fields."""
    for place, fields in _fields(sweep):
        yield from no_fields(place, fields)
    choices = max(len(sweep.cases), 1) * math.prod(len(values) for values in sweep.axes.values()) * len(sweep.seeds)
    if choices > MOST_RUNS:
        yield f"cases, axes and seeds make {choices:,} runs; at most {MOST_RUNS:,} are planned, so divide the sweep"
    for index, case in enumerate(sweep.cases):
        for field in set(case.changes) & set(sweep.axes):
            yield f"cases.{index}.set: '{field}' is also an axis; remove one of them"
    yield from repeated("seeds", map(str, sweep.seeds))
    yield from repeated("noise", sweep.noise)
    yield from repeated("cases: label", (case.label for case in sweep.cases))
    for field, values in sweep.axes.items():
        yield from repeated(f"axes.{field}", map(to_toml, values))
    if sweep.plot_x is not None and sweep.plot_x not in sweep.axes:
        yield f"plot_x: '{sweep.plot_x}' is not an axis; {did_you_mean(sweep.plot_x, sweep.axes)}"
    for noise in sweep.noise:
        yield from _noise_findings(noise)


def no_fields(place: str, fields: Iterable[str]) -> Iterator[str]:
    """Find names that are not those of fields, and the seed, which has a list of its own."""
    for field in fields:
        if not FIELD.fullmatch(field):
            yield f"{place}: {field!r} is not a field; write section.field, such as training.epochs"
        elif field == SEED:
            yield f"{place}: {SEED} is set from seeds; change that list"


def _fields(sweep: Sweep) -> Iterator[tuple[str, Iterable[str]]]:
    yield "fixed", sweep.fixed
    yield "axes", sweep.axes
    for index, case in enumerate(sweep.cases):
        yield f"cases.{index}.set", case.changes


def _all_changes(sweep: Sweep) -> Iterator[Mapping[str, Any]]:
    """Yield every change of a recipe that the sweep can make."""
    yield sweep.fixed
    yield from (case.changes for case in sweep.cases)
    yield from ({field: value} for field, values in sweep.axes.items() for value in values)


def repeated(place: str, values: Iterable[str]) -> Iterator[str]:
    """Find what a list has more than once."""
    for value, times in Counter(values).items():
        if times > 1:
            yield f"{place}: {value} is listed {times} times; list it once"


def _noise_findings(text: str) -> Iterator[str]:
    """Try a noise on a small array, so that an invalid one is found before training."""
    import numpy as np

    from esl_neuro.data.noise import NOISES

    name, _, level = text.partition("=")
    try:
        NOISES[name](np.zeros((1, 1, 1), np.float32), float(level), np.random.default_rng(0))
    except BadInput as error:
        yield str(error)
    except ValueError:
        yield f"noise: '{text}' cannot be read; write name=level, such as salt_and_pepper=0.1"


# Planning.


def expand(sweep: Sweep) -> list[SweepCase]:
    """Return the product of the cases and of the choices of every axis."""
    cases: Sequence[CaseTable | None] = sweep.cases or [None]
    return [
        _case(sweep, case, dict(zip(sweep.axes, values, strict=True)))
        for case, *values in product(cases, *sweep.axes.values())
    ]


def _case(sweep: Sweep, case: CaseTable | None, values: dict[str, Any]) -> SweepCase:
    recipe = case.recipe if case is not None and case.recipe is not None else sweep.recipe
    parts = {"case": case.label} if case is not None else {}
    parts |= {heading: describe(values[field]) for field, heading in headings(sweep).items()}
    varied = {**(case.changes if case is not None else {}), **values}
    # The field or whole section of a case has priority over the fixed fields.
    fixed = {field: value for field, value in sweep.fixed.items() if not any(covers(name, field) for name in varied)}
    return SweepCase(recipe, parts or {"recipe": Path(recipe).stem}, fixed, varied)


def headings(sweep: Sweep) -> dict[str, str]:
    """Return the heading of each axis, by its field."""
    return short_names(sweep.axes, ("case", "recipe", "seed", "seeds"))


def short_names(fields: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """Return the last part of each field as words, or the whole field if two of these and of other words are equal."""
    short = {field: field.rpartition(".")[2].replace("_", " ") for field in fields}
    taken = Counter([*short.values(), *others])
    return {field: name if taken[name] == 1 else field for field, name in short.items()}


def label(parts: Mapping[str, str], separator: str = " ") -> str:
    """Return a description of the columns that identify a case.

    Examples
    --------
    >>> label({"case": "dense", "density": "0.1"})
    'dense density 0.1'
    """
    return separator.join(text if name in ("case", "recipe") else f"{name} {text}" for name, text in parts.items())


def place_of(plan: SweepPlan, case: SweepCase) -> tuple[str, str]:
    """Return the line of a case in the chart of its sweep, and its place on the line."""
    if plan.sweep.plot_x is None:
        return label(case.parts, ", "), ""
    heading = plan.headings[plan.sweep.plot_x]
    others = {name: text for name, text in case.parts.items() if name != heading}
    return label(others, ", "), case.parts[heading]


def describe(value: Any) -> str:
    """Return a short description of a field's value.

    Examples
    --------
    >>> describe({"gradient": 1.0}), describe(["fc1", "fc2"]), describe(0.10)
    ('gradient', 'fc1+fc2', '0.1')
    """
    if isinstance(value, dict):
        if list(value.values()) == [1.0]:
            return str(next(iter(value)))
        return " ".join(f"{key} {describe(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return "+".join(map(describe, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def slugs(cases: Sequence[SweepCase]) -> list[str]:
    """Return a readable, unique folder name for each case, also on case-insensitive file systems."""
    plain = [re.sub(r"[^A-Za-z0-9.]+", "-", case.label).strip("-.") for case in cases]
    times = Counter(map(str.lower, plain))
    return [
        slug if slug and len(slug) <= SLUG_LENGTH and times[slug.lower()] == 1 else _hashed(slug, case)
        for slug, case in zip(plain, cases, strict=True)
    ]


def _hashed(slug: str, case: SweepCase) -> str:
    identity = to_toml([case.parts, case.varied])
    return f"{slug[:SLUG_LENGTH]}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}".lstrip("-")


def to_toml(value: Any) -> str:
    """Write a value in TOML on one line, as ``--set`` takes it; tomli_w writes lists over several."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quote(key)} = {to_toml(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return _quote(value) if isinstance(value, str) else str(value)


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _overridden_changes(cases: Sequence[SweepCase], overrides: Sequence[str]) -> list[str]:
    """Find changes that a later one overrides, so that the table would describe runs that did not happen."""
    found: dict[str, None] = {}
    for case in cases:
        for earlier, later in combinations(case.varied, 2):
            if covers(later, earlier):
                found[f"'{later}' replaces the whole section, including '{earlier}'; remove one of them"] = None
        for override in overrides:
            field = override.partition("=")[0].strip()
            if any(covers(field, varied) for varied in (SEED, *case.varied)):
                found[f"--set {override}: this field is varied by the sweep; change the sweep file"] = None
    return list(found)


def covers(field: str, other: str) -> bool:
    """Return whether a field is another one, or the section that holds it."""
    return other == field or other.startswith(field + ".")


def _load_recipes(
    sweep: Sweep, cases: Sequence[SweepCase], overrides: Sequence[str], origin: str, allow_code: bool
) -> list[list[Recipe]]:
    """Load the recipe of every seed of every case."""
    failed: list[tuple[str, str]] = []

    def load(case: SweepCase, seed: int) -> Iterator[Recipe]:
        changes = [f"{field}={to_toml(value)}" for field, value in {**case.fixed, **case.varied}.items()]
        try:
            yield load_recipe(case.recipe, (*changes, *overrides, f"{SEED}={seed}"), allow_code=allow_code)
        except BadInput as error:
            failed.append((f"{case.label} seed {seed}", str(error)))

    loaded = [[recipe for seed in sweep.seeds for recipe in load(case, seed)] for case in cases]
    refuse(origin, by_message(failed))
    return loaded


def by_message(failed: Iterable[tuple[str, str]], what: str = "run") -> list[str]:
    """Group failed runs (label, message) with the same message into one finding.

    Examples
    --------
    >>> by_message([("seed 0", "no memory"), ("seed 1", "no memory")])
    ['seed 0 (and 1 more run): no memory']
    """
    labels: dict[str, list[str]] = {}
    for name, message in failed:
        labels.setdefault(message, []).append(name)
    return [f"{some(names, ', ', what, 1)}: {message}" for message, names in labels.items()]


# Comparing.


def differences(stored: Recipe, asked: Recipe) -> list[str]:
    """Return the fields in which two recipes differ, except those that do not affect training.

    Examples
    --------
    >>> stored = load_recipe("mlp-digits")
    >>> differences(stored, load_recipe("mlp-digits", ("training.epochs=5",)))
    ['training.epochs is 40 there, 5 is requested']
    """
    there, here = (dict(flat(recipe.to_document())) for recipe in (stored, asked))
    if is_path(asked.data.name):  # a run records the absolute path, and the SHA-256
        here["data.name"] = str(Path(asked.data.name).absolute())
    if asked.data.sha256 is None:
        there.pop("data.sha256", None)
    return [finding for field, finding in changes(there, here).items() if field.split(".")[0] not in NOT_COMPARED]


def changes(there: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, str]:
    """Return in words what differs between what a folder holds and what is requested, by field."""
    return {
        field: f"{field} is {_shown(there, field)} there, {_shown(here, field)} is requested"
        for field in {**here, **there}
        if _shown(there, field) != _shown(here, field)
    }


def _changed_data(stored: Recipe, asked: Recipe) -> list[str]:
    """Find that a user's own files are no longer those that a run was trained on."""
    if stored.data.sha256 is None or not is_path(asked.data.name):
        return []
    from esl_neuro.data.own import digest_of, located

    now = digest_of(located(asked.data))
    return [] if now == stored.data.sha256 else [f"data.name: {asked.data.name} has changed since it was trained"]


def flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the entries of nested tables with their whole names."""
    for key, value in document.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _shown(fields: Mapping[str, Any], name: str) -> str:
    return to_toml(fields[name]) if name in fields else "absent"


def some(findings: Sequence[str], separator: str, what: str = "field", shown: int = SHOWN) -> str:
    """Return the first findings and the number of further ones."""
    more = len(findings) - shown
    rest = f" (and {more} more {what}{'s' * (more > 1)})" if more > 0 else ""
    return separator.join(findings[:shown]) + rest


# Summarising.


def summarise(plan: SweepPlan) -> dict[str, Any]:
    """Return the mean and spread of every case, and the results of every run.

    Raises
    ------
    BadInput
        If the result of a run is missing or damaged.
    """
    return {
        "schema": SCHEMA,
        "sweep": plan.name,
        "title": plan.sweep.title,
        "seeds": list(plan.sweep.seeds),
        "cases": [
            {
                "case": case.parts,
                "recipe": case.recipe,
                "changes": {**case.fixed, **case.varied},
                **summarise_case([run.outcome() for run in plan.runs if run.case is case]),
            }
            for case in plan.cases
        ],
    }


def summarise_case(outcomes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean over the seeds of one case; the spread is the sample standard deviation, None for one seed."""
    return {
        "test_accuracy": _mean_and_spread([outcome["test_accuracy"] for outcome in outcomes]),
        "noise": {
            noise: _mean_and_spread([outcome["noise"][noise] for outcome in outcomes]) for noise in outcomes[0]["noise"]
        },
        **{name: mean(outcome[name] for outcome in outcomes) for name in FIGURES},
        "runs": list(outcomes),
    }


def _mean_and_spread(values: Sequence[float]) -> dict[str, float | None]:
    return {"mean": mean(values), "stdev": stdev(values) if len(values) > 1 else None}


def _read_accuracies(path: Path) -> dict[str, float]:
    document = read_json_object(path, AGAIN)
    wrong = [name for name, value in document.items() if not (is_number(value) and 0 <= value <= 1)]
    if wrong:
        raise BadInput(f"{path}: {', '.join(map(printable, wrong))} must be numbers from 0 to 1; {AGAIN}")
    return document
