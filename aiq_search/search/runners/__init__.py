"""Runners: they have a driver's assignments trained and bring the reports back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from aiq_search.search.driver import StudyDriver

__all__ = ["DRAIN_SECONDS", "GRACE_SECONDS", "Runner"]

# How long running epochs may take to end once the study is draining.
DRAIN_SECONDS = 20.0

# A worker ends a trial that takes too long between epochs. An epoch that hangs is given this much more.
GRACE_SECONDS = 5.0


class Runner(Protocol):
    """What runs a study.

    Each runner is created with its way to train, and keeps the same promises:

    * A trial whose worker dies is continued or fails, as ``StudyDriver.died`` decides.
    * A trial that takes longer than ``search.trial_minutes`` fails.
    * A worker that cannot write its files halts the study; the trial is kept.
    * While the driver drains, running epochs may end within ``DRAIN_SECONDS``; their trials are put aside.
    * An error of the driver, such as a full disk, reaches the caller as it was raised.
    """

    def run(self, driver: StudyDriver) -> None:
        """Run a study to its end, or until it is drained.

        Args:
            driver: The study's driver, begun.
        """
