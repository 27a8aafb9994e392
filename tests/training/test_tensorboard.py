"""TensorBoard gets the metrics of every epoch."""

from __future__ import annotations

import json

import pytest

from esl_neuro.cli.main import main
from esl_neuro.training.epoch_metrics import EpochMetrics
from esl_neuro.training.tensorboard import TensorBoard

pytest.importorskip("tensorboard")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

METRICS = EpochMetrics(
    epoch=2,
    iteration=40,
    loss=0.5,
    train_accuracy=0.75,
    validation_accuracy=0.625,
    spikes_per_neuron=1.5,
    density=0.25,
    connections=100,
    births=7,
    explored=0.5,
    learning_rate=0.125,
    thresholds={"lif1": [0.5, 1.0, 2.0]},
    energy={"operations_nj": 640.0, "multiplier_per_nj": 0.25, "quiet_layers": ["lif1"]},
)


def read(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_every_metric_and_threshold_arrives_at_its_iteration(tmp_path):
    TensorBoard(tmp_path).on_epoch(METRICS)
    scalars = read(tmp_path)
    assert scalars.pop("threshold/lif1/min") == [(40, 0.5)]
    assert scalars.pop("threshold/lif1/mean") == [(40, 1.0)]
    assert scalars.pop("threshold/lif1/max") == [(40, 2.0)]
    assert scalars.pop("energy/operations_nj") == [(40, 640.0)]
    assert scalars.pop("energy/multiplier_per_nj") == [(40, 0.25)]
    figures = {name: value for name, value in vars(METRICS).items() if name not in ("thresholds", "energy")}
    assert scalars == {name: [(40, value)] for name, value in figures.items()}


def test_a_run_writes_the_figures_of_its_metrics_beside_them(tmp_path):
    small = ("--set", "training.epochs=2", "--set", "network.notation=64-8-10", "--set", "data.steps=2")
    assert main(["train", "--tensorboard", "--runs", str(tmp_path), *small]) == 0
    run = tmp_path / "mlp-digits-001"
    scalars = read(run)
    for line in (run / "metrics.jsonl").read_text().splitlines():
        entry = json.loads(line)
        assert (entry["iteration"], pytest.approx(entry["validation_accuracy"])) in scalars["validation_accuracy"]
    assert len(scalars["loss"]) == 2


def test_without_tensorboard_nothing_is_begun(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main(["train", "--tensorboard", "--runs", str(tmp_path)]) == 3
    assert capsys.readouterr().err.count("pip install tensorboard") == 1
    assert list(tmp_path.iterdir()) == []
