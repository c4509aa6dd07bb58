"""`gradsmith report`: the page of one race or several, from their folders."""

import sys
import webbrowser
from importlib.util import find_spec
from pathlib import Path

from ..race import RaceError, write_figures, write_report
from .loading import UsageError
from .race_folder import Folders, refuse_none


def report(
    folders: Folders,
    /,
    out: Path | None = None,
    figures: Path | None = None,
    open: bool = False,
) -> int:
    """Make the report of races from their folders: while they run, and after an upgrade.

    Args:
        folders: Folders that `gradsmith race` has written; several stand in one page.
        out: The page; by default `report.html` in the folder, or here for several.
        figures: A folder for every figure as SVG, PDF and PNG, and for the tables as LaTeX and
            Markdown.
        open: Show the page in a browser.
    """
    refuse_none(folders)
    try:
        page = write_report(*folders, out=out)
        written = [page]
        if figures is not None:
            if find_spec("matplotlib") is None:
                raise UsageError("--figures needs matplotlib: pip install 'gradsmith[race]'")
            written += [path for folder in folders for path in write_figures(folder, figures)]
    except (RaceError, OSError) as error:
        raise UsageError(str(error)) from error
    print("wrote", ", ".join(map(str, written)), file=sys.stderr)
    if open:
        webbrowser.open(page.resolve().as_uri())
    return 0
