"""A chip of the user's own begins as a copy that says where its figures come from."""

from __future__ import annotations

import pytest

from esl_neuro.energy.target_check import findings
from esl_neuro.errors import BadInput
from esl_neuro.hardware import KIND, load_target
from esl_neuro.hardware.copying import copy_target
from esl_neuro.resources import resource_names


@pytest.mark.parametrize("name", resource_names(KIND))
def test_a_copy_of_every_target_is_valid_and_the_same_but_for_its_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = copy_target("mychip", name)
    assert findings(f"./{path}") == []
    copied, original = load_target(str(path)), load_target(name)
    assert copied.name == "mychip"
    assert f"copied from {name}" in copied.target.note
    assert (original.target.note or "") in copied.target.note
    same = {"name": original.name, "note": original.target.note}
    assert copied.target.model_copy(update=same) == original.target
    assert (copied.limits, copied.arithmetic) == (original.limits, original.arithmetic)
    assert copied.constants.keys() == original.constants.keys()


def test_a_copy_of_a_copy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy_target("mychip", "loihi")
    copy_target("other", "./mychip.toml")
    assert load_target("./other.toml").target.note.count("copied from") == 2


def test_a_repeated_copy_changes_nothing_and_an_edited_one_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = copy_target("mychip", "loihi")
    written = path.stat()
    assert copy_target("mychip", "loihi").stat() == written
    path.write_text(path.read_text() + "# mine\n")
    with pytest.raises(BadInput, match="exists already, with other contents"):
        copy_target("mychip", "loihi")


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [("loihi2", "loihi", "one of the package"), ("../x", "loihi", "without folder and ending"),
     ("x.toml", "loihi", "without folder and ending"), ("mychip", "lohi", "did you mean 'loihi'"),
     ("taken", "loihi", "exists already")],
)  # fmt: skip
def test_nothing_is_overwritten_or_written_elsewhere(tmp_path, monkeypatch, name, source, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.toml").write_text("mine")
    with pytest.raises(BadInput, match=message):
        copy_target(name, source)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.toml"]
    assert (tmp_path / "taken.toml").read_text() == "mine"
