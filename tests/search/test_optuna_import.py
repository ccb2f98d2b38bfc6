"""A search that begins with the best configurations of an Optuna study of any origin."""

import os
import sqlite3

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from aiq_search.app.options import RunOptions
from aiq_search.app.prepare import with_imported
from aiq_search.errors import InputError
from aiq_search.search.optuna_import import import_configurations, is_optuna_storage
from aiq_search.space import Categorical, Float, Int, SearchSpace, load_space
from tests.search.simulation import finish, new_study, simulated_space
from tests.support.command_line import run_aiq

optuna.logging.set_verbosity(optuna.logging.WARNING)

PARAMETERS = {
    "model.hidden1": Int(2, 64, powers_of=2),
    "model.batch_norm": Categorical([False, True]),
    "training.learning_rate": Float(1e-3, 1e-1, log=True),
}
THEIRS = {
    "hidden1": FloatDistribution(1, 1024),
    "model.batch_norm": CategoricalDistribution((False, True)),
    "learning_rate": FloatDistribution(1e-5, 1.0),
    "momentum": FloatDistribution(0, 1),
}


def space_of(parameters=PARAMETERS, **sections):
    return SearchSpace(name="ours", model="mlp", dataset="digits", parameters=parameters, **sections)


def add(study, values, *, constraints=None, state=optuna.trial.TrialState.COMPLETE, **params):
    given = {"hidden1": 16.0, "model.batch_norm": True, "learning_rate": 0.01, "momentum": 0.9} | params
    trial = optuna.trial.create_trial(
        state=state, values=values, params=given, distributions=THEIRS, constraints=constraints
    )
    study.add_trial(trial)


@pytest.fixture
def old(tmp_path):
    """A database with a study in which more is better."""
    url = f"sqlite:///{tmp_path / 'old.db'}"
    study = optuna.create_study(storage=url, study_name="old", direction="maximize")
    add(study, [0.5], hidden1=8.0)
    add(study, [0.9], hidden1=32.0, learning_rate=0.5)
    add(study, [0.7], hidden1=24.0, **{"model.batch_norm": False})
    add(study, [0.99], hidden1=4.0, constraints={"size": 1.0})
    add(study, [0.5], hidden1=8.0)
    add(study, None, state=optuna.trial.TrialState.FAIL)
    return url


def test_the_best_come_first_with_the_values_that_are_in_our_ranges(old):
    imported = import_configurations(space_of(), f"{old}?study=old")
    assert imported.points == [
        {"model.hidden1": 32, "model.batch_norm": True},  # a learning rate of 0.5 is outside of ours
        {"model.batch_norm": False, "training.learning_rate": 0.01},  # 24 is no power of 2
        {"model.hidden1": 8, "model.batch_norm": True, "training.learning_rate": 0.01},
        {"model.hidden1": 4, "model.batch_norm": True, "training.learning_rate": 0.01},  # not feasible
    ]
    assert imported.note == (
        "Warm start: 4 configurations were taken from Optuna study 'old', to be tried first, with "
        "model.hidden1, model.batch_norm, training.learning_rate; left out was 1 parameter that this space "
        "does not have, or has with another range: momentum."
    )


def test_what_breaks_a_constraint_on_parameters_is_not_taken(old):
    space = space_of(objective={"constraints": ["model.hidden1 <= 8"]})
    points = import_configurations(space, old).points
    assert [point.get("model.hidden1") for point in points] == [None, 8, 4]


def test_no_more_than_the_first_draws_are_replaced(tmp_path):
    url = f"sqlite:///{tmp_path / 'many.db'}"
    study = optuna.create_study(storage=url, direction="minimize")
    for number in range(30):
        add(study, [number], learning_rate=0.01 + number / 1000)
    points = import_configurations(space_of(), url).points
    assert [point["training.learning_rate"] for point in points] == [0.01 + n / 1000 for n in range(10)]


def test_of_several_objectives_the_front_is_taken(tmp_path):
    path = tmp_path / "old.journal"
    storage = JournalStorage(JournalFileBackend(str(path)))
    study = optuna.create_study(storage=storage, directions=["maximize", "minimize"])
    for values, width in (([0.9, 10.0], 32.0), ([0.8, 20.0], 16.0), ([0.5, 5.0], 2.0)):
        add(study, values, hidden1=width)
    points = import_configurations(space_of(), str(path)).points
    assert {point["model.hidden1"] for point in points} == {32, 2}


