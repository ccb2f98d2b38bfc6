"""Taking the champion of a study home: the study's network, data and numbers become a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from aiq_search.datasets import Dataset, load_dataset
from aiq_search.errors import StudyError
from aiq_search.export import BundleContents, SeedMetrics, SpreadDocument, Verification, write_bundle
from aiq_search.export.files import check_output
from aiq_search.export.writing import check_formats
from aiq_search.files import Place
from aiq_search.study import Champion, Phase, Spread, Study, TrialRecord, TrialState
from aiq_search.study.home import aiq_home
from aiq_search.training import load_weights

__all__ = ["ExportResult", "export_study"]

# A GPU rounds otherwise than the CPU that measures here; wrong weights are off by far more.
GPU_TOLERANCE = 5e-3
_MEASURED = ("aiq", "accuracy", "efficiency", "loss")


@dataclass(frozen=True)
class ExportResult:
    """What was exported.

    Attributes:
        study: Id of the study.
        record: The training whose network it is.
        directory: The bundle.
        verification: What was verified of it.
    """

    study: str
    record: TrialRecord
    directory: Path
    verification: Verification


def export_study(
    name: str,
    output: Path,
    *,
    trial: int | None = None,
    formats: Sequence[str] | None = None,
    force: bool = False,
    data_dir: Path | None = None,
    home: Path | None = None,
) -> ExportResult:
    """Write the champion of a study, or one of its trials, as a bundle, and verify it.

    Args:
        name: A study's id, or a space's name for its newest study.
        output: The directory to write; must not exist.
        trial: Number of an exploring trial, in place of the champion.
        formats: Of ``FORMATS``; by default all that can be written, see ``export.write_bundle``.
        force: Replace a bundle that is there.
        data_dir: Folder of the data files; by default the study's.
        home: AIQ_HOME.

    Returns:
        What was exported and verified.

    Raises:
        InputError: No such study or trial, its weights were not kept, something is at ``output``.
        NothingFeasibleError: The study has no champion.
        BundleError: What was written is not what the search found.
    """
    check_formats(formats)
    check_output(output, force=force)
    study = Study.find(home or aiq_home(), name)
    champion = None
    if trial is None:
        champion = study.champion()
        record = champion.record
    else:
        record = study.record(Phase.EXPLORE, trial)
    weights = _weights_path(study, record)
    dataset = _load_dataset(study, data_dir)
    contents = replace(
        _contents(study, record, weights, dataset), **_of_configuration(study, champion, record)
    )
    verification = write_bundle(output, contents, formats=formats, force=force)
    return ExportResult(study.id, record, output, verification)


def _weights_path(study: Study, record: TrialRecord) -> Place:
    if record.state is not TrialState.COMPLETE:
        raise StudyError(
            f"{record.name} of study {study.id} is {record.state}: only a complete trial can be exported; "
            f"`aiq trials {study.id}` lists them."
        )
    key = record.key
    if record.copied_from is not None:  # the same configuration and seed, trained once
        key = replace(key, phase=Phase.EXPLORE, number=record.copied_from)
    path = study.weights_path(key)
    if not path.is_file():
        raise StudyError(
            f"the weights of {record.name} of study {study.id} were not kept: a study keeps those of its "
            f"best trials and of its confirmations. `aiq best {study.id}` names one that was kept."
        )
    return path


def _load_dataset(study: Study, data_dir: Path | None) -> Dataset:
    dataset = load_dataset(study.space.dataset, data_dir or study.data_dir)
    expected = study.document["dataset"]["digest"]
    if dataset.digest != expected:
        raise StudyError(
            f"study {study.id} was run on other data: expected {dataset.name} with digest {expected[:12]}…, "
            f"but found {dataset.digest[:12]}…; restore the data."
        )
    return dataset


def _contents(study: Study, record: TrialRecord, weights: Place, dataset: Dataset) -> BundleContents:
    on_gpu = study.space.resources.gpu > 0
    return BundleContents(
        architecture=study.architecture(record.params),
        weights=load_weights(weights)[0],
        dataset=dataset,
        dataset_options=study.space.dataset,
        beta=study.document["beta"],
        capture=study.document["capture"],
        expected=_expected(record),
        tolerance=GPU_TOLERANCE if on_gpu else BundleContents.tolerance,
        source={
            "study": study.id,
            "space": study.space.name,
            "trial": record.name,
            "epoch": record.epoch,
            "seed": record.seed,
            "parameters": dict(record.params),
            "fingerprint": study.document["fingerprint"],
            "git_commit": study.document.get("git_commit"),
            "versions": study.document.get("versions"),
        },
    )


def _expected(record: TrialRecord) -> dict[str, dict[str, float]]:
    """What the search measured for this network; a collapsed one's numbers are measured, not scored."""
    metrics = record.metrics
    validation = {name: metrics[name] for name in _MEASURED if name in metrics}
    test = {name: metrics[f"test/{name}"] for name in _MEASURED if f"test/{name}" in metrics}
    return {"validation": validation, "test": test}


def _of_configuration(study: Study, champion: Champion | None, record: TrialRecord) -> dict[str, Any]:
    """Spread and seeds of the configuration that a network belongs to."""
    if champion is None:
        return {"seeds": (_seed(record, record),)}
    records = [record]
    if champion.phase is Phase.CONFIRM:
        records = [r for r in study.records(Phase.CONFIRM) if r.origin == champion.trial and r.finished]
    spreads = {"validation": champion.validation, "test": champion.test}
    return {
        "configuration": {
            split: {name: _spread(spread) for name, spread in numbers.items()}
            for split, numbers in spreads.items()
        },
        "seeds": tuple(_seed(each, record) for each in records),
    }


def _spread(spread: Spread) -> SpreadDocument:
    return SpreadDocument(**{**asdict(spread), "sd": spread.sd if spread.n > 1 else None})


def _seed(record: TrialRecord, exported: TrialRecord) -> SeedMetrics:
    return SeedMetrics(
        name=record.name,
        seed=record.seed,
        exported=record.key == exported.key,
        collapsed=record.collapsed,
        metrics=dict(record.metrics),
    )
