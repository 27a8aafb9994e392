"""The path given with ``--data``: the folder of data sets, or the user's own data. None is ignored silently."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from esl_neuro.data.availability import LAYOUTS, missing_datasets
from esl_neuro.data.datasets import BUILT_IN, DATASETS
from esl_neuro.data.own import is_own, is_own_data
from esl_neuro.errors import BadInput
from esl_neuro.recipes.consent import replaced
from esl_neuro.recipes.own import is_function
from esl_neuro.recipes.sections import DataSection

OWN_DATA = "an .npz file with the arrays x and y, or a folder with one folder of images or recordings per class"


def changes_for(data: DataSection, given: Path | None, overrides: Sequence[str]) -> tuple[str, ...]:
    """Return the change of a recipe for a given path: own data replace its data set, a folder of data sets does not.

    Parameters
    ----------
    data : DataSection
        The section of the recipe.
    given : Path or None
        The path.
    overrides : sequence of str
        What the user changes, ``"data.name=mnist"``.

    Raises
    ------
    BadInput
        If the path would be ignored.
    """
    by_name = not is_own(data.name)
    if given is None or not (by_name and is_own_data(given)) or (data.name in LAYOUTS and _holds(data.name, given)):
        refuse_unread(data, given)
        return ()
    if replaced("data.name", overrides):
        raise BadInput(
            f"--data {given} is your own data, but --set selects the data set '{data.name}', which is not in it; omit "
            "one of them"
        )
    return (f'data.name="{given.absolute()}"',)


def _holds(name: str, folder: Path) -> bool:
    return not missing_datasets([name], folder)


def refuse_unread(data: DataSection, given: Path | None) -> None:
    """Reject a path for data that are not read from it: whoever gives it expects that it is used.

    Raises
    ------
    BadInput
        With what can be done.
    """
    why = "" if given is None else _unread(data, given)
    if why:
        raise BadInput(f"--data {given} would be ignored: {why}")


def refuse_unread_by_all(sections: Sequence[DataSection], given: Path | None) -> None:
    """Reject a path that is not read for any of several recipes; see :func:`refuse_unread`."""
    reasons = [] if given is None else [_unread(section, given) for section in sections]
    if reasons and all(reasons):
        raise BadInput(f"--data {given} would be ignored: {reasons[0]}")


def _unread(data: DataSection, given: Path) -> str:
    """Return why data are not read from a path, and what can be done; empty if they are."""
    if data.name in BUILT_IN:
        return f"the data set '{data.name}' is built in and reads no folder; {_fix(given)}"
    if is_function(data.name):
        return f"the data come from the function '{data.name}'; omit --data"
    if not is_own(data.name) and is_own_data(given) and not (data.name in LAYOUTS and _holds(data.name, given)):
        return (
            f"it is your own data, and the data set '{data.name}' is not in it; omit --data, or train on these data: "
            f"esl-neuro train --data {given}"
        )
    if is_own(data.name) and data.sha256 is None:
        return f"data.name is the path '{data.name}'; omit --data, or change the path: --set data.name={given}"
    return ""


def _fix(given: Path) -> str:
    if is_own_data(given):
        return f"omit --data, or train on these data: esl-neuro train --data {given}"
    others = ", ".join(sorted(set(DATASETS.names()) - set(BUILT_IN)))
    return (
        f"omit --data, or train on a data set in it: esl-neuro train --data {given} --set data.name=NAME ({others}); "
        f"your own data are {OWN_DATA}"
    )
