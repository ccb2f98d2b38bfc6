"""How a study looks in MLflow: names, tags, metrics and descriptions, as pure functions.

Experiment = space. Parent run = study. Child run = trial; a confirmation lies under the trial whose
configuration it repeats. MLflow shows the last logged value of a metric, and the numbers of a trial are
those of its chosen epoch: where that is not the last one, they are logged once more at the last step.
"""

from __future__ import annotations

import getpass
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiq_search.redaction import redact
from aiq_search.study.description import command_line, question, widths
from aiq_search.study.document import StudyDocument
from aiq_search.study.events import (
    EpochEnded,
    Phase,
    RungReached,
    StudyEnded,
    TrialEnded,
    TrialKey,
    TrialStarted,
    TrialState,
)
from aiq_search.study.metrics import COSTS, HEADLINE, ONCE, SIZES, UNTRAINED
from aiq_search.tracking.study_facts import DIGITS, reference_line, reference_numbers
from aiq_search.training.measures import INT8_ACCURACY

__all__ = [
    "ENDS",
    "RUNG",
    "STATUS",
    "VIEW",
    "Point",
    "best_points",
    "champion_points",
    "child_name",
    "child_tags",
    "comparison_points",
    "dataset_profile",
    "ended_points",
    "ended_tags",
    "epoch_points",
    "experiment_description",
    "experiment_tags",
    "others",
    "outcome",
    "parent_tags",
    "rung_points",
    "study_description",
    "study_ended_tags",
    "text",
]

STATUS = {
    TrialState.RUNNING: "RUNNING",
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAIL: "FAILED",
}
ENDS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}  # of the study's run
RUNG = "rung_"  # begins the names of metrics at rungs
VIEW = "aiq"  # name of the view of the experiment's table
_MOST_FINALISTS = 8  # that are named in the description of a run
LONGEST_TAG = 4000  # characters; MLflow takes 8000, older servers 5000


@dataclass(frozen=True)
class Point:
    """One value of one metric; ``timestamp`` in milliseconds since 1970."""

    name: str
    value: float
    timestamp: int
    step: int


def text(value: object, longest: int = LONGEST_TAG) -> str:
    """Write a value as MLflow gets it: without credentials, and not too long."""
    written = redact(value if isinstance(value, str) else repr(value))
    return written if len(written) <= longest else "…" + written[-longest + 1 :]


def milliseconds(time: float) -> int:
    """Unix seconds as MLflow's milliseconds."""
    return round(time * 1000)


def child_name(document: StudyDocument, started: TrialStarted) -> str:
    """Name of a trial's run: its number, then its widths (``trial-0042 4-2-8``)."""
    return f"{started.name} {widths(document.space, started.params)}".strip()


def study_tags(document: StudyDocument) -> dict[str, str]:
    """Tags that parent and children share: where a number comes from."""
    known = {
        "aiq.study": document.study,
        "aiq.beta": document.beta,
        "aiq.observations": document.dataset.validation,
        "aiq.capture": str(document.capture),
        "aiq.version": document.provenance.versions.get("aiq-search"),
        "mlflow.source.name": "aiq search",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
        "mlflow.source.git.commit": document.provenance.git_commit,
    }
    return {name: text(value) for name, value in known.items() if value is not None}


def _user() -> str | None:
    """Who runs this, for MLflow's column "created by"; a container may know no name."""
    with suppress(KeyError, OSError):
        return getpass.getuser()
    return None


def parent_tags(document: StudyDocument) -> dict[str, str]:
    """Tags of the run that stands for the whole study."""
    return study_tags(document) | {
        "aiq.space": document.space.name,
        "aiq.seed": str(document.seed),
        "aiq.fingerprint": document.fingerprint,
        "aiq.command": text(command_line(document)),
        "aiq.trial_key": document.study,
        "mlflow.note.content": text(study_description(document)),
    }


