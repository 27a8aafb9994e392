"""Write a report page: open a network, run it, price it, verify it, and gather what its run recorded."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esl_neuro.compiler.placement import place, utilisation
from esl_neuro.compiler.program import INPUT
from esl_neuro.errors import BadInput, CheckFailed
from esl_neuro.hardware import load_target
from esl_neuro.pipeline.activity import Activity, export_of, is_nir_file, prepare, simulator
from esl_neuro.pipeline.choices import CHIP, ENERGY_TARGETS
from esl_neuro.pipeline.compiled_network import CompiledNetwork
from esl_neuro.pipeline.export_folder import DOCUMENT, GOLDEN
from esl_neuro.pipeline.pricing import energy_report, target_names
from esl_neuro.pipeline.run_history import EpochLine, LayerUpdate, PictureLine, read_log
from esl_neuro.pipeline.simulation import OnStatus, Progress, RunResult, count_program
from esl_neuro.pipeline.stored_readers import stored_readers
from esl_neuro.pipeline.stored_run import StoredRun, is_of_the_same_program, stored_lava_run
from esl_neuro.pipeline.training import load_run
from esl_neuro.pipeline.verification import recompile, repeat_golden
from esl_neuro.reading.documents import is_number, read_json_object
from esl_neuro.report.page.data import (
    Accuracies,
    Check,
    Command,
    Cores,
    Epoch,
    Film,
    Picture,
    ReportData,
    Rewiring,
    Span,
    TrainingCost,
    TrainingPhase,
    Update,
    Work,
)
from esl_neuro.report.page.energy import activity as layer_activity
from esl_neuro.report.page.energy import energy
from esl_neuro.report.page.rendering import render_page
from esl_neuro.report.page.structure import agreement, cores, layer_structures, rasters
from esl_neuro.storage import write
from esl_neuro.training.cost import Phases
from esl_neuro.training.result import read_result
from esl_neuro.training.run_folder import RunFolder
from esl_neuro.version import __version__

NAME = "report.html"
TRAIN_AGAIN = "train again"
NOT_TRAINED_HERE = "a report of a run, or of its export, has it: esl-neuro report runs/NAME"


@dataclass(frozen=True)
class WrittenReport:
    """A page that was written.

    Attributes
    ----------
    file : Path
    size : int
        In bytes.
    data : ReportData
        What it shows.
    """

    file: Path
    size: int
    data: ReportData

    def refuse_difference(self) -> None:
        """Raise an error if a comparison on the page failed.

        Raises
        ------
        CheckFailed
            With every failed comparison.
        """
        if self.data.failed:
            found = "; ".join(f"{each.what}: {each.outcome}" for each in self.data.failed)
            raise CheckFailed(f"{self.file}: the report is written, but a comparison failed: {found}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the spikes of the rasters."""
        data = self.data.to_dict()
        return {"file": str(self.file), "bytes": self.size, "data": {k: v for k, v in data.items() if k != "rasters"}}


def write_report(
    path: str | Path,
    out: str | Path | None = None,
    activity: Activity | None = None,
    *,
    tick_s: float | None = None,
    on_status: OnStatus = lambda _: None,
    progress: Progress | None = None,
) -> WrittenReport:
    """Write one HTML file that shows a network, what it does, what it costs, and what was verified.

    Parameters
    ----------
    path : str or Path
        A run, an export or a NIR file. A run without an export is exported first.
    out : str or Path, optional
        The file. Default: ``report.html`` in the run or the export, or ``NAME-report.html`` for ``NAME.nir``.
    activity : Activity, optional
        Simulator and inputs. Default: the integer simulator on the test set.
    tick_s : float, optional
        Duration of a time step of real time on a chip, in seconds. Default: the chips run freely.
    on_status : callable
        Called with a message before each long operation.
    progress : callable, optional
        Called with the number of finished samples and of all samples, in Lava.

    Raises
    ------
    BadInput
        If the path is none of these, or the file cannot be written.
    """
    where = Path(path)
    data = report_data(where, activity or Activity(), tick_s=tick_s, on_status=on_status, progress=progress)
    file = Path(out) if out is not None else default_file(where)
    page = render_page(data).encode()
    write(file, page)
    return WrittenReport(file, len(page), data)


def default_file(path: Path) -> Path:
    """Return where the report of a network is written if no file is given."""
    return Path(f"{path.stem}-{NAME}") if is_nir_file(path) else path / NAME


