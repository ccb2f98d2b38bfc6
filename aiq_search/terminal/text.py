"""Text from anywhere as it is printed: it cannot steer the terminal, and numbers are easy to read.

Names, reasons and messages come from files, networks and other programs. Wherever they are printed, control
characters are shown instead of sent, and what is long is shortened.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

__all__ = ["LONGEST_VALUE", "SafeConsole", "configuration", "number", "plain", "stderr"]

# Characters that are printed of a message, and of a value in a table.
_LONGEST = 4000
LONGEST_VALUE = 1000

# What is shown instead of sent: C0 and C1 controls but line ends and tabs, what reorders text or separates
# lines, and halves of surrogate pairs, which cannot be encoded.
_SHOWN = [
    *range(0x09),
    *range(0x0B, 0x20),
    *range(0x7F, 0xA0),
    0x61C,
    *range(0x200E, 0x2010),
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
    0xFEFF,
    *range(0xD800, 0xE000),
]
_ESCAPES = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _SHOWN}


def plain(text: str, longest: int | None = _LONGEST) -> str:
    r"""Text from anywhere as it can be printed: control characters are escaped, and its middle is cut out.

    >>> plain("\x1b[31mred"), plain("abcdefghij" * 1000, longest=20)
    ('\\x1b[31mred', 'abcdefghijabcd … (9,980 characters) … efghij')
    """
    if longest is not None and len(text) > longest:
        tail = longest // 3
        head = longest - tail
        cut = len(text) - head - tail
        text = f"{text[:head]} … ({cut:,} characters) … {text[len(text) - tail :]}"
    return text.translate(_ESCAPES)


class SafeConsole(Console):
    """A console that sends its own control sequences and no others, whatever it prints.

    Nor does it read markup or names of emoji: a file's "[bold]" is text.

    Args:
        stderr: Print to stderr instead of stdout.
        width: Columns; by default those of the terminal.
        record: Print nowhere, and keep it for ``export_html``.
    """

    def __init__(self, *, stderr: bool = False, width: int | None = None, record: bool = False) -> None:
        how: dict[str, Any] = {"file": io.StringIO(), "record": True} if record else {}
        super().__init__(
            stderr=stderr,
            width=width,
            highlight=False,
            markup=False,
            emoji=False,
            force_jupyter=False,  # where rich would print HTML of its own
            color_system="truecolor" if record else "auto",
            **how,
        )

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as ``Console`` does, with control characters of texts escaped."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(segment.text.translate(_ESCAPES), segment.style)


def stderr() -> Console:
    """Where everything goes that is not the result."""
    return SafeConsole(stderr=True)


def number(value: Any) -> str:  # noqa: ANN401
    """A value as a person reads it.

    >>> number(0.87654), number(12345), number(1e-05), number(None), number(True)
    ('0.8765', '12,345', '1e-05', '', 'yes')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4f}" if 0.001 <= abs(value) < 1000 or value == 0 else f"{value:.3g}"
    return plain(str(value), LONGEST_VALUE)


def configuration(params: Mapping[str, Any], separator: str = " ") -> str:
    """A configuration in one cell.

    >>> configuration({"model.hidden1": 16, "training.learning_rate": 0.01})
    'hidden1=16 learning_rate=0.0100'
    """
    return separator.join(
        f"{plain(name.partition('.')[2], LONGEST_VALUE)}={number(value)}" for name, value in params.items()
    )
