"""Which of the functions that a file names may be imported and called.

A search-space file, a study, a bundle or a job's document is data that people pass on, and may name a network
or a data set as ``package.module:function``. Commands that look at such a file import nothing (``NO_CODE``).
Commands that run it import modules of the working folder, and packages that the user allows
(``CodePolicy.for_running``). The policy is an argument of everything that may import code.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import site
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from aiq_search.errors import InputError

__all__ = [
    "ALLOW_CODE_VARIABLE",
    "NO_CODE",
    "CodePolicy",
    "check_call",
    "describe_error",
    "is_reference",
    "torchvision_model",
]

# Packages that may be imported besides those of --allow-code, separated by commas or spaces.
ALLOW_CODE_VARIABLE = "AIQ_ALLOW_CODE"

_TORCHVISION = "torchvision.models"
_LONGEST_REASON = 300


def is_reference(name: str) -> bool:
    """Whether a name has the form ``package.module:function``.

    >>> is_reference("my_package.nets:tiny"), is_reference("mlp")
    (True, False)
    """
    module, colon, function = name.partition(":")
    return bool(colon) and function.isidentifier() and all(p.isidentifier() for p in module.split("."))


def torchvision_model(name: str) -> str | None:
    """The model of torchvision that a name stands for, if it does.

    >>> torchvision_model("torchvision.models:resnet18"), torchvision_model("mynet:resnet18")
    ('resnet18', None)
    """
    module, _, model = name.partition(":")
    return model if module == _TORCHVISION and is_reference(name) else None


@dataclass(frozen=True)
class CodePolicy:
    """The modules that may be imported because a file names them.

    Attributes:
        folder: The working folder: modules in its tree may be imported, installed libraries excepted, and the
            models of torchvision; None where nothing may be imported by default.
        packages: Packages and modules that the user allows besides.
    """

    folder: Path | None = None
    packages: tuple[str, ...] = ()

    @classmethod
    def for_running(cls, packages: Iterable[str] = ()) -> CodePolicy:
        """The policy of commands that run what a file names.

        Args:
            packages: What the user allows with ``--allow-code``, besides the variable AIQ_ALLOW_CODE.

        Raises:
            InputError: A package has no valid name.
        """
        allowed = [*packages, *os.environ.get(ALLOW_CODE_VARIABLE, "").replace(",", " ").split()]
        for package in allowed:
            if not all(part.isidentifier() for part in package.split(".")):
                raise InputError(
                    f"--allow-code {package!r}: expected the name of a package or module, such as my_package."
                )
        return cls(Path.cwd(), tuple(dict.fromkeys(allowed)))

    @contextmanager
    def in_child_processes(self) -> Iterator[None]:
        """Have processes that are started meanwhile allow the same packages, by their environment."""
        before = os.environ.get(ALLOW_CODE_VARIABLE)
        os.environ[ALLOW_CODE_VARIABLE] = ",".join(self.packages)
        try:
            yield
        finally:
            if before is None:
                del os.environ[ALLOW_CODE_VARIABLE]
            else:
                os.environ[ALLOW_CODE_VARIABLE] = before

    def allows(self, reference: str) -> bool:
        """Whether a function may be imported; nothing is imported to find out."""
        return self._is_allowed_package(reference) or (
            self.folder is not None
            and (torchvision_model(reference) is not None or self._own_file(reference) is not None)
        )

    def check(self, reference: str) -> None:
        """Check that a function may be imported, without importing anything.

        Args:
            reference: ``package.module:function``.

        Raises:
            InputError: It may not, or ``reference`` has another form.
        """
        if not is_reference(reference):
            raise InputError(f"expected package.module:function, but got {reference!r}.")
        if self.allows(reference):
            return
        module = reference.partition(":")[0]
        top = module.partition(".")[0]
        remedy = f"if you trust that code, allow it with --allow-code {top}."
        if self.folder is None:
            raise InputError(f"{reference}: code that a file names is not imported here; {remedy}")
        if _spec(top) is not None or (self.folder / top).is_dir():
            raise InputError(f"{reference}: {module!r} is not in the working folder {self.folder}; {remedy}")
        raise InputError(
            f"{reference}: no module named {module!r} in the working folder {self.folder} or installed; "
            "run from the folder that has it, or install it."
        )

    def load(self, reference: str) -> Callable[..., Any]:
        """Import a function.

        The working folder is searched first, as with ``python -m``.

        Args:
            reference: ``package.module:function``.

        Returns:
            The function.

        Raises:
            InputError: It may not be imported, cannot be, or is not a function.
        """
        self.check(reference)
        module_name, _, function_name = reference.partition(":")
        if self.folder is not None and str(self.folder) not in sys.path:
            sys.path.insert(0, str(self.folder))
            importlib.invalidate_caches()
        try:
            module = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:  # the user's module may raise anything
            raise InputError(
                f"{reference}: cannot import {module_name!r}: {describe_error(error)}"
            ) from error
        file = None if self._is_allowed_package(reference) else self._own_file(reference)
        if file is not None and not _same_file(file, getattr(module, "__file__", None)):
            raise InputError(
                f"{reference}: {file} is hidden by another module {module_name!r}, of "
                f"{getattr(module, '__file__', None) or 'Python itself'}; rename your file."
            )
        function = getattr(module, function_name, None)
        if not callable(function):
            raise InputError(f"{reference}: module {module_name!r} has no function {function_name!r}.")
        return function  # type: ignore[no-any-return]

    def _is_allowed_package(self, reference: str) -> bool:
        module = reference.partition(":")[0]
        return any(f"{module}.".startswith(f"{package}.") for package in self.packages)

    def _own_file(self, reference: str) -> Path | None:
        """The file of a module in the tree of the working folder."""
        if self.folder is None:
            return None
        parts = reference.partition(":")[0].split(".")
        for base in (self.folder, *self._installed_from_here(parts[0])):
            path = base.joinpath(*parts)
            for file in (path / "__init__.py", path.with_name(path.name + ".py")):
                if file.is_file() and not _is_library(file):
                    return file
        return None

    def _installed_from_here(self, package: str) -> list[Path]:
        """Folders below the working folder that an installed package is in, such as ``src``."""
        spec = _spec(package)
        if spec is None or self.folder is None:
            return []
        places = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.origin else [])]
        folders = dict.fromkeys(Path(place).parent for place in places)
        return [folder for folder in folders if folder.is_relative_to(self.folder)]


NO_CODE = CodePolicy()
"""The policy of commands that look: nothing that a file names is imported."""


def _spec(package: str) -> ModuleSpec | None:
    """Where Python finds a package or module at the top level: nothing is imported to find out."""
    try:
        return importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None


def _same_file(file: Path, other: str | None) -> bool:
    return other is not None and Path(other).resolve() == file.resolve()


def _is_library(file: Path) -> bool:
    """Whether a file is Python's own or of an installed package: the folder may have an environment in it."""
    libraries = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    libraries.append(site.getusersitepackages())
    path = file.resolve()
    return any(part in ("site-packages", "dist-packages") for part in path.parts) or any(
        path.is_relative_to(Path(library).resolve()) for library in libraries
    )


