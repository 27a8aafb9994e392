"""Start a run from the best weights, thresholds and connections of a finished one."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from esl_neuro.errors import BadInput
from esl_neuro.recipes import Recipe
from esl_neuro.sparsity import Learner, Rewirer
from esl_neuro.training.checkpoint import Checkpoint, refuse_misfit
from esl_neuro.training.run_folder import RunFolder


def source_of(recipe: Recipe) -> RunFolder | None:
    """Return the run that a recipe starts from, or None.

    Raises
    ------
    BadInput
        If the run is not finished, or had another seed, which determines the validation part.
    """
    if recipe.training.start_from is None:
        return None
    source = RunFolder(Path(recipe.training.start_from), allow_code=True)  # none runs: its network is not built
    seed, before = recipe.training.seed, source.recipe().training.seed
    if not source.result.exists():
        raise BadInput(
            f"training.start_from: the run {source.path} is not finished; finish it with: "
            f"esl-neuro train --resume {source.path}"
        )
    if seed != before:
        raise BadInput(
            f"training.start_from: the seed of {source.path} is {before}, this one is {seed}; another seed would "
            f"validate on training samples; use training.seed = {before}"
        )
    return source


def warm_start(source: RunFolder, recipe: Recipe, network: nn.Module, learner: Learner) -> None:
    """Load the state of the best epoch of a run into network and learner.

    A learner that prunes and regrows begins its schedule anew, from the connections of that run; one with latent
    values of its own goes on where it stood.

    Parameters
    ----------
    source : RunFolder
        The finished run.
    recipe : Recipe
        Of the run that starts.
    network : nn.Module
        Of the same layers.
    learner : Learner
        As it was made for the network.

    Raises
    ------
    BadInput
        If the network is another one, or the learner cannot go on from what the run's learner left.
    """
    checkpoint = Checkpoint.load(source.path, "best")
    try:
        network.load_state_dict(checkpoint.part("network"))
    except RuntimeError as error:
        reason = " ".join(str(error).split("\n", 2)[1:2]).strip() or str(error)
        raise BadInput(
            f"training.start_from: the network of {source.path} has another architecture: {reason}"
        ) from error
    left, before = checkpoint.part("learner"), source.recipe().sparsity.learner
    if isinstance(learner, Rewirer):
        masks = {f"{layer.name}/{kind}": layer.mask for layer in learner.masked for kind in ("mask", "ever_active")}
        known = masks.keys() & left.keys()
        try:
            refuse_misfit({name: left[name] for name in known}, {name: masks[name] for name in known})
        except ValueError as error:
            raise BadInput(f"training.start_from: the masks of {source.path} do not fit ({error})") from error
        for layer in learner.masked:
            layer.mask.copy_(left.get(f"{layer.name}/mask", layer.weight.detach() != 0))
            layer.ever_active.copy_(left.get(f"{layer.name}/ever_active", layer.mask))
            layer.apply_mask()
        learner.refuse_above_budgets()
        return
    if recipe.sparsity.learner != before:
        raise BadInput(
            f"training.start_from: learner '{recipe.sparsity.learner}' cannot continue from the state of '{before}' in "
            f"{source.path}; use sparsity.learner = '{before}', or 'static' to keep the connections"
        )
    try:
        expected = learner.state_dict()
        refuse_misfit({name: tensor for name, tensor in left.items() if name in expected}, expected)
        learner.load_state_dict(left)
    except (KeyError, RuntimeError, ValueError) as error:
        raise BadInput(
            f"training.start_from: the masked layers of {source.path} differ; use its sparsity.layers"
        ) from error
