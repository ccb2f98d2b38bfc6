"""What a file names: imported by commands that run it, within the policy, and by no others."""

import sys

import pytest

from aiq_search.app.dry_run import dry_run
from aiq_search.app.options import RunOptions
from aiq_search.app.prepare import StudyData, prepare_existing, prepare_new
from aiq_search.app.report import search_findings, view_champion
from aiq_search.app.space import checked_space, tried_space
from aiq_search.errors import InputError
from aiq_search.study import Study
from aiq_search.user_code import CodePolicy
from tests.search.simulation import DATASET, simulated_space

NETS = """\
import math
from pathlib import Path
from torch import nn

Path("imported").touch()

def tiny(input_shape, classes, width=8):
    inputs = math.prod(input_shape)
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ELU(), nn.Linear(width, classes))

def data():
    raise ValueError("no such table")
"""
SPACE = """\
schema_version: 1
name: own
model: {name: "MODULE:tiny"}
dataset: {name: digits}
parameters:
  model.width: {type: int, low: 2, high: 4}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("AIQ_ALLOW_CODE", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return work


@pytest.fixture
def module(folder, request):
    """The name of a module with networks; each test has its own, since a process imports a module once."""
    name = f"nets_of_{request.node.name.partition('[')[0]}"
    (folder / f"{name}.py").write_text(NETS)
    return name


@pytest.fixture
def file(folder, module):
    (folder / "space.yaml").write_text(SPACE.replace("MODULE", module))
    return folder / "space.yaml"


def test_looking_at_a_file_imports_nothing_and_says_what_was_not_checked(folder, file):
    checked = checked_space(file)
    assert checked.sample(3, seed=0)
    assert "parameters" in checked.document()
    assert checked.parameter_rows()
    assert any(note.startswith("Not checked: nets_") and "--data" in note for note in checked.notes)
    assert not (folder / "imported").exists()


def test_a_check_with_data_tries_the_networks(folder, file):
    checked = tried_space(file, RunOptions())
    assert (folder / "imported").exists()
    assert [note for note in checked.notes if "Trained for one step" in note and "layers 1" in note]


def test_a_check_with_data_refuses_what_a_search_would_refuse(module, file):
    file.write_text(file.read_text().replace("digits", f'"{module}:data"'))
    with pytest.raises(
        InputError, match=r"space\.yaml:4: dataset\.name: .*:data raised ValueError: no such table"
    ):
        tried_space(file, RunOptions())
    with pytest.raises(InputError, match=r"--set: model\.name: os:system: 'os' is not in the working folder"):
        tried_space(file, RunOptions(overrides=["model.name=os:system"]))


def test_a_dry_run_asks_before_it_imports(folder, module, file):
    asked = []
    with pytest.raises(InputError, match=r"imports and runs code that the file names .*--allow-code nets_"):
        dry_run(file, RunOptions(), agree=asked.append)
    assert asked == [[f"{module}:tiny"]]
    assert not (folder / "imported").exists()
    assert dry_run(file, RunOptions(), agree=lambda names: True).widest.parameters == 64 * 4 + 4 + 4 * 10 + 10
    assert (folder / "imported").exists()


def test_a_dry_run_of_allowed_code_does_not_ask(module, file):
    assert dry_run(file, RunOptions(allow_code=[module])).narrowest.params == {"model.width": 2}


def test_no_study_is_made_of_a_file_that_names_code_from_elsewhere(folder, file, tmp_path):
    home = tmp_path / "home"
    options = RunOptions(home=home, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    for edit in ("model.name=os:system", "dataset.name=os:abort", "model.name=subprocess:run"):
        with pytest.raises(InputError, match=r"is not in the working folder .*allow it with --allow-code"):
            prepare_new(file, RunOptions(**{**vars(options), "overrides": [edit]}))
    assert not (home / "studies").exists()


def named(home, model):
    space = simulated_space(
        model={"name": model}, parameters={"model.width": {"type": "int", "low": 2, "high": 4}}
    )
    return Study.create(home, space, DATASET, "study")


def test_a_study_that_names_code_from_elsewhere_is_not_continued(folder, tmp_path):
    study = named(tmp_path / "home", "os:system")
    with pytest.raises(InputError, match=r"model\.name: os:system: 'os' is not in the working folder"):
        prepare_existing(study, RunOptions(home=study.home))


def test_a_report_runs_no_code_unless_asked_to(folder, module, tmp_path):
    study = named(tmp_path / "home", f"{module}:tiny")
    assert view_champion(study, StudyData(study)) is None
    assert f"--allow-code {module}" in search_findings(study, None)[0]
    assert not (folder / "imported").exists()
    allowed = CodePolicy(packages=(module,))
    assert not any("--allow-code" in each for each in search_findings(study, None, allowed))


def test_a_job_may_what_its_submission_allowed():
    assert RunOptions(allow_code=["a", "b.c"]).arguments() == ["--allow-code", "a", "--allow-code", "b.c"]
    assert RunOptions(allow_code=["a"]).code.packages[0] == "a"
    with pytest.raises(InputError, match="expected the name of a package"):
        _ = RunOptions(allow_code=["../a"]).code
