"""Training on a GPU keeps the promises of training on the CPU."""

import numpy as np
import pytest
import torch

from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.datasets.dataset import Dataset, Normalization, Split
from aiq_search.errors import InputError
from aiq_search.models import Architecture
from aiq_search.training import (
    AugmentOptions,
    TrainingOptions,
    TrainingRun,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from aiq_search.training.engines import cuda_graph

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture(scope="module", autouse=True)
def _as_a_worker_does():
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cudnn.deterministic = before


@pytest.fixture(scope="module")
def digits():
    return load_dataset(DatasetOptions(name="digits", validation=360, test=360))


@pytest.fixture(scope="module")
def pictures():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 10, 1200)
    inputs = draw.integers(0, 256, (1200, 1, 28, 28)).astype(np.uint8)
    inputs[np.arange(1200), 0, labels, :] = 255  # a class is a bright row
    parts = [Split(inputs[a:b], labels[a:b]) for a, b in ((0, 800), (800, 1000), (1000, 1200))]
    classes = tuple("0123456789")
    return Dataset("rows", *parts, classes, Normalization.standardise(inputs[:800]), "digest")


NETWORKS = {
    "mlp": {"hidden1": 12, "hidden2": 8, "dropout": 0.1, "batch_norm": True},
    "lenet_5": {"conv1": 4, "conv2": 4, "fc": 8, "dropout": 0.1, "batch_norm": True},
}


@pytest.fixture(params=sorted(NETWORKS))
def case(request, digits, pictures):
    data = digits if request.param == "mlp" else pictures
    return Architecture(request.param, NETWORKS[request.param], data.input_shape, 10), data


def options(**fields):
    return TrainingOptions(**{"epochs": 4, "batch_size": 50, "learning_rate": 0.05, **fields})


def finish(run):
    while not run.finished:
        run.run_epoch()
    return run


def test_auto_takes_the_gpu_and_learns(digits):
    architecture = Architecture("mlp", {"hidden1": 12, "hidden2": 8}, digits.input_shape, 10)
    run = finish(TrainingRun(architecture, digits, options(epochs=12), seed=0))
    assert run.device.type == "cuda"
    test = run.evaluate_best("test")
    assert test.accuracy > 0.9
    assert 0 < test.efficiency < 1
    on_cpu = finish(TrainingRun(architecture, digits, options(epochs=12, device="cpu"), seed=0))
    # The same start and the same order of samples: rounding is what differs.
    assert test.aiq == pytest.approx(on_cpu.evaluate_best("test").aiq, abs=0.05)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_seed_fixes_everything_on_the_gpu(case, optimizer):
    architecture, data = case
    chosen = options(optimizer=optimizer, learning_rate=0.01)
    first, second = (finish(TrainingRun(architecture, data, chosen, seed=1)) for _ in range(2))
    assert first.history == second.history


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_checkpoint_changes_nothing_bit_for_bit_on_the_gpu(tmp_path, case, optimizer):
    architecture, data = case
    chosen = options(optimizer=optimizer, learning_rate=0.01)
    whole = finish(TrainingRun(architecture, data, chosen, seed=1))
    interrupted = TrainingRun(architecture, data, chosen, seed=1)
    interrupted.run_epoch()
    save_checkpoint(interrupted, tmp_path / "checkpoint")
    torch.manual_seed(5)
    resumed = TrainingRun(architecture, data, chosen, seed=99)
    load_checkpoint(resumed, tmp_path / "checkpoint")
    finish(resumed)
    assert resumed.history == whole.history
    assert all(torch.equal(whole.best_weights[n], t) for n, t in resumed.best_weights.items())


def test_a_trial_may_go_on_where_there_is_no_gpu(tmp_path, case):
    architecture, data = case
    begun = TrainingRun(architecture, data, options(), seed=1)
    begun.run_epoch()
    save_checkpoint(begun, tmp_path / "checkpoint")
    tensors, _ = load_weights(tmp_path / "checkpoint")
    assert all(tensor.device.type == "cpu" for tensor in tensors.values())
    resumed = TrainingRun(architecture, data, options(device="cpu"), seed=1)
    load_checkpoint(resumed, tmp_path / "checkpoint")
    finish(resumed)
    assert resumed.epoch == 4


@pytest.mark.parametrize(
    "fields",
    [
        {"optimizer": "sgd", "gradient_clipping": 0.5, "schedule": "cosine"},
        {"optimizer": "adam", "class_weights": "balanced"},
        {"optimizer": "adamw", "augment": AugmentOptions(mixup=0.3)},
    ],
)
def test_a_captured_step_learns_what_its_kernels_learn_one_by_one(monkeypatch, case, fields):
    architecture, data = case
    chosen = options(learning_rate=0.01, batch_size=70, cuda_graphs=True, **fields)
    captured = finish(TrainingRun(architecture, data, chosen, seed=1))
    after = torch.cuda.get_rng_state()
    monkeypatch.setattr(cuda_graph, "WARM_UP", 10**9)  # nothing is captured
    one_by_one = finish(TrainingRun(architecture, data, chosen, seed=1))
    assert captured.history == one_by_one.history
    assert torch.equal(after, torch.cuda.get_rng_state())  # dropout has drawn as many numbers
    assert all(torch.equal(one_by_one.best_weights[n], t) for n, t in captured.best_weights.items())


def test_a_captured_run_may_be_broken_off_anywhere(tmp_path, case):
    architecture, data = case
    chosen = options(optimizer="adam", learning_rate=0.01, cuda_graphs=True)
    whole = finish(TrainingRun(architecture, data, chosen, seed=1))
    interrupted = TrainingRun(architecture, data, chosen, seed=1)
    interrupted.run_epoch()
    interrupted.run_part(0.6, 50)
    save_checkpoint(interrupted, tmp_path / "checkpoint")
    torch.manual_seed(5)
    resumed = TrainingRun(architecture, data, chosen, seed=99)
    load_checkpoint(resumed, tmp_path / "checkpoint")
    assert finish(resumed).history == whole.history


def test_a_step_that_waits_for_the_device_cannot_be_captured(digits):
    architecture = Architecture("mlp", NETWORKS["mlp"], digits.input_shape, 10)
    run = TrainingRun(architecture, digits, options(cuda_graphs=True), seed=0)
    layer = run.model.get_submodule("hidden1")
    layer.register_forward_hook(lambda module, inputs, output: output * float(output.abs().max() > 0))
    with pytest.raises(InputError, match=r"training\.cuda_graphs: a training step of this network cannot be"):
        run.run_epoch()
