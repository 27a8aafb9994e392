"""Prune and regrow connections while a network trains, in any training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from esl_neuro.errors import BadInput
from esl_neuro.random_streams import stream
from esl_neuro.registry import Registry
from esl_neuro.sparsity.capped_choice import IntArray, Room, RowRoom
from esl_neuro.sparsity.cores import CoreRoom, Cores, Plan, spared
from esl_neuro.sparsity.fan_in import (
    FanIn,
    caps_by_name,
    fitting_caps,
    most_births,
    outputs_of,
    refuse_above,
    room_after,
    spare,
)
from esl_neuro.sparsity.growth import GROWTH_RULES, grow
from esl_neuro.sparsity.indexed_growth import INDEXED_GROWTH_RULES, WITHOUT_ERRORS, grow_connections
from esl_neuro.sparsity.indexed_layer import IndexedLayer, live_positions, replace_connections
from esl_neuro.sparsity.initialisers import densities_by_name, positions_on_cores, sparse_layers
from esl_neuro.sparsity.masked_adam import keep_sparse
from esl_neuro.sparsity.masks import Layer, SparseLayer, layer_of_positions, overall_density
from esl_neuro.sparsity.moments import forget_moments, require_momentum
from esl_neuro.sparsity.prune import DEFAULT_THRESHOLD, PRUNE_RULES
from esl_neuro.sparsity.redistribution import REDISTRIBUTIONS, exchange_quotas
from esl_neuro.sparsity.schedule import SCHEDULES
from esl_neuro.sparsity.selection import LayerNames, indexed_layers, named_weights
from esl_neuro.sparsity.spending import Spending
from esl_neuro.sparsity.telemetry import RewiringUpdate, describe_update
from esl_neuro.sparsity.topology import Positions, Topology

EXPLORED = "explored_positions"


class Rewirer:
    """Keeps layers sparse and replaces part of their connections every ``update_every`` iterations.

    Algorithm 1 of ESL-SNNs, with an exactly constant number of connections. Use it in three lines::

        rewirer = Rewirer(model, optimizer, density=0.15, layers=["fc1"], end=1000)
        ...
        optimizer.step()
        rewirer.step()

    The layers are either linear layers and convolutions, which get masks, or all
    :class:`~esl_neuro.sparsity.SparseLinear`, which store their connections only (sparse storage). With the growth
    rules ``random``, ``random_unfired`` and ``gradient``, both change in the same way from the same state, up to
    rounding and ties. Sparse storage alone has ``gradient_on_candidates``, and it has no momentum growth.

    With masks, gradients and optimiser moments are dense, so inactive connections accumulate the momentum that growth
    rules use. A new connection starts with zero weight and zero moments; a connection pruned in an update is not a
    candidate in the same update. The optimiser's step of an updating iteration is kept (RigL skips it): the prune rule
    uses the weights after that step.

    Parameters
    ----------
    model : nn.Module
        Holds the layers.
    optimizer : torch.optim.Optimizer
        Optimiser of the weights; momentum growth reads its state. :class:`~esl_neuro.sparsity.MaskedAdam` and
        ``MaskedAdamW`` apply the masks themselves; with any other optimiser the rewirer does.
    density : float, optional
        Density of every masked layer, in (0, 1]; with ``"erk"``, of all of them together.
    epsilon : float, optional
        Parameter of eq. 1, instead of the density.
    densities : mapping of str to float, optional
        Density of each masked layer by name, instead of one density for all.
    topology : Topology, optional
        Equally many connections of each neuron, instead of the density; for sparse storage.
    distribution : str
        Distribution of the connections over the layers: ``"erdos_renyi"``, ``"erk"`` or ``"uniform"``.
    layers : sequence of str, or "all"
        Names, or last parts of names, of the linear layers and convolutions to mask.
    end : int
        Iteration from which the structure is fixed (``T_end``).
    alpha : float
        Share of the connections replaced at the start (eq. 2), in [0, 1].
    schedule : str
        Decrease of the share until the end: ``"cosine"`` (eq. 2), ``"cosine_floor"``, ``"constant"`` or ``"linear"``.
    update_every : int
        Iterations between updates (``T_iter``).
    prune : str
        Name of the prune rule; ``"per_sign"`` is SET's.
    threshold : float
        Size below which the ``"threshold"`` rule prunes.
    growth : mapping of str to float
        Growth rules and their shares of the births.
    fan_in : int or mapping of str to int, optional
        Largest number of connections that reach an output neuron, or the weights of an output channel, in all layers or
        by name. It holds exactly from the initial connections on: of the candidates of a growth rule, the best within
        the cap are created, and the number of connections stays the same. If several layers feed the same neurons, as
        the recurrent weights of a layer do, divide the cap between them.
    cores : callable, optional
        Plans the cores of a chip, as :meth:`~esl_neuro.budget.cores.CoreBudget.plan`. Each core holds its connections
        from the initial ones on: a candidate is created only where they fit with it, and the number of connections
        stays the same, because no more die than can be born.
    redistribution : str, optional
        ``"momentum"`` lets layers exchange connections with an exactly constant total; else the number of each layer is
        constant.
    seed : int
        Seed of the initial masks and of random growth.

    Attributes
    ----------
    unmasked : list of SparseLayer
        Layers that the optimiser does not mask.
    spending : callable or None
        Counts the synaptic operations when an update is due. Set it, and connections are chosen by their value over
        their price, and created only within the operations that are left; where fewer can be born than die, the
        largest that would die stay. Layers that exchange connections (``redistribution``) have the prices alone.

    Raises
    ------
    BadInput
        If a layer or a rule does not exist, a value is out of range, the density leaves no connection, or a rule needs
        momentum that the optimiser does not have.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        density: float | None = None,
        epsilon: float | None = None,
        densities: Mapping[str, float] | None = None,
        topology: Topology | None = None,
        distribution: str = "erdos_renyi",
        layers: LayerNames,
        end: int,
        alpha: float = 0.3,
        schedule: str = "cosine",
        update_every: int = 100,
        prune: str = "magnitude",
        threshold: float = DEFAULT_THRESHOLD,
        growth: Mapping[str, float] | None = None,
        fan_in: FanIn | None = None,
        cores: Plan | None = None,
        redistribution: str | None = None,
        seed: int = 0,
    ) -> None:
        _check_ranges(alpha, update_every)
        self.optimizer = optimizer
        self.alpha = alpha
        self.end = end
        self.update_every = update_every
        self.schedule = SCHEDULES[schedule]
        self.prune_rule = PRUNE_RULES[prune]
        self.threshold = threshold
        self.growth = dict(growth or {"momentum": 1.0})
        self.redistribution = REDISTRIBUTIONS[redistribution] if redistribution else None
        self.seed = seed
        self.iteration = 0
        self.unmasked: list[SparseLayer] = []
        self.masked: list[SparseLayer] = []
        self.caps: dict[str, int] = {}
        self.cores: Cores | None = None
        self.spending: Callable[[], Spending] | None = None
        if cores is not None and redistribution is not None:
            raise BadInput(
                f"sparsity.redistribution: '{redistribution}' moves connections between layers, whose cores are fixed; "
                "omit it, or the budget of the cores"
            )
        self.indexed = indexed_layers(model, layers)
        _check_growth(self.growth, INDEXED_GROWTH_RULES if self.indexed else GROWTH_RULES)
        budget: dict[str, Any] = {"density": density, "epsilon": epsilon}
        budget |= {"densities": densities, "distribution": distribution}
        _check_topology(topology, budget | {"budget.fan_in": fan_in}, sparse=bool(self.indexed))
        if self.indexed:
            self._draw_indexed(budget, fan_in, cores, topology, redistribution)
            return
        if cores is None:
            self.masked = sparse_layers(model, layers, seed=seed, fan_in=fan_in, **budget)
            self.caps = {} if fan_in is None else caps_by_name(fan_in, [layer.name for layer in self.masked])
        else:
            weights = named_weights(model, layers)
            drawn = self._draw_on_cores(
                cores, {name: tuple(each.shape) for name, each in weights.items()}, budget, fan_in
            )
            self.masked = [layer_of_positions(name, weight, drawn[name]) for name, weight in weights.items()]
        if update_every < end and (redistribution == "momentum" or "momentum" in self.growth):
            require_momentum(optimizer, self.masked)
        self.unmasked = keep_sparse(optimizer, self.masked)

    @property
    def layers(self) -> Sequence[Layer]:
        """All layers that are kept sparse."""
        return self.indexed or self.masked

    def _draw_indexed(
        self,
        budget: dict[str, Any],
        fan_in: FanIn | None,
        cores: Plan | None,
        topology: Topology | None,
        redistribution: str | None,
    ) -> None:
        if redistribution is not None:
            raise BadInput(
                f"sparsity.redistribution: '{redistribution}' needs moments of connections that do not exist, which "
                "sparse storage does not have; omit it, or use masked layers"
            )
        shapes = {layer.name: layer.shape() for layer in self.indexed}
        drawn: dict[str, IntArray] = {}
        if topology is None and cores is not None:
            drawn = self._draw_on_cores(cores, shapes, budget, fan_in)
        shares = {} if topology is not None else densities_by_name(shapes, **budget)
        self.caps = fitting_caps(fan_in, shares, shapes)
        for layer in self.indexed:
            rng = stream(self.seed, f"mask {layer.name}")
            if topology is not None:
                layer.module.draw_topology(topology, rng)
            elif layer.name in drawn:
                layer.module.connect_anew(drawn[layer.name], rng)
            else:
                layer.module.draw(shares[layer.name], rng, self.caps.get(layer.name))
            if "random_unfired" in self.growth:
                layer.explored_positions = layer.module.index.positions()
        if topology is not None and cores is not None:
            self.cores = cores({layer.name: layer.connections for layer in self.indexed})
            self.refuse_above_budgets()
        self._record_errors()

    def _draw_on_cores(
        self, plan: Plan, shapes: Mapping[str, tuple[int, ...]], budget: dict[str, Any], fan_in: FanIn | None
    ) -> dict[str, IntArray]:
        shares = densities_by_name(shapes, **budget)
        self.caps = fitting_caps(fan_in, shares, shapes)
        self.cores, drawn = positions_on_cores(plan, shares, shapes, self.caps, self.seed)
        return drawn

    def step(self) -> list[RewiringUpdate]:
        """Call once after every ``optimizer.step()``.

        Returns
        -------
        list of RewiringUpdate
            One entry per layer if this iteration changed the structure, else empty.
        """
        self.iteration += 1
        for layer in self.unmasked:
            layer.apply_mask()
        updates = self._update()
        self._record_errors()
        return updates

    def _update(self) -> list[RewiringUpdate]:
        fraction = self.schedule(self.iteration, self.alpha, self.end)
        if fraction == 0 or self.iteration % self.update_every:
            return []
        spending = None if self.spending is None else self.spending()
        for layer in self.layers:
            layer.birth_price = None if spending is None else spending.price(layer.name)
        if self.redistribution is None:
            # A nearly full layer can only replace as many connections as it has room for.
            quotas = [
                min(math.ceil(fraction * layer.connections), layer.possible - layer.connections)
                for layer in self.layers
            ]
            return [self._exchange(layer, quota, spending) for layer, quota in zip(self.layers, quotas, strict=True)]
        quotas, room = exchange_quotas(self.masked, fraction)
        dead = [self._dying(layer, quota) for layer, quota in zip(self.layers, quotas, strict=True)]
        if self.caps:
            dead = spare(self.masked, self.caps, dead)
            room = most_births(self.masked, self.caps, dead, room)
        births = self.redistribution(self.masked, [places.numel() for places in dead], room, self.optimizer)
        return [self._replace(*change) for change in zip(self.layers, dead, births, strict=True)]

    def _exchange(self, layer: Layer, quota: int, spending: Spending | None) -> RewiringUpdate:
        """Replace connections of a layer where the budgets hold the new ones; no more die than are born."""
        dead = self._dying(layer, quota)
        if self.caps and self.cores is None:
            dead = spare([layer], self.caps, [dead])[0]
        limited = spending is not None and self._may_exceed(layer, dead, spending)
        while True:
            leaving = live_positions(layer, dead)
            layer.room = self._room(layer, dead, leaving)
            if spending is not None and limited:
                layer.room = spending.room(layer.name, leaving, layer.shape(), layer.room)
            born = self._grow(layer, len(dead))
            if len(born) == len(dead):
                break
            if self.cores is not None:
                self.cores.add(layer.name, leaving)
            outputs, inputs = layer.shape()
            blocks = np.zeros(outputs, np.int64) if self.cores is None else self.cores.blocks(layer.name)
            sizes = layer.weight.detach().flatten()[dead].abs().cpu().numpy()
            grown = born.cpu().numpy() // inputs
            stay = spared(blocks[outputs_of(layer, dead)], sizes, blocks, blocks[grown])
            dead = dead[torch.from_numpy(~stay).to(dead.device)]
        if self.cores is not None:
            self.cores.add(layer.name, born.cpu().numpy())
        if spending is not None:
            spending.exchange(layer.name, leaving, born.cpu().numpy())
        return self._apply(layer, dead, born)

    def _room(self, layer: Layer, dead: Tensor, leaving: IntArray) -> Room | None:
        """Return the room of a layer once connections have left the cores, None without cores and caps."""
        if self.cores is not None:
            self.cores.remove(layer.name, leaving)
            return CoreRoom(self.cores, layer.name, self._left(layer, dead), np.empty(0, np.int64))
        return RowRoom(self._left(layer, dead), layer.shape()[1], layer.name) if self.caps else None

    def _may_exceed(self, layer: Layer, dead: Tensor, spending: Spending) -> bool:
        """Return whether births have prices, or the dearest ones would exceed the energy."""
        room = spending.room(layer.name, live_positions(layer, dead), layer.shape(), None)
        return room.price is not None or len(dead) * spending.layers[layer.name].most() > room.left

    def _prices(self, layer: Layer) -> NDArray[np.float64] | None:
        """Return the prices of the connections of a layer, None if all are equal."""
        if self.cores is None and layer.birth_price is None:
            return None
        positions = live_positions(layer)
        prices = np.ones(len(positions)) if self.cores is None else self.cores.prices(layer.name, positions)
        return prices if layer.birth_price is None else prices * layer.birth_price(positions)

    def _left(self, layer: Layer, dead: Tensor) -> IntArray:
        """Return the connections that each output may gain once some have died."""
        outputs, inputs = layer.shape()
        return room_after(layer, self.caps[layer.name], dead) if self.caps else np.full(outputs, inputs)

    def penalty(self) -> float:
        """Return 0: there is no penalty."""
        return 0.0

    def _dying(self, layer: Layer, quota: int) -> Tensor:
        layer.prices = self._prices(layer)
        return self.prune_rule(layer, quota, self.threshold)

    def _record_errors(self) -> None:
        """Let layers keep the signals of the next backward pass if an update that needs gradients follows it."""
        coming = self.iteration + 1
        due = coming % self.update_every == 0 and self.schedule(coming, self.alpha, self.end) > 0
        for layer in self.indexed:
            layer.module.errors = [] if due and not self.growth.keys() <= WITHOUT_ERRORS else None

    def _replace(self, layer: Layer, dead: Tensor, births: int) -> RewiringUpdate:
        layer.room = self._room(layer, dead, live_positions(layer, dead))
        return self._apply(layer, dead, self._grow(layer, births))

    def _grow(self, layer: Layer, births: int) -> Tensor:
        """Return the positions of new connections."""
        rng = stream(self.seed, f"growth {layer.name}", self.iteration)
        if isinstance(layer, IndexedLayer):
            return torch.from_numpy(grow_connections(self.growth, layer, births, rng))
        assert isinstance(layer, SparseLayer)
        return grow(self.growth, layer, ~layer.mask, births, self.optimizer, rng)

    def _apply(self, layer: Layer, dead: Tensor, born: Tensor) -> RewiringUpdate:
        if isinstance(layer, IndexedLayer):
            replace_connections(layer, dead, born.numpy(), self.optimizer)
        else:
            assert isinstance(layer, SparseLayer)
            layer.mask.view(-1)[dead] = False
            layer.mask.view(-1)[born] = True
            layer.ever_active.view(-1)[born] = True
            layer.apply_mask()
            forget_moments(self.optimizer, layer.weight, born)
        return describe_update(layer, self.iteration, born.numel(), dead.numel())

    @property
    def density(self) -> float:
        """Connections of all masked layers as a share of all that are possible there."""
        return overall_density(self.layers)

    def state_dict(self) -> dict[str, Tensor]:
        """Return masks, history and iteration as tensors, for a checkpoint."""
        state = {"iteration": torch.tensor(self.iteration)}
        for each in self.indexed:  # the model's state has the connections
            if each.explored_positions is not None:
                state[f"{each.name}/{EXPLORED}"] = torch.from_numpy(each.explored_positions)
        for layer in self.masked:
            state[f"{layer.name}/mask"] = layer.mask
            state[f"{layer.name}/ever_active"] = layer.ever_active
        return state

    def names_of_any_length(self) -> set[str]:
        """Return the entries of the state whose number of rows changes."""
        return {f"{layer.name}/{EXPLORED}" for layer in self.indexed if layer.explored_positions is not None}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the state of a rewirer with the same layers."""
        self.iteration = int(state["iteration"])
        self._record_errors()
        for each in self.indexed:
            if each.explored_positions is not None:
                each.explored_positions = _positions(state[f"{each.name}/{EXPLORED}"], each)
        for layer in self.masked:
            layer.mask.copy_(state[f"{layer.name}/mask"])
            layer.ever_active.copy_(state[f"{layer.name}/ever_active"])
        self.refuse_above_budgets()

    def refuse_above_budgets(self) -> None:
        """Reject connections from elsewhere that exceed the cap of the fan-in, or what the cores hold.

        Raises
        ------
        BadInput
            With the largest fan-in of every layer above its cap, or what the cores hold.
        """
        refuse_above(self.layers, self.caps)
        if self.cores is not None:
            self.cores.clear()
            for layer in self.layers:
                self.cores.add(layer.name, live_positions(layer))
            self.cores.refuse_above()


def _check_ranges(alpha: float, update_every: int) -> None:
    if not 0 <= alpha <= 1:
        raise BadInput(f"sparsity.alpha: {alpha} is out of range; allowed: 0 to 1")
    if update_every < 1:
        raise BadInput(f"sparsity.update_every: {update_every} is out of range; allowed: 1 and above")


def _check_topology(topology: Topology | None, budget: Mapping[str, Any], *, sparse: bool) -> None:
    if topology is None:
        return
    given = [name for name in ("density", "epsilon", "densities", "budget.fan_in") if budget[name] is not None]
    given += ["distribution"] if budget["distribution"] != "erdos_renyi" else []
    if given:
        raise BadInput(f"sparsity.per_neuron: mutually exclusive with {', '.join(given)}; give one of them")
    if not sparse:
        raise BadInput("sparsity.per_neuron: needs sparsity.storage = 'sparse'; masked layers take a density")


def _check_growth(growth: Mapping[str, float], rules: Registry[Any]) -> None:
    """Check growth rules by name, and their shares."""
    for name, share in growth.items():
        if rules is INDEXED_GROWTH_RULES and name == "momentum":
            raise BadInput(
                "sparsity.growth: 'momentum' needs moments of connections that do not exist, which sparse storage does "
                f"not have; use one of: {', '.join(rules.names())}"
            )
        rules[name]
        if not 0 < share < math.inf:
            raise BadInput(f"sparsity.growth.{name}: share {share} is out of range; allowed: above 0")


def _positions(explored: Tensor, layer: IndexedLayer) -> Positions:
    """Check the explored positions of a checkpoint, whose number changes.

    Raises
    ------
    ValueError
        If they are not sorted positions of the layer.
    """
    positions = explored.numpy().astype(np.int64)
    if (
        explored.dtype != torch.int64
        or positions.ndim != 1
        or (np.diff(positions) <= 0).any()
        or (positions.size and not 0 <= positions[0] <= positions[-1] < layer.possible)
    ):
        raise ValueError(f"{layer.name}/{EXPLORED} are not sorted positions of {layer.possible}")
    return positions
