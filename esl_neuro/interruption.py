"""Ctrl-C and termination: a command ends within two seconds, and what it saves is whole.

The signals raise :class:`Interrupted`, a ``KeyboardInterrupt``. A block that must not end at any place, such as a step
of a training, holds them back and looks for them itself. A thread of its own watches the signals: it ends a process
that has not ended after a moment, because it computes in compiled code or because something swallowed the exception.
Nothing is lost then but the work since the last file, as files are written whole (:mod:`esl_neuro.storage`).
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

GRACE_S = 1.5
"""Time that a command has to end by itself."""

REPEAT_S = 0.3
"""Time after which another Ctrl-C is a second one; some terminals and tools send the first one twice."""

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # Windows has no SIGHUP

TOO_SLOW = b"esl-neuro: interrupted; what was saved last is kept\n"
INTERRUPTED = b"\nesl-neuro: interrupted\n"
OVER = b"\0"
SHOW_CURSOR = b"\x1b[?25h"
"""A bar hides the cursor of a terminal."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or a request to terminate.

    Attributes
    ----------
    number : int
        The signal; the exit code of the command is 128 more.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def end_at_once() -> None:
    """Let the signals end this process at once, with one line and the exit code of the signal; nothing is saved."""

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (signal handler)
        with suppress(OSError):
            os.write(2, INTERRUPTED)
        os._exit(128 + number)

    for number in SIGNALS:
        if not _left_alone(number):
            signal.signal(number, end)


@contextmanager
def interruptible() -> Iterator[Callable[[], int | None]]:
    """Let the signals end a command within two seconds; yield a function that returns the signal that came.

    Outside the main thread, which alone receives signals, nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    came: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (signal handler)
        came.append(number)
        raise Interrupted(number)

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    watcher = threading.Thread(target=_watch, args=(theirs,), name="signals", daemon=True)
    handlers = {number: signal.signal(number, interrupt) for number in SIGNALS if not _left_alone(number)}
    # The file is written by the system, also while the interpreter waits for compiled code.
    before = signal.set_wakeup_fd(ours.fileno(), warn_on_full_buffer=False)
    watcher.start()
    try:
        yield lambda: came[0] if came else None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        with suppress(OSError):
            ours.send(OVER)
        watcher.join(GRACE_S)
        ours.close()


def _left_alone(number: int) -> bool:
    """Return whether a signal is ignored, as nohup asks for SIGHUP, or handled by another library in C."""
    handler = signal.getsignal(number)
    return handler is None or (number not in (signal.SIGINT, signal.SIGTERM) and handler is signal.SIG_IGN)


def _watch(signals: socket.socket) -> None:
    """Wait for a signal, then for the end of the command; end the process if that takes too long."""
    first, came = None, 0.0
    with signals:
        while True:
            signals.settimeout(None if first is None else max(0.0, came + GRACE_S - time.monotonic()))
            try:
                byte = signals.recv(1)
            except (TimeoutError, BlockingIOError):
                _end_now(first)
                return
            if byte in (OVER, b""):
                return
            if byte[0] not in SIGNALS:
                continue
            if first is None:
                first, came = byte[0], time.monotonic()
            elif byte[0] == signal.SIGINT and time.monotonic() - came > REPEAT_S:
                _end_now(first)


def exit_without_unloading(code: int) -> NoReturn:
    """End the process with everything printed, but without the seconds that unloading torch can take."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or there is none
            stream.flush()
    os._exit(code)


def _end_now(number: int | None) -> None:
    with suppress(OSError):
        os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + TOO_SLOW)
    os._exit(128 + (number or 0))


@contextmanager
def held_back(second_passes: bool = False) -> Iterator[Callable[[], bool]]:
    """Hold the signals back inside a block; yield a function that tells whether one came.

    At the end of the block it arrives where it would have arrived without the block. A block that leaves because of it
    raises ``KeyboardInterrupt``.

    Parameters
    ----------
    second_passes : bool
        Whether only the first of each is held back.
    """
    came: list[int] = []
    before: dict[int, Any] = {}

    def remember(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (signal handler)
        came.append(number)
        if second_passes:
            signal.signal(number, before[number])

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    for number in SIGNALS:
        if not _left_alone(number):
            before[number] = signal.getsignal(number)
            signal.signal(number, remember)
    left: KeyboardInterrupt | None = None
    try:
        yield lambda: bool(came)
    except KeyboardInterrupt as error:  # the block left because a signal came; an error in it tells more, and passes
        if not came:
            raise
        left = error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        told = signal.set_wakeup_fd(-1)  # whoever watches the signals has seen this one when it came
        try:
            signal.raise_signal(came[0])
        except KeyboardInterrupt as error:
            raise error from None  # where the block left is of no interest
        finally:
            signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    if left is not None:  # nobody outside of the block raises the signal
        raise left from None
