"""What is run to count operations: inputs that contradict the network are refused, never rearranged."""

from __future__ import annotations

import nir
import numpy as np
import pytest

from esl_neuro.errors import BadInput
from esl_neuro.pipeline.activity import Activity, run_network
from pipeline.graphs import graph

FAN_OUT = 4  # of every input line of the graph


def test_spikes_with_the_steps_first_are_refused_for_a_file_that_declares_its_steps(tmp_path):
    nir.write(tmp_path / "net.nir", graph(steps=16))
    spikes = (np.random.default_rng(0).random((5, 16, 4)) < 0.3).astype(np.uint8)
    np.save(tmp_path / "good.npy", spikes)
    np.save(tmp_path / "swapped.npy", spikes.swapaxes(0, 1))
    result = run_network(tmp_path / "net.nir", Activity(inputs=tmp_path / "good.npy"))
    assert result.counts.total("sop_effective") == FAN_OUT * int(spikes.sum())
    with pytest.raises(BadInput, match="have 5 steps per sample; the network requires 16"):
        run_network(tmp_path / "net.nir", Activity(inputs=tmp_path / "swapped.npy"))
