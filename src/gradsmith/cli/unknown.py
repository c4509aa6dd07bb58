"""An option that a command does not have: what to type instead."""

import difflib
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import get_args

import tyro

from .loading import UsageError

OTHER_WORDS = {"race": {"lr": "rates", "learning_rate": "rates"}}
ALMOST = 0.75  # how alike two words are if one is a slip of the other; `steps` and `seeds` are not
TAKES = {"task_arg": "the task", "arg": "the optimizer"}


def refuse_unknown(command: str, function: Callable, arguments: Sequence[str]) -> None:
    """Raise a `UsageError` at the first option that a command does not have.

    Args:
        command: What is typed for it, such as `race` or `race status`.
        function: What it runs.
        arguments: What was typed after it.

    Raises:
        UsageError: The message says what to type instead.
    """
    parameters = inspect.signature(function).parameters.values()
    bare = {one.name for one in parameters if _is_bare(one)}
    options = {one.name for one in parameters} - bare
    for typed, following in itertools.pairwise([*arguments, ""]):
        if not typed.startswith("--"):
            continue
        option, _, value = typed.partition("=")
        name = option[2:].replace("-", "_")
        if name not in options | {"", "help"} and name.removeprefix("no_") not in options:
            value = value or ("" if following.startswith("-") else following) or "VALUE"
            advice = _advice(command, name, value, options, bare)
            raise UsageError(f"{command} has no option {option}{advice}")


def _advice(command: str, name: str, value: str, options: set[str], bare: set[str]) -> str:
    if name in bare:
        return f": type {value} alone"
    meant = OTHER_WORDS.get(command, {}).get(name)
    close = [meant] if meant else difflib.get_close_matches(name, options, n=1, cutoff=ALMOST)
    if close:
        return f"; did you mean --{close[0].replace('_', '-')}?"
    takes = [
        f"An argument of {whose}: --{option.replace('_', '-')} {name}={value}"
        for option, whose in TAKES.items()
        if option in options
    ]
    return ". ".join(["", *takes, f"All options: gradsmith {command} --help"])


def _is_bare(parameter: inspect.Parameter) -> bool:
    """Whether its value is typed without a name."""
    positional = parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL)
    return positional or tyro.conf.Positional in get_args(parameter.annotation)
