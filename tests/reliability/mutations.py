"""Damage to files: of single bytes, and of what a file says, by small changes of its tree.

Each change draws from its own seed, so an input is named by the seed and the changes kept, and can be made smaller by
dropping changes. A change states whether it leaves anything that a reader may accept.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reliability.trees import ATTRIBUTES, METADATA, Declared, Format, Loop, Outside, Raw, format_of

MOST_CHANGES = 4

HOSTILE_NUMBERS: tuple[Any, ...] = (
    *(-1, 0, 1, 2, 255, 2**15, 2**28, 2**31 - 1, 2**31, -(2**31), 2**40, 2**63 - 1, 2**64, -(2**63), 10**30),
    *(0.5, -0.5, 1e-320, 1e308, -1e308, float("inf"), float("-inf"), float("nan")),
)
HOSTILE_WORDS = (
    *("", " ", ".", "..", "../../outside", "/outside", "a/b", "a\\b", "a\nb", "\x1b[31m", "\x00", "\ud800", "=1+1"),
    *("<b>", "'", '"', "é" * 300, "a" * 5000, "None", "input", "output", "os:system", "{0}", "%s"),
)
HOSTILE_VALUES: tuple[Any, ...] = (None, True, False, [], {}, [[]], {"": None}, [1, "a"], "text", b"\xff")


@dataclass(frozen=True)
class Damage:
    """A damaged file.

    Attributes
    ----------
    content : bytes
        Content of the file.
    changes : tuple of str
        What was changed.
    invalid : bool
        Whether no valid file looks like this, so that a reader that accepts it is wrong.
    place : str
        Where in the file, for a single change of its tree.
    """

    content: bytes
    changes: tuple[str, ...]
    invalid: bool
    place: str = ""


@dataclass(frozen=True)
class Change:
    """A change of a tree, in place."""

    text: str
    invalid: bool = False
    place: str = ""


def damage(path: Path, content: bytes, seed: Sequence[int], kept: Sequence[int] | None = None) -> Damage:
    """Damage a file.

    Parameters
    ----------
    path : Path
        The file; its suffix tells the format.
    content : bytes
        Its content.
    seed : sequence of int
        Decides everything.
    kept : sequence of int, optional
        Numbers of the changes to make. Default: all.
    """
    rng = np.random.default_rng([*seed, 0])
    form = format_of(path)
    count = int(rng.choice([1, 1, 1, 2, 3, MOST_CHANGES]))
    numbers = range(count) if kept is None else kept
    if form is None or rng.random() < 0.25:
        return _damage_bytes(content, form, seed, numbers)
    return _damage_tree(form, content, seed, numbers)


# Bytes.


def _damage_bytes(content: bytes, form: Format | None, seed: Sequence[int], numbers: Sequence[int]) -> Damage:
    damaged, changes, cut = bytearray(content), [], False
    for number in numbers:
        rng = np.random.default_rng([*seed, 1, number])
        kind = rng.choice(["flip", "flip", "cut", "insert", "zero", "repeat"])
        place = int(rng.integers(max(len(damaged), 1)))
        # Half of the changes hit the beginning, where formats have their headers.
        place = place % 256 if rng.random() < 0.5 else place
        if kind == "cut":
            cut = place < len(damaged) - 1
            del damaged[place:]
        elif kind == "flip" and damaged:
            damaged[place % len(damaged)] ^= 1 << int(rng.integers(8))
        elif kind == "insert":
            damaged[place:place] = rng.bytes(int(rng.integers(1, 9)))
        elif kind == "zero":
            damaged[place : place + 16] = bytes(len(damaged[place : place + 16]))
        elif kind == "repeat":
            damaged[place:place] = damaged[place : place + int(rng.integers(1, 64))]
        changes.append(f"{kind} at byte {place}")
    invalid = cut and len(numbers) == 1 and form is not None and form.binary
    return Damage(bytes(damaged), tuple(changes), invalid)


# Trees.


def _damage_tree(form: Format, content: bytes, seed: Sequence[int], numbers: Sequence[int]) -> Damage:
    tree = copy.deepcopy(form.decode(content))
    made = []
    for number in numbers:
        rng = np.random.default_rng([*seed, 2, number])
        made.append(_change(tree, rng, form))
    alone = made[0] if len(made) == 1 else Change("")
    return Damage(form.encode(tree), tuple(change.text for change in made), alone.invalid, alone.place)


def places(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of everything in a tree but its root."""
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, part in parts:
        yield (*above, key)
        yield from places(part, (*above, key))


def _change(tree: Any, rng: np.random.Generator, form: Format) -> Change:
    if isinstance(tree, np.ndarray):
        return _change_array(tree, rng, "array")
    found = list(places(tree))
    if not found:
        return Change("nothing to change")
    path = found[int(rng.integers(len(found)))]
    holder = tree
    for key in path[:-1]:
        holder = holder[key]
    key, place = path[-1], "/".join(map(str, path))
    value = holder[key]
    if isinstance(value, np.ndarray) and value.size and rng.random() < 0.7:
        holder[key] = value = value.copy()
        return _change_array(value, rng, place) if rng.random() < 0.5 else _reshape(holder, key, rng, place)
    changes: tuple[Callable[..., Change], ...] = (_replace, _replace, _delete, _rename, _swap)
    if form.binary and ATTRIBUTES not in path and METADATA not in path and isinstance(holder, dict):
        changes = (*changes, _reach_outside) if _is_hdf5(form) else changes
    return changes[int(rng.integers(len(changes)))](holder, key, rng, place)


