"""Every command and every example of the documents runs."""

from __future__ import annotations

import re
import shlex
import struct

import numpy as np
import pytest

from esl_neuro.backends.lava_session import lava_installed
from system.command_workspace import REPOSITORY, served

DOCUMENTS = sorted([REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").glob("*.md")])
RUN_AS_JSON = "esl-neuro quickstart"  # its run is shared
# Commands that take hours on all of Fashion-MNIST run on a few images, in files of the same format.
BUDGET = "--set data.samples=2 --set training.epochs=1 --set training.batch=2 --set training.threads=1"
FULL_DATA = re.compile(r"esl-neuro (sweep|train mlp-fashion)")
# Other trainings take one epoch: what they reach is tested elsewhere.
TRAINS = re.compile(r"esl-neuro train(?!.*(--print-config|training.epochs))")
# Benchmarks run with few repetitions.
BRIEFLY = {
    "python benchmarks/train_step.py": "--sizes 64 32 10 --repeat 2 --iterations 100",
    "python benchmarks/nir_paper.py": "--steps 20",
    "python benchmarks/readers.py": "--reader norse --network LIF --network IF",
    "python benchmarks/counting.py": "--repeat 1",
    "python benchmarks/netx_files.py --files lava-dl": "--help",  # needs a clone
    "python tests/backends/parity.py --kind subtraction": "--networks 4",
    "python benchmarks/simulate.py": "--samples 32 --largest 1000",
    "python benchmarks/fidelity.py": "--epochs 1",
    "python tests/reliability/kills.py --kills 300": "--help",  # for an hour; test_reliability runs a few
    "python tests/reliability/file_operations.py": "--help",
    "python tests/reliability/lava_faults.py --faults 200": "--help",
    "esl-neuro verify --install-readers": "--help",  # downloads a gigabyte; make readers runs it
}
NEEDS_LAVA = re.compile(r"--backend lava|tests/backends/parity|diff integer lava|verify(?! --install-readers)")


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


@pytest.fixture(scope="module", autouse=True)
def a_few_images(workspace):
    """Fashion-MNIST's files with few images in them, where the commands look for data."""
    rng, folder = np.random.default_rng(0), workspace.folder / "data" / "fashion_mnist"
    folder.mkdir(parents=True)
    for part, count in (("train", 100), ("t10k", 10)):
        images, labels = rng.integers(0, 256, (count, 28, 28)), np.arange(count) % 10
        for name, kind, array in ((f"{part}-images-idx3-ubyte", 3, images), (f"{part}-labels-idx1-ubyte", 1, labels)):
            header = struct.pack(f">BBBB{kind}I", 0, 0, 8, kind, *array.shape)
            (folder / name).write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture(scope="module", autouse=True)
def chip_of_the_document(workspace):
    """Write the chip that docs/extending.md describes and then names in a command."""
    text = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")
    (chip,) = re.findall(r"```toml\n(# small\.toml\n.*?)```", text, flags=re.DOTALL)
    (workspace.folder / "small.toml").write_text(chip, encoding="utf-8")


@pytest.fixture(scope="module", autouse=True)
def own_data_of_the_document(workspace):
    """Write the files that docs/own-data.md makes and then names in commands."""
    text = (REPOSITORY / "docs" / "own-data.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(# make_own\.py\n.*?)```", text, flags=re.DOTALL)
    (sample,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/commands.md").read_text(), flags=re.DOTALL)
    for code in (program, sample):
        done = served(("python", "-c", code), workspace.folder)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", commands())
def test_command_of_the_documents(workspace, command):
    line = re.sub(r"(benchmarks|tests)/[\w/]+\.py", lambda script: shlex.quote(f"{REPOSITORY}/{script[0]}"), command)
    if FULL_DATA.match(command):
        line = f"{line.replace('--jobs 2', '')} {BUDGET}"  # test_sweep_command has two processes
    elif TRAINS.match(command):
        line = f"{line} --set training.epochs=1"
    line = f"{line} {BRIEFLY.get(command, '')}".strip()
    done = workspace.once(f"{line} --json" if command == RUN_AS_JSON else line)
    without_lava = NEEDS_LAVA.search(command) and not lava_installed()
    assert done.returncode == (3 if without_lava else 0), done.stderr


def test_python_examples_of_the_documents(tmp_path):
    for document in DOCUMENTS:
        if document.name == "extending.md":  # its examples need each other: test_extending runs them, in their order
            continue
        for block in re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), flags=re.DOTALL):
            done = served(("python", "-c", block), tmp_path)
            assert done.returncode == 0, done.stderr


def test_files_that_the_documents_link_to_exist():
    for document in DOCUMENTS:
        prose = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)#]+)\)", prose):
            assert link.startswith("https://") or (document.parent / link).exists(), f"{document.name}: {link}"
