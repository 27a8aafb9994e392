"""The papers' notation."""

from __future__ import annotations

import pytest

from esl_neuro.errors import BadInput
from esl_neuro.snn.notation import (
    AvgPool,
    BatchNorm,
    Conv,
    ConvOverTime,
    Dense,
    DenseConv,
    Dropout,
    MaxPool,
    Voting,
    parse_layers,
)


@pytest.mark.parametrize(
    ("notation", "tokens"),
    [
        ("784-800-10", (Dense(784), Dense(800), Dense(10))),
        ("64C3", (Conv(64, 3, 1),)),
        ("128C5S2-BN", (Conv(128, 5, 2), BatchNorm())),
        ("64C3T5-8C5T3S2x2", (ConvOverTime(64, 3, 5, 1), ConvOverTime(8, 5, 3, 2), ConvOverTime(8, 5, 3, 2))),
        ("12D3x2-10", (DenseConv(12, 3), DenseConv(12, 3), Dense(10))),
        ("AP2-MP3", (AvgPool(2), MaxPool(3))),
        ("DP-DP0.25-DP.1", (Dropout(0.5), Dropout(0.25), Dropout(0.1))),
        ("100-V10", (Dense(100), Voting(10))),
        ("256C3x2-10", (Conv(256, 3, 1), Conv(256, 3, 1), Dense(10))),
        ("50x3", (Dense(50), Dense(50), Dense(50))),
    ],
)
def test_notation_becomes_tokens(notation, tokens):
    assert parse_layers(notation) == tokens


@pytest.mark.parametrize(
    ("notation", "part"),
    [
        ("", ""),
        ("64C", "64C"),
        ("C3", "C3"),
        ("64c3", "64c3"),
        ("784--10", ""),
        ("64C0-10", "64C0"),
        ("8C3T0-10", "8C3T0"),
        ("0-10", "0"),
        ("AP-10", "AP"),
        ("DP2", "DP2"),
        ("64C3x0", "64C3x0"),
        ("64C3xa", "64C3xa"),
        ("6\u00b2", "6\u00b2"),
    ],
)
def test_what_cannot_be_read_is_quoted_with_what_is_allowed(notation, part):
    with pytest.raises(BadInput) as caught:
        parse_layers(notation)
    assert f"'{part}' of '{notation}' cannot be read; allowed: 800 (neurons), 64C3" in str(caught.value)
