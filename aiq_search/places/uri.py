"""Places by their text: a path, or an address of a store."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from aiq_search.errors import InputError
from aiq_search.places.local import LocalPath
from aiq_search.places.place import Place
from aiq_search.places.store import StoredPath

__all__ = ["chosen_storage", "place_of", "shared_place"]


def place_of(where: str | Path | Place) -> Place:
    """The place that a text names; ``place_of(str(place))`` is the place again.

    >>> place_of("s3://bucket/studies?region=eu-west-1") / "a"
    StoredPath(path='bucket/studies/a', query='region=eu-west-1')
    >>> place_of("/shared/studies") / "a"
    LocalPath('/shared/studies/a')
    """
    parts = urlsplit(str(where))
    if parts.scheme == "s3":
        return StoredPath(f"{parts.netloc}{parts.path}".rstrip("/"), parts.query)
    return LocalPath(parts.path if parts.scheme == "file" else str(where))


def shared_place(uri: str) -> Place:
    """What the user gave for ``--storage``, checked.

    Raises:
        InputError: It is no absolute path, file:// or s3:// address, or it holds credentials.
    """
    parts = urlsplit(uri)
    if "@" in parts.netloc or any("key" in name or "secret" in name for name, _ in parse_qsl(parts.query)):
        raise InputError(
            "--storage: credentials in the address would be written down with the study: put them into the "
            "environment of every node instead (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)."
        )
    absolute = parts.scheme in ("", "file") and not parts.netloc and parts.path.startswith("/")
    if not absolute and not (parts.scheme == "s3" and parts.netloc):
        raise InputError(
            f"--storage {uri}: expected s3://bucket/prefix, or an absolute path (file:///path) that every "
            "node can reach."
        )
    return place_of(uri)


def chosen_storage(uri: str | None) -> str | None:
    """The address given for ``--storage``, as it is kept in study.json; a folder is made.

    Raises:
        InputError: It cannot be used.
    """
    if uri is None:
        return None
    place = shared_place(uri)
    try:
        place.mkdir(parents=True, exist_ok=True)
        place.check_reachable()
    except OSError as error:
        raise InputError(
            f"--storage {uri}: the folder cannot be created ({error.strerror or error}); choose one that can "
            "be written."
        ) from None
    return str(place)
