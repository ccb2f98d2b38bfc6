"""Studies as Ray jobs: submitting, listing, following and stopping them over HTTP.

Only Ray's Jobs API is used, so it works from this machine, through a tunnel or through a TLS proxy. A job's
id is its study's id.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiq_search.errors import AiqError, InputError, first_line
from aiq_search.polling import poll
from aiq_search.suggest import did_you_mean

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

__all__ = ["DEFAULT_ADDRESS", "Job", "JobsClient"]

DEFAULT_ADDRESS = "http://127.0.0.1:8265"

# What runs on the head. Its files come with the job, its secrets are in the head's environment.
ENTRY_POINT = "exec python -m aiq_search.app.job"

# The key of a job's metadata that marks it as a study, and names its space.
SPACE = "aiq_space"

# Ray's client prefers this variable, and RAY_ADDRESS, to the address that it is called with.
_ADDRESS = "RAY_API_SERVER_ADDRESS"

# In a job's environment: how many seconds Ray gives it after SIGTERM.
_DRAIN = "RAY_JOB_STOP_WAIT_TIME_S"

_TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
_ENDED = ("STOPPED", "SUCCEEDED", "FAILED")
_INTERVAL = 1.0  # seconds between two requests for a job's status


@dataclass(frozen=True)
class Job:
    """A study as a job.

    Attributes:
        study: Id of the study, and of the job.
        space: Name of its space.
        status: pending, running, stopped, succeeded or failed.
        message: Ray's message about it.
        exit_code: Of the study's driver, once it has ended by itself.
        submitted: When, in seconds since 1970.
        ended: When; None while it runs.
        drain_seconds: How long it may take to end when it is stopped; None if that is unknown.
    """

    study: str
    space: str
    status: str
    message: str
    exit_code: int | None
    submitted: float
    ended: float | None
    drain_seconds: int | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.status.upper() in _ENDED


class JobsClient:
    """The Jobs API of a cluster; the first request connects to it.

    Args:
        address: Of Ray's dashboard; by default ``RAY_API_SERVER_ADDRESS``, or this machine's.

    Raises:
        InputError: It is no address, or (on the first request) the cluster refuses our token.
        AiqError: (On the first request) the cluster does not answer.
    """

    def __init__(self, address: str | None = None) -> None:
        self.address = address or os.environ.get(_ADDRESS) or DEFAULT_ADDRESS
        if not self.address.startswith(("http://", "https://")):
            raise InputError(
                f"--address {self.address}: expected http://HOST:PORT, where Ray's dashboard is."
            )
        # Ray reads this once, when it is imported.
        default = Path.home() / ".ray" / "auth_token"
        if (
            any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
            or default.exists()
        ):
            os.environ["RAY_AUTH_MODE"] = "token"

    def submit(self, study: str, space: str, folder: Path, drain_seconds: int) -> None:
        """Submit a study.

        Args:
            study: Its id.
            space: Name of its space.
            folder: What it needs, as ``write_package`` wrote it.
            drain_seconds: How long it may take to finish its running epochs when it is stopped.

        Raises:
            InputError: A job of this id exists already.
        """
        with self._spoken():
            self._client.submit_job(
                entrypoint=ENTRY_POINT,
                submission_id=study,
                metadata={SPACE: space},
                runtime_env={
                    "working_dir": str(folder),
                    "env_vars": {_DRAIN: str(drain_seconds)},
                },
            )

    def jobs(self) -> list[Job]:
        """The studies that the cluster has jobs of, oldest first; its head forgets them when it stops."""
        with self._spoken():
            listed = self._client.list_jobs()
        studies = [_job(details) for details in listed if SPACE in (details.metadata or {})]
        return sorted(studies, key=lambda job: job.submitted)

    def find(self, name: str) -> Job:
        """The job with a study's id, or the newest of a space's name.

        Raises:
            InputError: There is none.
        """
        jobs = self.jobs()
        matches = [job for job in jobs if job.study == name] or [job for job in jobs if job.space == name]
        if matches:
            return matches[-1]
        ids = [job.study for job in jobs]
        hint = did_you_mean(name, ids) if ids else "it has none: `aiq submit FILE` starts one."
        raise InputError(f"the cluster at {self.address} has no job {name!r}; {hint}")

    def get(self, study: str) -> Job | None:
        """The job with a study's id; None if there is none."""
        return next((job for job in self.jobs() if job.study == study), None)

    def logs(self, study: str) -> str:
        """What the study has printed so far."""
        with self._spoken():
            return str(self._client.get_job_logs(study))

    def follow(self, study: str, write: Callable[[str], object]) -> Job:
        """Write what the study prints until it ends, and return how it ended."""
        started = self._when(study, lambda job: job.status != "pending")
        if started.over:
            write(self.logs(study))
            return started
        with self._spoken():
            asyncio.run(self._follow(study, write))
        return self.wait(study)

    async def _follow(self, study: str, write: Callable[[str], object]) -> None:
        async for lines in self._client.tail_job_logs(study):
            write(lines)

    def stop(self, study: str) -> None:
        """Ask the study to stop after its running epochs. Returns at once."""
        with self._spoken():
            self._client.stop_job(study)

    def wait(self, study: str) -> Job:
        """Wait until the study has ended."""
        return self._when(study, lambda job: job.over)

    def _when(self, study: str, condition: Callable[[Job], bool]) -> Job:
        """The job as soon as it meets a condition."""

        def ask() -> Job | None:
            job = self.find(study)
            return job if condition(job) else None

        return poll(ask, every=_INTERVAL)

    def forget(self, study: str) -> None:
        """Delete the record of a job that has ended, so that its id can be used again."""
        with self._spoken():
            self._client.delete_job(study)

    @property
    def ray_version(self) -> str:
        """Ray's version on the cluster."""
        with self._spoken():
            return str(getattr(self._client, "_server_ray_version", None) or "unknown")

    @cached_property
    def _client(self) -> JobSubmissionClient:
        from ray.job_submission import JobSubmissionClient

        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        with self._spoken(), _in_environment(_ADDRESS, self.address):
            return JobSubmissionClient(self.address)

    @contextmanager
    def _spoken(self) -> Iterator[None]:
        """Turn what can go wrong in a request into sentences."""
        import aiohttp
        import requests
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError:
            raise InputError(
                f"Ray at {self.address} requires its token: set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH; "
                "`aiq cluster env` prints it on the cluster's machine."
            ) from None
        except (ConnectionError, requests.RequestException, aiohttp.ClientError) as error:
            reason = first_line(error)
            raise AiqError(
                f"Ray's Jobs API at {self.address} does not answer ({reason[:200]}): start a cluster with "
                "`aiq cluster up`, or name one with --address or RAY_API_SERVER_ADDRESS."
            ) from None
        except (RuntimeError, ValueError) as error:
            if "already exists" in str(error):
                raise InputError(
                    "a job of that id exists already; `aiq jobs` lists them, and `aiq resume STUDY` "
                    "continues one that has ended."
                ) from None
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise AiqError(f"Ray's Jobs API at {self.address}: {lines[-1][:300]}") from None


@contextmanager
def _in_environment(name: str, value: str) -> Iterator[None]:
    """Set a variable while the context lasts."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _job(details: Any) -> Job:  # noqa: ANN401 - JobDetails, of an untyped package
    message = (details.message or "").strip().splitlines() or [""]
    return Job(
        study=details.submission_id,
        space=details.metadata[SPACE],
        status=str(details.status.value).lower(),
        message=message[0],
        exit_code=details.driver_exit_code,
        submitted=(details.start_time or 0) / 1000,
        ended=details.end_time / 1000 if details.end_time else None,
        drain_seconds=_drain_seconds(details.runtime_env or {}),
    )


def _drain_seconds(runtime_env: Mapping[str, Any]) -> int | None:
    seconds = str((runtime_env.get("env_vars") or {}).get(_DRAIN, ""))
    return int(seconds) if seconds.isdecimal() else None
