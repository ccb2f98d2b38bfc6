"""What goes wrong with a bundle."""

from aiq_search.errors import InputError

__all__ = ["BundleError", "BundleMismatchError"]

_LONGEST = 1000


class BundleError(InputError):
    r"""A bundle is damaged, unsafe to open, or not the network that its numbers describe.

    The message may quote a stranger's file: what could steer a terminal is replaced, and it has an end.

    Example:
        >>> str(BundleError("no layer \x1b[2J"))
        'no layer ?[2J'
    """

    def __init__(self, message: str) -> None:
        short = message if len(message) <= _LONGEST else f"{message[:_LONGEST]} …"
        super().__init__("".join(c if c.isprintable() else "?" for c in short))


class BundleMismatchError(BundleError):
    """A bundle is whole, but its networks or numbers differ: not the user's mistake."""

    exit_code = 1
