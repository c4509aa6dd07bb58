"""`gradsmith race status`, `watch`, `merge` and `export`: what the folder of a race is good for."""

import sys
from pathlib import Path
from typing import Annotated

import tyro

from ..race import RaceError
from ..race.display import default_display
from ..race.folder import replace_bytes
from ..race.following import follow
from ..race.raced import as_csv, as_parquet, finished, flat
from ..race.raced import merge as merge_folders
from ..race.raced import status as status_of
from ..race.table import table
from ..race.verdict import verdict
from .loading import UsageError
from .terminal import INTERRUPTED, console

Folders = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER ...")]
Folder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]


def status(folders: Folders, /) -> int:
    """Say how far races are, what is left, and who runs what on which machine.

    Args:
        folders: The folders of the races.
    """
    refuse_none(folders)
    for folder in folders:
        try:
            print(status_of(folder))
        except (RaceError, OSError) as error:
            raise UsageError(str(error)) from error
    return 0


def watch(folder: Folder, /) -> int:
    """Follow a race that runs elsewhere, until it is over; then show its table.

    It reads the folder and changes nothing. Ctrl-C ends it, and the race goes on.

    Args:
        folder: The folder of the race.
    """
    try:
        with default_display() as display:
            told, left = follow(folder, display)
    except (RaceError, OSError) as error:
        raise UsageError(str(error)) from error
    except KeyboardInterrupt:
        print("no longer watched; the race goes on", file=sys.stderr)
        return INTERRUPTED
    if left:
        print(
            f"nobody races in {folder} now, and the race is not over: the command that began it "
            "continues it",
            file=sys.stderr,
        )
        return 1
    console().print(table(told.race, told.records))
    for sentence in verdict(told.race, told.records):
        console().print(sentence, highlight=False, markup=False)
    return 0


def merge(folders: Folders, /) -> int:
    """Put the records of all workers in `records.jsonl` of the first folder.

    They stand there as one process alone would have written them.

    Args:
        folders: The folders of one race, such as one from each machine; the others are left as
            they are.
    """
    refuse_none(folders)
    try:
        records = merge_folders(folders)
    except (RaceError, OSError) as error:
        raise UsageError(str(error)) from error
    print(f"{len(records)} records in {folders[0] / 'records.jsonl'}")
    return 0


def export(folder: Folder, /, csv: Path | None = None, parquet: Path | None = None) -> int:
    """Write the records of a race as a table, a row a run; as CSV on stdout if no file is named.

    Args:
        folder: The folder of the race.
        csv: A file. Curves stand in it as lists in JSON.
        parquet: A file. Curves are lists. Needs pyarrow.
    """
    try:
        rows = flat(finished(folder))
        if parquet:
            replace_bytes(parquet, as_parquet(rows))
        if csv:
            replace_bytes(csv, as_csv(rows).encode())
    except ImportError as error:
        raise UsageError("--parquet needs pyarrow: pip install pyarrow; --csv does not") from error
    except (RaceError, OSError) as error:
        raise UsageError(str(error)) from error
    if not (csv or parquet):
        print(as_csv(rows), end="")
    return 0


def refuse_none(folders: tuple[Path, ...]) -> None:
    """Refuse a command without any folder."""
    if not folders:
        raise UsageError("name at least one folder of a race, such as runs/shakespeare-8c1f02")
