"""Import of a user's own function, named as ``package.module:function``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiq_search.errors import InputError

__all__ = ["is_reference", "load_function"]


def is_reference(name: str) -> bool:
    """Whether a name has the form ``package.module:function``.

    >>> is_reference("my_package.nets:tiny"), is_reference("mlp")
    (True, False)
    """
    module, colon, function = name.partition(":")
    return bool(colon) and function.isidentifier() and all(p.isidentifier() for p in module.split("."))


def load_function(reference: str) -> Callable[..., Any]:
    """Import the function that the user named.

    The current directory is searched too, as ``python -m`` does it, because a project's own module
    is seldom installed.

    Args:
        reference: ``package.module:function``.

    Returns:
        The function.

    Raises:
        InputError: The reference is malformed, or nothing callable stands there.
    """
    if not is_reference(reference):
        raise InputError(f"expected package.module:function, but got {reference!r}.")
    module_name, _, function_name = reference.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # the user's module is there; what it imports is not: their traceback says where
        raise InputError(
            f"{reference}: no module named {error.name!r} in the current directory or the environment; "
            "install it, or run from the folder that holds it."
        ) from None
    function = getattr(module, function_name, None)
    if not callable(function):
        raise InputError(f"{reference}: module {module_name!r} has no function {function_name!r}.")
    return function  # type: ignore[no-any-return]
