"""A driver to be killed: sends the events of a simulated study, slowly, as a process of its own.

``python -m tests.tracking.driver DIRECTORY URI TRIALS SECONDS_PER_TRIAL``
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from aiq_search.tracking import MlflowListener
from tests.tracking.simulated import study_ended, study_started, trials


def main(directory: str, uri: str, count: str, seconds: str) -> None:
    listener = MlflowListener(Path(directory), uri)
    listener.on_event(study_started())
    made = trials(int(count))
    for trial in made:
        for event in trial.events():
            listener.on_event(event)
            time.sleep(float(seconds) / 12)
        print(trial.key.number, listener.process_id, flush=True)
    listener.on_event(study_ended(made))
    print(listener.close(60), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
