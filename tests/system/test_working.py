"""A command shows within a second that it works, and what it prints stays whole."""

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress

import pytest

LINES = """
import sys, time
from esl_neuro.cli.commands import emit, print_status
from esl_neuro.cli.working import working
with working("esl-neuro train"):
    time.sleep({quiet})
    print_status("a status message")
    time.sleep({quiet})
    emit(None, "the result", False)
"""


def shown(program: str, *, terminal: bool = True) -> tuple[str, list[str]]:
    """Return the bytes that a program writes, and the lines that remain of them on a terminal."""
    ours, theirs = pty.openpty()
    end = theirs if terminal else subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdout=end, stderr=end, text=True) as child:
        os.close(theirs)
        if not terminal:
            out, err = child.communicate(timeout=60)
            return err + out, (err + out).splitlines()
        written = b""
        with suppress(OSError):  # the other end is closed
            while True:
                written += os.read(ours, 4096)
    text = written.decode()
    return text, remaining(text)


def remaining(text: str) -> list[str]:
    """Return the lines that a terminal shows in the end."""
    lines = [""]
    for part in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|\n|\r|[^\x1b\r\n]+", text):
        if part == "\n":
            lines.append("")
        elif part == "\x1b[1A":  # up, to erase the line there
            lines.pop()
        elif part == "\x1b[2K":
            lines[-1] = ""
        elif part[0] not in "\x1b\r":
            lines[-1] += part
    return [line for line in lines if line]


def test_a_bar_moves_while_nothing_is_printed_and_leaves_no_trace():
    text, lines = shown(LINES.format(quiet=1.5))
    assert len(re.findall("esl-neuro train ", text)) > 4  # drawn several times, before each of the outputs
    assert "esl-neuro train " in text.split("a status message")[1]
    assert lines == ["a status message", "the result"]
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h")  # the cursor is there again


def test_a_command_that_ends_at_once_shows_no_bar():
    text, _ = shown(LINES.format(quiet=0))
    assert "esl-neuro train" not in text


@pytest.mark.parametrize("quiet", [0, 1])
def test_a_file_gets_no_bar(quiet):
    text, lines = shown(LINES.format(quiet=quiet), terminal=False)
    assert lines == ["a status message", "the result"]
    assert "\x1b" not in text
