"""The network of a run, and its evaluation on a part of the data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from esl_neuro.budget.energy import Tally
from esl_neuro.data import Dataset, Split
from esl_neuro.data.inputs import Disturbance, evaluation_inputs
from esl_neuro.errors import BadInput
from esl_neuro.neuron_major import is_neuron_major, rows_of
from esl_neuro.reading.documents import reason
from esl_neuro.recipes import Recipe
from esl_neuro.recipes.sections import DataSection
from esl_neuro.snn import build_network, observe, probe
from esl_neuro.sparsity import SparseLinear
from esl_neuro.spike_bits import count_ones, kept_bits
from esl_neuro.training.checkpoint import Checkpoint, refuse_misfit
from esl_neuro.training.integer_training import quantised
from esl_neuro.training.ranks import ALONE, Ranks
from esl_neuro.training.run_folder import RunFolder
from esl_neuro.training.sparse_storage import conv_of, linear_of, names_of_any_length

EVALUATION_BATCH = 256
EVALUATED_SPIKES = 2**27  # neurons x steps x samples of a network with sparse storage: 512 MB of spikes


def network_of(recipe: Recipe, dataset: Dataset) -> nn.Module:
    """Build the network of a recipe; it must have one output per class of the data."""
    network = build_network(recipe.network, dataset.shape, recipe.training.seed, linear_of(recipe), conv_of(recipe))
    outputs = probe(network, dataset.shape).outputs.shape[-1]
    if outputs != dataset.classes:
        raise BadInput(
            f"network.notation: '{recipe.network.notation}' has {outputs} outputs, data set '{dataset.name}' has "
            f"{dataset.classes} classes"
        )
    return network if recipe.training.quantize is None else quantised(network, recipe, dataset)


def load_network(folder: RunFolder, dataset: Dataset) -> nn.Module:
    """Load the network of a run at its best validation epoch, on the CPU."""
    recipe = folder.recipe()
    network = network_of(recipe, dataset)
    weights = Checkpoint.load(folder.path, "best").part("network")
    try:
        refuse_misfit(weights, network.state_dict(), names_of_any_length(network))
        network.load_state_dict(weights)
    except (ValueError, RuntimeError) as error:
        raise BadInput(f"{folder.path}: the best checkpoint does not fit the recipe ({reason(error)})") from error
    return network


def accuracy(
    network: nn.Module, dataset: Dataset, split: Split, data: DataSection, disturbance: Disturbance | None = None
) -> float:
    """Return the share of correctly classified samples, with the encoding of all evaluations and optional noise."""
    return evaluate(network, dataset, split, data, disturbance)[1]


def evaluate(
    network: nn.Module,
    dataset: Dataset,
    split: Split,
    data: DataSection,
    disturbance: Disturbance | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    tally: Tally | None = None,
    ranks: Ranks = ALONE,
) -> tuple[int, float]:
    """Return the total spikes of all layers and the accuracy; a signal that is held back ends it.

    Several processes share the work. Each has the counts of all.
    """
    inputs = evaluation_inputs(dataset, split, data.encoding, data.steps, disturbance)
    labels, device = torch.from_numpy(split.labels), device_of(network)
    spikes, correct, batch = 0, 0, evaluation_batch(network, data.steps)
    network.eval()
    if tally is not None:
        tally.steps = data.steps  # a process may have no samples
    with torch.no_grad():
        for first in range(ranks.rank * batch, len(split), ranks.count * batch):
            if interrupted():
                break
            part = slice(first, first + batch)
            signal = time_first(inputs[part], device)
            activity = observe(network, signal, spike_count if tally is None else whole_spikes)
            if tally is not None:
                tally.add(signal, activity)
            spikes += total_spikes(activity.spikes if tally is None else spike_counts(activity.spikes))
            correct += int((activity.predictions().cpu() == labels[part]).sum())
    if ranks.any(interrupted()):
        raise KeyboardInterrupt
    spikes, correct, *counts = ranks.total(torch.tensor([spikes, correct, *_counts(tally)])).tolist()
    if tally is not None:
        tally.take(counts)
    return spikes, correct / len(split)


def _counts(tally: Tally | None) -> list[int]:
    return [] if tally is None else tally.counts()


def classes(network: nn.Module, inputs: NDArray[Any]) -> NDArray[np.int64]:
    """Return the class of each sample of one batch, of shape (samples, steps, ...)."""
    network.eval()
    with torch.no_grad():
        activity = observe(network, time_first(inputs, device_of(network)), spike_count)
    found: NDArray[np.int64] = activity.predictions().cpu().numpy()
    return found


def evaluation_batch(network: nn.Module, steps: int) -> int:
    """Return how many samples are evaluated together: fewer where sparse storage allows more neurons than memory."""
    outputs = sum(layer.out_features for layer in network.modules() if isinstance(layer, SparseLinear))
    return max(1, min(EVALUATION_BATCH, EVALUATED_SPIKES // (steps * max(1, outputs))))


def spike_count(fired: Tensor) -> Tensor:
    """Count the spikes of a layer; float sums are fast, and exact below 2**24, so they are used per sample and step."""
    bits = kept_bits(fired)
    if bits is not None:
        return torch.tensor(count_ones(bits), dtype=torch.float64)
    spikes = fired.detach()
    if is_neuron_major(spikes):  # add whole rows, since torch goes across them
        rows = rows_of(spikes)[:, : spikes.shape[:2].numel()]
        return torch.tensor(rows.sum(axis=0).sum(dtype=np.float64))
    return spikes.flatten(2).sum(2).sum(dtype=torch.float64)


def whole_spikes(spikes: Tensor) -> Tensor:
    """Return the spikes of a layer as they are."""
    return spikes


def spike_counts(spikes: dict[str, Tensor]) -> dict[str, Tensor]:
    """Count the spikes of each layer."""
    return {name: spike_count(fired) for name, fired in spikes.items()}


def total_spikes(counted: dict[str, Tensor]) -> int:
    """Add up the counts of all layers."""
    return sum(int(spikes) for spikes in counted.values())


def time_first(encoded: NDArray[Any], device: torch.device) -> Tensor:
    """Return input of shape (steps, batch, ...), float32; a constant input remains an expanded view."""
    if encoded.shape[1] > 1 and encoded.strides[1] == 0:
        once = torch.from_numpy(encoded[:, 0].astype(np.float32)).to(device)
        return once.expand(encoded.shape[1], *once.shape)
    return torch.as_tensor(encoded).transpose(0, 1).contiguous().float().to(device)


def device_of(network: nn.Module) -> torch.device:
    """Return where a network is."""
    return next(network.parameters()).device
