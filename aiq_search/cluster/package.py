"""What a study needs on the cluster, and nothing else: its file, its arguments, the user's own modules."""

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
    """Put together what goes with a job.

    Args:
        folder: Where to; empty.
        document: What to run, as JSON.
        files: Where each comes from, by its name in the package.
        largest: How many bytes they may be together.

    Raises:
        InputError: They are larger.
    """
    sizes = {name: path.stat().st_size for name, path in files.items()}
    total = sum(sizes.values())
    if total > largest:
        heaviest = max(sizes, key=lambda name: sizes[name])
        raise InputError(
            f"what the study needs is {total / 1e6:.0f} MB, and at most {largest / 1e6:.0f} MB can go with a "
            f"job (the largest is {heaviest}): put large data where the cluster's nodes find them, and name "
            "that place with an absolute path or --data-dir."
        )
    for name, source in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    (folder / DOCUMENT).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def user_modules(names: Iterable[str], here: Path) -> dict[str, Path]:
    """The files of the user's modules, with what they import from the same folder.

    Args:
        names: Modules, such as ``mynet`` or ``package.nets``; those that do not lie in ``here`` are left
            out: the cluster has to have them installed.
        here: The folder that they are looked for in, as ``python -m`` would.

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
    found = [getattr(module, "__file__", None) for module in finder.modules.values()]
    files = [Path(file) for file in found if file]
    return {path.relative_to(here).as_posix(): path for path in files if path.is_relative_to(here)}


class _Finder(ModuleFinder):
    """Takes a folder without ``__init__.py`` for a package, as Python does, where its base class fails.

    Such a folder brings the modules that are imported from it. One that only has the name of an installed
    package, such as the ``wandb`` that its runs leave behind, brings nothing.
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
