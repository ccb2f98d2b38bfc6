"""What a check finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum

__all__ = ["Finding", "Level"]


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Attributes:
        area: environment, study or search.
        level: How much it matters.
        what: What was found, in a sentence.
        remedy: What to do about it; empty where nothing has to be done.
        fixable: Whether ``aiq doctor STUDY --fix`` does it.
    """

    area: str
    level: Level
    what: str
    remedy: str = ""
    fixable: bool = False

    def document(self) -> dict[str, str | bool]:
        """As JSON."""
        return {**asdict(self), "level": str(self.level)}
