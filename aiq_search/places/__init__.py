"""Where checkpoints and weights are: in a local folder, one that the nodes share, or an object store."""

from aiq_search.places.local import LocalPath
from aiq_search.places.place import Place, StorageError, patiently
from aiq_search.places.probe import StorageProbe, answer_probe
from aiq_search.places.store import StoredPath
from aiq_search.places.uri import chosen_storage, place_of, shared_place

__all__ = [
    "LocalPath",
    "Place",
    "StorageError",
    "StorageProbe",
    "StoredPath",
    "answer_probe",
    "chosen_storage",
    "patiently",
    "place_of",
    "shared_place",
]
