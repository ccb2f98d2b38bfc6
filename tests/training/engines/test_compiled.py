"""The compiled engine against torch: the same losses, gradients, steps and states."""

import copy
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from aiq_search.models import Architecture
from aiq_search.training import TrainingOptions, evaluate
from aiq_search.training.engines.compiled import CompiledEngine
from aiq_search.training.engines.compiled.pooled import PooledConvolution
from aiq_search.training.engines.compiled.recognition import recognise
from aiq_search.training.engines.torch_engine import TorchEngine
from tests.training.engines.networks import Case, cases, is_delicate, random_split

SHAPE = (1, 28, 28)


def compiled(model, split, **fields):
    return CompiledEngine(model, TrainingOptions(**{"batch_size": len(split), **fields}), split)


def gradients(engine):
    parameters = engine._network.parameters
    return [parameters.view(parameters.gradient, parameter) for parameter in engine.model.parameters()]


@contextmanager
def same_dropout(model):
    """Let dropout draw for float64 what it draws for float32."""

    def drop(module, x):
        noise = torch.empty(x.shape).bernoulli_(1 - module.p).div_(1 - module.p)
        return x * noise.to(x.dtype)

    drops = [module for module in model.modules() if isinstance(module, nn.Dropout) and module.p]
    for module in drops:
        module.forward = lambda x, module=module: drop(module, x)
    yield
    for module in drops:
        del module.forward


@settings(max_examples=150, deadline=None)
@given(case=cases())
def test_loss_and_gradients_are_torchs(case):
    check_gradients(case)


@pytest.mark.parametrize(
    ("channels", "filter_", "stride", "pool"),
    [(16, 5, 1, 2), (32, 3, 1, 2), (13, (1, 3), 1, (2, 2)), (12, (2, 4), 2, (3, 2)), (16, 1, 1, (1, 3))],
)
@pytest.mark.parametrize("inner", [False, True])
def test_gradients_of_wide_pooled_convolutions_are_torchs(channels, filter_, stride, pool, inner):
    """Those whose gradient skips what is zero, before and behind another convolution, with odd borders."""
    wide = nn.Conv2d(channels, 9, filter_, stride)
    images = (channels, 14, 13)
    modules = [wide, nn.MaxPool2d(pool), nn.ELU()]
    if inner:
        modules = [nn.Conv2d(2, channels, 2), nn.Tanh(), *modules]
        images = (2, 14, 13)
    size = nn.Sequential(*modules, nn.Flatten())(torch.zeros(1, *images)).shape[1]
    modules += [nn.Flatten(), nn.Linear(size, 5)]
    assert any(PooledConvolution.pays(stage) for stage in recognise(nn.Sequential(*modules), images))
    check_gradients(Case(tuple(modules), images, 5, samples=21, seed=3, kind="float32"), delicate=True)


def check_gradients(case, delicate=False):
    split, model = case.split(), case.model()
    everything = torch.arange(len(split))
    inputs, labels = split.batch(everything)
    model.train()
    torch.manual_seed(case.seed)
    if not delicate:
        assume(not is_delicate(copy.deepcopy(model), inputs))
    engine = compiled(copy.deepcopy(model), split)

    exact = copy.deepcopy(model).double()
    losses = []
    for reference, x in ((exact, inputs.double()), (model, inputs)):
        torch.manual_seed(case.seed)
        with same_dropout(reference):
            losses.append(functional.cross_entropy(reference(x), labels))
        losses[-1].backward()
    torch.manual_seed(case.seed)
    loss = engine._network.learn(split.inputs.reshape(-1).numpy(), split.labels.numpy(), everything.numpy())

    assert loss / len(split) == pytest.approx(losses[0].item(), rel=1e-4, abs=1e-6)
    # Where a gradient is what remains of larger numbers, as before a batch norm, torch's own error tells what
    # can be had.
    pairs = list(zip(exact.parameters(), model.parameters(), strict=True))
    rounding = max(float((true.grad - torchs.grad).abs().max()) for true, torchs in pairs)
    for (true, _), gradient in zip(pairs, gradients(engine), strict=True):
        tolerance = 1e-4 * float(true.grad.abs().max()) + 10 * rounding
        torch.testing.assert_close(gradient.double(), true.grad, rtol=0, atol=tolerance)
    for buffer, expected in zip(engine.model.buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(buffer, expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_measuring_gives_torchs_numbers(case):
    split, model = case.split(), case.model()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    expected = evaluate(model, split, beta=2.0)
    measured = compiled(model, split).evaluate(split, 2.0)
    assert measured.loss == pytest.approx(expected.loss, rel=1e-4, abs=1e-6)
    assert measured.accuracy == pytest.approx(expected.accuracy, abs=1.5 / len(split))
    assert measured.samples == expected.samples
    assert list(measured.layers) == list(expected.layers)
    for name, efficiency in expected.layers.items():
        # A sum that rounds to the other side of 0 moves one observation.
        assert measured.layers[name] == pytest.approx(efficiency, abs=0.02)


@pytest.mark.parametrize("widths", [(2, 4, 8), (10, 11, 16), (17, 20, 33), (65, 3, 130)])
@pytest.mark.parametrize("samples", [5, 300])
def test_states_are_counted_exactly(widths, samples):
    # With small whole numbers every sum is exact, whatever its order.
    arguments = dict(zip(("conv1", "conv2", "fc"), widths, strict=True), activation="relu")
    model = Architecture("lenet_5", arguments, SHAPE, 10).build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randint(-1, 2, parameter.shape))
    split = random_split(samples, SHAPE, 10)
    split.inputs.remainder_(5)
    split.scale.fill_(1)
    split.shift.fill_(-2)
    expected = evaluate(model, split, beta=2.0)
    measured = compiled(model, split).evaluate(split, 2.0)
    assert measured.layers == expected.layers
    assert (measured.accuracy, measured.efficiency, measured.aiq) == (
        expected.accuracy,
        expected.efficiency,
        expected.aiq,
    )


@settings(max_examples=25, deadline=None)
@given(
    optimizer=st.sampled_from(["sgd", "adam", "adamw"]),
    momentum=st.sampled_from([0.0, 0.9]),
    nesterov=st.booleans(),
    weight_decay=st.sampled_from([0.0, 0.01]),
    batch_size=st.sampled_from([1, 7, 16, 50, 200]),
)
def test_some_steps_of_every_optimizer_are_torchs(optimizer, momentum, nesterov, weight_decay, batch_size):
    options = TrainingOptions(
        optimizer=optimizer,
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=weight_decay,
        batch_size=batch_size,
    )
    split = random_split(210, (9,), 4, kind="float32")
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(9, 6), nn.ELU(), nn.Dropout(0.2), nn.Linear(6, 4))
    engines = [kind(copy.deepcopy(model), options, split) for kind in (TorchEngine, CompiledEngine)]
    batches = torch.split(torch.randperm(210), batch_size)[:6]
    losses, weights = [], []
    for engine in engines:
        torch.manual_seed(5)
        losses.append(engine.train(split, batches, ([0.01] * 4 + [0.005] * 2)[: len(batches)]))
        weights.append([p.detach() for p in engine.model.parameters()])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-3, atol=1e-5)


