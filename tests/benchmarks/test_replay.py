"""Replays, on a made-up table: no network is trained."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from aiq_search import run_search
from aiq_search.errors import InputError
from aiq_search.space import load_space
from aiq_search.study import Phase, Study
from aiq_search.worker import Assignment
from benchmarks.replay.quality import PEERS, Mean, Replays, describe
from benchmarks.replay.search import SPACE, outcome_of, replay, run_driver
from benchmarks.replay.table import WIDTHS, Table, chosen_epochs
from benchmarks.replay.worker import replaying

EPOCHS = 6
CELLS = list(itertools.product((2, 4, 8, 16), repeat=3))
BEST = (4, 8, 2)
SHORT = ["search.trials=12", "confirm.finalists=2", "confirm.seeds=2"]


def made_up(noise=0.02, runs=3):
    """Rows of a table: the better, the nearer to BEST; seeds differ by the noise."""
    drawn = np.random.default_rng(0)
    rows = []
    for cell, seed in itertools.product(CELLS, range(runs)):
        distance = sum(abs(np.log2(a / b)) for a, b in zip(cell, BEST, strict=True))
        end = 0.9 - 0.04 * distance + noise * drawn.standard_normal()
        for epoch in range(1, EPOCHS + 1):
            aiq = end * (1 - 0.5**epoch)
            told = {"aiq": aiq, "accuracy": aiq, "efficiency": aiq, "loss": 1 - aiq, "train_loss": 1 - aiq}
            size = {"parameters": 10, "parameters_weights": 8, "macs": 8}
            rows.append(dict(zip(WIDTHS, cell, strict=True)) | {"seed": seed, "epoch": epoch} | told | size)
    return pd.DataFrame(rows)


def of_best(rows):
    """Which rows are the best cell's."""
    return (rows[list(WIDTHS)] == list(BEST)).all(axis=1)


@pytest.fixture(scope="module")
def table():
    return Table(made_up())


def assignment(cell, seed, *, test=False, epochs=EPOCHS):
    widths = dict(zip(WIDTHS, cell, strict=True)) | {"activation": "elu"}
    return Assignment("s/explore/0", {"arguments": widths}, {"epochs": epochs}, seed, 2.0, test, "", "")


def test_a_training_is_answered_by_the_run_that_its_seed_draws():
    rows = made_up()
    table = Table(rows)
    for seed in (4, 3002):
        run = rows[of_best(rows) & (rows.seed == seed % 3)]
        told = [table.report(assignment(BEST, seed), epoch) for epoch in range(1, EPOCHS + 1)]
        assert [metrics["aiq"] for report in told for _, metrics in report.epochs] == list(run.aiq)
        assert [report.done for report in told] == [False] * (EPOCHS - 1) + [True]


def test_a_test_is_answered_by_the_validation_numbers_of_the_chosen_epoch():
    rows = made_up()
    rows.loc[rows.epoch == 3, "loss"] = 0.0
    report = Table(rows).report(assignment(BEST, 0, test=True), EPOCHS)
    third = rows[of_best(rows) & (rows.seed == 0) & (rows.epoch == 3)]
    assert report.chosen == 3
    assert report.final["test/aiq"] == third.aiq.item()


def test_the_true_value_is_the_mean_at_the_chosen_epochs_and_the_best_has_no_regret():
    rows = made_up(noise=0)
    rows.loc[of_best(rows) & (rows.seed == 0), ["aiq", "efficiency"]] = 0.0
    table = Table(rows)
    whole = 0.9 * (1 - 0.5**EPOCHS)
    assert table.means[BEST] == pytest.approx(whole * 2 / 3)  # one of its runs collapsed
    assert table.best != BEST
    assert table.regret(table.best) == 0
    assert len(chosen_epochs(rows)) == 3 * len(CELLS)


@pytest.mark.parametrize("asked", [assignment((2, 4, 32), 0), assignment(BEST, 0, epochs=7)])
def test_what_the_table_does_not_have_is_refused(table, asked):
    with pytest.raises(InputError, match="replay a search of the table's own space"):
        table.report(asked, 1)


def test_a_table_that_is_not_whole_is_refused(tmp_path):
    rows = made_up()
    with pytest.raises(InputError, match="not whole"):
        Table(rows.drop(index=2))
    with pytest.raises(InputError, match="of one length"):
        Table(rows.drop(index=5))
    with pytest.raises(InputError, match="build"):
        Table.load(tmp_path / "none.csv")


