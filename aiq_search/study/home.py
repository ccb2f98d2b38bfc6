"""Where this user's studies are."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["aiq_home"]


def aiq_home() -> Path:
    """``AIQ_HOME``, by default ``.aiq`` in the current folder."""
    return Path(os.environ.get("AIQ_HOME") or ".aiq")
