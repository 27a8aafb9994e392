"""A process that has imported what the commands need, and forks itself for each command: a command then starts at once.

It reads one request a line on standard input, a JSON object of ``arguments`` (a command line of ``esl-neuro`` or
``python``), ``folder``, ``environment``, ``stdout`` and ``stderr``, and answers each with the exit code. A command
still has a process of its own, with its own folder, environment and files; only its imports are shared.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn

IMPORTED = (
    *("esl_neuro.cli.quickstart", "esl_neuro.pipeline.training", "esl_neuro.pipeline.compilation"),
    *("esl_neuro.pipeline.verification", "esl_neuro.pipeline.pricing", "esl_neuro.training.trainer"),
    *("torch", "torch._dynamo", "numba", "rich.progress", "pydantic", "nir"),
)


def main() -> None:
    """Serve until standard input ends."""
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # no command goes through all that was imported
    requests = sys.stdin
    for line in requests:
        child = os.fork()
        if child == 0:
            _leave(_run(json.loads(line)))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(request: dict) -> int:
    """Run the command in this process, a child of the server, and return its exit code."""
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, name in enumerate((request["stdout"], request["stderr"]), start=1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    program, *words = request["arguments"]
    if program == "python":
        return _run_python(*words)
    from esl_neuro.cli.main import main as run_command

    sys.argv = request["arguments"]
    return run_command()


def _run_python(*words: str) -> int:
    """Run a file, or the code after ``-c``, as the interpreter does."""
    script = words[0]
    try:
        if script == "-c":
            sys.argv, sys.path[0] = ["-c", *words[2:]], ""
            exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv, sys.path[0] = list(words), str(Path(script).resolve().parent)
            runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _leave(code: int) -> NoReturn:
    """End this process as Python does, but leave what was imported to the system: taking it down takes a second."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
