"""A worker's start-up is part of every search: it imports what training takes, and no more."""

import subprocess
import sys

COSTLY = (
    "scipy",
    "sympy",
    "torch._dynamo",
    "torch._inductor",
    "mlflow",
    "optuna",
    "plotly",
    "sklearn",
    "sqlalchemy",
    "torchvision",
)


def test_a_worker_imports_nothing_that_the_driver_alone_needs():
    code = (
        "import sys, aiq_search.worker.trainable, aiq_search.worker.worker; "
        f"print(*[m for m in {COSTLY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_training_imports_neither_torchs_compiler_nor_scikit_learn():
    code = (
        "import sys\n"
        "from aiq_search.datasets import DatasetOptions, load_dataset\n"
        "from aiq_search.models import Architecture, model_size\n"
        "from aiq_search.training import TrainingOptions, TrainingRun\n"
        "data = load_dataset(DatasetOptions(name='digits', validation=360, test=360))\n"
        "network = Architecture('mlp', {'hidden1': 4, 'hidden2': 4}, data.input_shape, 10)\n"
        "for optimizer in ('sgd', 'adam', 'adamw'):\n"
        "    options = TrainingOptions(epochs=1, optimizer=optimizer, engine='torch')\n"
        "    run = TrainingRun(network, data, options, seed=0)\n"
        "    run.run_epoch()\n"
        "    model_size(run.model, data.input_shape)\n"
        f"print(*[m for m in {COSTLY} if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
