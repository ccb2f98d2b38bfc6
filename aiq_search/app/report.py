"""The report of a study, with what only its networks can show; and of several, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aiq_search.app.look import find_any
from aiq_search.app.prepare import StudyData
from aiq_search.errors import AiqError, InputError, StudyError
from aiq_search.study import Champion, Phase, Study, TrialState
from aiq_search.user_code import NO_CODE, CodePolicy, is_reference

if TYPE_CHECKING:
    from aiq_search.report.figures import NetworkView
    from aiq_search.report.samples import DataSamples
    from aiq_search.tracking.reading import RemoteStudy

__all__ = ["compare_studies", "report_study", "search_findings", "view_champion", "view_data"]

# How many of a layer's most frequent states are shown.
_STATES = 12

# What was measured of the champion's network, among the study's artifacts.
_VIEW = "champion-network.json"

# What is shown of its data, likewise.
_SAMPLES = "data-samples.json"


def report_study(
    name: str,
    output: Path | None = None,
    *,
    data_dir: Path | None = None,
    tracking_uri: str | None = None,
    allow_code: Sequence[str] = (),
    home: Path | None = None,
) -> tuple[Path, str | None]:
    """Write the report of a study, and keep it with the study's run in MLflow unless the study is running.

    Args:
        name: See ``find_any``.
        output: File to write; by default ``report.html`` among the study's artifacts.
        data_dir: Folder of the data files; by default the study's.
        tracking_uri: MLflow's store; by default the study's.
        allow_code: Packages whose code the study may name. Without any, a network of the user's own is not
            built, and the figures that need it are left out.
        home: AIQ_HOME.

    Returns:
        The file, and why MLflow does not have it (None if it does).

    Raises:
        InputError: There is no such study.
    """
    from aiq_search.app.publish import keep_report
    from aiq_search.report.page import write_report
    from aiq_search.tracking import MlflowListener, reconcile

    study = find_any(name, tracking_uri, home)
    if not isinstance(study, Study):
        return _report_remote(study, output), None
    data = StudyData(study, data_dir, code=CodePolicy(packages=tuple(allow_code)))
    view, samples = view_champion(study, data), view_data(study, data)
    findings = search_findings(study, view, data.code)
    if output is not None or study.is_running:
        path = output or study.directory / "artifacts" / "report.html"
        write_report(study, path, view, findings, samples=samples)
        if study.is_running:
            return path, "the study is running; it is added at the end"
    listener = MlflowListener(study.directory, study.tracking_uri(tracking_uri))
    try:
        reconcile(study, listener)
        kept = keep_report(study, listener, view, findings, samples)
    finally:
        left = listener.close(60)
    return output or kept, str(left) if left else None


def compare_studies(
    names: Sequence[str],
    output: Path | None = None,
    *,
    tracking_uri: str | None = None,
    home: Path | None = None,
) -> Path:
    """Write the report that shows several studies side by side.

    Args:
        names: Each as ``find_any`` takes it.
        output: File to write; by default ``comparison.html`` in the working folder.
        tracking_uri: MLflow's store, for studies that this machine lacks.
        home: AIQ_HOME.

    Returns:
        The file.

    Raises:
        StudyError: A study does not exist, is named twice, or has no complete trial yet.
    """
    from aiq_search.report.page import write_comparison

    studies = [find_any(name, tracking_uri, home) for name in names]
    for number, study in enumerate(studies):
        if study.id in [earlier.id for earlier in studies[:number]]:
            raise StudyError(
                f"expected different studies, but study {study.id} is named twice; leave one out."
            )
        if not any(r.state is TrialState.COMPLETE and r.metrics for r in study.records(Phase.EXPLORE)):
            raise StudyError(
                f"study {study.id} has no complete trial yet, so there is nothing to compare; leave it out, "
                "or wait for its first."
            )
    return write_comparison(studies, output or Path("comparison.html"))


def _report_remote(study: RemoteStudy, output: Path | None) -> Path:
    """The report of a study's run in MLflow; drawn from the runs where there is none yet."""
    from mlflow.exceptions import MlflowException

    from aiq_search.report.page import write_report

    path = output or Path(f"{study.id}-report.html")
    if not study.is_running:
        with suppress(MlflowException, OSError):
            content = study.artifact("report.html").read_bytes()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            return path
    unchecked = "Ranges, pruner and constraints are only checked on the machine that has the study's folder."
    return write_report(study, path, findings=[unchecked])


