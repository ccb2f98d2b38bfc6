import csv
import io
import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from aiq_search.cli import main
from aiq_search.cli.output import number
from aiq_search.study import StudyLock
from tests.search.simulation import finish, new_study

SPACES = Path(__file__).parents[2] / "search_spaces"


@pytest.fixture
def aiq(monkeypatch, tmp_path, capsys):
    """Run a command in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIQ_HOME", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["aiq", *(str(argument) for argument in arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


@pytest.fixture
def study(tmp_path):
    made = new_study(tmp_path / ".aiq", "simulated-1")
    finish(made)
    return made


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nsys.argv = ['aiq', '--help']\n"
        "from aiq_search.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'torchvision', 'ray', 'mlflow', 'optuna', 'sklearn', 'pandas', 'numpy'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "aiq_search", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == version("aiq-search")


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_spaces_pass_the_check(aiq, path):
    code, out, err = aiq("space", "check", path)
    assert (code, err) == (0, "")
    assert "valid. " in out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema_version: 1\nnaem: x\n", 'naem: unknown key; did you mean "name"?'),
        ("a: [", "not valid YAML"),
    ],
)
@pytest.mark.parametrize("command", [("space", "check"), ("search",), ("search", "--dry-run")])
def test_a_wrong_file_is_one_message_and_exit_code_2(aiq, tmp_path, command, text, said):
    (tmp_path / "space.yaml").write_text(text)
    code, out, err = aiq(*command, "space.yaml")
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / ".aiq").exists()
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("search", "nothing.yaml"), "nothing.yaml: no such file"),
        (("search", SPACES / "digits.yaml", "--address", "ray://host:10001"), "aiq submit"),
        (("search", SPACES / "digits.yaml", "--set", "search.trails=3"), 'did you mean "trials"'),
        (("search", SPACES / "digits.yaml", "--trials", "0"), "--trials"),
        (("search", SPACES / "digits.yaml", "--tracking-uri", "ftp://x"), "tracking URI"),
        (("resume", "nothing"), "no study 'nothing'"),
        (("trials", "nothing"), "no study 'nothing'"),
        (("best", "nothing"), "no study 'nothing'"),
        (("nonsense",), "nonsense"),
        (("best", "x", "--format", "xml"), "xml"),
    ],
)
def test_a_users_mistake_is_exit_code_2_without_a_traceback(aiq, tmp_path, arguments, said):
    code, out, err = aiq(*arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / ".aiq" / "studies").exists()


def test_best_as_json_is_the_document_and_nothing_else(aiq, study):
    code, out, _ = aiq("best", "simulated", "--format", "json")
    document = json.loads(out)
    assert code == 0
    assert document.items() >= study.champion().document().items()
    assert [row["outcome"] for row in document["finalists"]].count("won") == 1
    assert {"tied_with", "majority"} <= document.keys()
    assert {"study", "phase", "trial", "params", "metrics", "parameters", "parameters_weights", "macs",
            "feasible"} <= document.keys()  # fmt: skip
    assert document["metrics"]["test"]["aiq"].keys() == {"mean", "sd", "n"}


def test_best_as_a_table_shows_three_values_and_the_headline(aiq, study):
    code, out, err = aiq("best", "simulated")
    assert code == 0
    assert study.id in err
    for said in ("explored (1 seed)", "confirmed (2 seeds)", "test (2 further seeds)", "Champion: trial"):
        assert said in out


def test_a_space_name_prints_which_study_it_meant(aiq, study):
    finish(new_study(Path(".aiq"), "simulated-2"))
    new_study(Path(".aiq"), "simulated-3")  # never began: it hides nothing
    _, _, err = aiq("trials", "simulated")
    assert "simulated-2" in err


@pytest.mark.parametrize("command", ["best", "pareto", "trials", "watch", "report"])
def test_without_a_name_the_newest_study_is_taken_and_named(aiq, study, command):
    finish(new_study(Path(".aiq"), "other", name="another"))
    new_study(Path(".aiq"), "never-began")
    code, out, err = aiq(command)
    assert code == 0
    assert "study other" in out + err
    assert "simulated-1" not in out + err


def test_several_studies_are_reported_side_by_side(aiq, study):
    finish(new_study(Path(".aiq"), "other", name="another"))
    code, out, _ = aiq("report", "simulated", "another")
    assert (code, out) == (0, "comparison.html\n")
    assert "2 studies side by side" in Path("comparison.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("simulated", "nowhere"), "nowhere"),
        (("simulated", "simulated-1"), "expected different studies, but study simulated-1 is named twice"),
        (("simulated", "empty"), "study empty has no complete trial yet, so there is nothing to compare"),
        (("simulated", "empty", "--allow-code", "mine"), "a comparison needs neither data nor code"),
    ],
)
def test_studies_that_cannot_be_compared_are_refused_with_a_sentence(aiq, study, arguments, said):
    new_study(Path(".aiq"), "empty", name="another")
    code, out, err = aiq("report", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert not Path("comparison.html").exists()


@pytest.mark.parametrize("command", ["best", "pareto", "trials", "watch", "report"])
def test_without_any_study_the_commands_name_how_to_start_one(aiq, command):
    code, out, err = aiq(command)
    assert (code, out) == (2, "")
    assert "there is no study in" in err
    assert "start one: aiq search FILE" in err


@pytest.mark.parametrize("width", ["60", "80"])
@pytest.mark.parametrize(
    ("command", "columns"),
    [
        ("trials", ["name", "state", "aiq", "parameters", "epochs", "model.hidden1"]),
        ("studies", ["study", "status", "best_aiq", "complete", "failed"]),
        ("pareto", ["accuracy", "efficiency", "parameters"]),
        ("best", []),
        ("doctor", ["area", "level", "remedy"]),
    ],
)
def test_on_a_narrow_terminal_nothing_is_left_out(aiq, study, monkeypatch, width, command, columns):
    monkeypatch.setenv("COLUMNS", width)
    arguments = [] if command == "studies" else [study.id]
    _, printed, _ = aiq(command, *arguments)
    assert max(len(line) for line in printed.splitlines() if "/" not in line) <= int(width)  # but for paths
    _, text, _ = aiq(command, *arguments, "--format", "json")
    document = json.loads(text)
    if command == "best":
        rows = [{"trial": document["trial"], "aiq": document["metrics"]["test"]["aiq"]["mean"]}]
        rows += [{"why": row["reason"], "n": row["parameters"]} for row in document["finalists"]]
    else:
        rows = document["trials"] if command == "pareto" else document
    words = set(re.findall(r"[^\s=]+", printed))
    for row in rows:
        for name in columns or row:
            value = int(row[name]) if name in ("parameters", "model.hidden1") else row[name]
            assert set(number(value).split()) <= words, (name, value)


@pytest.mark.parametrize("command", ["trials", "studies"])
def test_lists_come_as_table_json_and_csv(aiq, study, command):
    target = [study.id] if command == "trials" else []
    rows = 18 if command == "trials" else 1
    _, table, _ = aiq(command, *target)
    _, text, _ = aiq(command, *target, "--format", "json")
    _, comma, _ = aiq(command, *target, "--format", "csv")
    assert len(json.loads(text)) == rows
    assert len(list(csv.DictReader(io.StringIO(comma)))) == rows
    assert ("trial-0000" if command == "trials" else study.id) in table


def test_the_status_of_a_study_says_who_is_at_work(aiq, study):
    def status():
        return json.loads(aiq("studies", "--format", "json")[1])[0]["status"]

    assert status() == "interrupted"
    with StudyLock(study.directory / "lock"):
        assert status() == "running"
    study.mark_ended("finished")
    assert status() == "finished"


def test_without_a_study_the_list_says_how_to_begin(aiq):
    code, out, err = aiq("studies")
    assert (code, out) == (0, "")
    assert "aiq search" in err
    assert aiq("studies", "--format", "json")[1] == "[]\n"


def test_nothing_feasible_is_exit_code_3(aiq, tmp_path):
    made = new_study(tmp_path / ".aiq", "strict", objective={"constraints": ["accuracy >= 0.999"]})
    finish(made)
    code, out, err = aiq("best", "strict")
    assert (code, out) == (3, "")
    assert "nearest is trial" in err


def test_resuming_with_another_space_is_refused_with_the_difference(aiq, study, tmp_path):
    (tmp_path / "other.yaml").write_text((SPACES / "digits.yaml").read_text())
    code, _, err = aiq("resume", study.id, "--file", "other.yaml")
    assert code == 2
    assert "searches another space" in err


def test_a_study_held_by_another_driver_is_refused_with_the_holder(aiq, study):
    with StudyLock(study.directory / "lock"):
        code, _, err = aiq("resume", study.id)
    assert code == 2
    assert "started on other data" in err or "another driver" in err


def test_space_show_sample_and_schema(aiq):
    _, out, err = aiq("space", "show", SPACES / "lenet_5.yaml")
    assert "powers of 2" in out
    assert "infinitely many configurations" in err
    _, out, _ = aiq("space", "sample", SPACES / "lenet_5.yaml", "-n", "7", "--format", "json")
    drawn = json.loads(out)
    assert len(drawn) == 7
    assert all(point["model.conv1"] in (2, 4, 8, 16, 32, 64, 128, 256) for point in drawn)
    again = json.loads(aiq("space", "sample", SPACES / "lenet_5.yaml", "-n", "7", "--format", "json")[1])
    assert again == drawn
    schema = json.loads(aiq("space", "schema")[1])
    assert schema["properties"].keys() >= {"parameters", "objective", "search"}


def test_a_dry_run_writes_nothing(aiq, tmp_path):
    code, out, _ = aiq("search", SPACES / "digits.yaml", "--dry-run", "--format", "json")
    document = json.loads(out)
    assert code == 0
    assert document["trials"] == 40 + 10 + 5  # exploring, the race, and the champion's further seeds
    assert document["narrowest"]["parameters"] < document["widest"]["parameters"]
    assert 0 < document["hours"][0] <= document["hours"][1]
    assert list(tmp_path.iterdir()) == []


def test_the_process_ends_with_the_exit_code_and_what_was_registered_to_run_at_exit():
    script = (
        "import atexit, sys; atexit.register(print, 'at exit'); sys.argv = {}\n"
        "from aiq_search.cli import run; run()"
    )
    for arguments, code in (
        (["aiq", "--version"], 0),
        (["aiq", "best", "nothing"], 2),
        (["aiq", "nosuch"], 2),
    ):
        done = subprocess.run(
            [sys.executable, "-c", script.format(arguments)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout.splitlines()[-1]) == (code, "at exit")
