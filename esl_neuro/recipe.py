"""Recipes: everything that decides a training run, as one TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.resources import find_resource, parse_toml, read_toml

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Base of every section: no unknown fields, no silent conversion, read only."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DataSection(Section):
    """Which data, and how they become spikes."""

    name: str
    encoding: str
    steps: Count = Field(description="time steps per sample")


class NetworkSection(Section):
    """Architecture and neuron."""

    notation: str = Field(description="papers' notation: layer sizes joined by '-'")
    tau: Share = Field(description="membrane decay factor per step")
    threshold: Positive = Field(description="initial threshold of every neuron")
    surrogate: str = Field(description="surrogate gradient of the spike")
    surrogate_width: Positive = Field(description="width of the surrogate, in units of potential")
    mode: Literal["stl", "sl", "tl"] = Field(
        description="what learns: weights and thresholds (stl), weights only (sl), thresholds only (tl)"
    )
    bias: bool = Field(default=False, description="whether convolutions and linear layers have a bias")
    readout: Literal["spikes", "accumulate"] = Field(
        default="spikes", description="output neurons fire, or their inputs are summed without decay (eq. 10)"
    )


class SparsitySection(Section):
    """Evolutionary structure learning."""

    layers: list[str] = Field(min_length=1, description="masked layers")
    density: Annotated[float, Field(gt=0, le=1)] = Field(description="share of connections in each masked layer")
    alpha: Share = Field(description="share of connections replaced at the first update (eq. 2)")
    update_every: Count = Field(description="iterations between updates (T_iter)")
    end: Share = Field(description="share of all iterations after which the structure stays (T_end)")
    prune: str
    growth: dict[str, Positive] = Field(min_length=1, description="growth rules and their shares of the births")


class TrainingSection(Section):
    """Optimisation."""

    epochs: Count
    batch: Count
    loss: str = Field(default="tet", description="loss over the outputs of every step")
    optimiser: str = "adam"
    learning_rate: Positive
    rate_schedule: str = Field(default="cosine", description="course of the learning rate")
    final_rate: Share = Field(default=0.0, description="learning rate at the end, as a share of that at the start")
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Share = Field(default=0.9, description="used by sgd")
    seed: Annotated[int, Field(ge=0)]
    threads: Count = Field(description="processor threads; part of the recipe because sums depend on it")


class ExpectedSection(Section):
    """What the recipe is expected to reach, and who says so."""

    test_accuracy: Share
    source: str


class Recipe(Section):
    """A training run, complete."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", description="also the name of the run folders")]
    title: str
    data: DataSection
    network: NetworkSection
    sparsity: SparsitySection
    training: TrainingSection
    expected: ExpectedSection | None = None

    def to_document(self) -> dict[str, Any]:
        """Return the recipe as a plain document that :func:`parse_recipe` reads back unchanged."""
        return self.model_dump(exclude_none=True)


def load_recipe(name: str, overrides: tuple[str, ...] = ()) -> Recipe:
    """Load a recipe by name or path.

    Parameters
    ----------
    name : str
        A name of ``models/``, or the path of a TOML file, such as the ``config.toml`` of an earlier run.
    overrides : tuple of str
        Changes of single fields: ``"training.epochs=5"``, the value in TOML notation.

    Raises
    ------
    BadInput
        If the file or a field is wrong; the message names file, fields, values and what is allowed.
    """
    path = find_resource("models", name)
    document = read_toml(path)
    for override in overrides:
        _apply_override(document, override)
    return parse_recipe(document, str(path))


def parse_recipe(document: dict[str, Any], origin: str) -> Recipe:
    """Check a document and return the recipe; see :func:`load_recipe`."""
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        findings = "; ".join(_describe(finding) for finding in error.errors())
        raise BadInput(f"{origin}: {findings}") from error


def _apply_override(document: dict[str, Any], override: str) -> None:
    field, separator, text = override.partition("=")
    keys = field.strip().split(".")
    if not separator or not all(keys):
        raise BadInput(f"--set {override}: cannot be read; write section.field=value, such as training.epochs=5")
    try:
        value = parse_toml(f"value = {text}", override)["value"]
    except BadInput:
        value = text.strip()  # a bare word is a string
    section = document
    for key in keys[:-1]:
        section = section.setdefault(key, {})
        if not isinstance(section, dict):
            raise BadInput(f"--set {override}: '{key}' is a value, not a section")
    section[keys[-1]] = value


def _describe(finding: Any) -> str:
    place = [str(part) for part in finding["loc"]]
    field = ".".join(place)
    if finding["type"] == "extra_forbidden":
        return f"{field}: unknown field; {did_you_mean(place[-1], _fields(place[:-1]))}"
    if finding["type"] == "missing":
        return f"{field}: missing"
    message = finding["msg"].removeprefix("Input ")
    return f"{field}: {finding['input']!r} is not allowed: it {message}"


def _fields(place: list[str]) -> list[str]:
    model: Any = Recipe
    for part in place:
        annotation = model.model_fields[part].annotation
        # an optional section is a union of the section and None
        model = next(kind for kind in (annotation, *get_args(annotation)) if hasattr(kind, "model_fields"))
    return list(model.model_fields)


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as TOML."""
    import tomli_w

    path.write_text(tomli_w.dumps(recipe.to_document()), encoding="utf-8")
