import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from aiq_search.app.measure import measure_network
from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.errors import InputError
from aiq_search.export import BundleContents, load_bundle, predict, write_bundle
from aiq_search.models import Architecture, build_model
from aiq_search.statespace import measure


def network(input_shape, classes, width=7):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ELU(), nn.Linear(width, classes))


def for_tables(input_shape, classes):
    return nn.Linear(3, classes)


class _FirstPixels(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10]


def without_layers(input_shape, classes):
    return _FirstPixels()


def with_too_many_outputs(input_shape, classes):
    return network(input_shape, classes + 1)


def broken(input_shape, classes):
    raise ValueError("no such width")


HERE = f"{__name__}:network"


def test_a_network_with_its_weights_is_measured_as_in_python(tmp_path):
    torch.manual_seed(3)
    model = build_model("mlp", {"hidden1": 8}, (1, 8, 8), 10)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    found = measure_network(
        "mlp", data="digits", weights=tmp_path / "weights.safetensors", arguments=["hidden1=8"]
    )
    dataset = load_dataset(DatasetOptions(name="digits"), None)
    scale, shift = (
        np.float32(n).reshape(1, -1, 1, 1) for n in (dataset.normalization.scale, dataset.normalization.shift)
    )
    inputs = torch.from_numpy(dataset.test.inputs.astype(np.float32) * scale + shift)
    report = measure(model, [(inputs, torch.from_numpy(dataset.test.labels))])
    assert found.report == report
    assert (found.split, found.samples, found.data) == ("test", len(inputs), "digits")
    document = found.document()
    assert document["aiq"] == report.aiq
    assert document["parameters"] == sum(p.numel() for p in model.parameters())


def test_ones_own_function_gets_what_it_names_and_what_is_set():
    assert measure_network(HERE, data="digits", arguments=["width=5"]).report.layers[0].neurons == 5


def test_options_of_the_capture_pass_through():
    report = measure_network(
        HERE, data="digits", split="validation", layers=["3"], point="before", order=2.0
    ).report
    assert (report.point, report.order, [layer.name for layer in report.layers]) == ("before", 2.0, ["3"])


def test_random_weights_are_the_same_each_time():
    assert measure_network(HERE, data="digits").report == measure_network(HERE, data="digits").report


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ("champion.pt2", {"data": "digits"}, "bundle"),
        (HERE, {}, "--data"),
        (HERE, {"data": "digits", "split": "all"}, "--split"),
        (HERE, {"data": "digits", "arguments": ["width"]}, "name=value"),
        (HERE, {"data": "digits", "arguments": ["depth=2"]}, "takes no argument 'depth'"),
        (HERE, {"data": "digits", "arguments": ['classes="x"']}, "takes no argument 'classes'"),
        (f"{__name__}:without_layers", {"data": "digits"}, "no modules"),
        (f"{__name__}:for_tables", {"data": "digits"}, "does not take"),
        (f"{__name__}:with_too_many_outputs", {"data": "digits"}, "11 outputs, but the data have 10 classes"),
        (f"{__name__}:broken", {"data": "digits"}, r"raised ValueError: no such width \(tests/app/test_mea"),
        ("os:system", {"data": "digits", "arguments": ["command=touch pwned"]}, "not in the working folder"),
        ("mlp", {"data": "os:abort"}, "not in the working folder"),
    ],
)
def test_what_cannot_be_measured_is_said(model, options, said):
    with pytest.raises(InputError, match=said):
        measure_network(model, **options)


def test_weights_that_could_run_code_or_do_not_fit_are_refused(tmp_path):
    pickled = tmp_path / "weights.pt"
    torch.save(network((1, 8, 8), 10).state_dict(), pickled)
    with pytest.raises(InputError, match=r"\.safetensors"):
        measure_network(HERE, data="digits", weights=pickled)
    renamed = pickled.rename(tmp_path / "renamed.safetensors")
    with pytest.raises(InputError, match="not a readable safetensors"):
        measure_network(HERE, data="digits", weights=renamed)
    save_file(network((1, 8, 8), 10, width=3).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="does not hold the weights"):
        measure_network(HERE, data="digits", weights=tmp_path / "other.safetensors")


