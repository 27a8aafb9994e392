"""A bar that moves while a command works and prints nothing: on a terminal, within a second.

A command prints through two functions, :func:`~esl_neuro.cli.commands.print_status` and
:func:`~esl_neuro.cli.commands.emit`, and shows bars of its own with :mod:`esl_neuro.cli.progress`. They take the bar
off the terminal first; after a status message it returns when the next message takes long.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from esl_neuro.launch import launch

QUIET_S = 0.3
"""Time without output after which the bar appears."""


class _Working:
    """The bar of the command that runs; a thread shows it, any other takes it away."""

    def __init__(self, title: str) -> None:
        self.title, self.begun_s = title, time.monotonic()
        self.lock = threading.Lock()
        self.timer: threading.Timer | None = None
        self.bar: Any = None
        self.others = 0  # outputs that have the terminal

    def wait(self) -> None:
        """Show the bar after a moment, unless something is printed first."""
        self.timer = threading.Timer(QUIET_S, self._show)
        self.timer.daemon = True
        self.timer.start()

    def leave(self) -> None:
        """Take the bar off the terminal until :meth:`come_back`."""
        with self.lock:
            self.others += 1
        self.end()

    def come_back(self) -> None:
        """Show the bar again after a moment, if nothing else has the terminal."""
        with self.lock:
            self.others -= 1
            if self.others or self is not _current:
                return
        self.wait()

    def end(self) -> None:
        """Take the bar off the terminal."""
        with self.lock:
            timer, bar = self.timer, self.bar
            self.timer = self.bar = None
        if timer is not None:
            timer.cancel()
        if bar is not None:
            bar.stop()

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        with self.lock:
            if self.others or self.timer is not threading.current_thread():
                return
            self.bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            task = self.bar.add_task(self.title, total=None)
            self.bar.tasks[task].start_time = self.begun_s
            self.bar.start()


_current: _Working | None = None


@contextmanager
def working(title: str) -> Iterator[None]:
    """Show a bar during a ``with`` block where standard error is a terminal, and nothing else is shown."""
    global _current
    if _current is not None or sys.stderr is None or not sys.stderr.isatty() or not launch().first:
        yield
        return
    _current = _Working(title)
    _current.wait()
    try:
        yield
    finally:
        ended, _current = _current, None
        ended.end()


@contextmanager
def hidden() -> Iterator[None]:
    """Take the bar off the terminal during a ``with`` block, which prints or shows a bar of its own."""
    shown = _current
    if shown is None:
        yield
        return
    shown.leave()
    try:
        yield
    finally:
        shown.come_back()
