import json

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from aiq_search.errors import InputError
from aiq_search.statespace import aiq, measure, network_efficiency


def network(width=6):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 5), nn.ReLU(), nn.Linear(5, 3))


def data(samples=400):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(samples, 4, generator=generator), torch.randint(0, 3, (samples,), generator=generator)


def test_a_data_loader_gives_accuracy_efficiency_and_aiq():
    model = network()
    inputs, labels = data()
    report = measure(model, DataLoader(TensorDataset(inputs, labels), batch_size=64))
    assert report.accuracy == int((model(inputs).argmax(1) == labels).sum()) / 400
    assert report.efficiency == network_efficiency(layer.efficiency for layer in report.layers)
    assert report.aiq == aiq(report.accuracy, report.efficiency, 2.0)
    assert [layer.name for layer in report.layers] == ["0", "2"]
    assert report.output_layer == "4"


def test_without_labels_there_is_no_accuracy_unless_it_is_given():
    inputs, _ = data()
    assert measure(network(), [inputs]).aiq is None
    assert measure(network(), [inputs], accuracy=0.9, beta=3.5).aiq > 0


def test_the_model_is_run_in_evaluation_mode_and_every_mode_restored():
    model = nn.Sequential(*network(), nn.Dropout(0.9))
    model[1].eval()
    first = measure(model.train(), [data()])
    model[1].training = False
    second = measure(model, [data()])
    assert first.accuracy == second.accuracy
    assert [module.training for module in model] == [True, False, True, True, True, True]


@pytest.mark.parametrize(
    ("batches", "options", "said"),
    [
        ([], {}, "never ran"),
        ([(torch.ones(2, 4), torch.ones(2))], {}, "integer labels"),
        ([(torch.ones(2, 4), 1, 2)], {}, "3 parts"),
        ([torch.ones(2, 4)], {"accuracy": 90}, "Divide a percentage"),
        ([torch.ones(2, 4)], {"beta": 0}, "beta"),
    ],
)
def test_what_cannot_be_measured_is_refused(batches, options, said):
    with pytest.raises(InputError, match=said):
        measure(network(), batches, **options)


def test_forward_runs_models_that_take_more_than_one_input():
    inputs, _ = data()
    model = network()
    report = measure(model, [{"x": inputs}], forward=lambda batch: model(batch["x"]))
    assert report.efficiency == measure(network(), [inputs]).efficiency


def warnings_of(model, inputs, **options):
    return " ".join(measure(model, [inputs], **options).warnings)


def test_a_collapsed_layer_is_said():
    model = network()
    with torch.no_grad():
        model[2].bias.fill_(-100)
    report = measure(model, [data()])
    assert report.efficiency == 0.0
    assert report.aiq == 0.0
    assert "'2' is collapsed" in report.warnings[0]


def test_a_saturated_layer_is_said_with_its_ceiling():
    wide = nn.Sequential(nn.Linear(50, 300), nn.Linear(300, 2))
    said = warnings_of(wide, torch.randn(500, 50))
    assert "saturated" in said
    assert "0.030" in said


def test_few_observations_are_said():
    torch.manual_seed(0)
    inputs = torch.cat([torch.randn(60, 30), torch.randn(1, 30).expand(60, 30)])
    assert "few observations: 50%" in warnings_of(nn.Sequential(nn.Linear(30, 40), nn.Linear(40, 2)), inputs)


def test_a_sample_is_said():
    inputs = torch.randn(60_000, 4)
    model = nn.Sequential(nn.Linear(4, 30), nn.Linear(30, 30), nn.Tanh(), nn.Linear(30, 40), nn.Linear(40, 2))
    with torch.no_grad():
        for module in model:
            if isinstance(module, nn.Linear):
                module.weight.normal_()
    said = warnings_of(model, inputs, budget=1 << 16, over_budget="sample")
    assert "is an estimate: a random" in said


def test_a_healthy_layer_gets_no_warning():
    assert warnings_of(network(), torch.randn(5000, 4)) == ""


def test_the_report_is_a_table_json_and_a_frame():
    report = measure(network(), [data()], order=float("inf"))
    document = json.loads(report.to_json())
    assert document["order"] == "inf"
    assert document["layers"][0]["neurons"] == 6
    frame = report.to_frame()
    assert frame.loc["2", "entropy"] == report.layers[1].entropy
    lines = str(report).splitlines()
    assert lines[0].split()[:3] == ["name", "type", "neurons"]
    assert lines[1].split()[:4] == ["0", "Linear", "6", "400"]
    assert f"aIQ {report.aiq:.4g}" in str(report)
