"""What our files say changes only with the version of their format, and a file of another version says who wrote it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from esl_neuro.backends.golden import read_trace
from esl_neuro.compiler.program import Program
from esl_neuro.energy.measurement import Measurement, measure
from esl_neuro.errors import BadInput
from esl_neuro.formats import written_by
from esl_neuro.pipeline.compiled_network import load_compiled
from esl_neuro.pipeline.verification import verify
from esl_neuro.recipes import load_recipe
from esl_neuro.training.run_folder import RunFolder, create_run_folder
from reliability import golden

EXPORTS = sorted(golden.STORED.glob("export-*.zip"))


@pytest.fixture(scope="module")
def made():
    return golden.made()


@pytest.fixture
def export(tmp_path):
    """The export of this version."""
    shutil.unpack_archive(EXPORTS[-1], tmp_path / "export")
    return tmp_path / "export"


@pytest.mark.parametrize("name", golden.SCHEMAS)
def test_files_say_what_they_said(made, name):
    assert golden.verdict(name, made[name]) == ""


def test_other_content_needs_a_new_version_and_a_new_version_other_content(made, monkeypatch):
    changed = made["counts"] | {"samples": 3, "more": 1}
    assert re.search(
        r"counts: .* 2 places: /more is new; /samples is 3, was 2\. .*raise the version",
        golden.verdict("counts", changed),
    )
    monkeypatch.setitem(golden.SCHEMAS, "counts", 99)
    assert "store it anew" in golden.verdict("counts", changed)


@pytest.mark.parametrize("path", EXPORTS, ids=lambda path: path.stem)
def test_exports_of_every_version_open_and_are_proven(path, tmp_path):
    shutil.unpack_archive(path, tmp_path)
    spikes = sum(fired.size for fired in read_trace(tmp_path / "golden.h5").spikes.values())
    assert verify(tmp_path, golden=True, with_lava=False).golden == {"integer": 3 * spikes}
    again = load_compiled(tmp_path).run(golden.inputs())
    assert {name: fired.sum() for name, fired in again.trace.spikes.items()} == {"lif": 14, "cuba": 9}


def test_there_is_an_export_of_the_version_that_is_written_now():
    name = f"export-{golden.SCHEMAS['export']}-program-{golden.SCHEMAS['program']}"
    assert name in [path.stem for path in EXPORTS]


def rewritten(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| .+ \| (\d+)[^|]* \| ([\d, ]+|never) \| .+ \| `(esl_neuro/.+\.py)` \|$", re.MULTILINE)
VERSION = re.compile(r"^(?:KNOWN_)?SCHEMA\w* = ([\d(), ]+)", re.MULTILINE)


def test_the_table_of_formats_says_the_versions_of_the_code():
    """The version that is written, and whether others are read, of every module that has a version."""
    table = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    stated = {place: (int(written), read) for written, read, place in ROW.findall(table)}
    found = {}
    for path in sorted((ROOT / "esl_neuro").rglob("*.py")):
        versions = {int(number) for each in VERSION.findall(path.read_text()) for number in re.findall(r"\d+", each)}
        if versions:
            found[path.relative_to(ROOT).as_posix()] = versions
    assert {place: written for place, (written, _) in stated.items()} == {at: max(all_) for at, all_ in found.items()}
    read = {place: {*map(int, words.split(", "))} for place, (_, words) in stated.items() if words != "never"}
    assert read == {place: found[place] for place in read}
    assert all(len(found[place]) == 1 for place in stated.keys() - read.keys())


LATER = "schema is 99, written by esl-neuro 7.1.0; this version (0.2.0) reads"


@pytest.fixture
def later(export):
    """An export that a later version wrote."""
    rewritten(export / "export.json", environment={"esl_neuro": "7.1.0"})
    return export


def refusal(read):
    with pytest.raises(BadInput) as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_program_of_a_later_version_says_who_wrote_it(later):
    rewritten(later / "program.json", schema=99)
    said = refusal(lambda: Program.load(later))
    assert f"{later}: program {LATER} 2 and 3; install esl-neuro 7.1.0" in said


def test_an_export_of_a_later_version_says_who_wrote_it(later):
    rewritten(later / "export.json", schema=99)
    said = refusal(lambda: load_compiled(later))
    assert f"export {LATER} 1; install esl-neuro 7.1.0" in said


def test_a_trace_of_a_later_version_says_who_wrote_it(later):
    with h5py.File(later / "golden.h5", "r+") as file:
        file.attrs["esl_neuro_schema"] = 99
    said = refusal(lambda: read_trace(later / "golden.h5"))
    assert f"trace {LATER} 1; install esl-neuro 7.1.0" in said


def test_a_trace_of_another_program_needs_no_version(export):
    with h5py.File(export / "golden.h5", "r+") as file:
        del file.attrs["esl_neuro_schema"]
    assert read_trace(export / "golden.h5").samples == 4


def test_a_run_of_a_later_version_says_who_wrote_it(tmp_path):
    folder = create_run_folder(tmp_path, load_recipe("mlp-digits"))
    assert folder.recipe().name == "mlp-digits"
    rewritten(folder.path / "environment.json", run_schema=99, esl_neuro="7.1.0")
    said = refusal(folder.recipe)
    assert f"run {LATER} 1; install esl-neuro 7.1.0" in said


@pytest.mark.parametrize("content", [None, "", "[1]", "{", '{"run_schema": 1}'])
def test_a_run_whose_environment_says_nothing_is_read(tmp_path, content):
    """The environment is a note for people; version 0.1.0 stated no format in it."""
    path = create_run_folder(tmp_path, load_recipe("mlp-digits")).path
    (path / "environment.json").unlink()
    if content is not None:
        (path / "environment.json").write_text(content)
    assert RunFolder(path).recipe().name == "mlp-digits"


def test_a_measurement_of_a_later_version_is_not_called_damaged(tmp_path):
    path = tmp_path / "measured.json"
    path.write_text(json.dumps(measure(np.arange(3.0), np.ones(3), 1, "loihi2", "log.csv").to_dict()))
    assert Measurement.load(path).samples == 1
    rewritten(path, schema=99)
    assert "measurement schema is 99; this version" in refusal(lambda: Measurement.load(path))


def test_a_file_of_an_earlier_version_is_to_be_written_again(export):
    rewritten(export / "program.json", schema=1)
    assert refusal(lambda: Program.load(export)).endswith("reads 2 and 3; export again")


@pytest.mark.parametrize("version", ["\x1b[31m", "1.0\n2", "x" * 100, 3, None, {"a": 1}, ""])
def test_a_version_that_is_none_is_not_repeated(tmp_path, version):
    (tmp_path / "export.json").write_text(json.dumps({"environment": {"esl_neuro": version}}))
    assert written_by(tmp_path) == ""


def test_the_chip_of_the_stored_figures_is_the_one_that_was_copied():
    """A chip file of an earlier version opens."""
    assert (Path(__file__).parent / "golden" / "chip.toml").is_file()
    from esl_neuro.hardware import load_target

    assert load_target(str(golden.CHIP)).name == "loihi"
