"""Files that travel with the package, and the user's own."""

from __future__ import annotations

import pytest

from esl_neuro.errors import BadInput
from esl_neuro.resources import find_resource, parse_toml, read_toml, resource_folder, resource_names

KINDS = ["models", "sweeps", "searches", "reproductions", "hw_targets"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_shipped_file_is_found_by_name(kind):
    names = resource_names(kind)
    assert names == sorted(path.stem for path in resource_folder(kind).iterdir() if path.suffix == ".toml")
    assert names
    for name in names:
        assert find_resource(kind, name).stem == name
        assert read_toml(find_resource(kind, name))


@pytest.mark.parametrize("kind", KINDS)
def test_file_of_the_user_is_found_by_path(kind, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("x = 1")
    assert read_toml(find_resource(kind, str(path))) == {"x": 1}


def test_relative_path_without_folder_needs_the_suffix(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text("x = 1")
    monkeypatch.chdir(tmp_path)
    assert read_toml(find_resource("models", "mine.toml")) == {"x": 1}
    with pytest.raises(BadInput, match="'mine' is unknown"):
        find_resource("models", "mine")


def test_unknown_name_gets_the_nearest_spelling():
    with pytest.raises(BadInput, match=r"'lohi2' is unknown; did you mean 'loihi2'\?"):
        find_resource("hw_targets", "lohi2")


@pytest.mark.parametrize("name", ["nowhere.toml", "no/where", "/"])
def test_missing_path_says_what_else_there_is(name):
    with pytest.raises(BadInput) as caught:
        find_resource("models", name)
    assert str(caught.value).startswith(f"{name}: no such file")
    assert "mlp-digits" in str(caught.value)


def test_invalid_toml_is_refused_with_file_and_line(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("a = 1\nb = \n")
    with pytest.raises(BadInput, match="line 2") as caught:
        read_toml(path)
    assert str(path) in str(caught.value)


def test_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="cannot be read"):
        read_toml(path)


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_unreadable_path_is_refused(tmp_path, name):
    with pytest.raises(BadInput, match="cannot be read"):
        read_toml(tmp_path / name)


def test_parse_names_the_origin():
    assert parse_toml("x = [1, 2]", "here") == {"x": [1, 2]}
    with pytest.raises(BadInput, match=r"^here: not valid TOML"):
        parse_toml("x", "here")
