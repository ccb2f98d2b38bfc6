"""What the shell offers behind ``aiq search`` and where a study is named (``aiq --install-completion``)."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["space_names", "study_names", "warm_starts"]

# What `aiq search` puts behind a space's name to make a study's id.
_STAMP = re.compile(r"-\d{8}-\d{6}-[0-9a-f]{4}$")


def study_names(incomplete: str) -> list[str]:
    """The studies of AIQ_HOME that begin like this: their ids, and the names of their spaces."""
    from aiq_search.study.home import aiq_home

    folder = aiq_home() / "studies"
    ids = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    names = {*ids, *(_STAMP.sub("", name) for name in ids)}
    return sorted(name for name in names if name.startswith(incomplete))


def space_names(incomplete: str) -> list[str]:
    """The shipped spaces, the YAML files, and once something is typed the folders, that begin like this."""
    from aiq_search.app.space import shipped_spaces

    typed = Path(incomplete)
    folder, start = (typed, "") if incomplete.endswith("/") else (typed.parent, typed.name)
    names = [name for name in shipped_spaces() if name.startswith(incomplete)]
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix in (".yaml", ".yml") and path.name.startswith(start):
            names.append(str(path))
        elif incomplete and path.name.startswith(start) and path.is_dir():
            names.append(f"{path}/")
    return names


def warm_starts(incomplete: str) -> list[str]:
    """Studies, and as Optuna storages the databases and journals of a folder, that begin like this."""
    scheme = "sqlite:///"
    typed = Path(incomplete.removeprefix(scheme))
    folder = typed if incomplete.endswith("/") else typed.parent
    files = [path for path in sorted(folder.iterdir()) if path.is_file()] if folder.is_dir() else []
    names = [f"{scheme}{path}" for path in files if path.suffix in (".db", ".sqlite", ".sqlite3")]
    names += [f"./{path}" for path in files if path.suffix in (".journal", ".log") and not path.is_absolute()]
    return study_names(incomplete) + [name for name in names if name.startswith(incomplete)]
