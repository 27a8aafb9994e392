"""Convert networks with neurons of snnTorch, SpikingJelly, Norse or sinabs by the exporter of their own framework.

The exporters do not write every number: each leaves out a scale, a reset or a whole layer, depending on its version. So
what is known to be left out is filled in, and then the module and the graph run side by side on random spikes. A graph
that does not fire as its module does is refused.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.reading import discretise
from esl_neuro.nirgraph.reset_notes import KEY
from esl_neuro.nirgraph.simulation import simulate
from esl_neuro.resets import SUBTRACT, SUBTRACT_NEXT_STEP, ZERO, Reset
from esl_neuro.snn.neurons import LIF

STEPS, SAMPLES = 24, 4  # of the comparison
DRIVES = ((0.3, 1), (0.7, 1), (0.7, 5), (0.5, 30), (0.5, 200))  # rate and size of the spikes, until the module answers
TOLERANCE = 1e-6  # of outputs that are potentials
TAUS = ("tau", "tau_mem", "tau_syn")

Signal = NDArray[np.float64]


@dataclass(frozen=True)
class Framework:
    """How networks of a framework are exported and run.

    Attributes
    ----------
    name : str
    export : callable
        ``(network, sample of one step and one sample, dt_s) -> graph``.
    run : callable
        ``(network, inputs of shape (steps, samples, ...)) -> outputs of the same layout``.
    lost : callable
        ``(module) -> reason or None``: what its exporter does not carry of a neuron.
    reset : callable
        ``(module) -> reset or None``: what a spike of a neuron does to its potential, which no exporter writes.
    """

    name: str
    export: Callable[[nn.Module, Tensor, float], nir.NIRGraph]
    run: Callable[[nn.Module, Tensor], Tensor]
    lost: Callable[[Any], str | None]
    reset: Callable[[Any], Reset | None] = lambda _: ZERO


def framework_of(network: nn.Module) -> Framework | None:
    """Return the framework whose modules a network contains, None if there is none.

    Raises
    ------
    BadInput
        If it contains modules of several frameworks, or neurons of this package as well.
    """
    packages = {type(module).__module__.split(".")[0]: name for name, module in network.named_modules()}
    found = [package for package in FRAMEWORKS if package in packages]
    own = [name for name, module in network.named_modules() if isinstance(module, LIF)]
    if not found:
        return None
    if len(found) > 1 or own:
        others = ", ".join(FRAMEWORKS[package].name for package in found) + (" and esl_neuro" if own else "")
        raise BadInput(f"the network mixes modules of {others}; no exporter knows both, so use one of them")
    return FRAMEWORKS[found[0]]


def export_foreign(
    network: nn.Module, framework: Framework, shape: tuple[int, ...], steps: int, dt_s: float
) -> nir.NIRGraph:
    """Export a network by its framework, and check that the graph fires as the network does.

    Parameters
    ----------
    network : nn.Module
        The network; it is copied and not changed.
    framework : Framework
        From :func:`framework_of`.
    shape : tuple of int
        Shape of an input sample at one step.
    steps : int
        Time steps per sample, stored in the metadata.
    dt_s : float
        Time step in seconds, stored in the metadata; decays per step are kept.

    Raises
    ------
    BadInput
        If the exporter fails, leaves out a layer or a property of a neuron, or the graph fires differently.
    """
    module = copy.deepcopy(network).eval().cpu()
    lost = [
        f"'{name}' ({type(each).__name__}): {reason}"
        for name, each in module.named_modules()
        if (reason := framework.lost(each)) is not None
    ]
    if lost:
        raise BadInput(f"the exporter of {framework.name} does not carry all of the network: " + "; ".join(lost))
    try:
        with torch.no_grad():
            written = framework.export(copy.deepcopy(module), torch.zeros(1, *shape), dt_s)
    except Exception as error:  # the exporters raise whatever their converters raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(f"the exporter of {framework.name} refuses the network: {reason}") from error
    dropped = [f"'{name}' ({_kind(module, name)})" for name, node in written.nodes.items() if node is None]
    if dropped:
        raise BadInput(f"the exporter of {framework.name} leaves out {', '.join(dropped)}; replace them, or fold them")
    graph = _normalised(written, shape, {"dt_s": dt_s, "steps": steps, **_reset_note(module, framework)})
    return _checked(module, graph, framework, shape)


def _reset_note(module: nn.Module, framework: Framework) -> dict[str, str]:
    """Return the note on the reset that the graph needs; a reset to zero, which is what NIR has, needs none."""
    resets = {reset for each in module.modules() if (reset := framework.reset(each)) is not None}
    if len(resets) > 1:
        found = ", ".join(sorted(resets))
        raise BadInput(f"the neurons have different resets ({found}); the graph of an exporter notes one for all")
    (reset,) = resets or {ZERO}
    return {} if reset == ZERO else {KEY: reset}


def _kind(module: nn.Module, name: str) -> str:
    return next((type(each).__name__ for path, each in module.named_modules() if path == name), "a layer")


# The graph of an exporter.


def _normalised(graph: nir.NIRGraph, shape: tuple[int, ...], metadata: dict[str, Any]) -> nir.NIRGraph:
    """Replace tensors by arrays, and the declared input by the known shape; outputs follow from the graph."""
    nodes = {}
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            nodes[name] = _normalised(node, (), {})
            continue
        nodes[name] = written = copy.copy(node)
        for field, value in vars(node).items():
            if isinstance(value, Tensor):
                setattr(written, field, value.detach().cpu().double().numpy())
        if isinstance(node, nir.Input) and shape:
            nodes[name] = nir.Input({"input": np.array(shape)})
    result = nir.NIRGraph(nodes, list(graph.edges), metadata, type_check=False)
    if shape:
        discrete = discretise(result)  # raises all findings
        output = discrete.structure.output
        source = discrete.structure.before(output)[0]
        nodes[output] = nir.Output({"output": np.array(discrete.shapes[source])})
    return result


def _rescaled(graph: nir.NIRGraph, factor: float) -> nir.NIRGraph:
    """Multiply all time constants, to keep the decays per step with another time step."""
    for node in graph.nodes.values():
        if isinstance(node, nir.NIRGraph):
            _rescaled(node, factor)
        for name in TAUS:
            if hasattr(node, name):
                setattr(node, name, getattr(node, name) * factor)
    return graph


# The comparison.


def _checked(module: nn.Module, graph: nir.NIRGraph, framework: Framework, shape: tuple[int, ...]) -> nir.NIRGraph:
    inputs, expected = _answer(module, framework, shape)
    found = simulate(graph, inputs.numpy().swapaxes(0, 1)).outputs.swapaxes(0, 1)
    expected = expected.reshape(*expected.shape[:2], -1)
    found = found.reshape(*found.shape[:2], -1)
    if found.shape != expected.shape:
        raise BadInput(
            f"the graph of the exporter of {framework.name} has outputs of shape {found.shape[2:]}, the network of "
            f"shape {expected.shape[2:]}"
        )
    latest = sum(1 for node in discretise(graph).neurons)
    differing = {
        late: int((np.abs(expected[late:] - found[: len(found) - late]) > TOLERANCE).sum())
        + int((np.abs(expected[:late]) > TOLERANCE).sum())
        for late in range(latest + 1)
    }
    late = min(differing, key=lambda steps: (differing[steps], steps))
    if differing[late]:
        raise BadInput(
            f"the graph that the exporter of {framework.name} writes does not fire as the network does: "
            f"{differing[late]} of {expected.size} outputs differ on random spikes; export it yourself, and state what "
            "the neurons do"
        )
    if late:
        graph.metadata = {**graph.metadata, "latency_steps": late}
    return graph


def _answer(module: nn.Module, framework: Framework, shape: tuple[int, ...]) -> tuple[Tensor, Signal]:
    """Return random spikes that a network answers, scaled up if it answers none, and its outputs."""
    generator = torch.Generator().manual_seed(0)
    for rate, scale in DRIVES:
        inputs = scale * (torch.rand((STEPS, SAMPLES, *shape), generator=generator) < rate).double()
        outputs = _run(module, framework, inputs)
        if np.any(outputs):
            return inputs, outputs
    raise BadInput(
        "the network is silent on random input, so its exported graph cannot be compared with it; train it, or lower "
        "its thresholds"
    )


def _run(module: nn.Module, framework: Framework, inputs: Tensor) -> Signal:
    """Run a copy in double precision, or in single precision if a layer makes single-precision states."""
    problem: Exception | None = None
    for kind in (torch.float64, torch.float32):
        copied = copy.deepcopy(module).to(kind)
        try:
            with torch.no_grad():
                outputs: Signal = framework.run(copied, inputs.to(kind)).double().numpy()
            return outputs
        except Exception as error:  # a forward of the user's own raises anything
            problem = error
    reason = " ".join(str(problem).split()) or type(problem).__name__
    raise BadInput(
        f"the network cannot be run to compare it with its exported graph ({reason}); its forward must take what "
        f"{framework.name} passes to a layer at one step, and its neurons must keep their own state"
    ) from problem


# Each framework.


def _first(output: Any) -> Tensor:
    signal: Tensor = output[0] if isinstance(output, tuple | list) else output
    return signal


def _export_snntorch(network: nn.Module, sample: Tensor, dt_s: float) -> nir.NIRGraph:
    shapes: dict[nn.Module, Any] = {}
    neurons = [module for module in network.modules() if _is_snntorch_neuron(module)]
    hooks = [
        module.register_forward_hook(lambda own, given, _: shapes.update({own: given[0].shape[1:]}))
        for module in neurons
    ]
    _run_snntorch(network, sample[None])
    for hook in hooks:
        hook.remove()
    for module in shapes:  # the exporter writes scalars, which its own check of types rejects
        for name in ("alpha", "beta", "threshold"):
            value = getattr(module, name, None)
            if isinstance(value, Tensor) and value.numel() == 1:
                delattr(module, name)
                module.register_buffer(name, value.detach().reshape(()) * torch.ones(shapes[module]))
    graph = importlib.import_module("snntorch.export_nir").export_to_nir(network, sample, ignore_dims=[0])
    return _rescaled(graph, dt_s / 1e-4)  # the exporter assumes this time step


def _run_snntorch(network: nn.Module, inputs: Tensor) -> Tensor:
    importlib.import_module("snntorch.utils").reset(network)
    return torch.stack([_first(network(step)) for step in inputs])


def _is_snntorch_neuron(module: Any) -> bool:
    return hasattr(module, "reset_mechanism") and hasattr(module, "threshold")


def _lost_snntorch(module: Any) -> str | None:
    if not _is_snntorch_neuron(module):
        return None
    mechanism = module.reset_mechanism
    if mechanism not in ("zero", "subtract"):
        return f"resets with '{mechanism}', which has no NIR form; use reset_mechanism='subtract' or 'zero'"
    if mechanism == "zero" and getattr(module, "reset_delay", False):
        return "resets to zero one step after its spike; use reset_delay=False, as NIR and the importer of snnTorch do"
    for name in ("inhibition", "state_quant"):
        if getattr(module, name, False):
            return f"{name} has no NIR form"
    if float(torch.as_tensor(getattr(module, "graded_spikes_factor", 1.0)).max()) != 1:
        return "graded_spikes_factor is not 1; multiply the next weights by it"
    return None


def _reset_of_snntorch(module: Any) -> Reset | None:
    if not _is_snntorch_neuron(module):
        return None
    if module.reset_mechanism == "zero":
        return ZERO
    return SUBTRACT_NEXT_STEP if getattr(module, "reset_delay", False) else SUBTRACT


def _export_spikingjelly(network: nn.Module, sample: Tensor, dt_s: float) -> nir.NIRGraph:
    importlib.import_module("spikingjelly.activation_based.functional").set_step_mode(network, "s")
    exporter = importlib.import_module("spikingjelly.activation_based.nir_exchange")
    graph: nir.NIRGraph = exporter.export_to_nir(network, sample, dt=dt_s)
    return graph


def _run_spikingjelly(network: nn.Module, inputs: Tensor) -> Tensor:
    functional = importlib.import_module("spikingjelly.activation_based.functional")
    functional.set_step_mode(network, "s")
    functional.reset_net(network)
    return torch.stack([network(step) for step in inputs])


def _export_norse(network: nn.Module, sample: Tensor, dt_s: float) -> nir.NIRGraph:
    steps = {float(getattr(module, "dt", 1e-3)) for module in network.modules()}
    if len(steps) > 1:
        raise ValueError(f"its neurons have the time steps {sorted(steps)}; NIR has one")
    (own,) = steps
    # With a time step of 1, the exporter writes time constants in seconds.
    graph = importlib.import_module("norse.torch").to_nir(network, sample, dt=1.0)
    graph = _rescaled(graph, dt_s / own)
    for node in graph.nodes.values():  # it leaves out the gains of a step
        if isinstance(node, nir.CubaLIF):
            node.w_in = node.tau_syn / dt_s + 0 * node.v_threshold
        elif isinstance(node, nir.IF):
            node.r = node.r / dt_s
    return graph


def _run_norse(network: nn.Module, inputs: Tensor) -> Tensor:
    stateful = importlib.import_module("norse.torch").SequentialState
    outputs, state = [], None
    for step in inputs:
        output = network(step, state) if isinstance(network, stateful) or state is not None else network(step)
        if isinstance(output, tuple):
            output, state = output
        outputs.append(output)
    return torch.stack(outputs)


def _lost_norse(module: Any) -> str | None:
    parameters = getattr(module, "p", None)
    reset = getattr(parameters, "v_reset", None)
    if reset is not None and bool(torch.as_tensor(reset).ne(0).any()):
        return "its exporter does not write v_reset; use v_reset = 0"
    return None


def _export_sinabs(network: nn.Module, sample: Tensor, dt_s: float) -> nir.NIRGraph:
    layers = importlib.import_module("sinabs.layers")
    spread = sample[:, None] if not _squeezed(network, layers) else sample
    with torch.no_grad():
        network(spread)  # states have no shape before
    graph = importlib.import_module("sinabs.nir").to_nir(network, spread)
    modules = {str(name).replace(".", "_"): module for name, module in network.named_modules()}
    for name, node in graph.nodes.items():
        module = modules.get(str(name).replace(".", "_"))
        if isinstance(node, nir.IF):
            node.r = node.r / dt_s
        elif isinstance(node, nir.LIF | nir.LI):
            # Time constants are in steps and decays are exponential: give those whose Euler decay is the same.
            lost = 1 - torch.exp(-1 / node.tau)
            node.tau = dt_s / lost
            node.r = torch.ones_like(lost) if getattr(module, "norm_input", True) else 1 / lost
    return graph


def _squeezed(network: nn.Module, layers: Any) -> bool:
    return any(isinstance(module, layers.SqueezeMixin) for module in network.modules())


def _run_sinabs(network: nn.Module, inputs: Tensor) -> Tensor:
    layers = importlib.import_module("sinabs.layers")
    if not _squeezed(network, layers):
        importlib.import_module("sinabs").reset_states(network)
        return torch.as_tensor(network(inputs.transpose(0, 1))).transpose(0, 1)
    samples = []
    for sample in inputs.unbind(1):
        for module in network.modules():
            if isinstance(module, layers.SqueezeMixin):
                module.batch_size, module.num_timesteps = 1, -1
        importlib.import_module("sinabs").reset_states(network)
        samples.append(network(sample))
    return torch.stack(samples, 1)


def _lost_sinabs(module: Any) -> str | None:
    reset = getattr(module, "reset_fn", None)
    if reset is not None and type(reset).__name__ not in ("MembraneReset", "MembraneSubtract"):
        return f"resets with {type(reset).__name__}, which has no NIR form; use MembraneSubtract() or MembraneReset()"
    subtracted = getattr(reset, "subtract_value", None)
    if subtracted is not None:
        return f"subtracts {subtracted:g} instead of its threshold; use MembraneSubtract()"
    if getattr(module, "min_v_mem", None) is not None:
        return "min_v_mem has no NIR form; use None"
    if type(getattr(module, "spike_fn", None)).__name__ == "MultiSpike" or (
        getattr(getattr(module, "spike_fn", None), "__name__", "SingleSpike") != "SingleSpike"
    ):
        return "fires several spikes a step; use spike_fn=SingleSpike"
    if getattr(module, "tau_syn", None) is not None:
        return "its exporter does not write tau_syn; use tau_syn=None"
    return None


def _reset_of_sinabs(module: Any) -> Reset | None:
    reset = getattr(module, "reset_fn", None)
    if reset is None:
        return None
    return SUBTRACT if type(reset).__name__ == "MembraneSubtract" else ZERO


def _reset_of_spikingjelly(module: Any) -> Reset | None:
    if not hasattr(module, "v_threshold") or not hasattr(module, "v_reset"):
        return None
    return SUBTRACT if module.v_reset is None else ZERO


FRAMEWORKS = {
    "snntorch": Framework("snnTorch", _export_snntorch, _run_snntorch, _lost_snntorch, _reset_of_snntorch),
    "spikingjelly": Framework(
        "SpikingJelly", _export_spikingjelly, _run_spikingjelly, lambda _: None, _reset_of_spikingjelly
    ),
    "norse": Framework("Norse", _export_norse, _run_norse, _lost_norse),
    "sinabs": Framework("sinabs", _export_sinabs, _run_sinabs, _lost_sinabs, _reset_of_sinabs),
}
"""By the name of the package."""
