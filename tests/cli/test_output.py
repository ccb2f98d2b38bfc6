"""Whatever is printed, it cannot steer the terminal, and a message of megabytes stays readable."""

import csv
import io
import logging
import sys
from collections import Counter

import pytest
from rich.text import Text

from aiq_search.cli import main, output
from aiq_search.cli.options import Format
from aiq_search.study import Phase, TrialEnded, TrialKey, TrialState
from aiq_search.terminal.view import SearchView

SPACE = """
schema_version: 1
name: digits
model: {name: mlp}
dataset: {name: digits}
parameters:
  model.hidden1: {type: int, low: 2, high: 8}
"""
# Red text, a title, a bell, a backspace over what stands before, text from right to left, half a character.
HOSTILE = "\x1b[31mred \x1b]0;title\x07 \x08\x08 \u202eright to left \x9b2J \ud800"


def is_harmless(printed: str) -> bool:
    return all(character.isprintable() or character in "\n\t" for character in printed)


@pytest.fixture
def aiq(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["aiq", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


def test_controls_are_shown_and_not_sent():
    shown = output.plain(HOSTILE)
    assert is_harmless(shown)
    assert "\\x1b[31mred" in shown
    assert "\\u202e" in shown
    assert shown.encode()


@pytest.mark.parametrize("terminal", [True, False])
def test_on_a_terminal_messages_and_errors_wrap_between_words(monkeypatch, terminal):
    printed = io.StringIO()
    console = output.SafeConsole(width=40)
    console.file, console._force_terminal = printed, terminal
    monkeypatch.setattr(output, "stderr", lambda: console)
    said = "Ray cannot be started: the machine is too busy. Close other programs."
    output.print_message(said)
    output.print_error(ValueError(said))
    lines = printed.getvalue().splitlines()
    assert " ".join(line.strip() for line in lines) == f"{said} aiq: {said}"
    assert len(lines) == (4 if terminal else 2)
    assert not terminal or max(map(len, lines)) <= 40


def test_lines_and_tabs_are_kept():
    assert output.plain("a\n  b\tc") == "a\n  b\tc"


def test_what_is_long_loses_its_middle_and_keeps_its_end():
    text = "start " + "x" * 5_000_000 + " what to do"
    shown = output.plain(text)
    assert len(shown) < 5000
    assert shown.startswith("start ")
    assert shown.endswith(" what to do")
    assert "characters" in shown


@pytest.mark.parametrize("name", ["print_message", "print_line"])
def test_a_message_is_harmless(name, capsys):
    getattr(output, name)(HOSTILE)
    printed = capsys.readouterr()
    assert is_harmless(printed.out + printed.err)
    assert "\\x1b[31mred" in printed.out + printed.err


def test_an_error_is_harmless_and_short(capsys):
    output.print_error(ValueError(HOSTILE * 100_000))
    printed = capsys.readouterr().err
    assert printed.startswith("aiq: ")
    assert is_harmless(printed)
    assert len(printed) < 10_000


def test_a_log_is_printed_whole_and_harmless(capsys):
    output.print_log(HOSTILE * 1000 + "\n")
    printed = capsys.readouterr().out
    assert is_harmless(printed)
    assert printed.count("red") == 1000


@pytest.mark.parametrize("form", [Format.TABLE, Format.CSV, Format.JSON])
def test_rows_are_harmless(form, capsys):
    output.print_rows(
        [{HOSTILE: HOSTILE, "n": 1}, {HOSTILE: "[/red] [bold]:smile:", "n": 2}], form, [HOSTILE, "n"]
    )
    printed = capsys.readouterr()
    assert is_harmless((printed.out + printed.err).replace("\r\n", "\n"))
    assert "[/red] [bold]:smile:" in printed.out  # neither markup nor the name of a picture


REASON = "ValueError: the network has 9 outputs, and the data has 10 classes; change its last layer. "
TRIALS = [
    {
        "name": f"confirm-{n:04d}-seed-0",
        "state": "COMPLETE",
        "aiq": n / 7,
        "parameters": 10**n,
        "configuration": " ".join(f"hidden{i}={2**i}" for i in range(n + 1)),
        "reason": reason,
        "feasible": n % 2 == 0,
    }
    for n, reason in enumerate([None, "no", REASON * 6, HOSTILE, "two\nlines", "/a/long/path" * 12])
]
FINDINGS = [
    {"area": "environment", "level": "problem", "what": REASON, "remedy": REASON * 2},
    {"area": "study", "level": "ok", "what": "22 complete.", "remedy": ""},
]
CHECKS = [{"check": "safetensors, by hand", "passed": True, "detail": REASON * 2}]


@pytest.mark.parametrize("width", [60, 80, 100, None])
@pytest.mark.parametrize("rows", [TRIALS, FINDINGS, CHECKS], ids=["trials", "doctor", "verify"])
def test_a_table_wraps_and_leaves_nothing_out(rows, width, capsys, monkeypatch):
    if width is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", str(width))
    output.print_rows(rows, Format.TABLE, list(rows[0]))
    printed = capsys.readouterr().out
    words = Counter(word for line in printed.splitlines() for word in line.split())
    expected = Counter(
        word for row in rows for value in row.values() for word in output.number(value).split()
    )
    assert expected <= words
    assert {head for row in rows for head in row} <= {word.rstrip(":") for word in words}
    assert is_harmless(printed)
    for line in printed.splitlines():
        assert len(line) <= (width or 240) or "/a/long/path" in line  # no word is broken


def test_names_and_numbers_stay_on_the_line_of_their_row(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    output.print_rows(TRIALS, Format.TABLE, list(TRIALS[0]))
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if " confirm-" in line]
    assert [line[:3] for line in lines] == [
        [row["name"], "COMPLETE", output.number(row["aiq"])] for row in TRIALS
    ]


def test_into_a_pipe_a_row_is_a_line(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    output.print_rows(FINDINGS[1:], Format.TABLE, list(FINDINGS[0]))
    assert [line.split() for line in capsys.readouterr().out.splitlines() if "study" in line] == [
        ["study", "ok", "22", "complete."]
    ]


def test_csv_keeps_numbers_and_long_texts_whole(capsys):
    output.print_rows([{"name": "x" * 10_000, "n": 0.1 + 0.2, "none": None}], Format.CSV, [])
    [row] = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row == {"name": "x" * 10_000, "n": repr(0.1 + 0.2), "none": ""}


def test_a_console_sends_its_own_sequences_and_no_others(capsys):
    console = output.stdout()
    console.print(Text(HOSTILE, style="bold"))
    console.print(HOSTILE)
    assert is_harmless(capsys.readouterr().out)


def test_a_console_on_a_terminal_still_has_colours():
    stream = io.StringIO()
    console = output.SafeConsole()
    console.file, console._force_terminal, console._color_system = stream, True, 1
    console.print(Text(HOSTILE, style="red"))
    assert "\x1b[31m" in stream.getvalue()
    assert "\\x1b[31mred" in stream.getvalue()
    assert "\x1b]0;" not in stream.getvalue()


def test_the_view_of_a_search_is_harmless(capsys):
    view = SearchView(output.stderr())
    view.on_event(TrialEnded(TrialKey("s", Phase.EXPLORE, 1), TrialState.FAIL, 0.0, reason=HOSTILE))
    printed = capsys.readouterr().err
    assert "\\x1b[31mred" in printed
    assert is_harmless(printed)


def test_warnings_are_printed_like_messages(capsys):
    output.use_for_logging()
    output.use_for_logging()
    logging.getLogger("aiq_search.anything").warning("MLflow says %s", HOSTILE)
    printed = capsys.readouterr().err
    assert printed.count("MLflow says \\x1b[31mred") == 1
    assert is_harmless(printed)


def test_a_key_of_a_file_cannot_steer_the_terminal(aiq, tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE + '"\\e[31m\\a\\x9b": 3\n')
    code, out, err = aiq("space", "check", "space.yaml")
    assert (code, out) == (2, "")
    assert "\\x1b[31m\\x07\\x9b" in err
    assert is_harmless(err)


def test_a_key_of_a_megabyte_is_a_short_message(aiq, tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE + f"{'k' * 900_000}: 3\n")
    code, _, err = aiq("space", "check", "space.yaml")
    assert code == 2
    assert len(err) < 10_000


@pytest.mark.parametrize("form", ["table", "csv", "json"])
@pytest.mark.parametrize("command", ["show", "sample"])
def test_a_choice_of_a_file_cannot_steer_the_terminal(aiq, tmp_path, command, form):
    space = SPACE + '  model.activation: {type: categorical, choices: ["relu", "elu"], when: "hidden1 > 3"}\n'
    choices = SPACE + '  training.optimizer: {type: categorical, choices: ["sgd\\e[31m", "adam"]}\n'
    for text in (space, choices):
        (tmp_path / "space.yaml").write_text(text)
        _, out, err = aiq("space", command, "space.yaml", "--format", form)
        assert is_harmless((out + err).replace("\r\n", "\n"))
