"""Figures of an update, by hand."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from esl_neuro.sparsity import Degrees
from esl_neuro.sparsity.masks import SparseLayer
from esl_neuro.sparsity.telemetry import CELLS, describe_update, picture_connections


def test_figures_of_a_layer_by_hand():
    weight = nn.Parameter(torch.tensor([[1.0, -2.0, 3.0, 0.0], [0.0, 0.0, 0.5, 0.0]]))
    mask = torch.tensor([[True, True, True, False], [False, False, True, False]])
    ever = mask.clone()
    ever[1, 0] = True
    update = describe_update(SparseLayer("fc", weight, mask, ever), 30, births=2, deaths=1)
    assert (update.layer, update.iteration, update.births, update.deaths, update.replaced) == ("fc", 30, 2, 1, 2)
    assert (update.connections, update.density, update.turnover, update.explored) == (4, 0.5, 0.5, 0.625)
    assert update.positive_share == 0.75
    assert update.fan_in == Degrees(1, 2.0, 3, 1.0)
    assert update.fan_out == Degrees(0, 1.0, 2, pytest.approx(math.sqrt(0.5)))


def test_degrees_of_a_convolution_are_those_of_its_channels():
    mask = torch.zeros(2, 3, 2, 2, dtype=torch.bool)
    mask[0, 1] = True
    mask[1, 1, 0, 0] = True
    update = describe_update(SparseLayer("conv", nn.Parameter(mask.float()), mask, mask), 1, 0, 0)
    assert update.fan_in == Degrees(1, 2.5, 4, 1.5)
    assert (update.fan_out.min, update.fan_out.max) == (0, 5)


def test_layer_without_weights_has_figures_too():
    mask = torch.zeros(2, 2, dtype=torch.bool)
    update = describe_update(SparseLayer("fc", nn.Parameter(torch.zeros(2, 2)), mask, mask), 1, 0, 3)
    assert (update.turnover, update.positive_share, update.density) == (0, 0.5, 0)


def test_record_is_plain_json():
    mask = torch.ones(2, 2, dtype=torch.bool)
    update = describe_update(SparseLayer("fc", nn.Parameter(torch.ones(2, 2)), mask, mask), 5, 1, 1)
    record = json.loads(json.dumps(update.to_dict()))
    assert record["fan_in"] == {"min": 2, "mean": 2.0, "max": 2, "std": 0.0}
    assert record["births"] == 1


def test_connections_of_a_large_layer_are_exact():
    """Sums in single precision lose ones beyond 2**24."""
    mask = torch.ones(3, 2**23 // 3 * 2 + 7, dtype=torch.bool)
    update = describe_update(SparseLayer("fc", nn.Parameter(mask.to(torch.float16)), mask, mask), 1, 0, 0)
    assert update.connections == mask.numel() > 2**24


@pytest.mark.parametrize("shape", [(3, 5), (CELLS, CELLS), (CELLS + 1, 2 * CELLS + 1), (90, 3, 3, 3), (1, 1)])
def test_a_picture_counts_every_connection_in_its_block(shape):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.3
    picture = picture_connections(SparseLayer("fc", nn.Parameter(mask.float()), mask, mask), 7)
    assert (picture.layer, picture.iteration) == ("fc", 7)
    flat = mask.flatten(1)
    assert [sum(picture.rows), sum(picture.columns)] == list(flat.shape)
    assert max(len(picture.rows), len(picture.columns)) <= CELLS
    assert len({*picture.rows[:-1], *picture.columns[:-1]}) <= 2  # one size on each axis, but for the last block
    by_hand = [[int(block.sum()) for block in rows.split(picture.columns, dim=1)] for rows in flat.split(picture.rows)]
    assert json.loads(json.dumps(picture.to_dict()))["counts"] == by_hand
