"""A Lava network ends with a result or with an error that says why, and leaves no child process behind."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from backends.random_programs import random_program, random_spikes
from esl_neuro.backends import supervise
from esl_neuro.backends.integer import run_integer
from esl_neuro.backends.lava import run_lava
from esl_neuro.backends.lava_session import lava_session
from esl_neuro.backends.supervise import LavaError, run_network
from esl_neuro.backends.trace import first_difference

pytestmark = pytest.mark.lava

MANY_STEPS = 10_000_000
TIMEOUT_S = 60.0


def children():
    """Child processes of this one, without the resource tracker of multiprocessing, which lives as long as we do."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == os.getpid() and "resource_tracker" not in command:
            found[int(folder.name)] = command
    return found


@pytest.fixture(autouse=True)
def _no_child_is_left_and_lava_still_works():
    before = children()
    yield
    assert children().keys() <= before.keys()
    rng = np.random.default_rng(0)
    program = random_program(rng, depth=1)
    spikes = random_spikes(rng, program, samples=2)
    trace = run_lava(program, spikes, timeout_s=TIMEOUT_S)
    assert first_difference(trace, run_integer(program, spikes)) is None
    assert children().keys() <= before.keys()


def two_layers(**parameters):
    from lava.proc.dense.process import Dense
    from lava.proc.lif.process import LIF

    first = LIF(shape=(2,), bias_mant=1, vth=10, name="first")
    synapses = Dense(weights=np.eye(2, dtype=int), name="between")
    second = LIF(shape=(2,), **{"vth": 10, "name": "second"} | parameters)
    first.s_out.connect(synapses.s_in)
    synapses.a_out.connect(second.a_in)
    return first


def test_run_to_the_end():
    with lava_session():
        run_network(two_layers(), steps=5, timeout_s=TIMEOUT_S)


def test_failing_process_is_named_with_its_traceback():
    with lava_session(), pytest.raises(LavaError, match=r"process 'second' failed[\s\S]*Traceback[\s\S]*left_shift"):
        run_network(two_layers(vth=0.5), steps=5, timeout_s=TIMEOUT_S)


def test_process_that_cannot_be_built_in_its_child():
    with lava_session(), pytest.raises(LavaError, match="process 'second' failed"):
        run_network(two_layers(u=np.zeros(3)), steps=5, timeout_s=TIMEOUT_S)


def test_network_without_a_fixed_point_model():
    from lava.proc.lif.process import LIFRefractory

    with lava_session(), pytest.raises(LavaError, match="cannot build the network"):
        run_network(LIFRefractory(shape=(2,), refractory_period=1), steps=5, timeout_s=TIMEOUT_S)


def test_start_that_fails_halfway(monkeypatch):
    with lava_session():
        from lava.magma.runtime.runtime import Runtime

        def refuse(_):
            raise OSError("no room")

        monkeypatch.setattr(Runtime, "_build_runtime_services", refuse)
        with pytest.raises(LavaError, match="cannot start the network: no room"):
            run_network(two_layers(), steps=5, timeout_s=TIMEOUT_S)
        monkeypatch.undo()


def run_and_tell(_):
    with lava_session():
        try:
            run_network(two_layers(), steps=5, timeout_s=TIMEOUT_S)
        except LavaError as error:
            return str(error)


def test_worker_of_a_pool_may_not_start_children():
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert "cannot start the network: daemonic processes" in pool.map(run_and_tell, [None])[0]
        pool.close()
        pool.join()


@pytest.mark.parametrize("delay_s", [0.0, 0.5], ids=["while starting", "while running"])
@pytest.mark.parametrize("which", [0, -1], ids=["a process", "the runtime service"])
def test_killed_child(which, delay_s):
    with lava_session():
        process = two_layers()
        start = time.monotonic()

        def kill():
            if time.monotonic() - start > delay_s:
                os.kill(process.runtime._messaging_infrastructure.actors[which].pid, signal.SIGKILL)

        with pytest.raises(LavaError, match=r"was ended by SIGKILL; the machine may be out of memory"):
            run_network(process, steps=MANY_STEPS, timeout_s=TIMEOUT_S, on_poll=kill)


