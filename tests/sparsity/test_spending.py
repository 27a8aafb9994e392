"""Connections are chosen by value over price, within the synaptic operations that an energy leaves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_neuro.errors import CheckFailed
from esl_neuro.sparsity.capped_choice import RowRoom, best, nth_free
from esl_neuro.sparsity.spending import ProductOperations, Spending, StoredOperations

COSTS = st.lists(st.integers(0, 9), min_size=12, max_size=12)


def room(costs, left, multiplier=0.0, inner=None):
    operations = StoredOperations(np.array(costs, np.int64))
    spending = Spending({"fc": operations}, max(float(np.mean(costs)), 1e-9), multiplier, left)
    return spending.room("fc", np.empty(0, np.int64), (3, 4), inner)


@given(COSTS, st.permutations(range(12)), st.integers(-5, 60), st.integers(0, 12))
def test_candidates_are_taken_from_the_best_to_the_worst_where_the_energy_allows_them(costs, order, left, count):
    expected, rest = [], max(left, 0)
    for place, position in enumerate(order):
        if len(expected) < count and costs[position] <= rest:
            rest -= costs[position]
            expected.append(place)
    assert room(costs, left).accept(np.array(order), count).tolist() == expected


@given(COSTS, st.permutations(range(12)), st.integers(0, 60), st.lists(st.integers(0, 4), min_size=3, max_size=3))
def test_a_fan_in_holds_as_well(costs, order, left, fan_in):
    inner = RowRoom(np.array(fan_in), 4, "fc")
    chosen = np.array(order)[room(costs, left, inner=inner).accept(np.array(order), 12)]
    cost = np.array(costs)[chosen].sum()
    gained = np.bincount(chosen // 4, minlength=3)
    assert cost <= left
    assert (gained <= fan_in).all()
    others = np.setdiff1d(order, chosen)  # nothing else would fit
    assert all(costs[other] + cost > left or gained[other // 4] == fan_in[other // 4] for other in others)


@pytest.mark.parametrize("multiplier", [0.0, 3.0])
@given(COSTS, st.integers(0, 60), st.integers(1, 12), st.integers(0, 99))
def test_random_draws_keep_the_energy(multiplier, costs, left, count, seed):
    each = room(costs, left, multiplier)
    taken = np.array([1, 6])
    free = np.array([3, 3, 4])
    drawn = each.draw(free, lambda ranks: nth_free(taken, ranks), min(count, 10), np.random.default_rng(seed))
    assert len(set(drawn.tolist()) - {1, 6}) == len(drawn) <= count
    assert np.array(costs)[drawn].sum() <= left


def test_random_draws_prefer_low_prices():
    costs = [0] * 6 + [10] * 6  # prices 1 and 1 + 2
    each, rng = room(costs, 10_000, multiplier=1.0), np.random.default_rng(0)
    drawn = [int(each.draw(np.array([4, 4, 4]), lambda ranks: ranks, 1, rng)[0]) for _ in range(2000)]
    assert 0.65 < np.mean(np.array(drawn) < 6) < 0.75  # 3 to 1 among the few positions that are looked at


def test_prices_are_one_plus_the_multiplier_times_the_share_of_the_operations():
    spending = Spending({"fc": StoredOperations(np.array([0, 2, 6]))}, 2.0, 0.5, 0)
    assert spending.price("fc")(np.arange(3)).tolist() == [1.0, 1.5, 2.5]
    spending.multiplier = 0.0
    assert spending.price("fc") is None


def test_an_update_counts_what_dies_and_what_is_born():
    spending = Spending({"fc": StoredOperations(np.arange(12))}, 5.5, 0.0, 3)
    assert spending.room("fc", np.array([7, 8]), (3, 4), None).left == 18
    spending.exchange("fc", np.array([7, 8]), np.array([1, 2]))
    assert spending.left == 15


def test_a_rule_that_ignores_the_energy_is_reported():
    each = room(range(12), 20)
    assert each.after(np.array([9, 11]), "mine").left == 0
    with pytest.raises(CheckFailed, match=r"'mine': the connections that it chose cause 21 .* leaves 20"):
        each.after(np.array([10, 11]), "mine")


@given(st.integers(0, 999))
def test_operations_of_sparse_storage_are_products(seed):
    rng = np.random.default_rng(seed)
    met, sent = rng.integers(0, 5, (3, 2)), rng.integers(0, 9, (4, 2))
    product, positions = ProductOperations(met, sent), np.arange(12)
    assert product.at(positions).tolist() == (met @ sent.T).ravel().tolist()
    assert product.most() >= product.at(positions).max()


def test_the_best_by_value_over_price_within_the_energy_are_chosen():
    costs = np.array([8, 1, 1, 1, 8, 8, 0, 0, 1, 1, 1, 1])
    scores = np.arange(12.0)[::-1]
    assert best(scores, np.arange(12), room(costs, 10), 3).tolist() == [0, 1, 2]
    assert best(scores, np.arange(12), room(costs, 2), 4).tolist() == [1, 2, 6, 7]
