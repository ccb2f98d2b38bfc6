"""A worker by itself: no Ray, no driver."""

from __future__ import annotations

import errno
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.export.documents import PreprocessingDocument
from aiq_search.export.onnx_file import load_onnx
from aiq_search.lowering.planning import plan_network
from aiq_search.lowering.quantization import quantised_onnx
from aiq_search.models import Architecture
from aiq_search.training import TrainingOptions, load_weights
from aiq_search.worker import Assignment, Report
from aiq_search.worker.worker import TrialWorker


@pytest.fixture(scope="module")
def dataset():
    return load_dataset(DatasetOptions(name="digits", validation=360, test=360))


def assignment(folder, *, model="mlp", arguments=None, epochs=3, **more):
    architecture = Architecture(model, arguments or {"hidden1": 8, "hidden2": 4}, (1, 8, 8), 10)
    return Assignment(
        key="study/explore/0",
        architecture=architecture.document(),
        training=TrainingOptions(epochs=epochs, batch_size=100).model_dump(mode="json"),
        seed=7,
        beta=2.0,
        test=True,
        checkpoint=str(folder / "trial.unfinished.safetensors"),
        weights=str(folder / "trial.safetensors"),
        **more,
    )


def reports_of(worker, task):
    worker.begin(task)
    reports = [worker.step()]
    while not reports[-1].done:
        reports.append(worker.step())
    return reports


def test_a_trial_is_reported_epoch_by_epoch_and_its_weights_are_kept(dataset, tmp_path):
    reports = reports_of(TrialWorker(dataset), assignment(tmp_path))
    assert [[epoch for epoch, _ in report.epochs] for report in reports] == [[1], [2], [3]]
    assert [report.done for report in reports] == [False, False, True]
    assert set(reports[-1].final) == {"test/aiq", "test/accuracy", "test/efficiency"}
    weights, document = load_weights(tmp_path / "trial.safetensors")
    assert document["epoch"] == reports[-1].chosen
    assert sum(tensor.numel() for tensor in weights.values()) == reports[-1].size["parameters"]


def test_a_network_is_measured_in_eight_bits_as_export_quantises_it(dataset, tmp_path):
    task = assignment(tmp_path, int8=True)
    final = reports_of(TrialWorker(dataset), task)[-1].final
    network = Architecture.from_document(task.architecture).build().eval()
    network.load_state_dict(load_weights(tmp_path / "trial.safetensors")[0])
    plan = plan_network(network, PreprocessingDocument.of(dataset))
    run = load_onnx(quantised_onnx(plan, dataset.train.inputs))
    for name, split in (("int8/accuracy", dataset.validation), ("test/int8/accuracy", dataset.test)):
        assert final[name] == (run(split.inputs)["logits"].argmax(1) == split.labels).mean()


def test_a_network_without_a_single_weight_is_measured_in_eight_bits_too(dataset, tmp_path):
    task = assignment(tmp_path, int8=True, epochs=1)
    training = {**task.training, "learning_rate": 1e-12, "weight_decay": 0.0}
    worker = TrialWorker(dataset)
    worker.begin(replace(task, training=training))
    with torch.no_grad():
        worker._resume()
        for weight in worker._run.model.parameters():
            weight.zero_()
    final = worker.step()
    assert final.reason is None
    assert 0 < final.final["int8/accuracy"] < 0.2


def test_the_ceiling_of_a_hidden_layer_is_reported_where_it_is_below_1(dataset, tmp_path):
    [*_, last] = reports_of(
        TrialWorker(dataset), assignment(tmp_path, arguments={"hidden1": 32, "hidden2": 4})
    )
    ceilings = {name: value for name, value in last.size.items() if name.startswith("ceiling/")}
    assert ceilings == {"ceiling/hidden1": math.log2(360) / 32}
    assert last.epochs[0][1]["efficiency/hidden1"] <= ceilings["ceiling/hidden1"]


def test_what_a_sample_costs_is_measured_once_and_changes_no_training(dataset, tmp_path):
    worker, asked = TrialWorker(dataset), assignment(tmp_path, costs=("activation_bytes", "latency_ms"))
    without, reports = reports_of(worker, assignment(tmp_path)), reports_of(worker, asked)
    assert [report.epochs for report in reports] == [report.epochs for report in without]
    costs = {name: reports[-1].size[name] for name in reports[-1].size.keys() - without[-1].size.keys()}
    assert all(report.size == reports[-1].size for report in reports)
    assert costs.keys() == {"activation_bytes", "latency_ms", "latency_ms_iqr"}
    assert costs["activation_bytes"] == 4 * (8 + 4)
    assert 0 < costs["latency_ms"] < 1000
    assert Report.from_json(reports[0].to_json()) == reports[0]


def test_a_network_without_such_a_cost_fails_with_the_reason(dataset, tmp_path):
    arguments = {"depth": 2, "residual": True}
    task = assignment(tmp_path, model="cnn", arguments=arguments, costs=("activation_bytes",))
    (report,) = reports_of(TrialWorker(dataset), task)
    assert "is a Residual, for which there is no device format" in report.reason
    assert report.traceback is None


