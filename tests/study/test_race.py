"""The race: who is trained next, who leads, and when it is decided."""

from __future__ import annotations

import random
import statistics
from typing import Any

import pytest

from aiq_search.space import SearchSpace
from aiq_search.study import Phase, TrialKey, TrialRecord, TrialState
from aiq_search.study.posterior import Observation, posteriors, similarities
from aiq_search.study.race import Contender, Race


def space(runs: int = 15, **objective: Any) -> SearchSpace:
    return SearchSpace.model_validate(
        {
            "schema_version": 1,
            "name": "race",
            "model": {"name": "mlp"},
            "dataset": {"name": "digits"},
            "parameters": {"model.hidden1": {"type": "int", "low": 1, "high": 64}},
            "objective": objective,
            "confirm": {"runs": runs},
        }
    )


def trained(
    number: int, aiq: float, *, epochs: int = 4, accuracy: float = 0.9, parameters: int = 100, **fields: Any
) -> TrialRecord:
    """An exploring trial whose aIQ rises by .01 an epoch to its last one."""
    column = [aiq - 0.01 * (epochs - 1 - epoch) for epoch in range(epochs)]
    metrics = {"aiq": aiq, "accuracy": accuracy, "efficiency": 0.5, "loss": 0.1, "parameters": parameters}
    return TrialRecord(
        TrialKey("s", Phase.EXPLORE, number),
        fields.pop("state", TrialState.COMPLETE),
        {"model.hidden1": number},
        0,
        f"config-{number}",
        epochs=epochs,
        metrics=metrics,
        history={
            "aiq": column,
            "accuracy": [accuracy] * epochs,
            "efficiency": [0.5] * epochs,
            "loss": [1.0 / (epoch + 1) for epoch in range(epochs)],
        },
        feasible=True,
        **fields,
    )


def seed_of(origin: int, replicate: int, aiq: float, **fields: Any) -> TrialRecord:
    record = trained(origin, aiq, **fields)
    return TrialRecord(
        TrialKey("s", Phase.CONFIRM, 1000 * origin + replicate),
        record.state,
        record.params,
        replicate,
        record.config_hash,
        origin=origin,
        replicate=replicate,
        epochs=record.epochs,
        metrics=record.metrics,
        history=record.history,
        collapsed=record.collapsed,
        feasible=True,
    )


def run(
    where: SearchSpace, explored: list[TrialRecord], truth: dict[int, float], noise: float, seed: int = 0
):
    """Race to the end, one training at a time."""
    rng = random.Random(seed)
    confirmed: list[TrialRecord] = []
    while (contender := Race(where, explored, confirmed).next()) is not None:
        value = truth[contender.trial] + rng.gauss(0, noise)
        confirmed.append(seed_of(contender.trial, contender.started, value))
    return Race(where, explored, confirmed), confirmed


def test_posteriors_agree_with_those_of_a_numerical_integration():
    shown = [Observation(0.80, 0.0), Observation(0.84, 0.001), Observation(0.70, 0.0)]
    fresh = [[0.81, 0.79], [0.80], []]
    found = posteriors(shown, fresh)
    # By hand: variance over contenders of what was shown, a quarter of it over seeds before any repeat.
    over_contenders = statistics.variance([0.80, 0.84, 0.70])
    squares = statistics.pvariance([0.81, 0.79]) * 2
    over_seeds = (4 * 0.25 * over_contenders + squares) / (4 + 1)
    between = max(over_contenders - over_seeds, 0.25 * over_seeds)
    center = statistics.fmean([0.80, 0.84, 0.70])
    grid = [0.4 + 0.0001 * step for step in range(8000)]
    for observation, seeds, posterior in zip(shown, fresh, found, strict=True):

        def density(mean: float, observation=observation, seeds=seeds) -> float:
            exponent = -((mean - center) ** 2) / (2 * between)
            exponent -= (observation.value - mean) ** 2 / (2 * (over_seeds + observation.variance))
            exponent -= sum((value - mean) ** 2 for value in seeds) / (2 * over_seeds)
            return 2.718281828459045**exponent

        weights = [density(mean) for mean in grid]
        mean = sum(w * m for w, m in zip(weights, grid, strict=True)) / sum(weights)
        variance = sum(w * (m - mean) ** 2 for w, m in zip(weights, grid, strict=True)) / sum(weights)
        assert posterior.mean == pytest.approx(mean, abs=1e-4)
        assert posterior.sd == pytest.approx(variance**0.5, abs=1e-4)


