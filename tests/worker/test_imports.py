"""A worker's start-up is part of every search: it imports what training takes, and no more."""

import subprocess
import sys

COSTLY = ("mlflow", "optuna", "plotly", "sklearn", "sqlalchemy", "torchvision")


def test_a_worker_imports_nothing_that_the_driver_alone_needs():
    code = (
        "import sys, aiq_search.worker.trainable, aiq_search.worker.worker; "
        f"print(*[m for m in {COSTLY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
