"""`objective.capture`: an LSTM network of the user's, from the space file to the bundle."""

import hashlib
import json
import sys

import pytest

from aiq_search.app.bundles import take_home, verify_directory
from aiq_search.app.measure import measure_network
from aiq_search.app.options import RunOptions
from aiq_search.app.run import run_search
from aiq_search.app.space import tried_space
from aiq_search.errors import InputError
from aiq_search.export.errors import BundleError
from aiq_search.search import preflight
from aiq_search.space import SpaceError
from aiq_search.study import Study
from aiq_search.training import load_weights

NETWORK = """\
from torch import nn


class Reader(nn.Module):
    \"\"\"Reads an image row by row.\"\"\"

    def __init__(self, columns, hidden, classes):
        super().__init__()
        self.lstm = nn.LSTM(columns, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, 6)
        self.head = nn.Linear(6, classes)

    def forward(self, images):
        rows, _ = self.lstm(images[:, 0])
        return self.head(nn.functional.elu(self.fc(rows[:, -1])))


def lstm(input_shape, classes, hidden=8):
    return Reader(input_shape[-1], hidden, classes)
"""
SPACE = """\
schema_version: 1
name: rows
model: {name: "MODULE:lstm"}
dataset: {name: digits}
parameters:
  model.hidden: {type: int, low: 4, high: 5}
objective:
  capture:
    layers: [LSTM, fc]
    order: 2
  constraints: ["efficiency/lstm >= 0.01"]
search: {trials: 2, sampler: grid, pruner: none}
training: {epochs: 2, learning_rate: 0.1, batch_size: 50}
confirm: {runs: 0, require_better_than_chance: false}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the module and the space file, as the working folder."""
    folder = tmp_path_factory.mktemp("capture")
    module = f"rows_{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    (folder / f"{module}.py").write_text(NETWORK)
    (folder / "rows.yaml").write_text(SPACE.replace("MODULE", module))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        patch.setenv("AIQ_HOME", str(folder / ".aiq"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("AIQ_ALLOW_CODE", raising=False)
        yield folder


@pytest.fixture(scope="module")
def searched(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preflight, "_SECONDS", 600.0)  # a machine that runs other tests, too
        yield run_search(folder / "rows.yaml", study_id="rows", runner="in_process")


@pytest.fixture(scope="module")
def bundle(folder, searched):
    return take_home("rows", folder / "champion").directory


@pytest.mark.slow
def test_every_trial_has_the_efficiency_of_the_layers_that_are_named(searched):
    for record in searched.records:
        assert {name for name in record.metrics if name.startswith("efficiency/")} == {
            "efficiency/lstm",
            "efficiency/fc",
        }
        assert record.engine == "torch"
        assert not {"latency_ms", "activation_bytes"} & record.metrics.keys()  # nobody asked
        _, document = load_weights(searched.study.weights_path(record.key))
        assert document["capture"]["layers"] == ["LSTM", "fc"]


@pytest.mark.slow
def test_the_study_and_mlflow_say_what_was_captured(searched, folder):
    from mlflow.tracking import MlflowClient

    document = Study.open("rows", folder / ".aiq").document
    assert document.capture.layers == ("LSTM", "fc")
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("rows").experiment_id])
    assert len(runs) == 3
    for run in runs:
        assert run.data.tags["aiq.capture"] == "after LSTM and fc, entropy of order 2"


@pytest.mark.slow
def test_the_bundle_is_verified_and_measured_by_what_was_captured(bundle):
    verify_directory(bundle)
    recorded = json.loads((bundle / "metrics.json").read_text())
    assert recorded["conventions"]["capture"]["order"] == 2
    assert "states are read after LSTM and fc, entropy of order 2" in (bundle / "MODEL_CARD.md").read_text()
    test = recorded["splits"]["test"]
    again = measure_network(str(bundle))
    assert {layer.name: layer.efficiency for layer in again.report.layers} == pytest.approx(test["layers"])
    assert again.report.aiq == pytest.approx(test["aiq"])
    one = measure_network(str(bundle), layers=["fc"]).report
    assert (one.order, [layer.name for layer in one.layers]) == (2.0, ["fc"])


@pytest.mark.slow
def test_a_bundle_whose_capture_was_changed_is_no_longer_what_it_says(bundle):
    metrics, sums = bundle / "metrics.json", bundle / "SHA256SUMS"
    before = metrics.read_bytes()
    document = json.loads(before)
    document["conventions"]["capture"]["order"] = 1
    changed = json.dumps(document).encode()
    metrics.write_bytes(changed)
    digests = [hashlib.sha256(content).hexdigest() for content in (before, changed)]
    original = sums.read_text()
    sums.write_text(original.replace(*digests))
    try:
        with pytest.raises(BundleError, match="efficiency"):
            verify_directory(bundle)
    finally:
        metrics.write_bytes(before)
        sums.write_text(original)


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("[LSTM, fc]", "[LSTM, fcc]", 9, "no network of the space has a layer 'fcc'; did you mean \"fc\"?"),
        ("[LSTM, fc]", "[GRU]", 9, "no network of the space has a layer 'GRU'"),
        ("order: 2", "exclude: [conv*]", 10, "no network of the space has a layer 'conv*'"),
        ("order: 2", "output: {lstn: 1}", 10, "no network of the space has a layer 'lstn'"),
        ("order: 2", "order: -1", 10, "objective.capture.order"),
        ("order: 2", "point: during", 10, "objective.capture.point"),
        ("order: 2", "layer: fc", 10, 'objective.capture.layer: unknown key; did you mean "layers"?'),
    ],
)
def test_a_mistake_is_one_sentence_with_its_line(folder, old, new, line, said):
    path = folder / "mistake.yaml"
    path.write_text((folder / "rows.yaml").read_text().replace(old, new))
    with pytest.raises(SpaceError) as error:
        tried_space(path, RunOptions())
    assert error.value.exit_code == 2
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert said in str(error.value)


def test_the_compiled_engine_is_refused_with_the_reason(folder):
    options = {"overrides": ["model.name=mlp", "objective.constraints=[]", "training.engine=compiled"]}
    options["overrides"] += ["objective.capture={point: before}"]
    space = (folder / "rows.yaml").read_text()
    (folder / "mlp.yaml").write_text(space.replace("model.hidden:", "model.hidden1:"))
    with pytest.raises(InputError, match=r"does not know this network \(objective.capture.point: before\)"):
        run_search(folder / "mlp.yaml", runner="in_process", **options)
