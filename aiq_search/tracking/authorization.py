"""Rules of the service's MLflow server that MLflow's own permissions cannot express.

MLflow lets every user create experiments and registered models, and writes an experiment's artifacts wherever
its ``artifact_location`` points, with the server's rights. Here a user without any grant may only read, only
users with a role that allows it create anything, and artifacts stay where the server keeps them. MLflow's
configuration names `authorize` as its ``authorization_function``, which is asked before every request; what
it lets through, MLflow still checks.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus

from flask import Response, g, jsonify, request
from mlflow.server.auth import authenticate_request_basic_auth, store
from mlflow.server.auth.permissions import RESOURCE_TYPE_WORKSPACE, VALID_RESOURCE_TYPES, get_permission
from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME
from werkzeug.datastructures import Authorization

__all__ = ["authorize"]

_READING = ("GET", "HEAD", "OPTIONS")

# What else changes nothing: questions too long for an address, and a user's own password.
_QUESTION = re.compile(
    r"/(search[a-z-]*|graphql|get-latest-versions|metrics|batchGet[A-Za-z]*|calculate-filter-correlation|"
    r"presigned-download-url|ui-telemetry|users/update-password)$"
)

# What MLflow grants to everyone who can log in, or does not ask about.
_CREATION = re.compile(
    r"/mlflow/((experiments|registered-models|gateway/[^/]+)/create$|mcp-servers(/|$)|demo/)"
)

# JSON names of the field, as MLflow's parser accepts them.
_LOCATION = ("artifact_location", "artifactLocation")


def authorize() -> Authorization | Response:
    """Authenticate the current request, and refuse what only MLflow would allow.

    Returns:
        Who sends it, or the answer that refuses it.
    """
    if "aiq_authorization" not in g:  # MLflow asks several times a request
        g.aiq_authorization = _authorize()
    answer: Authorization | Response = g.aiq_authorization
    return answer


def _authorize() -> Authorization | Response:
    user = authenticate_request_basic_auth()
    if isinstance(user, Response) or request.method in _READING or _QUESTION.search(request.path):
        return user
    creating = _CREATION.search(request.path) is not None
    if not _may_write(str(user.username), creating):
        return _refusal(
            f"user {user.username} may only read: an administrator gives the right to create experiments and "
            "registered models, and to write to them, with a role such as aiq-writer."
        )
    if creating and _names_a_location():
        return _refusal("this server chooses where artifacts are kept: leave artifact_location out.")
    return user


def _may_write(name: str, creating: bool) -> bool:
    """Whether a user is an administrator, or was granted anything; to create, the use of the workspace."""
    user = store.get_user(name)
    if user.is_admin:
        return True
    grants = store.list_grants(user.id, DEFAULT_WORKSPACE_NAME, VALID_RESOURCE_TYPES)
    return any(
        get_permission(grant.permission).can_use
        for grant in grants
        if not creating or grant.resource_type == RESOURCE_TYPE_WORKSPACE
    )


def _names_a_location() -> bool:
    """Whether the request's document has an artifact location; old clients encode the document twice."""
    document = request.get_json(force=True, silent=True)
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except ValueError:
            return False  # MLflow cannot read it either
    return isinstance(document, dict) and any(document.get(name) for name in _LOCATION)


def _refusal(message: str) -> Response:
    answer = jsonify(error_code="PERMISSION_DENIED", message=message)
    answer.status_code = HTTPStatus.FORBIDDEN
    return answer
