"""Readers refuse damaged files in one sentence, and never crash, hang, or accept what no valid file contains.

A few inputs of the fuzzer for each reader, in a process of its own, because a reader may take its process with it.
`make fuzz` goes on for as long as you like, also with the readers that load torch.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings

from reliability import fuzz
from reliability.fuzz import Example, Outcome, in_child, in_turn
from reliability.mutations import damage
from reliability.readers import ORDER, READERS, Reader
from reliability.trees import FORMATS, Declared, Loop, Outside, Raw

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of a process are Linux's")
ROOT = Path(__file__).parents[2]
QUICK = [name for name, reader in READERS.items() if not reader.needs_torch]
INPUTS = 6


def test_every_reader_has_a_place():
    assert sorted(ORDER) == sorted(READERS)


@pytest.fixture(scope="module")
def tallies(tmp_path_factory):
    """What every quick reader did; the profile `search` draws other seeds at each run."""
    folder = tmp_path_factory.mktemp("fuzz")
    seed = 0 if settings().derandomize else random.randrange(2**31)
    options = ["--without-torch", "--inputs", str(INPUTS), "--seed", str(seed), "--minutes", "5"]
    command = [sys.executable, str(ROOT / "tests/reliability/fuzz.py"), *options]
    done = subprocess.run(
        [*command, "--json", str(folder / "figures.json"), "--failures", str(folder / "failures")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode in (0, 1), done.stderr
    return {tally["reader"]: tally for tally in json.loads((folder / "figures.json").read_text())}


@pytest.mark.parametrize("name", QUICK)
def test_reader_refuses_or_reads(tallies, name):
    tally = tallies[name]
    assert tally["inputs"] >= INPUTS
    assert not tally["failures"]


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (lambda: None, "read"),
        (lambda: 1 / 0, "traceback"),
        (lambda: os.kill(os.getpid(), 11), "crash"),
        (lambda: bytearray(2**31), "memory"),
    ],
    ids=["quiet", "error", "crash", "memory"],
)
def test_what_happens_in_the_child_is_told_apart(tmp_path, read, kind):
    assert in_child(read, tmp_path).kind == kind


def test_errors_of_the_project_are_refusals_unless_they_would_reach_the_terminal(tmp_path):
    from esl_neuro.errors import BadInput

    def refuse(text):
        def read():
            raise BadInput(text)

        return read

    assert in_child(refuse("a: is 1, expected 2"), tmp_path) == Outcome("refused", "a: is 1, expected 2")
    assert in_child(refuse("a: is \x1b[31m"), tmp_path).kind == "message"


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_a_tree_is_what_the_file_says(suffix):
    """Reading what was written gives the same bytes again, so a change of the tree is the only damage."""
    form = FORMATS[suffix]
    tree = {
        ".csv": [["a", "b"], ["1", "2"]],
        ".jsonl": [{"epoch": 1}, {"epoch": 2}],
        ".npy": [[1, 2]],
    }.get(suffix, {"a": {"b": 1}} if suffix in (".json", ".toml") else {"a": [1, 2]})
    content = form.encode(tree)
    assert form.encode(form.decode(content)) == content


@pytest.mark.parametrize("special", [Outside("secret.h5"), Raw("secret.h5"), Declared((2**28,)), Loop()], ids=repr)
def test_hdf5_files_that_reach_outside_can_be_written(special):
    assert FORMATS[".h5"].encode({"a": special, "b": 1.0})


def drawn(path, seed):
    """A damaged file, or None if the format cannot hold the change."""
    try:
        return damage(path, path.read_bytes(), [1, seed])
    except (TypeError, ValueError):
        return None


def test_damage_is_the_same_every_time_and_smaller_with_fewer_changes(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": [1, 2, {"b": 0.5}], "c": "d"}))
    assert [drawn(path, seed) for seed in range(50)] == [drawn(path, seed) for seed in range(50)]
    several = next(seed for seed in range(50) if len(getattr(drawn(path, seed), "changes", ())) == 3)
    assert len(damage(path, path.read_bytes(), [1, several], [1]).changes) == 1


def test_a_reader_that_checks_nothing_is_found(tmp_path, monkeypatch):
    """It accepts what no valid file contains: a word for a number, a file that is cut off, an index outside."""

    def make(folder):
        (folder / "a.npz").write_bytes(FORMATS[".npz"].encode({"weights": [0.5] * 9, "indices": [0, 1, 2]}))

    monkeypatch.setitem(READERS, "careless", Reader(make, lambda folder: (folder / "a.npz").read_bytes(), ("a.npz",)))
    monkeypatch.setattr(fuzz, "ORDER", (*ORDER, "careless"))
    example = Example.make("careless", tmp_path)
    invalid = {seed: made for seed in range(300) if (made := example.damaged(seed)[1]).invalid}
    assert {made.place for made in invalid.values()} == {"weights", "indices", ""}
    assert {example.outcome(seed)[0].kind for seed in list(invalid)[:5]} == {"silent"}


def test_inputs_that_are_read_in_turn_end_as_they_do_alone(tmp_path):
    """Also after an input that ended the process of all of them."""
    example = Example.make("recipe", tmp_path)
    given = [("recipe", seed, None) for seed in range(12)]
    assert kinds(in_turn(example, given)) == kinds(example.outcome(seed)[0] for _, seed, _ in given)

    def read(folder):
        if b"\0" in (folder / example.reader.files[0]).read_bytes():
            os.kill(os.getpid(), 9)

    deadly = replace(example, reader=replace(example.reader, read=read))
    outcomes = kinds(in_turn(deadly, given))
    assert outcomes == kinds(deadly.outcome(seed)[0] for _, seed, _ in given)
    assert "crash" in outcomes


def test_inputs_without_end_of_a_single_reader_come_in_groups():
    groups = fuzz.together(("recipe", seed, None) for seed in itertools.count())
    first, second = next(groups), next(groups)
    assert [seed for _, seed, _ in first + second] == list(range(2 * fuzz.TOGETHER))
    few = [("recipe", 0, None), ("idx", 0, None), ("idx", 1, None)]
    assert list(fuzz.together(few)) == [few[:1], few[1:]]


def kinds(outcomes):
    return [outcome.kind for outcome in outcomes]
