"""What training costs is what its connections, shapes and samples say."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from esl_neuro.pipeline.training import load_run, resume_training
from esl_neuro.snn import build_layers
from esl_neuro.snn.neurons import LIF, lif_per_channel
from esl_neuro.sparsity import Rewirer, SparseConv2d, SparseLinear, indexed_growth
from esl_neuro.training import cost
from esl_neuro.training.checkpoint import Checkpoint
from esl_neuro.training.cost import Amount, Product, Rule, parameter_bytes, rewiring_work, training_work
from esl_neuro.training.work_of_network import rule_of, work_of
from training.short_runs import nothing, start, with_learner

ADAM = Rule("adam", 2)


def layer(connections=30, *, possible=100, indexed=False, **changes):
    shape = {"inputs": 10, "outputs": 10, "positions": 1, "columns": 4, "reads_data": False, "binary": True}
    return Product(
        **{"possible": possible, "connections": connections, "indexed": indexed, "rate": 0.25, **shape, **changes}
    )


def network_of(notation, shape, linear=None):
    torch.manual_seed(0)
    network = build_layers(notation, shape, lif_per_channel(), linear=linear)
    return network, torch.optim.Adam(network.parameters())


@pytest.mark.parametrize(
    ("notation", "shape"), [("20-12-7", (20,)), ("4C3-AP2-10", (2, 6, 6)), ("4C3-BN-6C3-(8-5)x2", (1, 5, 5))]
)
@pytest.mark.parametrize("constant", [False, True])
def test_operations_of_products_are_those_that_torch_counts(notation, shape, constant):
    network, optimizer = network_of(notation, shape)
    inputs = torch.rand(3, 6, *shape) if not constant else torch.rand(6, *shape).expand(3, 6, *shape)
    rewirer = Rewirer(network, optimizer, layers="all", density=1.0, end=0)
    found = work_of(network, rewirer, inputs)
    with FlopCounterMode(display=False) as forward:
        output = network(inputs)
    with FlopCounterMode(display=False) as backward:
        output.sum().backward()
    work = training_work(found.layers.values(), 0, 0, ADAM, Amount(6, 1, 1))
    assert 2 * work.dense.forward.operations == forward.get_total_flops()
    assert 2 * work.dense.backward.operations == backward.get_total_flops()
    assert work.run.forward == work.dense.forward == work.alone.forward


def test_rates_and_updates_are_those_of_the_signals():
    network, optimizer = network_of("8-5-3", (8,))
    inputs = torch.zeros(4, 2, 8)
    inputs[1, :, 3] = 1
    rewirer = Rewirer(network, optimizer, layers=["fc1"], density=0.5, end=0)
    found = work_of(network, rewirer, inputs)
    first = found.layers["fc1"]
    assert (first.rate, first.binary, first.reads_data, first.connections, first.possible) == (
        1 / 32,
        True,
        True,
        20,
        40,
    )
    assert not found.layers["fc2"].reads_data
    assert found.updates == 4 * 5
    assert found.others == 5 + 3  # biases; the thresholds are not trained
    work = training_work([first], 0, 0, ADAM, Amount(10, 1, 1))
    assert work.events == round(1 / 32 * 20 * 4 * 10)


def test_a_layer_in_sparse_storage_takes_what_its_connections_take():
    network, optimizer = network_of("8-5-3", (8,), lambda name, *sizes: SparseLinear(*sizes) if name == "fc1" else None)
    rewirer = Rewirer(network, optimizer, layers=["fc1"], density=0.5, end=0, growth={"random": 1.0})
    found = work_of(network, rewirer, (torch.rand(4, 2, 8) < 0.5).float())
    assert found.layers["fc1"].indexed
    work = training_work(found.layers.values(), found.updates, found.others, ADAM, Amount(10, 2, 2))
    assert work.run == work.alone
    assert work.run.forward.operations == (20 + 15) * 4 * 10 + 5 * 4 * 5 * 10
    optimizer.zero_grad()
    network(torch.rand(4, 2, 8)).sum().backward()
    optimizer.step()
    assert rule_of("adam", optimizer, network.fc1.values) == ADAM


def test_a_sparse_convolution_uses_each_connection_at_every_position():
    conv = SparseConv2d(2, 3, 3, padding=1, bias=False)
    network = nn.Sequential(conv, LIF((3, 1, 1), learn_threshold=False))
    rewirer = Rewirer(
        network,
        torch.optim.SGD(network.parameters(), 0.1),
        layers="all",
        density=0.5,
        end=0,
        growth={"random": 1.0},
    )
    found = work_of(network, rewirer, (torch.rand(4, 2, 2, 5, 6) < 0.5).float()).layers["0"]
    assert (found.possible, found.connections, found.indexed) == (54, 27, True)
    assert (found.inputs, found.outputs, found.positions, found.columns) == (60, 90, 30, 4)


@given(connections=st.integers(1, 100), samples=st.integers(1, 50), batches=st.integers(1, 5), indexed=st.booleans())
def test_fewer_connections_never_cost_more_operations(connections, samples, batches, indexed):
    work = training_work([layer(connections, indexed=indexed)], 0, 0, ADAM, Amount(samples, batches, batches))
    assert work.alone.total.operations * 100 == work.dense.total.operations * connections
    expected = work.alone if indexed else work.dense
    assert work.run.total.operations == expected.total.operations


def test_bytes_of_a_small_layer_are_those_added_by_hand():
    amount = Amount(samples=8, passes=2, updates=2)
    dense = training_work([layer(100)], 0, 0, ADAM, amount).dense
    values = 10 * 4 * 8 * 4
    assert dense.forward.bytes == 100 * 4 * 2 + 2 * values
    assert dense.backward.bytes == 2 * (100 * 4 * 2 + 2 * values)
    assert dense.optimiser.bytes == 7 * 4 * 100 * 2
    sparse = training_work([layer(30, indexed=True)], 0, 0, ADAM, amount).run
    assert sparse.forward.bytes == 30 * 8 * 2 + values // 32 + values
    assert sparse.backward.bytes == (30 * 8 * 2 + values // 32 + values) + (30 * 20 * 2 + 2 * values)
    masked = training_work([layer(30)], 0, 0, ADAM, amount).run
    assert masked.optimiser.bytes == (7 * 4 * 100 + 100) * 2


def test_rules_that_need_gradients_of_absent_connections_pay_for_them():
    work = {
        name: rewiring_work(layer(30, indexed=True), {name: 6}, ADAM, samples=5).run.rewiring.operations
        for name in ("random", "gradient_on_candidates", "gradient")
    }
    assert work == {"random": 30 + 6, "gradient_on_candidates": 30 + 24 * (1 + 20), "gradient": 30 + 70 * (1 + 20)}
    masked = rewiring_work(layer(30), {"gradient": 6}, ADAM, samples=5).run.rewiring
    assert masked.operations == 30 + 70  # the backward pass has computed them
    assert masked.bytes == 4 * 30 + 4 * 70 + 2 * 100


def test_parameters_of_a_masked_layer_take_more_than_those_of_a_dense_one():
    assert parameter_bytes([layer(30)], 3, ADAM) == (16 * 103 + 100, 16 * 103)
    assert parameter_bytes([layer(30, indexed=True)], 3, ADAM) == (16 * 33 + 12 * 30, 16 * 103)


MEMORY = """
import numpy as np
from esl_neuro.training.peak_memory import peak_bytes, reset_peak, resident_bytes

