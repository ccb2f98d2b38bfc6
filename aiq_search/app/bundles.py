"""Bundles: a study's network exported, one from MLflow taken home, and what can be done with either.

``python -m aiq_search.app.bundles DIRECTORY`` writes the best network so far of the study in DIRECTORY.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiq_search.app.card_numbers import configuration_of, reference_of
from aiq_search.app.look import find_any
from aiq_search.app.prepare import StudyData
from aiq_search.datasets import Dataset
from aiq_search.errors import AiqError, InputError, StudyError, first_line
from aiq_search.export import (
    BundleContents,
    Predictions,
    Verification,
    copy_bundle,
    load_bundle,
    predict,
    verify_bundle,
    write_bundle,
)
from aiq_search.export.contents import MAX_DROP
from aiq_search.export.files import check_output
from aiq_search.export.writing import check_formats
from aiq_search.places import Place
from aiq_search.redaction import redact
from aiq_search.study import Champion, Phase, Study, TrialRecord, TrialState
from aiq_search.tracking import check_tracking_uri, default_tracking_uri
from aiq_search.tracking.best import FOLDER as BEST
from aiq_search.training import load_weights
from aiq_search.training.measures import Measures
from aiq_search.user_code import CodePolicy

if TYPE_CHECKING:
    from aiq_search.tracking.reading import RemoteStudy

__all__ = [
    "Export",
    "export_registered",
    "export_remote",
    "export_study",
    "predict_files",
    "take_home",
    "verify_directory",
    "write_best",
]

# A bundle is measured by torch on the CPU, and matches a trial that was measured the same way. The compiled
# engine and a GPU round differently, so a neuron that is almost 0 may change its state. Wrong weights are off
# by far more.
COMPILED_TOLERANCE, GPU_TOLERANCE = 1e-3, 5e-3
_MEASURED = ("aiq", "accuracy", "efficiency", "loss")


@dataclass(frozen=True)
class Export:
    """A bundle that was written and verified.

    Attributes:
        directory: The bundle.
        verification: What was verified.
        study: Id of the study; None for a registered model.
        record: The training whose network it is, where the study is on this machine.
        champion: The configuration that it belongs to, where the study's champion was exported.
        notes: Sentences for whoever asked for it.
    """

    directory: Path
    verification: Verification
    study: str | None = None
    record: TrialRecord | None = None
    champion: Champion | None = None
    notes: tuple[str, ...] = ()


def take_home(
    name: str,
    output: Path,
    *,
    trial: int | None = None,
    formats: Sequence[str] = (),
    max_drop: float = MAX_DROP,
    force: bool = False,
    data_dir: Path | None = None,
    tracking_uri: str | None = None,
    with_data: bool = True,
    allow_code: Sequence[str] = (),
    home: Path | None = None,
) -> Export:
    """Write a bundle: of a study on this machine, or the one that MLflow has of a study or model.

    Args:
        name: A study's id, a space's name for its newest study, or ``models:/name@alias``.
        output: The directory to write; must not exist.
        trial: Number of an exploring trial, in place of the champion; for a study on this machine.
        formats: Of ``FORMATS``, by default all that can be written; for a study on this machine.
        max_drop: Accuracy on the test split that the network may lose in eight bits.
        force: Replace an existing bundle.
        data_dir: Folder of the data files; by default the study's.
        tracking_uri: MLflow's store.
        with_data: Whether to verify what needs the data, for a bundle from MLflow.
        allow_code: Packages whose code may be imported, besides modules of the working folder.
        home: AIQ_HOME.

    Raises:
        InputError: No such study, model or trial, its weights were not kept, or something is at ``output``.
        NothingFeasibleError: The study has no champion.
        BundleError: The bundle is damaged, unsafe, or not what its card says.
    """
    code = CodePolicy.for_running(allow_code)
    checks: dict[str, Any] = {"force": force, "data_dir": data_dir, "with_data": with_data, "code": code}
    chosen = trial is not None or bool(formats)
    if name.startswith("models:/"):
        if chosen:
            raise InputError(
                f"{name} is a finished bundle: --trial and --format only apply to a study; leave them out."
            )
        return export_registered(name, output, tracking_uri=tracking_uri, **checks)
    study = find_any(name, tracking_uri, home)
    if not isinstance(study, Study):
        if chosen:
            raise InputError(
                f"study {study.id} is not on this machine, and MLflow only has its champion's bundle: leave "
                "out --trial and --format, or use them where the study's folder is."
            )
        return export_remote(study, output, **checks)
    data = StudyData(study, data_dir, code=code)
    return export_study(
        study, output, trial=trial, formats=formats, max_drop=max_drop, force=force, data=data
    )


# ---- from a study on this machine -------------------------------------------------------------------------


def export_study(
    study: Study,
    output: Path,
    *,
    data: StudyData | None = None,
    trial: int | None = None,
    formats: Sequence[str] = (),
    max_drop: float = MAX_DROP,
    force: bool = False,
) -> Export:
    """Write the champion of a study, or one of its trials, as a bundle, and verify it.

    Args:
        study: The study.
        output: The directory to write; must not exist.
        data: The study's data; by default loaded from the study's folder of data files.
        trial: Number of an exploring trial, in place of the champion.
        formats: Of ``FORMATS``; by default all that can be written.
        max_drop: Accuracy on the test split that the network may lose in eight bits.
        force: Replace an existing bundle.

    Returns:
        What was exported and verified.

    Raises:
        InputError: No such trial, its weights were not kept, or something is at ``output``.
        NothingFeasibleError: The study has no champion.
        BundleError: What was written is not what the search found.
    """
    notes = []
    check_formats(formats or None)
    check_output(output, force=force)
    champion = study.champion() if trial is None else None
    record = champion.record if champion else study.record(Phase.EXPLORE, trial or 0)
    weights = _weights_path(study, record)
    contents = _contents(study, record, champion, weights, data or StudyData(study))
    verification = write_bundle(output, contents, formats=formats or None, max_drop=max_drop, force=force)
    notes.append(f"{record.name} of study {study.id}")
    if champion is not None and record.key.phase is Phase.CONFIRM:
        notes.append("It is the best of the champion's seeds: on new data expect the mean.")
    return Export(output, verification, study.id, record, champion, tuple(notes))


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


def _contents(
    study: Study, record: TrialRecord, champion: Champion | None, weights: Place, data: StudyData
) -> BundleContents:
    document, dataset = study.document, data.load()
    configuration, seeds = configuration_of(study, record, champion)
    return BundleContents(
        architecture=study.architecture(record.params, data.code),
        weights=load_weights(weights)[0],
        dataset=dataset,
        dataset_options=study.space.dataset,
        beta=document.beta,
        capture=document.capture,
        measures=Measures(study.space.objective.accuracy, study.space.objective.measures),
        expected=_expected(record),
        **_rounding(study, record, dataset),
        configuration=configuration,
        seeds=seeds,
        reference=None if champion is None else reference_of(study),
        source={
            "study": study.id,
            "space": study.space.name,
            "trial": record.name,
            "epoch": record.epoch,
            "seed": record.seed,
            "engine": record.engine,
            "parameters": dict(record.params),
            "fingerprint": document.fingerprint,
            "git_commit": document.provenance.git_commit,
            "versions": {**document.provenance.versions},
        },
    )


def _rounding(study: Study, record: TrialRecord, dataset: Dataset) -> dict[str, Any]:
    """How far a trial's numbers may be from torch's on the CPU, and what measured them if not that."""
    if study.space.resources.gpu > 0:
        least, by = GPU_TOLERANCE, "on a GPU"
    elif record.engine != "torch":
        least, by = COMPILED_TOLERANCE, f"by the {record.engine or 'unknown'} engine"
    else:
        return {}
    samples = min(len(dataset.validation), len(dataset.test))
    # If one sample changes its class and its state: 1 of n right answers, and log2(n) / n bits of entropy.
    return {"tolerance": max(least, (1 + math.log2(samples)) / samples), "measured": by}


def _expected(record: TrialRecord) -> dict[str, dict[str, float]]:
    """What the search measured for this network; a collapsed one's numbers are measured, not scored."""
    prefixes = {"validation": "", "test": "test/"}
    return {
        split: {name: record.metrics[prefix + name] for name in _MEASURED if prefix + name in record.metrics}
        for split, prefix in prefixes.items()
    }


