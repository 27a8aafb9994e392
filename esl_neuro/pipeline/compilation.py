"""Compile a trained run, a NIR graph or file, or a torch module for a chip."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import nir
import numpy as np

from esl_neuro.compiler.check import Checked, check_graph
from esl_neuro.compiler.compile import compile_network, input_payload
from esl_neuro.compiler.core_plan import KEY as CORE_PLAN
from esl_neuro.compiler.core_plan import CorePlan
from esl_neuro.compiler.fidelity import weigh
from esl_neuro.compiler.frontend import analyse
from esl_neuro.compiler.losses import LOSSES
from esl_neuro.compiler.network import FloatNetwork
from esl_neuro.compiler.quantise import Scaling, per_payload, scale_and_exponents
from esl_neuro.compiler.weight_bits import as_scalings
from esl_neuro.data.encodings import ENCODINGS
from esl_neuro.errors import BadInput
from esl_neuro.hardware import Arithmetic, HardwareTarget, arithmetic_of, as_target
from esl_neuro.hardware.rounding import InputFormat
from esl_neuro.hardware.weight_bits import Bits, bits_of_layers
from esl_neuro.nirgraph.files import read_nir
from esl_neuro.nirgraph.findings import WARNING, Finding, refuse_too_large, refuse_unsupported
from esl_neuro.nirgraph.reading import input_shapes
from esl_neuro.nirgraph.reset_notes import with_reset
from esl_neuro.nirgraph.time_step import metadata_steps, time_step
from esl_neuro.pipeline.choices import CHIP
from esl_neuro.pipeline.compiled_network import CompiledNetwork
from esl_neuro.pipeline.decisions import SAMPLES as MOST_SAMPLES
from esl_neuro.pipeline.decisions import Decision, choose_bits, choose_time_step
from esl_neuro.pipeline.decisions import calibrate as calibrate_scales
from esl_neuro.pipeline.export_folder import DOCUMENT
from esl_neuro.pipeline.fidelity import SAMPLES as COMPARED_SAMPLES
from esl_neuro.pipeline.fidelity import compare, refuse_losses
from esl_neuro.pipeline.inputs import (
    GRADED_BITS,
    ONE_SAMPLE,
    Given,
    InputShape,
    Layout,
    Samples,
    arrange,
    graded_scale,
    spread,
)
from esl_neuro.pipeline.sample_files import read_sample_file
from esl_neuro.pipeline.training import TrainingRun, load_run
from esl_neuro.reading.documents import read_json_object
from esl_neuro.recipes.sections import DataSection
from esl_neuro.storage import scratch_folder
from esl_neuro.training.run_folder import RunFolder

if TYPE_CHECKING:
    from torch import nn

    from esl_neuro.interchange.writing import Thresholds
    from esl_neuro.snn.integer_network import QuantisedNetwork

Network: TypeAlias = "TrainingRun | nir.NIRGraph | nn.Module | str | Path"
Target: TypeAlias = "HardwareTarget | str | Path"

READ_BY_FIRST_SPIKE = "first_spike"
SINGLE_PRECISION = 2**-22  # of a scale: the numbers of a graph are written in single precision

# Computes the scales of some layers from the layers with fewer bits than the chip's, the network, the arithmetic of the
# chip, the steps and the payload, and says how they were chosen.
Chosen = tuple[Mapping[str, Scaling], tuple[Decision, ...]]
Scales = Callable[[Mapping[str, Scaling], FloatNetwork, Arithmetic, int, InputFormat], Chosen]


@dataclass(frozen=True)
class _Source:
    """Everything that the integers depend on, whatever kind of network was given.

    ``written`` is the graph to write to a file, ``graph`` the graph that a reader of that file gets, ``samples`` the
    data on which integers and floats are compared.
    """

    name: str
    written: nir.NIRGraph
    graph: nir.NIRGraph
    steps: int
    payload: InputFormat
    scales: Scales
    data: DataSection | None = None
    input_steps: tuple[int, ...] | None = None
    findings: tuple[Finding, ...] = field(default=())
    samples: Samples | None = field(default=None)
    weight_bits: int | Bits | None = None
    stored_bits: int | None = None
    searched: Samples | None = field(default=None)


def compile(
    network: Network,
    target: Target = CHIP,
    *,
    steps: int | None = None,
    dt_s: float | None = None,
    inputs: Given | None = None,
    layout: Layout | None = None,
    input_bits: int | None = None,
    input_scale: float | None = None,
    thresholds: Thresholds = "native",
    tie_safe: bool = False,
    calibrate: int | Given | None = None,
    any_size: bool = False,
    weight_bits: int | Bits | None = None,
    stored_bits: int | None = None,
    reset: str | None = None,
    accept_loss: bool = False,
) -> CompiledNetwork:
    """Compile a network for a chip, and compare the integers with the float network.

    They are compared on validation samples of a run, on ``inputs``, or on drawn input.

    A run determines its steps, its time step, the kind and the bits of its input, its readout and its learned scales.
    For any other network these come from the arguments or from the metadata of the graph.

    Parameters
    ----------
    network : TrainingRun, nir.NIRGraph, torch.nn.Module or path
        A run or its folder; a NIR graph or its ``.nir`` file; a module that consists of layers of ``esl_neuro.snn``.
    target : str, Path or HardwareTarget
        The chip: a name, the path of a TOML file, or the target itself.
    steps : int, optional
        Time steps per sample. Default: those of ``inputs``, else those of the graph's metadata.
    dt_s : float, optional
        Time step in seconds. Default: that of the graph's metadata; 1e-4 for a run or a module; for a single-spike run
        the one that :func:`~esl_neuro.pipeline.decisions.choose_time_step` chooses on validation samples.
    inputs : Samples, array of shape (samples, steps, ...), arrays by name of the input, or path of a file, optional
        Examples of the network's inputs, see :func:`~esl_neuro.pipeline.inputs.arrange`. If they contain values other
        than 0 and 1, the input becomes graded; a finding reports it.
    layout : {"samples,steps,...", "steps,samples,...", "steps,..."}, optional
        Order of the first axes of ``inputs``; required if the network does not determine its steps.
    input_bits : int, optional
        1 for spikes, else the bits of the payload of graded values. Default: what ``inputs`` need, else 1.
    input_scale : float, optional
        Payload per unit of graded input. Default: the largest value of ``inputs``, but at least 1, maps to the largest
        payload.
    thresholds : {"native", "folded"}
        Thresholds unchanged, or folded into the weights, for NIR readers that support one per layer.
    tie_safe : bool
        Keep thresholds off the grid of weights, so that ``>`` and ``>=`` agree.
    calibrate : int, or data in any form of ``inputs``, optional
        Samples on which the scale of each layer is searched, or their number: training samples of a run, or the first
        of ``inputs``. The result is kept only if it is better, on validation samples of the run or on the same samples.
    weight_bits : int or mapping of str to int, optional
        Bits of the weights of all layers, or of some; the memory of the synapses follows them. Default: the chip's.
    stored_bits : int, optional
        Limit of the memory of all synapses: the bits of each layer are chosen by the error of the output per stored
        bit, on training samples of a run or on ``inputs``.
    any_size : bool
        Compile for the simulators even if the network does not fit on one chip; findings report what does not fit.
    reset : {"zero", "subtract", "subtract_next_step"}, optional
        Reset of all neurons of a graph whose metadata do not note it; see :mod:`esl_neuro.resets`. Default: zero, with
        a finding if the graph looks like that of a program whose neurons subtract.
    accept_loss : bool
        Compile even if the integers are far from the float network; findings report how far.

    Returns
    -------
    CompiledNetwork

    Raises
    ------
    BadInput
        If a part of the network has no integer form, or an argument is missing or contradicts the network; the message
        lists all findings.
    LimitExceeded
        If the network does not fit on the chip.
    CheckFailed
        If the integers are too far from the float network.
    """
    chip = as_target(target)
    options = _Options(
        steps,
        dt_s,
        inputs,
        layout,
        input_bits,
        input_scale,
        thresholds,
        tie_safe,
        calibrate,
        reset,
        weight_bits,
        stored_bits,
    )
    opened = _open(network)
    decisions: tuple[Decision, ...] = ()
    if isinstance(opened, TrainingRun) and opened.recipe.network.neuron == "single_spike" and dt_s is None:
        chosen, decision = choose_time_step(
            lambda each: _compile(_source(opened, replace(options, dt_s=each)), chip)[1],
            opened.validation_set(MOST_SAMPLES),
            opened.validation_accuracy(MOST_SAMPLES),
        )
        options, decisions = replace(options, dt_s=chosen), (decision,)
    source = _source(opened, options)
    floats, compiled = _compile(source, chip)
    if not any_size:
        refuse_too_large([finding for finding in compiled.findings if finding.kind not in LOSSES])
    fidelity, differences = compare(floats, compiled.program, source.samples, source.input_steps)
    findings = (*weigh(compiled.findings, fidelity, compiled.program.output.name), *differences)
    if not accept_loss:
        refuse_losses(findings, source.name)
    return replace(
        compiled,
        findings=findings,
        fidelity=fidelity,
        decisions=(*decisions, *compiled.decisions),
        class_names=opened.dataset.class_names if isinstance(opened, TrainingRun) else (),
    )


def _compile(source: _Source, chip: HardwareTarget) -> tuple[FloatNetwork, CompiledNetwork]:
    """Translate a source to integers, whatever it loses and whether or not it fits."""
    floats, findings = analyse(source.graph, None)
    refuse_unsupported(findings)
    assert floats is not None  # analyse returns a network unless it found an error
    narrowed, chosen = _narrowed(source, floats, chip)
    scalings, decisions = source.scales(narrowed, floats, arithmetic_of(chip), source.steps, source.payload)
    compilation = compile_network(floats, chip, source.steps, source.payload, scalings)
    program = compilation.program
    if floats.single_spikes:
        program = replace(program, readout=READ_BY_FIRST_SPIKE)
    return floats, CompiledNetwork(
        name=source.name,
        source=source.written,
        program=program,
        quantisation=compilation.errors,
        findings=(*findings, *source.findings, *compilation.findings),
        decisions=(*chosen, *decisions),
        hardware=chip,
        scalings=scalings,
        data=source.data,
        input_steps=source.input_steps,
    )


def _narrowed(source: _Source, floats: FloatNetwork, chip: HardwareTarget) -> Chosen:
    """Return the layers with fewer bits than the chip's, as given or chosen under a limit of memory."""
    layers, arithmetic = [group.name for group in floats.groups], arithmetic_of(chip)
    bits, decisions = source.weight_bits, tuple[Decision, ...]()
    if source.stored_bits is not None:
        assert source.searched is not None
        values = source.searched.values.reshape(*source.searched.values.shape[:2], -1)
        searched = replace(source.searched, values=spread(values, source.steps, source.input_steps))
        bits, decision = choose_bits(floats, chip, source.steps, source.payload, searched, source.stored_bits)
        decisions = (decision,)
    if bits is None:
        return {}, decisions
    return as_scalings(bits_of_layers(bits, layers, arithmetic, "weight_bits")), decisions