def test_the_next_assignment_starts_from_nothing(dataset, tmp_path):
    worker = TrialWorker(dataset)
    assert reports_of(worker, assignment(tmp_path)) == reports_of(worker, assignment(tmp_path))


def test_what_was_put_aside_is_continued_by_another_worker_as_if_nothing_had_happened(dataset, tmp_path):
    whole = reports_of(TrialWorker(dataset), assignment(tmp_path))
    first = TrialWorker(dataset)
    first.begin(assignment(tmp_path))
    first.step()
    first.put_aside()
    continued = reports_of(TrialWorker(dataset), assignment(tmp_path))
    assert [[epoch for epoch, _ in report.epochs] for report in continued] == [[1, 2], [3]]
    assert [each for report in continued for each in report.epochs] == [
        each for report in whole for each in report.epochs
    ]
    assert continued[-1].final == whole[-1].final


def test_rungs_within_the_first_epoch_are_reported_and_change_nothing(dataset, tmp_path):
    whole = reports_of(TrialWorker(dataset), assignment(tmp_path))
    with_rungs = reports_of(TrialWorker(dataset), assignment(tmp_path, rungs=(0.25, 0.5)))
    batches = math.ceil(len(dataset.train) / 100)
    assert [(r.rung.share, r.rung.samples) for r in with_rungs[:2]] == [
        (share, 100 * round(share * batches)) for share in (0.25, 0.5)
    ]
    assert all(r.rung.metrics.keys() == whole[0].epochs[0][1].keys() for r in with_rungs[:2])
    assert [(r.epochs, r.chosen, r.done) for r in with_rungs[:2]] == [((), None, False)] * 2
    assert with_rungs[2:] == whole
    assert [Report.from_json(r.to_json()) for r in with_rungs] == with_rungs


@pytest.mark.parametrize("reported", [1, 2, 3])
def test_a_trial_put_aside_within_its_first_epoch_continues_at_its_last_rung(dataset, tmp_path, reported):
    task = assignment(tmp_path, rungs=(0.25, 0.5))
    whole = reports_of(TrialWorker(dataset), task)
    first = TrialWorker(dataset)
    first.begin(task)
    for _ in range(reported):
        first.step()
    first.put_aside()
    # The last rung is reported once more: the driver may have died before it decided.
    continued = reports_of(TrialWorker(dataset), task)
    if reported < 3:
        assert continued == whole[reported - 1 :]
    else:
        assert continued[0].epochs == whole[2].epochs + whole[3].epochs
        assert continued[1:] == whole[4:]


def test_before_the_first_epoch_there_is_nothing_to_put_aside(dataset, tmp_path):
    worker = TrialWorker(dataset)
    worker.begin(assignment(tmp_path))
    worker.put_aside()
    assert list(tmp_path.iterdir()) == []


def test_a_trial_that_takes_too_long_fails_between_its_epochs(dataset, tmp_path):
    [report] = reports_of(TrialWorker(dataset), assignment(tmp_path, minutes=1e-6))
    assert report.reason == "took longer than search.trial_minutes = 1e-06"
    assert len(report.epochs) == 1


def raising(input_shape, classes, error):
    """A user's model that cannot be built."""
    raise {
        "bug": ValueError("the user's model has a bug\nand a second line"),
        "file": FileNotFoundError(errno.ENOENT, "No such file", "weights.pt"),
        "full": OSError(errno.ENOSPC, "No space left on device"),
        "memory": MemoryError(),
    }[error]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("bug", "ValueError: the user's model has a bug"),
        ("file", "FileNotFoundError: [Errno 2] No such file: 'weights.pt'"),
        ("memory", "out of memory: MemoryError: ; a smaller batch or network takes less"),
    ],
)
def test_an_error_of_the_user_s_code_is_a_failed_trial_and_the_worker_lives_on(
    dataset, tmp_path, monkeypatch, error, reason
):
    monkeypatch.chdir(Path(__file__).parents[2])
    worker = TrialWorker(dataset)
    task = assignment(tmp_path, model="tests.worker.test_worker:raising", arguments={"error": error})
    [report] = reports_of(worker, task)
    assert report.reason == reason
    assert "raising" in report.traceback
    assert reports_of(worker, assignment(tmp_path))[-1].reason is None


def test_a_full_disk_is_no_fault_of_the_trial_s(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    worker = TrialWorker(dataset)
    with pytest.raises(OSError, match="No space left on device"):
        reports_of(
            worker,
            assignment(tmp_path, model="tests.worker.test_worker:raising", arguments={"error": "full"}),
        )


def test_a_trial_without_a_gpu_trains_on_the_cpu_even_where_one_is_in_sight(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert reports_of(TrialWorker(dataset, gpu=0), assignment(tmp_path))[-1].reason is None
