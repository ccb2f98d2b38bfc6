"""The storage that the nodes share: chosen by the user, and proved to be shared before the first trial."""

from __future__ import annotations

import secrets
from pathlib import Path
from types import TracebackType

from aiq_search.errors import InputError
from aiq_search.files import Place, StoredPath, discard, place_of, shared_place, write_whole

__all__ = [
    "StorageProbe",
    "answer_probe",
    "check_reachable",
    "chosen_storage",
    "free_space",
    "remedy",
]


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
        check_reachable(place)
    except OSError as error:
        raise InputError(
            f"--storage {uri}: the folder cannot be made ({error.strerror or error}); give one that can be "
            "written."
        ) from None
    return str(place)


def check_reachable(place: Place) -> None:
    """Raise InputError for a store that does not answer, or not in the way that its address says."""
    if not isinstance(place, StoredPath):
        return
    try:
        next(place.glob("*"), None)
    except (OSError, ValueError) as error:
        raise InputError(
            f"storage {place} cannot be used ({_reason(error)}): correct its address, region, endpoint or "
            "credentials."
        ) from None


class StorageProbe:
    """Proves that nodes and driver see the same storage.

    While the context lasts, a file of the driver's lies there, which each node must see; each node
    writes one beside it, which the driver must see. A folder that merely has the same path on two
    machines fails both.

    Args:
        place: Where the checkpoints go.

    Raises:
        OSError: (on entering) The driver itself cannot write there.
    """

    def __init__(self, place: Place) -> None:
        self.name = f".probe-{secrets.token_hex(8)}"  # new each time: nothing may remember that it was absent
        self._place = place

    def __enter__(self) -> StorageProbe:
        self._place.mkdir(parents=True, exist_ok=True)
        write_whole(self._place / self.name, b"driver")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for path in self._place.glob(f"{self.name}*"):
            discard(path)

    def sees(self, node: str) -> bool:
        """Whether the driver sees what a node has written."""
        return (self._place / f"{self.name}-{node}").is_file()


def answer_probe(place: str, probe: str, node: str) -> str | None:
    """The node's side of a probe.

    Args:
        place: Where the checkpoints go.
        probe: Name of the driver's file.
        node: The node's id.

    Returns:
        Why a trial could not keep its checkpoints there; None if it could.
    """
    here = place_of(place)
    try:
        if not (here / probe).is_file():
            return "the driver's file is not there: another file system under the same name"
        write_whole(here / f"{probe}-{node}", b"node")
    except (OSError, ValueError) as error:
        return _reason(error)
    return None


def _reason(error: Exception) -> str:
    """The last part of a message, which says what happened."""
    said = getattr(error, "strerror", None) or str(error)
    return str(said).strip().splitlines()[0].removesuffix(".")


def remedy(place: Place) -> str:
    """What to do about a storage that a node cannot use."""
    if isinstance(place, StoredPath):
        return "set its address, region and credentials in the environment in which Ray is started there"
    return "mount the file system that the driver writes to under this path there, or give --storage s3://…"


def free_space(place: Place) -> int | None:
    """Bytes free in a folder; None for a store, which has no such limit."""
    import shutil

    if isinstance(place, StoredPath):
        return None
    return shutil.disk_usage(place).free if Path(place).is_dir() else 0
