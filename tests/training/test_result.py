"""The figures of a run are read as they were written, or refused by name."""

from __future__ import annotations

import json

import pytest

from esl_neuro.errors import BadInput
from esl_neuro.training.cost import Memory, Phases, TrainingCost, TrainingWork, Work
from esl_neuro.training.result import TrainingResult, read_result, write_result

RESULT = TrainingResult(
    recipe="mlp-digits",
    seed=0,
    test_accuracy=0.95,
    test_samples=359,
    validation_accuracy=0.96,
    best_epoch=3,
    epochs=4,
    connections=314,
    density=0.15,
    spikes_per_neuron=1.5,
    seconds=2.25,
    cost=TrainingCost(
        work=TrainingWork(run=Phases(forward=Work(operations=7, bytes=8)), events=3),
        parameter_bytes=20,
        dense_parameter_bytes=30,
    ),
    memory=Memory(peak_bytes=200, start_bytes=100),
)
MEASURED = ("cost", "memory")


def test_figures_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "result.json"
    write_result(path, RESULT)
    assert read_result(path, "train again") == RESULT


def test_figures_of_earlier_versions_have_no_cost(tmp_path):
    path = tmp_path / "result.json"
    path.write_text(json.dumps({name: value for name, value in RESULT.model_dump().items() if name not in MEASURED}))
    assert read_result(path, "train again") == RESULT.model_copy(update=dict.fromkeys(MEASURED))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", "output"),
        ("epochs", 2.5),
        ("seconds", float("nan")),
        ("density", 1.5),
        ("test_accuracy", "0.9"),
        ("connections", -1),
        ("connections", True),
        ("other", 1),
        ("cost", {"work": {"events": -1}}),
        ("memory", {"peak_bytes": 1.5, "start_bytes": 1}),
    ],
)
def test_damaged_figures_are_named_with_the_fix(tmp_path, field, value):
    path = tmp_path / "result.json"
    path.write_text(json.dumps({**RESULT.model_dump(), field: value}))
    with pytest.raises(BadInput) as caught:
        read_result(path, "train again")
    assert field in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith("train again")


def test_every_missing_figure_is_named(tmp_path):
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"recipe": "mlp-digits"}))
    with pytest.raises(BadInput) as caught:
        read_result(path, "train again")
    needed = [name for name, field in TrainingResult.model_fields.items() if field.is_required() and name != "recipe"]
    assert all(name in str(caught.value) for name in needed)
