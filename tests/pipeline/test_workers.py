"""Tasks in workers: a real scheduler and real workers, in this process where one process is enough."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import esl_neuro
from esl_neuro.cli.main import main
from esl_neuro.errors import BadInput
from esl_neuro.pipeline import workers as door
from esl_neuro.pipeline.workers import Ended, Told, Workplace, address_of, workers
from system.command_workspace import environment

SWEEP = """
title = "One run"
recipe = "mlp-digits"
seeds = [3]
[fixed]
"training.epochs" = 2
"network.notation" = "64-8-10"
"data.steps" = 2
"""


@pytest.fixture
def place(cluster, tmp_path, monkeypatch) -> Workplace:
    monkeypatch.chdir(tmp_path)
    return Workplace(scheduler=cluster.scheduler_address)


def follow(number: int, tell, wanted) -> int:
    """Tell something, then return the square."""
    assert wanted()
    tell({"half": number / 2, "where": os.getcwd()})
    return number**2


def fail(number: int, tell, wanted) -> None:  # noqa: ARG001
    raise BadInput("no") if number else ValueError("something else")


def wait_until_unwanted(path: Path, tell, wanted) -> str:
    """Work for ever, save when interrupted; a second time, continue what is saved and end."""
    if path.exists():
        return "continued"
    tell({"saved": False})
    while wanted():
        time.sleep(0.001)
    path.touch()
    raise KeyboardInterrupt


# Tasks.


def test_tasks_tell_in_order_and_end_with_what_they_return(place, tmp_path):
    with workers(place, 2, tmp_path) as ready:
        events = list(ready.run(follow, [3, 4]))
    for number in (3, 4):
        mine = [event for event in events if event.argument == number]
        assert mine == [Told(number, {"half": number / 2, "where": str(tmp_path)}), Ended(number, number**2)]


def test_the_next_task_may_depend_on_how_the_earlier_ones_ended(place, tmp_path):
    """Here, the square of a number is the next one; it is not asked for before that is known."""
    waiting, ended = [2], []

    def more():
        return waiting.pop() if waiting else None

    with workers(place, 1, tmp_path) as ready:
        for event in ready.serve(follow, more):
            if isinstance(event, Ended):
                ended.append(event.result)
                waiting += [event.result] if event.result < 100 else []
    assert ended == [4, 16, 256]


def test_as_many_tasks_are_asked_for_as_there_are_workers(place, tmp_path):
    asked = []
    with workers(place, 5, tmp_path) as ready:
        events = ready.serve(follow, lambda: (asked.append(1) or len(asked)) if len(asked) < 3 else None)
        ended = 0
        for event in events:
            assert len(asked) <= ended + 1
            ended += isinstance(event, Ended)
    assert ended == 3


def test_each_task_fails_alone_with_one_line(place, tmp_path):
    with workers(place, 2, tmp_path) as ready:
        errors = {event.argument: str(event.error) for event in ready.run(fail, [0, 1])}
    assert errors == {0: f"{place.scheduler}: ValueError: something else", 1: "no"}


def test_a_task_that_nobody_waits_for_is_told_so_and_has_time_to_save(place, tmp_path, monkeypatch):
    monkeypatch.setattr(door, "SAVING_S", 10.0)  # it needs far less
    with workers(place, 1, tmp_path) as ready:
        events = ready.run(wait_until_unwanted, [tmp_path / "saved"])
        next(events)
        began = time.monotonic()
        events.close()
        assert time.monotonic() - began < 5.0
    assert (tmp_path / "saved").exists()


@pytest.fixture
def own_cluster(tmp_path, monkeypatch):
    """A cluster that a test may damage."""
    from distributed import LocalCluster

    monkeypatch.chdir(tmp_path)
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp://", dashboard_address="127.0.0.1:0"
    ) as made:
        yield made


def test_a_task_whose_worker_is_ended_continues_in_another(own_cluster, tmp_path):
    with workers(Workplace(scheduler=own_cluster.scheduler_address), 1, tmp_path) as ready:
        events = ready.run(wait_until_unwanted, [tmp_path / "saved"])
        next(events)
        (first,) = own_cluster.workers.values()
        own_cluster.scale(2)
        own_cluster.sync(first.close)
        assert [(event.result, event.error) for event in events] == [("continued", None)]


def test_a_scheduler_that_ends_is_said_in_one_line(own_cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(door, "REACH_S", 2.0)
    with workers(Workplace(scheduler=own_cluster.scheduler_address), 1, tmp_path) as ready:
        events = ready.run(wait_until_unwanted, [tmp_path / "saved"])
        next(events)
        own_cluster.close()
        (ended,) = events
    assert str(ended.error).endswith(
        "the connection to the scheduler is lost; the same command continues what is saved"
    )
    assert (tmp_path / "saved").exists()


def test_a_connection_that_does_not_close_in_time_is_left(place, tmp_path, monkeypatch):
    monkeypatch.setattr(door, "CLOSING_S", 0.0)
    with workers(place, 1, tmp_path) as ready:
        events = list(ready.run(follow, [3]))
    assert events[-1] == Ended(3, 9)


def test_a_worker_keeps_its_own_folder_and_variables(place, tmp_path, monkeypatch):
    before = os.getcwd()
    monkeypatch.setenv("ESL_NEURO_DATA", "somewhere")
    with workers(place, 1, tmp_path) as ready:
        given = replace(ready.needs, folder="/", variables={"ESL_NEURO_RUNS": "there"})
        with door._as_in_the_command(given):
            assert os.getcwd() == "/"
            assert "ESL_NEURO_DATA" not in os.environ
            assert os.environ["ESL_NEURO_RUNS"] == "there"
    assert os.getcwd() == before
    assert os.environ["ESL_NEURO_DATA"] == "somewhere"
    assert "ESL_NEURO_RUNS" not in os.environ


def test_nothing_is_left_in_the_shared_folder(place, tmp_path):
    with workers(place, 1, tmp_path):
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


# What is refused.


@pytest.mark.parametrize(
    ("scheduler", "content", "words"),
    [
        ("nonsense", None, "--scheduler: nonsense is not the address of a scheduler; write tcp://host:8786"),
        ("tcp://host:port", None, "is not the address of a scheduler"),
        ("http://host/8786", None, "is not the address of a scheduler"),
        ("none.json", None, "none.json: cannot be read"),
        ("s.json", {"id": "x"}, "s.json: None is not the address of a scheduler; give the file that 'dask scheduler"),
        ("s.json", {"address": ["tcp://a:1"]}, "is not the address of a scheduler"),
        ("s.json", ["tcp://a:1"], "it holds a list, not an object"),
    ],
)
def test_what_is_no_address_of_a_scheduler(tmp_path, monkeypatch, scheduler, content, words):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(scheduler).write_text(json.dumps(content))
    with pytest.raises(BadInput, match=r"is not the address|cannot be read|not an object") as caught:
        address_of(scheduler)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_address_is_given_or_read_from_a_scheduler_file(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps({"address": "tls://10.0.0.1:8786", "workers": {}}))
    assert address_of(str(tmp_path / "s.json")) == "tls://10.0.0.1:8786"
    assert address_of("host:8786") == "host:8786"


def test_a_scheduler_that_does_not_answer_is_refused_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(door, "REACH_S", 0.2)
    with (
        pytest.raises(BadInput, match=r"scheduler 127.0.0.1:1 cannot be reached within 0.2 s: .*; start it with"),
        workers(Workplace(scheduler="127.0.0.1:1"), 1, tmp_path),
    ):
        pass


def test_a_worker_that_runs_several_tasks_in_one_process_is_refused(tmp_path):
    from distributed import LocalCluster

    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, protocol="tcp://", dashboard_address="127.0.0.1:0"
        ) as made,
        pytest.raises(BadInput, match=r"worker tcp://\S+ runs 2 tasks in one process.*--nthreads 1"),
        workers(Workplace(scheduler=made.scheduler_address), 1, tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": "9.9"}, f"has esl-neuro {esl_neuro.__version__}, this command is 9.9; install the same version"),
        ({"folder": "/no/such"}, "does not see /no/such; start it where the same file system is"),
        ({"token": "/no/such"}, "does not see"),
        ({"code": {"nowhere": "0"}}, "cannot import 'nowhere', code of the recipe"),
        ({"code": {"mine": "0"}}, "has another module 'mine' than this command"),
    ],
)
def test_a_task_refuses_a_worker_that_lacks_something(place, tmp_path, change, words):
    """A worker that comes later is asked by the task itself."""
    (tmp_path / "mine.py").write_text("x = 1\n")
    with workers(place, 1, tmp_path, ["mine"]) as ready:
        (fine,) = ready.run(lambda *_: "fine", [0])
        ready.needs = replace(ready.needs, **change)
        (ended,) = ready.run(lambda *_: "fine", [0])
    assert fine.result == "fine"
    assert isinstance(ended.error, BadInput)
    assert words in str(ended.error)
    assert str(ended.error).startswith("worker tcp://")


def test_a_worker_that_has_imported_an_earlier_module_is_refused(place, tmp_path):
    (tmp_path / "changing.py").write_text("x = 1\n")
    with workers(place, 1, tmp_path, ["changing"]):
        pass
    (tmp_path / "changing.py").write_text("x = 2\n")
    with (
        pytest.raises(BadInput, match="has imported an earlier module 'changing'; start the workers again"),
        workers(place, 1, tmp_path, ["changing"]),
    ):
        pass


# Workers in processes of their own, which were started elsewhere.


def start_worker(scheduler: str, log: Path, **variables: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler, "--nthreads", "1", "--no-nanny"]
    return subprocess.Popen(
        [*command, "--no-dashboard", "--local-directory", str(log.parent)],
        cwd="/",
        env=environment() | variables,
        stdout=subprocess.DEVNULL,
        stderr=log.open("wb"),
    )


SEARCH = """
title = "a short search"
recipe = "mlp-digits"
trials = 2
random = 2

