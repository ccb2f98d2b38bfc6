"""A study as a Ray job: ``python -m aiq_search.app.job``, in the folder that came with the job.

It may be started any number of times: it starts the study, or resumes it where it stopped, but never one that
another submission started. A driver that was killed by a signal is restarted. SIGTERM is passed on to the
driver, which finishes the running epochs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from aiq_search.cluster.package import DOCUMENT, SPACE_FILE
from aiq_search.errors import AiqError, StudyError
from aiq_search.study.home import aiq_home

__all__ = ["Supervisor", "command", "main"]

# How often a driver that was killed by a signal is restarted.
RESTARTS = 3


class Supervisor:
    """Runs the driver of a study, and restarts it if a signal killed it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._driver: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: let the driver drain, and do not restart it.

        Ray sends SIGTERM to the driver itself, too; only the first one counts there.
        """
        self._stopping = True
        if self._driver is not None:
            self._driver.send_signal(number)

    def run(self) -> int:
        """Run the study and return the exit code of its last driver."""
        code = 0
        for attempt in range(1 + RESTARTS):
            # In our own process group, which Ray kills if this job's own process dies.
            self._driver = subprocess.Popen(  # noqa: S603 - our own module
                command(self._document), env=os.environ | {"AIQ_JOB": _submission(self._document)}
            )
            if self._stopping:  # the signal came before there was a driver to pass it on to
                self._driver.send_signal(signal.SIGTERM)
            code = self._driver.wait()
            if code >= 0 or self._stopping:
                break
            _report(
                f"the driver was killed by signal {-code}"
                + ("; restarting it." if attempt < RESTARTS else ".")
            )
        return code if code >= 0 else 128 - code


def command(document: dict[str, Any]) -> list[str]:
    """Start the study, or resume it if it was started.

    Raises:
        StudyError: It should be resumed, and is not here; or it should be started, and another submission
            or a search on the cluster has started it.
    """
    study = document["study"]
    aiq = [sys.executable, "-m", "aiq_search"]
    folder = aiq_home() / "studies" / study
    if (folder / "study.json").is_file():
        if document["search"] is not None:
            _check_own(study, _submission(document))
        return [*aiq, "resume", study, *document["resume"]]
    if document["search"] is None and os.environ.get("AIQ_STUDY_STORAGE"):
        return [*aiq, "resume", study, *document["resume"]]  # started on another head
    if document["search"] is None:
        raise StudyError(
            f"study {study} cannot continue: it is not in {aiq_home()} of this cluster; submit its file as a "
            "new study."
        )
    if folder.is_dir():
        from aiq_search.study import clear_unborn

        clear_unborn(aiq_home(), study, os.environ.get("AIQ_STUDY_STORAGE"))
    return [*aiq, "search", SPACE_FILE, "--study", study, *document["search"]]


def _submission(document: dict[str, Any]) -> str:
    """The submission that study.json names; for a job.json written by hand it is the study's id."""
    return str(document.get("submission") or document["study"])


def _check_own(study: str, submission: str) -> None:
    """Raise StudyError if another submission started the study: what was submitted would not be what runs."""
    from aiq_search.study import Study

    if Study.open(study).document.provenance.job != submission:
        raise StudyError(
            f"study {study} is on this cluster already, started by another submission or search; nothing was "
            f"changed. Continue it with `aiq resume {study}`, or submit the file under another --study."
        )


def main() -> int:
    """Run the job in the current folder and return its exit code."""
    document = json.loads(Path(DOCUMENT).read_text(encoding="utf-8"))
    _compare(document["versions"])
    supervisor = Supervisor(document)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, supervisor.stop)
    try:
        return supervisor.run()
    except AiqError as error:
        _report(str(error))
        return error.exit_code


def _compare(theirs: dict[str, str]) -> None:
    """Report which versions differ here from where the study was submitted."""
    from aiq_search.study.provenance import versions

    ours = versions()
    for package in ("python", "aiq-search", "torch"):
        if package in theirs and ours.get(package) != theirs[package]:
            _report(
                f"Note: {package} is {ours.get(package, 'not installed')} on the cluster and "
                f"{theirs[package]} where the study was submitted."
            )


def _report(text: str) -> None:
    print(f"aiq job: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
