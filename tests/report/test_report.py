"""The report: one file, no network, and sentences that are true."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import plotly.io
import pytest

from aiq_search.report import story
from aiq_search.report.figures import StudyFacts, build_figures
from aiq_search.report.page import write_report
from aiq_search.study.events import TrialState
from aiq_search.study.provenance import Provenance
from tests.tracking.simulated import (
    STUDY,
    RecordedTrials,
    SimulatedStudy,
    SimulatedTrial,
    document,
    simulated_study,
    trials,
)


def without_plotly(page: str) -> str:
    return re.sub(r'<script type="application/octet-stream".*?</script>', "", page, flags=re.DOTALL)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(simulated_study(30), tmp_path_factory.mktemp("report") / "new" / "r.html").read_text()


def test_it_asks_for_nothing_outside_itself(page: str) -> None:
    text = without_plotly(page)
    assert not re.search(r"""(src|href)=|url\(|@import|fetch\(|https?://(?!\*\*\*)""", text)
    assert "default-src 'none'" in text


def test_it_is_small(page: str) -> None:
    assert len(page.encode()) < 3e6


def test_it_names_the_winner_its_numbers_and_the_commands(page: str) -> None:
    facts = StudyFacts(simulated_study(30))
    assert facts.champion is not None
    assert facts.label(facts.champion) in page
    assert f"{facts.champion.metrics['parameters']:,.0f}" in page
    for command in (f"aiq export {STUDY}", f"aiq resume {STUDY}", "aiq verify", f"aiq ui {STUDY}"):
        assert command in page


def test_a_champion_without_a_layer_that_others_have_is_reported(tmp_path: Path) -> None:
    records = simulated_study(30).records()
    champion = StudyFacts(RecordedTrials(records)).champion
    assert champion is not None

    def without_conv2(record: Any) -> Any:
        metrics = {name: value for name, value in record.metrics.items() if name != "efficiency/conv2"}
        return dataclasses.replace(record, metrics=metrics)

    with_fewer = [without_conv2(r) if r.params == champion.params else r for r in records]
    facts = StudyFacts(RecordedTrials(with_fewer))
    assert facts.champion is not None
    assert "efficiency/conv2" not in facts.champion.metrics
    page = write_report(RecordedTrials(with_fewer), tmp_path / "r.html").read_text()
    assert "holds it back" in page


def test_it_holds_no_credentials(page: str) -> None:
    assert "lovelace" not in page


def test_names_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    records = [dataclasses.replace(t.record(), reason=evil) for t in trials(12)]
    for record in records:
        record.params["model.activation"] = evil  # type: ignore[index]
    space = SimulatedStudy([]).document.space.document()
    rules = space["parameters"] | {"model.activation": {"type": "categorical", "choices": [evil, "elu"]}}
    provenance = Provenance(command=(evil,), versions={evil: evil}, platform=evil, git_commit=evil)
    study = RecordedTrials(
        records, space=space | {"parameters": rules}, provenance=provenance.model_dump(mode="json")
    )
    text = write_report(study, tmp_path / "r.html", findings=[evil]).read_text()
    assert "<script>alert" not in text


@pytest.mark.parametrize(
    ("records", "headline"),
    [
        ([], "No trial is complete yet"),
        ([SimulatedTrial(0, state=TrialState.FAIL).record()], "No trial is complete yet"),
        (
            [dataclasses.replace(SimulatedTrial(0).record(), feasible=False)],
            "No network met every constraint",
        ),
    ],
)
def test_a_study_without_a_winner_has_a_report_that_says_so(
    tmp_path: Path, records: list[Any], headline: str
) -> None:
    assert headline in write_report(RecordedTrials(records), tmp_path / "r.html").read_text()


def test_the_headline_has_the_mean_over_the_champion_s_seeds() -> None:
    facts = StudyFacts(simulated_study(30))
    assert facts.winner is not None
    aiq = facts.winner.validation["aiq"]
    assert aiq.n == 4
    assert f"{aiq.mean:.3f} ± {aiq.sd:.3f}" in story.headline(facts)


def test_the_story_counts_every_trial() -> None:
    facts = StudyFacts(SimulatedStudy(trials(30)))
    assert story.sentences(facts)[0] == (
        "30 configurations were tried: 18 trained to the end, 9 stopped early, 3 failed."
    )


@pytest.mark.parametrize(
    ("size", "weights", "sentence"),
    [
        (
            100_000,
            90_000,
            "and has 1,000 times fewer parameters (1,125 times fewer, counting only",
        ),
        (43, 40, "and has 2.3 times as many parameters (2.0 times as many, counting only"),
        (100, 80, "and has as many parameters."),
    ],
)
def test_the_price_of_the_champion_is_told_in_points_and_times(
    size: float, weights: float, sentence: str
) -> None:
    one, other = SimulatedTrial(0).record(), SimulatedTrial(1).record()
    ours = {"aiq": 0.9, "accuracy": 0.95, "parameters": 100, "parameters_weights": 80}
    theirs = {"aiq": 0.5, "accuracy": 0.99, "parameters": size, "parameters_weights": weights}
    one = dataclasses.replace(one, feasible=True, metrics=dict(one.metrics) | ours)
    other = dataclasses.replace(other, feasible=True, metrics=dict(other.metrics) | theirs)
    facts = StudyFacts(RecordedTrials([one, other]))
    text = " ".join(story.sentences(facts))
    assert "4.00 percentage points less accurate" in text
    assert sentence in text
    rows = {name: note for name, _, _, note in story.comparison(facts)}
    assert rows["parameters"] in sentence


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state": TrialState.FAIL}, "12 of 12 trials failed"),
        ({"feasible": True}, "partly luck until it is confirmed"),
    ],
)
def test_what_went_wrong_is_a_finding(change: dict[str, Any], said: str) -> None:
    records = [dataclasses.replace(SimulatedTrial(n).record(), **change) for n in range(12)]
    assert said in " ".join(story.findings(StudyFacts(RecordedTrials(records))))


def test_what_to_know_of_the_data_is_a_finding() -> None:
    data = document()["dataset"] | {"warnings": ["The classes are uneven."]}
    assert story.findings(StudyFacts(RecordedTrials([], dataset=data)))[0] == "The classes are uneven."


def test_the_data_of_each_picture_is_a_file_of_its_own(tmp_path: Path) -> None:
    study = simulated_study(12)
    write_report(study, tmp_path / "r.html", pictures=tmp_path / "pictures")
    drawn = build_figures(StudyFacts(study))
    files = sorted((tmp_path / "pictures").iterdir())
    assert [f.name for f in files][:2] == ["01-tradeoff.json", "02-size.json"]
    assert [plotly.io.read_json(f) for f in files] == [picture.figure for picture in drawn]


def test_there_is_one_plotly_however_many_pictures(tmp_path: Path) -> None:
    path = write_report(simulated_study(30), tmp_path / "r.html", pictures=tmp_path / "pictures")
    assert path.read_text().count('<script type="application/octet-stream"') == 1
    assert sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) < 3e6
