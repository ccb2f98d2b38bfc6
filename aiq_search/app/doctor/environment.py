"""What is installed, and what the machine has."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from aiq_search.app.doctor.finding import Finding, Level
from aiq_search.memory import available_memory
from aiq_search.study import list_studies, unreadable_studies
from aiq_search.study.provenance import PACKAGES, versions
from aiq_search.tracking import default_tracking_uri
from aiq_search.tracking.health import mlflow_trouble

__all__ = ["check_environment", "check_home"]

_LOW_DISK = 1_000_000_000
_LOW_MEMORY = 1_000_000_000
# Of NVIDIA's driver, on a Jetson, in WSL 2, and of AMD's driver. Without any of them torch sees no GPU.
_NVIDIA = "/dev/nvidiactl"
_GPU_DEVICES = (_NVIDIA, "/dev/nvhost-gpu", "/dev/dxg", "/dev/kfd")

_INSTALL_BOTH = "Install both from the same release: pip install --force-reinstall torch torchvision"


def check_environment(home: Path, tracking_uri: str | None = None) -> Iterator[Finding]:
    """Check versions, torch and torchvision, GPU, disk, memory and MLflow.

    Args:
        home: AIQ_HOME.
        tracking_uri: MLflow's store, by default that of ``default_tracking_uri``.
    """
    yield _versions()
    yield _torchvision()
    yield _gpu()
    yield _disk(home)
    memory = available_memory()
    low = 0 < memory < _LOW_MEMORY
    yield _finding(
        Level.WARNING if low else Level.OK,
        f"{memory / 1e9:.1f} GB of memory are available.",
        "Close other programs, or lower search.concurrency: a worker takes about 0.5 GB." if low else "",
    )
    trouble = mlflow_trouble(tracking_uri or default_tracking_uri())
    if trouble is None:
        yield _finding(Level.OK, "MLflow's store can be reached.")
    else:
        what, _, remedy = trouble.partition(": ")
        yield _finding(Level.WARNING, f"{what}.", remedy[:1].upper() + remedy[1:])


def check_home(home: Path) -> Iterator[Finding]:
    """Check for studies in AIQ_HOME that cannot be read, or that are not finished."""
    for path in sorted((home / "studies").glob("*")):
        if path.is_dir() and not (path / "study.json").is_file():
            what = f"{path} has no study.json: its search died before the study was created."
            yield _finding(Level.PROBLEM, what, "Remove the folder, or restore study.json from a copy.")
    for error in unreadable_studies(home).values():
        what, _, remedy = str(error).rpartition("; ")
        yield _finding(Level.PROBLEM, f"{what}.", remedy[:1].upper() + remedy[1:])
    waiting = [s for s in list_studies(home) if s.document.ended != "finished" and not s.is_running]
    for study in waiting:
        yield _finding(
            Level.NOTE,
            f"Study {study.id} is not finished, and no search is running it.",
            f"Continue it: aiq resume {study.id}; examine it: aiq doctor {study.id}",
        )


def _versions() -> Finding:
    found = versions()
    installed = ", ".join(f"{name} {version}" for name, version in found.items())
    missing = [package for package in PACKAGES if package not in found]
    if missing:
        return _finding(
            Level.PROBLEM,
            f"Not installed: {', '.join(missing)} (but {installed}).",
            "Install aiq-search with its dependencies: pip install aiq-search",
        )
    return _finding(Level.OK, f"{installed[:1].upper()}{installed[1:]}.")


def _torchvision() -> Finding:
    """Whether torchvision is made for this torch. Read from their metadata: torch takes 0.5 GB to import."""
    try:
        torch, torchvision = (Version(version(name)) for name in ("torch", "torchvision"))
    except PackageNotFoundError as error:
        return _finding(Level.PROBLEM, f"{error.name} is not installed.", _INSTALL_BOTH)
    needed = [Requirement(line) for line in requires("torchvision") or () if line.startswith("torch ")]
    wrong = [str(each.specifier) for each in needed if not each.specifier.contains(torch, prereleases=True)]
    if wrong:
        return _finding(
            Level.PROBLEM,
            f"torchvision {torchvision} needs torch {wrong[0]}, but torch {torch} is installed.",
            _INSTALL_BOTH,
        )
    if torch.local and torchvision.local and torch.local != torchvision.local:
        return _finding(
            Level.PROBLEM,
            f"torch {torch} and torchvision {torchvision} are builds for different devices.",
            _INSTALL_BOTH,
        )
    return _finding(Level.OK, "torch and torchvision are compatible.")


def _gpu() -> Finding:
    nothing = _finding(Level.OK, f"No GPU; {len(os.sched_getaffinity(0))} CPUs.")
    if not any(Path(device).exists() for device in _GPU_DEVICES):
        return nothing
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return _finding(Level.OK, f"torch sees {', '.join(names)}.")
    if not Path(_NVIDIA).exists():
        return nothing
    if torch.version.cuda is None:
        return _finding(
            Level.WARNING,
            "There is a GPU, but this torch is built for the CPU only.",
            "Install a CUDA build of torch and torchvision.",
        )
    return _finding(
        Level.WARNING,
        "There is a GPU, but torch does not see it.",
        "Update the driver (nvidia-smi shows its version), and check CUDA_VISIBLE_DEVICES.",
    )


def _disk(home: Path) -> Finding:
    existing = next(folder for folder in (home.absolute(), *home.absolute().parents) if folder.is_dir())
    if not os.access(existing, os.W_OK):
        return _finding(
            Level.PROBLEM, f"{existing} cannot be written.", "Set AIQ_HOME to a folder that can be written."
        )
    free = shutil.disk_usage(existing).free
    low = free < _LOW_DISK
    return _finding(
        Level.WARNING if low else Level.OK,
        f"{free / 1e9:.1f} GB of disk space are free in {existing}.",
        "Free some space, or set AIQ_HOME to a larger disk; `aiq delete` removes studies." if low else "",
    )


def _finding(level: Level, what: str, remedy: str = "") -> Finding:
    return Finding("environment", level, what, remedy)
