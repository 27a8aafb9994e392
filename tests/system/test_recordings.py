"""The recorded terminals of docs/recordings/: their commands exist, and mistakes still get the recorded answers."""

from __future__ import annotations

import runpy
import shlex
import subprocess

import click
import pytest

from esl_neuro.cli.main import cli, main
from system.command_workspace import REPOSITORY

RECORDER = runpy.run_path(str(REPOSITORY / "scripts" / "record-terminal"), run_name="recorder")
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in RECORDER["FOLDER"].glob("*.md")}
MISTAKES = RECORDER["recorded"](PAGES["mistakes"])


def commands(group=cli, name=""):
    """Every command without its groups, by its words."""
    for word, command in group.commands.items():
        words = f"{name} {word}".strip()
        yield from commands(command, words) if isinstance(command, click.Group) else [(words, command)]


COMMANDS = dict(commands())


def command_of(line):
    """The command that a line calls, and its arguments; None if there is no such command."""
    words = shlex.split(line)[1:]
    called = next((name for name in (" ".join(words[:2]), " ".join(words[:1])) if name in COMMANDS), None)
    return (called, words[len(called.split()) :]) if called else None


def told(text):
    """What a terminal or a file shows of a text, without its line breaks."""
    return " ".join(text.split())


@pytest.mark.parametrize("page", sorted(PAGES.keys() - {"mistakes"}))
def test_recorded_commands_still_parse(page):
    lines = [line for line, _ in RECORDER["recorded"](PAGES[page]) if line.startswith("esl-neuro ")]
    assert lines
    for line in lines:
        called, arguments = command_of(line)
        command = COMMANDS[called]
        given, *_ = command.make_parser(click.Context(command)).parse_args(arguments)  # refuses unknown options
        for each in command.params:
            if isinstance(each.type, click.Choice) and isinstance(given.get(each.name), str):
                assert given[each.name] in each.type.choices, line


def test_recorded_commands_did_not_fail():
    for page in PAGES.keys() - {"mistakes"}:
        assert "(exit code" not in PAGES[page], page
        assert "Traceback" not in PAGES[page], page


def test_there_is_a_mistake_in_every_command():
    called = {found[0] for line, _ in MISTAKES if line.startswith("esl-neuro ") and (found := command_of(line))}
    assert called == set(COMMANDS)


def test_mistakes_get_the_recorded_answers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("ESL_NEURO_DATA", "ESL_NEURO_RUNS", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for line, output in MISTAKES:
        if not line.startswith("esl-neuro "):
            subprocess.run(line, shell=True, check=True, cwd=tmp_path)
            continue
        assert main(shlex.split(line)[1:]) == 2, line
        shown = capsys.readouterr()
        assert (shown.out, told(shown.err)) == ("", told(output.removesuffix("(exit code 2)"))), line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mychip.toml", "net.nir", "power.csv", "runs"]


def test_a_page_keeps_its_words_and_gets_what_its_commands_print():
    console = "```console\n$ cat a.toml; x=2\nold\n$ echo $x; pwd; false\n```\n"
    page = f"# Title\n\n```toml\n# a.toml\nb = 1\n```\n\nSay:\n\n{console}"
    again = RECORDER["again"](page)
    assert again.startswith(page.removesuffix(console))
    assert RECORDER["recorded"](again) == [
        ("cat a.toml; x=2", "# a.toml\nb = 1"),
        ("echo $x; pwd; false", "2\n~\n(exit code 1)"),
    ]