def test_an_optimizers_state_is_torchs():
    split = random_split(60, (9,), 4, kind="float32")
    for optimizer in ("sgd", "adam"):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(9, 6), nn.ELU(), nn.Linear(6, 4))
        options = TrainingOptions(optimizer=optimizer, batch_size=20)
        ours, torchs = (kind(copy.deepcopy(model), options, split) for kind in (CompiledEngine, TorchEngine))
        batches = torch.split(torch.randperm(60), 20)
        for engine in (ours, torchs):
            engine.train(split, batches, [0.01] * len(batches))
        states = ours.optimizer_state(), torchs.optimizer_state()
        assert {i: sorted(s) for i, s in states[0].items()} == {i: sorted(s) for i, s in states[1].items()}
        torch.testing.assert_close(*states, rtol=1e-3, atol=1e-5)


def test_the_network_stays_torchs():
    split = random_split(40, SHAPE, 10)
    model = Architecture("lenet_5", {"conv1": 2, "conv2": 3, "fc": 5, "batch_norm": True}, SHAPE, 10).build()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    engine = compiled(model, split)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    engine.train(split, [torch.arange(40)], [0.01])
    now = model.state_dict()
    assert list(now) == list(before)
    assert all(now[name].shape == before[name].shape for name in before)
    assert not any(torch.equal(now[name], before[name]) for name in before if "bias" not in name)
    assert int(model.conv1_norm.num_batches_tracked) == 1
    # What torch changes, the engine sees.
    model.load_state_dict(before)
    twin = Architecture("lenet_5", {"conv1": 2, "conv2": 3, "fc": 5, "batch_norm": True}, SHAPE, 10).build()
    twin.load_state_dict(before)
    assert engine.evaluate(split, 2.0) == compiled(twin, split).evaluate(split, 2.0)


def test_read_only_samples_are_only_read():
    split = random_split(40, SHAPE, 10)
    before = split.inputs.clone()
    engine = compiled(Architecture("lenet_5", {"conv1": 2, "conv2": 3, "fc": 5}, SHAPE, 10).build(), split)
    engine.train(split, [torch.arange(40)], [0.01])
    engine.evaluate(split, 2.0)
    assert torch.equal(split.inputs, before)


def test_a_batch_norm_cannot_learn_from_one_value():
    split = random_split(4, (5,), 2, kind="float32")
    engine = compiled(nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)), split, batch_size=1)
    with pytest.raises(ValueError, match="single value"):
        engine.train(split, [torch.tensor([0])], [0.1])


def test_every_kernel_has_one_signature():
    """Numba's index of a kernel's variants is not safe when two processes write to it."""
    from aiq_search.training.engines.compiled import layers, products, sparse, updates

    modules = layers, products, sparse, updates
    functions = [getattr(module, name) for module in modules for name in module.__all__]
    kernels = [function for function in functions if hasattr(function, "signatures")]
    assert len(kernels) >= 10
    for dtype in (np.uint8, np.float32):
        split = random_split(30, SHAPE, 10, kind=dtype.__name__)
        for optimizer in ("sgd", "adamw"):
            arguments = {"conv1": 3, "conv2": 3, "fc": 5, "batch_norm": optimizer == "sgd", "dropout": 0.1}
            model = Architecture("lenet_5", arguments, SHAPE, 10).build()
            engine = compiled(model, split, optimizer=optimizer)
            engine.train(split, [torch.arange(20)], [0.01])
            engine.evaluate(split, 2.0)
    assert {kernel.__name__: len(kernel.signatures) for kernel in kernels if len(kernel.signatures) > 1} == {}
