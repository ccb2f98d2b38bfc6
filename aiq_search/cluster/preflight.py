"""Before the first trial: can every node of the cluster run one?"""

from __future__ import annotations

import errno
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from aiq_search.errors import AiqError, InputError
from aiq_search.memory import available_memory
from aiq_search.places import Place, StorageProbe, answer_probe, place_of
from aiq_search.user_code import NO_CODE, CodePolicy

if TYPE_CHECKING:
    from aiq_search.datasets import Dataset
    from aiq_search.space.options import ResourceOptions
from aiq_search.study import Study
from aiq_search.study.provenance import versions

__all__ = [
    "Expectations",
    "NodeFacts",
    "PreflightError",
    "TrialNeeds",
    "check_cluster",
    "check_node",
    "look_at_node",
    "wait_for_workers",
]

_log = logging.getLogger(__name__)

_PACKAGES = ("aiq-search", "torch", "ray", "numpy")

# A worker with torch and Ray imported, before it has trained anything.
_WORKER_BYTES = 500_000_000

# Besides its weights a trial keeps gradients, momentum, the best epoch and a copy being written.
_COPIES = 5

# The journal, the outbox and MLflow's database grow by less than this in one trial.
_RECORD_BYTES = 1_000_000

# How long the nodes may take to answer: the first task of a node starts a worker there.
_NODE_SECONDS = 120.0

# How long a cluster may have no node for trials: a worker whose head was started again looks for it for a
# minute before it starts again itself.
_JOIN_SECONDS = 120.0


class PreflightError(AiqError):
    """A trial could not be run; the message has one sentence for each reason."""


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
    """What a node reports about itself.

    Attributes:
        name: Its host name.
        memory: Bytes available.
        disk: Bytes free where checkpoints go; None for a store without a limit.
        trouble: Why checkpoints cannot be kept from there.
        versions: Of Python and of the packages that a trial needs.
        digest: Of the data set as the node has it; None where the driver's own copy is used.
        seen: Whether the driver sees what the node writes.
    """

    name: str
    memory: int
    disk: int | None
    trouble: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    digest: str | None = None
    seen: bool = True


@dataclass(frozen=True)
class Expectations:
    """What a node must have.

    Attributes:
        needs: What a trial takes.
        place: Where checkpoints go.
        versions: Those of the driver.
        digest: The data set's.
    """

    needs: TrialNeeds
    place: Place
    versions: Mapping[str, str]
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
    return asdict(
        NodeFacts(
            platform.node(),
            available_memory(),
            place_of(place).free_space(),
            answer_probe(place, probe, node),
            versions(_PACKAGES),
            None if dataset is None else dataset.digest_now(),
        )
    )


def check_node(facts: NodeFacts, expected: Expectations) -> list[str]:
    """What keeps a node from running a trial: a sentence each, with what to do; empty if nothing does."""
    checks = (_storage, _disk, _data, _memory, _versions)
    return [finding for check in checks for finding in check(facts, expected)]


def _storage(facts: NodeFacts, expected: Expectations) -> Iterator[str]:
    place = expected.place
    if facts.trouble is not None:
        full = any(os.strerror(number) in facts.trouble for number in (errno.ENOSPC, errno.EDQUOT))
        remedy = "free some space there" if full else place.remedy
        yield f"node {facts.name} cannot use {place} ({facts.trouble}): {remedy}."
    elif not facts.seen:
        yield f"the driver does not see what node {facts.name} writes to {place}: {place.remedy}."


def _disk(facts: NodeFacts, expected: Expectations) -> Iterator[str]:
    if facts.trouble is None and facts.disk is not None and facts.disk < expected.needs.disk:
        yield (
            f"node {facts.name} has {_size(facts.disk)} of disk space left in {expected.place}, and a trial "
            f"takes up to {_size(expected.needs.disk)}: free some, or set AIQ_HOME to a larger disk."
        )


def _data(facts: NodeFacts, expected: Expectations) -> Iterator[str]:
    if facts.digest not in (None, expected.digest):
        yield (
            f"node {facts.name} has other data (digest {str(facts.digest)[:12]}…, the driver's is "
            f"{str(expected.digest)[:12]}…): its copy is corrupt; remove the node from the cluster."
        )


def _memory(facts: NodeFacts, expected: Expectations) -> Iterator[str]:
    if 0 < facts.memory < expected.needs.memory:
        yield (
            f"node {facts.name} has {_size(facts.memory)} of memory left, and a trial takes about "
            f"{_size(expected.needs.memory)}: close other programs, or narrow the networks."
        )


