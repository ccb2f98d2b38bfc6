"""The secrets of a local cluster: random, made once, in files for their owner alone."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from aiq_search.errors import AiqError

__all__ = ["ADMIN", "DRIVER", "Credentials", "write_private"]

# MLflow's users: its administrator, and the one that the jobs on Ray's head log in as.
ADMIN, DRIVER = "admin", "aiq-driver"


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read; it replaces the old one at once."""
    temporary = path.with_name(f".{path.name}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


@dataclass(frozen=True, repr=False)  # a traceback or a log shows no secret
class Credentials:
    """Passwords and keys.

    Attributes:
        ray_token: Opens Ray's dashboard, Jobs API and internal ports.
        mlflow_admin: Password of MLflow's user ``admin``.
        mlflow_driver: Password of MLflow's user ``aiq-driver``, who cannot delete what others made.
        mlflow_key: Signs MLflow's sessions.
        postgres_superuser: Password of PostgreSQL's ``postgres``.
        postgres_mlflow: Password of PostgreSQL's ``mlflow``.
        postgres_aiq: Password of PostgreSQL's ``aiq``, who owns the studies.
    """

    ray_token: str
    mlflow_admin: str
    mlflow_driver: str
    mlflow_key: str
    postgres_superuser: str
    postgres_mlflow: str
    postgres_aiq: str

    @classmethod
    def make(cls, folder: Path) -> Credentials:
        """Those of a cluster's folder, made if there are none.

        Besides ``credentials.json`` this writes the files that others read: ``ray.token`` for Ray, and
        password files for PostgreSQL's clients, so that no URL contains a password.

        Raises:
            AiqError: The file is damaged.
        """
        path = folder / "credentials.json"
        if not path.exists():
            made = cls(*(secrets.token_hex(24) for _ in fields(cls)))
            write_private(path, json.dumps(asdict(made), indent=2) + "\n")
        credentials = cls.read(folder)
        write_private(folder / "ray.token", credentials.ray_token)
        for user, password in (
            ("postgres", credentials.postgres_superuser),
            ("mlflow", credentials.postgres_mlflow),
            ("aiq", credentials.postgres_aiq),
        ):
            write_private(folder / f"{user}.pgpass", f"127.0.0.1:*:*:{user}:{password}\n")
        return credentials

    @classmethod
    def read(cls, folder: Path) -> Credentials:
        """Those of a cluster's folder.

        Raises:
            AiqError: The file is missing or damaged.
        """
        path = folder / "credentials.json"
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise AiqError(
                f"{path}: damaged ({error}); restore it from a copy, or start over after `aiq cluster down "
                "--delete-data`."
            ) from None