def check(
    network: nir.NIRGraph | str | Path,
    target: Target = CHIP,
    *,
    steps: int | None = None,
    dt_s: float | None = None,
    reset: str | None = None,
    inputs: Given | None = None,
    layout: Layout | None = None,
) -> Checked:
    """Report everything that prevents a graph from compiling for a chip, and how much of the chip it uses.

    Parameters
    ----------
    network : nir.NIRGraph or path
        A graph or its file, written by any program.
    target, steps, dt_s, reset, inputs, layout
        As in :func:`compile`; without ``inputs``, integers and floats are compared on drawn input, and the default of
        ``steps`` is that of the metadata, else 100.

    Raises
    ------
    BadInput
        If the file cannot be read, ``inputs`` contradict it, or the target has no arithmetic to compile for.
    """
    chip, graph = as_target(target), _graph(network)
    if inputs is None or analyse(graph, dt_s, reset)[0] is None:  # a graph that has no integers is reported as it is
        return check_graph(graph, chip, steps, dt_s, reset, compare)
    options = _Options(steps, dt_s, inputs, layout, None, None, "native", tie_safe=False, calibrate=None, reset=reset)
    source = _graph_source("NIR graph", graph, options)
    on_inputs = partial(compare, samples=source.samples)
    checked = check_graph(source.graph, chip, source.steps, None, None, on_inputs, source.payload)
    return replace(checked, findings=(*source.findings, *checked.findings))


