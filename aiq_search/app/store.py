"""Where a study's runs are: the MLflow store that it was begun with, unless another one is named."""

from __future__ import annotations

import os

from aiq_search.errors import InputError
from aiq_search.redaction import redact
from aiq_search.study import Study
from aiq_search.tracking import absolute_tracking_uri, default_tracking_uri

__all__ = ["remember_store", "tracking_uri_of"]


def tracking_uri_of(study: Study, given: str | None = None) -> str:
    """The store of a study's runs.

    Whatever folder or environment a later command is given in, it must find the runs that there are, and
    not make them again elsewhere.

    Args:
        study: The study.
        given: What the user names; it goes before all else.

    Raises:
        InputError: The runs are in a store whose credentials study.json does not hold, and the environment
            names another one.
    """
    if given is not None:
        return given
    known, default = study.document.get("tracking_uri"), default_tracking_uri()
    if known is None or known == redact(default):
        return default
    if os.environ.get("AIQ_JOB"):
        return default  # the cluster's server, wherever that listens by now
    if known == redact(known) and "***" not in known:
        return str(known)
    raise InputError(
        f"study {study.id} has its runs at {known}, whose credentials are not kept: name it, with them, by "
        "--tracking-uri or MLFLOW_TRACKING_URI."
    )


def remember_store(study: Study, uri: str) -> None:
    """Note in study.json, without credentials, where the runs are from now on; save it afterwards."""
    study.document["tracking_uri"] = redact(absolute_tracking_uri(uri))
