import math

import numpy as np
import pytest
import torch
from torch import nn

from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.datasets.dataset import Dataset, Normalization, Split
from aiq_search.errors import InputError
from aiq_search.models import Architecture
from aiq_search.training import (
    CheckpointError,
    DivergedError,
    TensorSplit,
    TrainingOptions,
    TrainingRun,
    evaluate,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    save_weights,
)
from aiq_search.training.engines.torch_engine import TorchEngine


@pytest.fixture(scope="module")
def digits():
    return load_dataset(DatasetOptions(name="digits", validation=360, test=360))


@pytest.fixture(scope="module")
def narrow(digits):
    arguments = {"hidden1": 12, "hidden2": 8, "dropout": 0.1, "batch_norm": True}
    return Architecture("mlp", arguments, digits.input_shape, 10)


@pytest.fixture(params=["torch", "compiled"])
def options(request):
    def make(**fields):
        given = {"epochs": 4, "batch_size": 50, "learning_rate": 0.05, "engine": request.param, **fields}
        return TrainingOptions(**given)

    return make


def finish(run):
    while not run.finished:
        run.run_epoch()
    return run


def test_training_learns_digits(digits, narrow, options):
    run = finish(TrainingRun(narrow, digits, options(epochs=12), seed=0))
    test = run.evaluate_best("test")
    assert test.accuracy > 0.9
    assert test.samples == 360
    assert 0 < test.efficiency < 1


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_seed_fixes_everything(digits, narrow, optimizer, schedule, options):
    chosen = options(optimizer=optimizer, schedule=schedule, learning_rate=0.01)
    first, second, other = (finish(TrainingRun(narrow, digits, chosen, seed=s)) for s in (1, 1, 2))
    assert first.history == second.history
    assert first.history != other.history


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("epochs", [1, 3])
def test_a_checkpoint_changes_nothing_bit_for_bit(tmp_path, digits, narrow, optimizer, epochs, options):
    chosen = options(optimizer=optimizer, schedule="cosine", learning_rate=0.01)
    whole = finish(TrainingRun(narrow, digits, chosen, seed=1))
    interrupted = TrainingRun(narrow, digits, chosen, seed=1)
    for _ in range(epochs):
        interrupted.run_epoch()
    save_checkpoint(interrupted, tmp_path / "checkpoint")
    resumed = TrainingRun(narrow, digits, chosen, seed=99)
    load_checkpoint(resumed, tmp_path / "checkpoint")
    finish(resumed)
    assert resumed.history == whole.history
    assert resumed.best == whole.best
    assert all(torch.equal(whole.best_weights[n], t) for n, t in resumed.best_weights.items())


def test_the_chosen_epoch_has_the_lowest_validation_loss(digits, narrow, options):
    run = finish(TrainingRun(narrow, digits, options(epochs=8, learning_rate=0.3, patience=None), seed=0))
    losses = [result.validation.loss for result in run.history]
    assert run.best.epoch == losses.index(min(losses)) + 1
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    assert run.evaluate_best("validation") == run.best.validation
    assert all(torch.equal(before[name], tensor) for name, tensor in run.model.state_dict().items())
    model = narrow.build()
    model.load_state_dict(run.best_weights)
    again = evaluate(model, run.validation_split, beta=2.0)
    assert again.loss == pytest.approx(run.best.validation.loss, rel=1e-5)
    assert again.aiq == pytest.approx(run.best.validation.aiq, abs=1e-3)


def test_patience_ends_a_run_that_gets_no_better(digits, narrow, options):
    run = finish(TrainingRun(narrow, digits, options(epochs=50, learning_rate=1e-9, patience=3), seed=0))
    assert run.epoch < 50
    assert run.epoch - run.best.epoch == 3


def test_a_loss_that_is_not_finite_is_an_error_that_says_when(digits, options):
    wild = Architecture("mlp", {"hidden1": 64, "hidden2": 64}, digits.input_shape, 10)
    run = TrainingRun(wild, digits, options(learning_rate=1e30), seed=0)
    with pytest.raises(DivergedError, match=r"loss is (nan|inf) in epoch \d"):
        finish(run)


def test_every_sample_is_learnt_from_once_an_epoch(digits, narrow, options):
    run = TrainingRun(narrow, digits, options(batch_size=100), seed=0)
    batches = run._batches()
    assert sorted(torch.cat(batches).tolist()) == list(range(len(digits.train)))