def _versions(facts: NodeFacts, expected: Expectations) -> Iterator[str]:
    for package, wanted in expected.versions.items():
        installed = facts.versions.get(package, "none")
        if installed != wanted:
            yield (
                f"node {facts.name} has {package} {installed}, the driver has {wanted}: install the driver's "
                "version there."
            )


def wait_for_workers(stopped: Callable[[], bool] = lambda: False) -> None:
    """Wait until a node of the cluster has a CPU for trials, or for two minutes.

    Args:
        stopped: Asked every second whether to wait no longer.
    """
    deadline = time.monotonic() + _JOIN_SECONDS
    if not _has_cpus():
        _log.warning("The cluster has no node with a CPU for trials: waiting %.0f s for one.", _JOIN_SECONDS)
    while not _has_cpus() and not stopped() and time.monotonic() < deadline:
        time.sleep(1)


def _has_cpus() -> bool:
    return any(node["Resources"].get("CPU", 0) > 0 for node in _living())


def _living() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


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
    nodes = _living()
    if len(nodes) > 1 and not study.document.checkpoint_place:
        raise InputError(
            f"the cluster has {len(nodes)} nodes, but checkpoints would be kept on the driver's alone: give "
            "--storage (or AIQ_STORAGE) a path that every node can reach, or s3://bucket/prefix."
        )
    place = study.checkpoints
    findings = _too_small(study.space.resources, [node["Resources"] for node in nodes])
    try:
        driver, *others = _look(nodes, place, data)
    except OSError as error:
        raise PreflightError(
            f"checkpoints cannot be kept in {place} ({error.strerror or error}): {place.remedy}."
        ) from None
    expected = Expectations(TrialNeeds.of(study, dataset, code), place, driver.versions, dataset.digest)
    for facts in (driver, *others):
        findings += check_node(facts, expected)
    if findings:
        raise PreflightError("\n".join(dict.fromkeys(findings)))


def _look(nodes: Sequence[Mapping[str, Any]], place: Place, data: Any) -> list[NodeFacts]:  # noqa: ANN401
    """What the driver, and then each of several nodes, report about themselves."""
    with StorageProbe(place) as probe:
        reports = {"driver": look_at_node(str(place), probe.name, "driver")}
        if len(nodes) > 1:
            reports |= _ask_nodes(nodes, (str(place), probe.name), data)
        return [replace(NodeFacts(**report), seen=probe.sees(node_id)) for node_id, report in reports.items()]


def _ask_nodes(
    nodes: Sequence[Mapping[str, Any]],
    probe: tuple[str, str],
    data: Any,  # noqa: ANN401
) -> dict[str, dict[str, Any]]:
    """Let every node that trials may run on look at itself: its report by its id."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=0)(look_at_node)
    pending = {
        node["NodeID"]: look.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(*probe, node["NodeID"], data)
        for node in nodes
        if node["Resources"].get("CPU", 0) > 0
    }
    reports, deadline = {}, time.monotonic() + _NODE_SECONDS
    for node_id, answer in pending.items():
        try:
            reports[node_id] = ray.get(answer, timeout=max(1.0, deadline - time.monotonic()))
        except ray.exceptions.RayError as error:
            if not any(node["NodeID"] == node_id for node in _living()):
                continue  # it has left meanwhile: trials go elsewhere
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise PreflightError(
                f"a node does not answer ({reason}): check that aiq_search is installed there; `ray status` "
                "lists the nodes."
            ) from None
    return reports


def _too_small(resources: ResourceOptions, nodes: list[Mapping[str, float]]) -> list[str]:
    if not any(node.get("CPU", 0) > 0 for node in nodes):
        return ["the cluster has no node with a CPU for trials: add a worker; `ray status` lists the nodes."]
    for name, needed in (("CPU", float(resources.cpu)), ("GPU", float(resources.gpu))):
        largest = max((node.get(name, 0.0) for node in nodes), default=0.0)
        if needed > largest:
            return [
                f"a trial takes {needed:g} {name} (resources.{name.lower()}), but the largest node has "
                f"{largest:g}: lower it, or add a larger node."
            ]
    return []


def _size(number: int) -> str:
    """Bytes as a person reads them.

    >>> _size(1_500_000_000), _size(200)
    ('1.5 GB', '0.0 MB')
    """
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"
