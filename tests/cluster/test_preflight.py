"""Preflight: one sentence a failure, with what to do about it."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

from aiq_search.cluster import preflight
from aiq_search.cluster.preflight import (
    Expectations,
    NodeFacts,
    PreflightError,
    TrialNeeds,
    check_cluster,
    check_node,
    look_at_node,
    wait_for_workers,
)
from aiq_search.errors import InputError
from aiq_search.places import LocalPath, StorageProbe, answer_probe
from aiq_search.search.runners.ray_watch import why_pending
from aiq_search.space.options import ResourceOptions
from tests.search.simulation import new_study

HERE = {"python": "3.11.7", "torch": "2.15.0"}
GOOD = NodeFacts("ada", memory=8_000_000_000, disk=50_000_000_000, versions=HERE)
EXPECTED = Expectations(
    TrialNeeds(memory=1_000_000_000, disk=10_000_000), LocalPath("studies/a"), HERE, "a" * 64
)


def test_a_node_that_has_everything_passes():
    assert check_node(GOOD, EXPECTED) == []


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"memory": 100_000_000}, "node ada has 100.0 MB of memory left, and a trial takes about 1.0 GB"),
        (
            {"disk": 1_000_000},
            "node ada has 1.0 MB of disk space left in studies/a, and a trial takes up to 10.0 MB",
        ),
        (
            {"trouble": "Permission denied"},
            "node ada cannot use studies/a (Permission denied): mount the file system",
        ),
        (
            {"trouble": "No space left on device"},
            "node ada cannot use studies/a (No space left on device): free some space there",
        ),
        (
            {"digest": "b" * 64},
            "node ada has other data (digest bbbbbbbbbbbb…, the driver's is aaaaaaaaaaaa…",
        ),
        ({"seen": False}, "the driver does not see what node ada writes to studies/a: mount the file system"),
        ({"versions": {**HERE, "torch": "2.14.0"}}, "node ada has torch 2.14.0, the driver has 2.15.0"),
        ({"versions": {"python": "3.11.7"}}, "node ada has torch none"),
    ],
)
def test_each_failure_is_one_sentence_with_what_to_do(wrong, expected):
    [found] = check_node(dataclasses.replace(GOOD, **wrong), EXPECTED)
    assert found.startswith(expected)
    assert ": " in found
    assert found.endswith(".")
    assert "\n" not in found


def test_a_node_tries_the_studys_folder_and_leaves_nothing_there(tmp_path):
    study = new_study(tmp_path)
    with StorageProbe(study.checkpoints) as probe:
        facts = NodeFacts(**look_at_node(str(study.checkpoints), probe.name, "ada"))
        assert probe.sees("ada")
        assert not probe.sees("grace")
    assert facts.trouble is None
    assert facts.disk > 0
    assert facts.memory > 0
    assert "torch" in facts.versions
    assert list(study.checkpoints.iterdir()) == []


def test_a_node_that_sees_another_folder_says_so(tmp_path):
    study = new_study(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with StorageProbe(study.checkpoints) as probe:
        assert "the driver's file is not there" in answer_probe(str(elsewhere), probe.name, "ada")
        assert "the driver's file is not there" in answer_probe(str(tmp_path / "no"), probe.name, "ada")
        assert not probe.sees("ada")


def test_several_nodes_need_storage_that_they_share(tmp_path, monkeypatch):
    import ray

    nodes = [{"Alive": True, "Resources": {"CPU": 2}, "NodeID": name} for name in "ab"]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    with pytest.raises(InputError) as refused:
        check_cluster(new_study(tmp_path), dataset())
    assert str(refused.value).startswith(
        "the cluster has 2 nodes, but checkpoints would be kept on the driver's"
    )
    assert "\n" not in str(refused.value)


def cluster(monkeypatch, **resources):
    import ray

    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": resources, "NodeID": "a"}])


def dataset():
    import numpy as np

    from aiq_search.datasets.dataset import Split

    split = Split(np.zeros((4, 1, 8, 8), np.uint8), np.zeros(4, np.int64))
    return SimpleNamespace(
        train=split,
        validation=split,
        test=split,
        digest="a" * 64,
        input_shape=(1, 8, 8),
        classes=tuple("0123456789"),
    )


def test_a_cluster_that_can_run_a_trial_passes(tmp_path, monkeypatch):
    cluster(monkeypatch, CPU=2)
    check_cluster(new_study(tmp_path), dataset())


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"cpu": 4}, "a trial takes 4 CPU (resources.cpu), but the largest node has 2: lower it"),
        ({"gpu": 0.5}, "a trial takes 0.5 GPU (resources.gpu), but the largest node has 0: lower it"),
    ],
)
def test_a_trial_too_large_for_every_node_is_refused_before_it_waits_for_ever(
    tmp_path, monkeypatch, asked, expected
):
    cluster(monkeypatch, CPU=2)
    with pytest.raises(PreflightError) as refused:
        check_cluster(new_study(tmp_path, resources=asked), dataset())
    assert str(refused.value).startswith(expected)


def test_a_cluster_whose_workers_have_not_joined_yet_is_waited_for(tmp_path, monkeypatch, caplog):
    import ray

    seen = []
    head, worker = ({"Alive": True, "Resources": {"CPU": n}, "NodeID": str(n)} for n in (0, 2))
    monkeypatch.setattr(preflight.time, "sleep", seen.append)
    monkeypatch.setattr(ray, "nodes", lambda: [head, worker] if len(seen) >= 3 else [head])
    wait_for_workers()
    assert len(seen) == 3
    assert "no node with a CPU" in caplog.text
    seen.clear()
    wait_for_workers(lambda: len(seen) == 2)
    assert len(seen) == 2
    monkeypatch.setattr(preflight, "_JOIN_SECONDS", 0.0)
    monkeypatch.setattr(ray, "nodes", lambda: [head])
    wait_for_workers()
    with pytest.raises(PreflightError, match="add a worker"):
        check_cluster(new_study(tmp_path), dataset())


def test_every_failure_is_told_at_once(tmp_path, monkeypatch):
    cluster(monkeypatch, CPU=1)
    monkeypatch.setattr(preflight, "available_memory", lambda: 1)
    with pytest.raises(PreflightError) as refused:
        check_cluster(new_study(tmp_path, resources={"cpu": 2}), dataset())
    assert len(str(refused.value).splitlines()) == 2


def test_a_wider_network_needs_more(tmp_path):
    wide = {"model.hidden1": {"type": "int", "low": 2, "high": 4096}}
    narrow = TrialNeeds.of(new_study(tmp_path, "narrow"), dataset())
    assert TrialNeeds.of(new_study(tmp_path, "wide", parameters=wide), dataset()).disk > narrow.disk


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ({"CPU": 1.0}, "no node is that large: add one, or lower resources.cpu"),
        ({"CPU": 8.0}, "another program on the cluster holds them"),
    ],
)
def test_a_pending_trial_says_why(monkeypatch, has, expected):
    import ray

    cluster(monkeypatch, **has)
    monkeypatch.setattr(ray, "cluster_resources", lambda: has)
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 0.0})
    said = why_pending(ResourceOptions(cpu=2))
    assert said.startswith(f"it needs 2 CPU ({has['CPU']:g} in the cluster, 0 free); 1 node is alive")
    assert expected in said
