"""Texts that are safe to show: credentials in them are replaced by ``***``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

__all__ = ["redact", "redacted"]

_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*://)[^\s/?#\"']*@")
# SQLAlchemy takes a password with a slash or a question mark in it as it stands: up to the last @.
_DATABASE = re.compile(r"(?P<scheme>(?:postgres|mysql|mariadb|mssql|oracle)[a-z0-9+_]*://)[^\s\"']*@")
_SECRET = re.compile(
    r"(?P<name>[?&;](?:password|passwd|pwd|token|secret|sslpassword|api[_-]?key|access[_-]?key)=)[^\s&;#\"']+",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Replace credentials of every URI in ``text``.

    >>> redact("cannot reach https://ada:lovelace@mlflow.example.org/api?token=1815&page=2")
    'cannot reach https://***@mlflow.example.org/api?token=***&page=2'
    >>> redact("postgresql://ada:love/lace@db/mlflow")
    'postgresql://***@db/mlflow'
    """
    for userinfo in (_DATABASE, _USERINFO):
        text = userinfo.sub(r"\g<scheme>***@", text)
    return _SECRET.sub(r"\g<name>***", text)


def redacted(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """``redact`` for every text in a JSON document or dataclass; its structure stays whole.

    >>> redacted({"said": ["GET https://ada:lovelace@host"], "number": 3})
    {'said': ['GET https://***@host'], 'number': 3}
    """
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {name: redacted(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(each) for each in value]
    if is_dataclass(value):
        return redacted(vars(value))  # a quarter of what ``asdict`` takes, which copies all of it first
    return value
