"""What a search is run with, whoever starts it: the command line, Python, or a job of a cluster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aiq_search.errors import InputError
from aiq_search.study.home import aiq_home
from aiq_search.user_code import CodePolicy

if TYPE_CHECKING:
    from aiq_search.search.machine import Machine

__all__ = ["RUNNERS", "RunOptions"]

# What may train a study's trials.
RUNNERS = ("ray", "in_process")


@dataclass(frozen=True)
class RunOptions:
    """How and where a search runs; what it searches is in the search-space file.

    Attributes:
        overrides: Edits of the file, of the form ``dotted.key=value``; for a new study only.
        trials: Number of configurations, in place of the file's.
        study_id: Id of a new study; by default ``<space>-<YYYYMMDD-HHMMSS>-<4 hex>``.
        study_storage: URL of a database for the trials; by default a journal in the study's folder.
        storage: Place for checkpoints and weights: a path that every node can reach, or
            ``s3://bucket/prefix``; by default the study's folder, which suits a cluster of one node.
        tracking_uri: MLflow's server or store; by default the study's, ``MLFLOW_TRACKING_URI``, or
            ``./mlflow.db``.
        data_dir: Folder of the data files; by default the study's, or ``AIQ_DATA_DIR``.
        address: A Ray cluster that this machine is a node of; by default one is started here.
        home: AIQ_HOME.
        warm_start: Earlier studies of the same space (ids or names) that the sampler learns from, or Optuna
            storages (``sqlite:///old.db?study=NAME``, the path of a journal) whose best configurations are
            tried first; for a new study only.
        allow_code: Packages that the file may name code of, besides modules of the working folder.
        runner: What trains: ``ray``, or ``in_process`` for one trial after the other in this process, without
            Ray's start; by default ``AIQ_RUNNER``, or ``ray``.

    Raises:
        InputError: The runner is unknown, or does not fit the address.
    """

    overrides: Sequence[str] = ()
    trials: int | None = None
    study_id: str | None = None
    study_storage: str | None = None
    storage: str | None = None
    tracking_uri: str | None = None
    data_dir: Path | None = None
    address: str | None = None
    home: Path = field(default_factory=aiq_home)
    warm_start: Sequence[str] = ()
    allow_code: Sequence[str] = ()
    runner: str = field(default_factory=lambda: os.environ.get("AIQ_RUNNER", "ray"))

    def __post_init__(self) -> None:
        if self.runner not in RUNNERS:
            raise InputError(f"runner {self.runner!r}: expected {' or '.join(RUNNERS)}.")
        if self.runner == "in_process" and self.address is not None:
            raise InputError(
                f"runner in_process trains in this process, not on the cluster at {self.address}: leave the "
                "address out, or choose the runner ray."
            )

    @property
    def code(self) -> CodePolicy:
        """Which code the file may name.

        Raises:
            InputError: A package has no valid name.
        """
        return CodePolicy.for_running(self.allow_code)

    @property
    def machine(self) -> Machine | None:
        """This machine, if trials run here; None where ``address`` names a cluster."""
        from aiq_search.search.machine import Machine

        return Machine.here() if self.address in (None, "local") else None

    @property
    def edits(self) -> list[str]:
        """The edits of the file, the number of trials among them.

        >>> RunOptions(overrides=["search.seed=1"], trials=20).edits
        ['search.seed=1', 'search.trials=20']
        """
        return [*self.overrides, *([] if self.trials is None else [f"search.trials={self.trials}"])]

    def arguments(self) -> list[str]:
        """The options as a job gives them to the command line on its cluster.

        What only the cluster knows is left to it: the trials' database, MLflow, Ray and AIQ_HOME.

        >>> RunOptions(overrides=["search.seed=1"], trials=20, warm_start=["digits-1"]).arguments()
        ['--set', 'search.seed=1', '--trials', '20', '--warm-start', 'digits-1']
        """
        single = {"--trials": self.trials, "--data-dir": self.data_dir, "--storage": self.storage}
        return [
            *(part for edit in self.overrides for part in ("--set", edit)),
            *(part for name, value in single.items() if value is not None for part in (name, str(value))),
            *(part for name in self.warm_start for part in ("--warm-start", name)),
            *(part for package in self.allow_code for part in ("--allow-code", package)),
        ]
