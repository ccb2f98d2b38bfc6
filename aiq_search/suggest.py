"""The nearest valid name, for messages about a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean"]


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """A sentence that offers the nearest valid name, or lists them all.

    >>> did_you_mean("trails", ["trials", "seed"])
    'did you mean "trials"?'
    >>> did_you_mean("xyz", ["trials", "seed"])
    'valid names: seed, trials.'
    """
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f'did you mean "{close[0]}"?' if close else f"valid names: {', '.join(names)}."
