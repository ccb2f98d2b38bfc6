"""What was verified of a bundle, check by check."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Check", "Verification"]


@dataclass(frozen=True)
class Check:
    """One thing that was verified.

    Attributes:
        name: What.
        detail: How it came out, in words and numbers.
        passed: True; or None where it could not be checked here.
    """

    name: str
    detail: str
    passed: bool | None = True


@dataclass(frozen=True)
class Verification:
    """All that was verified of a bundle.

    Attributes:
        directory: The bundle.
        checks: In the order in which they were made.
    """

    directory: Path
    checks: tuple[Check, ...]
