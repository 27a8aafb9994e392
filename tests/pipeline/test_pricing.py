"""Energy of a run: the same numbers as from the energy room, printed in ten lines."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import esl_neuro as esl
from esl_neuro.energy import report as reports
from esl_neuro.errors import BadInput
from esl_neuro.pipeline.compilation import compile
from esl_neuro.pipeline.operations import count_operations, price_operations
from esl_neuro.pipeline.pricing import compare_energy, energy_report, target_names
from esl_neuro.resources import resource_names

TARGETS = ["truenorth", "loihi", "v100-pcie"]


@pytest.fixture(scope="module")
def result(run):
    return compile(run).run(esl.test_set(run, 50))


def test_a_report_has_the_numbers_of_the_energy_room(result):
    by_hand = reports.energy_report(
        result.program, result.trace, TARGETS, ran_on=result.ran_on, accuracy=result.accuracy
    )
    assert energy_report(result, TARGETS).to_dict() == by_hand.to_dict()


def test_a_report_is_printed_in_ten_lines(result):
    report = energy_report(result, TARGETS)
    for text in (str(report), repr(report)):
        assert len(text.splitlines()) <= 10
        assert max(map(len, text.splitlines())) <= 100
        assert all(name in text for name in TARGETS)
    assert "50 test samples x 4 steps (integer), accuracy" in str(report)


def test_targets_are_read_before_anything_is_priced(result):
    with pytest.raises(BadInput, match="did you mean 'loihi2'"):
        energy_report(result, ["loihi", "lohi2"])
    assert target_names("loihi") == ("loihi",)
    assert target_names(["all"]) == tuple(resource_names("hw_targets"))


def test_a_network_beside_itself_needs_as_much(result):
    compared = compare_energy(result, result, TARGETS, names=("one", "other"))
    assert [side.name for side in compared.sides] == ["one", "other"]
    assert compared.comparisons
    assert all(each.ratio == 1 for each in compared.comparisons)


def test_operations_of_a_torch_module_are_counted_in_the_stated_layout():
    layer = nn.Linear(6, 4)
    with torch.no_grad():
        layer.weight[0] = 0
    spikes = (torch.rand(3, 5, 6, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    expected = int(spikes.sum()) * 3
    for inputs, layout in ((spikes, "steps,samples,..."), (spikes.swapaxes(0, 1).numpy(), "samples,steps,...")):
        counts = count_operations(layer, inputs, layout=layout)
        assert (counts.samples, counts.steps, counts.total("sop_effective")) == (5, 3, expected)
    priced = price_operations(counts, ["loihi"])
    assert {estimate.target for estimate in priced} == {"loihi"}
