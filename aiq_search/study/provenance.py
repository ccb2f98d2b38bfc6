"""Where a study comes from: command, versions, git commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from aiq_search.redaction import redact

__all__ = ["PACKAGES", "Provenance", "versions"]

# What a result depends on.
PACKAGES = ("aiq-search", "torch", "torchvision", "ray", "optuna", "mlflow", "numpy")


class Provenance(BaseModel):
    """What it takes to run a study again.

    Attributes:
        command: The command line, without credentials.
        job: The submission that started it, where the study is a job of a cluster.
        versions: Of Python and of the packages that a result depends on.
        platform: Operating system and processor.
        git_commit: Commit of the working folder, with ``-dirty`` where something was not committed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: tuple[str, ...]
    versions: dict[str, str]
    platform: str
    job: str | None = None
    git_commit: str | None = None

    @classmethod
    def of_this_process(cls) -> Provenance:
        """The provenance of a study that this process creates."""
        return cls(
            command=(Path(sys.argv[0]).name, *(redact(argument) for argument in sys.argv[1:])),
            versions=versions(),
            platform=platform.platform(),
            job=os.environ.get("AIQ_JOB"),
            git_commit=_git_commit(),
        )


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of those packages that are installed."""
    installed = {"python": platform.python_version()}
    for package in packages:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def _git_commit() -> str | None:
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
