"""The model registry: a study's champion as ``models:/aiq-<space>@champion``.

Registered is the graph with its preprocessing inside: raw inputs go in, probabilities come out, and neither
this package nor the network's code is needed to load it. Only the delivery process imports this module:
mlflow and torch take seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import torch
from mlflow.entities import RunStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient
from torch import Tensor, nn

from aiq_search.study.description import question
from aiq_search.study.document import StudyDocument
from aiq_search.study.progress import ranking
from aiq_search.tracking.client import first_line
from aiq_search.tracking.layout import champion_points, outcome, text
from aiq_search.tracking.letters import ChampionExported

__all__ = ["ALIAS", "Probabilities", "model_name", "register_champion"]

ALIAS = "champion"
EXAMPLES = 2  # with one, torch fixes the batch to one sample
SUMS = "SHA256SUMS"  # identifies a bundle


class Probabilities(nn.Module):
    """The one tensor that MLflow serves, of the graph's several outputs.

    Args:
        graph: From raw inputs (N, …) to a mapping with ``probabilities`` (N, classes).
    """

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        # As a child, a loaded graph cannot be exported again (torch 2.15 loses its inner modules' names):
        # it is kept out of sight of torch, and its tensors are ours.
        self._graph = (graph,)
        self._names = {name: name.replace(".", "_") for name in graph.state_dict()}
        for name, tensor in graph.state_dict().items():
            self.register_buffer(self._names[name], tensor.clone())

    def forward(self, inputs: Tensor) -> Tensor:
        """Probabilities, (N, classes), of raw inputs."""
        tensors = {name: getattr(self, ours) for name, ours in self._names.items()}
        outputs: Mapping[str, Tensor] = torch.func.functional_call(self._graph[0], tensors, (inputs,))
        return outputs["probabilities"]


def model_name(space: str) -> str:
    """Name of a space's registered model.

    >>> model_name("lenet-5-mnist")
    'aiq-lenet-5-mnist'
    """
    return f"aiq-{space}"


def register_champion(uri: str, run_id: str, document: StudyDocument, event: ChampionExported) -> str:
    """Register a champion, and give it the alias if it is the best of its kind.

    Registering the same bundle again changes nothing.

    Args:
        uri: The store.
        run_id: The study's run.
        document: study.json.
        event: Where the bundle is, and its numbers.

    Returns:
        A sentence that says what became of it; also where it cannot be registered for good.

    Raises:
        MlflowException: MLflow does not answer; another attempt may succeed.
    """
    client = MlflowClient(tracking_uri=uri)
    name = model_name(document.space.name)
    bundle = Path(event.folder) / "bundle"
    if not (bundle / "model.pt2").is_file():
        return f"The champion is not registered: {bundle.name}/model.pt2 is missing."
    facts = _facts(document, event, bundle)
    try:
        made = _version_of(client, name, facts["aiq.bundle"]) or _register(client, uri, run_id, name, bundle)
    except Exception as error:  # the network's own code may raise anything
        client.get_run(run_id)  # raises if MLflow is gone: then this was not the last word
        return f"The champion is not registered: {first_line(error)}"
    note = outcome(document, event.champion) + question(document)
    client.update_model_version(name, made.version, text(note))
    for key, value in facts.items():
        client.set_model_version_tag(name, made.version, key, text(value))
    client.update_registered_model(name, _about(document, name))
    return _crown(client, name, made, facts)


def _facts(document: StudyDocument, event: ChampionExported, bundle: Path) -> dict[str, str]:
    """Tags of a version: what it is, and what it may be compared with."""
    ranked, _ = ranking(document.space.objective)
    spreads = event.champion["metrics"]["validation"]
    numbers = {p.name: f"{p.value:.6g}" for p in champion_points(event.champion, 0.0, 0)}
    return {
        "aiq.study": event.study,
        "aiq.trial": str(event.champion.get("trial")),
        "aiq.phase": str(event.champion.get("phase")),
        "aiq.data": document.dataset.name,
        "aiq.digest": document.dataset.digest,  # over every split
        "aiq.objective": f"{ranked}, beta {document.beta:g}",
        "aiq.score": repr(float(spreads["objective"]["mean"])),  # larger is better
        "aiq.bundle": hashlib.sha256((bundle / SUMS).read_bytes()).hexdigest(),
        **numbers,
    }


def _version_of(client: MlflowClient, name: str, digest: str) -> ModelVersion | None:
    """The version that was made of a bundle before."""
    found = client.search_model_versions(f"name = '{name}'")
    return next((each for each in found if each.tags.get("aiq.bundle") == digest), None)


def _register(client: MlflowClient, uri: str, run_id: str, name: str, bundle: Path) -> ModelVersion:
    """Log the graph as a model of the study's run, as a new version."""
    # Our own file, from the study's folder; nothing that came from elsewhere gets here.
    graph = torch.export.load(bundle / "model.pt2").module()
    with np.load(bundle / "example_input.npz", allow_pickle=False) as arrays:
        inputs = arrays["inputs"]
    example = np.resize(inputs, (max(EXAMPLES, len(inputs)), *inputs.shape[1:]))[:EXAMPLES]
    before = client.get_run(run_id).info
    mlflow.set_tracking_uri(uri)
    mlflow.start_run(run_id=run_id, log_system_metrics=False)
    try:
        logged = mlflow.pytorch.log_model(
            Probabilities(graph),
            name="champion",
            registered_model_name=name,
            input_example=example,
            pip_requirements=[f"{package}=={version(package)}" for package in ("mlflow", "torch", "numpy")],
            serialization_format="pt2",
        )
    finally:
        mlflow.end_run(before.status)
        if RunStatus.is_terminated(RunStatus.from_string(before.status)):
            client.set_terminated(run_id, before.status, before.end_time)  # ended when it ended, not now
    return client.get_model_version(name, str(logged.registered_model_version))


