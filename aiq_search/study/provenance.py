"""How a study came about: command, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from aiq_search.redaction import redact

__all__ = ["provenance", "versions"]

_PACKAGES = ("aiq-search", "torch", "torchvision", "ray", "optuna", "mlflow", "numpy")


def provenance() -> dict[str, Any]:
    """Command (without credentials), job, versions and git commit, as they are kept in study.json."""
    return {
        "command": [Path(sys.argv[0]).name, *(redact(argument) for argument in sys.argv[1:])],
        "job": os.environ.get("AIQ_JOB"),  # set where the study is a job of a cluster
        "versions": versions(),
        "platform": platform.platform(),
        "git_commit": _git_commit(),
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


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