def test_a_contender_gains_by_what_its_neighbours_show():
    shown = [Observation(0.80, 0.0), Observation(0.80, 0.0), Observation(0.80, 0.0), Observation(0.7, 0.0)]
    fresh = [[], [0.85, 0.85], [], []]
    alike = similarities(space(), [{"model.hidden1": width} for width in (10, 11, 60, 35)])
    near, _, far, _ = posteriors(shown, fresh, alike)
    assert near.mean > far.mean


def test_a_lucky_seed_does_not_become_champion():
    explored = [trained(0, 0.90), trained(1, 0.86), trained(2, 0.85), trained(3, 0.70)]
    truth = {0: 0.82, 1: 0.86, 2: 0.83, 3: 0.70}
    wins = [run(space(), explored, truth, 0.02, seed)[0].leader for seed in range(20)]
    assert sum(leader is not None and leader.trial == 1 for leader in wins) >= 18


def test_the_hopeless_get_nothing():
    explored = [trained(0, 0.90), trained(1, 0.89), trained(2, 0.40)]
    _, confirmed = run(space(), explored, {0: 0.89, 1: 0.89, 2: 0.40}, 0.01)
    assert all(record.origin != 2 for record in confirmed)


def test_a_pruned_trial_races_with_what_completed_trials_gained_after_its_epoch():
    pruned = trained(1, 0.84, epochs=1, state=TrialState.PRUNED)
    race = Race(space(), [trained(0, 0.85), trained(2, 0.80), pruned], [])
    assert race.contenders[0].trial == 1  # .84 + .03 is above .85


def test_the_race_is_as_long_as_asked_and_its_champion_has_enough_seeds():
    explored = [trained(number, 0.8 + 0.001 * number) for number in range(8)]
    truth = dict.fromkeys(range(8), 0.8)
    for runs in (1, 2, 5, 15):
        race, confirmed = run(space(runs), explored, truth, 0.02)
        needed = min(3, runs)
        assert runs <= len(confirmed) <= runs + 2 * needed
        assert race.leader is not None
        assert len(race.leader.seeds) >= needed


def test_what_waits_counts_as_started():
    explored = [trained(0, 0.90), trained(1, 0.895), trained(2, 0.70)]
    first = Race(space(), explored, []).next()
    assert first is not None
    assert first.trial == 0
    second = Race(space(), explored, [], queued=[0, 0, 0]).next()
    assert second is not None
    assert second.trial == 1


def test_it_does_not_depend_on_the_order_of_the_records():
    explored = [trained(number, 0.8 + 0.01 * number) for number in range(6)]
    _, confirmed = run(space(), explored, {n: 0.8 + 0.01 * n for n in range(6)}, 0.02)
    there = Race(space(), explored, confirmed[:7])
    back = Race(space(), explored[::-1], confirmed[:7][::-1])
    assert _view(there.contenders) == pytest.approx(_view(back.contenders))


def _view(contenders: list[Contender]) -> list[float]:
    return [number for c in contenders for number in (c.trial, c.score.mean, c.score.sd, len(c.seeds))]


def test_one_that_misses_a_constraint_on_average_does_not_lead():
    where = space(constraints=["accuracy >= 0.9"])
    explored = [trained(0, 0.90, accuracy=0.91), trained(1, 0.80, accuracy=0.95)]
    confirmed = [seed_of(0, seed, 0.90, accuracy=0.85) for seed in range(3)]
    confirmed += [seed_of(1, seed, 0.80, accuracy=0.95) for seed in range(3)]
    race = Race(where, explored, confirmed)
    assert race.leader is not None
    assert race.leader.trial == 1


def test_a_network_too_large_does_not_race():
    where = space(constraints=["parameters <= 100"])
    race = Race(where, [trained(0, 0.9, parameters=101), trained(1, 0.8)], [])
    assert [contender.trial for contender in race.contenders] == [1]


