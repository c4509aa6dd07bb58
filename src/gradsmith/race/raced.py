"""Folders of races from what is written in them: how far they are, put together, as a table."""

import csv
import importlib
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import RaceError
from .folder import differences, pinned, records_of, replace_bytes
from .lock import holders, locked
from .protocol import Protocol
from .records import Record, as_line


def status(path: Path) -> str:
    """How far the race of a folder is, what is left, and who is at what; a line each.

    Raises:
        RaceError: It is not the folder of a race.
    """
    there, racing = _pinned(path), holders(path)
    config, records = there["config"], records_of(there, path)
    protocol, entries = Protocol(**config["protocol"]), config["entries"]
    spaces = [entry["space"].values() for entry in entries.values()]
    trials = protocol.budget or math.prod(map(len, spaces[0]))
    in_a_trial = protocol.runs_of_a_trial * len(entries)
    tuned = [record for record in records if record.seed < 0]
    extended = sum(record.trial >= trials for record in tuned)
    lines = [
        f"{path}: {', '.join(entries)} on {config['task']['name']}",
        f"tuning: {len(tuned) - extended} of {trials * in_a_trial} runs",
        f"extensions: {extended} of at most {2 * protocol.extensions * in_a_trial} runs",
        f"report: {len(records) - len(tuned)} of {protocol.seeds * len(entries)} runs",
        *(f"{holder}: {holder.doing}" for holder in racing),
    ]
    return "\n".join(lines if racing else [*lines, "nobody races there now"])


def merge(paths: Sequence[Path]) -> list[Record]:
    """Put the records of all workers in all folders in `records.jsonl` of the first one.

    They stand there as one process alone would have written them, beside what was read inside the
    runs. The other folders are left as they are.

    Raises:
        RaceError: A folder is not that of a race, or not of the same; two records tell different
            outcomes of one run; or somebody races in the first folder.
    """
    first = paths[0]
    there = _pinned(first)
    for other in paths[1:]:
        if found := differences(there, _pinned(other)):
            raise RaceError(
                f"{other} is that of another race than {first}, which is 'there' here:\n"
                + "".join(f"  {line}\n" for line in found).rstrip()
            )
    with locked(first):
        records = records_of(there, *paths)
        replace_bytes(first / "records.jsonl", b"".join(map(as_line, records)))
        for file in first.glob("records-*.jsonl"):
            file.unlink()
        for file in (file for other in paths[1:] for file in other.glob("readings-*.jsonl")):
            replace_bytes(first / file.name, file.read_bytes())
    return records


def finished(path: Path) -> list[Record]:
    """The finished records of a folder.

    Raises:
        RaceError: It is not the folder of a race.
    """
    return records_of(_pinned(path), path)


def flat(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One flat dictionary a run, all with the same names; the curve is a list for each column.

    Examples:
        >>> flat([])
        []
    """
    found = []
    for record in records:
        settings = {f"settings.{name}": value for name, value in record.settings.items()}
        found.append(
            {
                **{name: getattr(record, name) for name in ("entry", "trial", "seed")},
                **settings,
                "validation_loss": record.validation_loss,
                "steps_to_target": record.steps_to_target,
                "diverged_at": record.diverged_at,
                **{f"passes.{name}": count for name, count in record.passes.items()},
                **{f"curve.{name}": column for name, column in vars(record.curve).items()},
                **{f"seconds.{name}": seconds for name, seconds in record.timing.items()},
                "program": record.program,
            }
        )
    names = dict.fromkeys(name for row in found for name in row)
    return [{name: row.get(name) for name in names} for row in found]


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as CSV; a list is written as JSON, and nothing as nothing."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()})
    return text.getvalue()


def as_parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    """The rows as Parquet; lists stay lists.

    Raises:
        ImportError: There is no pyarrow.
    """
    arrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    file = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(list(rows)), file)
    return file.getvalue()


def _pinned(path: Path) -> dict[str, Any]:
    there = pinned(path)
    if there is None:
        raise RaceError(f"{path} is not the folder of a race: it has no config.json")
    return there
