"""Samples in shards: whatever workers compute equals one process, and nothing that was saved is computed again."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.random_programs import random_graph, random_spikes
from esl_neuro.backends.integer import count_integer, run_integer
from esl_neuro.backends.lava_session import lava_installed
from esl_neuro.cli.main import main
from esl_neuro.errors import BadInput
from esl_neuro.pipeline import shards
from esl_neuro.pipeline.activity import Activity, run_network, run_recorded
from esl_neuro.pipeline.evaluation import evaluate_network
from esl_neuro.pipeline.sharded_networks import trace_elsewhere
from esl_neuro.pipeline.shards import FOLDER, LARGEST, SMALLEST, Elsewhere, divided, once, parts, repeated, shard_size
from esl_neuro.pipeline.simulation import simulate
from esl_neuro.pipeline.training import evaluate
from esl_neuro.pipeline.workers import Workplace
from esl_neuro.storage import locked
from pipeline.shard_tasks import Squares

FORMS = {"squares": (np.int64, ())}
NUMBERS = np.arange(20)


@pytest.fixture
def place(cluster, tmp_path, monkeypatch) -> Workplace:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shards, "WORK", 1)  # shards of 8 samples
    return Workplace(scheduler=cluster.scheduler_address)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def squared(place, tmp_path, said):
    """Square the numbers in shards of 8, elsewhere."""

    def squared(numbers=NUMBERS, **changes):
        task = Squares(tmp_path, **changes)
        return Elsewhere(place, tmp_path, said.append).compute(task, divided({"numbers": numbers}, 8), FORMS)["squares"]

    return squared


def computed(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "computed").read_text().split()]


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{FOLDER}*"))


def interrupt_after(number: int, monkeypatch, command) -> None:
    """Interrupt a command after the first shards."""
    whole = shards.workers

    class Interrupting:
        def __init__(self, ready):
            self.ready, self.dashboard, self.count = ready, None, 1

        def run(self, work, arguments):
            with closing(self.ready.run(work, arguments[:number])) as events:
                yield from events
            raise KeyboardInterrupt

    class Opened:
        def __init__(self, *given):
            self.opened = whole(*given)

        def __enter__(self):
            return Interrupting(self.opened.__enter__())

        def __exit__(self, *error):
            return self.opened.__exit__(*error)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "workers", Opened)
        with pytest.raises(KeyboardInterrupt):
            command()


# Where shards begin.


@given(st.integers(0, 3000), st.integers(1, 300))
def test_shards_cover_all_samples_once(samples, size):
    numbers = np.arange(samples)
    found = [numbers[part] for part in parts(samples, size)]
    assert [*map(len, found)] == [size] * (samples // size) + [samples % size] * (samples % size > 0)
    assert np.concatenate([numbers[:0], *found]).tolist() == numbers.tolist()


@given(st.integers(0, 2**40), st.integers(1, 2**12))
def test_a_shard_has_fewer_samples_if_each_is_more_work(synapses, steps):
    assert SMALLEST <= shard_size(synapses, steps) <= LARGEST
    assert shard_size(synapses + 1, steps) <= shard_size(synapses, steps)
    assert shard_size(0, steps) == LARGEST


@given(st.integers(1, 5), st.booleans())
def test_steps_that_are_all_the_same_are_stored_once(steps, same):
    values = np.arange(3 * steps * 2).reshape(3, steps, 2)
    values = np.broadcast_to(values[:, :1], values.shape) if same else values
    stored = once(values)
    assert stored.shape[1] == (1 if same else steps)
    assert (repeated(stored, steps) == values).all()
    assert not same or steps == 1 or repeated(stored, steps).strides[1] == 0


# Shards elsewhere.


def test_what_is_joined_is_what_one_process_computes_and_no_file_is_left(squared, said, tmp_path):
    assert squared().tolist() == (NUMBERS**2).tolist()
    assert computed(tmp_path) == [0, 8, 16]
    assert not kept(tmp_path)
    assert said == [f"{tmp_path}: 3 shards of the samples to compute, {said[0].split(', ')[1]}"]


def test_progress_counts_samples(place, tmp_path):
    told = []
    elsewhere = Elsewhere(place, tmp_path, progress=lambda *each: told.append(each))
    elsewhere.compute(Squares(tmp_path), divided({"numbers": NUMBERS}, 8), FORMS)
    assert told[-1] == (20, 20)
    assert sorted(told) == told


def test_the_same_command_continues_with_the_shards_that_are_saved(squared, said, tmp_path, monkeypatch):
    interrupt_after(2, monkeypatch, squared)
    (folder,) = kept(tmp_path)
    assert said[-1] == f"2 of 3 shards are saved in {folder}; continue with the same command"
    assert squared(NUMBERS + 1).tolist() == ((NUMBERS + 1) ** 2).tolist()  # other samples have nothing to continue
    assert kept(tmp_path) == [folder]
    (tmp_path / "computed").unlink()
    assert squared().tolist() == (NUMBERS**2).tolist()
    assert computed(tmp_path) == [16]
    assert "1 shards of the samples to compute" in said[-1]
    assert said[-1].endswith("the other 2 were saved earlier")
    assert not kept(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-30]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"squares", b"circles")),
        lambda path: np.savez(path, squares=np.zeros(1, np.int64)),
        lambda path: np.savez(path, squares=np.zeros(8, np.float64)),
        lambda path: path.unlink(),
    ],
)
def test_a_damaged_shard_is_computed_again(squared, tmp_path, monkeypatch, damage):
    interrupt_after(3, monkeypatch, squared)
    damage(kept(tmp_path)[0] / "000001.npz")
    (tmp_path / "computed").unlink()
    assert squared().tolist() == (NUMBERS**2).tolist()
    assert computed(tmp_path) == [8]


def test_an_error_of_a_shard_ends_the_command_and_keeps_what_is_saved(squared, tmp_path):
    with pytest.raises(BadInput, match=r"none\.json: cannot be read"):
        Elsewhere(Workplace(scheduler="none.json"), tmp_path).compute(
            Squares(tmp_path), divided({"numbers": NUMBERS}, 8), FORMS
        )
    assert not kept(tmp_path)  # nothing was saved
    (tmp_path / "computed").mkdir()  # so that no shard can be computed
    with pytest.raises(Exception, match="IsADirectoryError"):
        squared()
    assert not kept(tmp_path)


def test_two_commands_do_not_compute_the_same_shards(squared, tmp_path, monkeypatch):
    interrupt_after(1, monkeypatch, squared)
    with (
        locked(kept(tmp_path)[0], ""),
        pytest.raises(BadInput, match="another command is computing the same shards; wait for it"),
    ):
        squared()


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(place, tmp_path):
    nowhere = tmp_path / "nowhere"
    with pytest.raises(BadInput, match=f"{nowhere}: cannot be written: its folder does not exist"):
        Elsewhere(place, nowhere).compute(Squares(tmp_path), divided({"numbers": NUMBERS}, 8), FORMS)


def test_a_killed_worker_loses_only_the_shard_that_it_computes(tmp_path, monkeypatch):
    """Two processes; one is killed while it computes the second of five shards."""
    monkeypatch.chdir(tmp_path)
    numbers = np.arange(40)
    elsewhere = Elsewhere(Workplace(jobs=2), tmp_path)
    found = elsewhere.compute(Squares(tmp_path, fatal=8), divided({"numbers": numbers}, 8), FORMS)
    assert found["squares"].tolist() == (numbers**2).tolist()
    assert (tmp_path / "killed").exists()
    assert sorted(computed(tmp_path)) == [0, 8, 16, 24, 32]
    assert not kept(tmp_path)


def test_one_process_computes_one_shard_itself(tmp_path):
    for jobs, scheduler, number, elsewhere in (
        (1, None, 9, False),
        (2, None, 1, False),
        (2, None, 2, True),
        (1, "host:1", 1, True),
        (1, "host:1", 0, False),
    ):
        assert Elsewhere(Workplace(jobs, scheduler), tmp_path).pays(number) == elsewhere


# Networks.


def same(first, second) -> bool:
    """Whether two traces are equal in everything, types too."""
    assert (first.backend, first.readout) == (second.backend, second.readout)
    for name in ("spikes", "u", "v"):
        assert list(getattr(first, name)) == list(getattr(second, name))
    arrays = [
        [each.input_spikes, *each.spikes.values(), *each.u.values(), *each.v.values()] for each in (first, second)
    ]
    for each, trace in zip(arrays, (first, second), strict=True):
        each += [] if trace.potential is None else [trace.potential]
        for connection in trace.counts.connections if trace.counts else ():
            each += [getattr(connection, name) for name in vars(connection)]
        each += [*trace.counts.spikes_out.values()] if trace.counts else []
    return all(
        np.asarray(one).dtype == np.asarray(other).dtype and np.array_equal(one, other)
        for one, other in zip(*arrays, strict=True)
    )


@settings(max_examples=6)
@given(seed=st.integers(0, 2**31), record=st.booleans(), counting=st.booleans())
def test_the_trace_of_any_program_is_that_of_one_process(cluster, tmp_path_factory, seed, record, counting):
    folder = tmp_path_factory.mktemp("any")
    rng = np.random.default_rng(seed)
    program = random_graph(rng)
    spikes = random_spikes(rng, program, 300)
    elsewhere = Elsewhere(Workplace(scheduler=cluster.scheduler_address), folder)
    options = {"record_potentials": record and not counting, "counting": counting}
    found = trace_elsewhere(elsewhere, program, spikes, "integer", **options)()
    alone = count_integer(program, spikes) if counting else run_integer(program, spikes, record)
    assert same(found, alone)
    assert not [*folder.iterdir()]


@pytest.mark.lava
@pytest.mark.skipif(not lava_installed(), reason="Lava is not installed")
@pytest.mark.parametrize("backend", ["lava", "lava-batched"])
def test_a_trace_in_lava_is_that_of_one_process(place, tmp_path, backend, monkeypatch):
    monkeypatch.setattr("esl_neuro.pipeline.sharded_networks.LAVA", 1)
    rng = np.random.default_rng(3)
    program = random_graph(rng, "graded", steps=3)
    spikes = random_spikes(rng, program, 12)
    found = trace_elsewhere(Elsewhere(place, tmp_path), program, spikes, backend, record_potentials=True)()
    assert same(found, simulate(program, spikes, backend, record_potentials=True))


def test_a_run_with_its_counts_is_that_of_one_process(place, exported):
    alone, shared = (
        run_network(exported.folder, Activity("integer", 50), where=where) for where in (Workplace(), place)
    )
    assert shared.counts.to_dict() == alone.counts.to_dict()
    assert same(shared.trace, alone.trace)
    assert not kept(exported.folder)


def test_a_nir_file_runs_in_shards_beside_it(place, exported, tmp_path):
    (tmp_path / "net.nir").write_bytes((exported.folder / "model.nir").read_bytes())
    activity = Activity("integer", 50, rate=0.2)
    alone, shared = (
        run_recorded(tmp_path / "net.nir", activity, record_potentials=True, where=where)
        for where in (Workplace(), place)
    )
    assert same(shared.trace, alone.trace)
    assert {**shared.to_dict(), "seconds": 0} == {**alone.to_dict(), "seconds": 0}


def test_accuracies_of_integers_and_equations_are_those_of_one_process(place, exported):
    alone, shared = (
        evaluate_network(exported.folder, Activity(samples=40), where=where) for where in (Workplace(), place)
    )
    assert shared == alone


@pytest.mark.parametrize("name", ["run", "graded_run"])
def test_the_accuracies_of_a_run_are_those_of_one_process(place, request, monkeypatch, name):
    monkeypatch.setattr("esl_neuro.training.evaluation.EVALUATION_BATCH", 150)
    tested = request.getfixturevalue(name)
    noises = ["salt_and_pepper=0.1"]
    assert evaluate(tested, noises, where=place) == evaluate(tested, noises)
    assert not kept(tested.folder)


# Commands.


@pytest.mark.parametrize(
    "command", ["run --samples 30", "evaluate --samples 30", "energy report --backend integer --samples 30"]
)
def test_a_command_on_a_cluster_prints_what_it_prints_alone(place, exported, capsys, command):
    def printed(*options: str) -> dict[str, object]:
        assert main([*command.split(), str(exported.folder), "--json", *options]) == 0, capsys.readouterr().err
        found = json.loads(capsys.readouterr().out)
        found.pop("seconds", None)
        return found

    assert printed("--scheduler", place.scheduler) == printed()


def test_jobs_and_scheduler_are_not_both_given(capsys):
    assert main(["evaluate", "x.nir", "--jobs", "2", "--scheduler", "host:1"]) == 2
    assert "--jobs is for this machine, and the workers of --scheduler each take one task" in capsys.readouterr().err


def test_jobs_of_a_batch_system_compute_what_one_process_computes(exported, tmp_path, monkeypatch):
    """A job of dask-jobqueue is a worker process, here one that its local class starts as a batch system would."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    pytest.importorskip("dask_jobqueue")
    for number, handler in handlers.items():  # importing it lets Ctrl-C end this process
        signal.signal(number, handler)
    from dask_jobqueue.local import LocalCluster

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shards, "WORK", 1)
    python = tmp_path / "python"  # the local class divides its script at spaces, and sys.executable may have one
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    options = {"cores": 1, "processes": 1, "memory": "2GB", "local_directory": str(tmp_path), "python": str(python)}
    with LocalCluster(**options, scheduler_options={"dashboard_address": "127.0.0.1:0"}) as made:
        made.scale(jobs=1)
        made.wait_for_workers(1, timeout=120)  # a job that does not start would be waited for without end
        shared = run_network(
            exported.folder, Activity("integer", 20), where=Workplace(scheduler=made.scheduler_address)
        )
    assert same(shared.trace, run_network(exported.folder, Activity("integer", 20)).trace)
