"""Every command and every example of the documents runs, and prints what the document says."""

from __future__ import annotations

import json
import re
import shlex
import struct

import numpy as np
import pytest

import esl_neuro
from esl_neuro.backends.lava_session import lava_installed
from system.command_workspace import REPOSITORY, served

# The recordings have a test of their own: test_recordings.
PAGES = [path for path in (REPOSITORY / "docs").rglob("*.md") if path.parent.name != "recordings"]
DOCUMENTS = sorted([REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *PAGES])
NOTEBOOKS = sorted((REPOSITORY / "docs" / "notebooks").glob("*.ipynb"))
RUN_AS_JSON = "esl-neuro quickstart"  # its run is shared
# Commands that take hours on all of Fashion-MNIST run on a few images, in files of the same format.
BUDGET = "--set data.samples=2 --set training.epochs=1 --set training.batch=2 --set training.threads=1"
FULL_DATA = re.compile(r"esl-neuro (sweep|train mlp-fashion)")
# Other trainings take one epoch: what they reach is tested elsewhere.
TRAINS = re.compile(r"esl-neuro train(?!.*(--print-config|training.epochs))")
# Benchmarks run with few repetitions.
BRIEFLY = {
    "esl-neuro search digits-budget": "--trials 3 --set training.epochs=1 --runs brief",
    "python benchmarks/train_step.py": "--sizes 64 32 10 --repeat 2 --iterations 100",
    "python benchmarks/sparse_step.py": "--sizes 64 96 96 10 --density 0.2 --repeat 1",
    "python benchmarks/sparse_break_even.py": "--sizes 64 96 96 10 --density 0.2 0.8 --repeat 1",
    "python benchmarks/sparse_conv.py": "--network conv-fashion --density 0.2 --repeat 1",
    "python benchmarks/growth.py": "--help",  # minutes; test_benchmarks tests its parts
    "python benchmarks/scaling.py": "--help",  # likewise
    "python benchmarks/million_neurons.py": "--help",  # many minutes; test_million_neurons tests its parts
    "python benchmarks/two_workers.py": "--help",  # minutes of commands that are tested elsewhere
    "python benchmarks/nir_paper.py": "--steps 20",
    "python benchmarks/readers.py": "--reader norse --network LIF --network IF",
    "python benchmarks/counting.py": "--repeat 1",
    "python benchmarks/netx_files.py --files lava-dl": "--help",  # needs a clone
    "python tests/backends/parity.py --kind subtraction": "--networks 4",
    "python benchmarks/simulate.py": "--samples 32 --largest 1000 --repeat 2",
    "python benchmarks/simulate_images.py": "--network 8C3-BN-AP2-10 --samples 3 --repeat 1",
    "python benchmarks/fidelity.py": "--epochs 1",
    "python benchmarks/core_budget.py": "--epochs 1 --axons 24 --seeds 0",
    "python benchmarks/energy_budget.py": "--recipes mlp-digits --shares 0.9 --epochs 1 --finetune 1 --seeds 0",
    "python tests/budget/random_budgets.py --budgets 200": "--budgets 2",
    "python tests/reliability/kills.py --kills 300": "--help",  # for an hour; test_reliability runs a few
    "python tests/reliability/file_operations.py": "--help",
    "python tests/reliability/lava_faults.py --faults 200": "--help",
    "esl-neuro verify --install-readers": "--help",  # downloads a gigabyte; make readers runs it
}
# What a command must print where no document shows its output.
SAYS = {
    r"^esl-neuro quickstart": '"report": "runs/mlp-digits-001/report.html"',
    r"^esl-neuro train .*--print-config": "[training]",
    r"^esl-neuro train": "validation  connections",
    r"^esl-neuro sweep .*--list": "folder",
    r"^esl-neuro sweep": "spread: sample standard deviation",
    r"^esl-neuro export .*--stored-bits": "weight bits: lif1 ",
    r"^esl-neuro search .*--list": "to come",
    r"^esl-neuro search": "rank 1 is the Pareto set",
    r"^esl-neuro export": "(NIR graph and integer program for ",
    r"^esl-neuro check": "Fidelity: integers against float",
    r"^esl-neuro run --backend lava": "all equal",
    r"^esl-neuro verify": "every integer equal",
    r"^esl-neuro report": "report.html: ",
    r"^esl-neuro reproduce": "published",
    r"^esl-neuro energy report --preset esl2023": "Reading 'exact' gives 4 of the 4 printed figures",
    r"^esl-neuro energy report --explain": "source",
    r"^esl-neuro energy report --plots": "Medians do not add up exactly",
    r"^esl-neuro energy compare": "sop_effective",
    r"^esl-neuro energy fit": "operations_factor",
    r"^esl-neuro energy programs": "What a fit to them would find",
    r"^esl-neuro energy validate": "Predictions beside published measurements",
    r"^python benchmarks/loihi2_networks.py": "board of the GPU over the chip",
    r"^python benchmarks/core_budget.py": "then pruned to it",
    r"^python benchmarks/energy_budget.py": "; pruned ",
    r"^python tests/budget/random_budgets.py": "networks fit",
}
# Examples that need each other, in their order (test_extending), or other frameworks (test_foreign, `make readers`).
TESTED_ELSEWHERE = ("extending.md", "frameworks.md")
NEEDS_LAVA = re.compile(r"--backend lava|tests/backends/parity|diff integer lava|verify(?! --install-readers)")