def report_data(
    path: Path,
    activity: Activity,
    *,
    tick_s: float | None = None,
    on_status: OnStatus = lambda _: None,
    progress: Progress | None = None,
) -> ReportData:
    """Return what a report page shows; see :func:`write_report`."""
    _refuse_unfinished(path)
    given = None if is_nir_file(path) else export_of(path, on_status, allow_code=activity.allow_code)
    network = path if given is None else given
    targets = target_names(tuple(dict.fromkeys((*ENERGY_TARGETS, activity.target))))
    backend = simulator(activity, on_status)
    compiled, samples, arriving = prepare(network, activity, on_status)
    on_status(f"{network}: running {samples.name} ({backend})")
    result = count_program(compiled.program, arriving, samples.name, samples.labels, backend, progress=progress)
    priced = energy_report(result, targets, tick_s=tick_s, network=str(network))
    missing: dict[str, str] = {}
    run = None if given is None else run_of(given)
    lava = _lava_run(given, activity, result, missing)
    if given is not None:
        on_status(f"{given}: verifying")
    if compiled.fidelity is None:
        missing["fidelity"] = (
            "floats and integers were not compared; export the run again, or give the file to 'esl-neuro compile'"
        )
    return ReportData(
        name=compiled.name,
        kind="NIR file" if given is None else "run" if path != given else "export",
        path=str(path),
        chip=compiled.target,
        version=__version__,
        ran_on=f"{result.ran_on} x {result.steps} steps",
        backend=result.backend,
        inputs=compiled.program.input_size,
        neurons=compiled.program.neurons,
        stored=priced.stored,
        possible=priced.dense,
        steps=result.steps,
        accuracies=_accuracies(given, result, lava, missing),
        activity=layer_activity(priced),
        structure=layer_structures(compiled.program),
        rasters=rasters({INPUT: result.trace.input_spikes, **result.trace.spikes}),
        raster_of=f"The first of {result.ran_on}",
        cores=_cores(compiled, missing),
        energy=energy(priced),
        checks=tuple(_checks(network, given, lava, result)),
        commands=tuple(_commands(path, given, run, activity, tick_s)),
        history=_history(run, missing),
        training_cost=_training_cost(run, missing),
        rewiring=_rewiring(run, missing),
        films=_films(run, missing),
        agreement=agreement(compiled.fidelity),
        findings=tuple(map(str, (*compiled.decisions, *compiled.findings))),
        missing=missing,
    )


def _refuse_unfinished(path: Path) -> None:
    """Reject a path that does not exist, and a run that is not complete."""
    if not path.exists():
        raise BadInput(f"{path}: there is no such run, export or NIR file; make a run with 'esl-neuro train'")
    folder = RunFolder(path)
    if folder.config.is_file() and not folder.result.is_file() and not (path / DOCUMENT).is_file():
        load_run(path).figures  # noqa: B018 (raises the error)


def run_of(export: Path) -> RunFolder | None:
    """Return the complete run that an export was made of: the folder above it, or the one that it names.

    The folder above is named as the export is, so that a relative path stays one, wherever the page is made.
    """
    document = read_json_object(export / DOCUMENT, "export again")
    named = document.get("run")
    above = export.parent if export.name not in ("", "..") else export.absolute().parent
    candidates = [above, *([Path(named)] if isinstance(named, str) else [])]
    for folder in map(RunFolder, candidates):
        if folder.result.is_file() and read_json_object(folder.result).get("recipe") == document.get("recipe"):
            return folder
    return None


# What the run recorded.


def _history(run: RunFolder | None, missing: dict[str, str]) -> tuple[Epoch, ...]:
    epochs = [] if run is None else read_log(run.metrics, EpochLine)
    if not epochs:
        missing["training"] = (
            NOT_TRAINED_HERE if run is None else f"{run.metrics.name} is missing in {run.path}; train again"
        )
    return tuple(
        Epoch(
            each.epoch,
            each.loss,
            each.train_accuracy,
            each.validation_accuracy,
            each.density,
            each.explored,
            each.spikes_per_neuron,
            each.connections,
        )
        for each in epochs
    )


def _training_cost(run: RunFolder | None, missing: dict[str, str]) -> TrainingCost | None:
    result = None if run is None else read_result(run.result, TRAIN_AGAIN)
    if result is None or result.cost is None:
        missing["training-cost"] = (
            NOT_TRAINED_HERE if run is None else f"the cost of this run was not counted; {TRAIN_AGAIN}"
        )
        return None
    work, memory = result.cost.work, result.memory

    def of(phases: Phases, name: str) -> Work:
        part = getattr(phases, name)
        return Work(part.operations, part.bytes)

    return TrainingCost(
        tuple(
            TrainingPhase(name, of(work.run, name), of(work.alone, name), of(work.dense, name))
            for name in Phases.model_fields
        ),
        result.cost.parameter_bytes,
        result.cost.dense_parameter_bytes,
        None if memory is None else memory.peak_bytes,
        None if memory is None else memory.start_bytes,
    )


