"""Ctrl-C and termination end a command within two seconds, whatever it is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from esl_neuro.interruption import GRACE_S, Interrupted, held_back, interruptible

LONGEST_S = 2.0


def test_signal_is_raised_with_its_number():
    for number in (signal.SIGINT, signal.SIGTERM):
        with interruptible() as came, pytest.raises(Interrupted) as caught:
            signal.raise_signal(number)
        assert caught.value.number == came() == number
        assert isinstance(caught.value, KeyboardInterrupt)


def test_handlers_are_given_back():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with interruptible(), held_back():
        pass
    assert {number: signal.getsignal(number) for number in before} == before


def block(done, how_often=1, error=None, **how):
    with interruptible():
        with held_back(**how) as came:
            for _ in range(how_often):
                signal.raise_signal(signal.SIGTERM)
                done.append(came())
            if error is not None:
                raise error
        done.append("after the block")


def test_signal_that_is_held_back_arrives_at_the_end_of_the_block():
    done = []
    with pytest.raises(Interrupted):
        block(done)
    assert done == [True]


def test_error_in_a_block_tells_more_than_the_signal():
    with pytest.raises(ZeroDivisionError):
        block([], error=ZeroDivisionError())


def test_second_signal_passes_on_request():
    done = []
    with pytest.raises(Interrupted):
        block(done, 3, second_passes=True)
    assert done == [True]


STUBBORN = {
    "compiled code": "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)",
    "an exception that is swallowed": (
        "while True:\n    try:\n        time.sleep(60)\n    except BaseException:\n        pass"
    ),
    "a library's cleaning": "try:\n    time.sleep(60)\nfinally:\n    time.sleep(60)",
}


def start(body):
    code = (
        "import sys, time\nfrom esl_neuro.interruption import interruptible\n"
        f"with interruptible():\n    print('up', flush=True)\n    {body.replace(chr(10), chr(10) + '    ')}\n"
    )
    process = launch(code)
    time.sleep(0.2)  # it is in its body now
    return process


def launch(code):
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


@pytest.mark.parametrize(
    ("body", "number"),
    zip(STUBBORN.values(), (signal.SIGINT, signal.SIGTERM, signal.SIGINT), strict=True),
    ids=STUBBORN,
)
def test_process_that_does_not_end_is_ended(body, number):
    process = start(body)
    began = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert time.monotonic() - began < LONGEST_S
    assert process.returncode == 128 + number
    assert errors == "esl-neuro: interrupted; what was saved last is kept\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_a_command_in_one_line_also_during_its_imports(number):
    code = (
        "import sys, time\n"
        "class Slow:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'esl_neuro.cli.main':\n"
        "            print('up', flush=True)\n"
        "            time.sleep(60)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "from esl_neuro.cli.start import main\n"
        "main()"
    )
    process = launch(code)
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (128 + number, "\nesl-neuro: interrupted\n")


def test_second_ctrl_c_ends_at_once():
    process = start(STUBBORN["an exception that is swallowed"])
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert time.monotonic() - began < GRACE_S / 2
    assert process.returncode == 130


def test_ctrl_c_that_was_held_back_for_a_while_is_not_a_second_one():
    body = (
        "from esl_neuro.interruption import held_back\n"
        "try:\n    with held_back():\n        time.sleep(1)\n        time.sleep(0.8)\n"
        "except KeyboardInterrupt:\n    time.sleep(0.2)\n    print('whole')"
    )
    process = start(body)
    time.sleep(0.6)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=10)
    assert (out, errors, process.returncode) == ("whole\n", "", 0)