def test_a_bundle_takes_no_weights_beside_its_own(tmp_path):
    with pytest.raises(InputError, match="bundle"):
        measure_network(str(tmp_path), weights=tmp_path / "w.safetensors")


def test_a_bundle_is_measured_on_other_data_by_the_names_of_its_classes(tmp_path):
    x = np.random.default_rng(0).random((90, 4))
    names = np.array(["barbera", "barolo", "grignolino"])[np.arange(90) % 3]
    np.savez(tmp_path / "all.npz", x_train=x, y_train=names, x_test=x, y_test=names)
    two = names != "barbera"
    np.savez(tmp_path / "two.npz", x_train=x[two], y_train=names[two], x_test=x[two], y_test=names[two])
    options = DatasetOptions(name=str(tmp_path / "all.npz"))
    architecture = Architecture("mlp", {"hidden1": 6}, (4,), 3)
    torch.manual_seed(0)
    weights = architecture.build().state_dict()
    write_bundle(tmp_path / "champion", BundleContents(architecture, weights, load_dataset(options), options))
    report = measure_network(str(tmp_path / "champion"), data=str(tmp_path / "two.npz")).report
    bundle = load_bundle(tmp_path / "champion")
    answers = predict(bundle, [tmp_path / "two.npz"]).answers
    right = [answer.label == name for answer, name in zip(answers, names[two], strict=True)]
    assert report.accuracy == np.mean(right)
    np.savez(tmp_path / "other.npz", x_train=x, y_train=np.char.upper(names))
    with pytest.raises(InputError, match="class 'BARBERA' is not one of the network's 3 classes"):
        measure_network(str(tmp_path / "champion"), data=str(tmp_path / "other.npz"))


def test_a_bundle_gives_the_numbers_of_its_card(tmp_path):
    options = DatasetOptions(name="digits")
    dataset = load_dataset(options)
    architecture = Architecture("mlp", {"hidden1": 6, "hidden2": 5}, dataset.input_shape, 10)
    torch.manual_seed(0)
    contents = BundleContents(architecture, architecture.build().state_dict(), dataset, options)
    write_bundle(tmp_path / "champion", contents, formats=("safetensors",))
    card = load_bundle(tmp_path / "champion").metrics.splits
    for split in ("validation", "test"):
        report = measure_network(str(tmp_path / "champion"), split=split).report
        assert report.efficiency == pytest.approx(card[split].efficiency, abs=1e-12)
        assert report.aiq == pytest.approx(card[split].aiq, abs=1e-12)


def test_what_a_network_asks_of_a_device_is_measured_too():
    device = measure_network("mlp", data="digits", arguments=["hidden1=8"]).device
    assert device.weights == {"float32": 4 * (64 * 8 + 8 + 8 * 10 + 10), "int8": 64 * 8 + 8 * 10 + 8 * 18}
    assert device.activations == {"float32": 4 * 8, "int8": 8}
    assert device.latency.keys() == {"safetensors", "c"}
    assert 0 < device.latency["c"] < device.latency["safetensors"]


class _Twice(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.hidden, self.output = nn.Linear(64, 64), nn.Linear(64, classes)

    def forward(self, x):
        return self.output(x.flatten(1) + self.hidden(x.flatten(1)))


def with_a_skip(input_shape, classes):
    return _Twice(classes)


def test_a_network_without_a_device_format_is_measured_all_the_same():
    measured = measure_network(f"{__name__}:with_a_skip", data="digits", allow_code=["tests"])
    assert measured.device is None
    assert measured.document()["device"] is None
    assert measured.macs == 64 * 64 + 64 * 10
