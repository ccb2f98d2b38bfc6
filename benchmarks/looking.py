"""How long looking at a large study takes, and how much memory.

    python -m benchmarks.looking [--trials 1000 5000] [--folder DIR] [--commands best report]

Each study is of search_spaces/digits.yaml, with a real journal and a real MLflow store (a SQLite file that
the delivery fills); only its networks are simulated. Each command is a process of its own, as a person runs
it. Printed is a table: the goal, and for each size seconds, seconds of processor time, and the most memory
that a process of the command held. Filling MLflow takes some 50 ms a trial; with --folder it is done once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from aiq_search.app.prepare import StudyData
from aiq_search.app.report import view_champion
from aiq_search.datasets import load_dataset
from aiq_search.space import load_space
from aiq_search.study import Study
from aiq_search.study.ended import end_of
from aiq_search.tracking import Outbox
from aiq_search.tracking.reconcile import events_of
from aiq_search.training import save_weights
from tests.search.simulation import finish
from tests.tracking.delivering import deliver

SPACE = Path(__file__).parents[1] / "search_spaces" / "digits.yaml"
STUDY = "large"
MEGABYTES = 400

# Command and its arguments, and the seconds that it may take on an idle machine.
COMMANDS: dict[str, tuple[tuple[str, ...], float]] = {
    "studies": (("studies",), 3),
    "best": (("best", STUDY), 3),
    "pareto": (("pareto", STUDY), 3),
    "trials": (("trials", STUDY), 3),
    "trials, as JSON": (("trials", STUDY, "--format", "json"), 3),
    "doctor": (("doctor", STUDY), 10),
    "report": (("report", STUDY), 20),
}


_MEASURE = """
import json, os, subprocess, sys, time
begun = time.monotonic()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
seconds = time.monotonic() - begun
numbers = (seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
print(json.dumps([os.waitstatus_to_exitcode(status), *numbers]))
"""


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    seconds: float
    processor: float
    megabytes: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s ({self.processor:.1f}), {self.megabytes:,.0f} MB"


def make_study(home: Path, trials: int) -> None:
    """A finished study of so many trials, whose champion has weights, and MLflow with all of it."""
    edits = [f"search.trials={trials}", "search.sampler=random", "training.epochs=10"]
    space = load_space(SPACE, edits)
    study = Study.create(home, space, load_dataset(space.dataset).description(), STUDY)
    finish(study, concurrency=4)
    study.mark_ended("finished")
    _write_weights(study)
    view_champion(study, StudyData(study))  # as the end of a search does
    outbox = Outbox(study.directory)
    outbox.put(events_of(study))
    outbox.put([end_of(study)])
    deliver(outbox, f"sqlite:///{home / 'mlflow.db'}")
    outbox.close()


def _write_weights(study: Study) -> None:
    """Weights that were never trained: the champion's network is measured all the same."""
    record = study.champion().record
    weights = study.architecture(record.params).build().state_dict()
    save_weights(study.weights_path(record.key), weights, {})


def run(command: Sequence[str], home: Path) -> Cost:
    """Run a command in a process of its own."""
    environment = os.environ | {"AIQ_HOME": str(home), "COLUMNS": "200"}
    environment.pop("MLFLOW_TRACKING_URI", None)  # ./mlflow.db
    # A process of its own measures: a child is said to have held at least what its parent holds.
    measured = subprocess.run(
        [sys.executable, "-c", _MEASURE, sys.executable, "-m", "aiq_search", *command],
        env=environment,
        cwd=home,
        check=True,
        capture_output=True,
        text=True,
    )
    code, *numbers = json.loads(measured.stdout)
    if code not in (0, 1):  # the doctor ends with 1 where there is a problem
        raise RuntimeError(f"aiq {' '.join(command)} ended with {code}: {measured.stderr}")
    return Cost(*numbers)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--folder", type=Path, help="keep the studies here, and use those that are here")
    parser.add_argument("--commands", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aiq-") as scratch:
        table = Table("command", "goal", *(f"{n:,} trials" for n in options.trials))
        homes = {n: (options.folder or Path(scratch)).absolute() / str(n) for n in options.trials}
        for trials, home in homes.items():
            if not (home / "studies" / STUDY).exists():
                make_study(home, trials)
        for name in options.commands:
            command, goal = COMMANDS[name]
            costs = [str(run(command, home)) for home in homes.values()]
            table.add_row(name, f"{goal:g} s, {MEGABYTES} MB", *costs)
        load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"
        Console(width=160).print(table, load)


if __name__ == "__main__":
    main()
