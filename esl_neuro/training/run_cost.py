"""What a run costs while it trains, counted epoch by epoch, and its peak memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from esl_neuro.data import Dataset
from esl_neuro.data.inputs import evaluation_inputs
from esl_neuro.recipes import Recipe
from esl_neuro.snn.temporal import TemporalNetwork
from esl_neuro.sparsity import Learner, Rewirer, RewiringUpdate
from esl_neuro.sparsity.growth import shares_of
from esl_neuro.training.cost import (
    Amount,
    Memory,
    Rule,
    TrainingCost,
    TrainingWork,
    parameter_bytes,
    rewiring_work,
    training_work,
)
from esl_neuro.training.evaluation import device_of, time_first
from esl_neuro.training.peak_memory import peak_bytes
from esl_neuro.training.ranks import ALONE, Ranks
from esl_neuro.training.work_of_network import NetworkWork, rule_of, work_of

COUNTED_SAMPLES = 32  # of the validation part, whose signals are counted after every epoch


@dataclass
class RunCost:
    """Counts the operations and bytes of a run.

    Attributes
    ----------
    recipe, dataset, network, optimizer, learner
        Those of the run.
    start_bytes : int or None
        Memory of the process before the run, None where it is not known.
    done : TrainingWork or None
        What was counted so far; None where a part of the run was not.
    ranks : Ranks
        The processes that train the run; each updates all weights.
    """

    recipe: Recipe
    dataset: Dataset
    network: nn.Module
    optimizer: torch.optim.Optimizer
    learner: Learner
    start_bytes: int | None
    done: TrainingWork | None
    ranks: Ranks = ALONE

    def count_epoch(self, samples: int, batches: int) -> None:
        """Add the forward and backward passes and the optimiser's steps of an epoch."""
        found = self._network_work()
        if found is None or self.done is None:
            self.done = None
            return
        processes = self.ranks.count
        amount = Amount(samples, batches * processes * self.recipe.training.accumulation, batches * processes)
        self.done += training_work(found.layers.values(), found.updates, found.others, self._rule(), amount)

    def count_updates(self, updates: Sequence[RewiringUpdate]) -> None:
        """Add updates of the structure."""
        found = self._shapes if updates and self.done is not None else None
        learner, shares = self.learner, {str(self.recipe.sparsity.learner): 1.0}
        if isinstance(learner, Rewirer):
            shares = learner.growth
        for update in updates:
            if found is None or self.done is None or update.layer not in found.layers:
                continue
            layer = replace(found.layers[update.layer], connections=update.connections)
            births = shares_of(shares, update.births)
            processes = self.ranks.count
            work = rewiring_work(layer, births, self._rule(), self.recipe.training.batch // processes)
            self.done += work.times(processes)

    def figures(self) -> TrainingCost | None:
        """Return the cost of the run, None where it was not counted."""
        found = self._network_work()
        if found is None or self.done is None:
            return None
        stored, dense = parameter_bytes(found.layers.values(), found.others, self._rule())
        return TrainingCost(work=self.done, parameter_bytes=stored, dense_parameter_bytes=dense)

    def memory(self) -> Memory | None:
        """Return the peak memory of a process since it was reset, None where the system does not tell."""
        measured = torch.tensor([peak_bytes() or 0, self.start_bytes or 0])
        peak, start = self.ranks.each(measured).max(0).values.tolist()
        if not (peak and start):
            return None
        # The peak is forgotten when training begins, so memory that was freed before then is in the start only.
        return Memory(peak_bytes=max(peak, start), start_bytes=start, processes=self.ranks.count)

    @cached_property
    def _shapes(self) -> NetworkWork | None:
        return self._network_work()

    def _network_work(self) -> NetworkWork | None:
        """Return what the network does for a sample, None where that is not counted."""
        if isinstance(self.network, TemporalNetwork):
            return None
        data, some = self.recipe.data, self.dataset.validation
        some = some.select(np.arange(min(COUNTED_SAMPLES, len(some))))
        inputs = evaluation_inputs(self.dataset, some, data.encoding, data.steps)[:]
        return work_of(self.network, self.learner, time_first(inputs, device_of(self.network)))

    def _rule(self) -> Rule:
        weight = max((each for each in self.network.parameters() if each.requires_grad), key=Tensor.numel)
        return rule_of(self.recipe.training.optimiser, self.optimizer, weight)
