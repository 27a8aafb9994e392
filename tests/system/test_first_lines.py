"""What a command says first: its help, the run that it took, or what is wrong, before anything slow is loaded."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from esl_neuro.cli.commands import wrapped
from esl_neuro.cli.main import main
from esl_neuro.cli.workspace import chosen_export, chosen_run
from esl_neuro.errors import BadInput

WRONG = (
    ("check nosuch.nir", "nosuch.nir: no such file"),
    ("compile nosuch.nir", "nosuch.nir: no such file"),
    ("verify nosuch.nir", "nosuch.nir: there is no such file"),
    ("export --target akida", "'akida' has no [arithmetic]"),
    ("run --target akida", "'akida' has no [arithmetic]"),
    ("export nosuch", "nosuch: not a run"),
    ("evaluate nosuch", "nosuch: not a run"),
    ("train --resume nosuch", "nosuch: not a run"),
    ("train --from nosuch", "nosuch: not a run"),
    ("run nosuch", "nosuch: not an export"),
    ("energy report nosuch", "nosuch: not an export"),
    ("energy report --explain 99", "'99': no such row"),
)


@pytest.mark.parametrize("group", ["", "energy", "targets"])
def test_a_group_alone_prints_its_help(group, capsys):
    assert main(group.split()) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("Examples:\n  esl-neuro")
    assert printed.err == ""


def test_wrong_arguments_are_refused_before_anything_slow_is_loaded(tmp_path):
    script = (
        "import sys; from esl_neuro.cli.main import main\n"
        f"for words in {[command.split() for command, _ in WRONG]!r}:\n"
        "    assert main(words) == 2, words\n"
        "    assert 'torch' not in sys.modules, words\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(WRONG)
    for line, (command, words) in zip(lines, WRONG, strict=True):
        assert words in line, command


def test_the_run_and_the_export_that_a_command_took_are_named(tmp_path, capsys):
    for name in ("one", "two"):
        folder = tmp_path / name / "loihi2"
        folder.mkdir(parents=True)
        (tmp_path / name / "result.json").write_text("{}")
        (folder / "export.json").write_text("{}")
    assert chosen_run(None, tmp_path) == tmp_path / "two"
    assert chosen_export(None, tmp_path) == tmp_path / "two" / "loihi2"
    said = capsys.readouterr().err.splitlines()
    assert said == [f"{tmp_path / 'two'}: the latest run", f"{tmp_path / 'two' / 'loihi2'}: the latest export"]
    assert chosen_run(tmp_path / "one", tmp_path) == tmp_path / "one"
    assert capsys.readouterr().err == ""
    with pytest.raises(BadInput, match="contains no completed run"):
        chosen_run(None, tmp_path / "one")


def test_an_error_breaks_between_words_and_keeps_a_path_whole():
    path = Path("/somewhere/with/a-rather-long/name/of-a/folder")
    message = f"esl-neuro: {path}: not a run (config.toml is missing); create one with 'esl-neuro train'"
    lines = wrapped(message, 40).splitlines()
    assert len(lines) > 2
    assert any(str(path) in line for line in lines)
    assert " ".join(line.strip() for line in lines) == message


def test_what_fits_the_width_is_printed_as_it_is():
    table = "layer   spikes\n-----   ------\n    indented   columns"
    assert wrapped(table, 40) == table
    assert wrapped("    a note that is longer than the width", 24).splitlines() == [
        "    a note that is",
        "      longer than the",
        "      width",
    ]


@pytest.mark.parametrize(("verbatim", "lines"), [(False, 2), (True, 1)])
def test_a_result_is_broken_for_a_terminal_and_not_for_another_program(verbatim, lines):
    terminal, ours = pty.openpty()
    script = f"from esl_neuro.cli.commands import emit\nemit({{}}, 'word ' * 14 + 'word', False, verbatim={verbatim})"
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    subprocess.run([sys.executable, "-c", script], stdout=ours, env=environment, check=True)
    assert len(os.read(terminal, 4096).decode().splitlines()) == lines