def view_champion(study: Study, data: StudyData) -> NetworkView | None:
    """What only the champion's network can show, on the validation split.

    It is measured once, with torch, and kept among the study's artifacts.

    Returns:
        None where there is no champion, or its weights or the data are gone.
    """
    from pydantic import TypeAdapter, ValidationError

    from aiq_search.report.figures import NetworkView

    document = TypeAdapter(NetworkView)
    path = study.directory / "artifacts" / _VIEW
    with suppress(AiqError, OSError):
        champion = study.champion()
        with suppress(OSError, ValidationError):
            view = document.validate_json(path.read_bytes())
            if view.trial == str(champion.record.key):
                return view
        view = _measured(study, champion, data)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(document.dump_json(view))
        return view
    return None


def view_data(study: Study, data: StudyData) -> DataSamples | None:
    """A few samples of the data, taken once and kept among the study's artifacts.

    Returns:
        None where the data are gone, or of a shape that a page does not show.
    """
    from pydantic import TypeAdapter, ValidationError

    from aiq_search.report.samples import DataSamples, samples_of

    document = TypeAdapter(DataSamples)
    path = study.directory / "artifacts" / _SAMPLES
    with suppress(OSError, ValidationError):
        samples = document.validate_json(path.read_bytes())
        if samples.digest == study.document.dataset.digest:
            return samples
    with suppress(AiqError, OSError):
        found = samples_of(data.load())
        if found is not None:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(document.dump_json(found))
        return found
    return None


def search_findings(study: Study, view: NetworkView | None, code: CodePolicy = NO_CODE) -> list[str]:
    """What ``aiq doctor`` finds about the search, for whoever reads the report."""
    from aiq_search.app.doctor.search import check_search

    findings = []
    name = study.space.model.name
    if view is None and is_reference(name) and not code.allows(name):
        package = name.partition(":")[0].partition(".")[0]
        findings.append(
            f"What only networks can show is left out: {name} is code of your own, which is not run here; "
            f"aiq report {study.id} --allow-code {package} does."
        )
    with suppress(AiqError):
        checked = check_search(study, study.records())
        findings += [f"{each.what} {each.remedy}".strip() for each in checked]
    return findings


def _measured(study: Study, champion: Champion, data: StudyData) -> NetworkView:
    import numpy as np
    import torch

    from aiq_search.export.device.browser import demonstration
    from aiq_search.report.figures import NetworkView
    from aiq_search.report.figures.neurons import neurons_of
    from aiq_search.statespace import StateCapture
    from aiq_search.training import load_weights
    from aiq_search.training.evaluation import BATCH_SIZE, TensorSplit

    dataset = data.load()
    model = study.architecture(champion.record.params, data.code).build()
    model.load_state_dict(load_weights(study.weights_path(champion.record.key))[0])
    model.eval()
    split = TensorSplit.of(dataset.validation, dataset.normalization, torch.device("cpu"))
    confusion = np.zeros((len(dataset.classes), len(dataset.classes)), dtype=int)
    keywords = study.document.capture.fitting(model).keywords()
    with torch.inference_mode(), StateCapture(model, **keywords) as captured:
        for raw, labels in zip(
            torch.split(split.inputs, BATCH_SIZE), torch.split(split.labels, BATCH_SIZE), strict=True
        ):
            predicted = model(split.normalised(raw)).argmax(1)
            np.add.at(confusion, (labels.numpy(), predicted.numpy()), 1)
        layers = captured.compute()
    states, neurons = {}, {}
    for name, layer in layers.items():
        neurons[name] = neurons_of(layer)
        order = np.argsort(-layer.counts)[:_STATES]
        rows, total = layer.states[order], layer.observations
        states[name] = [
            (
                [bool(row[i // 64] >> np.uint64(i % 64) & np.uint64(1)) for i in range(layer.neurons)],
                n / total,
            )
            for row, n in zip(rows, layer.counts[order].tolist(), strict=True)
        ]
    shown = None
    with suppress(InputError):  # no sequence of known layers, or too large for a page
        shown = demonstration(model, dataset)
    return NetworkView(str(champion.record.key), confusion.tolist(), states, neurons, shown)