def _rewiring(run: RunFolder | None, missing: dict[str, str]) -> tuple[Rewiring, ...]:
    layers: dict[str, list[Update]] = {}
    for each in [] if run is None else read_log(run.structure, LayerUpdate):
        layers.setdefault(each.layer, []).append(_update(each))
    if not layers:
        missing["rewiring"] = (
            NOT_TRAINED_HERE
            if run is None
            else "the connections of this run never changed; a recipe with a sparsity.learner that rewires records it"
        )
    return tuple(Rewiring(layer, tuple(updates)) for layer, updates in layers.items())


def _update(each: LayerUpdate) -> Update:
    fan_in = each.fan_in
    return Update(
        each.iteration,
        each.births,
        each.deaths,
        each.connections,
        each.density,
        each.explored,
        None if fan_in is None else Span(fan_in.min, fan_in.mean, fan_in.max, fan_in.std),
    )


def _films(run: RunFolder | None, missing: dict[str, str]) -> tuple[Film, ...]:
    layers: dict[str, list[PictureLine]] = {}
    for each in [] if run is None else read_log(run.connections, PictureLine):
        layers.setdefault(each.layer, []).append(each)
    if not layers:
        missing["film"] = (
            NOT_TRAINED_HERE
            if run is None
            else f"{run.connections.name} is missing in {run.path}, which an earlier version trained; train again: "
            + _line("train", run.config)
        )
    return tuple(_film(layer, pictures) for layer, pictures in layers.items())


def _film(layer: str, pictures: Sequence[PictureLine]) -> Film:
    first = pictures[0]
    alike = [each for each in pictures if (each.rows, each.columns) == (first.rows, first.columns)]
    return Film(
        layer,
        f"A row is {first.rows[0]:,} of {sum(first.rows):,} outputs, a column {first.columns[0]:,} of "
        f"{sum(first.columns):,} inputs; the last ones may be fewer.",
        tuple(Picture(each.iteration, _shares(each)) for each in alike),
    )


def _shares(each: PictureLine) -> tuple[tuple[float, ...], ...]:
    return tuple(
        tuple(found / (high * wide) for found, wide in zip(row, each.columns, strict=True))
        for row, high in zip(each.counts, each.rows, strict=True)
    )


# Accuracy, cores, verification.


def _lava_run(export: Path | None, activity: Activity, result: RunResult, missing: dict[str, str]) -> StoredRun | None:
    """Return the stored run in Lava, if it is one of this program on the test set."""
    on_test_set = activity.inputs is None and activity.rate is None
    if export is None or not on_test_set:
        missing["Accuracy, Lava"] = "a report of an export on its test set has it"
        return None
    stored = stored_lava_run(export)
    if stored is None or is_of_the_same_program(stored, result) is False:
        missing["Accuracy, Lava"] = f"run it: {_line('run', export, '--backend', 'lava')}"
        return None
    return stored


def _accuracies(export: Path | None, result: RunResult, lava: StoredRun | None, missing: dict[str, str]) -> Accuracies:
    known = {} if export is None else read_json_object(export / DOCUMENT, "export again").get("accuracy")
    known = known if isinstance(known, dict) else {}
    in_float, samples = known.get("float"), known.get("samples")
    if not is_number(in_float):
        in_float = None
        missing["Accuracy, float"] = (
            "export a run, or compile with --input FILE with labels, to have it measured on the float network"
        )
    if result.accuracy is None:
        missing["Accuracy, integers"] = "give --input FILE with labels"
    return Accuracies(
        in_float,
        result.accuracy,
        None if lava is None else lava.accuracy,
        samples if isinstance(samples, int) else 0,
        result.samples,
        0 if lava is None else lava.samples,
    )


def _cores(compiled: CompiledNetwork, missing: dict[str, str]) -> Cores:
    try:
        chip = compiled.hardware or load_target(compiled.target)
    except BadInput as error:
        missing["cores"] = f"{error}; report the NIR file with --target FILE"
        return Cores(compiled.target, (), ())
    placement = place(compiled.program, chip)
    return cores(compiled.program, placement, utilisation(compiled.program, placement, chip), chip.name)


