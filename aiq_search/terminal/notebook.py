"""A search as it runs, in a notebook: the terminal's view as HTML, in the output of its cell."""

from __future__ import annotations

import importlib
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Group
from rich.text import Text

from aiq_search.study import Event, StudyEnded
from aiq_search.terminal.text import SafeConsole
from aiq_search.terminal.view import LiveView, SearchView

__all__ = ["NotebookView", "in_notebook"]

_WIDTH = 100
_LINES = 12  # of what stays, such as each new best trial
_SECONDS = 0.25  # between two updates, which a browser draws

_PAGE = '<pre style="white-space: pre; line-height: normal"><code>{code}</code></pre>'


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, which shows HTML."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


class NotebookView(LiveView):
    """A view that is redrawn in place as the search runs, and stays when it is over.

    It needs nothing but IPython's display, so it also works where there are no widgets.

    Args:
        publishes: See ``SearchView``.
    """

    def __init__(self, *, publishes: bool = False) -> None:
        super().__init__(SafeConsole(stderr=True, width=_WIDTH), publishes=publishes)
        self._lines: deque[Text] = deque(maxlen=_LINES)
        self._display: Any = None
        self._drawn = 0.0

    def __enter__(self) -> SearchView:
        shown = importlib.import_module("IPython.display")  # which a kernel brings; nobody else needs it
        self._display = shown.display({"text/html": ""}, raw=True, display_id=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave what stays, and the counts."""
        self._update(Group(*self._lines, self._counts()))

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Do nothing: what else the cell prints has its own place."""
        yield

    def on_event(self, event: Event) -> None:
        """Redraw, if the last time is a moment ago."""
        super().on_event(event)
        if isinstance(event, StudyEnded) or time.monotonic() - self._drawn > _SECONDS:
            self._update(Group(*self._lines, self._draw()))

    def _keep(self, line: Text) -> None:
        self._lines.append(line)

    def _update(self, drawn: Group) -> None:
        self._drawn = time.monotonic()
        console = SafeConsole(width=_WIDTH, record=True)
        console.print(drawn)
        html = console.export_html(code_format=_PAGE, inline_styles=True)
        text = "\n".join(str(line) for line in self._lines)
        self._display.update({"text/html": html, "text/plain": text}, raw=True)
