"""A search as it runs: a live view on a terminal, one line per event elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from aiq_search.study import (
    Event,
    Phase,
    PhaseStarted,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialRecord,
    TrialState,
)
from aiq_search.study.description import meaning
from aiq_search.study.progress import objective_of
from aiq_search.terminal.tally import Tally
from aiq_search.terminal.text import configuration, plain
from aiq_search.words import counted

__all__ = ["LiveView", "SearchView", "search_view"]

_TITLES = {
    Phase.EXPLORE: "exploring",
    Phase.CONFIRM: "confirming",
    Phase.REFERENCE: "training the reference network",
}

# What runs after the last trial, by how the search ended.
_AFTER = {"finished": "exporting the champion and writing the report"}
_DELIVERING = "delivering to MLflow"


class SearchView:
    """One line per event, for logs and pipes.

    Args:
        console: Where the lines go.
        publishes: Whether this process has the champion and the report made, once the search has finished.
    """

    def __init__(self, console: Console, *, publishes: bool = False) -> None:
        self._console = console
        self._publishes = publishes
        self._tally = Tally()

    def __enter__(self) -> SearchView:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: lines stay."""

    def aside(self) -> AbstractContextManager[object]:
        """Make way on the screen while the context lasts."""
        return nullcontext()

    def on_history(self, records: Sequence[TrialRecord]) -> None:
        """Count what earlier drivers have trained."""
        self._tally.remember(records)

    def on_event(self, event: Event) -> None:
        """Print what happened, in one line."""
        names = {key: started.name for key, (started, _, _) in self._tally.running.items()}
        is_best = self._tally.take(event)
        match event:
            case StudyStarted():
                self._line(f"{'resumed' if event.resumed else 'started'} study {event.study}")
            case PhaseStarted():
                done = f", {event.done} of them done" if event.done else ""
                self._line(f"{_TITLES[event.phase]}: {counted(event.total, 'trial')}{done}")
            case TrialEnded():
                self._line(self._ended(names.get(event.key, str(event.key)), event, is_best))
            case StudyEnded():
                self._line(f"{event.reason} study {event.study}")
                if self._publishes:
                    self._line(f"{_after(event)} …")

    def _ended(self, name: str, event: TrialEnded, is_best: bool) -> str:
        line = f"[{self._tally.done}/{self._tally.total}] {name} {event.state}"
        if event.metrics:
            m = event.metrics
            line += f" aIQ {m['aiq']:.4f} accuracy {m['accuracy']:.4f} efficiency {m['efficiency']:.4f}"
            line += f" parameters {int(m['parameters'])} epochs {event.epochs}"
        if event.collapsed:
            line += " collapsed"
        if event.feasible is False and event.state is TrialState.COMPLETE:
            line += " infeasible"
        if event.reason:
            line += f" ({event.reason})"
        return line + (" best so far" if is_best else "")

    def _line(self, text: str) -> None:
        self._console.print(plain(text), soft_wrap=True)


class LiveView(SearchView):
    """A view that is redrawn as the search runs, for terminals."""

    def __init__(self, console: Console, *, publishes: bool = False) -> None:
        super().__init__(console, publishes=publishes)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._task = self._progress.add_task("starting", total=None, left="")
        self._after: Spinner | None = None
        self._live = self._shown()

    def _shown(self) -> Live:
        return Live(console=self._console, refresh_per_second=8, get_renderable=self._draw, transient=True)

    def __enter__(self) -> SearchView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the view."""
        self._live.stop()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Remove the view while the context lasts."""
        self._live.stop()
        yield
        self._live = self._shown()  # started again, the old one would first erase as many lines as it had
        self._live.start()

    def on_event(self, event: Event) -> None:
        """Redraw; a new best trial and a failure also stay on the screen."""
        names = {key: started.name for key, (started, _, _) in self._tally.running.items()}
        is_best = self._tally.take(event)
        match event:
            case StudyStarted():
                self._keep(Text(f"study {event.study}", style="bold"))
                self._keep(Text(meaning(objective_of(event.document)), style="dim"))
            case PhaseStarted():
                if self._progress.tasks[0].description != _TITLES[event.phase]:
                    self._progress.reset(self._task, total=event.total, completed=event.done)
                    self._progress.update(self._task, description=_TITLES[event.phase])
            case StudyEnded():
                self._after = Spinner("dots", f"{_after(event)} …")
            case TrialEnded() if event.state is TrialState.FAIL:
                name = names.get(event.key, str(event.key))
                self._keep(Text(plain(f"{name} failed: {event.reason}"), style="red"))
        if is_best:
            self._keep(Text(self._tally.best_line, style="green"))
        self._progress.update(
            self._task, completed=self._tally.done, total=self._tally.total, left=self._left()
        )

    def _keep(self, line: Text) -> None:
        """Print a line that stays."""
        self._console.print(line)

    def _left(self) -> str:
        seconds = self._tally.seconds_left
        if seconds is None:
            return ""
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes}:{rest:02d} left"

    def _draw(self) -> Group:
        standing = [Text(plain(each), style="bold") for each in self._tally.standing]
        return Group(self._after or self._progress, self._counts(), self._running_table(), *standing)

    def _counts(self) -> Text:
        counts = self._tally.counts
        return Text.assemble(
            (f"{counts[TrialState.COMPLETE]} complete", "green"),
            "  ",
            (f"{counts[TrialState.PRUNED]} pruned", "yellow"),
            "  ",
            (f"{counts[TrialState.FAIL]} failed", "red" if counts[TrialState.FAIL] else "dim"),
            "  ",
            (f"{len(self._tally.running)} running", "cyan"),
        )

    def _running_table(self) -> Table:
        drawn = Table(box=None, show_header=False, padding=(0, 2))
        for started, epoch, aiq in list(self._tally.running.values())[:8]:
            score = "" if aiq is None else f"aIQ {aiq:.4f}"
            drawn.add_row(
                started.name,
                f"epoch {epoch}",
                score,
                Text(configuration(started.params, "  "), style="dim", overflow="ellipsis", no_wrap=True),
            )
        return drawn


def _after(event: StudyEnded) -> str:
    """What runs once a search is over."""
    return f"{_AFTER[event.reason]}, {_DELIVERING}" if event.reason in _AFTER else _DELIVERING


def search_view(console: Console, *, publishes: bool = False) -> SearchView:
    """The view that fits where it is shown; see ``SearchView``."""
    kind = LiveView if console.is_terminal else SearchView
    return kind(console, publishes=publishes)
