"""Every command and every example of the documents is run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest
from command_workspace import REPOSITORY

from esl_neuro.backends.lava_door import lava_installed

DOCUMENTS = sorted([REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").glob("*.md")])
# The longest ones share a run with the tests of the road, which read what it prints.
RUN_AS_JSON = ("esl-neuro quickstart", "esl-neuro train --seed 0 --seed 1")
NEEDS_LAVA = re.compile(r"--backend lava|verify|energy report(?!.*(--backend integer|--preset))|benchmarks/simulators")


def commands() -> list[str]:
    """All esl-neuro and python command lines of the documents, each once, in order."""
    found: dict[str, None] = {}
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for span in re.findall(r"`((?:esl-neuro|python) [^`]+)`", text):
            found[span] = None
        for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL):
            for line in re.findall(r"^((?:esl-neuro|python) .+?)(?:\s+#.*)?$", block, flags=re.MULTILINE):
                found[line.strip()] = None
    return list(found)


def test_there_are_commands_to_check():
    assert len(commands()) >= 8


@pytest.mark.parametrize("command", commands())
def test_command_of_the_documents(workspace, command):
    line = command.replace("benchmarks/simulators.py", shlex.quote(f"{REPOSITORY}/benchmarks/simulators.py"))
    done = workspace.once(f"{line} --json" if command in RUN_AS_JSON else line)
    without_lava = NEEDS_LAVA.search(command) and not lava_installed()
    assert done.returncode == (3 if without_lava else 0), done.stderr


def test_python_examples_of_the_documents():
    for document in DOCUMENTS:
        for block in re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), flags=re.DOTALL):
            subprocess.run([sys.executable, "-c", block], check=True)


def test_files_that_the_documents_link_to_exist():
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert link.startswith("https://") or (document.parent / link).exists(), f"{document.name}: {link}"
