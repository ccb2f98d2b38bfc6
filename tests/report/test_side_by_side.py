"""Several studies in one report: numbers that are theirs, and no comparison of what does not compare."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from aiq_search.report import side_by_side
from aiq_search.report.figures import StudyFacts, build_comparison
from aiq_search.report.page import write_comparison
from aiq_search.study.pareto import pareto_front
from aiq_search.study.provenance import Provenance
from tests.report.test_report import without_plotly
from tests.tracking.simulated import RecordedTrials, document, simulated_study


def study(name: str, *, better: float = 0.0, **changes: Any) -> RecordedTrials:
    """A simulated study under another name, whose fresh seeds have a better aIQ on the test split."""

    def test_seed(record: Any) -> Any:
        if record.origin is None:
            return record
        metrics = dict(record.metrics) | {"test/aiq": record.metrics["test/aiq"] + better}
        return dataclasses.replace(record, metrics=metrics)

    space = simulated_study(30).document.space.document() | {"confirm": {"finalists": 3, "seeds": 2}}
    made = RecordedTrials([test_seed(r) for r in simulated_study(30).records()], **{"space": space} | changes)
    made.id = name
    return made


def facts(*studies: RecordedTrials) -> list[StudyFacts]:
    return [StudyFacts(each) for each in studies]


def with_seed(seed: int) -> dict[str, Any]:
    space = study("a").document.space.document()
    space["search"]["seed"] = seed
    return {"space": space, "seed": seed}


def test_champions_stand_in_columns_with_their_own_numbers() -> None:
    table = side_by_side.champions(facts(study("one"), study("two", better=0.1)))
    assert table.heads == ["", "one", "two"]
    rows = {name: cells for name, *cells in table.rows}
    winner = StudyFacts(study("one")).winner
    assert winner is not None
    ours = winner.validation["aiq"]
    assert rows["aIQ, validation"] == [f"{ours.mean:.4f} ± {ours.sd:.4f}"] * 2
    one, two = (float(cell.split()[0]) for cell in rows["aIQ, test"])
    assert two - one == pytest.approx(0.1, abs=2e-4)
    assert rows["parameters"][0] == f"{winner.explored.metrics['parameters']:,.0f}"
    assert rows["seeds, test"] == ["2", "2"]


@pytest.mark.parametrize(
    ("better", "said"), [(0.3, "more than 2 standard errors"), (1e-6, "too little to tell them apart")]
)
def test_the_better_champion_is_named_with_how_sure_that_is(better: float, said: str) -> None:
    [sentence] = side_by_side.verdicts(facts(study("one"), study("two", better=better)))
    assert sentence.startswith("On digits the champion of two has the highest mean aIQ on the test split")
    assert said in sentence


def test_champions_of_different_data_are_not_ranked_and_the_reader_is_told() -> None:
    other = study("other", dataset=document()["dataset"] | {"name": "letters", "digest": "beef" * 4})
    studies = facts(study("one"), other)
    assert side_by_side.verdicts(studies) == []
    assert side_by_side.notes(studies) == [
        "The studies are of different data: digits (digest 01234567) in one; letters (digest beefbeef) in "
        "other. Only numbers of the same data compare."
    ]


def test_what_makes_numbers_incomparable_is_told() -> None:
    space = study("a").document.space.document()
    space["objective"] |= {"beta": 1.0, "constraints": []}
    studies = facts(study("one"), study("two", space=space, beta=1.0))
    told = " ".join(side_by_side.notes(studies))
    assert "aIQ weighs accuracy differently: β = 2 in one; β = 1 in two." in told
    assert "accuracy\u00a0≥\u00a00.9 in one; none in two." in told
    assert side_by_side.verdicts(studies) == []


def test_only_settings_that_differ_are_listed() -> None:
    assert side_by_side.settings(facts(study("one"), study("two"))).rows == []
    table = side_by_side.settings(facts(study("one"), study("two", **with_seed(7))))
    assert table.rows == [["search.seed", "0", "7"]]


def test_ranges_versions_and_the_recipe_are_settings() -> None:
    other = with_seed(0)
    other["space"]["parameters"]["model.conv1"] |= {"high": 64}
    other["space"]["training"]["optimizer"] = "adamw"
    other["space"]["search"]["sampler"] = {"name": "random"}
    provenance = study("a").document.provenance.model_dump() | {"versions": {"aiq-search": "9"}}
    table = side_by_side.settings(
        facts(study("one"), study("two", provenance=Provenance(**provenance).model_dump(), **other))
    )
    rows = {name: cells for name, *cells in table.rows}
    assert rows["model.conv1"] == ["2 to 256, log scale", "2 to 64, log scale"]
    assert rows["training.optimizer"] == ["sgd", "adamw"]
    assert rows["search.sampler.name"] == ["tpe", "random"]
    assert rows["version.aiq-search"] == ["0.1.0", "9"]


def test_the_hypervolume_grows_to_that_of_aiq_pareto() -> None:
    one = study("one")
    pictures, [volume] = build_comparison(facts(one))
    assert volume == pytest.approx(pareto_front(one.records()[:30]).hypervolume)
    [over_time, over_cost] = pictures[1].figure.data
    for line in (over_time, over_cost):
        assert (line.x[0], line.y[0]) == (0, 0)
        assert list(line.x) == sorted(line.x)
        assert list(line.y) == sorted(line.y)
        assert line.y[-1] == volume


def test_cost_counts_what_was_trained() -> None:
    one = study("one")
    table = side_by_side.costs(facts(one), [0.5])
    row = dict(zip(table.heads, table.rows[0], strict=True))
    records = one.records()
    assert row["trainings"] == str(len(records))
    assert row["epochs"] == str(sum(record.epochs for record in records))
    assert row["core time"] == f"{0.51 * len(records):.0f} s"
    assert row["hypervolume"] == "0.5000"
    assert "GPU time" not in row


def test_the_page_is_one_file_that_asks_for_nothing(tmp_path: Path) -> None:
    explored = [r for r in simulated_study(30).records() if r.origin is None]
    unconfirmed = RecordedTrials(explored)
    unconfirmed.id = "</script><b>evil"
    page = write_comparison([study("one"), unconfirmed], tmp_path / "new" / "c.html").read_text()
    text = without_plotly(page)
    assert "default-src 'none'" in text
    assert "2 studies side by side" in text
    assert "has no champion yet: its best so far is not confirmed on fresh seeds." in text
    assert "<b>evil" not in text
    assert not [part for part in ("src=", "href=", "url(", "@import", "fetch(") if part in text]