@dataclass(frozen=True)
class _Options:
    """The arguments of :func:`compile`."""

    steps: int | None
    dt_s: float | None
    inputs: Given | None
    layout: Layout | None
    input_bits: int | None
    input_scale: float | None
    thresholds: Thresholds
    tie_safe: bool
    calibrate: int | Given | None
    reset: str | None
    weight_bits: int | Bits | None = None
    stored_bits: int | None = None

    def __post_init__(self) -> None:
        if self.weight_bits is not None and self.stored_bits is not None:
            raise BadInput("weight_bits are given and would be chosen for stored_bits; omit one of the two")

    @property
    def has_calibration_data(self) -> bool:
        """Whether samples to calibrate on are given, rather than their number."""
        return self.calibrate is not None and not isinstance(self.calibrate, int | np.integer)

    def refuse_layout(self) -> None:
        """Reject a layout without inputs."""
        if self.inputs is None and not self.has_calibration_data:
            self.refuse(("layout",), "describes inputs, and none are given")

    def refuse(self, names: tuple[str, ...], why: str) -> None:
        """Reject options that have no effect here."""
        values = {name: getattr(self, name) for name in names}
        given = [name for name, value in values.items() if not (value is None or value is False or _native(value))]
        if given:
            raise BadInput(f"{', '.join(given)}: {why}; omit {'them' if len(given) > 1 else 'it'}")