def test_child_that_ends_early_without_an_error(monkeypatch):
    from lava.proc.lif.models import PyLifModelBitAcc

    monkeypatch.setattr(PyLifModelBitAcc, "run_spk", lambda _: os._exit(0))
    start = time.monotonic()
    with (
        lava_session(),
        pytest.raises(LavaError, match=r"'(first|second)' ended with exit code 0 before the run was finished"),
    ):
        run_network(two_layers(), steps=MANY_STEPS, timeout_s=TIMEOUT_S)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("which", "named"), [(0, r"process '\w+'"), (-1, "the runtime service")], ids=["a process", "the runtime service"]
)
def test_stopped_child(which, named):
    stopped = []

    def stop():
        if not stopped:
            stopped.append(time.monotonic())
            os.kill(process.runtime._messaging_infrastructure.actors[which].pid, signal.SIGSTOP)

    with lava_session():
        process = two_layers()
        with pytest.raises(LavaError, match=f"{named} was stopped by a signal"):
            run_network(process, steps=MANY_STEPS, timeout_s=TIMEOUT_S, on_poll=stop)
    assert time.monotonic() - stopped[0] < 5


def test_child_that_is_stopped_for_a_moment_goes_on():
    done, began = [], time.monotonic()

    def stop_briefly():
        child = process.runtime._messaging_infrastructure.actors[0].pid
        if not done and time.monotonic() - began > 0.5:
            done.append(child)
            os.kill(child, signal.SIGSTOP)
            time.sleep(0.6)
            os.kill(child, signal.SIGCONT)

    with lava_session():
        process = two_layers()
        run_network(process, steps=3000, timeout_s=TIMEOUT_S, on_poll=stop_briefly)
    assert done


def test_thread_may_run_a_network():
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(run_and_tell, None).result(TIMEOUT_S) is None


def test_worker_that_may_have_children_may_run_a_network():
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        assert pool.submit(run_and_tell, None).result(TIMEOUT_S) is None


def test_system_without_room_for_semaphores_is_named(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with lava_session():
        process = two_layers()
        monkeypatch.setattr(multiprocessing.get_context("fork"), "Semaphore", refuse)
        with pytest.raises(LavaError, match=r"semaphores in /dev/shm.*No space left.*--backend integer"):
            run_network(process, steps=5, timeout_s=TIMEOUT_S)
        monkeypatch.undo()


def test_timeout():
    start = time.monotonic()
    with lava_session(), pytest.raises(LavaError, match=r"did not finish 10000000 steps in 0\.5 s"):
        run_network(two_layers(), steps=MANY_STEPS, timeout_s=0.5)
    assert time.monotonic() - start < 20


def test_keyboard_interrupt():
    with lava_session(), pytest.raises(KeyboardInterrupt):
        run_network(two_layers(), MANY_STEPS, TIMEOUT_S, on_poll=lambda: signal.raise_signal(signal.SIGINT))


def test_error_of_the_caller():
    def fail():
        raise ZeroDivisionError

    with lava_session(), pytest.raises(ZeroDivisionError):
        run_network(two_layers(), MANY_STEPS, TIMEOUT_S, on_poll=fail)


def running_network():
    """A process of its own, the leader of a group, in which a network runs."""
    code = (
        "from test_supervise import *\n"
        "ready = []\n"
        "with lava_session():\n"
        "    run_network(two_layers(), MANY_STEPS, on_poll=lambda: ready or ready.append(print('up', flush=True)))\n"
    )
    folder = str(Path(__file__).parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([folder, *sys.path])}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    while "up" not in process.stderr.readline():  # inside the session, what is printed goes to standard error
        assert process.poll() is None
    return process


def assert_group_ends(process):
    deadline = time.monotonic() + 5
    while group_is_alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not group_is_alive(process.pid)


def test_ctrl_c_in_a_terminal_ends_the_whole_process_group_with_one_message():
    process = running_network()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert errors.count("Traceback") == errors.count("KeyboardInterrupt") == 1
    assert_group_ends(process)


def test_killed_parent_takes_its_processes_with_it_and_their_memory_has_no_name():
    process = running_network()
    maps = [Path(f"/proc/{pid}/maps").read_text() for pid in group_of(process.pid)]
    assert len(maps) > 3
    assert not [each for each in maps if "/dev/shm/psm_" in each]
    process.kill()
    process.communicate(timeout=TIMEOUT_S)
    assert_group_ends(process)


def group_of(leader):
    """Processes of a process group."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == leader:
                found.append(int(folder.name))
    return found


def group_is_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_error_that_cannot_be_read():
    class Actor:
        @property
        def exception(self):
            raise TypeError("missing argument")

    assert supervise._report(Actor()) == "its error cannot be read: TypeError('missing argument')"
    assert supervise._report(SimpleNamespace(exception=None)) is None
