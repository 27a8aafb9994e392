"""Tasks in other processes, on this machine or on a cluster: the one door to Dask.

A task is a function of this package with one argument. It runs in a worker, a process that does one task at a time, in
the folder and with the variables of the command. Workers on this machine are started for the command, talk over TLS
with keys of that command alone, and end with it. The workers of a cluster are the user's, behind an address.

A task whose worker is killed begins again on another one, so it must continue what it saved. One that nobody waits for
any longer, because the command was interrupted or is gone, is told so and saves what it has.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import logging
import math
import multiprocessing
import os
import queue
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, TypeVar
from uuid import uuid4

from esl_neuro.errors import BadInput, CheckFailed, EslNeuroError
from esl_neuro.interruption import SIGNALS, held_back
from esl_neuro.reading.documents import read_json_object, reason
from esl_neuro.reading.names import printable
from esl_neuro.storage import scratch_folder, unfinished_folder
from esl_neuro.version import __version__

REACH_S = 5.0  # in which the scheduler of a cluster must answer
START_S = 60.0  # in which one that was just started does, on a machine with other work
SAVING_S = 1.0  # of the two seconds in which a signal ends a command
CLOSING_S = 0.3
LOOK_S = 0.05
MOST_DEATHS = 3  # of the workers of one task
START_METHOD = "distributed.worker.multiprocessing-method"
VARIABLES = "ESL_NEURO_"
SCHEDULER_FILE = ".json"
ADDRESS = re.compile(r"([a-z]+://)?[^/\s]+:\d{1,5}")

Argument = TypeVar("Argument")
Message = dict[str, Any]
"""What a task tells while it runs: text, numbers, lists and dicts of them."""

Interrupted = Callable[[], bool]
Tell = Callable[[Message], None]
Wanted = Callable[[], bool]
Work = Callable[[Argument, Tell, Wanted], Any]
"""A task. It saves what it has and raises ``KeyboardInterrupt`` when this worker is no longer wanted for it."""


class WorkersKilled(CheckFailed):
    """A task that no worker survived."""


@dataclass(frozen=True)
class Workplace:
    """Where tasks run.

    Attributes
    ----------
    jobs : int
        Tasks at a time on this machine; one runs in this process.
    scheduler : str, optional
        Address of the scheduler of a cluster, such as ``tcp://host:8786``, or its scheduler file. Its workers then
        decide how many tasks run at a time.
    """

    jobs: int = 1
    scheduler: str | None = None

    @property
    def elsewhere(self) -> bool:
        """Whether it has more than this process."""
        return self.jobs > 1 or self.scheduler is not None


HERE = Workplace()
"""This process alone."""


@dataclass(frozen=True)
class Told(Generic[Argument]):
    """A message of a running task."""

    argument: Argument
    message: Message


@dataclass(frozen=True)
class Ended(Generic[Argument]):
    """The end of a task: what it returned, or why it could not run to its end."""

    argument: Argument
    result: Any
    error: EslNeuroError | None = None


@dataclass(frozen=True)
class Needs:
    """What a worker must have to run a task as this process would.

    Attributes
    ----------
    folder : str
        The current folder, in which the task runs.
    token : str
        A folder that exists for this command alone, with its whole path; who sees it shares the file system.
    code : dict of str to str
        SHA-256 of each module of the user's own.
    variables : dict of str to str
        Environment variables of this package.
    """

    folder: str
    token: str
    code: Mapping[str, str]
    variables: Mapping[str, str]
    version: str = __version__


@dataclass
class Workers:
    """Workers that are ready; see :func:`workers`."""

    client: Any
    place: str
    count: int
    dashboard: str | None
    needs: Needs
    interrupted: Interrupted

    def run(
        self, work: Work[Argument], arguments: Sequence[Argument]
    ) -> Generator[Told[Argument] | Ended[Argument], None, None]:
        """Run a task for each argument; yield what they tell and how each ends, as it happens.

        When the iterator is closed before its end, the tasks are told that nobody wants them, and have a second to
        save.
        """
        waiting = iter(arguments)
        yield from self.serve(work, lambda: next(waiting, None), lambda: len(arguments))

    def serve(
        self, work: Work[Argument], more: Callable[[], Argument | None], at_a_time: Callable[[], int] | None = None
    ) -> Generator[Told[Argument] | Ended[Argument], None, None]:
        """Run tasks whose arguments depend on how earlier ones ended; see :meth:`run`.

        Parameters
        ----------
        work : callable
            The task.
        more : callable
            Returns the next argument, and None as long as there is none. It is called once the end of a task was
            yielded and dealt with, so that it knows of it, while there are free workers.
        at_a_time : callable, optional
            Tasks at a time. Default: one for each worker that there is now.
        """
        heard: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        running: set[str] = set()
        topic, most = f"esl-neuro-{uuid4().hex}", at_a_time or self._present
        given: dict[str, Argument] = {}
        futures: dict[str, Any] = {}

        def hear(event: tuple[float, Message]) -> None:
            heard.put((event[1]["task"], event[1]))

        def submit() -> None:
            while len(futures) < most() and (argument := more()) is not None:
                key = f"{topic}-{len(given)}"
                given[key] = argument
                futures[key] = self.client.submit(_do, work, argument, topic, self.needs, key=key, pure=False)
                futures[key].add_done_callback(lambda ended, key=key: heard.put((key, ended)))

        self.client.subscribe_topic(topic, hear)
        try:
            submit()
            while futures:
                key, news = _next(heard, self.interrupted)
                if not isinstance(news, dict):
                    yield self._ended(given[key], futures.pop(key))
                    submit()
                elif "begun" in news:
                    (running.add if news["begun"] else running.discard)(key)
                else:
                    yield Told(given[key], news["told"])
        finally:
            if futures:
                self.client.cancel(list(futures.values()))
                _wait_for(running, heard)

    def _present(self) -> int:
        """Return the workers that there are now, and 1 for a cluster that waits for its first one."""
        return max(1, len(self.client.nthreads()))

    def _ended(self, argument: Argument, future: Any) -> Ended[Argument]:
        from distributed import CancelledError, KilledWorker

        try:
            return Ended(argument, future.result())
        except EslNeuroError as error:
            return Ended(argument, None, error)
        except KilledWorker:
            return Ended(
                argument,
                None,
                WorkersKilled(
                    f"{MOST_DEATHS + 1} workers that ran it were killed; a machine may be out of memory: use fewer "
                    "--jobs, or fewer workers on a machine"
                ),
            )
        except CancelledError:
            lost = f"{self.place}: the connection to the scheduler is lost; the same command continues what is saved"
            return Ended(argument, None, CheckFailed(lost))
        except Exception as error:  # Dask passes on what a worker raises, and has errors of its own
            return Ended(argument, None, CheckFailed(f"{self.place}: {type(error).__name__}: {reason(error)}"))


def _next(coming: queue.SimpleQueue[Any], interrupted: Interrupted, within_s: float = math.inf) -> Any:
    """Wait for what comes next, or for a signal, which is held back so that it does not end a step of Dask."""
    deadline = time.monotonic() + within_s
    while True:
        if interrupted():
            raise KeyboardInterrupt
        with suppress(queue.Empty):
            return coming.get(timeout=max(0.0, min(LOOK_S, deadline - time.monotonic())))
        if time.monotonic() >= deadline:
            raise TimeoutError


def _wait_for(running: set[str], heard: queue.SimpleQueue[tuple[str, Any]]) -> None:
    """Give running tasks a moment to save; those that compute on have saved their last epoch."""
    deadline = time.monotonic() + SAVING_S
    with suppress(queue.Empty):
        while running and time.monotonic() < deadline:
            key, news = heard.get(timeout=max(0.0, deadline - time.monotonic()))
            if isinstance(news, dict) and news.get("begun") is False:
                running.discard(key)


# In a worker.


def _do(work: Work[Argument], argument: Argument, topic: str, needs: Needs) -> Any:
    """Run a task, as long as it is wanted, in the folder of its command."""
    from distributed import Reschedule, Status, get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def say(**message: Any) -> None:
        worker.log_event(topic, {"task": key, **message})

    def wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state == "executing" and worker.status is not Status.closing

    say(begun=True)
    try:
        lacks = lacking(needs, worker)
        if lacks:
            raise BadInput(f"worker {worker.address} {lacks}")
        with _as_in_the_command(needs):
            return work(argument, lambda message: say(told=message), wanted)
    except KeyboardInterrupt:  # where it is wanted, it goes on in another worker
        raise Reschedule from None
    finally:
        say(begun=False)


def allow_children() -> None:
    """Let this worker fork children that end with it, as those of Lava do; Dask forbids them, for the others' sake."""
    multiprocessing.current_process().daemon = False
    if multiprocessing.parent_process() is not None:  # which has started this process in another way than by a fork
        multiprocessing.set_start_method(None, force=True)


