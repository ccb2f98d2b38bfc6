"""Before the first trial: can every node do one? Each finding is one sentence and what to do."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiq_search.errors import AiqError

if TYPE_CHECKING:
    from aiq_search.datasets import Dataset
    from aiq_search.search import Study
    from aiq_search.space.schema import ResourceOptions

__all__ = [
    "NodeFacts",
    "PreflightError",
    "TrialNeeds",
    "available_memory",
    "check_cluster",
    "check_node",
    "look_at_node",
    "mlflow_trouble",
]

_PACKAGES = ("aiq-search", "torch", "ray", "numpy")

# A worker with torch and Ray imported, before it has trained anything.
_WORKER_BYTES = 500_000_000

# Beside its weights a trial keeps gradients, momentum, the best epoch and a copy being written.
_COPIES = 5

# The journal, the outbox and MLflow's database grow by less than this in one trial.
_RECORD_BYTES = 1_000_000

# How long the nodes may take to look at themselves: the first task of a node starts a worker there.
_NODE_SECONDS = 120.0


class PreflightError(AiqError):
    """A trial could not be run; the message has one sentence a reason."""


@dataclass(frozen=True)
class TrialNeeds:
    """What one trial takes.

    Attributes:
        memory: Bytes.
        disk: Bytes.
    """

    memory: int
    disk: int

    @classmethod
    def of(cls, study: Study, dataset: Dataset) -> TrialNeeds:
        """What the widest network of a study's space takes."""
        import torch

        from aiq_search.space.check import corner

        with torch.device("meta"):
            widest = study.architecture(corner(study.space, widest=True)).build()
        weights = sum(t.numel() * t.element_size() for t in widest.state_dict().values())
        splits = (dataset.train, dataset.validation, dataset.test)
        data = sum(split.inputs.nbytes + split.labels.nbytes for split in splits)
        return cls(_WORKER_BYTES + data + _COPIES * weights, _COPIES * weights + _RECORD_BYTES)


@dataclass(frozen=True)
class NodeFacts:
    """What a node says of itself.

    Attributes:
        name: Its host name.
        memory: Bytes available.
        disk: Bytes free where the study is.
        trouble: Why the study's folder cannot be used there.
        versions: Of Python and of the packages that a trial needs.
    """

    name: str
    memory: int
    disk: int
    trouble: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


def look_at_node(directory: str, study: str) -> dict[str, Any]:
    """Try the study's folder, and measure; runs on each node. The fields of ``NodeFacts``."""
    folder = Path(directory)
    trouble = None
    probe = folder / "checkpoints" / f".probe-{platform.node()}-{os.getpid()}"
    try:
        if json.loads((folder / "study.json").read_text(encoding="utf-8"))["study"] != study:
            trouble = "another study lies there"
        probe.write_bytes(b"aiq")
    except (OSError, ValueError, KeyError) as error:
        trouble = str(error)
    finally:
        if probe.exists():
            probe.unlink()
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    disk = shutil.disk_usage(folder).free if folder.is_dir() else 0
    return asdict(NodeFacts(platform.node(), available_memory(), disk, trouble, versions))


