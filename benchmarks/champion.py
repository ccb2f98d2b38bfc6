"""From the command to the champion: what a search takes as a user runs it, beside the goals.

    python -m benchmarks.champion [--only tiny digits ...] [--rounds 3] [--data-dir DIR]

Each search is ``aiq search`` in a process of its own, with a fresh AIQ_HOME and a fresh MLflow store; the
machine should be idle otherwise. The times of reports and trials are those of the study's own events, that of
the champion is when its first line arrives on stdout. Printed are medians over the rounds:

* tiny: three trials of search_spaces/digits.yaml, unconfirmed, on Ray;
* digits, lenet_300_100, lenet_5: the shipped spaces as they are, the last two once each;
* dry_run: ``--dry-run`` of those two, once each.

``stock``, ``replay`` and ``training`` run the benchmarks of these names, which print tables of their own. By
default everything runs but the two searches of MNIST and those three.

The floor of a row is what no search can do without: importing torch in the driver and, after it, in a worker.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from aiq_search.study import EpochEnded, TrialEnded
from aiq_search.tracking.outbox import Outbox

SPACES = Path(__file__).parents[1] / "search_spaces"
AIQ = (sys.executable, "-m", "aiq_search")
OTHERS = ("stock", "replay", "training")


@dataclass(frozen=True)
class Times:
    """When a search was how far, in seconds from its command.

    Attributes:
        report: The first epoch was reported.
        trial: The last trial ended.
        champion: It was on the screen.
        end: The command ended.
    """

    report: float
    trial: float
    champion: float
    end: float


@dataclass(frozen=True)
class Figure:
    """A row of the table: what is measured, what it was before, and the goal, in seconds."""

    what: str
    before: str
    goal: float
    of: Callable[[Times], float]


FIGURES = {
    "tiny": (
        Figure("three tiny trials: command to first report", "21", 8, lambda t: t.report),
        Figure("last trial to champion on the screen", "11 to 14", 1, lambda t: t.champion - t.trial),
        Figure("last trial to the command's end", "11 to 14", 5, lambda t: t.end - t.trial),
    ),
    "digits": (Figure("digits.yaml: command to champion", "58 to 82", 35, lambda t: t.champion),),
    "lenet_300_100": (Figure("lenet_300_100.yaml: command to champion", "404", 150, lambda t: t.champion),),
    "lenet_5": (Figure("lenet_5.yaml: command to champion", "over 3600", 600, lambda t: t.champion),),
}
ARGUMENTS = {
    "tiny": ("digits.yaml", "--trials", "3", "--set", "confirm.runs=0"),
    "digits": ("digits.yaml",),
    "lenet_300_100": ("lenet_300_100.yaml",),
    "lenet_5": ("lenet_5.yaml",),
}
DRY_RUNS, DRY_RUN_GOAL = ("lenet_300_100.yaml", "lenet_5.yaml"), 20.0
CHEAP = ("tiny", "digits", "dry_run")  # what runs by default
REPEATED = ("tiny", "digits")


def search(arguments: Sequence[str], environment: dict[str, str]) -> Times:
    """Run ``aiq search`` and take its times."""
    file, *rest = arguments
    with tempfile.TemporaryDirectory(prefix="aiq-champion-") as folder:
        home = Path(folder) / "home"
        variables = {
            **environment,
            "AIQ_HOME": str(home),
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        }
        begun, champion = time.time(), None
        with subprocess.Popen(
            [*AIQ, "search", str(SPACES / file), *rest], cwd=folder, env=variables, stdout=subprocess.PIPE
        ) as process:
            for _ in process.stdout or ():
                champion = champion or time.time()
        end = time.time()
        if process.returncode or champion is None:
            raise RuntimeError(f"aiq search {file} ended with exit code {process.returncode}")
        [directory] = (home / "studies").iterdir()
        outbox = Outbox(directory)
        reported = [letter.event.time for letter in outbox.history(EpochEnded)]
        ended = [letter.event.time for letter in outbox.history(TrialEnded)]
        outbox.close()
    return Times(min(reported) - begun, max(ended) - begun, champion - begun, end - begun)


def seconds_of(command: Sequence[str], environment: dict[str, str]) -> float:
    """How long a command takes."""
    with tempfile.TemporaryDirectory(prefix="aiq-champion-") as folder:
        begun = time.perf_counter()
        subprocess.run(
            command,
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            env={**environment, "AIQ_HOME": f"{folder}/home"},
        )
        return time.perf_counter() - begun


def measure(chosen: Sequence[str], rounds: int, environment: dict[str, str]) -> Table:
    """Measure the chosen rows, beside the figure before and the goal."""
    table = Table("seconds", "before", "goal", "measured", "rounds", "floor", title="From the command on")
    imports = 2 * seconds_of([sys.executable, "-c", "import torch"], environment)
    for name in (each for each in FIGURES if each in chosen):
        times = []
        for _ in range(rounds if name in REPEATED else 1):
            times.append(search(ARGUMENTS[name], environment))
            print(f"{name}: {times[-1]}", file=sys.stderr)
        for figure in FIGURES[name]:
            measured = [figure.of(each) for each in times]
            spread = ", ".join(f"{value:.1f}" for value in sorted(measured))
            floor = f"{imports:.1f}" if figure.what.endswith("first report") else ""
            median = f"{statistics.median(measured):.1f}"
            table.add_row(figure.what, figure.before, f"{figure.goal:g}", median, spread, floor)
    for file in DRY_RUNS if "dry_run" in chosen else ():
        taken = f"{seconds_of([*AIQ, 'search', str(SPACES / file), '--dry-run'], environment):.1f}"
        table.add_row(f"{file}: --dry-run", "over 600", f"{DRY_RUN_GOAL:g}", taken, taken, "")
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=[*FIGURES, "dry_run", *OTHERS], default=list(CHEAP))
    parser.add_argument("--rounds", type=int, default=3, help="of tiny and digits")
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("AIQ_DATA_DIR"))
    arguments = parser.parse_args()
    environment = {name: value for name, value in os.environ.items() if name != "AIQ_RUNNER"}
    root = str(Path(__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    if arguments.data_dir is not None:
        environment["AIQ_DATA_DIR"] = str(Path(arguments.data_dir).absolute())
    console = Console(width=120)
    if not set(arguments.only) <= set(OTHERS):
        console.print(measure(arguments.only, arguments.rounds, environment))
    for name in (each for each in OTHERS if each in arguments.only):
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True, env=environment)


if __name__ == "__main__":
    main()
