"""Traces survive their file, and the file is NIRData."""

from __future__ import annotations

from dataclasses import replace

import nir
import numpy as np
import pytest

from backends.random_programs import random_program, random_spikes
from esl_neuro.backends.divergence import diverge
from esl_neuro.backends.golden import read_trace, write_trace
from esl_neuro.backends.integer import run_integer
from esl_neuro.errors import BadInput


@pytest.fixture
def trace():
    rng = np.random.default_rng(3)
    program = random_program(rng, depth=3, steps=6)
    return run_integer(program, random_spikes(rng, program, 4), record_potentials=True)


def test_reads_back_equal(trace, tmp_path):
    with_last = replace(trace, potential=trace.v["layer 3"][:, -1])
    for each in (trace, with_last, replace(trace, u={}, v={})):
        write_trace(tmp_path / "trace.h5", each, 1e-4)
        again = read_trace(tmp_path / "trace.h5")
        assert list(again.spikes) == list(each.spikes)
        assert again.backend == each.backend
        assert np.array_equal(again.input_spikes, each.input_spikes)
        assert (set(again.u), set(again.v)) == (set(each.u), set(each.v))
        assert diverge(each, again) is None
        assert again.predictions().tolist() == each.predictions().tolist()


def test_graded_inputs_keep_their_payload(trace, tmp_path):
    graded = replace(trace, input_spikes=trace.input_spikes.astype(np.int32) * 37)
    write_trace(tmp_path / "trace.h5", graded, 1e-4)
    assert np.array_equal(read_trace(tmp_path / "trace.h5").input_spikes, graded.input_spikes)


def test_readers_of_nir_can_open_it(trace, tmp_path):
    write_trace(tmp_path / "trace.h5", trace, 1e-4)
    data = nir.read_data(str(tmp_path / "trace.h5"))
    spikes = data.nodes["layer 2"].observables["spikes"]
    assert spikes.data.dtype == bool
    assert spikes.dt == 1e-4
    assert np.array_equal(spikes.data, trace.spikes["layer 2"].astype(bool))


def test_files_that_are_no_trace_are_refused(trace, tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        read_trace(tmp_path / "nothing.h5")
    (tmp_path / "noise.h5").write_bytes(b"noise")
    with pytest.raises(BadInput, match="not a readable NIRData"):
        read_trace(tmp_path / "noise.h5")
    only_input = nir.NIRGraphData({"input": nir.NIRNodeData({"spikes": nir.TimeGriddedData(trace.input_spikes, 1.0)})})
    nir.write_data(tmp_path / "half.h5", only_input)
    with pytest.raises(BadInput, match="the file has no spikes of any group"):
        read_trace(tmp_path / "half.h5")
