"""The paper's claims: their spaces, their verdicts on made-up numbers, and one of them in miniature."""

import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from aiq_search.datasets import known_shape
from aiq_search.search.check import check_networks, check_space
from aiq_search.space import load_space
from benchmarks.paper import verdicts
from benchmarks.paper.__main__ import epochs_of, main, trainings_of
from benchmarks.paper.claims import BUDGETS, CLAIMS
from benchmarks.paper.document import write_section
from tests.search.simulation import finish, new_study

PIECES = [
    (name, budget, piece) for name, claim in CLAIMS.items() for budget in BUDGETS for piece in claim.pieces
]


@pytest.mark.parametrize(("name", "budget", "piece"), PIECES)
def test_every_search_can_be_run_and_reports_what_its_claim_is_about(name, budget, piece):
    space = load_space(piece.space, (*piece.edits, *BUDGETS[budget][name]))
    check_space(space)
    check_networks(space, *known_shape(space.dataset.name))
    assert space.search.replicates >= 3
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
                | {"aiq": (good**2 * well) ** (1 / 3), verdicts.TEST: good - 0.01}
                | {"parameters": size, "parameters_weights": size * 2}
            )
    return pd.DataFrame(rows)


def is_svg(text):
    return ElementTree.fromstring(text).tag.endswith("svg")  # noqa: S314 - we wrote it


def test_size_compares_the_best_aiq_with_the_best_accuracy_seed_by_seed():
    def accuracy(*widths):
        return 0.96 + 0.023 * (widths == (32, 32, 32))

    found = verdicts.size(grid_rows(accuracy, lambda *widths: 0.9 if widths == (2, 2, 2) else 0.2))
    assert "2-2-2 has 4,096 times fewer parameters than 32-32-32" in found.ours
    assert "2.3 ± " in found.ours
    assert found.verdict == "partly"  # the paper's factor is 30,912
    betas = found.tables["The network of the highest aIQ, by beta"].set_index("beta")
    assert list(betas.index) == [0.5, 1, 2, 4, 8]
    assert betas.loc[1, "aIQ at this beta"] == pytest.approx(((0.961 * 0.9) ** 0.5), abs=1e-3)
    assert is_svg(found.svg)
    lost_too_much = verdicts.size(
        grid_rows(lambda *w: 0.8 + 0.19 * (w == (32, 32, 32)), lambda *w: 0.9 if w == (2, 2, 2) else 0.1)
    )
    assert lost_too_much.verdict == "not seen"


def test_surfaces_follow_the_ranks():
    names = ("model.hidden1", "model.hidden2")
    rising = verdicts.surfaces(grid_rows(lambda a, b: 0.8 + a * b / 1e4, lambda a, b: 1 / (a * b), names))
    falling = verdicts.surfaces(grid_rows(lambda a, b: 0.9 - a * b / 1e4, lambda a, b: a * b / 2e3, names))
    assert (rising.verdict, falling.verdict) == ("reproduced", "not seen")
    assert is_svg(rising.svg)


def regularised(gain_norm, gain_dropout, seeds=5):
    draw = np.random.default_rng(0)
    rows = []
    for width, norm, rate, replicate in itertools.product((2, 8), (False, True), (0.0, 0.5), range(seeds)):
        gain = gain_norm * norm + gain_dropout * (rate > 0) + 0.001 * draw.standard_normal()
        rows.append(
            {"piece": "lenet-5", "model.conv1": width, "model.batch_norm": norm, "model.dropout": rate}
            | {"replicate": replicate, "efficiency": 0.5 + gain, "seed": replicate}
        )
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("norm", "dropout", "said"),
    [
        (0.05, 0.05, "batch norm: reproduced; dropout: reproduced"),
        (0.05, -0.05, "batch norm: reproduced; dropout: contradicted"),
        (0.0, 0.05, "batch norm: (not seen|partly|contradicted); dropout: reproduced"),
    ],
)
def test_regularisers_are_compared_seed_by_seed(norm, dropout, said):
    found = verdicts.regularisers(regularised(norm, dropout))
    assert re.match(said, found.ours)
    table = found.tables["Paired by seed"]
    assert list(table["seeds"].unique()) == [5]
    assert table[table["with"] == "dropout 0.5"]["mean"].mean() == pytest.approx(dropout, abs=0.002)
    assert is_svg(found.svg)