def child_tags(document: StudyDocument, started: TrialStarted, parent: str) -> dict[str, str]:
    """Tags of a trial's run; ``parent`` is the id of the run that it lies under.

    A confirmation's ``aiq.trial`` is the number of the trial that it repeats, so that one filter finds
    a configuration with all its seeds.
    """
    key = started.key
    number = key.number if started.origin is None else started.origin
    return study_tags(document) | {
        "mlflow.parentRunId": parent,
        "aiq.study": key.study,
        "aiq.phase": str(key.phase),
        "aiq.trial": str(number),
        "aiq.trial_key": str(key),
        "aiq.state": str(TrialState.RUNNING),
        "aiq.seed": str(started.seed),
        "aiq.config_hash": started.config_hash,
        **({} if started.replicate is None else {"aiq.replicate": str(started.replicate)}),
        **({} if started.retry_of is None else {"aiq.retry_of": str(started.retry_of)}),
    }


def parent_key(started: TrialStarted) -> str:
    """Owner of the run that a trial's run lies under."""
    if started.key.phase is Phase.CONFIRM and started.origin is not None:
        return str(TrialKey(started.key.study, Phase.EXPLORE, started.origin))
    return started.key.study


def epoch_points(event: EpochEnded) -> list[Point]:
    """Metrics of one epoch; the step is the epoch."""
    return _points(event.metrics, milliseconds(event.time), event.epoch)


def rung_points(event: RungReached) -> list[Point]:
    """What a trial showed at a rung, as metrics of their own; the step is the samples learnt from."""
    metrics = {f"{RUNG}{name}": value for name, value in event.metrics.items()}
    return _points(metrics, milliseconds(event.time), event.samples)


def ended_points(event: TrialEnded, epochs: Sequence[EpochEnded]) -> list[Point]:
    """Metrics that a trial's end adds to those of its epochs.

    Numbers that a trial has once stand at step 0. Those of the chosen epoch are repeated at the last
    step, later than all others, unless they are the last ones already.

    Args:
        event: The end.
        epochs: Every epoch of the trial, so that the repetition is later than each whatever the clock did.
    """
    last = max((milliseconds(e.time) for e in epochs), default=0)
    now = max(milliseconds(event.time), last + 1)
    once = {k: v for k, v in event.metrics.items() if k.startswith(ONCE)}
    chosen = {k: v for k, v in event.metrics.items() if k not in once}
    newest = max(epochs, key=lambda e: e.epoch, default=None)
    if newest is not None and newest.epoch == event.epoch:
        chosen = {k: v for k, v in chosen.items() if newest.metrics.get(k) != v}
    step = max(event.epochs, newest.epoch if newest else 0)
    return _points(once, now, 0) + _points(chosen, now, step)


def best_points(event: TrialEnded, ended: int) -> list[Point]:
    """Numbers of a new best trial, for the study's run; the step is how many trials had ended."""
    shown = {name: value for name, value in event.metrics.items() if name in (*HEADLINE, *UNTRAINED)}
    return _points(shown, milliseconds(event.time), ended)


def champion_points(champion: Mapping[str, Any], time: float, step: int) -> list[Point]:
    """Numbers of the champion as ``aiq best --format json`` gives them: means over its seeds."""
    metrics = champion.get("metrics") or {}
    numbers = {
        prefix + name: spread["mean"]
        for split, prefix in (("validation", ""), ("test", "test/"))
        for name, spread in (metrics.get(split) or {}).items()
        if name in (*HEADLINE, *COSTS, INT8_ACCURACY)
    }
    numbers = {name: round(value, DIGITS) for name, value in numbers.items()}
    numbers |= {k: champion[k] for k in SIZES if isinstance(champion.get(k), int | float)}
    return _points(numbers, milliseconds(time), step)


def comparison_points(comparison: Mapping[str, Any], time: float, step: int) -> list[Point]:
    """Numbers of the reference network that were measured on the champion's seeds, for the study's run."""
    return _points(reference_numbers(comparison), milliseconds(time), step)