def test_a_last_batch_of_one_sample_joins_the_one_before(options):
    split = Split(np.random.default_rng(0).random((21, 4)).astype(np.float32), np.arange(21) % 2)
    data = Dataset("t", split, split, split, ("a", "b"), Normalization.standardise(split.inputs), "digest")
    architecture = Architecture("mlp", {"hidden1": 3, "batch_norm": True}, (4,), 2)
    run = TrainingRun(architecture, data, options(batch_size=5), seed=0)
    assert [len(batch) for batch in run._batches()] == [5, 5, 5, 6]
    run.run_epoch()


def test_a_collapsed_network_has_efficiency_and_aiq_zero(digits):
    architecture = Architecture("mlp", {"hidden1": 3}, digits.input_shape, 10)
    model = architecture.build()
    with torch.no_grad():
        model.hidden1.weight.zero_()
        model.hidden1.bias.fill_(-1)
    split = TensorSplit.of(digits.validation, digits.normalization, torch.device("cpu"))
    measured = evaluate(model, split, beta=2.0)
    assert measured.efficiency == 0
    assert measured.aiq == 0


def test_evaluating_does_not_depend_on_batches_or_change_the_model(digits, narrow, monkeypatch, options):
    run = TrainingRun(narrow, digits, options(), seed=0)
    run.run_epoch()
    before = {n: t.clone() for n, t in run.model.state_dict().items()}
    next(run.model.children()).eval()  # a part that the user froze stays frozen
    modes = [module.training for module in run.model.modules()]
    whole = evaluate(run.model, run.validation_split, beta=2.0)
    monkeypatch.setattr("aiq_search.training.evaluation.BATCH_SIZE", 7)
    small = evaluate(run.model, run.validation_split, beta=2.0)
    assert small.layers == whole.layers
    assert small.accuracy == whole.accuracy
    assert math.isclose(small.loss, whole.loss, rel_tol=1e-6)
    assert [module.training for module in run.model.modules()] == modes
    assert all(torch.equal(before[n], t) for n, t in run.model.state_dict().items())


def test_shared_arrays_are_only_read(digits, narrow, options):
    frozen = load_dataset(DatasetOptions(name="digits", validation=360, test=360))
    for split in (frozen.train, frozen.validation, frozen.test):
        split.inputs.setflags(write=False)
        split.labels.setflags(write=False)
    with_frozen = TrainingRun(narrow, frozen, options(), seed=1).run_epoch()
    assert with_frozen == TrainingRun(narrow, digits, options(), seed=1).run_epoch()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_a_gpu_that_is_not_there_is_one_sentence(digits, narrow, engine):
    with pytest.raises(InputError, match="sees no GPU"):
        TrainingRun(narrow, digits, TrainingOptions(device="cuda", engine=engine), seed=0)


def test_the_compiled_engine_has_no_gpu(digits, narrow):
    with pytest.raises(InputError, match="set the device to cpu, or the engine to torch"):
        TrainingRun(narrow, digits, TrainingOptions(device="cuda", engine="compiled"), seed=0)