def _native(value: object) -> bool:
    return isinstance(value, str) and value == "native"


def _open(network: Network) -> Network:
    """Load a run from its folder; return anything else unchanged."""
    if isinstance(network, str | Path) and Path(network).is_dir() and RunFolder(Path(network)).config.is_file():
        return load_run(network)
    return network


def _source(network: Network, options: _Options) -> _Source:
    """Return the source of whatever was given."""
    if isinstance(network, TrainingRun):
        return _run_source(network, options)
    if isinstance(network, str | Path):
        path = Path(network)
        if (path / DOCUMENT).is_file():
            raise BadInput(f"{path}: is already compiled; open it with load_compiled")
        return _graph_source(path.name, read_nir(path), options)
    if isinstance(network, nir.NIRGraph):
        return _graph_source("NIR graph", network, options)
    return _module_source(network, options)


# A trained run.


def _run_source(run: TrainingRun, options: _Options) -> _Source:
    """Read from a run what its integers depend on.

    A single-spike network has no steps: the time step, which must be given, determines their number, and the steps in
    which inputs arrive.
    """
    options.refuse(
        ("steps", "inputs", "layout", "input_scale", "reset"), f"given by the recipe of the run '{run.folder}'"
    )
    from esl_neuro.interchange.single_spikes import arrival_steps, steps_needed
    from esl_neuro.interchange.to_nir import DT_S, to_nir
    from esl_neuro.snn.integer_network import QuantisedNetwork
    from esl_neuro.snn.temporal import TemporalNetwork

    recipe, dataset, network = run.recipe, run.dataset, run.network
    steps, dt_s, input_steps = recipe.data.steps, options.dt_s or DT_S, None
    if isinstance(network, TemporalNetwork):
        steps, input_steps = steps_needed(dt_s), tuple(arrival_steps(dt_s))
    graph = to_nir(network, steps, dt_s, shape=dataset.shape, thresholds=options.thresholds, tie_safe=options.tie_safe)
    if run.files.cores.exists():
        graph = _with_metadata(graph, **{CORE_PLAN: _core_plan(run.files.cores).to_document()})
    encoding = ENCODINGS[recipe.data.encoding]
    bits = (options.input_bits or recipe.training.input_bits) if encoding.signal == "graded" else 1
    scales: Scales = _by_formula
    if isinstance(network, QuantisedNetwork):
        options.refuse(("weight_bits", "stored_bits"), f"the run '{run.folder}' was trained with its bits")
        scales = _as_trained(network)
    elif options.has_calibration_data:
        raise BadInput("a run is calibrated on its own training samples; give their number")
    elif options.calibrate is not None:
        judged, exact = run.validation_set(MOST_SAMPLES), run.validation_accuracy(MOST_SAMPLES)
        scales = _searched(run.training_set(int(options.calibrate)), judged, exact, input_steps)  # type: ignore[arg-type]
    return _Source(
        name=recipe.name,
        written=graph,
        graph=_as_written(graph),
        steps=steps,
        payload=input_payload(bits, 1.0 if encoding.timed else None),  # event counts already are payloads
        scales=scales,
        data=recipe.data,
        input_steps=input_steps,
        samples=run.validation_set(COMPARED_SAMPLES),
        weight_bits=options.weight_bits,
        stored_bits=options.stored_bits,
        searched=None if options.stored_bits is None else run.training_set(COMPARED_SAMPLES),
    )


def _core_plan(path: Path) -> CorePlan:
    """Read for which cores a run was trained."""
    try:
        return CorePlan.of_document(read_json_object(path, "train again"))
    except ValueError as error:
        raise BadInput(f"{path}: damaged ({error}); train again") from error


