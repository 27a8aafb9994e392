"""Runs that the tests of the pipeline share."""

from __future__ import annotations

import pytest

from esl_neuro.pipeline.exports import export_run
from esl_neuro.pipeline.training import TrainingRun, train
from pipeline.small_recipes import GRADED, SINGLE_SPIKES, SMALL


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> TrainingRun:
    """A small network with spikes as input."""
    return train("mlp-digits", seed=0, changes=SMALL, runs=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def graded_run(tmp_path_factory) -> TrainingRun:
    """A network with graded input, whose readout is a potential."""
    return train("mlp-digits", changes=GRADED, runs=tmp_path_factory.mktemp("graded"))


@pytest.fixture(scope="session")
def quantised_run(tmp_path_factory) -> TrainingRun:
    """A network trained on the integers of the chip, with graded input."""
    changes = (*GRADED[:-1], "training.quantize=loihi2")
    return train("mlp-digits", changes=changes, runs=tmp_path_factory.mktemp("quantised"))


@pytest.fixture(scope="session")
def single_spike_run(tmp_path_factory) -> TrainingRun:
    """A single-spike network with exact times."""
    return train("mlp-fashion-temporal", changes=SINGLE_SPIKES, runs=tmp_path_factory.mktemp("single"))


@pytest.fixture(scope="session")
def exported(run, tmp_path_factory):
    """The small network, compiled, tested and saved."""
    return export_run(run, folder=tmp_path_factory.mktemp("export") / "loihi2")


@pytest.fixture(scope="module")
def cluster():
    """A scheduler with one worker of one thread, both in this process, which talk over the network."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp://", dashboard_address="127.0.0.1:0"
    ) as made:
        yield made
