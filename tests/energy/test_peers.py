"""Counts of NeuroBench and SANA-FE, in an environment of their own: ``ESL_NEURO_PEERS`` is its interpreter."""

from __future__ import annotations

import os

import pytest

from peer_counts import compare, differences

PEERS = os.environ.get("ESL_NEURO_PEERS")


@pytest.mark.skipif(PEERS is None, reason="set ESL_NEURO_PEERS to an interpreter that has NeuroBench and SANA-FE")
def test_counts_are_those_of_neurobench_and_sanafe():
    result = compare(str(PEERS))
    assert differences(result) == []
    assert result["sanafe"]["energy_ratio"] == pytest.approx(1, abs=0.05)