def _by_formula(narrowed: Mapping[str, Scaling], *_: object) -> Chosen:
    """Use the compiler's formula for every scale."""
    return narrowed, ()


def _as_trained(network: QuantisedNetwork) -> Scales:
    """Make the compiler use the scales and exponents that the network was trained with."""

    def scales(
        _: Mapping[str, Scaling], floats: FloatNetwork, arithmetic: Arithmetic, steps: int, payload: InputFormat
    ) -> Chosen:
        scalings = {}
        for stage, group in zip(network.stages, floats.groups, strict=True):
            learned, bits = network.integers(stage), network.weight_bits.get(stage.connection)
            (connection,) = (per_payload(each, payload) for each in floats.incoming(group.name))
            formats = arithmetic.with_weight_bits(bits)
            scale, (exponent,) = scale_and_exponents(group, (connection,), formats, steps, payload, bits)
            wanted = learned.constants.scale.flatten().numpy()
            factors = np.repeat(wanted, group.neurons // len(wanted)) / scale
            shift = learned.weight_exp - exponent
            if shift or bits is not None or np.any(np.abs(factors - 1) > SINGLE_PRECISION):
                equal = np.all(np.abs(factors / factors[0] - 1) < SINGLE_PRECISION)
                factor = float(factors[0]) if equal else tuple(factors.tolist())
                scalings[group.name] = Scaling(factor, shift, bits)
        return scalings, ()

    return scales


def _searched(
    searched: Samples, judged: Samples, accuracy: float | None = None, input_steps: tuple[int, ...] | None = None
) -> Scales:
    """Search the scale of each layer on some samples; keep it if it is better on others."""

    def scales(
        narrowed: Mapping[str, Scaling], floats: FloatNetwork, arithmetic: Arithmetic, steps: int, payload: InputFormat
    ) -> Chosen:
        first, second = (
            replace(each, values=spread(each.values.reshape(*each.values.shape[:2], -1), steps, input_steps))
            for each in (searched, judged)
        )
        scalings, decision = calibrate_scales(floats, arithmetic, steps, payload, first, second, accuracy, narrowed)
        return scalings, (decision,)

    return scales


# A NIR graph or a torch module.


def _graph_source(name: str, graph: nir.NIRGraph, options: _Options) -> _Source:
    options.refuse(("thresholds", "tie_safe"), "a NIR graph is compiled unchanged")
    options.refuse_layout()
    steps = options.steps or metadata_steps(graph)
    timed = graph if options.dt_s is None else _with_metadata(graph, dt_s=options.dt_s)
    samples = None
    if options.inputs is not None or options.has_calibration_data:
        shape, step = _read_input_shape(timed), time_step(timed)
        samples, options = _arranged(options, shape, steps, step)
    steps = steps or (samples.steps if samples else None)
    if not steps:
        raise BadInput(f"{name}: the number of time steps per sample is missing; give steps or inputs")
    if options.reset is not None:
        timed, conflicts = with_reset(timed, options.reset)
        refuse_unsupported(conflicts)
    return _with_inputs(_Source(name, timed, timed, steps, InputFormat(), _by_formula), samples, options)


def _module_source(module: Any, options: _Options) -> _Source:
    from torch import nn

    from esl_neuro.interchange.to_nir import DT_S, to_nir

    if not isinstance(module, nn.Module):
        raise BadInput(
            f"{type(module).__name__} cannot be compiled; give a run, a NIR graph, a .nir file or a torch module"
        )
    options.refuse(("reset",), "given by the layers of the module")
    options.refuse_layout()
    options = replace(options, inputs=_module_inputs(options))
    shape = None if options.inputs is None else _module_shape(options)
    samples = None
    if shape is not None:
        samples, options = _arranged(options, shape, options.steps, options.dt_s)
    steps = options.steps or (samples.steps if samples else None)
    if not steps:
        raise BadInput("a torch module does not determine the number of time steps per sample; give steps or inputs")
    graph = to_nir(
        copy.deepcopy(module).eval(),  # the caller may continue to train the original
        steps,
        options.dt_s or DT_S,
        shape=shape,
        thresholds=options.thresholds,
        tie_safe=options.tie_safe,
    )
    source = _Source(type(module).__name__, graph, _as_written(graph), steps, InputFormat(), _by_formula)
    return _with_inputs(source, samples, options)


def _module_inputs(options: _Options) -> Given | None:
    """Return the inputs of a module, which does not declare their shape, so a file must contain one dense array."""
    if not isinstance(options.inputs, str | Path):
        return options.inputs
    file = read_sample_file(Path(options.inputs))
    if file.has_events:
        raise BadInput(f"{file.path}: contains events, and a torch module does not determine the shape of its input")
    return file.arrays["input"]


def _module_shape(options: _Options) -> tuple[int, ...]:
    inputs: Any = options.inputs
    shape = np.shape(inputs.values if isinstance(inputs, Samples) else inputs)
    return tuple(shape[1:] if options.layout == ONE_SAMPLE else shape[2:])


def _with_inputs(source: _Source, samples: Samples | None, options: _Options) -> _Source:
    """Add the format of the input, from the options and the given inputs."""
    if options.calibrate is not None and samples is None:
        raise BadInput("calibrate searches scales on inputs, and none are given; give inputs")
    bits, findings = options.input_bits, source.findings
    input_payload(bits or 1)  # out of range before anything is scaled by it
    if samples is not None and not samples.binary:
        bits = bits or GRADED_BITS
        if bits == 1:
            raise BadInput(
                "input_bits is 1, but inputs contain values other than 0 and 1; give the bits of their payload"
            )
    scale = options.input_scale
    if scale is not None and (bits or 1) == 1:
        raise BadInput(f"input_scale is {scale:g}, but the input is spikes; give input_bits or graded inputs")
    if bits is not None and bits > 1 and scale is None and samples is not None:
        scale = graded_scale(samples.values, bits)
    payload = input_payload(bits or 1, scale)
    if options.input_bits is None and payload.bits > 1:
        message = (
            f"inputs contain values other than 0 and 1, so they become payloads of {payload.bits} bits, "
            f"{payload.scale:g} per unit; give input_bits to choose another size"
        )
        findings = (*findings, Finding("graded-input", "input", message, WARNING))
    scales = source.scales
    if isinstance(options.calibrate, Samples):
        scales = _searched(options.calibrate, replace(options.calibrate, labels=None))
    elif samples is not None and options.calibrate is not None:
        part = samples.first(min(int(options.calibrate), len(samples)))  # type: ignore[arg-type]
        scales = _searched(part, replace(part, labels=None))
    if options.stored_bits is not None and samples is None:
        raise BadInput("stored_bits chooses the bits of weights on inputs, and none are given; give inputs")
    return replace(
        source,
        payload=payload,
        findings=findings,
        scales=scales,
        samples=samples,
        weight_bits=options.weight_bits,
        stored_bits=options.stored_bits,
        searched=samples,
    )


def _arranged(options: _Options, shape: InputShape, steps: int | None, dt_s: float | None) -> tuple[Samples, _Options]:
    """Return the given inputs, or else the calibration data, as (samples, steps, lines), and the options with both."""
    inputs, calibrate = options.inputs, options.calibrate
    if inputs is not None:
        inputs = arrange(inputs, shape, steps, options.layout, dt_s)
    if options.has_calibration_data:
        steps = steps or (inputs.steps if inputs else None)
        calibrate = arrange(calibrate, shape, steps, options.layout, dt_s)  # type: ignore[arg-type]
    samples = inputs or calibrate
    assert isinstance(samples, Samples)  # one of the two is given
    return samples, replace(options, inputs=inputs, calibrate=calibrate)


def _read_input_shape(graph: nir.NIRGraph) -> InputShape:
    """Return the shape of the input of a graph.

    Raises
    ------
    BadInput
        If the graph cannot be compiled; the message lists all findings.
    """
    shape = input_shapes(graph)
    if shape is None:
        refuse_unsupported(analyse(graph)[1])
    assert shape is not None  # analyse found an error otherwise
    return shape


def _with_metadata(graph: nir.NIRGraph, **entries: Any) -> nir.NIRGraph:
    """Return the graph with further metadata; a copy, because a new NIRGraph would check all shapes again."""
    extended = copy.copy(graph)
    extended.metadata = {**graph.metadata, **entries}
    return extended


def _as_written(graph: nir.NIRGraph) -> nir.NIRGraph:
    """Write a graph and read it back, so that the compiler gets the same graph as any reader of the file."""
    from esl_neuro.nirgraph.files import write_nir

    with scratch_folder() as folder:
        write_nir(folder / "model.nir", graph)
        return read_nir(folder / "model.nir")


def _graph(network: nir.NIRGraph | str | Path) -> nir.NIRGraph:
    return network if isinstance(network, nir.NIRGraph) else read_nir(Path(network))