before = resident_bytes() if reset_peak() else None
np.ones(2**23).sum()  # 64 MiB
print(before, peak_bytes(), resident_bytes())
"""


def test_peak_memory_is_that_of_a_large_array():
    printed = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True).stdout.split()
    if "None" in printed:
        pytest.skip("this system does not tell, or cannot reset the peak")
    before, peak, after = map(int, printed)
    assert 60 < (peak - before) / 2**20 < 80
    assert (peak - after) / 2**20 > 40


def interrupt(done, *_):
    if done == 5:
        signal.raise_signal(signal.SIGINT)


def begun(root, *overrides):
    """Return the folder of a run that was interrupted within an epoch."""
    trainer = start(root, *overrides)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(interrupt, nothing)
    return trainer.folder.path


def cost_of(trainer):
    trainer.run(nothing, nothing)
    figures = load_run(trainer.folder.path).figures
    assert figures.memory.peak_bytes >= figures.memory.start_bytes > 0
    return figures.cost


def test_a_resumed_run_has_counted_what_the_uninterrupted_one_has(tmp_path):
    whole = cost_of(start(tmp_path / "whole"))
    resumed = cost_of(resume_training(begun(tmp_path / "halved")))
    assert whole == resumed
    assert whole.work.run.rewiring.operations > 0


def test_a_run_that_an_earlier_version_began_is_not_counted(tmp_path):
    folder = begun(tmp_path)
    checkpoint = Checkpoint.load(folder, "last")
    del checkpoint.progress["work"]
    checkpoint.save(folder, "last")
    assert cost_of(resume_training(folder)) is None


@pytest.mark.parametrize("learner", ["set", "grad_r", "dense"])
def test_the_work_of_every_learner_is_counted(tmp_path, learner):
    work = cost_of(start(tmp_path, *with_learner(learner, epochs=1))).work
    assert work.run.forward.operations == work.dense.forward.operations
    assert (work.alone.forward.operations < work.dense.forward.operations) == (learner != "dense")
    assert (work.run.rewiring.operations > 0) == (learner == "set")


def test_memory_that_was_freed_before_training_began_is_in_the_peak(tmp_path):
    trainer = start(tmp_path, *with_learner("dense", epochs=1))
    trainer.cost.start_bytes = 2**50
    assert trainer.cost.memory().peak_bytes == 2**50


def test_candidates_of_a_birth_are_those_that_are_scored():
    assert cost.CANDIDATES_PER_BIRTH == indexed_growth.CANDIDATES_PER_BIRTH