def commands() -> list[str]:
    """All esl-neuro and python command lines of the documents, each once, in order."""
    found: dict[str, None] = {}
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for span in re.findall(r"`((?:esl-neuro|python) [^`]+)`", text):
            found[span] = None
        for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL):
            found |= dict.fromkeys(lines_of(block))
    return list(found)


def lines_of(block: str) -> list[str]:
    """The command lines of a block, without comments."""
    return [line.strip() for line in re.findall(r"^((?:esl-neuro|python) .+?)(?:\s+#.*)?$", block, flags=re.MULTILINE)]


def printed_in_the_documents() -> dict[str, str]:
    """What a document says that a command prints: the block that follows the block of one command."""
    found = {}
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for block, printed in re.findall(r"```sh\n([^`]*)```\n+```(?:text)?\n(.*?)```", text, flags=re.DOTALL):
            *before, command = lines_of(block)
            assert before == [], f"{document.name}: show the output of one command: {block}"
            found[command] = printed
    return found


def blocks_without_output() -> list[str]:
    """The blocks of commands that no block of output follows."""
    texts = [document.read_text(encoding="utf-8") for document in DOCUMENTS]
    return [
        block
        for text in texts
        for block in re.findall(r"```sh\n([^`]*)```(?!\n+```(?:text)?\n)", text)
        if lines_of(block)
    ]


PRINTED = printed_in_the_documents()
FIGURE = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:E[-+]\d+)?")
TOLERANCE = 0.05  # of a figure: processors sum in another order


def agrees(printed: str, document: str) -> bool:
    """Whether a command prints what a document says.

    Words must be equal, figures nearly. A line ``...`` of the document stands for any lines, ``...`` in a line for any
    text, and blanks do not count.
    """
    if document.strip() == "...":
        return bool(printed.strip())
    left, skipped = plain_lines(printed), False
    for line in plain_lines(document):
        if line == "...":
            skipped = True
            continue
        place = next((k for k, other in enumerate(left) if same_line(other, line)), None)
        if place is None or (place and not skipped):
            return False
        left, skipped = left[place + 1 :], False
    return skipped or not left


def plain_lines(text: str) -> list[str]:
    """The lines without what only aligns columns."""
    return [" ".join(re.sub(r"-{2,}", "--", line).split()) for line in text.strip().splitlines()]


def same_line(printed: str, document: str) -> bool:
    """Whether a line is that of the document, with figures of its size and anything for ``...``."""
    words = "(.*)".join(
        f"({FIGURE.pattern})".join(map(re.escape, FIGURE.split(part))) for part in document.split("...")
    )
    found = re.fullmatch(words, printed)
    if found is None:
        return False
    figures = [figure for part in document.split("...") for figure in (*FIGURE.findall(part), None)]  # None for '...'
    return all(
        said is None or abs(number(said) - number(given)) <= TOLERANCE * abs(number(said))
        for said, given in zip(figures, (*found.groups(), None), strict=True)
    )


def number(figure: str) -> float:
    """The number that a figure writes."""
    return float(figure.replace(",", ""))


