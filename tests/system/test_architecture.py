"""The package matches docs/architecture.md: dependencies point from left to right."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import esl_neuro
from system.command_workspace import REPOSITORY

PACKAGE = Path(esl_neuro.__file__).parent

# The rooms that each room may import; "" means the small shared modules at the top of the package.
SHARED = {"", "reading"}
ALLOWED = {
    "": SHARED,
    "reading": {""},
    "hardware": SHARED,
    "recipes": SHARED,
    "data": {*SHARED, "recipes"},
    "snn": {*SHARED, "hardware", "recipes"},
    "sparsity": {*SHARED, "recipes"},
    "budget": {
        *SHARED,
        "hardware",
        "recipes",
        "snn",
        "sparsity",
        "nirgraph",
        "interchange",
        "compiler",
        "energy",
    },
    "training": {*SHARED, "hardware", "recipes", "data", "snn", "sparsity", "budget"},
    "nirgraph": SHARED,
    "interchange": {*SHARED, "snn", "sparsity", "nirgraph"},
    "compiler": {*SHARED, "hardware", "nirgraph"},
    "backends": {*SHARED, "hardware", "nirgraph", "compiler"},
    "energy": {*SHARED, "hardware", "nirgraph", "compiler", "backends"},
    "report": {*SHARED, "hardware", "compiler", "energy"},
    "pipeline": {
        *SHARED,
        "hardware",
        "recipes",
        "data",
        "snn",
        "training",
        "nirgraph",
        "interchange",
        "compiler",
        "backends",
        "energy",
        "report",
    },
    "cli": {*SHARED, "hardware", "recipes", "pipeline", "report", "training", "energy", "backends"},
}
WITHOUT_TORCH = ("hardware", "recipes", "data", "nirgraph", "compiler", "backends", "energy", "report")


def running(node: ast.AST) -> Iterator[ast.AST]:
    """Every node of a file, except those that only the type checker reads."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from running(child)


def imports(room: str, walk: Callable[[ast.AST], Iterator[ast.AST]] = ast.walk) -> list[tuple[str, str]]:
    """(file, imported module) of every import of a room, also inside functions."""
    folder = PACKAGE / room
    # test_the_top_of_the_package_imports_on_first_use checks the package's own __init__.
    files = folder.rglob("*.py") if room else [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    found = []
    for path in files:
        for node in walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found += [(path.name, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found.append((path.name, node.module or ""))
    return found


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_rooms_to_its_left(room):
    for file, module in imports(room):
        parts = module.split(".")
        if parts[0] != "esl_neuro":
            continue
        assert len(parts) > 1, f"{room}/{file} imports the front door, which stands above all rooms"
        other = parts[1] if (PACKAGE / parts[1]).is_dir() else ""
        assert other in ALLOWED[room] | {room}, f"{room}/{file} imports {module}"


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_these_rooms_never_import_torch(room):
    assert not [found for found in imports(room, running) if found[1].split(".")[0] == "torch"]


def test_the_document_lists_every_room():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert rooms == {*ALLOWED} - {""}
    for room in rooms:
        assert f"`esl_neuro/{room}/`" in text


def test_the_document_lists_every_module_at_the_top_of_the_package():
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    _, found, listed = text.partition("Small modules at the top of the package serve every room:")
    assert found
    listed = listed.partition("## Rules")[0]
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert not [name for name in sorted(modules) if f"`{name}`" not in listed]


def test_the_top_of_the_package_imports_on_first_use():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    modules = [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert modules == ["__future__", "typing", "esl_neuro.lazy"]
    assert not [node for node in tree.body if isinstance(node, ast.Import)]


@pytest.mark.parametrize("room", ["pipeline", "cli"])
def test_no_circular_imports_in_a_room(room):
    needs: dict[str, set[str]] = {}
    for path in (PACKAGE / room).glob("*.py"):
        inside = needs.setdefault(path.stem, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"esl_neuro.{room}"):
                last = (node.module or "").split(".")[2:]
                inside |= set(last[:1]) if last else {alias.name for alias in node.names}
    assert len(list(TopologicalSorter(needs).static_order())) >= len(needs)
