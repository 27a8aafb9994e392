"""Convert a torch network to a NIR graph, in the subset on which independent readers agree.

NIR declares differential equations and leaves the time step to the reader. Parameters are chosen so that forward Euler
with the time step in the metadata reproduces the discrete network exactly.
"""

from __future__ import annotations

import math
from typing import Any

import nir
from torch import nn

from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.interchange.foreign import export_foreign, framework_of
from esl_neuro.interchange.plan import Floats, Plan, settle
from esl_neuro.interchange.single_spikes import temporal_plan
from esl_neuro.interchange.ties import raise_thresholds
from esl_neuro.interchange.tracing import trace
from esl_neuro.interchange.writing import KNOWN, PASSED_ON, Thresholds, Writer
from esl_neuro.nirgraph.reset_notes import KEY
from esl_neuro.nirgraph.sparse_nodes import SparseAffine
from esl_neuro.resets import ZERO
from esl_neuro.snn.integer_network import QuantisedNetwork
from esl_neuro.snn.layers import DelaySlots, Flatten
from esl_neuro.snn.neurons import LIAF
from esl_neuro.snn.temporal import TemporalNetwork
from esl_neuro.sparsity.sparse_linear import SparseLinear
from esl_neuro.version import __version__

DT_S = 1e-4  # the default of snnTorch, SpikingJelly and the Lava example


