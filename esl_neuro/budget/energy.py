"""Keep the energy of a sample within a budget: synaptic operations in the loss, with a dual variable.

The loss gets ``mu g + rho (sqrt(1 + max(0, g)^2) - 1)`` with ``g = (E - AIM B) / R``: E is the energy of the
operations of a sample on the chip, B the budget, R what updates and the spikes of the input leave of it for the spikes
of the neurons. Once an epoch ``mu <- max(0, mu + rho min(g, 1))`` with g of the validation part (augmented Lagrangian,
Hestenes 1969 and Powell 1969, with a penalty that is linear far above the budget). E is linear in the spikes, each
times the synapses that it meets, so its gradient reaches weights and thresholds through the surrogate, and learned
thresholds rise where energy is worth more than accuracy.

The same multiplier prices connections where structure learning replaces them
(:mod:`esl_neuro.sparsity.spending`), and none is created that would exceed the budget at the rates of the batch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, NonNegativeFloat
from torch import Tensor, nn

from esl_neuro.budget.pricing import Activity, SourceActivity, energy_per_sample, synaptic_price_nj
from esl_neuro.budget.wiring import (
    INPUT,
    OUTPUT,
    fan_outs,
    updated_neurons,
    weight_of,
    weight_operations,
    weighted_modules,
)
from esl_neuro.errors import BadInput
from esl_neuro.hardware import HardwareTarget
from esl_neuro.hardware.units import UNITS, convert
from esl_neuro.snn.network import NetworkActivity
from esl_neuro.sparsity.indexed_layer import live_positions
from esl_neuro.sparsity.masks import Layer
from esl_neuro.sparsity.sparse_linear import SparseLinear
from esl_neuro.sparsity.spending import Spending

AIM = 0.97
"""Share of the budget at which training aims, so that it ends below and not around it."""
RHO = 0.1
"""Step of the dual variable."""
ENERGIES = [unit for unit, (dimension, _) in UNITS.items() if dimension == "energy"]
AMOUNT = re.compile(rf"\s*([0-9.eE+-]+)\s*(x|{'|'.join(ENERGIES)})\s*")


@dataclass(frozen=True)
class EnergyGoal:
    """A budget as a recipe writes it.

    Attributes
    ----------
    amount : float
        nJ per sample, or the share of a reference.
    relative : bool
        Whether it is a share.
    """

    amount: float
    relative: bool


def parse_energy(text: str) -> EnergyGoal:
    """Read ``"400 nJ"`` or ``"0.5x"``.

    Raises
    ------
    BadInput
        If it is neither, or not above 0.
    """
    found = AMOUNT.fullmatch(text)
    try:
        amount = float(found[1]) if found else math.nan
    except ValueError:
        amount = math.nan
    if found is None or not 0 < amount < math.inf:
        raise BadInput(
            f'budget.energy: \'{text}\' is no energy; write "400 nJ" ({", ".join(ENERGIES)}), or "0.5x" for half the '
            "energy of the run in budget.reference"
        )
    return EnergyGoal(amount, True) if found[2] == "x" else EnergyGoal(convert(amount, found[2], "nJ"), False)


class Tally:
    """Counts the operations of a network exactly, batch by batch, with the fan-outs of its connections.

    Parameters
    ----------
    fans : dict of str to Tensor, shape (delays, ...)
        Synapses that leave each input line and each neuron, by the steps that a spike takes to arrive.
    neurons : dict of str to int
        Neurons of each layer, and of an output layer that does not fire.
    """

    def __init__(self, fans: Mapping[str, Tensor], neurons: Mapping[str, int]) -> None:
        self.fans = {name: fan.flatten(1).double() for name, fan in fans.items()}
        self.neurons = dict(neurons)
        self.samples = self.steps = 0
        self.events, self.synaptic = dict.fromkeys(fans, 0), dict.fromkeys(fans, 0)
        self.graded = False

    def add(self, inputs: Tensor, activity: NetworkActivity) -> None:
        """Add a batch: inputs of shape (steps, batch, ...) and the spikes of its layers."""
        self.steps, batch = inputs.shape[:2]
        self.samples += batch
        self.graded |= bool(((inputs != 0) & (inputs != 1)).any())
        for name, sent in ((INPUT, (inputs != 0).float()), *activity.spikes.items()):
            self.events[name] += int(_of_each(sent.detach()).sum())
            for delay, fan in arriving_fans(self.fans[name]):  # what arrives after the last step is lost
                self.synaptic[name] += int(_of_each(sent.detach()[: max(self.steps - delay, 0)]) @ fan)

    def counts(self) -> list[int]:
        """Return all that was counted, as whole numbers that may be added to those of another tally."""
        return [self.samples, int(self.graded), *self.events.values(), *self.synaptic.values()]

    def take(self, counts: Sequence[int]) -> None:
        """Replace what was counted by such numbers."""
        self.samples, graded, *rest = counts
        self.graded = graded > 0
        self.events = dict(zip(self.events, rest, strict=False))
        self.synaptic = dict(zip(self.synaptic, rest[len(self.events) :], strict=True))

    def activity(self) -> Activity:
        """Return the totals."""
        sources = [SourceActivity(INPUT, 0, self.events[INPUT], self.synaptic[INPUT], self.graded)]
        sources += [
            SourceActivity(name, count, self.events.get(name, 0), self.synaptic.get(name, 0))
            for name, count in self.neurons.items()
        ]
        return Activity(self.samples, self.steps, tuple(sources))

    def rates(self) -> dict[str, float]:
        """Return the mean spikes of a neuron in a step, of each layer that fires."""
        updates = {name: self.samples * self.steps * count for name, count in self.neurons.items() if name != OUTPUT}
        return {name: self.events[name] / count for name, count in updates.items()}


def _of_each(sent: Tensor) -> Tensor:
    """Sum the spikes of each neuron; sums over the steps are small, and exact in single precision."""
    return sent.flatten(2).sum(0).double().sum(0)


def arriving_fans(fans: Tensor) -> list[tuple[int, Tensor]]:
    """Return the delays that occur, with the synapses of each."""
    return [(delay, fan.flatten()) for delay, fan in enumerate(fans) if delay == 0 or bool(fan.any())]


class Meter:
    """Tallies a network as it is: its fan-outs are counted again only after its connections changed.

    Parameters
    ----------
    network : nn.Module
        The network.
    shape : tuple of int
        Shape of an input sample.
    layers : sequence of Layer
        The sparse layers, with masks.
    """

    def __init__(self, network: nn.Module, shape: tuple[int, ...], layers: Sequence[Layer] = ()) -> None:
        self.network, self.shape, self.layers = network, shape, layers
        self._fans: dict[str, Tensor] | None = None
        self.neurons = updated_neurons(network, shape)

    def fans(self) -> dict[str, Tensor]:
        """Return the synapses that leave each input line and each neuron now, by delay."""
        if self._fans is None:
            self._fans = fan_outs(self.network, self.shape, connections(self.network, self.layers))
        return self._fans

    def changed(self) -> None:
        """Count the fan-outs again before they are used next."""
        self._fans = None

    def tally(self) -> Tally:
        """Return an empty tally."""
        return Tally(self.fans(), self.neurons)


def connections(network: nn.Module, layers: Sequence[Layer] = ()) -> dict[str, Tensor]:
    """Return 1 where each layer has a connection: by the masks of sparse layers, by the weights of the others."""
    masks = {id(layer.weight): layer.mask for layer in layers}
    found = {}
    for name, module in weighted_modules(network).items():
        weight = weight_of(module).detach()
        whole = torch.ones_like(weight, dtype=torch.bool) if isinstance(module, SparseLinear) else weight != 0
        found[name] = masks.get(id(weight_of(module)), whole)
    return found


class EnergyState(BaseModel):
    """What a checkpoint keeps of an energy budget.

    Attributes
    ----------
    multiplier : float
        Dual variable.
    history : list of (float, float)
        Loss without the energy, and validation accuracy, of every epoch.
    best_nj : float or None
        Energy of the best epoch.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    multiplier: NonNegativeFloat = 0.0
    history: list[tuple[float, float]] = []
    best_nj: NonNegativeFloat | None = None


