"""An option that a command does not have: exit code 2, and what to type instead."""

import inspect
import sys

import pytest

from gradsmith.cli import _commands, _folder_commands, main
from gradsmith.cli.unknown import refuse_unknown

INSTEAD = {
    "race adamw --steps 50": "An argument of the task: --task-arg steps=50. An argument of",
    "race adamw --batch-size=8": "--task-arg batch_size=8",
    "race adamw --momentum": "--arg momentum=VALUE",
    "race adamw --nesterov --plan": "--arg nesterov=VALUE",
    "race adamw --lr 0.1": "did you mean --rates?",
    "race adamw --learning-rate 0.1": "did you mean --rates?",
    "race adamw --seed 3": "did you mean --seeds?",
    "race adamw --taskarg steps=5": "did you mean --task-arg?",
    "race status --all runs": "All options: gradsmith race status --help",
    "check optax.sgd --momentum 0.9": "An argument of the optimizer: --arg momentum=0.9",
    "describe muon --params shapes.py:f": "has no option --params: type shapes.py:f alone",
    "new --name mine": "has no option --name: type mine alone",
    "report runs --outt page.html": "did you mean --out?",
}


@pytest.fixture
def refused(monkeypatch, capfd):
    def run(typed):
        monkeypatch.setattr(sys, "argv", ["gradsmith", *typed.split()])
        with pytest.raises(SystemExit, match="2"):
            main()
        out, err = capfd.readouterr()
        assert out == ""
        return err

    return run


@pytest.mark.parametrize("typed", INSTEAD)
def test_the_message_says_what_to_type(refused, typed):
    message = refused(typed)
    assert message.startswith(f"gradsmith: {typed.split()[0]} ")
    assert INSTEAD[typed] in message
    assert "task:" not in message or typed.startswith("race")


@pytest.mark.parametrize(
    ("name", "command"),
    [*_commands().items(), *((f"race {name}", one) for name, one in _folder_commands().items())],
)
def test_no_option_of_a_command_is_refused(name, command):
    options = [
        "--" + parameter.name.replace("_", "-")
        for parameter in inspect.signature(command).parameters.values()
        if parameter.kind != parameter.POSITIONAL_ONLY
        and "Positional" not in str(parameter.annotation)
    ]
    more = ["--no-watch", "--task_arg", "--budget=3"] if name == "race" else []
    refuse_unknown(name, command, ["x", *options, *more, "--help", "-h", "--"])
    refuse_unknown(name, command, [])


def test_a_command_that_does_not_exist_is_left_to_the_parser(refused):
    assert "check, cost, describe" in refused("rce adamw")
