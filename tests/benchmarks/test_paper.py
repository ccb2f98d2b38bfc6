"""The paper's claims: their spaces, their verdicts on made-up numbers, and one of them in miniature."""

import itertools
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch

from aiq_search.datasets import known_shape
from aiq_search.models import build_model
from aiq_search.search.check import check_networks, check_space
from aiq_search.space import load_space
from aiq_search.training import TensorSplit, evaluate
from benchmarks.paper import beyond, regularisers, verdicts
from benchmarks.paper.__main__ import main
from benchmarks.paper.claims import BUDGETS, CLAIMS, Finding
from benchmarks.paper.document import write_section
from benchmarks.paper.measuring import MODULE, POINTS, _ways
from benchmarks.paper.rows import NOISE, TEST, TRAIN, Evidence, epochs_of, trainings_of
from tests.search.simulation import finish, new_study

PIECES = {piece.name: piece for claim in CLAIMS.values() for piece in claim.pieces}


@pytest.mark.parametrize(
    ("budget", "name"), [(budget, name) for budget in BUDGETS for name in BUDGETS[budget]]
)
def test_every_search_can_be_run_and_reports_what_its_claim_is_about(budget, name):
    piece = PIECES[name]
    space = load_space(piece.space, (*piece.edits, *BUDGETS[budget][piece.name]))
    check_space(space)
    check_networks(space, *known_shape(space.dataset.name))
    assert space.search.weights == "all"
    assert budget == "small" or space.search.replicates == 5
    assert "test" in space.dataset.watch
    assert space.training.patience is None or space.training.patience == 5


def grid_rows(accuracy, efficiency, names=("model.conv1", "model.conv2", "model.fc"), seeds=3):
    """Trainings of a grid, of which two functions of the widths give the numbers."""
    rows = []
    for trial, widths in enumerate(itertools.product((2, 8, 32), repeat=len(names))):
        for replicate in range(seeds):
            good, well = accuracy(*widths) + 0.001 * replicate, efficiency(*widths)
            size = int(np.prod(widths))
            rows.append(
                {"piece": "grid", "trial": trial * seeds, "replicate": replicate, "seed": replicate}
                | dict(zip(names, widths, strict=True))
                | {"widths": "-".join(map(str, widths)), "accuracy": good, "efficiency": well}
                | {"aiq": (good**2 * well) ** (1 / 3), TEST: good - 0.01}
                | {"parameters": size, "parameters_weights": size * 2, "epochs": 2}
            )
    return pd.DataFrame(rows)


def of_grid(*arguments):
    return Evidence(grid_rows(*arguments))


def is_svg(text):
    return ElementTree.fromstring(text).tag.endswith("svg")  # noqa: S314 - we wrote it


def test_size_compares_the_best_aiq_with_the_best_accuracy_seed_by_seed():
    def accuracy(*widths):
        return 0.96 + 0.023 * (widths == (32, 32, 32))

    found = verdicts.size(of_grid(accuracy, lambda *widths: 0.9 if widths == (2, 2, 2) else 0.2))
    assert "2-2-2 has 4,096 times fewer parameters than 32-32-32" in found.ours
    assert "2.3 ± " in found.ours
    assert found.verdict == "partly"  # the paper's factor is 30,912
    betas = found.tables["The network of the highest aIQ, by beta"].set_index("beta")
    assert list(betas.index) == [0.5, 1, 2, 4, 8]
    assert betas.loc[1, "aIQ at this beta"] == pytest.approx(((0.961 * 0.9) ** 0.5), abs=1e-3)
    assert is_svg(found.svg)
    lost_too_much = verdicts.size(
        of_grid(lambda *w: 0.8 + 0.19 * (w == (32, 32, 32)), lambda *w: 0.9 if w == (2, 2, 2) else 0.1)
    )
    assert lost_too_much.verdict == "not seen"


