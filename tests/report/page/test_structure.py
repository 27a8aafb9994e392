from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_neuro.compiler.placement import place, utilisation
from esl_neuro.hardware import load_target
from esl_neuro.report.page import structure
from esl_neuro.report.page.structure import BINS, cores, histogram, layer_structures, rasters
from report.programs import chain


@given(st.lists(st.integers(-50, 10**6), min_size=1, max_size=60))
def test_a_histogram_counts_every_whole_number_once(values):
    found = histogram(np.array(values))
    assert sum(found.counts) == len(values)
    assert len(found.edges) == len(found.counts) + 1
    assert len(found.counts) <= BINS
    for low, high, count in zip(found.edges, found.edges[1:], found.counts, strict=False):
        assert count == sum(low < value < high for value in values)
    assert (found.min, found.max) == (min(values), max(values))
    assert found.mean == pytest.approx(np.mean(values))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_a_histogram_counts_every_real_number_once(values):
    found = histogram(np.array(values))
    assert sum(found.counts) == len(values)
    assert found.edges[0] <= min(values)
    assert max(values) <= found.edges[-1]


def test_degrees_and_thresholds_are_those_of_the_matrices():
    program = chain((9, 6, 4), 0.4)
    for found, connection in zip(layer_structures(program), program.connections, strict=True):
        dense = connection.weights.toarray() != 0
        assert (found.layer, found.stored, found.possible) == (connection.target, dense.sum(), dense.size)
        assert (found.fan_in.min, found.fan_in.max) == (dense.sum(1).min(), dense.sum(1).max())
        assert found.fan_in.mean == pytest.approx(dense.sum(1).mean())
        assert (found.fan_out.min, found.fan_out.max) == (dense.sum(0).min(), dense.sum(0).max())
        assert found.thresholds.mean == 1.0


def test_cores_hold_all_neurons_and_synapses_of_their_layer():
    program, chip = chain((60, 40, 10), 0.2), load_target("loihi2")
    placement = place(program, chip)
    found = cores(program, placement, utilisation(program, placement, chip), chip.name)
    assert len(found.cores) == placement.cores
    for group, connection in zip(program.groups, program.connections, strict=True):
        mine = [core for core in found.cores if core.layers == (group.name,)]
        assert sum(core.neurons for core in mine) == group.neurons
        assert sum(core.synapses for core in mine) == connection.stored
    limits = {each.name: each.limit for each in found.resources}
    for core in found.cores:
        shares = {
            "neurons": core.neurons / limits["neurons_per_core"],
            "synapses": core.synapses / limits["synapses_per_core"],
        }
        assert core.share == max(shares.values())
        assert core.fullest == max(shares, key=shares.get)
    assert found.too_large == ()


def test_a_raster_has_the_spikes_of_the_first_sample(monkeypatch):
    monkeypatch.setattr(structure, "SHOWN_NEURONS", 3)
    spikes = np.zeros((2, 4, 5), dtype=np.uint8)
    spikes[0, 1, 2] = spikes[0, 3, 4] = spikes[1, 0, 0] = 1
    (found,) = rasters({"a": spikes})
    assert (found.spikes, found.total, found.shown, found.neurons, found.steps) == (((1, 2),), 2, 3, 5, 4)
