"""The sections about the network: training, connections, spikes, fidelity, cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from esl_neuro.report.page import charts
from esl_neuro.report.page.data import Epoch, Film, Histogram, LayerStructure, ReportData
from esl_neuro.report.page.parts import Chart, Frame, Section, Table, chart, layer_names, named, not_all, percent, words
from esl_neuro.report.tables import si

SHOWN_CORES = 1024  # rows of the table and squares of the map


def training(data: ReportData) -> Section:
    """Show accuracy and density over the epochs."""
    history, key, title = data.history, "training", "Training"
    if not history:
        return Section(key, title, missing=(data.missing[key],))
    first, last = history[0], history[-1]
    best = max(history, key=lambda each: each.validation_accuracy)
    table = Table(
        "Each epoch of training",
        ("epoch", "loss", "training accuracy", "validation accuracy", "density", "ever active", "connections",
         "spikes per neuron"),
        tuple(
            (
                str(each.epoch),
                f"{each.loss:.4f}",
                percent(each.train_accuracy),
                percent(each.validation_accuracy),
                percent(each.density),
                "" if each.explored is None else percent(each.explored),
                f"{each.connections:,}",
                f"{each.spikes_per_neuron:.2f}",
            )
            for each in history
        ),
        left=0,
    )  # fmt: skip
    return Section(
        key,
        title,
        charts=(
            chart(
                "Accuracy over training",
                f"Validation accuracy goes from {percent(first.validation_accuracy)} in epoch {first.epoch} to "
                f"{percent(last.validation_accuracy)} in epoch {last.epoch}; the best is "
                f"{percent(best.validation_accuracy)} in epoch {best.epoch}.",
                lambda: charts.accuracy_chart(history),
                table,
            ),
            chart(
                "Density over training",
                f"The share of connections that exist goes from {percent(first.density)} to {percent(last.density)}; "
                f"{_ever_active(last)} of all possible ones existed at some time. These are the layers that "
                "training keeps sparse, before rounding.",
                lambda: charts.density_chart(history),
            ),
        ),
    )


def training_cost(data: ReportData) -> Section:
    """Show what training took, beside what its connections alone and a dense network would take."""
    key, title, cost = "training-cost", "What training cost", data.training_cost
    if cost is None:
        return Section(key, title, missing=(data.missing[key],))
    rows = [
        (
            each.name,
            *(_amount(work.operations, "") for work in (each.run, each.alone, each.dense)),
            *(_amount(work.bytes, "B") for work in (each.run, each.alone, each.dense)),
        )
        for each in cost.phases
    ]
    sums = [
        _amount(sum(getattr(getattr(each, kind), what) for each in cost.phases), unit)
        for what, unit in (("operations", ""), ("bytes", "B"))
        for kind in ("run", "alone", "dense")
    ]
    table = Table(
        "Operations and bytes moved in each part of training",
        ("part", "operations", "of these connections alone", "of a dense network", "bytes moved",
         "for these connections alone", "for a dense network"),
        (*rows, ("together", *sums)),
    )  # fmt: skip
    memory = (
        "The memory of the process was not measured."
        if cost.peak_bytes is None or cost.start_bytes is None
        else f"The process took {_amount(cost.peak_bytes, 'B')} at its peak, {_amount(cost.start_bytes, 'B')} before "
        "training."
    )
    return Section(
        key,
        title,
        text=(
            "Counted from connections, shapes and samples. A masked layer computes with all positions, so a run with "
            "masks costs what a dense one does; sparse storage would compute with its connections alone.",
            f"{memory} Weights, gradients, optimiser states, masks and indices take "
            f"{_amount(cost.parameter_bytes, 'B')} at the end; those of a dense network "
            f"{_amount(cost.dense_parameter_bytes, 'B')}.",
        ),
        tables=(table,),
    )


def _amount(number: int, unit: str) -> str:
    return f"{si(number)}{unit}".rstrip()


def _ever_active(epoch: Epoch) -> str:
    return "an unknown share" if epoch.explored is None else percent(epoch.explored)


def rewiring(data: ReportData) -> Section:
    """Show how the connections changed while the network trained."""
    key, title, layers = "rewiring", "Connections before and after", layer_names(data)
    parts: list[Chart] = [film_chart for film in data.films[: charts.SHOWN_LAYERS] for film_chart in _film(film)]
    if data.rewiring:
        births = sum(update.births for each in data.rewiring for update in each.updates)
        table = Table(
            "Each change of the connections",
            ("layer", "iteration", "created", "removed", "connections", "density", "ever active", "fan-in"),
            tuple(
                (
                    each.layer,
                    f"{update.iteration:,}",
                    f"{update.births:,}",
                    f"{update.deaths:,}",
                    f"{update.connections:,}",
                    percent(update.density),
                    "" if update.explored is None else percent(update.explored),
                    ""
                    if update.fan_in is None
                    else f"{update.fan_in.min:g} - {update.fan_in.mean:.1f} - {update.fan_in.max:g}",
                )
                for each in data.rewiring
                for update in each.updates
            ),
        )
        parts += [
            chart(
                "Connections created and removed",
                f"{births:,} connections were created in {sum(len(each.updates) for each in data.rewiring):,} changes. "
                f"Layers: {', '.join(each.layer for each in data.rewiring)}.{not_all(data.rewiring)}",
                lambda: charts.rewiring_chart(data.rewiring, layers),
                table,
            ),
            chart(
                "Fan-in over training",
                "Mean connections of a neuron, in a band from the smallest to the largest." + not_all(data.rewiring),
                lambda: charts.degree_chart(data.rewiring, layers),
            ),
        ]
    missing = [data.missing[name] for name in ("rewiring", "film") if name in data.missing]
    return Section(key, title, charts=tuple(parts), missing=tuple(dict.fromkeys(missing)))


def _film(film: Film) -> Iterator[Chart]:
    first, last = film.pictures[0], film.pictures[-1]
    text = (
        f"From iteration {first.iteration:,} to iteration {last.iteration:,}. {film.cell} The darker a cell, the "
        "larger the share of its possible connections that exist."
    )
    frames = tuple(
        Frame(
            f"iteration {each.iteration:,}",
            named(charts.cells_svg(each), f"Connections of {film.layer} at iteration {each.iteration:,}"),
        )
        for each in film.pictures
    )
    yield Chart(f"Connections of {film.layer}: before, between, after", text, frames=frames)


def structure(data: ReportData) -> Section:
    """Show degrees and thresholds of each layer."""
    layers = data.structure
    quantities: tuple[tuple[str, str, str, Callable[[LayerStructure], Histogram]], ...] = (
        ("fan-in", "Fan-in", "stored connections of a neuron", lambda each: each.fan_in),
        ("fan-out", "Fan-out", "stored connections of a source", lambda each: each.fan_out),
        ("thresholds", "Thresholds", "threshold (units of the float network)", lambda each: each.thresholds),
    )
    table = Table(
        "Degrees and thresholds of each layer: smallest - mean - largest",
        ("layer", "neurons", "stored", "density", *(title.lower() for _, title, _, _ in quantities)),
        tuple(
            (
                each.layer,
                f"{each.neurons:,}",
                f"{each.stored:,}",
                percent(each.stored / each.possible if each.possible else 0.0),
                *(_span(value(each)) for *_, value in quantities),
            )
            for each in layers
        ),
    )
    return Section(
        "structure",
        "Degrees and thresholds",
        charts=tuple(
            chart(
                title,
                "Distribution in each layer of the program, after rounding; the dashed line is the mean."
                + not_all(layers),
                partial(charts.histogram_chart, name, layers, value, label),
            )
            for name, title, label, value in quantities
        ),
        tables=(table,),
    )


def activity(data: ReportData) -> Section:
    """Show the spikes of one sample, and the activity of each layer."""
    layers = layer_names(data)
    table = Table(
        f"Activity, mean per sample ({data.ran_on}, {data.backend} simulator)",
        ("layer", "spikes in", "spikes out", "synaptic operations"),
        tuple(
            (each.layer, f"{each.spikes_in:,.1f}", f"{each.spikes_out:,.1f}", f"{each.operations:,.1f}")
            for each in data.activity
        ),
    )
    return Section(
        "activity",
        "Spikes",
        charts=tuple(
            chart(
                f"Spikes of {each.layer}",
                f"{data.raster_of}: {each.total:,} spikes of {each.neurons:,} lines"
                + (f"; the first {each.shown:,} lines are shown" if each.shown < each.neurons else "")
                + ".",
                partial(charts.raster_chart, each, layers),
            )
            for each in data.rasters[: charts.SHOWN_LAYERS]
        ),
        tables=(table,),
    )


def agreement(data: ReportData) -> Section:
    """Show how closely the integers follow the float network."""
    key, title, found = "fidelity", "Fidelity: floats against integers", data.agreement
    if found is None:
        return Section(key, title, missing=(data.missing[key],), notes=data.findings)
    table = Table(
        f"Floats against integers: {found.inputs}",
        ("layer", "spikes, float", "spikes, integer", "moved", "moved share", "potential error", "weights lost",
         "threshold error"),
        tuple(
            (
                each.layer,
                f"{each.spikes_float:,}",
                f"{each.spikes_integer:,}",
                f"{each.moved:,}",
                "" if each.moved_share is None else percent(each.moved_share),
                "" if each.potential_error is None else percent(each.potential_error),
                f"{each.lost:,} of {each.weights:,}",
                percent(each.threshold_error),
            )
            for each in found.layers
        ),
    )  # fmt: skip
    fires = any(each.moved_share is not None for each in found.layers)
    text = (
        "Both run on the same input. A spike is moved if one run has it and the other has none in that step; "
        "shares are of the float spikes. " + _worst(data)
    )
    return Section(
        key,
        title,
        charts=(
            chart("Moved spikes", text, lambda: charts.agreement_chart(found, layer_names(data)), table),
        ) if fires else (),
        tables=() if fires else (table,),
        notes=data.findings,
    )  # fmt: skip


def _worst(data: ReportData) -> str:
    assert data.agreement is not None
    moved = [(each.moved_share, each.layer) for each in data.agreement.layers if each.moved_share is not None]
    if not moved:
        return "No layer fires."
    share, layer = max(moved)
    return f"The largest share is {percent(share)}, in {layer}."


def cores(data: ReportData) -> Section:
    """Show the cores of the chip, and how full they are."""
    cores, layers = data.cores, layer_names(data)
    if not cores.cores:
        return Section("cores", f"Cores of {cores.chip}", missing=(data.missing["cores"],))
    used = dict.fromkeys(layer for core in cores.cores for layer in core.layers)
    legend = ", ".join(f"{layers.index(layer) + 1} {layer}" for layer in used if layer in layers)
    shown = cores.cores[:SHOWN_CORES]
    cut = (
        f" The first {SHOWN_CORES:,} of {len(cores.cores):,} cores are shown." if len(shown) < len(cores.cores) else ""
    )
    table = Table(
        "Each core",
        ("core", "layer", "neurons", "synapses", "fullest resource", "used"),
        tuple(
            (
                str(number),
                ", ".join(core.layers),
                f"{core.neurons:,}",
                f"{core.synapses:,}",
                words(core.fullest) or "no published limit",
                "" if core.share is None else percent(core.share),
            )
            for number, core in enumerate(shown)
        ),
        left=2,
    )
    resources = Table(
        f"Resources of {cores.chip}; for a resource of a core, that of the fullest core",
        ("resource", "used", "mean", "limit", "unit", "share"),
        tuple(
            (
                words(each.name),
                f"{each.used:,}",
                f"{each.mean:,.1f}",
                "not published" if each.limit is None else f"{each.limit:,.0f}",
                each.unit,
                "" if each.share is None else percent(each.share),
            )
            for each in cores.resources
        ),
    )
    return Section(
        "cores",
        f"Cores of {cores.chip}",
        charts=(
            chart(
                "Core map",
                f"{len(cores.cores):,} cores in the order of their numbers. The number in a core is its layer: "
                f"{legend}. The filled part is the used share of its fullest resource with a published limit.{cut}",
                lambda: charts.core_chart(shown, layers),
                table,
            ),
            *(
                (
                    chart(
                        "Used share of the limits",
                        "For a resource of a core, of the fullest core. The dashed line is the limit.",
                        lambda: charts.resource_chart(cores),
                        resources,
                    ),
                )
                if any(each.share is not None for each in cores.resources)
                else ()
            ),
        ),
        tables=() if any(each.share is not None for each in cores.resources) else (resources,),
    )


def _span(found: Histogram) -> str:
    return f"{found.min:.4g} - {found.mean:.4g} - {found.max:.4g}"
