"""Run a Lava network so that it always ends, with a result or with an error that names the cause.

Lava runs every process of a network in a child process of the operating system. If one of them fails, the others and
Lava wait for it for ever. This module watches the children and always ends them. Names with an underscore are private
to Lava; lava-nc 0.10.0 is its last release, so they do not change.
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
    runtime = None
    try:
        # The children inherit the block, so only the parent handles Ctrl-C.
        with _interrupt_held_back():
            runtime = _compile(process)
            _start_children(runtime)
        runtime.start(RunSteps(num_steps=steps, blocking=False))
        (answers,) = runtime.service_to_runtime
        while not (answers.probe() and enum_equal(answers.recv(), MGMT_RESPONSE.DONE)):
            _raise_failure(runtime)
            if deadline is not None and time.monotonic() > deadline:
                raise LavaError(
                    f"Lava did not finish {steps} steps in {timeout_s} s; use a longer timeout, or run fewer samples"
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
    """Raise if a child has failed; reported errors have priority over exit codes."""
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
            cause = f"was ended by {signal.Signals(-code).name}"
            hint = "; the machine may be out of memory: run fewer samples" if -code == signal.SIGKILL else ""
            raise LavaError(f"Lava: {name} {cause}{hint}")
        if code:
            raise LavaError(f"Lava: {name} ended with exit code {code}")
    if all(code is not None for code in exit_codes):
        raise LavaError("Lava: all processes ended before the run was finished")


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
        actor.kill()
    for actor in infrastructure.actors:
        with suppress(Exception):  # Lava reads the child's error once more, see _report
            actor.join()
    infrastructure.actors.clear()
    runtime.exception_q.clear()
    for port in runtime._open_ports:
        port.join()
    runtime._open_ports.clear()
    with suppress(AttributeError):  # if the shared-memory manager has not started
        infrastructure.smm.shutdown()
    runtime._is_started = runtime._is_running = False


@contextmanager
def _interrupt_held_back() -> Iterator[None]:
    # Starting the resource tracker unblocks both signals, so it must not happen inside.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
