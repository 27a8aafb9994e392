"""``esl-neuro train``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esl_neuro.cli.commands import (
    SEED,
    ExampleCommand,
    allow_code_option,
    data_option,
    emit,
    given_data,
    json_option,
    percent,
    print_status,
    runs_option,
)
from esl_neuro.cli.network_run import refuse_without_arithmetic
from esl_neuro.cli.workspace import chosen_run
from esl_neuro.errors import MissingDependency
from esl_neuro.pipeline.choices import RECIPE

if TYPE_CHECKING:
    from esl_neuro.pipeline.training import TrainingRun
    from esl_neuro.recipes import Recipe
    from esl_neuro.training.trainer import Trainer


@click.command(
    cls=ExampleCommand,
    short_help="Train a recipe: sparse from the first step, with learned thresholds.",
    examples=(
        ("esl-neuro train", "the recipe mlp-digits"),
        ("esl-neuro train --seed 0 --seed 1", "two seeds, with mean and spread"),
        ("esl-neuro train --set sparsity.density=0.05", "another density"),
        ('esl-neuro train --set \'sparsity={learner="rigl", layers=["fc1"]}\'', "another structure learner"),
        ("esl-neuro train runs/mlp-digits-001/config.toml", "repeat a run exactly"),
        ('esl-neuro train --budget energy="700 nJ"', "within an energy of a sample on Loihi 2"),
        ("esl-neuro train --budget cores=2 --budget target=loihi", "within two cores of Loihi"),
        ("esl-neuro train --data images --print-config", "the recipe as it would be trained, without training"),
        ("esl-neuro train --resume runs/mlp-digits-001", "continue an interrupted run"),
        (
            "esl-neuro train --from runs/mlp-digits-001 --quantize loihi2 --set training.epochs=5 "
            "--set training.learning_rate=1e-3 --set sparsity.end=0",
            "fine-tune on the integers of the chip, with fixed connections",
        ),
    ),
)
@click.argument("recipe", required=False)
@click.option("--seed", "seeds", type=SEED, multiple=True, help="Seed; repeat the option for several runs.")
@click.option("--set", "overrides", multiple=True, metavar="FIELD=VALUE", help="Change a field of the recipe.")
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Train within a budget of a chip: fan_in=32, cores=4, energy=400nJ, target=loihi2; fields of [budget].",
)
@click.option("--resume", type=click.Path(file_okay=False, path_type=Path), help="Continue the run in this folder.")
@click.option(
    "--from",
    "source",
    type=click.Path(file_okay=False, path_type=Path),
    help="Start from the best weights, thresholds and connections of a finished run; RECIPE defaults to its recipe.",
)
@click.option(
    "--quantize",
    metavar="TARGET",
    help="Run the forward pass on the integers of this chip, with the spikes of its simulator, and learn in float.",
)
@click.option("--print-config", is_flag=True, help="Print the resolved recipe as TOML, and train nothing.")
@click.option("--download", is_flag=True, help="Download data sets that are missing.")
@allow_code_option
@click.option("--tensorboard", is_flag=True, help="Also write the metrics for TensorBoard into the run folder.")
@data_option
@runs_option
@json_option
def train(
    recipe: str | None,
    seeds: tuple[int, ...],
    overrides: tuple[str, ...],
    budgets: tuple[str, ...],
    resume: Path | None,
    source: Path | None,
    quantize: str | None,
    print_config: bool,
    download: bool,
    allow_code: bool,
    tensorboard: bool,
    runs: Path,
    as_json: bool,
) -> None:
    """Train RECIPE (mlp-digits if none is given): a name, or a TOML file such as the config.toml of an earlier run.

    The network is sparse from the first step: connections are pruned and regrown during training, their number never
    changes, and each neuron learns its own threshold. Ctrl-C saves the state.
    """
    if tensorboard:
        _require_tensorboard()
    if quantize is not None:
        refuse_without_arithmetic(quantize)
    if resume is None:
        chosen = recipe or (RECIPE if source is None else _recipe_of(source, allow_code))
        changes = (*_changes(source, quantize), *(f"budget.{budget}" for budget in budgets), *overrides)
        if print_config:
            _print_config(chosen, seeds, changes, allow_code, as_json)
            return
        how = {"download": download, "allow_code": allow_code, "tensorboard": tensorboard}
        documents = train_recipe(chosen, seeds, changes, runs, **how)
    else:
        if recipe or seeds or overrides or budgets or source or quantize or print_config:
            raise click.UsageError(
                "--resume continues a run with its own settings; omit RECIPE, --seed, --set, --budget, --from, "
                "--quantize and --print-config"
            )
        chosen_run(resume, runs)
        from esl_neuro.pipeline.training import resume_training

        documents = [watch(resume_training(resume, allow_code=allow_code), tensorboard)]
    from statistics import mean, stdev

    accuracies = [document["test_accuracy"] for document in documents]
    spread = stdev(accuracies) if len(accuracies) > 1 else None
    summary = {"runs": documents, "mean_test_accuracy": mean(accuracies), "test_accuracy_stdev": spread}
    emit(summary, render(summary), as_json)


def train_recipe(
    recipe: str,
    seeds: tuple[int, ...],
    overrides: tuple[str, ...],
    runs: Path,
    *,
    download: bool = False,
    allow_code: bool = False,
    tensorboard: bool = False,
) -> list[dict[str, Any]]:
    """Train a recipe once for each seed (the seed of the recipe by default) and return the results."""
    from esl_neuro.pipeline.training import finished_before, start_training

    documents = []
    for loaded in _recipes(recipe, seeds, overrides, allow_code):
        done = finished_before(loaded, runs)
        if done is None:
            documents.append(watch(start_training(loaded, runs=runs, download=download), tensorboard))
        else:
            documents.append(_document(done))
    return documents


def _recipes(recipe: str, seeds: tuple[int, ...], overrides: tuple[str, ...], allow_code: bool) -> list[Recipe]:
    """Return the recipe with each seed, on the data given with ``--data``."""
    from esl_neuro.pipeline.given_data import changes_for
    from esl_neuro.pipeline.training import recipe_of

    given = given_data()
    named = recipe_of(recipe, None, overrides, allow_code=allow_code)
    own = changes_for(named.data, given, overrides)
    if own:
        print_status(f"--data {given}: your own data, instead of the data set '{named.data.name}' of the recipe")
    return [recipe_of(recipe, seed, (*overrides, *own), allow_code=allow_code) for seed in seeds or (None,)]


def _print_config(
    recipe: str, seeds: tuple[int, ...], overrides: tuple[str, ...], allow_code: bool, as_json: bool
) -> None:
    if len(seeds) > 1:
        raise click.UsageError("--print-config prints one recipe; give one --seed")
    import tomli_w

    document = _recipes(recipe, seeds, overrides, allow_code)[0].to_document()
    emit(document, tomli_w.dumps(document).rstrip("\n"), as_json)


def watch(trainer: Trainer, tensorboard: bool = False) -> dict[str, Any]:
    """Train to the end with a progress bar, and return the result."""
    from esl_neuro.cli.progress import training_view
    from esl_neuro.pipeline.training import finish

    recipe, folder = trainer.recipe, trainer.folder.path
    title = f"{recipe.name} seed {recipe.training.seed}"
    for note in (*trainer.dataset.notes, *trainer.notes):
        print_status(note)
    listeners = _tensorboards(folder) if tensorboard and trainer.ranks.first else []

    def on_epoch(metrics: Any) -> None:
        for listener in listeners:
            listener.on_epoch(metrics)

    try:
        with training_view(title, recipe.training.epochs) as view:
            listeners.append(view)
            run = finish(trainer, view.on_batch, on_epoch)
    except KeyboardInterrupt:
        if (folder / "last.safetensors").exists():
            print_status(f"state saved in {folder}; continue with: esl-neuro train --resume {folder}")
        raise
    print_status(f"{title}: finished, {folder}")
    return _document(run)


def _document(run: TrainingRun) -> dict[str, Any]:
    return {"folder": str(run.folder), **run.figures.model_dump()}


def _require_tensorboard() -> None:
    from importlib.util import find_spec

    if find_spec("tensorboard") is None:
        raise MissingDependency(
            "--tensorboard needs 'tensorboard', which is not installed; install it: pip install tensorboard"
        )


def _tensorboards(folder: Path) -> list[Any]:
    from esl_neuro.training.tensorboard import TensorBoard

    return [TensorBoard(folder)]


def _recipe_of(run: Path, allow_code: bool) -> str:
    chosen_run(run, run.parent)
    from esl_neuro.pipeline.training import load_run

    return str(load_run(run, allow_code=allow_code).files.config)


def _changes(source: Path | None, quantize: str | None) -> tuple[str, ...]:
    """Return the changes that the options make to the recipe."""
    given = {"start_from": source, "quantize": quantize}
    return tuple(f"training.{field}={json.dumps(str(value))}" for field, value in given.items() if value is not None)


def render(summary: dict[str, Any]) -> str:
    """Write the results of all runs as a table, with mean and spread."""
    from esl_neuro.report.tables import table

    rows = [
        (
            run["folder"],
            str(run["seed"]),
            percent(run["test_accuracy"]),
            percent(run["validation_accuracy"]),
            f"{run['connections']:,}",
            f"{run['density']:.3f}",
            f"{run['spikes_per_neuron']:.2f}",
            f"{run['seconds']:.0f} s",
        )
        for run in summary["runs"]
    ]
    headers = ("run", "seed", "test", "validation", "connections", "density", "spikes/neuron", "time")
    first = summary["runs"][0]
    of = "" if len(rows) == 1 else f" of {first['folder']}"
    energies = [_energy(run) for run in summary["runs"] if run.get("energy")]
    cores = [_cores(run) for run in summary["runs"] if run.get("cores")]
    text = "\n".join([table(headers, rows), *cores, *energies, *cost_lines(first, of)])
    if summary["test_accuracy_stdev"] is None:
        return text
    return text + (
        f"\nmean test accuracy of {len(rows)} seeds: {percent(summary['mean_test_accuracy'])} "
        f"(standard deviation {100 * summary['test_accuracy_stdev']:.2f} points)"
    )


def cost_lines(run: dict[str, Any], of: str = "") -> list[str]:
    """Write what the training of a run took, beside a dense network; nothing where it was not counted."""
    from esl_neuro.report.tables import si

    cost = run.get("cost")
    if cost is None:
        return []
    operations = max(total(cost["work"]["run"], "operations"), 1)
    shares = ", ".join(
        f"{name} {100 * part['operations'] / operations:.0f} %" for name, part in cost["work"]["run"].items()
    )

    def work(name: str) -> str:
        phases = cost["work"][name]
        return f"{si(total(phases, 'operations'))} operations, {si(total(phases, 'bytes'))}B moved"

    memory, peak = run["memory"], "not measured"
    if memory is not None:
        of_each = f" of each of {memory['processes']} processes" if memory["processes"] > 1 else ""
        peak = f"{si(memory['peak_bytes'])}B{of_each}, before training {si(memory['start_bytes'])}B"
    return [
        f"training{of}: {work('run')} ({shares}); peak memory {peak}",
        f"dense: {work('dense')}; these connections alone: {work('alone')}; "
        f"parameters {si(cost['parameter_bytes'])}B, dense {si(cost['dense_parameter_bytes'])}B",
    ]


def total(phases: dict[str, dict[str, int]], what: str) -> int:
    """Return the operations or bytes of all phases."""
    return sum(part[what] for part in phases.values())


def _cores(run: dict[str, Any]) -> str:
    """Write what a run with a budget of cores uses of the chip in one line."""
    resources = run["cores"]["resources"]
    cores = resources["cores_per_chip"]
    fullest = [
        f"{name.removesuffix('_per_core').replace('_', ' ')} {row['used']:,} of {row['limit']:,.0f}"
        for name, row in resources.items()
        if name.endswith("_per_core") and row["limit"] is not None
    ]
    return (
        f"{run['folder']}: {cores['used']:,} of {cores['limit']:,.0f} cores of {run['cores']['target']}; "
        f"fullest core: {', '.join(fullest)}"
    )


def _energy(run: dict[str, Any]) -> str:
    """Write the energy of a run with an energy budget in one line."""
    energy = run["energy"]
    worth = energy["points_per_nj"]
    text = (
        f"{run['folder']}: {energy['operations_nj']:,.4g} nJ per sample for operations on {energy['target']}, "
        f"{'within' if energy['within'] else 'ABOVE'} the budget of {energy['budget_nj']:,.4g} nJ; steps and chip "
        f"{energy['beside_nj']:,.4g} nJ beside"
    )
    if worth is not None:
        text += f"; one nJ more is worth {worth:.2g} points"
    if energy["quiet_layers"]:
        text += f"; nearly silent: {', '.join(energy['quiet_layers'])}"
    return text