def test_size_names_the_networks_whose_aiq_cannot_be_told_from_the_best():
    def efficiency(*widths):
        return {(2, 2, 2): 0.9, (2, 2, 8): 0.899}.get(widths, 0.2)

    rows = grid_rows(lambda *widths: 0.96 + 0.02 * (widths == (32, 32, 32)), efficiency)
    assert "cannot be told" not in verdicts.size(Evidence(rows)).ours
    rows["aiq"] += np.where(rows["widths"].isin(["2-2-8"]), np.tile([-0.02, 0.0, 0.02], len(rows) // 3), 0)
    assert (
        "cannot be told from that of 2-2-8 (paired by seed, at 5 %); 2-2-8 has 1,024 times fewer"
        in verdicts.size(Evidence(rows)).ours
    )


def test_size_says_what_the_pair_that_fits_the_papers_factor_lost():
    rows = grid_rows(lambda *widths: 0.9 + sum(widths) / 1e4, lambda *widths: 1 / sum(widths))
    pair = rows[rows["trial"] < 6].copy()
    for trial, widths, accuracy in ((0, (16, 1024, 1024), 0.99), (3, (4, 2, 8), 0.95)):
        chosen = pair["trial"] == trial
        pair.loc[chosen, ["model.conv1", "model.conv2", "model.fc"]] = widths
        pair.loc[chosen, "widths"] = "-".join(map(str, widths))
        pair.loc[chosen, TEST] = accuracy * (1 + pair.loc[chosen, "seed"] / 100)
    both = pd.concat([rows, pair.assign(piece="pair")])
    said = verdicts.size(Evidence(both)).ours
    assert "16-1024-1024 against 4-2-8" in said
    assert "4.04 ± 0.04 (3 seeds) points. No other network with a layer wider than 32" in said
    assert "out of reach" in verdicts.size(Evidence(rows)).ours


def test_surfaces_follow_the_ranks():
    names = ("model.hidden1", "model.hidden2")
    rising = verdicts.surfaces(of_grid(lambda a, b: 0.8 + a * b / 1e4, lambda a, b: 1 / (a * b), names))
    falling = verdicts.surfaces(of_grid(lambda a, b: 0.9 - a * b / 1e4, lambda a, b: a * b / 2e3, names))
    assert (rising.verdict, falling.verdict) == ("reproduced", "not seen")
    assert is_svg(rising.svg)


def regularised(gain_norm, gain_dropout, seeds=5):
    draw = np.random.default_rng(0)
    rows = []
    for width, norm, rate, seed in itertools.product((2, 8), (False, True), (0.0, 0.5), range(seeds)):
        if norm and rate:
            continue
        gain = gain_norm * norm + gain_dropout * (rate > 0) + 0.001 * draw.standard_normal()
        rows.append(
            {"piece": "lenet-5", "widths": str(width), "model.batch_norm": norm, "model.dropout": rate}
            | {"seed": seed, "efficiency": 0.5 + gain}
        )
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("norm", "dropout", "said"),
    [
        (0.05, 0.05, "batch norm: reproduced .*; dropout: reproduced"),
        (0.05, -0.05, "batch norm: reproduced .*; dropout: contradicted"),
        (0.0, 0.05, "batch norm: (not seen|partly|contradicted) .*; dropout: reproduced"),
    ],
)
def test_regularisers_are_compared_seed_by_seed(norm, dropout, said):
    found = regularisers.judge(Evidence(regularised(norm, dropout)))
    assert re.match(said, found.ours)
    table = found.tables["Paired by seed (sign: differs from 0 at 5 %)"]
    assert list(table["seeds"].unique()) == [5]
    assert table[table["with"] == "dropout 0.5"]["mean"].mean() == pytest.approx(dropout, abs=0.002)
    assert is_svg(found.svg)


def test_for_what_is_contradicted_each_way_to_measure_it_is_a_reason_or_is_ruled_out():
    lowered, raised = regularised(0.05, -0.05), regularised(0.05, 0.05)
    way = {"point": "dropout", "observations": 1000}
    usual = lowered.assign(mode="evaluation", **way)
    for other, said in (
        (raised, "reason for dropout: measured in training mode at the dropout"),
        (lowered, "No way .* dropout"),
    ):
        measured = pd.concat([usual, other.assign(mode="training", **way)])
        assert re.search(said, regularisers.judge(Evidence(lowered, measured)).ours)


def test_the_papers_own_recipe_is_compared_by_itself():
    rows = pd.concat(
        [regularised(0.05, -0.05), regularised(0.05, 0.05).assign(piece=regularisers.PAPERS_RECIPE)]
    )
    found = regularisers.judge(Evidence(rows))
    assert found.verdict == "contradicted"
    assert (
        "own recipe: batch norm raised in 2 and lowered in 0 of 2 comparisons; dropout raised in 2"
        in found.ours
    )
    assert "ruled out as the reason" not in found.ours
    assert len(found.tables["Trained with the paper's own recipe, paired by seed"]) == 4
    same = pd.concat(
        [regularised(0.05, -0.05).assign(piece=p) for p in ("lenet-5", regularisers.PAPERS_RECIPE)]
    )
    assert "It is ruled out as the reason for dropout." in regularisers.judge(Evidence(same)).ours


def test_a_network_is_measured_at_its_layers_and_after_what_follows_them():
    arguments = {"conv1": 2, "conv2": 3, "fc": 4, "batch_norm": True, "dropout": 0.5}
    model = build_model("lenet_5", arguments, (1, 28, 28), 10)
    draw = np.random.default_rng(0)
    pictures = torch.tensor(draw.normal(size=(60, 1, 28, 28)), dtype=torch.float32)
    split = TensorSplit(pictures, torch.zeros(60, dtype=torch.int64), torch.ones(1), torch.zeros(1))
    model.get_submodule("fc_norm").bias.data.fill_(-100.0)  # all off after it
    model.eval()
    rows = list(_ways(model, split, list(POINTS), [20], training=True))
    assert len(rows) == 2 * len(POINTS) + 1
    found = {(row["mode"], row["point"], row["observations"]): row["efficiency"] for row in rows}
    usual = evaluate(model, split, beta=2.0).efficiency
    assert found["evaluation", MODULE, 60] == usual > 0
    assert found["evaluation", "activation", 60] == found["training", "dropout", 60] == 0


def test_efficiency_that_is_size_alone_has_no_correlation_at_equal_parameters():
    draw = np.random.default_rng(0)
    size = np.repeat(np.arange(40.0), 2)
    alone = np.column_stack([draw.normal(size=80) - 0.3 * size, draw.normal(size=80) + 0.3 * size, size])
    assert abs(beyond.partial_correlation(alone)) < 0.25
    both = alone.copy()
    both[:, 1] = both[:, 0] + size
    assert beyond.partial_correlation(both) > 0.5


def test_beyond_the_paper_ranks_are_compared_by_beta_observations_and_data_set():
    names = ("model.hidden1", "model.hidden2")
    rows = grid_rows(lambda a, b: 0.8 + a * b / 1e4, lambda a, b: 1 / (a + b), names)
    rows[TRAIN] = (
        rows["accuracy"] + 0.02 * rows["parameters"] / 1000 + 0.01 * rows["seed"] * rows["trial"] % 7
    )
    both = pd.concat([rows.assign(piece=name) for name in ("lenet-300-100", "fashion-300-100")])
    ways = [both.assign(point=MODULE, observations=number, mode="evaluation") for number in (100, 10_000)]
    found = beyond.judge(Evidence(both, pd.concat(ways)))
    assert "On 100 images the ranks of lenet-300-100 correlate at +1.00" in found.ours
    assert "MNIST and Fashion-MNIST has a rank correlation of +1.00" in found.ours
    assert "at equal parameters" in found.ours
    assert is_svg(found.svg)


def curves(narrow_test):
    rows = []
    for noise, (widths, aiq, test), replicate, epoch in itertools.product(
        (0, 75), (("2-4-8", 0.8, narrow_test), ("32-64-128", 0.4, 0.6)), range(3), range(1, 5)
    ):
        rows.append(
            {
                "piece": f"noise-{noise}",
                NOISE: noise / 100,
                "widths": widths,
                "trial": widths,
                "replicate": replicate,
            }
            | {"epoch": epoch, "aiq": aiq, "loss": abs(epoch - 3), "seed": replicate}
            | {TEST: test if epoch == 3 else 0.1, TRAIN: 0.1 * epoch if noise else 0.9}
        )
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("test", "verdict"), [(0.93, "reproduced"), (0.89, "partly"), (0.5, "not seen")])
def test_memorisation_is_judged_at_the_chosen_epoch_of_the_best_aiq(test, verdict):
    found = verdicts.memorisation(Evidence(curves(test)))
    assert found.verdict == verdict
    assert f"2-4-8, has {test:.4g} ± 0 (3 seeds)" in found.ours
    assert is_svg(found.svg)


