"""What differs between two documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["differences"]


def differences(old: Any, new: Any, where: str = "") -> list[str]:  # noqa: ANN401
    """What differs between two documents, a line a field.

    >>> differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "d": 2}})
    ['a.b: 1 -> 3', 'a.c: 2 -> absent', 'a.d: absent -> 2']
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        lines = []
        for key in dict.fromkeys([*old, *new]):
            place = f"{where}.{key}" if where else str(key)
            if key not in new:
                lines.append(f"{place}: {old[key]!r} -> absent")
            elif key not in old:
                lines.append(f"{place}: absent -> {new[key]!r}")
            else:
                lines += differences(old[key], new[key], place)
        return lines
    return [] if old == new else [f"{where}: {old!r} -> {new!r}"]