@pytest.mark.parametrize(
    ("printed", "document", "equal"),
    [
        ("a 100 b\n", "a 104 b", True),
        ("a 100 b\n", "a 110 b", False),
        ("a 100 b\n", "a 100 c", False),
        ("a 100\nb\n", "a 100", False),
        ("a 100\nb\n", "a 100\n...", True),
        ("x\ny\nb 5\n", "...\nb 5", True),
        ("x\ny\n", "...\nb", False),
        ("in 3.2 s: 1,000 of 7\n", "in ... s: 1,010 of 7", True),
        ("in 3.2 s: 1,000 of 7\n", "in ... s: 2,010 of 7", False),
        ("7.51E-06  x\n", "7.40E-06 x", True),
        ("7.51E-05  x\n", "7.40E-06 x", False),
        ("\n", "...", False),
    ],
)
def test_what_agrees_with_a_document(printed, document, equal):
    assert agrees(printed, document) == equal


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
def files_of_the_documents(workspace):
    """Write the files that documents show and then name in commands: programs that write data, a network, a chip."""
    for name in ("extending", "own-data", "own-model", "nir-file"):
        text = (REPOSITORY / "docs" / f"{name}.md").read_text(encoding="utf-8")
        for code, file in re.findall(r"```(?:python|toml)\n(# ([\w.]+)\n.*?)```", text, flags=re.DOTALL):
            (workspace.folder / file).write_text(code, encoding="utf-8")
    (sample,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/commands.md").read_text(), flags=re.DOTALL)
    programs = [(workspace.folder / name).read_text(encoding="utf-8") for name in ("make_own.py", "write_nir.py")]
    for code in (*programs, sample):
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
    if without_lava:
        return
    assert "Traceback" not in done.stderr
    if command in PRINTED and line == command:  # not one that was shortened
        assert agrees(done.stdout, PRINTED[command]), done.stdout
    assert said(command) in done.stdout, done.stdout
    for name in re.findall(r"--(?:plot|record|csv|save|trace)[ =](\S+\.\w+)", command):
        assert (workspace.folder / name).stat().st_size > 0


def said(command: str) -> str:
    """Words that a command must print, if no document shows its output."""
    if command.endswith("--help") or BRIEFLY.get(command) == "--help":
        return "sage:"
    return next((words for pattern, words in SAYS.items() if re.search(pattern, command)), "")


@pytest.mark.parametrize("block", blocks_without_output(), ids=lambda block: block[:60])
def test_every_block_without_output_has_words_to_look_for(block):
    assert [command for command in lines_of(block) if not said(command)] == []


def test_the_picture_of_the_readme_shows_what_the_quickstart_gives(workspace):
    """Its colours are defined for light and dark screens, and its energies are those of the energy report."""
    svg = (REPOSITORY / "docs" / "figures" / "quickstart.svg").read_text(encoding="utf-8")
    light, dark = (re.findall(r"(--[\w-]+):", palette) for palette in re.findall(r":root \{([^}]*)\}", svg))
    assert set(re.findall(r"var\((--[\w-]+)\)", svg)) <= set(light) & set(dark)
    assert len(svg) < 60_000
    energy = r"(\d\.\d\d|\d\d\.\d) ([num]J)"
    shown = re.findall(rf">[> &gt;]*{energy}</text>", svg)
    given = re.findall(energy, workspace.once("esl-neuro energy report runs/mlp-digits-001/loihi2").stdout)
    assert len(shown) == 4
    for value, unit in shown:
        assert any(
            unit == other and abs(number(value) - number(said)) < TOLERANCE * number(said) for said, other in given
        )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path):
    """So that no output is older than the code; `make docs` runs them."""
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    assert any("assert " in line for cell in cells for line in cell["source"])


def test_the_api_reference_has_every_public_name():
    text = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")
    written = set(re.findall(r"^\.\. auto\w+:: (\w+)$", text, flags=re.MULTILINE))
    assert written == set(esl_neuro.__all__) - {"__version__"}


def test_python_examples_of_the_documents(tmp_path):
    for document in DOCUMENTS:
        if document.name in TESTED_ELSEWHERE:
            continue
        for block in re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), flags=re.DOTALL):
            done = served(("python", "-c", block), tmp_path)
            assert done.returncode == 0, done.stderr


def test_files_that_the_documents_link_to_exist():
    for document in DOCUMENTS:
        prose = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)#]+)\)", prose):
            assert link.startswith("https://") or (document.parent / link).exists(), f"{document.name}: {link}"
