"""Before the first trial: can every node do one? Each finding is one sentence and what to do."""

from __future__ import annotations

import base64
import http.client
import os
import platform
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiq_search.app.shared_storage import StorageProbe, answer_probe, free_space, remedy
from aiq_search.errors import AiqError, InputError
from aiq_search.files import Place, place_of
from aiq_search.user_code import NO_CODE, CodePolicy

if TYPE_CHECKING:
    from aiq_search.datasets import Dataset
    from aiq_search.space.schema import ResourceOptions
    from aiq_search.study import Study

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
    def of(cls, study: Study, dataset: Dataset, code: CodePolicy = NO_CODE) -> TrialNeeds:
        """What the widest network of a study's space takes."""
        from aiq_search.search.check import corner, network

        params = corner(study.space, widest=True)
        widest = network(study.space, params, dataset.input_shape, len(dataset.classes), code)
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
        disk: Bytes free where checkpoints go; None where that is a store without a limit.
        trouble: Why checkpoints cannot be kept from there.
        versions: Of Python and of the packages that a trial needs.
        digest: Of the data set as the node holds it; None where the driver's own copy is used.
    """

    name: str
    memory: int
    disk: int | None
    trouble: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    digest: str | None = None


def look_at_node(place: str, probe: str, node: str, dataset: Dataset | None = None) -> dict[str, Any]:
    """Try the storage, and measure; runs on each node.

    Args:
        place: Where checkpoints go.
        probe: Name of the driver's ``StorageProbe`` there.
        node: The node's id.
        dataset: The data as trials on this node will have them.

    Returns:
        The fields of ``NodeFacts``.
    """
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return asdict(
        NodeFacts(
            platform.node(),
            available_memory(),
            free_space(place_of(place)),
            answer_probe(place, probe, node),
            versions,
            None if dataset is None else dataset.digest_now(),
        )
    )


def available_memory(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes that a new process may take, as the kernel reckons."""
    for line in meminfo.read_text(encoding="ascii").splitlines():
        name, _, amount = line.partition(":")
        if name == "MemAvailable":
            return int(amount.split()[0]) * 1024
    return 0


def check_node(
    facts: NodeFacts, needs: TrialNeeds, here: Mapping[str, str], place: Place, digest: str | None = None
) -> list[str]:
    """What keeps a node from running a trial; empty if nothing does.

    Args:
        facts: What it says of itself.
        needs: What a trial takes.
        here: The driver's versions.
        place: Where checkpoints go.
        digest: The data set's.
    """
    found = []
    if facts.trouble is not None:
        found.append(f"node {facts.name} cannot use {place} ({facts.trouble}): {remedy(place)}.")
    elif facts.disk is not None and facts.disk < needs.disk:
        found.append(
            f"node {facts.name} has {_size(facts.disk)} of disk left in {place}, and a trial takes up to "
            f"{_size(needs.disk)}: free some, or set AIQ_HOME to a larger disk."
        )
    if facts.digest not in (None, digest):
        found.append(
            f"node {facts.name} holds other data (digest {str(facts.digest)[:12]}…, the driver's is "
            f"{str(digest)[:12]}…): its memory or its numpy is at fault; take it out of the cluster."
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


def check_cluster(
    study: Study,
    dataset: Dataset,
    data: Any = None,  # noqa: ANN401
    code: CodePolicy = NO_CODE,
) -> None:
    """Check every node of the cluster that is connected.

    Args:
        study: The study.
        dataset: Its data.
        data: Reference to them in Ray's object store; each node of several fetches and checks its copy.
        code: Which code the study may name.

    Raises:
        InputError: There are several nodes, and no storage that they share was named.
        PreflightError: A trial could not be run.
    """
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) > 1 and not study.document.checkpoint_place:
        raise InputError(
            f"the cluster has {len(nodes)} nodes, and checkpoints would lie on the driver's alone: give "
            "--storage (or AIQ_STORAGE) a path that every node reaches, or s3://bucket/prefix."
        )
    place = study.checkpoints
    found = _too_small(study.space.resources, [node["Resources"] for node in nodes])
    try:
        with StorageProbe(place) as probe:
            here = look_at_node(str(place), probe.name, "driver")
            facts = {"driver": here}
            if len(nodes) > 1:
                facts |= _ask_nodes(nodes, (str(place), probe.name), data)
            unseen = [
                each["name"] for node, each in facts.items() if not (each["trouble"] or probe.sees(node))
            ]
    except OSError as error:
        raise PreflightError(
            f"checkpoints cannot be kept in {place} ({error.strerror or error}): {remedy(place)}."
        ) from None
    needs = TrialNeeds.of(study, dataset, code)
    for each in facts.values():
        found += check_node(NodeFacts(**each), needs, here["versions"], place, dataset.digest)
    found += [
        f"the driver does not see what node {name} writes to {place}: {remedy(place)}." for name in unseen
    ]
    if found:
        raise PreflightError("\n".join(dict.fromkeys(found)))


def _ask_nodes(
    nodes: list[dict[str, Any]],
    probe: tuple[str, str],
    data: Any,  # noqa: ANN401
) -> dict[str, dict[str, Any]]:
    """Every node that trials may run on looks at itself: its facts by its id."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=0)(look_at_node)
    asked = {
        node["NodeID"]: look.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(*probe, node["NodeID"], data)
        for node in nodes
        if node["Resources"].get("CPU", 0) > 0
    }
    facts, deadline = {}, time.monotonic() + _NODE_SECONDS
    for node_id, answer in asked.items():
        try:
            facts[node_id] = ray.get(answer, timeout=max(1.0, deadline - time.monotonic()))
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
    from aiq_search.redaction import redact

    if uri.startswith(("http://", "https://")):
        try:
            with urllib.request.urlopen(_health(uri), timeout=5):  # noqa: S310 - http(s) only
                return None
        except urllib.error.HTTPError as error:
            said = f"answers {error.code}"
        except (OSError, ValueError, http.client.HTTPException) as error:
            said = f"does not answer ({redact(str(getattr(error, 'reason', error)))})"
        return f"MLflow at {redact(uri)} {said}: start it, or correct --tracking-uri; until then events wait."
    if uri.startswith("sqlite:///"):
        folder = Path(uri.removeprefix("sqlite:///").partition("?")[0]).absolute().parent
        if not os.access(folder, os.W_OK):
            return f"MLflow's store {redact(uri)} cannot be written: give a --tracking-uri that can."
    return None


def _health(uri: str) -> urllib.request.Request:
    """The question whether a server is well; user and password of its address go where HTTP wants them.

    >>> request = _health("https://ada:lovelace@mlflow.example.org/")
    >>> request.full_url, request.get_header("Authorization")
    ('https://mlflow.example.org/health', 'Basic YWRhOmxvdmVsYWNl')
    """
    parts = urllib.parse.urlsplit(uri.rstrip("/"))
    userinfo, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(parts._replace(netloc=host, path=f"{parts.path}/health").geturl())  # noqa: S310
    if userinfo:
        plain = urllib.parse.unquote(userinfo).encode()
        request.add_header("Authorization", f"Basic {base64.b64encode(plain).decode()}")
    return request


def _size(number: int) -> str:
    """Bytes as a person reads them.

    >>> _size(1_500_000_000), _size(200)
    ('1.5 GB', '0.0 MB')
    """
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"
