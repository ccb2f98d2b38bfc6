"""The best network so far as a bundle: ``python -m aiq_search.app.best_bundle DIRECTORY``.

A light one (weights and cards, no graphs), so that a search that dies has left its best network in MLflow.
The delivery process runs it beside a search, at low priority.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from aiq_search.errors import AiqError
from aiq_search.tracking.best import FOLDER

__all__ = ["main", "write_best"]


def write_best(directory: Path) -> Path:
    """Write the bundle of the best network so far of the study in a folder, in place of the one before.

    Raises:
        AiqError: There is no champion yet, or its weights or data are gone.
    """
    from aiq_search.app.export import export_study

    bundle = directory / FOLDER / "bundle"
    bundle.parent.mkdir(exist_ok=True)
    home = directory.absolute().parent.parent
    export_study(directory.name, bundle, formats=("safetensors",), force=True, home=home)
    return bundle


def main(arguments: list[str]) -> int:
    """Write it; what fails is said in one line."""
    os.nice(19)  # the search goes first, and Ray's workers have niceness 15
    try:
        write_best(Path(arguments[0]))
    except AiqError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
