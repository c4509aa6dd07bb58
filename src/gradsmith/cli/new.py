"""`gradsmith new`: a ready file for an optimizer of one's own, that passes its own tests."""

import importlib.resources
import keyword
import sys
from pathlib import Path
from typing import Annotated

import tyro

from .loading import UsageError


def new(name: Annotated[str, tyro.conf.Positional], /, out: Path = Path()) -> int:
    """Write NAME.py: a formula for one matrix, the optimizer around it, its tests, the commands.

    Args:
        name: The name of the optimizer and of its file, such as `my_optimizer`.
        out: The folder to write it to.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UsageError(f"{name!r} is no Python name; take one such as my_optimizer")
    path = out / f"{name}.py"
    template = (
        importlib.resources.files("gradsmith.cli")
        .joinpath("new_template.py")
        .read_text(encoding="utf-8")
    )
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(template.replace("my_optimizer", name))
    except FileExistsError:
        raise UsageError(f"{path} exists; take another name, or move it away") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    print(path)
    print(f"next: gradsmith check {path}:{name}", file=sys.stderr)
    return 0
