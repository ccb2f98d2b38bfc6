"""What a trial costs besides its training: trials a second, the sampler's time, the driver's memory.

    python -m benchmarks.control_plane [--trials 1000] [--rounds 3] [--long 5000] [--tpe 100 1000 5000]

Trials that do nothing but report once go through the whole product: ``run_search`` with the random sampler,
real Ray on this machine, MLflow on SQLite; only the Trainable is replaced. The floor is bare Ray Tune with
the same empty Trainable: reused actors, no loggers, no searcher but random numbers. Each measurement is a
process of its own, the two in turn. The clock runs from the first trial's start to the last one's end. TPE's
ask is timed with so many finished trials, through our sampler and journal and through Optuna's own in memory.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Ray reads this once, when it is imported.
os.environ["RAY_AUTH_MODE"] = "token"

import optuna
from ray import tune
from rich.console import Console
from rich.table import Table

from aiq_search import run_search
from aiq_search.datasets import load_dataset
from aiq_search.search.samplers import create_sampler
from aiq_search.space import load_space
from aiq_search.study import Phase, Study, TrialEnded, TrialStarted
from aiq_search.study.record import BEGIN
from aiq_search.worker import Assignment, Report

PAGE = os.sysconf("SC_PAGE_SIZE")
MARK = 250  # trials between looks at clock and memory

SPACE: dict[str, Any] = {
    "schema_version": 1,
    "name": "control-plane",
    "model": {"name": "mlp"},
    "dataset": {"name": "digits"},
    "parameters": {
        "model.hidden1": {"type": "int", "low": 2, "high": 512, "log": True},
        "model.hidden2": {"type": "int", "low": 2, "high": 256, "log": True},
    },
    "search": {"sampler": "random", "pruner": "none", "duplicates": "new_seed"},
    "training": {"epochs": 1},
    "confirm": {"finalists": 0},
}


class EmptyWorker:
    """Answers every assignment immediately."""

    def begin(self, assignment: Assignment) -> None:
        """Nothing to get ready."""

    def step(self) -> Report:
        """Report one epoch."""
        value = random.random()  # noqa: S311
        names = (
            "aiq",
            "accuracy",
            "efficiency",
            "loss",
            "train_loss",
            "efficiency/hidden1",
            "efficiency/hidden2",
        )
        size = {"parameters": 1, "parameters_weights": 1, "macs": 1}
        return Report(epochs=((1, dict.fromkeys(names, value)),), chosen=1, size=size, done=True)

    def put_aside(self) -> None:
        """There is nothing to keep."""


class EmptyTrainable(tune.Trainable):  # type: ignore[misc]
    """The same for a bare Tuner."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Ready for the next trial."""
        return True

    def step(self) -> dict[str, Any]:
        """Report one epoch."""
        return {"report": EmptyWorker().step().to_json(), "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """There is nothing to keep."""


class Marks:
    """Clock and memory of this process after every so many trials."""

    def __init__(self) -> None:
        self.begun: float | None = None
        self.ended = 0
        self.rows: list[tuple[int, float, float]] = []  # trials, seconds since the first start, MB

    def start(self) -> None:
        """A trial starts."""
        if self.begun is None:
            self.begun = time.perf_counter()
            self._mark()

    def end(self) -> None:
        """A trial ended."""
        self.ended += 1
        if self.ended % MARK == 0:
            self._mark()

    def _mark(self) -> None:
        gc.collect()
        megabytes = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6
        self.rows.append((self.ended, time.perf_counter() - (self.begun or 0), megabytes))

    def on_event(self, event: object) -> None:
        """Of our search."""
        if isinstance(event, TrialStarted):
            self.start()
        elif isinstance(event, TrialEnded):
            self.end()


class MarksOfTune(tune.Callback):  # type: ignore[misc]
    """The same of a bare Tuner."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks

    def on_trial_start(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """A trial starts."""
        self._marks.start()

    def on_trial_complete(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """A trial ended."""
        self._marks.end()


def product(trials: int, folder: Path) -> Marks:
    """Empty trials through run_search."""
    marks = Marks()
    space = load_space({**SPACE, "search": {**SPACE["search"], "trials": trials}})
    run_search(
        space,
        home=folder / "home",
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        listeners=[marks],
        worker=lambda dataset, threads, gpu: EmptyWorker(),
    )
    return marks


def bare(trials: int, folder: Path) -> Marks:
    """Empty trials through Ray Tune alone."""
    from aiq_search.cluster import connected
    from aiq_search.search.runners.ray_tune import TUNE_ENVIRONMENT

    marks = Marks()
    os.environ.update(TUNE_ENVIRONMENT)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    widths = {"hidden1": tune.lograndint(2, 513), "hidden2": tune.lograndint(2, 257)}
    with connected(folder):
        tune.Tuner(
            tune.with_resources(EmptyTrainable, {"cpu": 1}),
            param_space=widths,
            tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=True),
            run_config=tune.RunConfig(
                storage_path=str(folder),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
                callbacks=[MarksOfTune(marks)],
            ),
        ).fit()
    return marks


def measured(what: str, trials: int) -> list[tuple[int, float, float]]:
    """The marks of a process of its own."""
    with tempfile.TemporaryDirectory(prefix="aiq-") as folder:
        command = [sys.executable, "-m", "benchmarks.control_plane", "--only", what, "--trials", str(trials)]
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": folder}
        )
    return [tuple(row) for row in json.loads(done.stdout.splitlines()[-1])]


def rate(rows: list[tuple[int, float, float]], trials: int) -> float:
    """Trials a second over the first so many."""
    return next(number / seconds for number, seconds, _ in rows if number >= trials)


def growth(rows: list[tuple[int, float, float]], first: int, last: int) -> float:
    """KB a trial between two counts of trials."""
    memory = {number: megabytes for number, _, megabytes in rows}
    return (memory[last] - memory[first]) / (last - first) * 1e3


def filled(study: optuna.Study, trials: int) -> None:
    """Tell a study so many random trials."""
    draw = random.Random(0)  # noqa: S311
    widths = {
        name: optuna.distributions.IntDistribution(2, high, log=True)
        for name, high in (("model.hidden1", 512), ("model.hidden2", 256))
    }
    known = len(study.get_trials(deepcopy=False))
    study.add_trials(
        optuna.trial.create_trial(
            params={name: draw.randint(2, each.high) for name, each in widths.items()},
            distributions=widths,
            value=draw.random(),
            user_attrs={BEGIN: {"warm_start": "filled"}},
        )
        for _ in range(trials - known)
    )


def asks(sizes: list[int], times: int) -> dict[int, tuple[float, float]]:
    """Milliseconds of one ask with its suggestions, ours and Optuna's own, by finished trials."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    result = {}
    with tempfile.TemporaryDirectory(prefix="aiq-") as folder:
        space = load_space({**SPACE, "search": {**SPACE["search"], "sampler": "tpe"}})
        dataset = load_dataset(space.dataset).description()
        sampler = create_sampler(space.search.sampler, 0, conditional=False)
        ours = Study.create(Path(folder), space, dataset).load(Phase.EXPLORE, sampler)
        own = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
        for size in sizes:
            seconds: Mapping[optuna.Study, list[float]] = {ours: [], own: []}
            for study in (ours, own):
                filled(study, size)
                space.suggest(study.ask())  # a long-lived sampler has seen the trials before
            for _ in range(times):
                for study in (ours, own):
                    begun = time.perf_counter()
                    space.suggest(study.ask())
                    seconds[study].append(time.perf_counter() - begun)
            result[size] = (statistics.median(seconds[ours]) * 1e3, statistics.median(seconds[own]) * 1e3)
    return result


def speed_table(rates: list[tuple[float, float]], trials: int) -> Table:
    """Trials a second beside goal and floor."""
    ours, floor = (statistics.median(column) for column in zip(*rates, strict=True))
    ratio = statistics.median(a / b for a, b in rates)
    table = Table("", "goal", "ours", "bare Tune", "ours / bare", title="Empty trials a second")
    table.add_row(f"first {trials:,} trials", ">= 20", f"{ours:.1f}", f"{floor:.1f}", f"{ratio:.2f}")
    return table


def memory_table(ours: list[tuple[int, float, float]], floor: list[tuple[int, float, float]]) -> Table:
    """KB a trial of the driver, and its speed, for each fifth of a long study."""
    last = ours[-1][0]
    step = max(MARK, last // 5 // MARK * MARK)
    table = Table("trials", "ours, KB", "bare, KB", "above (<= 20)", "ours, a second", "bare, a second")
    table.title = f"The driver's memory and speed over {last:,} trials"
    seconds = [{number: each for number, each, _ in rows} for rows in (ours, floor)]
    for end in range(step, last + 1, step):
        a, b = growth(ours, end - step, end), growth(floor, end - step, end)
        speeds = [f"{step / (clock[end] - clock[end - step]):.1f}" for clock in seconds]
        table.add_row(f"{end - step:,} - {end:,}", f"{a:.1f}", f"{b:.1f}", f"{a - b:.1f}", *speeds)
    a, b = growth(ours, 0, last), growth(floor, 0, last)
    table.add_row("all", f"{a:.1f}", f"{b:.1f}", f"{a - b:.1f}", "", "")
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1000, help=f"in a round; a multiple of {MARK}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--long", type=int, default=5000, help="trials for the memory; 0 leaves it out")
    parser.add_argument("--tpe", type=int, nargs="*", default=[100, 1000, 5000])
    parser.add_argument("--asks", type=int, default=20, help="asks timed at each size")
    parser.add_argument("--only", choices=["product", "bare"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        folder = Path(tempfile.mkdtemp(prefix="aiq-"))
        marks = {"product": product, "bare": bare}[given.only](given.trials, folder)
        print(json.dumps(marks.rows))
        return
    console = Console(width=110)
    if given.tpe:
        table = Table("finished trials", "ours, ms", "Optuna's own, ms", "ratio", title="TPE's ask")
        for size, (ours, own) in asks(given.tpe, given.asks).items():
            table.add_row(f"{size:,}", f"{ours:.1f}", f"{own:.1f}", f"{ours / own:.2f}")
        console.print(table)
    if given.rounds:
        rates = []
        for number in range(given.rounds):
            order = ["product", "bare"] if number % 2 == 0 else ["bare", "product"]
            rows = {what: measured(what, given.trials) for what in order}
            rates.append((rate(rows["product"], given.trials), rate(rows["bare"], given.trials)))
        console.print(speed_table(rates, given.trials))
    if given.long:
        console.print(memory_table(measured("product", given.long), measured("bare", given.long)))


if __name__ == "__main__":
    main()
