import pytest

from aiq_search.space import load_space

BASE = """\
schema_version: 1
name: lenet-5-mnist
model: {name: lenet_5, activation: elu}
dataset: {name: mnist, validation: 10000}
parameters:
  model.conv1:            {type: int, low: 2, high: 256, log: true}
  model.conv2:            {type: int, low: 2, high: 256, powers_of: 2}
  model.fc:               {type: int, low: 2, high: 256, log: true}
  model.dropout:          {type: float, low: 0.0, high: 0.5, when: "model.fc >= 4"}
  model.batch_norm:       {type: categorical, choices: [false, true]}
  training.learning_rate: {type: float, low: 1e-3, high: 1e-1, log: true}
objective: {maximize: aiq, beta: 2, constraints: ["accuracy >= 0.95"]}
search: {trials: 60, sampler: tpe, pruner: asha, seed: 0}
training: {epochs: 10, batch_size: 200, optimizer: sgd}
resources: {cpu: 1, gpu: 0}
"""


@pytest.fixture
def base():
    return BASE


@pytest.fixture
def load(tmp_path):
    """Load the base file with some text replaced, and edits."""

    def edited(*replacements, overrides=()):
        text = BASE
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "space.yaml"
        path.write_text(text)
        return load_space(path, overrides)

    return edited
