"""Help for every command, by -h and --help alike, in words."""

import re

import pytest
import typer
from typer.testing import CliRunner

from aiq_search.cli.main import app
from aiq_search.cli.typer_app import CommandLine


def commands(group=None, path=()):
    """The words of each command and group of the command line."""
    group = group or typer.main.get_command(app)
    yield path
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


COMMANDS = list(commands())


def test_every_command_is_known():
    assert len(COMMANDS) > 30
    assert ("space", "check") in COMMANDS


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_h_is_help_and_help_has_words_for_values(path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    short, long = (CliRunner().invoke(app, [*path, option]) for option in ("-h", "--help"))
    assert short.exit_code == 0
    assert short.output == long.output
    assert re.findall(r"<[a-z|\[\] ]+>|\{[a-z]+\}|\bTEXT\b|\bPATH\b", long.output) == []


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_and_argument_is_explained(path):
    command = typer.main.get_command(app)
    for name in path:
        command = command.commands[name]
    assert command.help
    for param in command.params:
        assert getattr(param, "help", None), f"{' '.join(path)}: {param.name}"


def test_the_end_of_a_stream_is_not_taken_for_ctrl_d():
    cut = CommandLine(help="Cut.", pretty_exceptions_enable=False)

    @cut.command()
    def read():
        raise EOFError("Ran out of input")

    @cut.command()
    def other():
        """Another one, so that there is a group."""

    result = CliRunner().invoke(cut, ["read"])
    assert isinstance(result.exception, RuntimeError)
    assert isinstance(result.exception.__cause__, EOFError)
    assert "Aborted" not in result.output


def test_ctrl_d_at_a_question_is_an_abort():
    asking = CommandLine(help="Ask.", pretty_exceptions_enable=False)

    @asking.command()
    def ask():
        typer.confirm("Really?")

    @asking.command()
    def other():
        """Another one, so that there is a group."""

    result = CliRunner().invoke(asking, ["ask"], input="")
    assert result.exit_code == 1
    assert "Aborted" in result.output
