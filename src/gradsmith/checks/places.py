"""Where something stands in the source: a line that raised, a function, a library or the author."""

import inspect
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NamedTuple


class Place(NamedTuple):
    """A line of the subject's source."""

    file: str
    line: int
    function: str
    source: str
    frame: FrameType

    def __str__(self) -> str:
        """As editors link to it."""
        text = f"{self.file}:{self.line}, in {self.function}"
        return f"{text}: {self.source}" if self.source else text


def find_place(error: BaseException) -> Place | None:
    """The innermost line that belongs neither to a library nor to the kit."""
    found = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if not is_library_file(file):
            source = traceback.FrameSummary(file, line, frame.f_code.co_name).line or ""
            found = Place(file, line, frame.f_code.co_name, source, frame)
    return found


def describe_function(function: Callable) -> str:
    """Where a function stands: `update_fn (custom.py:12)`."""
    try:
        file = inspect.getsourcefile(function)
        line = inspect.getsourcelines(function)[1]
    except (OSError, TypeError):
        return getattr(function, "__qualname__", repr(function))
    return f"{function.__name__} ({file}:{line})"


_HERE = str(Path(__file__).parent)
_LIBRARIES = tuple(
    {sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"), sysconfig.get_path("platlib")}
)


def is_library(function: Callable) -> bool:
    """Whether a function comes from an installed package, so that its author is someone else."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code is None or is_library_file(code.co_filename)


def is_library_file(file: str) -> bool:
    """Whether a file belongs to the kit, to an installed package or to Python."""
    installed = {"site-packages", "dist-packages"} & {*Path(file).parts}  # of another environment
    return file.startswith((_HERE, "<")) or file.startswith(_LIBRARIES) or bool(installed)
