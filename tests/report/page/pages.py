"""Pages to test, of programs that ran, and a reader of their HTML."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from typing import Any

import numpy as np

from esl_neuro.backends.trace import Trace
from esl_neuro.compiler.placement import place, utilisation
from esl_neuro.energy.report import energy_report
from esl_neuro.hardware import load_target
from esl_neuro.report.page.data import (
    Accuracies,
    Agreement,
    Check,
    Command,
    Epoch,
    Film,
    LayerAgreement,
    Picture,
    ReportData,
    Rewiring,
    Span,
    TrainingCost,
    TrainingPhase,
    Update,
    Work,
)
from esl_neuro.report.page.energy import activity, energy
from esl_neuro.report.page.structure import cores, layer_structures, rasters
from report.programs import chain

EMPTY = frozenset({"meta", "link", "input", "br", "path"})


def page_data(sizes: tuple[int, ...] = (60, 40, 10), seed: int = 1, tick_s: float | None = None) -> ReportData:
    """Everything that a page can show, of a program with random spikes."""
    program, random = chain(sizes, 0.2), np.random.default_rng(seed)
    spikes = {g.name: (random.random((3, 4, g.neurons)) < 0.2).astype(np.uint8) for g in program.groups}
    trace = Trace("integer", (random.random((3, 4, sizes[0])) < 0.1).astype(np.uint8), spikes)
    report = energy_report(program, trace, tick_s=tick_s)
    chip = load_target("loihi2")
    placement = place(program, chip)
    layers = [group.name for group in program.groups]
    return ReportData(
        name="a network",
        kind="run",
        path="runs/a",
        chip="loihi2",
        version="1.0",
        ran_on="3 samples x 4 steps",
        backend="integer",
        inputs=sizes[0],
        neurons=program.neurons,
        stored=report.stored,
        possible=report.dense,
        steps=4,
        accuracies=Accuracies(0.9, 0.8, 0.8, 3, 3, 3),
        activity=activity(report),
        structure=layer_structures(program),
        rasters=rasters({"input": trace.input_spikes, **spikes}),
        raster_of="The first of 3 samples",
        cores=cores(program, placement, utilisation(program, placement, chip), "loihi2"),
        energy=energy(report),
        checks=(
            Check("one", True, "all equal", "esl-neuro verify a"),
            Check("two", None, "not yet", "esl-neuro run a"),
        ),
        commands=(Command("Train", "esl-neuro train a"),),
        history=tuple(Epoch(n, 1 / n, 0.5, 0.4 + n / 100, 0.2, 0.2 + n / 50, 1.5, 40) for n in (1, 2, 3)),
        training_cost=TrainingCost(
            (TrainingPhase("forward", Work(4_000_000, 10**9), Work(5_000, 10**6), Work(4_000_000, 10**9)),),
            3_000_000,
            4_000_000,
            5 * 10**8,
            2 * 10**8,
        ),
        rewiring=(Rewiring("fc1", tuple(Update(n, 9 - n, 9 - n, 40, 0.2, 0.3, Span(1, 2.5, 9, 1)) for n in (1, 2))),),
        films=(Film("fc1", "A row is 1 output.", (Picture(0, ((0.0, 1.0),)), Picture(9, ((0.5, 0.1),)))),),
        agreement=Agreement("3 samples", tuple(LayerAgreement(n, 99, 98, 2, 0.02, None, 40, 1, 0.01) for n in layers)),
        findings=("warning: a finding",),
    )


# Names that the page itself chooses between; every other text may come from a file.
OURS = {"quantity", "kind", "fullest"}


def with_every_text(value: Any, text: str) -> Any:
    """The same data with this text in the place of every other."""
    if isinstance(value, str):
        return text
    if isinstance(value, tuple):
        return tuple(with_every_text(each, text) for each in value)
    if isinstance(value, dict):
        return {key: with_every_text(each, text) for key, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        changed = {
            field.name: with_every_text(getattr(value, field.name), text)
            for field in fields(value)
            if field.name not in OURS
        }
        return replace(value, **changed)
    return value


class Page(HTMLParser):
    """The elements of a page, its text, and whether every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in EMPTY:
            assert self.open, f"</{tag}> closes nothing"
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of each element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        """All text, with single spaces."""
        return " ".join(" ".join(self.texts).split())
