"""Trials: their ranks, and which of them are stopped."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_neuro.training.trials import PEERS, STARTED, Measure, TrialRecord, beaten, ranks

ALL = ["accuracy", "energy", "connections"]
figures = st.builds(
    Measure, st.integers(0, 3).map(lambda n: n / 3), st.integers(1, 3).map(float), st.integers(1, 3).map(float)
)
objectives = st.sampled_from([ALL, ["accuracy"], ["accuracy", "energy"], ["connections", "accuracy"]])


def worse_somewhere(one: Measure, other: Measure, names: list[str]) -> bool:
    """Whether one is worse than another in an objective, by their definition."""
    worse = {
        "accuracy": one.accuracy < other.accuracy,
        "energy": one.energy_pj > other.energy_pj,
        "connections": one.connections > other.connections,
    }
    return any(worse[name] for name in names)


@given(st.lists(figures, max_size=7), objectives)
def test_ranks_are_those_of_fronts_taken_away_one_after_the_other(measures, names):
    """The oracle counts, for each trial, the longest chain of trials of which each beats the next."""

    def beats(one, other):
        return not worse_somewhere(one, other, names) and worse_somewhere(other, one, names)

    def chain(own):
        return 1 + max((chain(each) for each in measures if beats(each, own)), default=0)

    assert ranks(dict(enumerate(measures)), names) == {number: chain(own) for number, own in enumerate(measures)}


def records(measures, epoch=3):
    return [TrialRecord(number, STARTED, {}, {epoch: each}) for number, each in enumerate(measures)]


@given(st.lists(figures, min_size=PEERS + 1, max_size=9), objectives)
def test_a_stopped_trial_is_beaten_by_another_and_at_most_half_of_the_trials_are_stopped(measures, names):
    every = records(measures)
    stopped = [each for each in every if beaten(each.number, 3, every, names)]
    assert 2 * len(stopped) <= len(every)
    for each in stopped:
        assert any(other.beats(each.reached[3], names) for other in measures)


def test_a_trial_that_is_worse_than_the_middle_one_is_stopped_with_the_reason():
    measures = [Measure(0.9, 1, 1), Measure(0.8, 1, 1), Measure(0.7, 1, 1), Measure(0.6, 1, 1), Measure(0.5, 1, 1)]
    words = [beaten(number, 3, records(measures), ALL) for number in range(5)]
    assert words[:3] == [None] * 3
    assert words[4] == "50.00 % after 3 epochs: rank 5 of 5 trials; the middle one has rank 3"


def test_none_is_stopped_before_enough_others_have_reached_the_epoch():
    measures = [Measure(0.9 - 0.1 * number, 1, 1) for number in range(PEERS)]
    assert [beaten(number, 3, records(measures), ALL) for number in range(PEERS)] == [None] * PEERS
    others = [*records(measures), replace(records([Measure(1, 1, 1)], epoch=5)[0], number=PEERS)]
    assert beaten(PEERS - 1, 3, others, ALL) is None


@pytest.mark.parametrize("name", ["energy", "connections"])
def test_the_cheapest_trial_goes_on_whatever_its_accuracy(name):
    cheap = Measure(0.1, 1, 1)
    measures = [replace(cheap, accuracy=0.9, energy_pj=2, connections=2)] * PEERS + [cheap]
    assert beaten(PEERS, 3, records(measures), ["accuracy", name]) is None
    assert beaten(
        PEERS, 3, records([*measures[:PEERS], replace(cheap, energy_pj=3, connections=3)]), ["accuracy", name]
    )


def test_the_figures_of_several_seeds_are_their_means():
    assert Measure.mean_of([Measure(0.5, 1, 10), Measure(1.0, 3, 20)]) == Measure(0.75, 2, 15)