_imported: dict[str, str] = {}
"""SHA-256 of the modules of users when this process imported them first."""


def lacking(needs: Needs, dask_worker: Any) -> str | None:
    """Return what a worker lacks, in words that follow its name; None if it can run the tasks of a command."""
    if needs.version != __version__:
        return f"has esl-neuro {__version__}, this command is {needs.version}; install the same version"
    threads = dask_worker.state.nthreads
    if threads != 1:
        return (
            f"runs {threads} tasks in one process, whose results would depend on each other; start it with --nthreads 1"
        )
    if not os.path.isdir(needs.folder) or not os.path.isdir(needs.token):
        return f"does not see {needs.folder}; start it where the same file system is"
    with _as_in_the_command(needs):
        for module, digest in needs.code.items():
            found = digest_of_module(module)
            if found is None:
                return f"cannot import '{module}', code of the recipe; put its folder on the PYTHONPATH of the workers"
            if found != digest:
                return f"has another module '{module}' than this command; update it there"
            if _imported.setdefault(module, found) != found:
                return f"has imported an earlier module '{module}'; start the workers again"
    return None


def digest_of_module(name: str) -> str | None:
    """Return the SHA-256 of a module's source, looked for in the current folder first; None if there is none."""
    sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()
    try:
        found = importlib.util.find_spec(name)
        return hashlib.sha256(Path(found.origin).read_bytes()).hexdigest() if found and found.origin else None
    except (ImportError, ValueError, OSError):
        return None
    finally:
        sys.path.remove(os.getcwd())