[fixed]
"training.epochs" = 1
"network.notation" = "64-8-10"
"data.steps" = 2

[space]
"sparsity.density" = { low = 0.1, high = 0.3 }
"""


def test_a_sweep_and_a_search_on_a_cluster_are_those_of_one_process(tmp_path, monkeypatch, capsys):
    from distributed import LocalCluster

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ESL_NEURO_RUNS", "here")
    (tmp_path / "one.toml").write_text(SWEEP)
    (tmp_path / "few.toml").write_text(SEARCH)
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as made:
        worker = start_worker(made.scheduler_address, tmp_path / "log")
        try:
            code = main(["sweep", "./one.toml", "--scheduler", made.scheduler_address])
            out, err = capsys.readouterr()
            assert code == 0, err + (tmp_path / "log").read_text()
            assert main(["search", "./few.toml", "--json", "--scheduler", made.scheduler_address]) == 0
            searched = capsys.readouterr()
        finally:
            worker.terminate()
            worker.wait()
    assert main(["sweep", "./one.toml", "--runs", "alone"]) == 0
    here, alone = (Path(runs, "one", "mlp-digits-seed3", "metrics.jsonl").read_text() for runs in ("here", "alone"))
    assert here == alone
    assert "1/1 mlp-digits seed 3: " in err
    assert out.splitlines()[:3] == capsys.readouterr().out.splitlines()[:3]
    assert main(["search", "./few.toml", "--json", "--runs", "alone"]) == 0
    assert searched.out.replace("here/", "alone/") == capsys.readouterr().out
    assert "2/2 trial 1: " in searched.err


def test_a_worker_with_another_version_is_refused(tmp_path):
    """The same package, but for its version."""
    from distributed import LocalCluster

    other = tmp_path / "other" / "esl_neuro"
    other.mkdir(parents=True)
    for path in Path(esl_neuro.__file__).parent.iterdir():
        if path.name not in ("version.py", "__pycache__"):
            (other / path.name).symlink_to(path)
    (other / "version.py").write_text('__version__ = "0.0.7"\n')
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as made:
        worker = start_worker(made.scheduler_address, tmp_path / "log", PYTHONPATH=str(other.parent))
        try:
            while not made.scheduler_info["workers"]:
                time.sleep(0.01)
                assert worker.poll() is None, (tmp_path / "log").read_text()
            with (
                pytest.raises(BadInput, match=r"worker tcp://\S+ has esl-neuro 0.0.7, this command is .*; install"),
                workers(Workplace(scheduler=made.scheduler_address), 1, tmp_path),
            ):
                pass
        finally:
            worker.terminate()
            worker.wait()
