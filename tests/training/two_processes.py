"""Train short runs with two processes, which torch's elastic launcher starts as torchrun does.

``python two_processes.py FOLDER`` trains every run of :data:`RUNS` below the folder, and once more the run that
:func:`disturbed` disturbs. The processes are forked from this one, which has imported all that they need.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from pathlib import Path

import torch
import torch._dynamo  # which the first step of an optimiser imports
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from esl_neuro.data import load_dataset
from esl_neuro.errors import BadInput, CheckFailed, ToldElsewhere
from esl_neuro.pipeline.training import train
from esl_neuro.training import trainer as training_loop
from esl_neuro.training.ranks import join_ranks
from training.short_runs import SHORT, with_learner

load_dataset("digits")  # once, before the processes are forked
EPOCHS, BATCHES = 2, 7  # the last batch has 3 samples, which two processes cannot divide evenly
FEW = (*SHORT, "data.samples=303", "training.batch=50", f"training.epochs={EPOCHS}", "sparsity.update_every=3")
FEW_IMAGES = ("data.name=digits_images", "data.augment=shift_one_pixel", "network.notation=4C3-BN-AP2-DP0.2-10")
SPARSE = ('sparsity.layers=["all"]', "sparsity.storage=sparse")
# Runs that are equal, bit for bit, to those of one process that computes the halves of a batch one after the other.
EXACT = {
    "masked": (),
    "other rules": (
        *("data.encoding=direct", "network.readout=accumulate", "network.notation=64-(12-10)x2"),
        *("training.optimiser=sgd", "training.precision=bfloat16", 'sparsity={learner="dense", layers=["all"]}'),
    ),
    "gradients of sparse storage": (*SPARSE, "sparsity.growth={gradient=0.5, gradient_on_candidates=0.5}"),
    "sparse storage": (*SPARSE, "sparsity.growth={random_unfired=1.0}", "network.notation=64-24-DP-10"),
    "integers": ("training.quantize=loihi2", "data.encoding=even_rate"),
    "single spikes": (
        'network={neuron="single_spike", notation="64-24-10"}',
        "data.encoding=binary_single_spike",
        "data.steps=2",
        "training.loss=first_spike",
    ),
    **{name: with_learner(name, EPOCHS) for name in ("deep_r", "admm")},
}
# Runs in which the halves of a batch need each other.
JOINT = {
    "dropout": ("network.notation=64-DP0.2-24-DP-10", *with_learner("static", EPOCHS)),
    "batch norm": FEW_IMAGES,
    # No kernel has a single weight: batch norm makes the gradient of one a rounding error, which Adam scales.
    "sparse convolutions": (
        *(*FEW_IMAGES, *SPARSE, "sparsity.density=0.6"),
        "sparsity.growth={gradient=0.5, gradient_on_candidates=0.5}",
    ),
    "energy": ('budget={energy="40 nJ"}', 'sparsity.layers=["all"]', "data.encoding=even_rate"),
}
RUNS = EXACT | JOINT
DISTURBED = "gradients of sparse storage"
FAILURES = "failures.json"


def changes(name, *more):
    return [*FEW, *RUNS[name], *more]


def train_all(folder):
    for name in RUNS:
        train("mlp-digits", changes=changes(name), runs=folder / name)
    failures = {"rank": (rank := join_ranks("cpu").rank), **failed(folder)}
    (folder / f"{rank} {FAILURES}").write_text(json.dumps(failures), encoding="utf-8")


def failed(folder):
    """What each process raises where a run cannot begin, or cannot go on."""
    said = {}

    def attempt(name, *given):
        try:
            train("mlp-digits", changes=[*FEW, *given], runs=folder / name)
        except (BadInput, CheckFailed, ToldElsewhere) as error:
            said[name] = [type(error).__name__, str(error), error.exit_code]

    attempt("too small", "training.batch=302")
    begin = training_loop._parts

    def has_no_loss(recipe, ranks, **how):
        parts = begin(recipe, ranks, **how)
        return parts if ranks.first else parts | {"loss": lambda outputs, _labels: outputs.sum() * math.nan}

    def begins_with_other_weights(recipe, ranks, **how):
        parts = begin(recipe, ranks, **how)
        if not ranks.first:
            with torch.no_grad():
                parts["network"].fc1.weight[0, 0] += 1
        return parts

    def cannot_begin(recipe, ranks, **how):
        if not ranks.first:
            raise BadInput("the disk of the second machine is not there")
        return begin(recipe, ranks, **how)

    training_loop._parts = has_no_loss
    attempt("diverged")
    training_loop._parts = begins_with_other_weights
    attempt("other weights")
    training_loop._parts = cannot_begin
    attempt("one cannot begin")
    training_loop._parts = begin
    return said


def disturbed(folder):
    """Kill the second process in the first epoch and in the second, then interrupt the first one."""
    start, rank = int(os.environ["TORCHELASTIC_RESTART_COUNT"]), int(os.environ["RANK"])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # that of the launcher was inherited

    def on_batch(done, *_):
        if (start, rank, done) in {(0, 1, 3), (1, 1, BATCHES + 4)}:
            os.kill(os.getpid(), signal.SIGKILL)
        if (start, rank, done) == (2, 0, BATCHES + 2):
            os.kill(os.getpid(), signal.SIGINT)

    try:
        train("mlp-digits", changes=changes(DISTURBED), runs=folder / "disturbed", on_batch=on_batch)
    except KeyboardInterrupt:
        sys.exit(130)
    except (CheckFailed, ToldElsewhere) as error:
        sys.exit(error.exit_code)


def start_two(action, folder, restarts):
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        run_id=f"{action.__name__} {os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=restarts,
        monitor_interval=0.1,
        start_method="fork",
    )
    elastic_launch(config, action)(folder)


if __name__ == "__main__":
    start_two(train_all, Path(sys.argv[1]), 0)
    start_two(disturbed, Path(sys.argv[1]), 3)