def _about(document: StudyDocument, name: str) -> str:
    """Markdown on the registered model."""
    uri = f"models:/{name}@{ALIAS}"
    return "\n".join(
        [
            f"The best network that the search space `{name.removeprefix('aiq-')}` has brought: "
            f"{question(document)}",
            "",
            "It takes raw inputs, as they lie in the data set's files (the preprocessing is inside), and "
            f"returns the probability of each class. The alias `{ALIAS}` moves only to a network that is "
            "better on the same data and the same split.",
            "",
            "```",
            f"mlflow models serve -m {uri} --env-manager local",
            f"aiq export {uri} --output {ALIAS}/",
            "```",
        ]
    )


def _crown(client: MlflowClient, name: str, made: ModelVersion, facts: Mapping[str, str]) -> str:
    """Move the alias to a version if nothing speaks against it, and say what was done and why."""
    where = f"models:/{name}@{ALIAS}"
    held = client.get_registered_model(name).aliases.get(ALIAS)
    holder = None if held is None else client.get_model_version(name, str(held))
    if holder is not None and holder.version == made.version:
        return f"The champion is registered as {where} (version {made.version})."
    verdict = _compare(facts, holder)
    if verdict is None:
        client.set_registered_model_alias(name, ALIAS, made.version)
        return f"The champion is registered as {where} (version {made.version})."
    better, why = verdict
    if better:
        client.set_registered_model_alias(name, ALIAS, made.version)
        return f"The champion is registered as {where}, now version {made.version}: {why}."
    return (
        f"The champion is registered as models:/{name}/{made.version}; {where} stays version "
        f"{holder.version if holder else '?'}: {why}."
    )


def _plain(tag: str) -> str:
    """A tag with its number as this version writes it: another version may have written beta 2 as 2.0.

    >>> _plain("aiq, beta 2.0"), _plain("digits")
    ('aiq, beta 2', 'digits')
    """
    head, beta, number = tag.rpartition(", beta ")
    try:
        return f"{head}{beta}{float(number):g}" if beta else tag
    except ValueError:
        return tag


def _compare(facts: Mapping[str, str], holder: ModelVersion | None) -> tuple[bool, str] | None:
    """Whether a champion beats the one who holds the alias, and why; None where nobody holds it."""
    if holder is None:
        return None
    for key, what in (("aiq.digest", "other data or another split"), ("aiq.objective", "another objective")):
        if _plain(holder.tags.get(key, "")) != _plain(facts[key]):
            return False, f"it was judged by {what}, so the two cannot be compared"
    ours, theirs = float(facts["aiq.score"]), float(holder.tags.get("aiq.score", "-inf"))
    ranked = facts["aiq.objective"].partition(",")[0]
    numbers = f"{abs(ours):.4f} against {abs(theirs):.4f} of study {holder.tags.get('aiq.study')}"
    return ours > theirs, f"its {ranked} is {'better' if ours > theirs else 'not better'} ({numbers})"