def check_call(reference: str, function: Callable[..., Any], names: Iterable[str]) -> None:
    """Check by its signature that a function takes the arguments that it will be given, before it is called.

    Args:
        reference: What the function is called in the file.
        function: The function.
        names: The arguments, each given by its name.

    Raises:
        InputError: It does not take one of them, or needs another.

    Example:
        >>> check_call("m:f", lambda x: None, ["width"])
        Traceback (most recent call last):
        aiq_search.errors.InputError: m:f cannot be called with width: missing a required argument: 'x'.
    """
    names = list(names)
    expected = f"with {', '.join(names)}" if names else "without arguments"
    try:
        inspect.signature(function).bind(**dict.fromkeys(names))
    except (TypeError, ValueError) as error:  # the latter where Python cannot tell, as of some built-in types
        raise InputError(f"{reference} cannot be called {expected}: {error}.") from None


def describe_error(error: BaseException) -> str:
    """An exception of the user's code as one line: its type, its message, and where it was raised.

    The place is the last line of the working folder's code that was running.
    """
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    if len(text) > _LONGEST_REASON:
        text = text[:_LONGEST_REASON] + "…"
    here = Path.cwd()
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.is_relative_to(here) and not _is_library(file) and Path(__file__).parent not in file.parents:
            return f"{text} ({file.relative_to(here)}, line {frame.lineno})"
    return text
