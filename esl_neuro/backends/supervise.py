"""Run a Lava network so that it ends: with its result, or with an error that says why, never hanging.

Lava runs every process of a network in a child process of the operating system. When one of them fails, the others
wait for it for ever, and Lava with them. Here the children are watched, and ended in every case.
The names with an underscore are Lava's own; lava-nc 0.10.0 is its last release, so they stay.
"""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from typing import Any

from esl_neuro.errors import EslNeuroError

POLL_S = 0.002
# Messages that a channel between two processes can hold: Lava's 64 cost much shared memory and are no faster.
CHANNEL_MESSAGES = 4


class LavaError(EslNeuroError):
    """Lava could not build or finish a network; the message has the traceback of the process that failed."""

    exit_code = 1


def run_network(
    process: Any, steps: int, timeout_s: float | None = None, on_poll: Callable[[], None] | None = None
) -> None:
    """Build the Lava network that a process belongs to, run it in fixed point, and end all its child processes.

    Nothing can be read from the network's Vars afterwards: results leave through shared memory.

    Parameters
    ----------
    process : lava.magma.core.process.process.AbstractProcess
        Any process of the network.
    steps : int
        Time steps to run.
    timeout_s : float, optional
        Seconds after which the run is given up.
    on_poll : callable, optional
        Called again and again while the network runs.

    Raises
    ------
    LavaError
        If the network cannot be built, a process fails or is killed, or the time is over.
    """
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.runtime.mgmt_token_enums import MGMT_RESPONSE, enum_equal

    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    runtime = None
    try:
        # The children inherit the block, so Ctrl-C is the parent's business alone.
        with _interrupt_held_back():
            runtime = _compile(process)
            _start_children(runtime)
        runtime.start(RunSteps(num_steps=steps, blocking=False))
        (answers,) = runtime.service_to_runtime
        while not (answers.probe() and enum_equal(answers.recv(), MGMT_RESPONSE.DONE)):
            _raise_failure(runtime)
            if deadline is not None and time.monotonic() > deadline:
                raise LavaError(
                    f"Lava has not finished {steps} steps within {timeout_s} s; allow more, or run fewer samples"
                )
            if on_poll is not None:
                on_poll()
            time.sleep(POLL_S)
    finally:
        with _interrupt_held_back():
            if runtime is not None:
                _end(runtime)


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
    """Look for the models of each class of processes once: Lava executes a folder of files for every single process."""
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
    """Do what ``Runtime.initialize`` does, except for its wait for all children, which a dead child makes endless."""
    runtime._executable.assign_runtime_to_all_processes(runtime)
    try:
        runtime._build_watchdog_manager()
        runtime._build_message_infrastructure()
        runtime._build_channels()
        runtime._build_sync_channels()
        runtime._build_processes()
        runtime._build_runtime_services()
        runtime._start_ports()
    except Exception as error:
        raise LavaError(f"Lava cannot start the network: {error}\n{traceback.format_exc()}") from error
    runtime._is_initialized = True


def _raise_failure(runtime: Any) -> None:
    """Raise if a child has failed; an error that a child has reported goes before one that it could not."""
    names = [f"process '{process.name}'" for process in runtime._executable.proc_builders] + ["the runtime service"]
    actors = list(zip(names, runtime._messaging_infrastructure.actors, strict=False))
    # Exit codes first: a child reports before it ends, so what ended without a report will not report any more.
    exit_codes = [actor.exitcode for _, actor in actors]
    for name, actor in actors:
        report = _report(actor)
        if report is not None:
            raise LavaError(f"Lava: {name} failed\n{report}")
    for (name, _), code in zip(actors, exit_codes, strict=True):
        if code is not None and code < 0:
            cause = f"was ended by {signal.Signals(-code).name}"
            hint = "; the machine may be out of memory: run fewer samples" if -code == signal.SIGKILL else ""
            raise LavaError(f"Lava: {name} {cause}{hint}")
        if code:
            raise LavaError(f"Lava: {name} ended with exit code {code}")
    if all(code is not None for code in exit_codes):
        raise LavaError("Lava: every process ended before the run was over")


def _report(actor: Any) -> str | None:
    """Return the traceback that a child has sent, if any."""
    try:
        return None if actor.exception is None else str(actor.exception[1])
    except Exception as error:  # an exception of any class may fail to come through the pipe, in any way
        return f"its error cannot be read: {error!r}"


def _end(runtime: Any) -> None:
    """Kill and reap every child, stop the parent's threads, free the shared memory."""
    infrastructure = runtime._messaging_infrastructure
    if infrastructure is None:
        return
    for actor in infrastructure.actors:
        actor.kill()
    for actor in infrastructure.actors:
        with suppress(Exception):  # Lava reads the child's error once more, see _report
            actor.join()
    infrastructure.actors.clear()
    runtime.exception_q.clear()
    for port in runtime._open_ports:
        port.join()
    runtime._open_ports.clear()
    with suppress(AttributeError):  # where the manager of the shared memory has not even started
        infrastructure.smm.shutdown()
    runtime._is_started = runtime._is_running = False


@contextmanager
def _interrupt_held_back() -> Iterator[None]:
    # Starting the resource tracker ends with both signals unblocked, so it must not happen inside.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
