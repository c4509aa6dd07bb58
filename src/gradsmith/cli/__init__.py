"""The `gradsmith` command: one typed function a subcommand, its docstring the help."""

import sys
import traceback

import tyro

from .._version import __version__
from .help import readable
from .loading import UsageError as UsageError


def main() -> None:
    """Run the subcommand that the command line names; exit code 0, 1 (found wrong) or 2 (usage)."""
    if sys.argv[1:] == ["--version"]:
        print(f"gradsmith {__version__}")
        return
    commands, prog, arguments = _commands(), "gradsmith", sys.argv[1:]
    if arguments[:1] == ["race"] and arguments[1:2] and arguments[1] in _folder_commands():
        commands, prog, arguments = _folder_commands(), "gradsmith race", arguments[1:]
    shown = {name: readable(one) for name, one in commands.items()}
    try:
        code = tyro.extras.subcommand_cli_from_dict(shown, prog=prog, args=arguments)
    except UsageError as error:
        print(f"gradsmith: {error}", file=sys.stderr)
        code = 2
    except Exception:  # a fault of ours: 1 would say that something is wrong with the optimizer
        traceback.print_exc()
        code = 2
    sys.exit(code)


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
        "cost": cost,
        "describe": describe,
        "diff": diff,
        "list": list_techniques,
        "new": new,
        "race": race,
        "report": report,
    }


def _folder_commands() -> dict:
    """Of races that have begun; the first word after `race` tells them from the entries of one."""
    from .race_folder import export, merge, status, watch

    return {"export": export, "merge": merge, "status": status, "watch": watch}
