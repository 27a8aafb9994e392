"""Run a Lava network so that it always ends, with a result or with an error that names the cause.

Lava runs every process of a network in a child process of the operating system. If one of them fails, ends or stops,
the others and Lava wait for it for ever. This module watches the children and always ends them; if this process is
killed, the system ends them. They share memory without a name, so that nothing can be left behind. Names with an
underscore are private to Lava; lava-nc 0.10.0 is its last release, so they do not change.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from esl_neuro.errors import EslNeuroError
from esl_neuro.interruption import SIGNALS, held_back
from esl_neuro.storage import cause

POLL_S = 0.002
# A child that is stopped at so many looks in a row is a failure; the first look after Ctrl-Z and fg may still see one.
LOOK_S, STOPPED_LOOKS = 0.25, 5
# Capacity of a channel between two processes, in messages: Lava's 64 need much shared memory and are no faster.
CHANNEL_MESSAGES = 4


class LavaError(EslNeuroError):
    """Lava could not build or finish a network; the message has the traceback of the process that failed."""

    exit_code = 1


def run_network(
    process: Any, steps: int, timeout_s: float | None = None, on_poll: Callable[[], None] | None = None
) -> None:
    """Build the Lava network of a process, run it in fixed point, and end all its child processes.

    The network's Vars cannot be read afterwards; results are returned through shared memory.

    Parameters
    ----------
    process : lava.magma.core.process.process.AbstractProcess
        Any process of the network.
    steps : int
        Time steps to run.
    timeout_s : float, optional
        Seconds after which the run is given up.
    on_poll : callable, optional
        Called repeatedly while the network runs.

    Raises
    ------
    LavaError
        If the network cannot be built, a process fails or is killed, or the timeout is reached.
    """
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.runtime.mgmt_token_enums import MGMT_RESPONSE, enum_equal

    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    _refuse_unusable_system()
    runtime = _compile(process)
    # Lava swallows exceptions in many places, so a signal is not raised while it works, but between two looks.
    with held_back() as interrupted:
        try:
            _start_children(runtime)
            runtime.start(RunSteps(num_steps=steps, blocking=False))
            (answers,) = runtime.service_to_runtime
            stopped = _Stopped()
            while not (answers.probe() and enum_equal(answers.recv(), MGMT_RESPONSE.DONE)):
                if interrupted():
                    raise KeyboardInterrupt
                _raise_failure(runtime, stopped)
                if deadline is not None and time.monotonic() > deadline:
                    raise LavaError(
                        f"Lava did not finish {steps} steps in {timeout_s} s; use a longer timeout, or run fewer "
                        "samples"
                    )
                if on_poll is not None:
                    on_poll()
                time.sleep(POLL_S)
        finally:
            _end(runtime)


def _refuse_unusable_system() -> None:
    """Reject what Lava would fail on in a way that nobody understands.

    Raises
    ------
    LavaError
        If this process may not have children, or the system has no room for a semaphore.
    """
    if multiprocessing.current_process().daemon:
        raise LavaError(
            "Lava cannot start the network: daemonic processes are not allowed to have children, and a worker of "
            "multiprocessing.Pool is one; use concurrent.futures.ProcessPoolExecutor, or --backend integer"
        )
    try:
        multiprocessing.get_context("fork").Semaphore(0)
    except OSError as error:
        raise _no_semaphores(error) from error


def _no_semaphores(error: OSError) -> LavaError:
    return LavaError(
        f"Lava cannot start the network: it needs semaphores in /dev/shm, which has no room or is missing "
        f"({error.strerror}); in a container, give it room (docker run --shm-size=64m), or use --backend integer, "
        "which needs none"
    )


def _compile(process: Any) -> Any:
    from lava.magma.core.process.message_interface_enum import ActorType
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.magma.runtime.runtime import Runtime

    try:
        # Without the tag Lava would choose its floating-point models.
        with _models_found_once():
            executable = process.compile(Loihi2SimCfg(select_tag="fixed_pt"), {"pypy_channel_size": CHANNEL_MESSAGES})
        return Runtime(executable, ActorType.MultiProcessing)
    except Exception as error:
        raise LavaError(f"Lava cannot build the network: {error}\n{traceback.format_exc()}") from error


@contextmanager
def _models_found_once() -> Iterator[None]:
    """Search the models of each process class once: Lava executes a folder of files for every single process."""
    from lava.magma.compiler.compiler_graphs import ProcGroupDiGraphs

    search = ProcGroupDiGraphs._find_proc_models
    found: dict[type, list[Any]] = {}

    def find(proc: Any) -> list[Any]:
        if type(proc) not in found:
            found[type(proc)] = search(proc)
        return found[type(proc)]

    ProcGroupDiGraphs._find_proc_models = staticmethod(find)
    try:
        yield
    finally:
        ProcGroupDiGraphs._find_proc_models = staticmethod(search)


def _start_children(runtime: Any) -> None:
    """Do what ``Runtime.initialize`` does, but without waiting for all children, which never ends if one died."""
    from lava.magma.runtime.message_infrastructure.multiprocessing import MultiProcessing

    runtime._executable.assign_runtime_to_all_processes(runtime)
    try:
        runtime._build_watchdog_manager()
        runtime._messaging_infrastructure = MultiProcessing()
        runtime._messaging_infrastructure._smm = _NamelessMemory()
        runtime._build_channels()
        runtime._build_sync_channels()
        with _children_of_this_process():
            runtime._build_processes()
            runtime._build_runtime_services()
        runtime._start_ports()
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _no_semaphores(error) from error
        raise LavaError(f"Lava cannot start the network: {cause(error)}") from error
    except Exception as error:
        raise LavaError(f"Lava cannot start the network: {error}\n{traceback.format_exc()}") from error
    runtime._is_initialized = True


class _NamelessMemory:
    """Shared memory for Lava's channels that forked children inherit; it needs no room in /dev/shm and no clean-up."""

    def create_shared_memory(self, size: int) -> Any:
        """Return a block, as ``multiprocessing.shared_memory`` does."""
        return _Block(memoryview(mmap.mmap(-1, max(1, size))))

    def shutdown(self) -> None:
        """Do nothing: memory without a name ends with its last user."""


