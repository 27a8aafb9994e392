"""A recipe with all its fields, changed in one place, and what is said of a wrong one."""

from __future__ import annotations

import copy

import pytest

from esl_neuro.errors import BadInput
from esl_neuro.recipes import parse_recipe

DOCUMENT = {
    "name": "small",
    "title": "a small network",
    "data": {"name": "digits", "encoding": "even_rate", "steps": 4, "cut": "count"},
    "network": {
        "neuron": "lif",
        "notation": "64-16-10",
        "tau": 0.5,
        "threshold": 1.0,
        "surrogate": "arctan",
        "surrogate_width": 1.0,
        "mode": "stl",
        "thresholds": "channel",
        "reset": "zero",
        "timing": "aligned",
        "delay_slots": 1,
        "delay_stride": 1,
        "bias": False,
        "readout": "spikes",
    },
    "sparsity": {
        "learner": "esl",
        "storage": "masked",
        "layers": ["fc1"],
        "density": 0.2,
        "distribution": "erdos_renyi",
        "alpha": 0.3,
        "schedule": "cosine",
        "update_every": 10,
        "end": 0.75,
        "prune": "magnitude",
        "threshold": 1e-3,
        "growth": {"momentum": 0.5, "random": 0.5},
    },
    "training": {
        "epochs": 2,
        "batch": 64,
        "accumulation": 1,
        "loss": "tet",
        "tet_lambda": 0.0,
        "optimiser": "adam",
        "learning_rate": 0.01,
        "rate_schedule": "cosine",
        "final_rate": 0.0,
        "weight_decay": 0.0,
        "momentum": 0.9,
        "seed": 0,
        "threads": 1,
        "device": "cpu",
        "precision": "float32",
        "input_bits": 8,
    },
    "expected": {"test_accuracy": 0.9, "source": "nobody"},
    "published": {"test_accuracy": 0.95, "source": "a paper"},
}


def changed(field, value):
    document = copy.deepcopy(DOCUMENT)
    *sections, key = field.split(".")
    section = document
    for name in sections:
        section = section[name]
    section[key] = value
    return document


def refusal(document):
    with pytest.raises(BadInput) as caught:
        parse_recipe(document, "my.toml")
    message = str(caught.value)
    assert message.startswith("my.toml: ")
    assert "\n" not in message
    return message