def to_nir(
    network: nn.Module,
    steps: int,
    dt_s: float = DT_S,
    *,
    shape: tuple[int, ...] | None = None,
    thresholds: Thresholds = "native",
    tie_safe: bool = False,
) -> nir.NIRGraph:
    """Convert a network to a NIR graph.

    ``tau dv/dt = -v + r I`` with ``tau = dt / (1 - tau_paper)``, ``r = 1`` and the weights divided by ``dt / tau`` is,
    in forward Euler, ``v[t] = tau_paper v[t-1] + W s[t]``. A network without leak (``tau_paper = 1``) becomes
    integrate-and-fire nodes with ``r = 1 / dt``; neurons with synapses become ``CubaLIF`` nodes with ``r = tau_mem /
    dt`` and ``w_in = tau_syn / dt``, which is Loihi's neuron. Connections have an explicit bias and neuron parameters
    are arrays, because some readers drop ``Linear`` nodes or reject scalars.

    Batch norm is folded into the preceding connection. An average pool becomes a sum pool, whose ``1/k^2`` is folded
    into the following weights. Without adjacent weights, as on the identity path of a residual block, a diagonal
    connection has the factor. Groups of a convolution are expanded with zeros (NIR's type check rejects groups).
    A layer with sparse storage is a matrix, with a note of its connections in the metadata of the node; if the matrix
    would take more than 256 MB, it is a :class:`~esl_neuro.nirgraph.sparse_nodes.SparseAffine`, which other readers do
    not know.
    Dropout is omitted, and so is a flatten after the input, because the input lines already have that order. An output
    that does not fire ends in ``readout``, an ``I`` node that sums it over the steps without leak. The metadata of a
    node note a reset by subtraction, as ``reset``; other readers ignore it.

    Parameters
    ----------
    network : nn.Module
        The trained network, exported in evaluation mode. A custom network may use the layers of :mod:`esl_neuro.snn`
        and sums of their signals. A network with neurons of snnTorch, SpikingJelly, Norse or sinabs is written by the
        exporter of that framework, completed, and compared with the graph (:mod:`~esl_neuro.interchange.foreign`). A
        quantised network is written with its rounded numbers, from which the compiler
        makes the same integers as in training.
    steps : int
        Time steps per sample, stored in the metadata.
    dt_s : float
        Time step in seconds, stored in the metadata.
    shape : tuple of int, optional
        Shape of an input sample at one step, required if the network does not begin with a linear layer.
    thresholds : {"native", "folded"}
        ``folded`` divides the weights and the bias of each neuron by its threshold, which becomes one, for readers that
        support only one threshold per layer. The metadata has the original thresholds.
    tie_safe : bool
        Raise each threshold to half a step above the potentials that the layer's weights can reach below it, so that
        readers which fire at ``v >= v_threshold`` agree with those that fire at ``v > v_threshold``. Needs weights
        on a grid.

    Returns
    -------
    nir.NIRGraph
        Nodes are named after the layers, with ``_`` for ``.``, between ``input`` and ``output``.

    Raises
    ------
    BadInput
        If a part of the network has no NIR form; the message lists all findings.

    See Also
    --------
    esl_neuro.interchange.single_spikes : how a ``TemporalNetwork`` is discretised.
    """
    if isinstance(network, QuantisedNetwork):
        network = network.on_grid()
    if thresholds not in ("native", "folded"):
        raise BadInput(f"thresholds '{thresholds}' is unknown; {did_you_mean(thresholds, ('native', 'folded'))}")
    if steps < 1 or not 0 < dt_s < math.inf:
        raise BadInput(f"steps is {steps} and dt_s is {dt_s}; both must be positive")
    framework = framework_of(network)
    if framework is not None:
        if thresholds != "native" or tie_safe:
            raise BadInput(f"thresholds and tie_safe do not apply: the exporter of {framework.name} writes the graph")
        return export_foreign(network, framework, shape or _first_inputs(network), steps, dt_s)
    _refuse_analog(network)
    if isinstance(network, TemporalNetwork):
        plan = temporal_plan(network, dt_s)
        original: dict[str, Floats] = {}
    else:
        writer = Writer(dt_s, thresholds)
        writer.write(trace(network, shape or _first_inputs(network), KNOWN))
        plan, original = writer.plan, writer.original_thresholds
    _refuse_findings(plan)  # what has no form may have left shapes that do not fit
    settle(plan)
    subtracting = [name for name, node in plan.nodes.items() if node.metadata.get(KEY, ZERO) != ZERO]
    without_matrix = [name for name, node in plan.nodes.items() if isinstance(node, SparseAffine)]
    if tie_safe and without_matrix:
        plan.findings.append(
            f"tie_safe needs the matrices of {', '.join(map(repr, without_matrix))}, which are too large; omit tie_safe"
        )
    elif tie_safe and subtracting:
        plan.findings.append(
            f"tie_safe raises thresholds, which changes what spikes of {', '.join(map(repr, subtracting))} subtract; "
            "use a reset to zero, or omit tie_safe"
        )
    elif tie_safe:
        raise_thresholds(plan, steps, dt_s)
    _refuse_findings(plan)
    metadata: dict[str, Any] = {
        "generator": f"esl-neuro {__version__}",
        "dt_s": dt_s,
        "steps": steps,
        "thresholds": thresholds,
    }
    if isinstance(network, TemporalNetwork):
        metadata["single_spikes"] = True
    if original:
        metadata["original_thresholds"] = original
    if tie_safe:
        metadata["tie_safe"] = True
    return nir.NIRGraph(nodes=plan.nodes, edges=list(plan.edges), metadata=metadata)


def _refuse_findings(plan: Plan) -> None:
    if plan.findings:
        raise BadInput(f"the network has no NIR form: {'; '.join(plan.findings)}")


def _refuse_analog(network: nn.Module) -> None:
    """Refuse neurons with analog outputs."""
    analog = [f"'{name}'" for name, layer in network.named_modules() if isinstance(layer, LIAF)]
    if analog:
        raise BadInput(
            f"the network has no NIR form: the outputs of {', '.join(analog)} (LIAF) are analog, and neither NIR nor "
            "Lava has such a neuron; train the same recipe with network.neuron = 'lif', without activation"
        )


def _first_inputs(network: nn.Module) -> tuple[int, ...]:
    """Return the shape of the input of a network that begins with a linear layer."""
    slots = 1
    for layer in network.modules():
        if isinstance(layer, nn.Linear | SparseLinear):
            return (layer.in_features // slots,)
        if isinstance(layer, DelaySlots):
            slots = layer.slots
        elif next(layer.children(), None) is None and not isinstance(layer, (*PASSED_ON, Flatten, nn.Flatten)):
            break
    raise BadInput(
        "the network does not begin with a linear layer; give the shape of an input sample: shape=(2, 48, 48)"
    )
