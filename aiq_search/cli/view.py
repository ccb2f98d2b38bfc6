"""A search as it runs: a live view on a terminal, one line per event elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from aiq_search.cli.output import configuration, plain
from aiq_search.study.events import (
    EpochEnded,
    Event,
    Phase,
    PhaseStarted,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialStarted,
    TrialState,
)
from aiq_search.study.metrics import HEADLINE, SIZES
from aiq_search.study.progress import Best, objective_of

__all__ = ["SearchView", "search_view"]

_PACE = 3  # trials that must have ended before there is a pace

_LABELS = {"aiq": "aIQ"}

_TITLES = {Phase.EXPLORE: "exploring", Phase.CONFIRM: "confirming"}


class _Tally:
    """Counts, the best trial so far, and the running trials."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(TrialState, 0)
        self.running: dict[Any, tuple[TrialStarted, int, float | None]] = {}
        self.params: dict[Any, Any] = {}
        self.best: Best[TrialEnded] = Best()
        self.best_line = "none feasible yet"
        self.phase: PhaseStarted | None = None
        self.done = 0
        self.since: float | None = None  # the phase's first epoch: until then workers are starting

    def take(self, event: Event) -> bool:
        """Count an event; returns whether it is of a new best trial."""
        match event:
            case StudyStarted():
                self.best = Best(objective_of(event.document))
            case PhaseStarted():
                self.phase, self.done, self.since = event, event.done, None
            case TrialStarted():
                self.running[event.key] = (event, 0, None)
            case EpochEnded() if event.key in self.running:
                self.since = self.since or time.monotonic()
                started, _, _ = self.running[event.key]
                self.running[event.key] = (started, event.epoch, event.metrics.get("aiq"))
            case TrialEnded():
                running = self.running.pop(event.key, None)
                self.counts[event.state] += 1
                self.done += 1
                if self.best.add(event):
                    name = running[0].name if running else str(event.key)
                    self.best_line = f"{name}: {_numbers(event.metrics, self.best.name)}"
                    return True
        return False

    @property
    def seconds_left(self) -> float | None:
        """Estimated time until the end of the phase; None before there is a pace."""
        if self.phase is None or self.since is None:
            return None
        fresh = self.done - self.phase.done
        left = self.phase.total - self.done
        return None if fresh < _PACE else max(0.0, (time.monotonic() - self.since) / fresh * left)


def _numbers(metrics: Mapping[str, float], ranked_by: str) -> str:
    """The numbers of a trial, the one that it is ranked by first."""
    names = dict.fromkeys((ranked_by, *HEADLINE, "parameters"))
    return ", ".join(
        f"{metrics[name]:,.0f} {name}" if name in SIZES else f"{_LABELS.get(name, name)} {metrics[name]:.4f}"
        for name in names
    )


class SearchView:
    """One line per event, for logs and pipes.

    Args:
        console: Where the lines go.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tally = _Tally()

    def __enter__(self) -> SearchView:
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Do nothing: lines stay."""

    def on_event(self, event: Event) -> None:
        """Print what happened, in one line."""
        names = {key: started.name for key, (started, _, _) in self._tally.running.items()}
        is_best = self._tally.take(event)
        match event:
            case StudyStarted():
                self._line(f"{'resumed' if event.resumed else 'started'} study {event.study}")
            case PhaseStarted():
                self._line(f"{_TITLES[event.phase]}: {event.total} trials, {event.done} of them done")
            case TrialEnded():
                self._line(self._ended(names.get(event.key, str(event.key)), event, is_best))
            case StudyEnded():
                self._line(f"{event.reason} study {event.study}")

    def _ended(self, name: str, event: TrialEnded, is_best: bool) -> str:
        total = self._tally.phase.total if self._tally.phase else 0
        line = f"[{self._tally.done}/{total}] {name} {event.state}"
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


class _LiveView(SearchView):
    """A view that is redrawn as the search runs, for terminals."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._task = self._progress.add_task("starting", total=None, left="")
        self._live = Live(console=console, refresh_per_second=8, get_renderable=self._draw, transient=True)

    def __enter__(self) -> SearchView:
        self._live.start()
        return self

    def close(self) -> None:
        """Remove the view; closing it again does nothing."""
        self._live.stop()

    def on_event(self, event: Event) -> None:
        """Redraw; a new best trial and a failure also stay on the screen."""
        started = self._tally.running.get(getattr(event, "key", None))
        is_best = self._tally.take(event)
        match event:
            case StudyStarted():
                self._console.print(Text(f"study {event.study}", style="bold"))
            case PhaseStarted():
                self._progress.reset(self._task, total=event.total, completed=event.done)
                self._progress.update(self._task, description=_TITLES[event.phase])
            case TrialEnded() if event.state is TrialState.FAIL:
                name = started[0].name if started else str(event.key)
                self._console.print(Text(plain(f"{name} failed: {event.reason}"), style="red"))
        if is_best:
            self._console.print(Text(self._tally.best_line, style="green"))
        self._progress.update(self._task, completed=self._tally.done, left=self._left())

    def _left(self) -> str:
        seconds = self._tally.seconds_left
        if seconds is None:
            return ""
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes}:{rest:02d} left"

    def _draw(self) -> Group:
        counts = self._tally.counts
        line = Text.assemble(
            (f"{counts[TrialState.COMPLETE]} complete", "green"),
            "  ",
            (f"{counts[TrialState.PRUNED]} pruned", "yellow"),
            "  ",
            (f"{counts[TrialState.FAIL]} failed", "red" if counts[TrialState.FAIL] else "dim"),
            "  ",
            (f"{len(self._tally.running)} running", "cyan"),
        )
        best = Text(f"best so far  {self._tally.best_line}", style="bold")
        return Group(self._progress, line, self._running_table(), best)

    def _running_table(self) -> Table:
        drawn = Table(box=None, show_header=False, padding=(0, 2))
        for started, epoch, aiq in list(self._tally.running.values())[:8]:
            score = "" if aiq is None else f"aIQ {aiq:.4f}"
            drawn.add_row(
                started.name,
                f"epoch {epoch}",
                score,
                Text(configuration(started.params, "  "), style="dim", overflow="ellipsis"),
            )
        return drawn


def search_view(console: Console) -> SearchView:
    """The view that fits where it is shown."""
    return _LiveView(console) if console.is_terminal else SearchView(console)
