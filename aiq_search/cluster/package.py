"""What goes to the cluster with a study: its file, its arguments, and the user's own modules."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from importlib.machinery import PathFinder
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

from aiq_search.errors import InputError

__all__ = ["DOCUMENT", "LARGEST", "SPACE_FILE", "user_modules", "write_package"]

SPACE_FILE = "space.yaml"
DOCUMENT = "job.json"

# ModuleFinder's number for a package; its base was a module that Python no longer has.
_FOLDER = 5

# Bytes. Ray keeps packages in the memory of the head.
LARGEST = 100_000_000


def write_package(
    folder: Path, document: Mapping[str, Any], files: Mapping[str, Path], largest: int = LARGEST
) -> None:
    """Write what goes with a job.

    Args:
        folder: An empty folder.
        document: What to run, as JSON.
        files: The source of each file, by its name in the package.
        largest: How many bytes they may have in total.

    Raises:
        InputError: They are larger.
    """
    sizes = {name: path.stat().st_size for name, path in files.items()}
    total = sum(sizes.values())
    if total > largest:
        heaviest = max(sizes, key=lambda name: sizes[name])
        raise InputError(
            f"the study's files have {total / 1e6:.0f} MB, and at most {largest / 1e6:.0f} MB can go with a "
            f"job (the largest is {heaviest}): put large data where the cluster's nodes can read them, and "
            "name that place with an absolute path or --data-dir."
        )
    for name, source in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    (folder / DOCUMENT).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def user_modules(names: Iterable[str], here: Path) -> dict[str, Path]:
    """The files of the user's modules, with what they import from the same folder.

    Args:
        names: Modules, such as ``mynet`` or ``package.nets``; those that are not in ``here`` are left out:
            the cluster must have them installed.
        here: The folder to search, as ``python -m`` would.

    Returns:
        Each file by its name relative to ``here``.

    Raises:
        InputError: A module is not valid Python.
    """
    finder = _Finder(path=[str(here)])
    for name in names:
        try:
            finder.import_hook(name)
        except ImportError:
            continue
        except (SyntaxError, ValueError) as error:  # the latter of a file with null bytes
            raise InputError(f"module {name}: {error}") from None
    files = [Path(file) for module in finder.modules.values() if (file := getattr(module, "__file__", None))]
    return {path.relative_to(here).as_posix(): path for path in files if path.is_relative_to(here)}


class _Finder(ModuleFinder):
    """Treats a folder without ``__init__.py`` as a package, as Python does, where its base class fails.

    Such a folder contributes the modules that are imported from it. One that only has the name of an
    installed package, such as the ``wandb`` that its runs leave behind, contributes nothing. Ray's
    ``py_modules`` would take whole folders, with whatever else they hold, and nothing that a module imports.
    """

    def find_module(self, name: str, path: Any, parent: Any = None) -> Any:  # noqa: ANN401 - untyped base
        PathFinder.invalidate_caches()
        spec = PathFinder.find_spec(name, path or self.path)
        if spec is not None and spec.origin is None and spec.submodule_search_locations:
            return None, next(iter(spec.submodule_search_locations)), ("", "", _FOLDER)
        return super().find_module(name, path, parent)

    def load_package(self, fqname: str, pathname: str) -> Any:  # noqa: ANN401 - untyped base
        if (Path(pathname) / "__init__.py").is_file():
            return super().load_package(fqname, pathname)
        package: Any = self.add_module(fqname)
        package.__path__ = [pathname]
        return package
