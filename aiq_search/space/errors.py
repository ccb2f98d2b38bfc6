"""What is wrong with a search-space file."""

from aiq_search.errors import InputError

__all__ = ["SpaceError"]


class SpaceError(InputError):
    """A search-space file that cannot be used as it is."""