def test_the_smallest_wins_outright_where_size_is_the_objective():
    where = space(minimize="parameters", constraints=["accuracy >= 0.9"])
    explored = [trained(0, 0.9, parameters=500), trained(1, 0.9, parameters=400, accuracy=0.93)]
    confirmed = [seed_of(1, seed, 0.9, parameters=400, accuracy=0.93) for seed in range(3)]
    race = Race(where, explored, confirmed)
    assert race.over
    assert race.leader is not None
    assert race.leader.trial == 1


def test_of_many_sizes_a_small_one_that_is_good_enough_wins_although_smaller_ones_look_almost_so():
    """Accuracy grows with the size, and one seed varies by as much as ten sizes differ."""
    sizes = range(400, 801, 10)
    truth = {number: 0.9 + 1e-4 * (size - 600) for number, size in enumerate(sizes)}
    where = space(12, minimize="parameters", constraints=["accuracy >= 0.9"])
    won = []
    for seed in range(30):
        rng = random.Random(seed)
        explored = [
            trained(number, 0.9, parameters=size, accuracy=rng.gauss(truth[number], 0.005))
            for number, size in enumerate(sizes)
        ]
        confirmed: list[TrialRecord] = []
        while (contender := Race(where, explored, confirmed).next()) is not None:
            number = contender.trial
            replicate = sum(record.origin == number for record in confirmed)
            accuracy = rng.gauss(truth[number], 0.005)
            confirmed.append(seed_of(number, replicate, 0.9, parameters=sizes[number], accuracy=accuracy))
        leader = Race(where, explored, confirmed).leader
        won.append(None if leader is None else sizes[leader.trial])
    assert None not in won  # the smallest that may be good enough, one after the other, would win 22 times
    assert 560 <= statistics.median(won) <= 640


def test_what_others_dominated_is_not_in_the_race():
    where = space(minimize="parameters", constraints=["accuracy >= 0.9"])
    pruned = trained(1, 0.9, parameters=50, epochs=1, state=TrialState.PRUNED)
    race = Race(where, [trained(0, 0.9), pruned], [])
    assert [contender.trial for contender in race.contenders] == [0]


def test_failed_and_collapsed_seeds_count_against_a_contender():
    explored = [trained(0, 0.90), trained(1, 0.88)]
    confirmed = [
        seed_of(0, 0, 0.90),
        seed_of(0, 1, 0.0, state=TrialState.FAIL),
        seed_of(0, 2, 0.0, collapsed=True),
        *(seed_of(1, seed, 0.88) for seed in range(3)),
    ]
    race = Race(space(), explored, confirmed)
    assert race.contenders[0].trial == 1


def test_it_is_over_only_when_every_training_has_ended():
    explored = [trained(0, 0.90), trained(1, 0.50)]
    confirmed = [seed_of(0, seed, 0.90) for seed in range(15)]
    assert Race(space(), explored, confirmed).over
    running = seed_of(0, 3, 0.9, state=TrialState.RUNNING)
    assert not Race(space(), explored, [*confirmed[:3], running, *confirmed[4:]]).over


def test_nothing_to_race_is_over_at_once():
    assert Race(space(), [], []).over
    assert Race(space(), [trained(0, 0.0, collapsed=True)], []).next() is None


def test_a_pruned_trial_misses_a_constraint_by_what_it_showed_and_not_by_everything() -> None:
    """Else many pruned trials would make it look as if nothing could meet the constraint."""
    where = space(constraints=["accuracy >= 0.95"])
    complete = [trained(number, 0.85, accuracy=0.96) for number in range(4)]
    pruned = [trained(n, 0.8, epochs=1, accuracy=0.955, state=TrialState.PRUNED) for n in range(4, 40)]
    race = Race(where, [*complete, *pruned], [])
    assert race.next() is not None
    by_trial = {contender.trial: contender for contender in race.contenders}
    assert all(by_trial[number].may_be_feasible for number in range(40))
    assert by_trial[10].violations[0].mean == pytest.approx(-0.005, abs=0.005)
