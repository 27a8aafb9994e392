"""JSON and text are read, or refused in one line."""

from __future__ import annotations

import pytest

from esl_neuro.errors import BadInput
from esl_neuro.reading import documents
from esl_neuro.reading.documents import read_json, read_json_object, read_text
from esl_neuro.resources import read_toml


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5000, b'{"a": 1} {"b": 2}', b"\x00" * 50],
    ids=["empty", "half", "no UTF-8", "deep", "long number", "two", "zeros"],
)
def test_damaged_json_is_one_line(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"a\.json: .*; make it again") as caught:
        read_json(path, "make it again")
    assert "\n" not in str(caught.value)


def test_an_object_is_an_object(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(BadInput, match="it holds a list, not an object"):
        read_json_object(tmp_path / "a.json")


def test_a_missing_file_and_a_large_one_are_named(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match=r"cannot be read \(No such file or directory\)"):
        read_text(tmp_path / "nothing")
    monkeypatch.setattr(documents, "DOCUMENT_MB", 1)
    (tmp_path / "large").write_bytes(bytes(1_000_001))
    with pytest.raises(BadInput, match="is larger than 1 MB"):
        read_text(tmp_path / "large")


@pytest.mark.parametrize("text", ["a = " + "[" * 50_000, "a = " + "1" * 5000, "a", "a = 1\na = 2"])
def test_damaged_toml_is_one_line(tmp_path, text):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(BadInput, match="not valid TOML") as caught:
        read_toml(tmp_path / "a.toml")
    assert "\n" not in str(caught.value)
