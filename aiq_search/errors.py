"""The exceptions that this package raises on purpose.

Each message says what was expected, what was given and what to do. The command line turns an
``AiqError`` into that one message and the class's exit code; anything else is a bug and keeps its
traceback.
"""

__all__ = ["AiqError", "InputError", "NothingFeasibleError", "StudyError", "first_line"]

_LONGEST_LINE = 300


class AiqError(Exception):
    """Base of every exception that this package raises on purpose."""

    exit_code = 1


class InputError(AiqError):
    """What the user gave is wrong: a file, a value, a name."""

    exit_code = 2


class StudyError(InputError):
    """A study is not there, held by another driver, or damaged."""


class NothingFeasibleError(AiqError):
    """No configuration of the study meets every constraint."""

    exit_code = 3


def first_line(error: BaseException) -> str:
    r"""The first line of an error's message, to quote in one of ours; its type where it has no message.

    It may quote a stranger's file: what could steer a terminal is replaced, and it has an end.

    Example:
        >>> first_line(ValueError("no such file\nstack: ..."))
        'no such file'
        >>> first_line(EOFError())
        'EOFError'
    """
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    line = "".join(character if character.isprintable() else "?" for character in lines[0].strip())
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…"