def test_without_noise_a_search_of_every_cell_chooses_the_best():
    table = Table(made_up(noise=0))
    edits = ["search.sampler=grid", "search.pruner=none", "search.trials=64", *SHORT[1:]]
    outcome = replay(table, 0, edits)
    assert (outcome.chosen, outcome.regret, outcome.is_best) == (BEST, 0, True)
    assert (outcome.cells, outcome.exploring) == (64, 64 * EPOCHS)
    assert (outcome.confirming, outcome.measuring) == (2 * 2 * EPOCHS, 2 * EPOCHS)


def test_a_replay_repeats_with_its_seed(table):
    assert replay(table, 5, SHORT) == replay(table, 5, SHORT)


def test_a_peer_explores_for_as_many_network_epochs_and_hardly_more(table):
    peer = replay(table, 5, [*SHORT, *PEERS["random, no pruner"], "search.max_hours=40"])
    assert 40 <= peer.exploring <= 40 + 2 * EPOCHS


def test_answers_that_were_known_cost_nothing(table):
    edits = ["search.trials=100", "search.sampler=random", "search.pruner=none", *SHORT[1:]]
    outcome = replay(table, 1, edits, concurrency=1)
    assert outcome.exploring == outcome.cells * EPOCHS < 100 * EPOCHS


def test_a_verdict_is_as_its_figures_are(table):
    good = replay(table, 0, SHORT)
    good = replace(good, regret=0.004)
    bad = replace(good, regret=0.02, exploring=1000)
    peers = {name: [bad] * 3 for name in PEERS}
    text = describe(table, Replays("defaults", (), {"TPE + ASHA": [good] * 3, **peers}))
    assert "MISSED" not in text
    assert "| -0.0160 (-0.0160 to -0.0160) | better than random |" in text
    text = describe(table, Replays("defaults", (), {"TPE + ASHA": [bad] * 3, **peers}))
    assert text.count("MISSED") == 3
    assert "no difference seen" in text


def test_an_interval_holds_the_mean_and_narrows_with_the_sample():
    few, many = Mean.of([0.0, 1.0] * 5), Mean.of([0.0, 1.0] * 500)
    assert few.low < many.low < 0.5 < many.high < few.high


def trials_of(study):
    """All that a search decided, in the order in which it did."""
    return [
        (record.name, record.params, record.seed, record.state, record.epochs, record.value)
        for record in study.records()
    ]


@pytest.mark.slow
@pytest.mark.nightly
def test_a_search_through_ray_is_the_search_without_it(table, tmp_path, monkeypatch):
    pictures = np.random.default_rng(0).integers(0, 256, (40, 1, 28, 28), np.uint8)
    np.savez(tmp_path / "pictures.npz", x_train=pictures, y_train=np.arange(40) % 10)
    monkeypatch.chdir(tmp_path)
    edits = ["dataset={name: pictures.npz}", "search.concurrency=1", "search.seed=3", "search.trials=30"]
    edits += SHORT[1:]
    result = run_search(
        SPACE, overrides=edits, study_id="ray", home=tmp_path / "home", worker=replaying(table)
    )
    dataset = result.study.document.dataset
    alone = Study.create(tmp_path / "alone", load_space(SPACE, edits), dataset, "alone")
    champion = run_driver(alone, table, concurrency=1)
    assert trials_of(alone) == trials_of(result.study)
    assert any(record.state == "PRUNED" for record in alone.records(Phase.EXPLORE))
    assert outcome_of(alone, table, champion) == outcome_of(result.study, table, result.champion)
    assert champion.explored.params == result.champion.explored.params


def test_in_a_mirrored_table_what_was_best_narrow_is_best_wide():
    rows = made_up()
    table, mirrored = Table(rows), Table(rows).mirrored()
    assert mirrored.best == (8, 4, 16)
    assert mirrored.means[16, 16, 16] == table.means[2, 2, 2]
    assert mirrored.report(assignment((8, 4, 16), 1), 3) == table.report(assignment(BEST, 1), 3)


def test_a_search_that_regards_prices_finds_a_wide_network_where_one_is_best():
    mirrored = Table.load().mirrored()
    assert mirrored.best == (16, 8, 4)
    outcomes = [replay(mirrored, seed, ["confirm.ties=best"]) for seed in range(6)]
    assert sum(outcome.regret for outcome in outcomes) / 6 < 0.01
    assert sum(outcome.is_best for outcome in outcomes) >= 2