def dataset_profile(document: StudyDocument) -> str:
    """Sizes of a data set as the JSON that MLflow shows with it."""
    profile = document.dataset.model_dump(
        mode="json", include={"train", "validation", "test", "input_shape", "classes", "class_counts"}
    )
    return json.dumps(profile | {"label_noise": document.space.dataset.label_noise})


def ended_tags(event: TrialEnded) -> dict[str, str]:
    """Tags that a trial's end adds."""
    tags = {"aiq.state": str(event.state)}
    reason = event.reason or ("collapsed: a layer has zero entropy" if event.collapsed else None)
    if reason is None and event.state is TrialState.PRUNED:
        reason = f"stopped early by the pruner after {event.epochs} epochs"
    if reason:
        tags["aiq.reason"] = text(reason)
    if event.epoch is not None:
        tags["aiq.epoch"] = str(event.epoch)
    if event.collapsed:
        tags["aiq.collapsed"] = "true"
    if event.engine is not None:
        tags["aiq.engine"] = event.engine
    if event.engine_reason is not None:
        tags["aiq.engine_reason"] = text(event.engine_reason)
    if event.feasible is not None:
        tags["aiq.feasible"] = str(event.feasible).lower()
    if event.traceback:
        tags["mlflow.note.content"] = (
            f"**{event.state}** {text(reason or '', 500)}\n\n```\n{text(event.traceback)}\n```"
        )
    return tags


def study_ended_tags(ended: StudyEnded, document: StudyDocument) -> dict[str, str]:
    """Tags that a study's end adds to its run."""
    tags = {
        "aiq.state": ended.reason,
        "aiq.counts": _counts(ended.counts),
        "aiq.finalists": " ".join(map(str, ended.finalists)),
        "aiq.champion": _confirmed_champion(ended),
        "aiq.reference": reference_line(document, ended.comparison),
    }
    if ended.message:
        tags["aiq.reason"] = text(ended.message)
    if ended.champion or ended.verdicts:
        decision = outcome(document, ended.champion) if ended.champion else ""
        if tags["aiq.reference"]:
            decision += f"{tags['aiq.reference']}.\n\n"
        note = decision + others(document, ended.verdicts) + study_description(document)
        tags["mlflow.note.content"] = text(note)
    return tags


def _confirmed_champion(ended: StudyEnded) -> str:
    """The champion's trial; empty where nothing was confirmed."""
    champion = ended.champion or {}
    return str(champion["trial"]) if champion.get("phase") == Phase.CONFIRM else ""


def _counts(counts: Mapping[str, int]) -> str:
    """Counts by state in one line.

    >>> _counts({"COMPLETE": 21, "PRUNED": 45, "FAIL": 0})
    '21 COMPLETE, 45 PRUNED'
    """
    return ", ".join(f"{n} {state}" for state, n in counts.items() if n)


def _points(metrics: Mapping[str, float], timestamp: int, step: int) -> list[Point]:
    """Metrics as points. Infinity and NaN are left out: MLflow would draw 1.8e308; the reason says them."""
    return [Point(k, float(v), timestamp, step) for k, v in metrics.items() if math.isfinite(v)]


def experiment_tags(document: StudyDocument) -> dict[str, str]:
    """Tags of the experiment.

    It is one of model training, not of GenAI, and has a view of its table in which the columns that
    matter are shown (MLflow hides all metrics at first); ``aiq ui`` opens it.
    """
    columns = [f"metrics.`{name}`" for name in (*HEADLINE, "parameters", "test/aiq", "test/accuracy")]
    columns += ["tags.`aiq.state`", "tags.`aiq.counts`"]
    return {
        f"mlflow.sharedViewState.{VIEW}": json.dumps({"selectedColumns": columns}),
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.note.content": experiment_description(document),
        "aiq.space": document.space.name,
    }


