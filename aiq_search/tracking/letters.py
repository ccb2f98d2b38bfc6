"""What the outbox holds: events as text, each with an identity of its own."""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from pydantic import TypeAdapter

from aiq_search.errors import StudyError
from aiq_search.redaction import redact, redacted
from aiq_search.study.document import StudyDocument
from aiq_search.study.events import (
    EpochEnded,
    Event,
    PhaseStarted,
    RungReached,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialStarted,
)

__all__ = [
    "ChampionExported",
    "FilesWritten",
    "Happening",
    "Letter",
    "UnreadableError",
    "checksum",
    "decode",
    "encode",
    "event_id",
    "owner_of",
]


@dataclass(frozen=True)
class FilesWritten:
    """A folder is to be kept with the study's run: its report, say. Not the driver's event but ours."""

    study: str
    folder: str
    time: float


@dataclass(frozen=True)
class ChampionExported:
    """The champion is in ``folder`` as a bundle, and is to be registered as a model; ours too.

    ``champion`` is the document of ``aiq best --format json``.
    """

    study: str
    folder: str
    champion: Mapping[str, Any]
    time: float


Happening: TypeAlias = Event | FilesWritten | ChampionExported
_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(StudyStarted, PhaseStarted, TrialStarted, RungReached, EpochEnded, TrialEnded, StudyEnded),
        *(FilesWritten, ChampionExported),
    )
}


@dataclass(frozen=True)
class Letter:
    """One event in the outbox: its place in the queue, whom it concerns, and what happened."""

    row: int
    owner: str
    event: Happening


class UnreadableError(Exception):
    """An event cannot be read back: it was cut or changed, or a later version wrote it."""


def owner_of(event: Happening) -> str:
    """Whose run an event belongs to: the trial's key, or the study's id."""
    return (
        event.study
        if isinstance(event, StudyStarted | PhaseStarted | StudyEnded | FilesWritten | ChampionExported)
        else str(event.key)
    )


def event_id(event: Happening) -> str:
    """Identity of an event: the same for the same happening, however often it is put.

    A trial starts, ends and sees each rung and epoch once; a study may be taken up, and a trial resumed, many
    times.
    """
    match event:
        case RungReached(samples=samples):
            what = f"rung/{samples}"
        case EpochEnded(epoch=epoch):
            what = f"epoch/{epoch}"
        case TrialStarted(resumed=False):
            what = "started"
        case TrialStarted(time=time):
            what = f"resumed/{time:.6f}"
        case TrialEnded():
            what = "ended"
        case PhaseStarted(phase=phase, time=time):
            what = f"phase/{phase}/{time:.6f}"
        case StudyStarted(time=time):
            what = f"study/{time:.6f}"
        case StudyEnded(time=time):
            what = f"over/{time:.6f}"
        case FilesWritten(time=time):
            what = f"files/{time:.6f}"
        case ChampionExported(time=time):
            what = f"champion/{time:.6f}"
    return f"{owner_of(event)}/{what}"


def checksum(*parts: str) -> int:
    """By which a row is known to be as it was written."""
    return zlib.crc32("\0".join(parts).encode(errors="surrogatepass"))


def encode(event: Happening) -> str:
    """Write an event as JSON, without credentials."""
    return json.dumps(redacted(event), default=_as_plain)


def decode(kind: str, payload: str) -> Happening:
    """Read an event back from ``encode``.

    Raises:
        UnreadableError: It is not what this version writes.
    """
    if kind not in _KINDS:
        raise UnreadableError(f"this version does not know the kind {kind[:40]!r}")
    try:
        content = json.loads(payload)
        unknown = content.keys() - {field.name for field in fields(_KINDS[kind])}
        if unknown:
            raise UnreadableError(f"this version does not know the field {min(unknown)[:40]!r} of {kind}")
        for name in ("finalists", "verdicts"):
            if name in content:
                content[name] = tuple(content[name])
        event: Happening = _reader(kind).validate_python(content)
        if isinstance(event, StudyStarted):
            StudyDocument.parse(event.document, "the outbox")
    except StudyError as error:
        raise UnreadableError(str(error)) from None
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise UnreadableError(f"the content of this {kind} was cut or changed") from None
    return event


@functools.cache
def _reader(kind: str) -> TypeAdapter[Any]:
    return TypeAdapter(_KINDS[kind])


def _as_plain(value: object) -> object:
    """Turn what JSON does not know (NumPy numbers, paths, frozen mappings) into what it does."""
    item = getattr(value, "item", None)
    return item() if callable(item) else redact(str(value))
