"""Published figures beside measured ones, as text and as a chart."""

from __future__ import annotations

import pytest

from esl_neuro.report.reproduction_text import (
    density_lines,
    draw_reproduction,
    figure_lines,
    reproduction_markdown,
    reproduction_text,
)


def cell(row, published=None, measured=None, *, quantity="test_accuracy", unit="%", not_run=None, **more):
    return {
        "row": row,
        "quantity": quantity,
        "unit": unit,
        "line": None,
        "x": None,
        "published": None if published is None else {"value": published, "grade": "table", "source": "Table 1"},
        "unpublished": "no number is known" if published is None else None,
        "measured": None
        if measured is None
        else {"mean": measured, "stdev": 0.25, "seeds": [0, 1], "sweep": "s", "case": "c", "counted_in": None},
        "not_run": not_run,
        "difference": measured - published if measured is not None and published is not None else None,
        **more,
    }


def document(*cells, comparable=True, densities=None):
    return {
        "title": "Table 1",
        "paper": "A paper",
        "scale": "short",
        "network": "784-800-10 on MNIST",
        "comparable": comparable,
        "drawn": "test_accuracy",
        "x_label": "epsilon",
        "cells": list(cells),
        "densities": densities or {},
        "statements": [{"text": "it rises", "source": "text"}],
        "notes": ["a note"],
        "sweeps": [{"command": "esl-neuro sweep s", "done": 1, "runs": 2, "minutes": 3.0}],
    }


def line_with(text, word):
    return next(line for line in text.splitlines() if word in line)


def test_published_and_measured_stand_in_one_row():
    line = line_with(reproduction_text(document(cell("sparse", 96.58, 96.13))), "96.58")
    for word in ("sparse", "96.58 %", "table, Table 1", "96.13 %", "0.25", "2", "-0.45", "s: c"):
        assert word in line


def test_energies_have_the_digits_of_the_paper():
    text = reproduction_text(document(cell("sparse", 1.84e-6, 1.8397e-6, quantity="gpu_energy_j", unit="J")))
    assert "1.84E-06 J" in line_with(text, "gpu energy")


def test_reasons_are_listed_once_with_their_rows():
    text = reproduction_text(document(cell("a", 1.0, not_run="needs a GPU"), cell("b", 2.0, not_run="needs a GPU")))
    assert "- a (test accuracy); b (test accuracy): needs a GPU" in text
    assert text.count("not run") == 2


@pytest.mark.parametrize("words", ["no number is known", "it rises (text)", "a note", "esl-neuro sweep s (1 of 2 runs"])
def test_everything_else_that_the_record_says_is_printed(words):
    assert words in " ".join(reproduction_text(document(cell("a", None, 90.0))).split())


def test_other_data_than_the_papers_are_pointed_out():
    assert "no target" in reproduction_text(document(cell("a", 1.0, 2.0), comparable=False))
    assert "no target" not in reproduction_text(document(cell("a", 1.0, 2.0)))


def test_lines_are_published_and_measured():
    cells = [cell("a", 96.0, 95.0, x=10.0), cell("b", None, 97.0, x=20.0, line="MNIST"), cell("c", not_run="slow")]
    lines = figure_lines([*cells, cell("d", 1.0, 1.0, quantity="connections")], "test_accuracy")
    assert {name: [(p.place, p.mean, p.spread) for p in points] for name, points in lines.items()} == {
        "published": [(10.0, 96.0, None)],
        "measured": [(10.0, 95.0, 0.25)],
        "measured, MNIST": [(20.0, 97.0, 0.25)],
    }


def test_density_lines_have_every_update():
    frames = [{"iteration": 10 * k, "layers": {"fc1": {"density": k / 100}}} for k in range(1, 51)]
    points = density_lines(frames)["fc1"]
    assert [(point.place, point.mean) for point in points] == [(10.0 * k, pytest.approx(k)) for k in range(1, 51)]


def test_charts_are_drawn(tmp_path):
    frames = [{"iteration": k, "layers": {"fc1": {"density": 0.1}}} for k in (1, 2)]
    for name, drawn in (
        ("figures", document(cell("a", 1.0, 2.0))),
        ("densities", document(cell("a", 1.0, 2.0), densities={"case": frames})),
    ):
        path = tmp_path / f"{name}.svg"
        draw_reproduction(drawn, path)
        assert path.read_text().startswith("<?xml")


def test_energy_that_agrees_in_its_published_digits_has_no_difference():
    text = reproduction_text(document(cell("sparse", 1.29e-6, 1.288e-6, quantity="chip_energy_j", unit="J")))
    assert line_with(text, "chip energy").split()[-3] == "0"
    text = reproduction_text(document(cell("sparse", 1.29e-6, 1.4e-6, quantity="chip_energy_j", unit="J")))
    assert "+1.10E-07" in line_with(text, "chip energy")


def test_markdown_has_a_row_for_each_cell_and_names_what_was_not_run_once():
    cells = cell("a | b", 96.58, 96.13), cell("dense", 96.7, not_run="later"), cell("dense", not_run="later")
    lines = reproduction_markdown(document(*cells)).splitlines()
    assert lines[0] == "Scale short: 784-800-10 on MNIST."
    assert lines[2] == "| row | quantity | published | measured | seeds | difference |"
    assert lines[4] == "| a \\| b | test accuracy | 96.58 % (table, Table 1) | 96.13 % ± 0.25 | 2 | -0.45 |"
    assert lines[5] == "| dense | test accuracy | 96.70 % (table, Table 1) | not run |  |  |"
    assert lines[6] == "| dense | test accuracy | - | not run |  |  |"
    assert lines[8:] == ["- dense: later"]