def _checks(network: Path, export: Path | None, lava: StoredRun | None, result: RunResult) -> Iterator[Check]:
    verify = _line("verify", network)
    graph = "model.nir compiles to the stored program"
    golden = "The golden trace, repeated by the integer simulator"
    if export is None:
        compile_it = "compile the file, which writes an export"
        yield Check(graph, None, compile_it, _line("compile", network))
        yield Check(golden, None, compile_it, _line("compile", network))
    else:
        changed = recompile(export)
        yield Check(graph, not changed, f"{', '.join(changed)} differ" if changed else "every integer equal", verify)
        yield _golden(golden, export, verify)
    spikes = "Every spike in Lava equals the integer simulator"
    run = _line("run", network, "--backend", "lava") if export is not None else verify
    if lava is None or lava.parity is None:
        yield Check(spikes, None, "no run of this program in Lava is stored", run)
    else:
        compared = f"{lava.parity.values_compared:,} spike values of {lava.samples:,} samples"
        unlike = "" if lava.samples <= result.samples else "; this report ran fewer samples"
        outcome = f"{compared}, all equal{unlike}" if lava.parity.equal else str(lava.parity.first_difference)
        yield Check(spikes, lava.parity.equal, outcome, run)
    yield from _reader_checks(export, verify)


def _reader_checks(export: Path | None, verify: str) -> Iterator[Check]:
    """Yield what each independent reader said of the graph of an export, as ``esl-neuro verify`` stored it."""
    what = "Independent NIR readers"
    stored = None if export is None else stored_readers(export)
    if stored is None:
        reason = "the command prints them" if export is None else "no result of a reader on this graph is stored"
        yield Check(what, None, reason, verify)
        return
    for each in stored.readers:
        compared = f"{each.compared:,} entries with {each.spikes:,} spikes"
        said = {"equal": f"{compared}, all equal", "different": f"{each.differing:,} of {compared} differ"}
        outcome = said.get(each.status, f"{each.status}: {each.reason}")
        passed = {"equal": True, "different": False, "broken": False}.get(each.status)
        yield Check(f"NIR reader {each.reader} {each.version}".rstrip(), passed, outcome, verify)


def _golden(what: str, export: Path, command: str) -> Check:
    if not (export / GOLDEN).is_file():
        return Check(what, None, f"{GOLDEN} is missing; export again", command)
    try:
        compared = repeat_golden(export, "integer")
    except CheckFailed as error:
        return Check(what, False, str(error), command)
    return Check(what, True, f"{compared:,} spikes, currents and potentials, all equal", command)


# Commands.


def _commands(
    path: Path, export: Path | None, run: RunFolder | None, activity: Activity, tick_s: float | None
) -> Iterator[Command]:
    pace = [] if tick_s is None else ["--tick", f"{tick_s!r}s"]
    chip = [] if activity.target == CHIP else ["--target", activity.target]
    backend = [] if activity.backend == "integer" else ["--backend", str(activity.backend)]
    if run is not None:
        yield from _recorded("Train, as recorded", run.path / "environment.json", ("command",))
        yield Command("Train again", _line("train", run.config))
    if export is None:
        yield Command("Compile", _line("compile", path, *_given(activity, for_compile=True), *chip))
        if not chip:  # energy report compiles a file for the default chip only
            yield Command("Price", _line("energy", "report", path, *_given(activity), *pace))
    else:
        yield from _recorded("Export, as recorded", export / DOCUMENT, ("environment", "command"))
        yield Command("Run in Lava", _line("run", export, "--backend", "lava"))
        yield Command("Price", _line("energy", "report", export, *_given(activity), *pace))
    yield Command("Verify", _line("verify", path if export is None else export))
    yield Command("This report", _line("report", path, *_given(activity), *backend, *chip, *pace))


def _recorded(step: str, file: Path, keys: Sequence[str]) -> Iterator[Command]:
    """Return the command line that a file keeps, if it is one."""
    if not file.is_file():
        return
    found: Any = read_json_object(file)
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    if isinstance(found, list) and found and all(isinstance(each, str) for each in found):
        yield Command(step, shlex.join(found))


def _given(activity: Activity, *, for_compile: bool = False) -> list[str]:
    """Return the options that give the inputs of an activity again."""
    options: list[object] = []
    for name, value in (
        ("--samples", None if for_compile else activity.samples),
        ("--input", activity.inputs),
        ("--layout", activity.layout),
        ("--rate", None if for_compile else activity.rate),
        ("--steps", activity.steps),
        ("--dt", activity.dt_s),
        ("--reset", activity.reset),
    ):
        options += [] if value is None else [name, value]
    return [str(option) for option in options]


def _line(*words: object) -> str:
    return shlex.join(["esl-neuro", *map(str, words)])
