"""Recipes: all settings of a training run in one TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import Field, model_validator

from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.recipes.consent import code_of, refuse_code, replaced
from esl_neuro.recipes.sections import (
    KINDS,
    BudgetSection,
    DataSection,
    ExpectedSection,
    LiafSection,
    NetworkSection,
    PublishedSection,
    Section,
    SingleSpikeSection,
    SparsitySection,
    TrainingSection,
)
from esl_neuro.resources import find_resource, parse_toml, read_toml
from esl_neuro.storage import write
from esl_neuro.toml_tables import PlainName, explain_finding, validated

SINGLE_SPIKE_ENCODING = "binary_single_spike"
SINGLE_SPIKE_LOSS = "first_spike"
KEEP_CAPS = ("esl", "dense", "static", "set", "rigl", "sparse_momentum")  # learners that keep a cap of the fan-in
FIXED_STRUCTURE = ("dense", "static")  # learners that never change a connection


class Recipe(Section):
    """All settings of a training run."""

    name: Annotated[PlainName, Field(description="also the name of the run folders")]
    title: Annotated[str, Field(description="what the recipe trains, in one line")]
    data: DataSection
    network: NetworkSection
    sparsity: SparsitySection
    training: TrainingSection
    budget: BudgetSection | None = None
    expected: ExpectedSection | None = None
    published: PublishedSection | None = None

    @model_validator(mode="after")
    def _single_spikes_go_together(self) -> Recipe:
        """Reject exact spike times without inputs that fire at one of two times, or without their loss."""
        single = isinstance(self.network, SingleSpikeSection)
        if single and (self.data.encoding != SINGLE_SPIKE_ENCODING or self.data.steps != 2):
            raise ValueError(
                f"network.neuron = 'single_spike' needs data.encoding = '{SINGLE_SPIKE_ENCODING}' and data.steps = 2 "
                f"(bright and dark pixels), not '{self.data.encoding}' and {self.data.steps}"
            )
        if single != (self.training.loss == SINGLE_SPIKE_LOSS):
            raise ValueError(
                f"training.loss = '{SINGLE_SPIKE_LOSS}' and network.neuron = 'single_spike' require each other; found "
                f"'{self.training.loss}' and '{self.network.neuron}'"
            )
        return self

    @model_validator(mode="after")
    def _structure_learns_by_weights(self) -> Recipe:
        """Reject structure learning with frozen weights, because a new connection would stay zero."""
        frozen = getattr(self.network, "mode", None) == "tl"
        if frozen and self.sparsity.learner not in FIXED_STRUCTURE:
            raise ValueError(
                f"network.mode = 'tl' freezes the weights, so '{self.sparsity.learner}' cannot learn a structure; "
                f"allowed for sparsity.learner: {', '.join(FIXED_STRUCTURE)}"
            )
        return self

    @model_validator(mode="after")
    def _budget_can_be_kept(self) -> Recipe:
        """Reject a budget that nothing would keep."""
        if self.budget is None:
            return self
        if isinstance(self.network, SingleSpikeSection):
            raise ValueError("budget: network.neuron = 'single_spike' has no chip; allowed: lif, cuba_lif, if, liaf")
        if self.training.quantize is not None:
            raise ValueError(
                "budget: its synapses are counted in floating point; train without training.quantize first, and then "
                "with 'esl-neuro train --from RUN --quantize TARGET --set sparsity.end=0'"
            )
        if self.sparsity.learner not in KEEP_CAPS:
            raise ValueError(
                f"budget: learner '{self.sparsity.learner}' has no exact number of connections to keep; "
                f"allowed for sparsity.learner: {', '.join(KEEP_CAPS)}"
            )
        if self.budget.energy is not None and isinstance(self.network, LiafSection):
            raise ValueError("budget.energy: network.neuron = 'liaf' sends no spikes; allowed: lif, cuba_lif, if")
        return self

    @model_validator(mode="after")
    def _integers_need_whole_numbers(self) -> Recipe:
        """Reject integer training with exact spike times, analog outputs or rounded products."""
        if self.training.quantize is None:
            if self.training.weight_bits is not None:
                raise ValueError(
                    "training.weight_bits: the network is trained in floating point; set training.quantize to a chip, "
                    "or export it with --weight-bits"
                )
            return self
        if isinstance(self.network, LiafSection):
            raise ValueError(
                "training.quantize: network.neuron = 'liaf' has analog outputs and so no integer form; "
                "allowed: lif, cuba_lif, if"
            )
        if isinstance(self.network, SingleSpikeSection):
            raise ValueError(
                "training.quantize: network.neuron = 'single_spike' has no time steps and so no integer form; "
                "allowed: lif, cuba_lif, if"
            )
        if self.training.precision != "float32":
            raise ValueError(
                f"training.quantize needs exact products: training.precision must be 'float32', not "
                f"'{self.training.precision}'"
            )
        return self

    @model_validator(mode="after")
    def _delays_can_arrive(self) -> Recipe:
        """Reject delay slots whose spikes would all arrive after the sample, or that something else cannot hold."""
        network = self.network
        if isinstance(network, SingleSpikeSection) or network.delay_slots == 1:
            return self
        longest = (network.delay_slots - 1) * network.delay_stride
        if longest >= self.data.steps:
            most = 1 + (self.data.steps - 1) // network.delay_stride
            raise ValueError(
                f"network.delay_slots: the longest of {network.delay_slots} slots delays by {longest} steps, and a "
                f"sample has {self.data.steps}, so none of its spikes would arrive; use at most {most}"
            )
        if self.training.quantize is not None:
            raise ValueError(
                f"network.delay_slots: {network.delay_slots} slots have no integer form in training; omit "
                "training.quantize, and export the trained network"
            )
        if getattr(self.sparsity, "window", None) is not None:
            raise ValueError(
                f"network.delay_slots: with {network.delay_slots} slots the lines of a layer are no neighbours, so "
                "sparsity.window does not apply; omit it"
            )
        return self

    def to_document(self) -> dict[str, Any]:
        """Return the recipe as a plain document that :func:`parse_recipe` reads back unchanged."""
        return self.model_dump(exclude_none=True)


def load_recipe(name: str, overrides: tuple[str, ...] = (), *, allow_code: bool = False) -> Recipe:
    """Load a recipe by name or path.

    Parameters
    ----------
    name : str
        A name of ``models/``, or the path of a TOML file, such as the ``config.toml`` of an earlier run.
    overrides : tuple of str
        Changes of single fields, such as ``"training.epochs=5"`` with the value in TOML notation, or of a whole
        section.
    allow_code : bool
        Consent to ``module:function`` in a file outside the current folder; see
        :mod:`~esl_neuro.recipes.consent`.

    Raises
    ------
    BadInput
        If the file or a field is invalid, or it names code without consent; the message names file, fields, values and
        what is allowed.
    """
    path = find_resource("models", name)
    document = read_toml(path)
    if not allow_code:
        refuse_code(path, [code for code in code_of(document) if not replaced(code[0], overrides)])
    for override in overrides:
        _apply_override(document, override)
    return parse_recipe(document, name)


def parse_recipe(document: dict[str, Any], origin: str) -> Recipe:
    """Check a document and return the recipe; see :func:`load_recipe`."""
    return validated(Recipe, document, origin, _explain)


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


def _explain(finding: Any) -> str:
    place = [str(part) for part in finding["loc"]]
    section, kind = (place[0], place[1]) if len(place) > 1 and place[0] in KINDS else ("", "")
    if section:
        del place[1]  # the kind of the section is not a field
    if finding["type"] == "union_tag_invalid":
        teller, kinds = KINDS[place[0]]
        given = finding["input"][teller]
        return f"{'.'.join(place)}.{teller}: {given!r} is unknown; {did_you_mean(str(given), kinds)}"
    unknown = finding["type"] == "extra_forbidden"
    whose = f" of {KINDS[section][0]} '{kind}'" if section else ""
    names, field = field_names() if unknown else [], ".".join(place)
    elsewhere = [name for name in names if name.rpartition(".")[2] == place[-1]]
    if elsewhere and field not in names:  # the right name without its section, or in another one
        return (
            f"{field}: unknown field{whose}; did you mean {' or '.join(map(repr, elsewhere))}? "
            "'esl-neuro models fields' lists all fields"
        )
    return explain_finding(finding, place, _fields(place[:-1], kind) if unknown else (), whose)


def field_names() -> list[str]:
    """Return the names of all fields with their sections, ``training.epochs``, of every neuron and learner."""
    names = ["name", "title"]
    for section in ("data", "network", "sparsity", "training", "budget", "expected", "published"):
        models = KINDS[section][1] if section in KINDS else {"": None}
        fields = [field for kind in models for field in _fields([section], kind)]
        names += [f"{section}.{field}" for field in dict.fromkeys(fields)]
    return names


def _fields(place: list[str], kind: str) -> list[str]:
    if kind:
        return list(KINDS[place[0]][1][kind].model_fields)
    model: Any = Recipe
    for part in place:
        annotation = model.model_fields[part].annotation
        # an optional section is a union of the section and None
        model = next(option for option in (annotation, *get_args(annotation)) if hasattr(option, "model_fields"))
    return list(model.model_fields)


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as TOML."""
    import tomli_w

    write(path, tomli_w.dumps(recipe.to_document()))
