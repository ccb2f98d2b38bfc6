"""Bundles of other networks and data than the one that the other tests take apart."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from aiq_search.datasets import DatasetOptions, Split, load_dataset
from aiq_search.errors import InputError
from aiq_search.export import BundleContents, load_bundle, predict, verify_bundle, write_bundle
from aiq_search.models import Architecture
from aiq_search.training import TrainingOptions, TrainingRun
from aiq_search.user_code import CodePolicy

USER_CODE = """
import numpy as np
import torch
from torch import nn

def network(input_shape, classes, hidden=5):
    alpha = float(torch.linspace(0, 1, 3)[2])  # needs real memory: no meta device
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ELU(alpha), nn.Linear(hidden, classes))

def of_signals(input_shape, classes, width=4):
    return nn.Sequential(
        nn.Conv1d(input_shape[0], width, 5), nn.ELU(), nn.AdaptiveAvgPool1d(7), nn.Flatten(),
        nn.Linear(7 * width, classes),
    )

def odd_names(input_shape, classes):
    model = nn.Sequential(nn.Flatten())
    model.add_module("fc:1,a@b", nn.Linear(64, 5))
    model.add_module("fc_1_a_b", nn.Linear(5, 4))
    model.add_module("out", nn.Linear(4, classes))
    return model

def untraceable(input_shape, classes):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.output = nn.Linear(64, 4), nn.Linear(4, classes)
        def forward(self, x):
            x = self.hidden(x.flatten(1))
            return self.output(x if len(x) % 2 else -x)
    return Counting()
