"""Write the file of a chip of the user's own, as a copy of a known one with its comments and sources."""

from __future__ import annotations

import os
import re
from pathlib import Path

from esl_neuro.errors import BadInput
from esl_neuro.hardware.target import KIND, load_target
from esl_neuro.reading.documents import read_text
from esl_neuro.reading.names import is_plain, printable
from esl_neuro.resources import find_resource, parse_toml, resource_names
from esl_neuro.storage import write

COPIED = "copied from"  # how the note of a copy begins
TABLE = re.compile(r"^\[target\][ \t]*\n(?:(?!^\[).*\n)*", re.MULTILINE)


def copy_target(name: str, source: str) -> Path:
    """Write ``name.toml`` into the current folder and return its path.

    Parameters
    ----------
    name : str
        Name of the new target, also of its file.
    source : str
        Name or path of the target to copy.

    Raises
    ------
    BadInput
        If the name is no name or taken, the file exists with other contents, or the source is unknown or invalid.
    """
    if not is_plain(name) or name.endswith(".toml"):
        raise BadInput(
            f"target '{printable(name)}': give a name without folder and ending, of letters, digits, '.', '-' and '_'"
        )
    if name in resource_names(KIND):
        raise BadInput(f"target '{name}' is one of the package; choose another name")
    path = Path(f"{name}.toml")
    original = load_target(source)  # an invalid one is not copied
    text = renamed(read_text(find_resource(KIND, source)), name, original.name, original.target.note)
    parse_toml(text, f"the copy of {source}")  # a note of several lines is not copied in part
    if not os.path.lexists(path):
        write(path, text)
    elif not path.is_file() or path.read_bytes() != text.encode():  # a repeated command changes nothing
        raise BadInput(f"{path}: exists already, with other contents; delete it, or choose another name")
    return path


def renamed(text: str, name: str, copied: str, note: str | None) -> str:
    """Return the text of a target file under another name, with a note that says where its figures come from.

    Parameters
    ----------
    text : str
        The file of a valid target.
    name, copied : str
        Names of the new and of the copied target.
    note : str or None
        The note of the copied target, which is kept.
    """
    origin = f"{COPIED} {copied}: whatever was not changed is a figure of {copied}"
    table = TABLE.search(text)
    if table is None:
        raise BadInput(f"target '{copied}': its file has no line [target], so it cannot be copied")
    lines = [line for line in table[0].splitlines() if not re.match(r"(name|note)\s*=", line)]
    while lines and not lines[-1].strip():
        lines.pop()
    stated = [f'name = "{name}"', f"note = {_quoted(f'{origin}; {note}' if note else origin)}"]
    head = f"# {name}, a copy of {copied}. Change what differs, and give each changed number its own source.\n\n"
    new = "\n".join([lines[0], *stated, *lines[1:]]) + "\n\n"
    return head + text[: table.start()] + new + text[table.end() :]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
