"""The pictures: right numbers, sentences that follow from them, and nothing drawn from nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from aiq_search.report import story
from aiq_search.report.figures import NetworkView, Picture, StudyFacts, build_figures, progress
from aiq_search.report.figures import facts as facts_module
from aiq_search.study.events import Phase, TrialState
from aiq_search.study.pareto import pareto_front
from aiq_search.words import typeset
from tests.tracking.simulated import (
    RecordedTrials,
    SimulatedStudy,
    SimulatedTrial,
    document,
    simulated_study,
    trials,
)

VIEW = NetworkView(
    confusion=[[30 if i == j else (i + j) % 3 for j in range(10)] for i in range(10)],
    states={"conv1": [([True, False, True], 0.5), ([False, False, True], 0.25)]},
    neurons={"conv1": [(0.5, 0), (0.0, 1), (0.5, 0), (1.0, 3)]},
)


def by_name(pictures: list[Picture]) -> dict[str, Picture]:
    return {p.name: p for p in pictures}


def drawn(study: RecordedTrials, view: NetworkView | None = None) -> list[Picture]:
    return build_figures(StudyFacts(study), view)


def changed(study: RecordedTrials, **changes: Any) -> RecordedTrials:
    """The study with every record changed."""
    return RecordedTrials([dataclasses.replace(r, **changes) for r in study.records()])


def test_a_whole_study_has_every_picture() -> None:
    pictures = drawn(simulated_study(30), VIEW)
    assert [p.name for p in pictures] == [
        *("tradeoff", "size", "finalists", "layers", "importances", "slices", "parallel"),
        *("progress", "rungs", "time", "learning", "confusion", "neurons", "states"),
    ]
    assert all(p.caption and p.title and p.figure.data for p in pictures)


def test_a_study_without_trials_has_none() -> None:
    assert drawn(SimulatedStudy([]), NetworkView()) == []


@pytest.mark.parametrize("state", [TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING])
def test_a_study_without_a_complete_trial_draws_what_it_can(state: TrialState) -> None:
    study = changed(SimulatedStudy(trials(5)), state=state)
    assert {p.name for p in drawn(study)} <= {"rungs", "time"}


def test_one_complete_trial_is_drawn() -> None:
    names = {p.name for p in drawn(SimulatedStudy([SimulatedTrial(0, widths=(16, 16, 16))]))}
    assert {"tradeoff", "size", "layers", "learning", "progress", "slices"} <= names


def test_trials_that_all_have_the_same_value_have_no_importances() -> None:
    study = changed(SimulatedStudy(trials(30)), metrics=SimulatedTrial(0).record().metrics)
    assert "importances" not in by_name(drawn(study))


def test_conditional_parameters_are_drawn() -> None:
    study = simulated_study(20)
    records = study.records()
    for record in records[::2]:
        del record.params["model.dropout"]  # type: ignore[attr-defined]
    names = by_name(drawn(RecordedTrials(records)))
    assert "slices" in names
    assert "importances" in names


def test_parameters_outside_the_space_s_rules_are_no_reason_to_fail() -> None:
    study = simulated_study(20)
    space = study.document.space.document() | {
        "parameters": {"model.conv1": {"type": "int", "low": 2, "high": 9}}
    }
    assert "tradeoff" in by_name(drawn(RecordedTrials(study.records(), space=space)))


def test_the_champion_is_the_best_finalist_as_search_judges_it() -> None:
    facts = StudyFacts(simulated_study(30))
    assert facts.winner is not None
    assert facts.champion is facts.finalists[0].explored
    means = [f.validation["objective"].mean for f in facts.finalists if f.feasible]
    assert means == sorted(means, reverse=True)
    assert facts.winner.record.metrics["aiq"] == max(r.metrics["aiq"] for r in facts.winner.judges)


def test_a_collapsed_or_failed_seed_is_drawn_at_nothing() -> None:
    records = simulated_study(30).records()
    first = next(i for i, r in enumerate(records) if r.origin is not None)
    records[first] = dataclasses.replace(records[first], collapsed=True, value=0.0)
    records[first + 1] = dataclasses.replace(records[first + 1], state=TrialState.FAIL)
    facts = StudyFacts(RecordedTrials(records))
    seeds = next(t for t in by_name(build_figures(facts))["finalists"].figure.data if t.name == "fresh seed")
    label = facts.label(records[first])
    shown = [x for x, y in zip(seeds.x, seeds.y, strict=True) if y.partition("<br>")[0] == label]
    assert shown[:2] == [0.0, 0.0]


def test_seeds_beyond_the_judging_ones_have_no_part_in_the_mean_but_give_the_test_numbers() -> None:
    study = simulated_study(30)  # each finalist has 4 seeds
    space = study.document.space.document() | {"confirm": {"finalists": 3, "seeds": 3}}
    facts = StudyFacts(RecordedTrials(study.records(), space=space))
    final = facts.finalists[0]
    assert [r.replicate for r in final.further] == [3]
    assert final.validation["aiq"].mean == pytest.approx(sum(r.metrics["aiq"] for r in final.judges) / 3)
    rows = {row[0]: row[1] for row in story.comparison(facts)}
    assert rows["aIQ, test"] == f"{final.further[0].metrics['test/aiq']:.4f}"
    assert "further seed, no part in the choice" in {
        t.name for t in by_name(build_figures(facts))["finalists"].figure.data
    }


def test_less_is_better_where_the_objective_is_minimized() -> None:
    study = simulated_study(30)
    records = [dataclasses.replace(r, value=r.metrics["loss"]) for r in study.records() if r.origin is None]
    space = study.document.space.document() | {"objective": {"minimize": "loss"}}
    facts = StudyFacts(RecordedTrials(records, space=space))
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
    assert StudyFacts(RecordedTrials([one, small])).most_accurate == small


def test_the_front_is_that_of_aiq_pareto() -> None:
    study = simulated_study(60)
    front = pareto_front(study.records(Phase.EXPLORE)).records
    picture = by_name(drawn(study))["tradeoff"]
    line = next(t for t in picture.figure.data if t.name == "Pareto front")
    assert sorted(line.x) == sorted(r.metrics["efficiency"] for r in front)
    complete = [r for r in study.records(Phase.EXPLORE) if r.state is TrialState.COMPLETE]
    met = sum(bool(r.feasible) for r in complete)
    assert picture.caption.startswith(
        f"Of {len(complete)} complete trials {met} meet {typeset('accuracy >= 0.9')}; "
        f"of these {len(front)} lie on the Pareto front"
    )


def test_the_largest_network_is_the_largest_that_was_tried_not_that_was_completed() -> None:
    small = SimulatedTrial(0, widths=(16, 16, 16))
    large = SimulatedTrial(1, widths=(128, 128, 128), state=TrialState.PRUNED)
    caption = by_name(drawn(SimulatedStudy([small, large])))["size"].caption
    assert "128-128-128 (#1)" in caption


def test_lines_of_equal_aiq_have_that_aiq() -> None:
    figure = by_name(drawn(simulated_study(30)))["tradeoff"].figure
    lines = [t for t in figure.data if t.legendgroup == "equal"]
    assert lines
    for line in lines:
        level = float(line.text[-1])
        for e, a in zip(line.x, line.y, strict=True):
            assert (a**2 * e) ** (1 / 3) == pytest.approx(level, abs=0.0051)


def test_a_layer_at_its_ceiling_is_told() -> None:
    record = SimulatedTrial(0, widths=(4, 4, 100)).record()
    metrics = dict(record.metrics) | {"efficiency/fc": 0.0849, "ceiling/fc": 0.0849}
    picture = by_name(drawn(RecordedTrials([dataclasses.replace(record, metrics=metrics)])))["layers"]
    ceilings = {t.name: t.x[0] for t in picture.figure.data if t.name.startswith("ceiling")}
    assert ceilings == {"ceiling of fc": 0.0849}
    assert "1 dot sits near the ceiling" in picture.caption


def test_a_large_study_is_drawn_from_a_sample_that_has_all_that_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(facts_module, "MOST_DRAWN", 40)
    monkeypatch.setattr(progress, "LINES", 10)
    study = simulated_study(300)
    facts = StudyFacts(study)
    assert len(facts.complete) == 180
    assert len(facts.drawn) == 40
    keys = {r.key for r in facts.drawn}
    assert {r.key for r in facts.ranked[:4]} <= keys
    assert facts.confirmed_origins <= {key.number for key in keys}
    assert facts.champion is not None
    assert facts.most_accurate is not None
    assert {facts.champion.key, facts.most_accurate.key} <= keys
    pictures = by_name(build_figures(facts))
    for name in ("tradeoff", "size", "slices", "parallel", "progress"):
        assert "Of 180 complete trials 40 are drawn" in pictures[name].caption
    drawn = [t for t in pictures["tradeoff"].figure.data if t.name in ("trial", "finalist", "champion")]
    drawn += [t for t in pictures["tradeoff"].figure.data if t.name == "misses a constraint"]
    assert sum(len(t.x) for t in drawn) == 41  # the champion is a finalist too
    for trace in pictures["rungs"].figure.data:
        assert sum(x is None for x in trace.x) <= 10
    line = pictures["progress"].figure.data[1]
    best = [facts.shown(facts.score(r)) for r in facts.complete if r.feasible]
    assert line.y[-1] == max(best)
    assert line.x[-1] == 180


def test_the_pictures_of_a_larger_study_are_hardly_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts_module, "MOST_DRAWN", 60)
    monkeypatch.setattr(progress, "LINES", 20)
    sizes = [
        sum(len(picture.figure.to_json()) for picture in drawn(SimulatedStudy(trials(n)))) for n in (150, 450)
    ]
    assert sizes[1] < 1.1 * sizes[0]


def test_neurons_that_carry_nothing_are_drawn_and_counted() -> None:
    picture = by_name(drawn(simulated_study(10), VIEW))["neurons"]
    shapes = {trace.name: len(trace.x) for trace in picture.figure.data}
    assert shapes == {"fires for some": 1, "determined by another": 1, "never or always fires": 2}
    assert "In conv1 2 neurons never change and 1 neuron repeats another or its opposite." in picture.caption


def test_the_balance_of_the_classes_is_drawn_split_by_split() -> None:
    records = simulated_study(10).records()
    counts = {"train": [5, 3, *[4] * 8], "validation": [2] * 10, "test": [2] * 10}
    data = document()["dataset"] | {"class_counts": counts}
    picture = by_name(drawn(RecordedTrials(records, dataset=data)))["data"]
    train, *_ = picture.figure.data
    assert list(train.customdata) == counts["train"]
    assert sum(train.y) == pytest.approx(1)
    assert "0 has the most examples (5), 1 the fewest (3)." in picture.caption


def test_only_what_was_confirmed_is_called_champion() -> None:
    explored = [r for r in simulated_study(30).records() if r.key.phase is Phase.EXPLORE]
    pictures = drawn(RecordedTrials(explored), VIEW)
    facts = StudyFacts(RecordedTrials(explored))
    words = [story.headline(facts), *story.sentences(facts), *(p.title for p in pictures)]
    words += [trace.name or "" for p in pictures for trace in p.figure.data]
    words += [p.caption for p in pictures]
    assert not [text for text in words if "champion" in text.lower()]


def test_the_time_is_drawn_as_shares_that_sum_to_all_of_it() -> None:
    picture = by_name(drawn(simulated_study(30)))["time"]
    shares = {trace.name: trace.x[0] for trace in picture.figure.data}
    assert sum(shares.values()) == pytest.approx(1)
    assert {"exploring, kept", "exploring, pruned", "failed", "confirming", "waiting", "start"} <= set(shares)
    assert picture.caption.startswith("Where the time of")
