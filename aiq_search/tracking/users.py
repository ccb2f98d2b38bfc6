"""The users of the service's MLflow server: ``python -m aiq_search.tracking.users``, before it starts.

MLflow itself makes the administrator. This makes the role ``aiq-writer``, which may create experiments and
registered models and write to all of them, and the user ``aiq-driver``, which has that role and the password
in ``MLFLOW_DRIVER_PASSWORD``. It may run any number of times; a new password replaces the old one.
"""

from __future__ import annotations

import os
import sys

from mlflow.exceptions import MlflowException
from mlflow.server.auth.config import read_auth_config
from mlflow.server.auth.entities import Role
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME

__all__ = ["DRIVER", "PASSWORD", "WRITER", "prepare"]

DRIVER = "aiq-driver"
WRITER = "aiq-writer"
PASSWORD = "MLFLOW_DRIVER_PASSWORD"  # noqa: S105 - name of a variable

# By type of resource; whoever creates one may also delete it, by MLflow's own rule.
_PERMISSIONS = {"workspace": "USE", "experiment": "EDIT", "registered_model": "EDIT"}


def prepare(password: str) -> None:
    """Make the driver's user and its role in the database of MLflow's users.

    Args:
        password: Of the driver's user.

    Raises:
        MlflowException: The password is too short, or the database does not answer.
    """
    store = SqlAlchemyStore()
    store.init_db(read_auth_config().database_uri)  # type: ignore[no-untyped-call]
    if not store.has_user(DRIVER):
        store.create_user(DRIVER, password)
    elif not store.authenticate_user(DRIVER, password):
        store.update_user(DRIVER, password=password)
    role = _writer(store)
    user = store.get_user(DRIVER)
    if role.id not in {each.id for each in store.list_user_roles(user.id)}:
        store.assign_role_to_user(user.id, role.id)


def _writer(store: SqlAlchemyStore) -> Role:
    """The role, with at least its permissions."""
    roles = store.list_roles([DEFAULT_WORKSPACE_NAME])
    role = next((each for each in roles if each.name == WRITER), None)
    if role is None:
        about = "May create experiments and registered models, and write to all of them."
        role = store.create_role(WRITER, DEFAULT_WORKSPACE_NAME, about)
    granted = {each.resource_type: each for each in store.list_role_permissions(role.id)}
    for kind, permission in _PERMISSIONS.items():
        if kind not in granted:
            store.add_role_permission(role.id, kind, "*", permission)
        elif granted[kind].permission != permission:
            store.update_role_permission(granted[kind].id, permission)
    return role


def main() -> int:
    """Prepare the users by what the environment names, and return an exit code."""
    password = os.environ.get(PASSWORD)
    if not password:
        print(f"{PASSWORD}: expected the password of MLflow's user {DRIVER}, got none.", file=sys.stderr)
        return 2
    try:
        prepare(password)
    except MlflowException as error:
        print(f"{PASSWORD}: MLflow does not accept it ({error.message})", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