"""


def _contents(architecture, dataset, options, seed=0):
    torch.manual_seed(seed)
    return BundleContents(
        architecture=architecture,
        weights=architecture.build().state_dict(),
        dataset=dataset,
        dataset_options=options,
    )


@pytest.fixture
def table(tmp_path):
    random = np.random.default_rng(0)
    path = tmp_path / "table.npz"
    np.savez(
        path,
        x_train=random.normal(size=(80, 4)) * [1, 10, 100, 1000],
        y_train=np.arange(80) % 3,
        classes=["low", "middle", "high"],
    )
    options = DatasetOptions(name=str(path))
    return load_dataset(options), options


def test_a_table_is_taken_as_float32_features(table, tmp_path):
    dataset, options = table
    contents = _contents(Architecture("mlp", {"hidden1": 3}, (4,), 3), dataset, options)
    write_bundle(tmp_path / "champion", contents)
    verify_bundle(tmp_path / "champion", trusted=True)
    np.save(tmp_path / "x.npy", np.array([1.0, 20.0, 300.0, 4000.0]))
    (answer,) = predict(load_bundle(tmp_path / "champion"), [tmp_path / "x.npy"]).answers
    assert answer.label in ("low", "middle", "high")
    np.save(tmp_path / "x.npy", np.array([[1.0, 20.0, 300.0, 4000.0]]))
    script = [sys.executable, tmp_path / "champion" / "predict.py", tmp_path / "x.npy"]
    printed = subprocess.run(script, capture_output=True, text=True, check=True).stdout.split("\t")
    assert printed[1:] == [answer.label, f"{answer.probability:.4f}\n"]
    assert sum(answer.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize("activation", ["elu", "gelu", "leaky_relu", "relu", "silu", "tanh"])
def test_every_activation_is_exported_in_every_format(digits, tmp_path, activation):
    arguments = {"hidden1": 4, "activation": activation, "batch_norm": True, "dropout": 0.2}
    contents = _contents(
        Architecture("mlp", arguments, digits.input_shape, 10), digits, DatasetOptions(name="digits")
    )
    assert write_bundle(tmp_path / "champion", contents).checks


@pytest.mark.parametrize("channels", [1, 3])
def test_lenet_5_is_exported_in_every_format(tmp_path, channels):
    random = np.random.default_rng(0)
    path = tmp_path / "images.npz"
    images = random.integers(0, 256, (60, channels, 28, 24), dtype=np.uint8)
    np.savez(path, x_train=images, y_train=np.arange(60) % 4)
    options = DatasetOptions(name=str(path))
    arguments = {"conv1": 2, "conv2": 3, "fc": 4, "batch_norm": True, "dropout": 0.5}
    contents = _contents(
        Architecture("lenet_5", arguments, (channels, 28, 24), 4), load_dataset(options), options
    )
    write_bundle(tmp_path / "champion", contents)
    assert verify_bundle(tmp_path / "champion", trusted=True).checks


@pytest.fixture
def user_code(tmp_path, monkeypatch):
    (tmp_path / "their_code_for_export.py").write_text(USER_CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "their_code_for_export", raising=False)
    return "their_code_for_export"


def test_a_users_own_network_is_exported_and_opened_where_he_allows_it(digits, user_code, tmp_path):
    code = CodePolicy.for_running()
    architecture = Architecture(f"{user_code}:network", {"hidden": 6}, digits.input_shape, 10, code)
    write_bundle(tmp_path / "champion", _contents(architecture, digits, DatasetOptions(name="digits")))
    with pytest.raises(InputError, match="--allow-code"):
        verify_bundle(tmp_path / "champion", dataset=digits)
    assert verify_bundle(tmp_path / "champion", dataset=digits, code=code, trusted=True).checks


def test_a_network_that_cannot_be_traced_is_exported_as_weights(digits, user_code, tmp_path):
    architecture = Architecture(
        f"{user_code}:untraceable", {}, digits.input_shape, 10, CodePolicy.for_running()
    )
    contents = _contents(architecture, digits, DatasetOptions(name="digits"))
    with pytest.raises(InputError, match=r"--format pt2: .*cannot trace this network .*Choose other formats"):
        write_bundle(tmp_path / "champion", contents, formats=["pt2"])
    assert not (tmp_path / "champion").exists()
    checks = {check.name: check for check in write_bundle(tmp_path / "champion", contents).checks}
    for name in ("pt2", "onnx"):
        assert checks[name].passed is None
        assert "left out: torch.export cannot trace this network" in checks[name].detail
    present = {path.name for path in (tmp_path / "champion").iterdir()}
    assert not present & {"model.pt2", "model.onnx", "predict.py"}
    assert verify_bundle(tmp_path / "champion", dataset=digits, code=contents.architecture.code).checks


def test_a_network_of_signals_is_exported_in_every_format(user_code, tmp_path):
    path = tmp_path / "signals.npz"
    x = np.random.default_rng(0).standard_normal((60, 2, 64)).astype("f4")
    np.savez(path, x_train=x, y_train=np.array(["up", "down"])[np.arange(60) % 2])
    options, code = DatasetOptions(name=str(path)), CodePolicy.for_running()
    dataset = load_dataset(options)
    contents = _contents(Architecture(f"{user_code}:of_signals", {}, (2, 64), 2, code), dataset, options)
    checks = {check.name for check in write_bundle(tmp_path / "champion", contents).checks}
    assert "test split, pt2 and onnx" in checks
    np.save(tmp_path / "x.npy", x[:3])
    answers = predict(load_bundle(tmp_path / "champion", code), [tmp_path / "x.npy"]).answers
    assert {answer.label for answer in answers} <= {"up", "down"}


def test_names_that_no_graph_may_have_are_made_fit(digits, user_code, tmp_path):
    code = CodePolicy.for_running()
    architecture = Architecture(f"{user_code}:odd_names", {}, digits.input_shape, 10, code)
    contents = _contents(architecture, digits, DatasetOptions(name="digits"))
    checks = write_bundle(tmp_path / "champion", contents, formats=["pt2", "onnx"]).checks
    assert "test split, pt2 and onnx" in {check.name for check in checks}
    graph = (tmp_path / "champion" / "model.pt2").read_bytes()
    assert b"fc:1" not in graph
    bundle = load_bundle(tmp_path / "champion", code)
    assert set(bundle.metrics.splits["test"].layers) == {"fc:1,a@b", "fc_1_a_b"}


def test_formats_that_are_not_known_are_refused_before_any_work(contents, tmp_path):
    with pytest.raises(InputError, match='did you mean "onnx"'):
        write_bundle(tmp_path / "champion", contents, formats=["onxn"])


def test_onnx_without_the_extra_is_refused_before_any_work(contents, tmp_path, monkeypatch):
    monkeypatch.setattr("aiq_search.lowering.onnx_extra._PACKAGES", ("a_package_that_nobody_has",))
    with pytest.raises(InputError, match="pip install"):
        write_bundle(tmp_path / "champion", contents, formats=["onnx"])
    assert not (tmp_path / "champion").exists()
    checks = {check.name: check for check in write_bundle(tmp_path / "champion", contents).checks}
    assert "left out: ONNX needs three more packages" in checks["onnx"].detail


def test_the_card_tells_of_noise_spread_and_seeds(contents, tmp_path):
    from aiq_search.export import SeedMetrics, SpreadDocument

    told = replace(
        contents,
        dataset_options=contents.dataset_options.model_copy(update={"label_noise": 0.25}),
        configuration={"validation": {"aiq": SpreadDocument(mean=0.7, sd=0.01, n=3)}},
        seeds=[
            SeedMetrics(name=f"confirm-0001-seed-{i}", seed=i, exported=not i, metrics={}) for i in range(3)
        ],
    )
    write_bundle(tmp_path / "champion", told, formats=["safetensors"])
    card = (tmp_path / "champion" / "MODEL_CARD.md").read_text()
    assert "25% of the training labels" in card
    assert "0.7000 ± 0.0100 (n = 3)" in card
    assert "The best of 3 seeds on validation" in card
    assert "onnxruntime" not in card


@pytest.mark.slow
@pytest.mark.skipif("AIQ_DATA_DIR" not in os.environ, reason="real MNIST: set AIQ_DATA_DIR to its folder")
def test_a_network_trained_on_mnist_verifies_in_every_format(tmp_path):
    options = DatasetOptions(name="mnist", validation=10000)
    mnist = load_dataset(options)
    fewer = replace(mnist, train=Split(mnist.train.inputs[:20000], mnist.train.labels[:20000]))
    architecture = Architecture("lenet_5", {"conv1": 2, "conv2": 8, "fc": 8}, mnist.input_shape, 10)
    run = TrainingRun(
        architecture, fewer, TrainingOptions(epochs=2, learning_rate=0.02, engine="torch"), seed=0
    )
    while not run.finished:
        run.run_epoch()
    measured = run.best.metrics()
    contents = BundleContents(
        architecture=architecture,
        weights=run.best_weights,
        dataset=mnist,
        dataset_options=options,
        expected={"validation": {name: measured[name] for name in ("aiq", "accuracy", "efficiency")}},
        tolerance=0.0,
    )
    checks = write_bundle(tmp_path / "champion", contents).checks
    assert sum("10,000 samples" in check.detail for check in checks) == 8  # six pairs, and eight bits twice
    assert verify_bundle(tmp_path / "champion", trusted=True).checks


@pytest.mark.parametrize(
    ("name", "arguments", "shape"),
    [
        ("cnn", {"width1": 3, "width2": 4, "stride": 2, "batch_norm": True}, (1, 12, 12)),
        (
            "cnn",
            {
                "depth": 2,
                "width": 4,
                "residual": True,
                "convolution2": "separable",
                "head": 5,
                "dropout": 0.1,
            },
            (3, 8, 8),
        ),
        (
            "cnn",
            {"depth": 2, "width": 4, "convolution": "grouped", "downsampling": "average_pool", "stride": 2},
            (4, 9, 9),
        ),
        ("resnet", {"depth": 2, "width_multiplier": 0.05, "stem": "large", "dropout": 0.1}, (3, 16, 16)),
        ("mobilenet_v2", {"depth": 3, "width_multiplier": 0.2, "last_width": 16, "divisor": 1}, (1, 16, 16)),
        ("cnn_1d", {"depth": 2, "width": 4, "kernel": 5, "stride": 3, "global_pooling": False}, (2, 40)),
    ],
)
def test_the_convolutional_families_come_back_in_every_format(name, arguments, shape, tmp_path):
    random = np.random.default_rng(0)
    path = tmp_path / "samples.npz"
    np.savez(path, x_train=random.normal(size=(60, *shape)).astype(np.float32), y_train=np.arange(60) % 3)
    options = DatasetOptions(name=str(path))
    dataset = load_dataset(options)
    contents = _contents(Architecture(name, arguments, shape, 3), dataset, options)
    write_bundle(tmp_path / "champion", contents)
    verify_bundle(tmp_path / "champion")
    loaded = load_bundle(tmp_path / "champion")
    own = loaded.model.eval()
    original = contents.architecture.build()
    original.load_state_dict(contents.weights)
    x = torch.randn(5, *shape)
    with torch.no_grad():
        torch.testing.assert_close(own(x), original.eval()(x))