@contextmanager
def _as_in_the_command(needs: Needs) -> Iterator[None]:
    """Work in the current folder and with the variables of the command; a worker does one task at a time."""
    folder, variables = os.getcwd(), {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)}

    def use(folder: str, variables: Mapping[str, str]) -> None:
        os.chdir(folder)
        for name in [name for name in os.environ if name.startswith(VARIABLES)]:
            del os.environ[name]
        os.environ.update(variables)

    use(needs.folder, needs.variables)
    try:
        yield
    finally:
        use(folder, variables)


# Workers of this machine, or of a cluster.


@contextmanager
def workers(where: Workplace, most: int, shared: Path, modules: Sequence[str] = ()) -> Iterator[Workers]:
    """Start workers on this machine, or reach those of a cluster.

    Parameters
    ----------
    where : Workplace
        Where.
    most : int
        Tasks that there are; no more workers than that are started.
    shared : Path
        A folder that exists, below the current one or anywhere else, which the workers must see.
    modules : sequence of str
        Modules of the user's own that the tasks import.

    Raises
    ------
    BadInput
        If the scheduler cannot be reached within seconds, or a worker cannot do the tasks.
    """
    with held_back() as interrupted, _quiet(), ExitStack() as stack:
        token = stack.enter_context(unfinished_folder(shared)).absolute()
        needs = Needs(
            os.getcwd(),
            str(token),
            {module: digest_of_module(module) or "" for module in modules},
            {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)},
        )
        if where.scheduler is None:
            yield stack.enter_context(_local(min(where.jobs, most), needs, interrupted))
        else:
            yield stack.enter_context(_cluster(where.scheduler, needs, interrupted))


@contextmanager
def _quiet() -> Iterator[None]:
    """Let Dask log nothing; what matters to a user is reported in one line."""
    import distributed  # noqa: F401 (its loggers)

    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _local(count: int, needs: Needs, interrupted: Interrupted) -> Iterator[Workers]:
    """Start workers on this machine, which end with this process."""
    import dask.config

    dashboard = importlib.util.find_spec("bokeh") is not None
    settings = {
        "distributed.scheduler.worker-saturation": 1.0,  # a task waits where any worker can take it
        "distributed.scheduler.allowed-failures": MOST_DEATHS,
        "distributed.nanny.pre-spawn-environ": {},  # the threads of a task are those of its recipe
        "distributed.worker.profile.enabled": False,  # it looks at the stack a hundred times a second
        START_METHOD: "spawn",
    }
    others = set(multiprocessing.active_children())
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        scratch = stack.enter_context(scratch_folder())
        begun: list[Any] = []
        try:
            begun.append(_started(count, scratch, interrupted))
            client = _client(begun[0], START_S, interrupted)
            begun.insert(0, client)
            yield Workers(
                client, "this machine", count, client.dashboard_link if dashboard else None, needs, interrupted
            )
        except BaseException:  # no process may be left that is starting when this one ends
            dask.config.set({START_METHOD: "none"})
            _end_processes(others)
            threading.Thread(target=_close, args=begun, daemon=True).start()
            raise
        _close(*begun)


def _close(*begun: Any) -> None:
    for each in begun:
        each.close()


def _end_processes(others: Collection[BaseProcess]) -> None:
    """Kill the processes of this process, but for others, and those that Dask is starting in their place."""
    deadline = time.monotonic() + CLOSING_S
    while time.monotonic() < deadline:
        for process in set(multiprocessing.active_children()) - set(others):
            process.kill()
        time.sleep(0.01)