def _is_hdf5(form: Format) -> bool:
    return form is format_of(Path("a.nir"))


def _pick(values: Sequence[Any], rng: np.random.Generator) -> Any:
    return copy.deepcopy(values[int(rng.integers(len(values)))])


def _replace(holder: Any, key: Any, rng: np.random.Generator, place: str) -> Change:
    old = holder[key]
    is_number = isinstance(old, (int, float, np.number)) and not isinstance(old, (bool, np.bool_))
    pool = HOSTILE_NUMBERS if is_number and rng.random() < 0.6 else HOSTILE_WORDS if isinstance(old, str) else ()
    if not pool or rng.random() < 0.2:
        pool = (*HOSTILE_VALUES, *HOSTILE_NUMBERS, *HOSTILE_WORDS)
    holder[key] = new = _pick(pool, rng)
    not_finite = isinstance(new, float) and not np.isfinite(new)
    other_kind = is_number and isinstance(new, (str, list, dict, bytes))
    return Change(f"{place} = {_shown(new)}", not_finite or other_kind, place)


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) < 50 else f"{text[:40]}... ({len(text)} characters)"


def _delete(holder: Any, key: Any, rng: np.random.Generator, place: str) -> Change:  # noqa: ARG001
    del holder[key]
    return Change(f"delete {place}")


def _rename(holder: Any, key: Any, rng: np.random.Generator, place: str) -> Change:
    if isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
        return Change(f"repeat {place}")
    name = _pick((*HOSTILE_WORDS, f"{key}2"), rng)
    holder[name] = holder.pop(key) if rng.random() < 0.7 else copy.deepcopy(holder[key])
    return Change(f"rename or copy {place} to {_shown(name)}")


def _swap(holder: Any, key: Any, rng: np.random.Generator, place: str) -> Change:
    keys = list(holder) if isinstance(holder, dict) else range(len(holder))
    other = keys[int(rng.integers(len(keys)))]
    holder[key], holder[other] = holder[other], holder[key]
    return Change(f"swap {place} with {other!r}")


def _reach_outside(holder: Any, key: Any, rng: np.random.Generator, place: str) -> Change:
    new = _pick((Outside("secret.h5"), Raw("secret.h5"), Declared((2**28,)), Declared((2**14, 2**14)), Loop()), rng)
    holder[key] = new
    return Change(f"{place} = {new}", not isinstance(new, Declared), place)


def _change_array(array: Any, rng: np.random.Generator, place: str) -> Change:
    if not array.size or array.dtype.kind not in "biuf":
        return Change(f"{place} unchanged")
    where = tuple(int(rng.integers(size)) for size in array.shape)
    if array.dtype.kind == "b":
        array[where] = not array[where]
        return Change(f"{place}{list(where)} = {array[where]}")
    if array.dtype.kind == "f":
        new = float(_pick([-1.0, 0.0, 1e-320, 1e30, -1e30, np.inf, np.nan, np.nan], rng))
        with np.errstate(over="ignore", under="ignore"):
            array[where] = new
        return Change(f"{place}{list(where)} = {new}", bool(np.isnan(new)), place)
    bounds = np.iinfo(array.dtype)
    new = int(_pick([-1, 0, 1, array.size, array.size + 1, 2**20, 2**30, bounds.min, bounds.max], rng))
    array[where] = min(max(new, int(bounds.min)), int(bounds.max))
    outside = place.endswith(("indices", "indptr")) and (array[where] < 0 or array[where] >= 2**20)
    return Change(f"{place}{list(where)} = {array[where]}", bool(outside), place)


def _reshape(holder: Any, key: Any, rng: np.random.Generator, place: str) -> Change:
    array = holder[key]
    kind = rng.choice(["type", "longer", "shorter", "empty", "axis", "flat", "reverse", "number", "twice"])
    if kind == "type":
        new: Any = (
            array.astype(rng.choice(["f8", "f4", "i8", "i4", "u1", "?"])) if array.dtype.kind in "biuf" else array
        )
    elif kind == "longer":
        new = np.concatenate([array.ravel(), array.ravel()[:1]])
    else:
        new = {
            "shorter": lambda: array[:-1] if array.ndim else array,
            "empty": lambda: array.ravel()[:0],
            "axis": lambda: array[None],
            "flat": array.ravel,
            "reverse": lambda: array.ravel()[::-1].reshape(array.shape),
            "number": lambda: array.ravel()[0],
            "twice": lambda: np.stack([array, array]),
        }[str(kind)]()
    holder[key] = new
    return Change(f"{place}: {kind}, {array.dtype} {array.shape} to {np.asarray(new).dtype} {np.shape(new)}")
