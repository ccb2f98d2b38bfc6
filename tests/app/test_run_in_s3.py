"""A whole search whose checkpoints lie in S3, and what takes its champion home."""

from __future__ import annotations

import pytest

from aiq_search.app.bundles import export_study
from aiq_search.app.edit import delete_study
from aiq_search.app.run import run_search
from aiq_search.places import StoredPath, shared_place
from tests.s3 import BUCKET, s3_server
from tests.search.simulation import simulated_space

pytest.importorskip("moto")


@pytest.mark.slow
@pytest.mark.nightly
def test_a_search_keeps_its_checkpoints_in_s3_and_its_champion_comes_home(tmp_path):
    space = simulated_space(
        search={"trials": 3}, training={"epochs": 2}, confirm={"finalists": 1, "seeds": 1}
    )
    with s3_server():
        result = run_search(
            space,
            study_id="far",
            storage=f"s3://{BUCKET}/searches",
            home=tmp_path / "home",
            tracking_uri=f"sqlite:///{tmp_path}/mlflow.db",
        )
        study = result.study
        assert result.reason == "finished"
        assert isinstance(study.checkpoints, StoredPath)
        kept = sorted(path.name for path in study.checkpoints.glob("*"))
        assert study.weights_path(result.champion.record.key).name in kept
        assert not [name for name in kept if "unfinished" in name or name.startswith(".probe")]
        assert not list((study.files / "tune").glob("*"))
        assert list((study.directory / "checkpoints").glob("*")) == []

        bundle = export_study(study, tmp_path / "champion", formats=["safetensors"])
        assert bundle.record.key == result.champion.record.key

        delete_study("far", tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", home=tmp_path / "home")
        assert shared_place(f"s3://{BUCKET}/searches").size() == 0
