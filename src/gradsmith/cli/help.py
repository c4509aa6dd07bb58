"""What `--help` says of a command: sentences, and no Python."""

import inspect
import io
import re
import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import tyro

VALUES = {
    "arg": "NAME=VALUE",
    "budget": "TRIALS",
    "expect": "NAME=REASON",
    "explain": "CHECK",
    "extensions": "TIMES",
    "limit": "SECONDS",
    "on": "DEVICES",
    "only": "CHECK",
    "ray": "ADDRESS",
    "task_arg": "NAME=VALUE",
    "worker": "I/N",
}
SILENT = (None, (), "", False, Path())  # defaults that are no value


def readable(command: Callable) -> Callable:
    """The same command as tyro should see it.

    A value is called as its option is. A flag has an opposite only if it is on by default. A
    default is told where it is a value. Lines end where they are full, not where they end in the
    source.
    """
    arguments = _told(inspect.getdoc(command) or "")
    signature = inspect.signature(command)
    parameters = [_readable(one, arguments[one.name]) for one in signature.parameters.values()]

    shown = lambda *args, **kwargs: command(*args, **kwargs)
    shown.__name__, shown.__doc__ = command.__name__, command.__doc__
    shown.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": int}
    shown.__dict__["__signature__"] = signature.replace(parameters=parameters)
    return shown


def _told(doc: str) -> dict[str, str]:
    """The text of each argument of a docstring, in one line."""
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", doc, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def _readable(parameter: inspect.Parameter, text: str) -> inspect.Parameter:
    kind, default = parameter.annotation, parameter.default
    plain, *marks = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    given = [mark.metavar for mark in marks if getattr(mark, "metavar", None)]
    marks = [mark for mark in marks if not hasattr(mark, "metavar")]
    about: dict[str, Any] = {"help": text}
    if plain is not bool and get_origin(plain) is not Literal:
        several = get_origin(plain) is tuple and tyro.conf.UseAppendAction not in marks
        own = "PATH" if Path in (plain, *get_args(plain)) else parameter.name.upper().split("_")[-1]
        name = VALUES.get(parameter.name, own)
        about["metavar"] = given[0] if given else f"{name} ..." if several else name
    if default is True:
        about["help_behavior_hint"] = "(on by default)"
    elif default is parameter.empty or any(default == silent for silent in SILENT):
        about["help_behavior_hint"] = ""
    if default is False:
        marks.append(tyro.conf.FlagCreatePairsOff)
    return parameter.replace(annotation=Annotated[plain, *marks, tyro.conf.arg(**about)])


class Help(io.StringIO):
    """Where tyro writes its help, as if it were the terminal."""

    def isatty(self) -> bool:
        """Whether colours are seen."""
        return sys.__stdout__ is not None and sys.__stdout__.isatty()


def mended(text: str) -> str:
    """The help without what tyro alone understands; boxes keep their width.

    Examples:
        >>> print(mended("usage: gradsmith race [-h] [RACE OPTIONS] ENTRY ..."))
        usage: gradsmith race [OPTIONS] ENTRY ...
        >>> print(mended("| FOLDER  Of the race. (required) |"))
        | FOLDER  Of the race.            |
    """
    text = re.sub(r"\[\w+ OPTIONS\]", "[OPTIONS]", text.replace(" [-h]", "", 1))
    colour = r"(?:\x1b\[[\d;]*m)*"
    text = re.sub(rf"^[│ ]*{colour}\(required\){colour}[│ ]*\n", "", text, flags=re.M)
    text = text.replace("(required)", " " * len("(required)"))
    return "".join(map(_wrapped, text.splitlines(keepends=True)))


def _wrapped(line: str) -> str:
    """A line of prose, which tyro leaves as long as it is; boxes fit already."""
    width = shutil.get_terminal_size().columns
    if len(line) <= width or not re.match(r"(\x1b\[[\d;]*m)*\w", line):
        return line
    indent = "  " if "usage:" in line else ""
    return textwrap.fill(line, width, subsequent_indent=indent, break_on_hyphens=False) + "\n"
