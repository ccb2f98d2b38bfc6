"""The search spaces that come with this package, by name."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from aiq_search.space.errors import SpaceError, shown
from aiq_search.suggest import did_you_mean

__all__ = ["find_space", "shipped_spaces"]


def shipped_spaces() -> dict[str, Path]:
    """The files that come with this package, by name: ``search_spaces/`` of the repository.

    Example:
        >>> "digits" in shipped_spaces()
        True
    """
    package = Path(str(files("aiq_search")))
    installed, cloned = package / "search_spaces", package.parent / "search_spaces"
    folder = installed if installed.is_dir() else cloned
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_space(name: str | Path) -> Path:
    """The file that is meant: a path, or in one word a file of the current folder, or a shipped space.

    Args:
        name: ``my.yaml``, ``folder/my.yaml``, ``my`` (for ``my.yaml`` of this folder), or ``digits``.

    Raises:
        SpaceError: A word names neither.

    Example:
        >>> find_space("digits").name
        'digits.yaml'
        >>> find_space("digitz")
        Traceback (most recent call last):
        aiq_search.space.errors.SpaceError: 'digitz': no such file or shipped space; did you mean "digits"?
    """
    path = Path(name)
    if len(path.parts) != 1 or path.suffix or _is_file(path):
        return path
    own = path.with_suffix(".yaml")
    if _is_file(own):
        return own
    shipped = shipped_spaces()
    if path.name in shipped:
        return shipped[path.name]
    valid = [*shipped, *(each.stem for each in Path().glob("*.yaml"))]
    raise SpaceError(f"{shown(path.name)}: no such file or shipped space; {did_you_mean(path.name, valid)}")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False
