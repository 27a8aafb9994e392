"""Every figure of the documents stands in the record that a command wrote: docs/results/records.toml says which.

A figure is a number with a decimal point, with thousands, with an exponent or with %. It must be a number of the
section's records, rounded as it stands there, or computed from such numbers by a stated formula, or quoted from others.
"""

from __future__ import annotations

import ast
import json
import math
import operator
import re
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from typing import Any

import pytest

from esl_neuro.resources import read_toml
from system.command_workspace import REPOSITORY

FOLDER = REPOSITORY / "docs" / "results"
INDEX = read_toml(FOLDER / "records.toml")
SECTIONS = [f"{section['document']}: {section['heading']}" for section in INDEX["sections"]]
NUMBER = r"(?<![\w.^/])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w/]|\.\d|,\d{3})"
FIGURE = re.compile(rf"({NUMBER})( %)?")
OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def value(figure: str) -> float:
    """The number that a figure writes."""
    return float(figure.replace(",", ""))


def half_a_digit(figure: str) -> float:
    """The largest distance of a number that is written as this figure."""
    mantissa, _, exponent = figure.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    return 0.5 * 10.0 ** (int(exponent or 0) - decimals)


def is_figure(number: str, percent: str) -> bool:
    """Whether a number states something measured; small whole numbers are sizes, steps and seeds."""
    return bool(percent) or any(mark in number for mark in (".", ",", "e", "E"))


def figures(text: str) -> list[str]:
    """The figures of a text, each once, without code spans and links."""
    prose = re.sub(r"`[^`\n]*`|\]\([^)]*\)|https?://\S+|^```sh\n.*?^```", " ", text, flags=re.DOTALL | re.MULTILINE)
    found = [match.groups() for match in FIGURE.finditer(prose)]
    return list(dict.fromkeys(number.lstrip("+") for number, percent in found if is_figure(number, percent)))


def numbers(node: Any) -> Iterator[float]:
    """All numbers of what a command printed."""
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list):
        for entry in node:
            yield from numbers(entry)
    elif isinstance(node, str):
        yield from numbers([value(found) for found in re.findall(NUMBER, node)])
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield float(node)
        if abs(node) <= 1:
            yield 100.0 * node  # a share, written in percent


def recorded(name: str) -> list[float]:
    """All numbers of a record, or of the file that a benchmark writes."""
    written = INDEX["records"][name].get("file")
    if written is not None:
        return [abs(number) for number in numbers(json.loads((REPOSITORY / written).read_text(encoding="utf-8")))]
    document = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return [abs(number) for output in document["outputs"] for number in numbers(output.get("json", output.get("text")))]


def occurs(figure: str, known: list[float]) -> bool:
    """Whether one of the numbers is written as this figure, whatever its sign."""
    wanted, distance = abs(value(figure)), half_a_digit(figure)
    return any(math.isclose(wanted, number, rel_tol=1e-12, abs_tol=distance * (1 + 1e-9)) for number in known)


def computed(formula: str) -> float:
    """The value of a formula of numbers."""

    def evaluate(node: ast.expr) -> float:
        if isinstance(node, ast.BinOp):
            return OPERATORS[type(node.op)](evaluate(node.left), evaluate(node.right))
        assert isinstance(node, ast.Constant), formula
        return float(node.value)

    return evaluate(ast.parse(formula, mode="eval").body)


def section_text(document: str, heading: str) -> str:
    """The text below a heading, up to the next heading."""
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    parts = re.split(r"^(#{1,4} .*)$", re.sub(r"^```\n", "~~~\n", text, flags=re.MULTILINE), flags=re.MULTILINE)
    titles = [part.lstrip("# ") for part in parts[1::2]]
    assert titles.count(heading) == 1, f"{document} has {titles.count(heading)} headings '{heading}'"
    return parts[2::2][titles.index(heading)]


@pytest.mark.parametrize("section", INDEX["sections"], ids=SECTIONS)
def test_figures_of_a_section_stand_in_its_records(section):
    known = [number for name in section.get("records", []) for number in recorded(name)]
    given = {**section.get("derived", {}), **section.get("quoted", {})}
    text = section_text(section["document"], section["heading"])
    missing = [figure for figure in figures(text) if figure not in given and not occurs(figure, known)]
    assert missing == [], f"renew the record, state a formula (derived), or say who published it (quoted): {missing}"
    assert [figure for figure in given if figure not in figures(text)] == []


@pytest.mark.parametrize("section", INDEX["sections"], ids=SECTIONS)
def test_derived_figures_follow_from_the_records(section):
    known = [number for name in section.get("records", []) for number in recorded(name)]
    for figure, formula in section.get("derived", {}).items():
        assert occurs(figure, [abs(computed(formula))]), f"{formula} is {computed(formula)}, the text says {figure}"
        for operand in re.findall(NUMBER, formula):
            assert occurs(operand, known), f"{figure}: {operand} stands in no record of the section"


def test_every_section_with_figures_has_records_or_a_reason():
    listed = {(section["document"], section["heading"]) for section in INDEX["sections"]}
    reasons = {(entry["document"], heading) for entry in INDEX["without"] for heading in entry["headings"]}
    assert listed & reasons == set()
    for document in INDEX["documents"]:
        text = (REPOSITORY / document).read_text(encoding="utf-8")
        for heading in re.findall(
            r"^#{1,4} (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), flags=re.MULTILINE
        ):
            if figures(section_text(document, heading)):
                assert (document, heading) in listed | reasons, f"{document}: '{heading}' has figures and no record"


def test_every_record_belongs_to_a_section_and_was_written_by_its_commands():
    used = {name for section in INDEX["sections"] for name in section.get("records", [])}
    assert used == set(INDEX["records"])
    run = {name: record for name, record in INDEX["records"].items() if "file" not in record}
    assert {path.stem for path in FOLDER.glob("*.json")} == set(run)
    for name, record in run.items():
        document = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        assert [output["command"] for output in document["outputs"]] == record["commands"], name


def test_tables_of_the_documents_are_those_of_the_records():
    loader = SourceFileLoader("records", str(REPOSITORY / "scripts" / "records.py"))
    script = module_from_spec(spec_from_loader("records", loader))  # type: ignore[arg-type]
    loader.exec_module(script)
    for document in sorted((REPOSITORY / "docs").glob("*.md")):
        text = document.read_text(encoding="utf-8")
        assert script.with_tables(text) == text, f"{document.name}: make results ARGS=--tables"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("95.82 % of 2,458 in 784-800-10 at 1.13E-05 J", ["95.82", "2,458", "1.13E-05"]),
        ("20 epochs, seed 0, version 0.10.0, Loihi 2", []),
        ("one of ten, 50 % of them", ["50"]),
        ("lost -0.19 and +0.25 points", ["-0.19", "0.25"]),
        ("`--dt 0.5` and [a link](1.5.md)", []),
    ],
)
def test_what_counts_as_a_figure(text, found):
    assert figures(text) == found


def test_a_figure_is_compared_at_the_digits_that_it_shows():
    assert occurs("95.8", [95.82])
    assert not occurs("95.9", [95.82])
    assert occurs("1.13E-05", [1.134e-5])
    assert not occurs("1.14E-05", [1.134e-5])
    assert occurs("2,458", [2458.0])
    assert not occurs("2,458", [2459.0])