# ---- from MLflow ------------------------------------------------------------------------------------------


def export_registered(
    uri: str,
    output: Path,
    *,
    tracking_uri: str | None = None,
    **checks: Any,  # noqa: ANN401
) -> Export:
    """Download the bundle of a registered model, and verify it before it takes its place.

    Args:
        uri: ``models:/name@alias`` or ``models:/name/version``.
        output: The directory to write; must not exist.
        tracking_uri: MLflow's store; by default ``MLFLOW_TRACKING_URI``, or ``./mlflow.db``.
        checks: Options of ``export.copy_bundle``.

    Raises:
        InputError: There is no such model, it has no bundle, or something is at ``output``.
        BundleError: The bundle is damaged, unsafe, or not what its card says.
    """
    from aiq_search.tracking.registered import download_registered

    store = check_tracking_uri(tracking_uri or default_tracking_uri())
    return Export(output, _downloaded(lambda to: download_registered(uri, store, to), output, **checks))


def export_remote(study: RemoteStudy, output: Path, **checks: Any) -> Export:  # noqa: ANN401
    """Download the bundle of a study's run, and verify it before it takes its place.

    Args:
        study: The study.
        output: The directory to write; must not exist.
        checks: Options of ``export.copy_bundle``.

    Raises:
        InputError: There is no bundle, or something is at ``output``.
        BundleError: The bundle is damaged, unsafe, or not what its card says.
    """

    def download(folder: Path) -> Path:
        from mlflow.exceptions import MlflowException

        try:
            return study.artifact("bundle", folder)
        except (MlflowException, OSError) as error:
            reason = redact(first_line(error))[:200]
            raise InputError(
                f"study {study.id} is in MLflow without a bundle ({reason}): it is put there when the search "
                "ends. Export the study where its folder is: aiq export STUDY."
            ) from None

    return Export(output, _downloaded(download, output, **checks), study.id)