def test_a_section_replaces_its_older_self_and_leaves_the_others(tmp_path):
    document = tmp_path / "paper.md"
    found = of_grid(lambda *w: 0.9, lambda *w: 1 / w[0])
    trained = {"grid": (81, 90)}
    for name, command in (("size", "run-1"), ("lenet_300_100", "run-2"), ("size", "run-3")):
        finding = Finding(CLAIMS[name], found, verdicts.size(found), trained)
        write_section(document, name, command, finding, ["the-rest"])
    text = document.read_text()
    sections = text[text.index("<!--") :]
    assert [sections.count(command) for command in ("run-1", "run-2", "run-3")] == [0, 1, 1]
    table = text[: text.index("<!--")]
    assert "run-1" not in table
    assert "run-3" in table
    assert table.count("| not run |") == len(CLAIMS) - 2
    assert "grid 81 of 90" in text
    assert "Not run: the-rest" in text
    assert len(pd.read_csv(tmp_path / "paper" / "size.csv")) == len(found.rows)
    for linked in re.findall(r"\]\((paper/[^)]+)\)", text):
        assert (tmp_path / linked).is_file()


def test_the_epochs_of_a_study_are_rows_with_their_cell_and_origin(tmp_path):
    width = {"type": "int", "low": 4, "high": 8, "powers_of": 2}
    study = new_study(
        tmp_path,
        parameters={"model.hidden1": width, "model.hidden2": width},
        search={"sampler": "grid", "pruner": "none", "replicates": 2},
        confirm={"runs": 0, "finalists": None},
    )
    finish(study)
    rows = epochs_of({"noise-75": study})
    assert len(rows) == 4 * 2 * 4  # cells, seeds, epochs
    assert list(rows["piece"].unique()) == ["noise-75"]
    assert set(rows["widths"]) == {"4-4", "4-8", "8-4", "8-8"}
    assert rows.groupby("widths")["trial"].nunique().eq(1).all()
    assert list(rows["epoch"][:4]) == [1, 2, 3, 4]
    trainings = trainings_of({"grid": study})
    assert len(trainings) == 4 * 2
    last = rows[rows["epoch"] == 4].set_index(["trial", "replicate"])["aiq"]
    pd.testing.assert_series_equal(trainings.set_index(["trial", "replicate"])["aiq"], last)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_claim_in_miniature_through_the_product(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIQ_RUNNER", "in_process")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 10, 500)
    pictures = draw.integers(0, 99, (500, 1, 28, 28)).astype(np.uint8)
    pictures[np.arange(500), 0, 2 * labels, :] = 255  # a class is a bright row
    parts = {"train": slice(0, 400), "test": slice(400, 500)}
    inputs = {f"x_{name}": pictures[part] for name, part in parts.items()}
    np.savez(tmp_path / "rows.npz", **inputs, **{f"y_{name}": labels[part] for name, part in parts.items()})
    grid = [f"parameters.model.{name}.high=4" for name in ("hidden1", "hidden2")]
    edits = {
        "lenet-300-100": (*grid, "search.replicates=2"),
        "lenet-5-narrow": tuple(f"parameters.model.{name}.high=2" for name in ("conv1", "conv2", "fc")),
        "noise-75": ("parameters.model.conv2.choices=[4, 8]", "search.replicates=1"),
        "regularised-300-100": ("parameters.model.hidden1.choices=[4]", "search.replicates=2"),
    }
    monkeypatch.setitem(BUDGETS, "small", edits)
    for name, claim in CLAIMS.items():
        monkeypatch.setitem(CLAIMS, name, replace(claim, pieces=claim.pieces[:1]))
    sets = ["dataset.name=rows.npz", "dataset.validation=100", "training.epochs=2"]
    command = ["all", "--output", "paper.md", *(part for edit in sets for part in ("--set", edit))]
    assert main([*command, "--write"]) == 0
    assert not (tmp_path / "paper.md").exists()
    assert main(command) == 0
    assert re.search(r"together about \S+ h on this machine", capsys.readouterr().err)
    text = (tmp_path / "paper.md").read_text()
    assert text.count("**Verdict: ") == len(CLAIMS)
    assert "not run |" not in text
    written = pd.read_csv(tmp_path / "paper" / "lenet_300_100.csv")
    assert len(written) == 4 * 2  # cells, seeds
    assert written.groupby("trial")["seed"].nunique().eq(2).all()
    assert {TEST, TRAIN, "version", "git_commit"} <= set(written.columns)
    again = pd.read_csv(tmp_path / "paper" / "regularisers-measured.csv")
    usual = again[
        (again["mode"] == "evaluation") & (again["point"] == MODULE) & (again["observations"] == 100)
    ]
    assert len(usual) == 2 * 4 * 2  # of all observations and of the first 100, which here are all
    assert usual["efficiency"].to_numpy() == pytest.approx(usual["recorded"].to_numpy(), abs=1e-4)
    assert main(["lenet_300_100", *command[1:]]) == 0  # nothing is trained again
    assert "lenet-300-100: finished" in capsys.readouterr().err
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "paper" / "lenet_300_100.csv"), written)
