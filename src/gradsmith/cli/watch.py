"""Do something again whenever a file is saved."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from .loading import UsageError

SECONDS = 0.5


def each_time_it_is_saved(
    spec: str, run: Callable[[], int], wait: Callable[[float], None] = time.sleep
) -> int:
    """Call `run` now, and after every change of a Python file in the folder that `spec` names.

    Ends with Ctrl-C and the code of the last run. What cannot be used, such as a file that is saved
    half written, is told, and waited on.
    """
    path, colon, _ = spec.rpartition(":")
    if not colon:
        raise UsageError(f"--watch needs a file, file.py:factory; got {spec!r}")
    folder, code, before = Path(path).parent, 0, None
    try:
        while True:
            now = {file: file.stat().st_mtime_ns for file in sorted(folder.glob("*.py"))}
            if now != before:
                try:
                    code = run()
                except UsageError as error:
                    print(f"gradsmith: {error}", file=sys.stderr)
                    code = 2
                print(f"waiting for a change in {folder}, Ctrl-C ends", file=sys.stderr)
            before = now
            wait(SECONDS)
    except KeyboardInterrupt:
        return code