def _downloaded(download: Callable[[Path], Path], output: Path, **checks: Any) -> Verification:  # noqa: ANN401
    with tempfile.TemporaryDirectory() as folder:
        return copy_bundle(download(Path(folder)), output, **checks)


# ---- with a bundle ----------------------------------------------------------------------------------------


def predict_files(directory: Path, inputs: Sequence[Path], *, allow_code: Sequence[str] = ()) -> Predictions:
    """Classify files with a bundle; see ``export.predict``."""
    return predict(load_bundle(directory, CodePolicy.for_running(allow_code)), inputs)


def verify_directory(
    directory: Path, *, data_dir: Path | None = None, with_data: bool = True, allow_code: Sequence[str] = ()
) -> Verification:
    """Verify a bundle; see ``export.verify_bundle``."""
    code = CodePolicy.for_running(allow_code)
    return verify_bundle(directory, data_dir=data_dir, with_data=with_data, code=code)


def write_best(directory: Path) -> Path:
    """Write a light bundle (weights and cards, no graphs) of the best network so far, in place of the last.

    The delivery process has it written during a search: one that dies has left its best network in MLflow.

    Args:
        directory: Folder of the study.

    Raises:
        AiqError: There is no champion yet, or its weights or data are gone.
    """
    study = Study.open(directory.name, directory.absolute().parent.parent)
    bundle = directory / BEST / "bundle"
    bundle.parent.mkdir(exist_ok=True)
    data = StudyData(study, code=CodePolicy.for_running())  # what the search may, its processes may
    export_study(study, bundle, data=data, formats=("safetensors",), force=True)
    return bundle


def main(arguments: Sequence[str]) -> int:
    """Write the best network so far; an error is one line."""
    os.nice(19)  # the search goes first, and Ray's workers have niceness 15
    try:
        write_best(Path(arguments[0]))
    except AiqError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
