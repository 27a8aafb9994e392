"""What a recipe can name that is the user's own: a function as ``module:function``, or a path."""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from esl_neuro.errors import BadInput, EslNeuroError, did_you_mean
from esl_neuro.reading.documents import reason

FUNCTION = re.compile(r"[^\W\d][\w.]*:[^\W\d]\w*")
ARRAYS = ".npz"


def is_function(name: str) -> bool:
    """Return whether a name is ``module:function``.

    Examples
    --------
    >>> is_function("mymod:samples"), is_function("digits"), is_function("./a:b/samples.npz")
    (True, False, False)
    """
    return FUNCTION.fullmatch(name) is not None


def is_path(name: str) -> bool:
    """Return whether a name is the path of a file or folder: it contains a slash, or ends with ``.npz``.

    Examples
    --------
    >>> is_path("samples.npz"), is_path("./images"), is_path("digits")
    (True, True, False)
    """
    return "/" in name or os.sep in name or name.endswith(ARRAYS)


def call_own(field: str, reference: str, contract: str, *arguments: Any) -> Any:
    """Import a user's function and call it.

    Parameters
    ----------
    field : str
        The field of the recipe that names it, for messages.
    reference : str
        ``module:function``; the module is looked for in the current folder first.
    contract : str
        What the function takes and returns, for the message if it fails.
    *arguments
        Its arguments.

    Raises
    ------
    BadInput
        If the module cannot be imported, has no such function, or the function raises an error. The message names the
        line of the user's code.
    """
    module_name, _, name = reference.partition(":")
    module = _imported(field, reference, module_name)
    function = _function(field, module, module_name, name)
    try:
        return function(*arguments)
    except EslNeuroError:
        raise
    except Exception as error:  # a user's function raises anything
        raise BadInput(f"{field}: '{reference}' raised {_raised(error, module)}; {contract}") from error


def _imported(field: str, reference: str, module_name: str) -> ModuleType:
    try:
        with _current_folder_first():
            return importlib.import_module(module_name)
    except EslNeuroError:
        raise
    except Exception as error:  # a user's module raises anything, too
        what = reason(error) if isinstance(error, ImportError | ValueError | TypeError) else _raised(error, None)
        raise BadInput(f"{field}: module '{module_name}' of '{reference}' cannot be imported: {what}") from error


def _function(field: str, module: ModuleType, module_name: str, name: str) -> Callable[..., Any]:
    function = getattr(module, name, None)
    if callable(function):
        return function  # type: ignore[no-any-return]
    names = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
    raise BadInput(f"{field}: module '{module_name}' has no function '{name}'; {did_you_mean(name, names)}")


def _raised(error: Exception, module: ModuleType | None) -> str:
    """Return an error with the last line of the user's module in which it was raised, if there is one."""
    file = getattr(module, "__file__", None)
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if file and frame.filename == file]
    place = f" ({lines[-1].filename}, line {lines[-1].lineno}: {lines[-1].line})" if lines else ""
    return f"{type(error).__name__}: {reason(error)}{place}"


@contextmanager
def _current_folder_first() -> Iterator[None]:
    """Find modules in the current folder, which an installed command does not do by itself."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
