"""How a study came about: command, versions, commit."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from aiq_search.tracking import redact

__all__ = ["provenance"]

_PACKAGES = ("aiq-search", "torch", "torchvision", "ray", "optuna", "mlflow", "numpy")


def provenance() -> dict[str, Any]:
    """Command (without credentials), versions and git commit, as they are kept in study.json."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "command": [Path(sys.argv[0]).name, *(redact(argument) for argument in sys.argv[1:])],
        "versions": versions,
        "platform": platform.platform(),
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """Commit of the current folder's repository, with ``-dirty`` where something is not committed."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