@dataclass(frozen=True)
class _Block:
    buf: memoryview


@contextmanager
def _children_of_this_process() -> Iterator[None]:
    """Start processes that ignore the signals, which are for this one, and that end with this one."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    _parents.append(os.getpid())
    try:
        yield
    finally:
        _parents.pop()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


_parents: list[int] = []  # this process, while it starts children that end with it
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def _end_with_parent() -> None:
    """Let the system end this new process when its parent ends, however that ends."""
    if not _parents:
        return
    parent = _parents[-1]
    signal.set_wakeup_fd(-1)  # it belongs to the parent
    if _prctl is not None:
        _prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it ended before the call
            os._exit(1)
    else:
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(1)


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_end_with_parent)


@dataclass
class _Stopped:
    """How often in a row each child was found stopped."""

    looks: dict[int, int] = field(default_factory=dict)
    next_s: float = 0.0

    def look(self, actors: Sequence[tuple[str, Any]]) -> str | None:
        """Return the name of a child that stays stopped."""
        now = time.monotonic()
        if now < self.next_s:
            return None
        self.next_s = now + LOOK_S
        self.looks = {actor.pid: self.looks.get(actor.pid, 0) + 1 for _, actor in actors if _is_stopped(actor.pid)}
        return next((name for name, actor in actors if self.looks.get(actor.pid, 0) >= STOPPED_LOOKS), None)


def _is_stopped(pid: int) -> bool:
    """Return whether a process is stopped by a signal; False where the system does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] == b"T"
    except OSError:
        return False


def _raise_failure(runtime: Any, stopped: _Stopped) -> None:
    """Raise if a child has failed, ended or stopped; reported errors have priority over exit codes."""
    names = [f"process '{process.name}'" for process in runtime._executable.proc_builders] + ["the runtime service"]
    actors = list(zip(names, runtime._messaging_infrastructure.actors, strict=False))
    # Read exit codes first: a child reports before it ends, so a child that ended without a report will not report.
    exit_codes = [actor.exitcode for _, actor in actors]
    for name, actor in actors:
        report = _report(actor)
        if report is not None:
            raise LavaError(f"Lava: {name} failed\n{report}")
    for (name, _), code in zip(actors, exit_codes, strict=True):
        if code is not None and code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
            hint = "; the machine may be out of memory: run fewer samples" if -code == signal.SIGKILL else ""
            raise LavaError(f"Lava: {name} {how}{hint}")
        if code is not None:
            raise LavaError(f"Lava: {name} ended with exit code {code} before the run was finished")
    halted = stopped.look(actors)
    if halted is not None:
        raise LavaError(f"Lava: {halted} was stopped by a signal (SIGSTOP), so the run cannot finish; repeat it")


def _report(actor: Any) -> str | None:
    """Return the traceback sent by a child, if any."""
    try:
        return None if actor.exception is None else str(actor.exception[1])
    except Exception as error:  # unpickling the exception of a child may raise anything
        return f"its error cannot be read: {error!r}"


def _end(runtime: Any) -> None:
    """Kill and reap every child, stop the parent's threads, free the shared memory."""
    infrastructure = runtime._messaging_infrastructure
    if infrastructure is None:
        return
    for actor in infrastructure.actors:
        with suppress(AttributeError):  # it was not started
            actor.kill()
    for actor in infrastructure.actors:
        with suppress(Exception):  # Lava reads the child's error once more, see _report
            actor.join()
    infrastructure.actors.clear()
    runtime.exception_q.clear()
    for port in runtime._open_ports:
        port.join()
    runtime._open_ports.clear()
    runtime._is_started = runtime._is_running = False