def test_auto_is_compiled_where_it_knows_the_network(digits, narrow):
    gelu = Architecture("mlp", {"hidden1": 8, "activation": "gelu"}, digits.input_shape, 10)
    cpu = {"device": "cpu", "epochs": 1, "engine": "auto"}
    assert TrainingRun(narrow, digits, TrainingOptions(**cpu), seed=0).engine.name == "compiled"
    assert TrainingRun(gelu, digits, TrainingOptions(**cpu), seed=0).engine.name == "torch"
    large = Architecture("mlp", {"hidden1": 1200, "hidden2": 1200}, digits.input_shape, 10)
    assert TrainingRun(large, digits, TrainingOptions(**cpu), seed=0).engine.name == "torch"
    wide = Architecture("mlp", {"hidden1": 200, "hidden2": 200}, digits.input_shape, 10)
    for threads, engine in ((2, "torch"), (1, "compiled")):
        torch.set_num_threads(threads)
        assert TrainingRun(wide, digits, TrainingOptions(**cpu), seed=0).engine.name == engine
    run = finish(TrainingRun(gelu, digits, TrainingOptions(**cpu), seed=0))
    assert run.epoch == 1
    with pytest.raises(InputError, match=r"does not know this network \(hidden1_gelu: GELU.*auto or torch"):
        TrainingRun(gelu, digits, TrainingOptions(engine="compiled"), seed=0)


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "other"])
def test_a_damaged_checkpoint_is_an_error_that_names_it(tmp_path, digits, narrow, damage, options):
    path = tmp_path / "checkpoint"
    run = TrainingRun(narrow, digits, options(), seed=0)
    run.run_epoch()
    save_checkpoint(run, path)
    content = path.read_bytes()
    if damage == "other":
        save_weights(path, {"x": torch.zeros(2)}, {"trial": "another"})
    else:
        path.write_bytes(
            {"cut": content[: len(content) // 2], "empty": b"", "garbage": b"\xff" * 400}[damage]
        )
    with pytest.raises(CheckpointError, match="checkpoint"):
        load_checkpoint(TrainingRun(narrow, digits, options(), seed=0), path)


def test_weights_come_back_with_their_document(tmp_path):
    save_weights(tmp_path / "w", {"a": torch.arange(3.0)}, {"trial": "t"})
    weights, document = load_weights(tmp_path / "w")
    assert torch.equal(weights["a"], torch.arange(3.0))
    assert document == {"trial": "t"}
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_wide_convolutions_by_torch_resume_bit_for_bit_and_measure_as_usual(tmp_path, optimizer):
    """Their weights have another layout in memory while they learn, which is of no consequence."""
    draw = np.random.default_rng(0)
    split = Split(draw.integers(0, 256, (60, 1, 20, 20)).astype(np.uint8), np.arange(60) % 10)
    data = Dataset("t", split, split, split, tuple("0123456789"), Normalization((0.01,), (-1.0,)), "digest")
    widths = {"conv1": 8, "conv2": 9, "fc": 10, "batch_norm": True, "activation": "gelu"}
    wide = Architecture("lenet_5", widths, (1, 20, 20), 10)
    chosen = TrainingOptions(
        epochs=3, batch_size=20, optimizer=optimizer, learning_rate=0.01, patience=None, engine="torch"
    )
    run, interrupted = (TrainingRun(wide, data, chosen, seed=1) for _ in range(2))
    assert run.model.conv2.weight.is_contiguous(memory_format=torch.channels_last)
    finish(run)
    interrupted.run_epoch()
    save_checkpoint(interrupted, tmp_path / "checkpoint")
    resumed = TrainingRun(wide, data, chosen, seed=99)
    load_checkpoint(resumed, tmp_path / "checkpoint")
    finish(resumed)
    assert resumed.history == run.history
    usual = wide.build()
    usual.load_state_dict(run.best_weights)
    assert evaluate(usual, run.validation_split, beta=2.0) == run.best.validation


def test_a_network_with_a_forward_of_its_own_keeps_the_usual_layout(digits):
    class Own(nn.Sequential):
        def forward(self, x):
            return super().forward(x).view(len(x), -1)

    for model, expected in (
        (nn.Sequential(nn.Conv2d(1, 8, 3)), torch.channels_last),
        (nn.Sequential(nn.Conv2d(1, 7, 3)), torch.contiguous_format),
        (Own(nn.Conv2d(2, 8, 3)), torch.contiguous_format),
    ):
        split = TensorSplit.of(digits.train, digits.normalization, torch.device("cpu"))
        assert TorchEngine(model, TrainingOptions(), split)._layout == expected


@pytest.mark.parametrize("activation", ["relu", "elu", "gelu"])
def test_pooling_before_an_activation_gives_the_same_numbers(activation):
    torch.manual_seed(0)
    model = Architecture(
        "lenet_5", {"conv1": 3, "conv2": 4, "fc": 5, "activation": activation}, (1, 20, 20), 10
    )
    ours, plain = model.build(), model.build()
    plain.load_state_dict(ours.state_dict())
    split = TensorSplit(torch.randn(40, 1, 20, 20), torch.arange(40) % 10, torch.ones(1), torch.zeros(1))
    engine = TorchEngine(ours, TrainingOptions(momentum=0.0, nesterov=False, weight_decay=0.0), split)
    order = [type(module) for module in engine._learner]
    assert (order[1] is nn.MaxPool2d) == (activation != "gelu")
    assert [name for name, _ in ours.named_children()] == [name for name, _ in plain.named_children()]
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    for _ in range(3):
        inputs, labels = split.batch(torch.arange(40))
        loss = nn.functional.cross_entropy(plain(inputs), labels)
        assert engine.train(split, [torch.arange(40)], [0.1]) == [pytest.approx(40 * loss.item(), rel=1e-6)]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