@dataclass(frozen=True)
class SampleEnergy:
    """Energy of a sample, the mean over a part of the data.

    Attributes
    ----------
    operations_nj, beside_nj : float
        Operations and updates; steps of the chip and static power.
    synaptic_operations : float
        Spikes times the synapses that they meet.
    rates : dict of str to float
        Spikes of a neuron in a step, of each layer.
    """

    operations_nj: float
    beside_nj: float
    synaptic_operations: float
    rates: dict[str, float]

    @classmethod
    def of(cls, tally: Tally, target: HardwareTarget) -> SampleEnergy:
        """Price a tally."""
        activity = tally.activity()
        priced = energy_per_sample(activity, target)
        return cls(priced.operations_nj, priced.beside_nj, activity.synaptic, tally.rates())

    def below(self, floor: float) -> list[str]:
        """Name the layers that fire less than a floor."""
        return [name for name, rate in self.rates.items() if rate < floor]


@dataclass
class EnergyBudget:
    """The energy of a sample as a term of the loss.

    Attributes
    ----------
    meter : Meter
        Counts the synapses.
    target : HardwareTarget
        The chip, whose file prices the operations.
    budget_nj : float
        Largest energy of the operations of a sample.
    steps : int
        Steps of a sample.
    rate_floor : float
        Spikes of a neuron in a step below which a layer is kept alive.
    state : EnergyState
        Dual variable and history.
    sent : dict of str to Tensor, shape (steps, ...)
        Spikes of each input line and neuron in every step, summed over the last batch of this process.
    samples : int
        Samples of that batch.

    Raises
    ------
    BadInput
        If the target has no price of operations, or the updates of the neurons alone exceed the budget.
    """

    meter: Meter
    target: HardwareTarget
    budget_nj: float
    steps: int
    rate_floor: float
    state: EnergyState = field(default_factory=EnergyState)
    price_nj: float = field(init=False)
    updates_nj: float = field(init=False)
    room_nj: float = field(init=False)
    sent: dict[str, Tensor] = field(init=False, default_factory=dict, repr=False)
    samples: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.room_nj = self.aim_nj
        self.price_nj = synaptic_price_nj(self.target)
        sources = tuple(SourceActivity(name, count, 0, 0) for name, count in self.meter.neurons.items())
        silent = Activity(1, self.steps, (SourceActivity(INPUT, 0, 0, 0), *sources))
        self.updates_nj = energy_per_sample(silent, self.target).operations_nj
        if self.updates_nj >= self.aim_nj:
            raise BadInput(
                f"budget.energy: {self.budget_nj:.4g} nJ is not possible on {self.target.name}: the updates of "
                f"{sum(self.meter.neurons.values()):,} neurons in {self.steps} steps alone cost {self.updates_nj:.4g} "
                f"nJ; raise it above {self.updates_nj / AIM:.4g} nJ, or lower the neurons or data.steps"
            )

    def leave_room_for_input(self, arriving: Tensor, density: float) -> None:
        """Take the energy of the input's spikes, which training cannot lower, from the room of the neurons' spikes.

        Parameters
        ----------
        arriving : Tensor, shape (input lines,)
            Spikes, or values that are not zero, of each input line in a sample.
        density : float
            Density of the sparse layers.

        Raises
        ------
        BadInput
            If nothing is left; with the energies, and a density that fits.
        """
        given_nj = self.price_nj * float(arriving.double() @ self.meter.fans()[INPUT].sum(0).flatten().double())
        left_nj = self.aim_nj - self.updates_nj
        if given_nj >= left_nj:
            raise BadInput(
                f"budget.energy: {self.budget_nj:.4g} nJ is not possible on {self.target.name} with these connections: "
                f"the spikes of the input alone cost {given_nj:.4g} nJ, and updates {self.updates_nj:.4g} nJ; raise it "
                f"above {(given_nj + self.updates_nj) / AIM:.4g} nJ, or lower the density {density:.3g} of the sparse "
                f"layers below {density * left_nj / given_nj:.3g}, if they read the input, or the neurons"
            )
        self.room_nj = left_nj - given_nj

    @property
    def aim_nj(self) -> float:
        """Energy at which training aims."""
        return AIM * self.budget_nj

    @property
    def multiplier_per_nj(self) -> float:
        """Loss that one nJ more is worth."""
        return self.state.multiplier / self.room_nj

    def cost(
        self,
        inputs: Tensor,
        activity: NetworkActivity,
        share: float = 1.0,
        total: Callable[[Tensor], Tensor] = lambda means: means,
    ) -> Tensor:
        """Return the term of the loss of a batch.

        Parameters
        ----------
        inputs : Tensor, shape (steps, samples, ...)
            Inputs of this process.
        activity : NetworkActivity
            Its spikes, with their gradients.
        share : float
            Share of the batch that this process has.
        total : callable
            Adds shares of means over all processes, forward and backward.
        """
        fans, (steps, batch) = self.meter.fans(), inputs.shape[:2]
        spent = inputs.new_zeros(())
        self.sent, self.samples = {}, batch
        for name, sent in ((INPUT, inputs != 0), *activity.spikes.items()):
            self.sent[name] = sent.detach().float().sum(1)
            for delay, fan in arriving_fans(fans[name]):
                spent = spent + sent[: max(steps - delay, 0)].float().flatten(2).sum((0, 1)) @ fan
        means = [spent * (self.price_nj / batch), *(spikes.float().mean() for spikes in activity.spikes.values())]
        spent_nj, *rates = total(share * torch.stack(means)).unbind()
        floor = torch.stack([torch.relu(1 - rate / self.rate_floor).square() for rate in rates]).sum()
        over = (spent_nj + self.updates_nj - self.aim_nj) / self.room_nj
        # A square near the budget, but no steeper than rho far above it, where it would silence a network that learns.
        return self.state.multiplier * over + RHO * ((1 + torch.relu(over).square()).sqrt() - 1) + floor

    def refuse_shared_synapses(self) -> None:
        """Reject a network whose connections have no price of their own.

        Raises
        ------
        BadInput
            If layers with weights follow each other without neurons between them.
        """
        once = {name: torch.ones_like(fan) for name, fan in self.meter.fans().items()}
        weight_operations(self.meter.network, connections(self.meter.network, self.meter.layers), once)

    def spending(self, total: Callable[[Tensor], Tensor] = lambda counts: counts) -> Spending:
        """Count what each connection costs in the samples of the last batch, and what the budget leaves.

        Parameters
        ----------
        total : callable
            Adds counts over all processes.

        Returns
        -------
        Spending
            In synaptic operations of these samples; the multiplier is that of the loss.
        """
        samples = int(total(torch.tensor([self.samples], dtype=torch.float64))[0])
        by_step = {name: total(counts.double()) for name, counts in self.sent.items()}
        delays = max(len(fan) for fan in self.meter.fans().values())
        arriving = {
            name: torch.stack([counts[: max(self.steps - delay, 0)].sum(0) for delay in range(delays)])
            for name, counts in by_step.items()
        }
        network, layers = self.meter.network, self.meter.layers
        spent, found = weight_operations(network, connections(network, layers), arriving)
        full = {id(weight_of(module)): name for name, module in weighted_modules(network).items()}
        operations = {layer.name: found[full[id(layer.weight)]] for layer in layers}
        own = sum(int(operations[layer.name].at(live_positions(layer)).sum()) for layer in layers)
        mean = own / sum(layer.connections for layer in layers)
        return Spending(operations, mean, self.state.multiplier, self.spending_limit(samples) - spent)

    def spending_limit(self, samples: int) -> int:
        """Return the synaptic operations of so many samples within the energy at which training aims."""
        return math.floor((self.aim_nj - self.updates_nj) / self.price_nj * samples)

    def finish_epoch(self, energy: SampleEnergy, loss: float, accuracy: float) -> None:
        """Update the dual variable by the energy of the validation part."""
        over = (energy.operations_nj - self.aim_nj) / self.room_nj
        self.state.multiplier = max(0.0, self.state.multiplier + RHO * min(over, 1.0))
        self.state.history.append((loss, accuracy))

    def figures(self, energy: SampleEnergy) -> dict[str, Any]:
        """Return the figures of an epoch for its log."""
        return asdict(energy) | {
            "multiplier_per_nj": self.multiplier_per_nj,
            "quiet_layers": energy.below(self.rate_floor),
        }

    def priced(self, tally: Tally) -> SampleEnergy:
        """Price a tally on the target."""
        return SampleEnergy.of(tally, self.target)

    def keep_better(self, energy: SampleEnergy, accuracy: float, best_accuracy: float) -> bool:
        """Return whether an epoch is the best so far: within the budget by accuracy, before that by energy."""
        better = self._is_better(energy.operations_nj, accuracy, best_accuracy)
        if better:
            self.state.best_nj = energy.operations_nj
        return better

    def _is_better(self, now: float, accuracy: float, best_accuracy: float) -> bool:
        best = self.state.best_nj
        if best is None or (now <= self.budget_nj) != (best <= self.budget_nj):
            return best is None or now <= self.budget_nj
        return accuracy >= best_accuracy if now <= self.budget_nj else now <= best

    def points_per_nj(self) -> float | None:
        """Estimate the points of validation accuracy that one nJ more is worth.

        The multiplier times the slope of the accuracy over the loss in the second half of the epochs; None if they do
        not show one.
        """
        half = self.state.history[len(self.state.history) // 2 :]
        losses, accuracies = ([each[at] for each in half] for at in (0, 1))
        if len(half) < 3 or max(losses) == min(losses):
            return None
        slope = float(np.polyfit(losses, accuracies, 1)[0])
        return -100 * slope * self.multiplier_per_nj if slope < 0 else None