def experiment_description(document: StudyDocument) -> str:
    """Markdown above the table of runs: what is searched, and how to read it."""
    return "\n".join(
        [
            f"**Search space `{document.space.name}`**: which network uses its neurons best? "
            f"{question(document)}",
            "",
            "Each study is one run; open it (+) for its trials, and a trial for its confirmations on fresh "
            "seeds. `aiq`, `accuracy`, `efficiency` and `parameters` are, on a study, those of its best "
            "network, and on a trial those of its chosen epoch (lowest validation loss).",
            "",
            "* `aiq` = (accuracy^β · efficiency)^(1/(β+1)), higher is better.",
            "* `efficiency` = entropy of the firing states / neurons, geometric mean over the hidden layers.",
            "* FINISHED trained to the end, KILLED was stopped early by the pruner or interrupted "
            "(`aiq.state` tells), FAILED has its reason in `aiq.reason`.",
        ]
    )


def outcome(document: StudyDocument, champion: Mapping[str, Any]) -> str:
    """The result in one line of Markdown; ``champion`` is the document of ``aiq best --format json``."""
    numbers = {p.name: p.value for p in champion_points(champion, 0.0, 0)}
    shown = [f"{name} {numbers[name]:.3f}" for name in HEADLINE if name in numbers]
    shown += [f"{numbers['parameters']:,.0f} parameters"] if "parameters" in numbers else []
    name = widths(document.space, champion.get("params") or {}) or "the network"
    confirmed = champion.get("phase") == Phase.CONFIRM
    n = ((champion.get("metrics") or {}).get("validation") or {}).get("aiq", {}).get("n", 1)
    seeds = "one seed" if n == 1 else f"{n} seeds"
    came = f"**{name} won** (trial" if confirmed else f"**{name} is the best so far** ({seeds} of trial"
    return (
        f"{came} {champion.get('trial')}): {', '.join(shown)}. report.html among the artifacts shows why.\n\n"
    )


def others(document: StudyDocument, verdicts: Sequence[Mapping[str, Any]]) -> str:
    """How each finalist came out, as a list in Markdown; the champion first.

    Args:
        document: The study's.
        verdicts: The documents of its verdicts.
    """
    lines = []
    for verdict in verdicts[:_MOST_FINALISTS]:
        name = widths(document.space, verdict["params"]) or "the network"
        lines.append(f"* {name} (trial {verdict['trial']}) {verdict['outcome']}: {verdict['reason']}")
    if len(verdicts) > _MOST_FINALISTS:
        lines.append(f"* and {len(verdicts) - _MOST_FINALISTS} more: `aiq best {document.study}`")
    return "\n".join(["Finalists, each trained on fresh seeds:", "", *lines, "", ""]) if lines else ""


def study_description(document: StudyDocument) -> str:
    """Markdown on the parent run."""
    parameters = document.space.document()["parameters"]
    rows = [f"| `{name}` | {_range(rule)} |" for name, rule in parameters.items()]
    study = document.study
    return "\n".join(
        [
            f"**Study `{study}`** over `{document.space.name}`. {question(document)}",
            "",
            "`aiq`, `accuracy`, `efficiency` here are the best so far (their charts show the way there), "
            "at the end the champion's. Children are the trials; a trial's own children repeat it.",
            "",
            *(["| searched | range |", "|---|---|", *rows, ""] if rows else []),
            f"Look further: `aiq best {study}`, `aiq report {study}`, "
            f"`aiq export {study} --output champion/`.",
        ]
    )


def _range(rule: Mapping[str, Any]) -> str:
    """A parameter's rule in words."""
    if "choices" in rule:
        return ", ".join(str(x) for x in rule["choices"])
    if "low" not in rule:
        return text(rule.get("value"), 200)
    return f"{rule['low']} … {rule['high']}{' (log)' if rule.get('log') else ''}"
