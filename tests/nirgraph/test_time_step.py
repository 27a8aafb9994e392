"""The time step comes from the caller, else from the graph; nothing is made up."""

from __future__ import annotations

import nir
import numpy as np
import pytest

from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.time_step import time_step


def graph(**metadata):
    ends = {"input": nir.Input({"input": np.array([2])}), "output": nir.Output({"output": np.array([2])})}
    return nir.NIRGraph(ends, [("input", "output")], metadata)


def test_given_time_step_goes_before_that_of_the_metadata():
    assert time_step(graph(dt_s=1e-3)) == 1e-3
    assert time_step(graph(dt_s=1e-3), 2e-3) == 2e-3
    assert time_step(graph(), 2e-3) == 2e-3


def test_time_step_is_needed():
    with pytest.raises(BadInput, match="no 'dt_s' in its metadata"):
        time_step(graph())


@pytest.mark.parametrize("step", [0, -1e-3, float("nan"), float("inf")])
def test_time_step_must_be_positive(step):
    for given in ((graph(), step), (graph(dt_s=step), None)):
        with pytest.raises(BadInput, match="must be positive"):
            time_step(*given)


def test_time_step_that_is_no_number_is_refused():
    with pytest.raises(BadInput, match="must be a number of seconds"):
        time_step(graph(dt_s="1 ms"))
