"""HTTP requests to MLflow's server and Ray's dashboard, and why one failed in a few words."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import requests

__all__ = ["basic_auth", "fetch", "root_cause"]


def fetch(
    url: str,
    *,
    method: str = "GET",
    json: Any = None,  # noqa: ANN401 - whatever JSON holds
    authorization: str | None = None,
    timeout: float = 20.0,
    direct: bool = False,
) -> requests.Response:
    """Make one request.

    A user and password in the URL become basic authentication, and never part of the request line.

    Args:
        url: The address.
        method: HTTP method.
        json: Document to send.
        authorization: The header of that name: a secret.
        timeout: Seconds to wait for the connection, and for each part of the answer.
        direct: Ignore the environment's proxies and ``.netrc``: for servers on this machine that get a
            secret.

    Raises:
        requests.HTTPError: The server answers with an error.
        requests.RequestException: It does not answer.
    """
    import requests

    with requests.Session() as session:
        session.trust_env = not direct
        headers = {} if authorization is None else {"Authorization": authorization}
        answer = session.request(method, url, json=json, headers=headers, timeout=timeout)
    answer.raise_for_status()
    return answer


def basic_auth(user: str, password: str) -> str:
    """The ``Authorization`` header of a user and a password.

    >>> basic_auth("ada", "lovelace")
    'Basic YWRhOmxvdmVsYWNl'
    """
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def root_cause(error: BaseException) -> str:
    """The innermost reason of an error: requests wraps the system's own four times.

    What an error was raised in the handling of is no reason of it.

    >>> try:
    ...     fetch("http://127.0.0.1:1", direct=True)
    ... except OSError as error:
    ...     root_cause(error)
    'Connection refused'
    """
    while inner := _inner(error):
        error = inner
    reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(reason).splitlines()[0]


def _inner(error: BaseException) -> BaseException | None:
    within = (error.__cause__, getattr(error, "reason", None), *error.args)
    return next((each for each in within if isinstance(each, BaseException)), None)
