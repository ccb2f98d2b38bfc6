"""A trained network to export, and the bundle that is made from it."""

import shutil
from pathlib import Path

import pytest
import torch

from aiq_search.datasets import Dataset, DatasetOptions, load_dataset
from aiq_search.export import BundleContents, write_bundle
from aiq_search.models import Architecture
from aiq_search.training import TrainingOptions, TrainingRun

# The script of a bundle is no module of doctests.
collect_ignore = ["frozen"]

OPTIONS = DatasetOptions(name="digits", validation=360, test=360)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset(OPTIONS)


@pytest.fixture(scope="session")
def contents(digits: Dataset) -> BundleContents:
    architecture = Architecture(
        "mlp", {"hidden1": 8, "hidden2": 6, "batch_norm": True, "dropout": 0.1}, digits.input_shape, 10
    )
    torch.set_num_threads(1)
    run = TrainingRun(architecture, digits, TrainingOptions(epochs=3, learning_rate=0.05), seed=0)
    while not run.finished:
        run.run_epoch()
    measured = run.best.metrics()
    return BundleContents(
        architecture=architecture,
        weights=run.best_weights,
        dataset=digits,
        dataset_options=OPTIONS,
        expected={"validation": {name: measured[name] for name in ("aiq", "accuracy", "efficiency", "loss")}},
    )


@pytest.fixture(scope="session")
def exported(contents: BundleContents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("exported") / "champion"
    write_bundle(directory, contents)
    return directory


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, to be spoilt."""
    return Path(shutil.copytree(exported, tmp_path / "bundle"))
