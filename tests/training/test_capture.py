"""Which states are captured, by either engine."""

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.errors import InputError
from aiq_search.models import Architecture
from aiq_search.training import TrainingOptions, TrainingRun, evaluate
from aiq_search.training.capture import CaptureField, CaptureOptions
from tests.training.engines.networks import random_split

CPU = {"device": "cpu", "epochs": 1}


@pytest.fixture(scope="module")
def digits():
    return load_dataset(DatasetOptions(name="digits", validation=360, test=360))


@pytest.fixture
def network(digits):
    arguments = {"hidden1": 6, "hidden2": 5, "hidden3": 4}
    return Architecture("mlp", arguments, digits.input_shape, 10)


@pytest.mark.parametrize(
    "fields",
    [
        {"layers": ["hidden[23]"]},
        {"layers": ["Linear"], "exclude": ["output", "hidden1"]},
        {"exclude": ["hidden2"]},
        {"exclude": ["output"], "order": 2.0},
        {"order": "inf"},
        {"layers": ["hidden1", "hidden9"]},
    ],
)
def test_both_engines_measure_what_is_to_be_captured(digits, network, fields):
    capture = CaptureOptions.model_validate(fields)
    run = TrainingRun(network, digits, TrainingOptions(**CPU), seed=0, capture=capture)
    assert run.engine.name == "compiled"
    measured = run.run_epoch().validation
    expected = evaluate(run.model, run.validation_split, beta=2.0, capture=capture)
    assert list(measured.layers) == list(expected.layers)
    assert measured.layers == pytest.approx(expected.layers, abs=0.02)
    if "order" in fields:
        usual = evaluate(run.model, run.validation_split, beta=2.0)
        assert all(value < usual.layers[name] for name, value in expected.layers.items())


@pytest.mark.parametrize(
    ("capture", "reason"),
    [
        (CaptureOptions(point="before"), "objective.capture.point: before"),
        (CaptureOptions(layers=("output",)), "states of output (objective.capture.layers)"),
        (CaptureOptions(layers=("ELU",)), "states of hidden1_elu (objective.capture.layers)"),
    ],
    ids=str,
)
def test_what_the_compiled_engine_cannot_capture_is_measured_by_torch(digits, network, capture, reason):
    run = TrainingRun(network, digits, TrainingOptions(**CPU), seed=0, capture=capture)
    assert run.engine.name == "torch"
    assert run.engine.reason == f"the compiled engine does not know {reason}"
    result = run.run_epoch().validation
    assert result == evaluate(run.model, run.validation_split, beta=2.0, capture=capture)
    with pytest.raises(InputError, match=r"set training.engine to auto or torch") as error:
        TrainingRun(network, digits, TrainingOptions(engine="compiled"), seed=0, capture=capture)
    assert reason in str(error.value)


def test_a_network_without_any_of_the_layers_is_refused(digits, network):
    capture = CaptureOptions(layers=("conv1", "conv2"))
    with pytest.raises(InputError, match="no layer that 'conv1' selects"):
        TrainingRun(network, digits, TrainingOptions(**CPU), seed=0, capture=capture)


def test_an_output_and_an_axis_of_ones_own():
    class Twofold(nn.Module):
        """Gives pairs, neurons first."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 7))

        def forward(self, x):
            states = self.weight @ x[:, :, None]
            return states, (states - states.mean(0)).expand(-1, -1, 4)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair, self.head = Twofold(), nn.Linear(3, 2)

        def forward(self, x):
            return self.head(self.pair(x)[0].squeeze(2))

    torch.manual_seed(0)
    split, model = random_split(40, (7,), 2), Net()
    second = CaptureOptions(layers=("Twofold",), output={"pair": 1}, axis=1)
    measured = evaluate(model, split, beta=2.0, capture=second)
    assert 0 < measured.layers["pair"] <= 1
    first = evaluate(model, split, beta=2.0, capture=CaptureOptions(layers=("pair",), axis=1))
    assert first.layers != measured.layers
    with pytest.raises(InputError, match=r"The axis of the neurons .* is not known for a Twofold"):
        evaluate(model, split, beta=2.0, capture=CaptureOptions(layers=("pair",)))


def test_a_word_stands_for_the_point_alone():
    read = TypeAdapter(CaptureField).validate_python
    assert read("before") == CaptureOptions(point="before")
    assert read("after") == read({}) == CaptureOptions()
    for wrong in ("during", {"order": -1.0}, {"order": float("nan")}, {"layers": [""]}, {"point": None}):
        with pytest.raises(ValidationError):
            read(wrong)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"point": "before", "order": "inf"}, "before each hidden layer, entropy of order inf"),
        (
            {"output": {"lstm": 1, "gru": 0}, "axis": 1},
            "after each hidden layer, output 1 of lstm, output 0 of gru, axis 1",
        ),
        ({"layers": ["a", "b", "c"], "exclude": ["d"]}, "after a, b and c but not d"),
    ],
)
def test_the_options_in_words(fields, text):
    assert str(CaptureOptions.model_validate(fields)) == text
