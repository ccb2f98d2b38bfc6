"""What goes wrong with a bundle."""

from aiq_search.errors import AiqError

__all__ = ["BundleError"]


class BundleError(AiqError):
    """A bundle is damaged, unsafe to open, or not the network that its numbers describe."""
