"""The `gradsmith` command: one typed function a subcommand, its docstring the help."""

import contextlib
import functools
import io
import os
import sys
import traceback
from collections.abc import Callable

import tyro

from .._version import __version__
from .help import Help, mended, readable
from .loading import UsageError as UsageError
from .unknown import refuse_unknown


def main() -> None:
    """Run the subcommand that the command line names; exit code 0, 1 (found wrong) or 2 (usage)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # outside UTF-8 there may be no ✓
    if sys.argv[1:] == ["--version"]:
        print(f"gradsmith {__version__}")
        return
    commands, prog, arguments = _commands(), "gradsmith", sys.argv[1:]
    if arguments[:1] == ["race"] and arguments[1:2] and arguments[1] in _folder_commands():
        commands, prog, arguments = _folder_commands(), "gradsmith race", arguments[1:]
    shown = {name: readable(one) for name, one in commands.items()}
    run = functools.partial(tyro.extras.subcommand_cli_from_dict, shown, prog=prog, args=arguments)
    try:
        if {"-h", "--help"} & set(arguments):
            code = _help(run)
        else:
            if command := commands.get(next(iter(arguments), "")):
                typed = f"{prog} {arguments[0]}".removeprefix("gradsmith ")
                refuse_unknown(typed, command, arguments[1:])
            code = run()
        sys.stdout.flush()
    except UsageError as error:
        print(f"gradsmith: {error}", file=sys.stderr)
        code = 2
    except BrokenPipeError:  # whoever read the output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that Python's last flush finds a reader
        code = 0
    except Exception:  # a fault of ours: 1 would say that something is wrong with the optimizer
        traceback.print_exc()
        code = 2
    sys.exit(code)


def _help(run: Callable[[], int]) -> int:
    """Show what tyro tells, in our words."""
    told = Help()
    try:
        with contextlib.redirect_stdout(told):
            return run()
    finally:
        print(mended(told.getvalue()), end="")


def _commands() -> dict:
    from .check import check
    from .cost import cost
    from .describe import describe
    from .diff import diff
    from .list_techniques import list_techniques
    from .new import new
    from .race import race
    from .report import report

    return {
        "check": check,
        "cost": _not_ended_by_a_file(cost),
        "describe": _not_ended_by_a_file(describe),
        "diff": _not_ended_by_a_file(diff),
        "list": list_techniques,
        "new": new,
        "race": _not_ended_by_a_file(race),
        "report": report,
    }


def _not_ended_by_a_file(command: Callable[..., int]) -> Callable[..., int]:
    """A command that runs the user's code in its own process, where `sys.exit()` means success."""

    @functools.wraps(command)
    def run(*args, **keywords) -> int:
        from ..checks.places import find_place

        try:
            return command(*args, **keywords)
        except SystemExit as error:
            place = find_place(error)
            raise UsageError(
                f"sys.exit({error.code!r}) at {place}: raise an error instead"
            ) from error
        except MemoryError as error:
            raise UsageError(f"memory ran out at {find_place(error)}") from error

    return run


def _folder_commands() -> dict:
    """Of races that have begun; the first word after `race` tells them from the entries of one."""
    from .race_folder import export, merge, status, watch

    return {"export": export, "merge": merge, "status": status, "watch": watch}