def curves(narrow_test):
    rows = []
    for noise, (widths, aiq, test), replicate, epoch in itertools.product(
        (0, 75), (("2-4-8", 0.8, narrow_test), ("32-64-128", 0.4, 0.6)), range(3), range(1, 5)
    ):
        rows.append(
            {"piece": f"noise-{noise}", "widths": widths, "trial": widths, "replicate": replicate}
            | {"epoch": epoch, "aiq": aiq, "loss": abs(epoch - 3), "seed": replicate}
            | {verdicts.TEST: test if epoch == 3 else 0.1, verdicts.TRAIN: 0.1 * epoch}
        )
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("test", "verdict"), [(0.93, "reproduced"), (0.89, "partly"), (0.5, "not seen")])
def test_memorisation_is_judged_at_the_chosen_epoch_of_the_best_aiq(test, verdict):
    found = verdicts.memorisation(curves(test))
    assert found.verdict == verdict
    assert f"2-4-8, has {test:.4g} ± 0 (3 seeds)" in found.ours
    assert is_svg(found.svg)


def test_a_section_replaces_its_older_self_and_leaves_the_others(tmp_path):
    document = tmp_path / "paper.md"
    rows = grid_rows(lambda *w: 0.9, lambda *w: 1 / w[0])
    for name, command in (("size", "run-1"), ("lenet_300_100", "run-2"), ("size", "run-3")):
        write_section(document, name, CLAIMS[name], command, rows, verdicts.size(rows))
    text = document.read_text()
    assert [text.count(command) for command in ("run-1", "run-2", "run-3")] == [0, 1, 1]
    assert text.index("run-3") < text.index("run-2")
    assert len(pd.read_csv(tmp_path / "paper" / "size.csv")) == len(rows)
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
    rows = epochs_of({"memorisation.noise-75": study})
    assert len(rows) == 4 * 2 * 4  # cells, seeds, epochs
    assert list(rows["piece"].unique()) == ["noise-75"]
    assert set(rows["widths"]) == {"4-4", "4-8", "8-4", "8-8"}
    assert rows.groupby("widths")["trial"].nunique().eq(1).all()
    assert list(rows["epoch"][:4]) == [1, 2, 3, 4]
    trainings = trainings_of({"size.grid": study})
    assert len(trainings) == 4 * 2
    last = rows[rows["epoch"] == 4].set_index(["trial", "replicate"])["aiq"]
    pd.testing.assert_series_equal(trainings.set_index(["trial", "replicate"])["aiq"], last)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_claim_in_miniature_through_the_product(tmp_path, monkeypatch, capsys):
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
    edits = ["dataset.name=rows.npz", "dataset.validation=100", "search.replicates=2", "training.epochs=2"]
    edits += [
        f"parameters.model.{name}.high={high}" for name, high in (("conv1", 4), ("conv2", 2), ("fc", 2))
    ]
    command = ["size", "--output", "paper.md", *(part for edit in edits for part in ("--set", edit))]
    assert main([*command, "--cost"]) == 0
    assert not (tmp_path / "paper-studies").exists()
    assert re.search(r"together about \S+ h on this machine", capsys.readouterr().err)
    assert main(command) == 0
    written = pd.read_csv(tmp_path / "paper" / "size.csv")
    assert len(written) == 2 * 2  # cells, seeds
    assert written.groupby("trial")["seed"].nunique().eq(2).all()
    assert {verdicts.TEST, "version", "git_commit"} <= set(written.columns)
    text = (tmp_path / "paper.md").read_text()
    assert re.search(r"\*\*Verdict: (reproduced|partly|not seen)\.\*\*", text)
    assert main(command) == 0  # nothing is trained again
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "paper" / "size.csv"), written)
