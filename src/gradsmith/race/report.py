"""The report of races: one HTML file, made from their folders alone, that loads nothing."""

from collections.abc import Sequence
from pathlib import Path

from .folder import replace_bytes
from .page.document import document, report_script
from .page.markup import table
from .page.sections import article
from .rows import rows
from .table import cells
from .told import Told, told


def write_report(*folders: Path, out: Path | None = None) -> Path:
    """Write the report of the races in `folders`; return its path.

    It is made from what the folders hold, so also while a race runs, and by a later version. The
    file stands alone: figures are drawn in it, and its script only makes them answer.

    Args:
        folders: At least one.
        out: The file; by default `report.html` in the only folder, or where the process is.

    Raises:
        RaceError: A folder is not that of a race, holds no finished run, or is damaged.
    """
    races = [told(folder) for folder in folders]
    out = out or (folders[0] if len(folders) == 1 else Path()) / "report.html"
    replace_bytes(out, page(races).encode())
    return out


def page(races: Sequence[Told]) -> str:
    """The whole page."""
    tasks = list(dict.fromkeys(one.race.task.name for one in races))
    title = f"{'Race' if len(races) == 1 else f'{len(races)} races'} on {' and '.join(tasks)}"
    entries = max(len(one.race.entries) for one in races)
    side_by_side = _side_by_side(races) if len(races) > 1 else ""
    articles = [
        article(one, f"r{number}", len(races) > 1) for number, one in enumerate(races, start=1)
    ]
    body = side_by_side + "".join(articles)
    return document(title, body, "gradsmith report", entries, report_script())


def _side_by_side(races: Sequence[Told]) -> str:
    heads = ["race", "task", "entry", "best trial", "loss", "steps to the target", "time a step"]
    lines = [
        [one.path.name, one.race.task.name, *cells(row)[:5]]
        for one in races
        for row in rows(one.race, one.records)
    ]
    return (
        '<section aria-labelledby="all"><h2 id="all">Side by side</h2>'
        + table(heads, lines, "Every entry of every race; losses compare within one task only")
        + "</section>"
    )
