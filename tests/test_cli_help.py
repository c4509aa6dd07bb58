"""`--help` speaks in sentences, and shows nothing of Python."""

import os
import re
import subprocess
import sys

import pytest

from gradsmith.cli import _commands, _folder_commands, main
from gradsmith.cli.help import readable

COMMANDS = [[], *[[name] for name in _commands()], *[["race", name] for name in _folder_commands()]]


@pytest.fixture
def told(monkeypatch, capfd):
    """What `gradsmith ... --help` prints, without the lines of its boxes."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*command):
        monkeypatch.setattr(sys, "argv", ["gradsmith", *command, "--help"])
        with pytest.raises(SystemExit, match="0"):
            main()
        return capfd.readouterr().out

    return run


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_nothing_of_python_is_shown(told, command):
    text = told(*command)
    for leftover in (
        "(required)",
        " OPTIONS]",
        "[-h]",
        "None",
        "STR",
        "INT",
        "FLOAT",
        "(default: )",
        "''",
        "False",
        "True",
        "[[",
    ):
        assert leftover not in text
    off = re.findall(r"--no-[\w-]+", text)
    assert off == (["--no-watch"] if command == ["race"] else [])


@pytest.mark.parametrize("command", COMMANDS[1:], ids=" ".join)
def test_every_argument_has_its_text(told, command):
    commands = _folder_commands() if len(command) == 2 else _commands()
    text = re.sub(r"[│╭╮╰╯─\s]", "", told(*command))
    for line in (commands[command[-1]].__doc__ or "").partition("Args:")[2].splitlines():
        assert "".join(line.partition(": ")[2].split()) in text


def test_defaults_that_are_values_are_told(told):
    text = " ".join(told("race").split())
    assert "(default: shakespeare)" in text
    assert "(default: 0.002 0.02 0.2)" in text
    assert "(on by default)" in text


def test_a_command_gets_what_is_typed():
    def command(one: int, /, many: tuple[str, ...] = (), on: bool = True) -> int:
        """Do it.

        Args:
            one: A number.
            many: Words.
            on: Whether.
        """
        return one + len(many) + 100 * on

    assert readable(command)(3, many=("a", "b")) == 105


def test_a_reader_that_has_enough_is_no_fault():
    command = "from gradsmith.cli import main; main()"
    closed, pipe = os.pipe()
    os.close(closed)
    with os.fdopen(pipe, "w") as nobody_reads:
        ended = subprocess.run(
            [sys.executable, "-c", command, "race", "--help"],
            stdout=nobody_reads,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_line_is_wider_than_the_terminal(told, command):
    assert max(map(len, told(*command).splitlines())) <= 80
