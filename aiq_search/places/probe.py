"""The proof that the driver and the nodes see the same storage, before the first trial."""

from __future__ import annotations

import secrets
from types import TracebackType

from aiq_search.places.place import Place
from aiq_search.places.store import reason_of
from aiq_search.places.uri import place_of

__all__ = ["StorageProbe", "answer_probe"]


class StorageProbe:
    """Proves that nodes and driver see the same storage.

    While the context lasts, the storage has a file of the driver's, which each node must see; each node
    writes another one, which the driver must see. A folder that merely has the same path on two machines
    fails both.

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
        (self._place / self.name).write_whole(b"driver")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for path in self._place.glob(f"{self.name}*"):
            path.discard()

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
        (here / f"{probe}-{node}").write_whole(b"node")
    except (OSError, ValueError) as error:
        return reason_of(error)
    return None