def _started(count: int, scratch: Path, interrupted: Interrupted) -> Any:
    """Start a scheduler and workers that no signal to this process reaches; a signal to it ends the waiting."""
    opened: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def start() -> None:
        from distributed import LocalCluster
        from distributed.security import Security

        try:
            opened.put(
                LocalCluster(
                    n_workers=count,
                    threads_per_worker=1,
                    memory_limit=None,
                    security=Security.temporary(),  # other users of this machine cannot connect
                    dashboard_address="127.0.0.1:0",  # a page with bokeh, else none
                    silence_logs=logging.CRITICAL,
                    local_directory=str(scratch),
                )
            )
        except Exception as error:
            opened.put(error)

    _start_resource_tracker()
    # A thread and the processes that it starts inherit the blocked signals, which are for this process alone.
    thread = threading.Thread(target=start, daemon=True)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    found = _next(opened, interrupted)
    if isinstance(found, Exception):
        raise BadInput(f"processes for the runs cannot be started: {reason(found)}") from found
    return found


def _start_resource_tracker() -> None:
    """Start the process that frees semaphores; starting it later would unblock the signals.

    It frees them also after a command that was interrupted, and need not warn of them.
    """
    quiet = "ignore:resource_tracker"
    sys.warnoptions.append(quiet)
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(quiet)


@contextmanager
def _cluster(scheduler: str, needs: Needs, interrupted: Interrupted) -> Iterator[Workers]:
    """Reach the scheduler of a cluster, and reject workers that cannot do the tasks."""
    address = address_of(scheduler)
    try:
        client = _client(address, REACH_S, interrupted)
    except Exception as error:  # of Dask, of the system, of the network
        raise BadInput(
            f"scheduler {printable(address)} cannot be reached within {REACH_S:g} s: {reason(error)}; start it with "
            "'dask scheduler', or correct --scheduler"
        ) from error
    try:
        found = client.get_versions(packages=["esl_neuro", "bokeh"])
        _refuse_others(client, needs, found["workers"])
        has_dashboard = found["scheduler"]["packages"].get("bokeh") not in (None, "MISSING")
        yield Workers(
            client, address, len(found["workers"]), client.dashboard_link if has_dashboard else None, needs, interrupted
        )
    finally:
        with suppress(asyncio.TimeoutError):  # of a scheduler that no longer answers; TimeoutError from Python 3.11
            client.close(timeout=CLOSING_S)


def _refuse_others(client: Any, needs: Needs, found: Mapping[str, Any]) -> None:
    """Reject workers that cannot do the tasks, in one line; others that come later are asked by each task."""
    versions = {address: each["packages"].get("esl_neuro") for address, each in found.items()}
    findings = {
        address: f"has esl-neuro {version}, this command is {needs.version}; install the same version"
        if version not in (None, "MISSING")
        else "has no esl-neuro; install it there"
        for address, version in versions.items()
        if version != needs.version
    }
    if not findings and found:
        told = client.run(lacking, needs, on_error="return")
        findings = {address: str(words) for address, words in told.items() if words is not None}
    if findings:
        address, words = next(iter(findings.items()))
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise BadInput(f"worker {address}{more} {words}")


def address_of(scheduler: str) -> str:
    """Return the address of a scheduler, also from a file that ``dask scheduler --scheduler-file`` wrote.

    Raises
    ------
    BadInput
        If it is none, or the file is missing or has none.
    """
    if not scheduler.endswith(SCHEDULER_FILE):
        address: Any = scheduler
        place, fix = "--scheduler", "write tcp://host:8786, or the path of a scheduler file, which ends with .json"
    else:
        place, fix = scheduler, "give the file that 'dask scheduler --scheduler-file' writes"
        address = read_json_object(Path(scheduler), fix).get("address")
    if not isinstance(address, str) or not ADDRESS.fullmatch(address):
        raise BadInput(f"{place}: {printable(str(address))} is not the address of a scheduler; {fix}")
    return address


def _client(target: Any, within_s: float, interrupted: Interrupted) -> Any:
    """Connect to a scheduler; Dask alone would wait for ever for a server that is none."""
    opened: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def connect() -> None:
        from distributed import Client

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other versions of other packages
            try:
                opened.put(Client(target, timeout=within_s, set_as_default=False))
            except Exception as error:
                opened.put(error)

    threading.Thread(target=connect, daemon=True).start()
    try:
        found = _next(opened, interrupted, within_s + CLOSING_S)
    except TimeoutError:
        found = TimeoutError("no scheduler answers there")
    if isinstance(found, Exception):
        raise found
    return found
