"""``aiq slim``: from a bundle to a smaller one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aiq_search.app.slim import slim_champion
from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.errors import InputError
from aiq_search.export import BundleContents, load_bundle, verify_bundle, write_bundle
from aiq_search.models import Architecture

OPTIONS = DatasetOptions(name="digits", validation=360, test=360)


def _bundle(directory: Path, *, dead: int) -> Path:
    dataset = load_dataset(OPTIONS)
    architecture = Architecture("mlp", {"hidden1": 10, "activation": "relu"}, dataset.input_shape, 10)
    torch.manual_seed(0)
    network = architecture.build()
    with torch.no_grad():
        network.hidden1.weight *= 0.1
        network.hidden1.bias[:dead] = -1e3
    contents = BundleContents(
        architecture, network.state_dict(), dataset, OPTIONS, source={"study": "digits-1"}
    )
    write_bundle(directory, contents, formats=["safetensors"])
    return directory


@pytest.fixture
def wide(tmp_path):
    return _bundle(tmp_path / "wide", dead=3)


def test_a_smaller_bundle_with_before_and_after_is_written_and_verifies(wide, tmp_path):
    slimmed = slim_champion(str(wide), tmp_path / "slim")
    numbers = {row.name: (row.before, row.after) for row in slimmed.rows}
    before, after = numbers["parameters"]
    assert before == 64 * 10 + 10 + 10 * 10 + 10
    assert after <= 64 * 7 + 7 + 7 * 10 + 10
    assert numbers["test/accuracy"][0] == pytest.approx(numbers["test/accuracy"][1], abs=0.01)
    bundle = load_bundle(tmp_path / "slim")
    assert bundle.metrics.size.parameters == after
    assert bundle.metrics.source["study"] == "digits-1"
    assert "3 always off" in bundle.metrics.source["slimmed"]
    assert "slimmed, parameters" in (tmp_path / "slim" / "MODEL_CARD.md").read_text()
    assert verify_bundle(tmp_path / "slim", trusted=True).checks


def test_training_on_takes_the_epoch_of_the_lowest_validation_loss(wide, tmp_path):
    slimmed = slim_champion(str(wide), tmp_path / "slim", epochs=2, learning_rate=0.02)
    numbers = {row.name: (row.before, row.after) for row in slimmed.rows}
    assert slimmed.sentences[-1].startswith("Trained on for 2 epochs; the weights are those of epoch ")
    assert numbers["test/accuracy"][1] > numbers["test/accuracy"][0]


def test_what_is_there_already_is_not_overwritten(wide, tmp_path):
    with pytest.raises(InputError, match="already exists"):
        slim_champion(str(wide), wide)


def test_nothing_to_remove_is_one_sentence(wide, tmp_path):
    slim_champion(str(wide), tmp_path / "slim")
    with pytest.raises(InputError, match="no neuron can go"):
        slim_champion(str(tmp_path / "slim"), tmp_path / "again", max_drop=0.0)
    assert not (tmp_path / "again").exists()


def test_the_command_prints_before_and_after(wide, tmp_path, capsys):
    from typer.testing import CliRunner

    from aiq_search.cli.main import app

    result = CliRunner().invoke(app, ["slim", str(wide), "-o", str(tmp_path / "slim"), "--format", "json"])
    assert result.exit_code == 0
    assert '"parameters"' in result.stdout
