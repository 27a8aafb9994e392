"""``esl-neuro models``."""

from __future__ import annotations

from typing import Any

import click

from esl_neuro.cli.commands import ExampleCommand, ExampleGroup, emit, json_option


@click.group(
    cls=ExampleGroup,
    short_help="Recipes and their fields.",
    examples=(
        ("esl-neuro models list", "all recipes"),
        ("esl-neuro models show mlp-digits", "the text of a recipe, to copy and change"),
        ("esl-neuro models fields", "every field, with type, default and meaning"),
    ),
)
def models() -> None:
    """List and show recipes, and the fields of recipes."""


@models.command(
    "list",
    cls=ExampleCommand,
    short_help="List all recipes.",
    examples=(
        ("esl-neuro models list", "names and titles"),
        ("esl-neuro models list --json", "also data, network and learner"),
    ),
)
@json_option
def list_models(as_json: bool) -> None:
    """List every recipe of the package."""
    from esl_neuro.recipes import load_recipe
    from esl_neuro.report.tables import table
    from esl_neuro.resources import resource_names

    recipes = [load_recipe(name) for name in resource_names("models")]
    rows = [
        {
            "name": recipe.name,
            "title": recipe.title,
            "data": recipe.data.name,
            "network": recipe.network.notation,
            "learner": recipe.sparsity.learner,
        }
        for recipe in recipes
    ]
    text = table(("name", "title"), [(row["name"], row["title"]) for row in rows], 2)
    emit({"models": rows}, text, as_json)


@models.command(
    cls=ExampleCommand,
    short_help="Show the text of a recipe.",
    examples=(
        ("esl-neuro models show mlp-digits", "with its comments"),
        ("esl-neuro models show runs/mlp-digits-001/config.toml", "the recipe of a run"),
    ),
)
@click.argument("recipe")
@json_option
def show(recipe: str, as_json: bool) -> None:
    """Show RECIPE, a name or the path of a TOML file; it is checked, but none of its code is imported."""
    from esl_neuro.reading.documents import read_text
    from esl_neuro.recipes import load_recipe
    from esl_neuro.resources import find_resource

    loaded = load_recipe(recipe, allow_code=True)  # nothing is imported: the text is printed
    emit(loaded.to_document(), read_text(find_resource("models", recipe)).rstrip("\n"), as_json)


@models.command(
    cls=ExampleCommand,
    short_help="Show the fields of recipes.",
    examples=(
        ("esl-neuro models fields", "all of them"),
        ("esl-neuro models fields training", "those of a section"),
        ("esl-neuro models fields sparsity.density", "one field, of every learner that has it"),
    ),
)
@click.argument("name", required=False, metavar="[SECTION|SECTION.FIELD]")
@json_option
def fields(name: str | None, as_json: bool) -> None:
    """Show type, default and meaning of fields, for 'esl-neuro train --set SECTION.FIELD=VALUE' and for files."""
    from dataclasses import asdict

    from esl_neuro.recipes.fields import recipe_fields

    found = [asdict(field) for field in recipe_fields(name)]
    emit({"fields": found}, "\n".join(map(_line, found)), as_json)


def _line(field: dict[str, Any]) -> str:
    default = field["default"] or "absent"
    said = default if default == "required" else f"default {default}"
    kinds = f" [{', '.join(field['kinds'])}]" if field["kinds"] else ""
    return f"{field['name']}{kinds}: {field['type']}; {said}\n    {field['description']}"
