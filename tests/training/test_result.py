"""The figures of a run are read as they were written, or refused by name."""

from __future__ import annotations

import json

import pytest

from esl_neuro.errors import BadInput
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
)


def test_figures_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "result.json"
    write_result(path, RESULT)
    assert read_result(path, "train again") == RESULT


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
    assert all(name in str(caught.value) for name in TrainingResult.model_fields if name != "recipe")
