"""The champion in the model registry, loaded and served where this package is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aiq_search.tracking import Outbox
from aiq_search.tracking.letters import ChampionExported
from aiq_search.tracking.model_registry import _compare
from aiq_search.tracking.outbox import REGISTERED
from tests.tracking.conftest import free_port, runs_of, wait_until
from tests.tracking.delivering import deliver
from tests.tracking.simulated import START, STUDY, document, study_ended, study_started, trials

NAME = "aiq-lenet-5-digits"
CHAMPION = f"models:/{NAME}@champion"

# What a machine without this package is: its import fails.
WITHOUT_US = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "aiq_search":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""


class Graph(torch.nn.Module):
    """What a bundle's graph is: raw images in, logits and probabilities out."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        torch.nn.init.constant_(self.network[1].weight, weight)

    def forward(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.network(inputs.float() / 16)
        return {"logits": logits, "probabilities": logits.softmax(1)}


def write_bundle(folder: Path, weight: float = 1.0) -> None:
    bundle = folder / "bundle"
    bundle.mkdir(parents=True)
    shapes = {"inputs": {0: torch.export.Dim("batch", min=1)}}
    example = (torch.zeros(2, 1, 8, 8, dtype=torch.uint8),)
    torch.export.save(
        torch.export.export(Graph(weight), example, dynamic_shapes=shapes), bundle / "model.pt2"
    )
    np.savez(bundle / "example_input.npz", inputs=np.zeros((1, 1, 8, 8), np.uint8))
    (bundle / "SHA256SUMS").write_text(f"{weight}")


def champion(score: float) -> dict[str, Any]:
    document = dict(study_ended(trials(6)).champion or {})
    objective = {"objective": {"mean": score, "sd": 0.01, "n": 4}}
    validation = document["metrics"]["validation"] | objective
    return document | {"metrics": document["metrics"] | {"validation": validation}}


def register(box: Outbox, store: str, folder: Path, score: float, study: str = STUDY) -> str:
    """A study ends with a champion of a score; what is said of it."""
    write_bundle(folder, weight=score)
    box.put([study_started(study), study_ended(trials(6, study))])
    box.put([ChampionExported(study, str(folder), champion(score), START + 100)])
    deliver(box, store)
    return str(box.fact(REGISTERED))


def other_outbox(tmp_path: Path, name: str) -> Outbox:
    return Outbox(tmp_path / name)


def alias_version(store: str) -> str:
    from mlflow.tracking import MlflowClient

    return str(MlflowClient(store).get_model_version_by_alias(NAME, "champion").version)


@pytest.mark.slow
def test_the_champion_is_registered_described_and_tagged(outbox: Outbox, store: str, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    assert (
        register(outbox, store, tmp_path / "a", 0.8)
        == f"The champion is registered as {CHAMPION} (version 1)."
    )
    client = MlflowClient(store)
    made = client.get_model_version_by_alias(NAME, "champion")
    run = runs_of(store)[STUDY]
    assert made.run_id == run.info.run_id
    assert made.tags["aiq.study"] == STUDY
    assert made.tags["aiq.digest"] == "0123456789abcdef"
    assert float(made.tags["aiq.score"]) == 0.8
    assert "won" in made.description
    assert "mlflow models serve" in client.get_registered_model(NAME).description
    assert CHAMPION in run.data.tags["aiq.registered"]


@pytest.mark.slow
def test_registering_leaves_the_run_as_it_ended(outbox: Outbox, store: str, tmp_path: Path) -> None:
    register(outbox, store, tmp_path / "a", 0.8)
    info = runs_of(store)[STUDY].info
    assert info.status == "FINISHED"
    assert info.end_time == round(study_ended(trials(6)).time * 1000)


@pytest.mark.slow
def test_registering_again_makes_no_second_version(outbox: Outbox, store: str, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    register(outbox, store, tmp_path / "a", 0.8)
    outbox.put([ChampionExported(STUDY, str(tmp_path / "a"), champion(0.8), START + 200)])
    deliver(outbox, store)
    assert len(MlflowClient(store).search_model_versions(f"name = '{NAME}'")) == 1


@pytest.mark.slow
def test_the_alias_moves_only_to_a_better_champion(outbox: Outbox, store: str, tmp_path: Path) -> None:
    register(outbox, store, tmp_path / "a", 0.8)
    said = register(other_outbox(tmp_path, "2"), store, tmp_path / "b", 0.7, "lenet-5-digits-worse")
    assert alias_version(store) == "1"
    assert "stays version 1: its aiq is not better (0.7000 against 0.8000" in said
    said = register(other_outbox(tmp_path, "3"), store, tmp_path / "c", 0.9, "lenet-5-digits-better")
    assert alias_version(store) == "3"
    assert f"now version 3: its aiq is better (0.9000 against 0.8000 of study {STUDY})" in said


def test_the_same_beta_written_in_another_way_is_the_same_objective() -> None:
    from mlflow.entities.model_registry import ModelVersion, ModelVersionTag

    facts = {"aiq.digest": "d", "aiq.objective": "aiq, beta 2", "aiq.score": "0.9"}
    earlier = {**facts, "aiq.objective": "aiq, beta 2.0", "aiq.score": "0.8", "aiq.study": "before"}
    holder = ModelVersion(NAME, "1", 0, tags=[ModelVersionTag(*tag) for tag in earlier.items()])
    assert _compare(facts, holder) == (True, "its aiq is better (0.9000 against 0.8000 of study before)")
    verdict = _compare({**facts, "aiq.objective": "aiq, beta 4"}, holder)
    assert verdict == (False, "it was judged by another objective, so the two cannot be compared")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dataset": document()["dataset"] | {"digest": "another"}}, "other data or another split"),
        ({"beta": 4, "space": document()["space"] | {"objective": {"beta": 4}}}, "another objective"),
    ],
)
def test_champions_of_different_questions_are_not_compared(
    outbox: Outbox, store: str, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    import dataclasses

    register(outbox, store, tmp_path / "a", 0.8)
    write_bundle(tmp_path / "b", 0.9)
    begun = study_started("other")
    begun = dataclasses.replace(begun, document={**begun.document, **change})
    box = other_outbox(tmp_path, "2")
    box.put([begun, ChampionExported("other", str(tmp_path / "b"), champion(0.9), START + 100)])
    deliver(box, store)
    assert said in str(box.fact(REGISTERED))
    assert alias_version(store) == "1"


def test_a_champion_without_a_graph_is_a_sentence_and_holds_up_nothing(
    outbox: Outbox, store: str, tmp_path: Path
) -> None:
    outbox.put([study_started(), ChampionExported(STUDY, str(tmp_path), champion(0.9), START + 100)])
    deliver(outbox, store)
    assert "not registered: bundle/model.pt2 is missing" in str(outbox.fact(REGISTERED))
    assert not outbox.undelivered()


def test_a_graph_that_cannot_be_loaded_is_a_sentence_and_holds_up_nothing(
    outbox: Outbox, store: str, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "a")
    (tmp_path / "a" / "bundle" / "model.pt2").write_bytes(b"no graph")
    outbox.put([study_started(), ChampionExported(STUDY, str(tmp_path / "a"), champion(0.9), START + 100)])
    deliver(outbox, store)
    assert "The champion is not registered" in str(outbox.fact(REGISTERED))
    assert not outbox.undelivered()
    assert runs_of(store)[STUDY].info.status == "RUNNING"


@pytest.mark.slow
def test_it_loads_without_this_package_for_batches_of_one_and_three(
    outbox: Outbox, store: str, tmp_path: Path
) -> None:
    register(outbox, store, tmp_path / "a", 0.8)
    code = WITHOUT_US + (
        f"import mlflow, torch\nmlflow.set_tracking_uri({store!r})\n"
        f"model = mlflow.pytorch.load_model({CHAMPION!r})\n"
        "for n in (1, 3):\n"
        "    answer = model(torch.zeros(n, 1, 8, 8, dtype=torch.uint8))\n"
        "    print(tuple(answer.shape), [round(float(x), 5) for x in answer.sum(1)])\n"
        "print('aiq_search' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-3:] == ["(1, 10) [1.0]", "(3, 10) [1.0, 1.0, 1.0]", "False"]


@pytest.mark.slow
def test_mlflow_serves_it_without_this_package(outbox: Outbox, store: str, tmp_path: Path) -> None:
    register(outbox, store, tmp_path / "a", 0.8)
    (tmp_path / "without").mkdir()
    # The scoring server is a process of its own: the package is hidden from every Python that it starts.
    (tmp_path / "without" / "sitecustomize.py").write_text(WITHOUT_US)
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", CHAMPION, "--env-manager", "local"]
    # MLflow starts uvicorn by its name, which an environment that is not activated does not have on PATH.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"MLFLOW_TRACKING_URI": store, "PYTHONPATH": str(tmp_path / "without"), "PATH": path}
    with (tmp_path / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env=os.environ | environment, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: process.poll() is not None or pings(port), 120, every=0.5)
        for batch in (1, 3):
            answer = ask(port, np.zeros((batch, 1, 8, 8), int).tolist())
            assert np.shape(answer) == (batch, 10)
            assert np.allclose(np.sum(answer, 1), 1)
    finally:
        with suppress(ProcessLookupError):  # it ended by itself: what went wrong is raised above
            os.killpg(process.pid, 9)
        process.wait()


def pings(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def ask(port: int, inputs: list[Any]) -> list[list[float]]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        json.dumps({"inputs": inputs}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310
        answer: list[list[float]] = json.load(reply)["predictions"]
    return answer
