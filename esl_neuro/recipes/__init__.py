"""Recipes: all settings of a training run in one TOML file. No torch here."""

from esl_neuro.recipes.recipe import Recipe, load_recipe, parse_recipe, save_recipe

__all__ = ["Recipe", "load_recipe", "parse_recipe", "save_recipe"]