def available_memory(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes that a new process may take, as the kernel reckons."""
    for line in meminfo.read_text(encoding="ascii").splitlines():
        name, _, amount = line.partition(":")
        if name == "MemAvailable":
            return int(amount.split()[0]) * 1024
    return 0


def check_node(facts: NodeFacts, needs: TrialNeeds, here: Mapping[str, str], directory: Path) -> list[str]:
    """What keeps a node from running a trial; empty if nothing does.

    Args:
        facts: What it says of itself.
        needs: What a trial takes.
        here: The driver's versions.
        directory: The study's folder.
    """
    found = []
    if facts.trouble is not None:
        found.append(
            f"node {facts.name} cannot write to {directory} ({facts.trouble}): set AIQ_HOME to a folder that "
            "every node reaches under this path."
        )
    elif facts.disk < needs.disk:
        found.append(
            f"node {facts.name} has {_size(facts.disk)} of disk left in {directory}, and a trial takes up to "
            f"{_size(needs.disk)}: free some, or set AIQ_HOME to a larger disk."
        )
    if 0 < facts.memory < needs.memory:
        found.append(
            f"node {facts.name} has {_size(facts.memory)} of memory left, and a trial takes about "
            f"{_size(needs.memory)}: end other programs, or narrow the networks."
        )
    for package, wanted in here.items():
        given = facts.versions.get(package, "none")
        if given != wanted:
            found.append(
                f"node {facts.name} has {package} {given}, the driver has {wanted}: install that one there."
            )
    return found


def check_cluster(study: Study, dataset: Dataset) -> None:
    """Check every node of the cluster that is connected.

    Raises:
        PreflightError: A trial could not be run.
    """
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    directory = study.directory.resolve()
    found = _too_small(study.space.resources, [node["Resources"] for node in nodes])
    here = look_at_node(str(directory), study.id)
    facts = [here] if len(nodes) == 1 else _ask_nodes(nodes, str(directory), study.id)
    needs = TrialNeeds.of(study, dataset)
    for each in facts:
        found += check_node(NodeFacts(**each), needs, here["versions"], directory)
    if found:
        raise PreflightError("\n".join(found))


def _ask_nodes(nodes: list[dict[str, Any]], directory: str, study: str) -> list[dict[str, Any]]:
    """Every node that trials may run on looks at itself."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=0)(look_at_node)
    asked = {
        node["NodeID"]: look.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(directory, study)
        for node in nodes
        if node["Resources"].get("CPU", 0) > 0
    }
    facts, deadline = [], time.monotonic() + _NODE_SECONDS
    for node_id, answer in asked.items():
        try:
            facts.append(ray.get(answer, timeout=max(1.0, deadline - time.monotonic())))
        except ray.exceptions.RayError as error:
            if not any(node["Alive"] and node["NodeID"] == node_id for node in ray.nodes()):
                continue  # it has left meanwhile: trials go elsewhere
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise PreflightError(
                f"a node does not answer ({reason}): is aiq_search installed there? `ray status` lists the "
                "nodes."
            ) from None
    return facts


def _too_small(resources: ResourceOptions, nodes: list[Mapping[str, float]]) -> list[str]:
    for name, needed in (("CPU", float(resources.cpu)), ("GPU", float(resources.gpu))):
        largest = max((node.get(name, 0.0) for node in nodes), default=0.0)
        if needed > largest:
            return [
                f"a trial takes {needed:g} {name} (resources.{name.lower()}), but the largest node has "
                f"{largest:g}: lower it, or add a larger node."
            ]
    return []


def mlflow_trouble(uri: str) -> str | None:
    """Why MLflow cannot take runs now, in one sentence; None if it can, as far as can be seen from here.

    No reason to stop: events wait in the study's outbox.
    """
    from aiq_search.tracking import redact

    if uri.startswith(("http://", "https://")):
        try:
            with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5):  # noqa: S310 - http(s) only
                return None
        except urllib.error.HTTPError as error:
            said = f"answers {error.code}"
        except (OSError, ValueError) as error:
            said = f"does not answer ({redact(str(getattr(error, 'reason', error)))})"
        return f"MLflow at {redact(uri)} {said}: start it, or correct --tracking-uri; until then events wait."
    if uri.startswith("sqlite:///"):
        folder = Path(uri.removeprefix("sqlite:///").partition("?")[0]).absolute().parent
        if not os.access(folder, os.W_OK):
            return f"MLflow's store {redact(uri)} cannot be written: give a --tracking-uri that can."
    return None


def _size(number: int) -> str:
    """Bytes as a person reads them.

    >>> _size(1_500_000_000), _size(200)
    ('1.5 GB', '0.0 MB')
    """
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"
