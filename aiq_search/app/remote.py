"""Finding a study: in AIQ_HOME, and where it is not there, in MLflow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from aiq_search.errors import AiqError, InputError, StudyError
from aiq_search.redaction import redact
from aiq_search.study import Study, list_studies
from aiq_search.study.home import aiq_home
from aiq_search.tracking import check_tracking_uri, default_tracking_uri
from aiq_search.tracking.uri import is_server
from aiq_search.user_code import CodePolicy

if TYPE_CHECKING:
    from aiq_search.export import Verification
    from aiq_search.tracking.reading import RemoteStudy

__all__ = ["AnyStudy", "all_studies", "export_remote", "find_any"]

AnyStudy: TypeAlias = Union[Study, "RemoteStudy"]


def find_any(name: str, tracking_uri: str | None = None, home: Path | None = None) -> AnyStudy:
    """Open the study of an id, or the newest of a space's name, from its folder or else from MLflow.

    Args:
        name: A study's id, or a space's name.
        tracking_uri: MLflow's store; by default ``MLFLOW_TRACKING_URI``, or ``./mlflow.db`` if it is there.
        home: AIQ_HOME.

    Raises:
        StudyError: Neither has it.
        AiqError: MLflow does not answer.
    """
    try:
        return _newest(Study.find(home or aiq_home(), name), name, tracking_uri)
    except StudyError as error:
        uri = _store(tracking_uri)
        if uri is None or ((home or aiq_home()) / "studies" / name).exists():
            raise
        from aiq_search.tracking.reading import find_study

        found = find_study(name, uri)
        if found is None:
            raise StudyError(f"{error} MLflow at {redact(uri)} has no such study either.") from None
        return found


def all_studies(tracking_uri: str | None = None, home: Path | None = None) -> list[AnyStudy]:
    """The studies in AIQ_HOME, then those that MLflow alone has.

    MLflow is asked where a store is named (``MLFLOW_TRACKING_URI``, ``tracking_uri``), or where AIQ_HOME
    has no study: asking takes seconds.

    Raises:
        AiqError: MLflow does not answer.
    """
    found: list[AnyStudy] = list(list_studies(home or aiq_home()))
    named = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    uri = _store(tracking_uri) if named or not found else None
    if uri is None:
        return found
    from aiq_search.tracking.reading import list_remote_studies

    known = {study.id for study in found}
    return [*found, *(study for study in list_remote_studies(uri) if study.id not in known)]


def export_remote(
    study: RemoteStudy,
    output: Path,
    *,
    force: bool = False,
    data_dir: Path | None = None,
    with_data: bool = True,
    allow_code: Sequence[str] = (),
) -> Verification:
    """Download the bundle that lies with a study's run, and verify it before it takes its place.

    Args:
        study: The study.
        output: The directory to write; must not exist.
        force: Replace a bundle that is there.
        data_dir: Folder of the data files.
        with_data: Whether to verify what needs the data.
        allow_code: Packages that the bundle may name besides modules of the working folder.

    Raises:
        InputError: There is no bundle, or something is at ``output``.
        BundleError: The bundle is damaged, unsafe, or not what its card says.
    """
    import tempfile

    from mlflow.exceptions import MlflowException

    from aiq_search.export import copy_bundle

    with tempfile.TemporaryDirectory() as scratch:
        try:
            bundle = study.artifact("bundle", Path(scratch))
        except (MlflowException, OSError) as error:
            said = redact(str(error)).strip().splitlines() or [type(error).__name__]
            raise InputError(
                f"study {study.id} is in MLflow without a bundle ({said[0][:200]}): it is put there when the "
                "search ends. Export the study where its folder is: aiq export STUDY."
            ) from None
        return copy_bundle(
            bundle,
            output,
            force=force,
            data_dir=data_dir,
            with_data=with_data,
            code=CodePolicy.for_running(allow_code),
        )


def _newest(here: Study, name: str, tracking_uri: str | None) -> AnyStudy:
    """The newer of a study that is here and what a server has by a space's name.

    A search that was submitted to a cluster, and one that was run here, may be of the same space.
    """
    uri = tracking_uri or default_tracking_uri()
    if here.id == name or not is_server(uri):
        return here
    from aiq_search.tracking.reading import find_study

    try:
        found = find_study(name, uri)
        newer = found is not None and found.document.created > here.document.created
    except AiqError:
        return here  # what is here can be looked at without the server
    return found if newer and found is not None and found.id != here.id else here


def _store(tracking_uri: str | None) -> str | None:
    """The store to read from; None where there is none (opening a SQLite file would make it)."""
    uri = check_tracking_uri(tracking_uri or default_tracking_uri())
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///").partition("?")[0]).is_file():
        return None
    return uri
