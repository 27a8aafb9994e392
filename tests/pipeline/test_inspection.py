"""What a file is, without running any of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data.own_files import write_arrays, write_events, write_images
from esl_neuro.errors import BadInput
from esl_neuro.pipeline.inspection import MOST_ENTRIES, inspect_path
from esl_neuro.resources import find_resource

OLD = Path(__file__).parent / "written_by_0_1_0"


@pytest.mark.parametrize(
    ("path", "format", "version", "entry"),
    [
        (OLD, "run of esl-neuro", "", ("connections", "density 0.150")),
        (OLD / "loihi2", "export of esl-neuro", "esl-neuro 0.1.0", ("target", "loihi2")),
        (OLD / "loihi2/model.nir", "NIR graph", "nir 1.0.8", ("fc1", "Affine")),
        (OLD / "loihi2/golden.h5", "trace of esl-neuro (NIRData)", "schema 1", ("nodes/input", "bool of shape")),
        (OLD / "loihi2/program.json", "integer program of esl-neuro", "schema", ("target", "loihi2")),
        (OLD / "loihi2/program.safetensors", "safetensors", "", ("groups/lif1/vth", "I64 of shape")),
        (OLD / "loihi2/export.json", "export document of esl-neuro", "schema", ("target", "loihi2")),
        (OLD / "result.json", "result of a run of esl-neuro", "", ("recipe", "mlp-digits")),
        (find_resource("models", "mlp-digits"), "recipe of esl-neuro", "", ("network", "entries")),
        (find_resource("hw_targets", "loihi"), "target (chip or processor)", "", ("constants", "e_")),
        (find_resource("sweeps", "digits-density"), "sweep of esl-neuro", "", ("seeds", "list of")),
        (find_resource("reproductions", "table1"), "reproduction of esl-neuro", "", ("paper", "")),
    ],
)
def test_files_of_ours_are_recognised(path, format, version, entry):
    found = inspect_path(path)
    assert format in found.format
    assert version in found.version
    name, said = entry
    assert any(each.startswith(name) and said in text for each, text in found.contents), found.contents
    assert found.bytes == sum(
        each.stat().st_size for each in ([path] if path.is_file() else path.rglob("*")) if each.is_file()
    )
    json.dumps(found.to_dict())


def test_files_of_users_are_recognised(tmp_path):
    write_arrays(tmp_path / "own.npz")
    write_images(tmp_path / "images")
    write_events(tmp_path / "events")
    np.save(tmp_path / "a.npy", np.array([[1.0, np.nan, 0.0]]))
    assert inspect_path(tmp_path / "own.npz").format.startswith("own data")
    assert ("left/", "20 entries") in inspect_path(tmp_path / "images").contents
    assert inspect_path(tmp_path / "events/left/000.npz").format == "recording of an event camera"
    assert (
        inspect_path(tmp_path / "images/left/000.png").contents[0][1].startswith("(channels, height, width) (1, 6, 6)")
    )
    ((_, said),) = inspect_path(tmp_path / "a.npy").contents
    assert said == "float64 of shape (1, 3), 0 to 1, 1 not finite, 66.7 % not zero"


def test_a_long_listing_says_how_much_is_left_out(tmp_path):
    np.savez(tmp_path / "many.npz", **{f"a{number}": np.zeros(1) for number in range(MOST_ENTRIES + 5)})
    assert inspect_path(tmp_path / "many.npz").contents[-1] == ("...", "and 5 more")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.nir", b"nothing", "not an HDF5 file"),
        ("a.safetensors", b"\xff" * 20, "its header has"),
        ("a.safetensors", b"\x02" + bytes(7) + b"[]", "its header is damaged"),
        ("a.json", b"{", "damaged"),
        ("a.txt", b"hello world", "is of an unknown format (it begins with b'hello wo')"),
    ],
)
def test_what_is_damaged_or_unknown_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput) as caught:
        inspect_path(tmp_path / name)
    assert message in str(caught.value)


def test_a_folder_of_anything_is_refused_with_what_is_in_it(tmp_path):
    (tmp_path / "notes.md").touch()
    with pytest.raises(BadInput, match=r"is no run, export, sweep, search or folder of data \(it contains notes\.md\)"):
        inspect_path(tmp_path)
    with pytest.raises(BadInput, match="no such file or folder"):
        inspect_path(tmp_path / "missing")