def test_a_study_of_ours_is_an_optuna_study_too(tmp_path):
    earlier = new_study(
        tmp_path,
        "earlier",
        parameters={"model.hidden1": {"type": "int", "low": 2, "high": 64, "powers_of": 2}},
    )
    finish(earlier)
    best = max(earlier.records()[:12], key=lambda record: record.value)
    imported = import_configurations(space_of(), f"{earlier.journal}?study=earlier")
    assert imported.points[0] == {"model.hidden1": best.params["model.hidden1"]}
    assert imported.note.endswith("another range: model.hidden2.")


def test_the_search_tries_them_first(old, tmp_path):
    options, notes = with_imported(
        simulated_space(), RunOptions(warm_start=["earlier", old], overrides=["search.seed=3"])
    )
    assert (options.warm_start, len(notes)) == (["earlier"], 1)
    space = load_space(simulated_space(), options.edits)
    assert space.fingerprint == load_space(simulated_space(), ["search.seed=3"]).fingerprint
    study = new_study(tmp_path, enqueue=[dict(point) for point in space.enqueue])
    finish(study)
    assert [record.params["model.hidden1"] for record in study.records()[:4]] == [32, 24, 8, 4]


def test_a_storage_is_told_from_the_name_of_a_study():
    storages = [
        "sqlite:///old.db",
        "postgresql://host/db?study=x",
        "./old.journal",
        "/old.log?study=x",
        "a b",
    ]
    assert all(map(is_optuna_storage, storages))
    assert not any(map(is_optuna_storage, ["digits", "digits-20261129-120000-0a1b", "lenet_5"]))


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A folder with what is no storage to start from."""
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two", "three"):
        study = optuna.create_study(storage="sqlite:///several.db", study_name=name, load_if_exists=True)
        if name == "one":
            study.add_trial(
                optuna.trial.create_trial(
                    value=1.0, params={"wd": 1}, distributions={"wd": IntDistribution(0, 2)}
                )
            )
    with sqlite3.connect("other.db") as connection:
        connection.execute("create table t (x)")
    (tmp_path / "text.journal").write_text("not a journal\nat all\n")
    (tmp_path / "json.journal").write_text('{"a": 1}\n[]\n')
    (tmp_path / "empty.journal").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("sqlite:///missing.db", "there is no file missing.db; expected a study's id"),
        ("sqlite://", "there is no file .; expected"),
        ("./missing.journal", "there is no file missing.journal"),
        ("sqlite:///other.db", "cannot be read as an Optuna storage"),
        ("./several.db", "damaged and not readable by Optuna"),
        ("./text.journal", "damaged and not readable by Optuna"),
        ("./json.journal", "damaged and not readable by Optuna"),
        ("./empty.journal", "the storage has no study"),
        ("nonsense://host/db", "cannot be read as an Optuna storage"),
        ("postgresql+nonsense://ada:lovelace@host/db", "cannot be read as an Optuna storage"),
        ("sqlite:///several.db", "the storage has several studies; add ?study=NAME: one, two, three"),
        ("sqlite:///several.db?study=tow", "the storage has no study 'tow'; did you mean \"two\"?"),
        ("sqlite:///several.db?study=two", "has no complete trial"),
        ("sqlite:///several.db?study=one", "no value of the parameters of Optuna study 'one' (wd) belongs"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_a_sentence_and_nothing_is_written(places, address, said):
    before = {path: path.read_bytes() for path in places.iterdir()}
    with pytest.raises(InputError) as caught:
        import_configurations(space_of(), address)
    message = str(caught.value)
    assert message.startswith("--warm-start ")
    assert said in message
    assert "\n" not in message
    assert "lovelace" not in message
    assert {path: path.read_bytes() for path in places.iterdir()} == before


def test_a_grid_needs_none(old):
    space = space_of({"model.hidden1": Int(2, 4)}, search={"sampler": "grid", "pruner": "none"})
    with pytest.raises(InputError, match="a grid tries every configuration anyway"):
        import_configurations(space, old)


def test_the_command_ends_with_code_2_before_anything_begins(tmp_path):
    environment = {**os.environ, "AIQ_RUNNER": "in_process"}
    arguments = ("search", "digits", "--warm-start", "sqlite:///missing.db?study=old")
    done = run_aiq(*arguments, folder=tmp_path, environment=environment)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("--warm-start sqlite:///missing.db?study=old: there is no file missing.db; ")
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
