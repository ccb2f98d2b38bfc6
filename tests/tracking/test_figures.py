"""The pictures: right numbers, sentences that follow from them, and nothing drawn from nothing."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiq_search.search.events import TrialState
from aiq_search.tracking import story
from aiq_search.tracking.figures import ChampionView, Picture, StudyFacts, build_figures
from aiq_search.tracking.figures.tradeoff import pareto_front
from tests.tracking.simulated import SimulatedStudy, SimulatedTrial, simulated_study, trials

VIEW = ChampionView(
    confusion=[[30 if i == j else (i + j) % 3 for j in range(10)] for i in range(10)],
    states={"conv1": [([True, False, True], 0.5), ([False, False, True], 0.25)]},
)


def by_name(pictures: list[Picture]) -> dict[str, Picture]:
    return {p.name: p for p in pictures}


class EditedStudy(SimulatedStudy):
    """A simulated study whose records are changed on the way out."""

    def __init__(self, study: SimulatedStudy, **changes: Any) -> None:
        super().__init__(study.trials)
        self.changes = changes

    def records(self, phase: Any = None) -> list[Any]:
        return [dataclasses.replace(r, **self.changes) for r in super().records(phase)]


def test_a_whole_study_has_every_picture() -> None:
    pictures = build_figures(simulated_study(30), view=VIEW)
    assert [p.name for p in pictures] == [
        *("tradeoff", "size", "finalists", "layers", "importances", "slices", "parallel"),
        *("progress", "rungs", "learning", "confusion", "states"),
    ]
    assert all(p.caption and p.title and p.figure.data for p in pictures)


def test_a_study_without_trials_has_none() -> None:
    assert build_figures(SimulatedStudy([]), view=ChampionView()) == []


@pytest.mark.parametrize("state", [TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING])
def test_a_study_without_a_complete_trial_draws_what_it_can(state: TrialState) -> None:
    study = EditedStudy(SimulatedStudy(trials(5)), state=state)
    assert {p.name for p in build_figures(study)} <= {"rungs"}


def test_one_complete_trial_is_drawn() -> None:
    names = {p.name for p in build_figures(SimulatedStudy([SimulatedTrial(0)]))}
    assert {"tradeoff", "size", "layers", "learning", "progress", "slices"} <= names


def test_trials_that_all_have_the_same_value_have_no_importances() -> None:
    study = EditedStudy(SimulatedStudy(trials(30)), value=0.5)
    assert "importances" not in by_name(build_figures(study))


def test_conditional_parameters_are_drawn() -> None:
    study = simulated_study(20)
    records = study.records()
    for record in records[::2]:
        del record.params["model.dropout"]  # type: ignore[attr-defined]
    fake = SimpleNamespace(id=study.id, document=study.document, records=lambda: records)
    names = by_name(build_figures(fake))
    assert "slices" in names
    assert "importances" in names


def test_parameters_outside_the_space_s_rules_are_no_reason_to_fail() -> None:
    study = simulated_study(20)
    document = study.document | {"space": {"name": "mine"}, "dataset": {}}
    fake = SimpleNamespace(id=study.id, document=document, records=study.records)
    assert "tradeoff" in by_name(build_figures(fake))


def test_the_champion_is_the_one_that_is_said_else_the_best_finalist() -> None:
    study = simulated_study(30)
    said = StudyFacts(study, champion=4).champion
    assert said is not None
    assert said.key.number == 4
    facts = StudyFacts(study)
    assert facts.champion is facts.finalists[0].explored
    means = [f.mean("aiq") for f in facts.finalists]
    assert means == sorted(means, reverse=True)
    assert facts.champion_run is not None
    assert facts.champion_run.metrics["aiq"] == max(
        r.metrics["aiq"]
        for r in facts.confirmed
        if r.origin == facts.champion.key.number  # type: ignore[union-attr]
    )


def test_a_collapsed_or_failed_seed_counts_as_nothing() -> None:
    study = simulated_study(30)
    records = study.records()
    first = next(i for i, r in enumerate(records) if r.origin is not None)
    records[first] = dataclasses.replace(records[first], collapsed=True, value=0.0)
    records[first + 1] = dataclasses.replace(records[first + 1], state=TrialState.FAIL)
    fake = SimpleNamespace(id=study.id, document=study.document, records=lambda: records)
    final = next(f for f in StudyFacts(fake).finalists if f.explored.key.number == records[first].origin)
    assert final.values("aiq")[:2] == [0.0, 0.0]
    assert final.values("aiq")[2] > 0


def test_seeds_beyond_the_judging_ones_have_no_part_in_the_mean_but_give_the_test_numbers() -> None:
    study = simulated_study(30)  # each finalist has 4 seeds
    document = study.document
    document["space"] = document["space"] | {"confirm": {"finalists": 3, "seeds": 3}}
    facts = StudyFacts(SimpleNamespace(id=study.id, document=document, records=study.records))
    final = facts.finalists[0]
    assert [r.replicate for r in final.confirmed] == [0, 1, 2]
    assert [r.replicate for r in final.further] == [3]
    assert final.mean("aiq") == pytest.approx(sum(r.metrics["aiq"] for r in final.confirmed) / 3)
    assert story.numbers(facts, None, "test")["aiq"] == (final.further[0].metrics["test/aiq"], 0.0, 1)
    assert "further seed, no part in the choice" in {
        t.name for t in by_name(build_figures(facts))["finalists"].figure.data
    }


def test_less_is_better_where_the_objective_is_minimized() -> None:
    study = simulated_study(30)
    records = [dataclasses.replace(r, value=r.metrics["loss"]) for r in study.records() if r.origin is None]
    document = study.document | {"space": study.document["space"] | {"objective": {"minimize": "loss"}}}
    fake = SimpleNamespace(id=study.id, document=document, records=lambda: records)
    facts = StudyFacts(fake)
    feasible = [r for r in facts.complete if r.feasible]
    assert facts.champion is not None
    assert facts.champion.value == min(r.value or 0 for r in feasible)
    best = by_name(build_figures(facts))["progress"].figure.data[1].y
    assert list(best[-3:]) == sorted(best[-3:], reverse=True)


def test_the_best_so_far_ends_at_the_best_feasible_trial() -> None:
    facts = StudyFacts(simulated_study(30))
    line = by_name(build_figures(facts))["progress"].figure.data[1]
    assert line.y[-1] == max(r.value or 0 for r in facts.complete if r.feasible)


def test_the_most_accurate_of_equals_is_the_smaller() -> None:
    one = SimulatedTrial(0).record()
    small = dataclasses.replace(
        one, key=SimulatedTrial(1).key, metrics=dict(one.metrics) | {"parameters": 1.0}
    )
    fake = SimpleNamespace(id="s", document={}, records=lambda: [one, small])
    assert StudyFacts(fake).most_accurate == small


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30))
def test_the_front_is_what_no_other_beats(points: list[tuple[float, float]]) -> None:
    records: list[Any] = [SimpleNamespace(metrics={"efficiency": e, "accuracy": a}) for e, a in points]
    front = {(r.metrics["efficiency"], r.metrics["accuracy"]) for r in pareto_front(records)}
    expected = {
        (e, a) for e, a in points if not any((f >= e and b > a) or (f > e and b >= a) for f, b in points)
    }
    assert front == expected


def test_lines_of_equal_aiq_have_that_aiq() -> None:
    figure = by_name(build_figures(simulated_study(30)))["tradeoff"].figure
    lines = [t for t in figure.data if t.legendgroup == "equal"]
    assert lines
    for line in lines:
        level = float(line.text[-1])
        for e, a in zip(line.x, line.y, strict=True):
            assert (a**2 * e) ** (1 / 3) == pytest.approx(level, abs=0.0051)


def test_a_layer_at_its_ceiling_is_told() -> None:
    wide = SimulatedTrial(0, widths=(4, 4, 100))
    record = wide.record()
    metrics = dict(record.metrics) | {"efficiency/fc": 0.0849}
    fake = SimpleNamespace(
        id="s", document=wide_document(), records=lambda: [dataclasses.replace(record, metrics=metrics)]
    )
    picture = by_name(build_figures(fake))["layers"]
    ceiling = next(t for t in picture.figure.data if t.name == "ceiling of fc")
    assert ceiling.x[0] == pytest.approx(8.4919 / 100, abs=1e-4)  # log2 of 360 observations
    assert "1 dot sits at the ceiling" in picture.caption


def wide_document() -> dict[str, Any]:
    return SimulatedStudy([]).document
