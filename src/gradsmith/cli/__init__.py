"""The `gradsmith` command: one typed function a subcommand, its docstring the help."""

import sys
import traceback

import tyro

from .loading import UsageError as UsageError


def main() -> None:
    """Run the subcommand that the command line names; exit code 0, 1 (found wrong) or 2 (usage)."""
    try:
        code = tyro.extras.subcommand_cli_from_dict(_commands(), prog="gradsmith")
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

    return {
        "check": check,
        "cost": cost,
        "describe": describe,
        "diff": diff,
        "list": list_techniques,
        "new": new,
        "race": race,
    }
