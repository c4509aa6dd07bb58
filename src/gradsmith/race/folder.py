"""The folder of a race: its pinned configuration, its records, its checkpoints, its reports."""

import dataclasses
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .errors import RaceError
from .prepare import program_name
from .protocol import Race, in_json, written
from .provenance import versions
from .records import Record, in_order, read_records

PINNED = ("config", "programs", "versions")  # of `config.json`: what the folder belongs to


class Folder:
    """A folder that belongs to one configuration, and to one process at a time (see `lock.py`).

    Results of different configurations, programs, versions or devices are never mixed. A folder
    without `config.json` is empty, and is claimed by `pin` when the first run starts.

    Args:
        path: Where; made if it is not there.
        config: What was asked.
        programs: Fingerprints of all that is run; None for what has none.
        about: What else the report tells; it may differ from that of the folder.

    Raises:
        RaceError: The folder cannot be written, or is that of something else.
    """

    def __init__(
        self,
        path: Path,
        config: Mapping[str, Any],
        programs: Mapping[str, str | None],
        about: Mapping[str, Any] = MappingProxyType({}),
    ):
        self.path, self.about = path, dict(about)
        self.config, self.programs, self.versions = dict(config), dict(programs), versions()
        try:
            path.mkdir(parents=True, exist_ok=True)
            replace_bytes(path / ".writable", b"")
            (path / ".writable").unlink(missing_ok=True)
            names = os.listdir(path)
        except OSError as error:
            raise RaceError(f"cannot write in {path}: {error.strerror}") from error
        if "config.json" not in names and not all(name.startswith(".") for name in names):
            raise RaceError(
                f"{path} holds files but no config.json, so it is not the folder of a race: "
                "choose another one"
            )

    def pin(self) -> None:
        """Write `config.json`: from now on the folder belongs to this configuration.

        Raises:
            RaceError: It belongs to another one, which came first.
        """
        if pinned(self.path) is None:
            content = json.dumps({**self._here(), "about": self.about}, indent=2).encode() + b"\n"
            replace_bytes(self.path / "config.json", content)
        there, here = pinned(self.path) or {}, json.loads(json.dumps(self._here()))
        if found := differences({name: there.get(name) for name in here}, here):
            raise self._another(found)

    def read(self) -> list[Record]:
        """The finished records of all workers, once they are seen to be those of this race.

        They stand as one process alone would have written them.

        Raises:
            RaceError: The folder, or one of its records, belongs to another race.
        """
        there = pinned(self.path)
        if there is None:
            return []
        here = json.loads(json.dumps(self._here()))  # as it reads back: tuples become lists
        self._refuse_another(there, here)
        return records_of(there, self.path)

    def refuse_to_go_on(self) -> None:
        """Make sure that new runs may be added to the records that are there.

        Raises:
            RaceError: Versions have changed; or it cannot be told whether a program has.
        """
        there = pinned(self.path)
        if there is None:
            return
        changed = differences({"versions": there["versions"]}, {"versions": self.versions})
        if changed:
            raise self._another(changed)
        unknown = [name for name, program in self.programs.items() if program is None]
        if unknown:
            raise RaceError(
                f"{self.path} holds runs of {' and '.join(unknown)}, which calls back into Python "
                "while it runs: whether that code is still the same cannot be told, so the race "
                "does not go on; choose another folder, or delete that one"
            )

    def remark(self) -> str | None:
        """What has to be said of records that were made by other versions; None if none were."""
        there = pinned(self.path)
        if there is None or there["versions"] == self.versions:
            return None
        changed = differences(there["versions"], self.versions)
        return (
            f"{self.path} was raced earlier, with {'; '.join(changed)}. It is shown as it was; "
            "whether the entries compute the same today cannot be told"
        )

    def _here(self) -> dict[str, Any]:
        return {"config": self.config, "programs": self.programs, "versions": self.versions}

    def _refuse_another(self, there: dict[str, Any], here: dict[str, Any]) -> None:
        # Another version may make another program of the same code.
        names = ["config", "programs"] if there["versions"] == here["versions"] else ["config"]
        found = differences({n: there[n] for n in names}, {n: here[n] for n in names})
        if found:
            raise self._another(found)

    def _another(self, lines: list[str]) -> RaceError:
        return RaceError(
            f"{self.path} belongs to another race, and results are never mixed:\n"
            + "".join(f"  {line}\n" for line in lines)
            + "choose another folder with --out, or delete that one"
        )

    def records(self, worker: int | None = None) -> Path:
        """The file of finished runs; each worker has its own."""
        return self.path / ("records.jsonl" if worker is None else f"records-{worker}.jsonl")

    def readings(self, number: int) -> Path:
        """The file of what was read along a run; each run has its own."""
        return self.path / f"readings-{number}.jsonl"

    def checkpoint(self, number: int) -> Path:
        """The folder of a run that is under way."""
        return self.path / "checkpoints" / f"run-{number}"

    def forget(self, number: int | None = None) -> None:
        """Remove what a run left on its way, or all runs: the run, or the race, is finished."""
        path = self.path / "checkpoints" if number is None else self.checkpoint(number)
        shutil.rmtree(path, ignore_errors=True)


def pinned(path: Path) -> dict[str, Any] | None:
    """What the folder belongs to: `config`, `programs` and `versions`; None if to nobody yet.

    Raises:
        RaceError: Its `config.json` cannot be read.
    """
    file = path / "config.json"
    if not file.exists():
        return None
    try:
        there = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise RaceError(f"{file} is not readable ({error}): choose another folder") from error
    if not isinstance(there, dict) or not there.keys() >= set(PINNED):
        raise RaceError(f"{file} is not that of a race of today: choose another folder")
    return {name: there[name] for name in PINNED}


def records_of(there: Mapping[str, Any], *paths: Path) -> list[Record]:
    """The finished records of all workers in some folders, as one process alone would write them.

    Raises:
        RaceError: One of them is not of the race `there`, that of `config.json`.
    """
    records = read_records(
        *(file for path in paths for file in sorted(path.glob("records*.jsonl")))
    )
    for record in records:
        program = there["programs"].get(program_name(record.entry, record.settings))
        own = {"config": record.config, "program": record.program, "versions": record.versions}
        expected = {name: there[name] for name in ("config", "versions")} | {"program": program}
        found = differences(own, expected)
        if found:
            raise RaceError(
                f"{', '.join(map(str, paths))} holds a record of another race ({record.entry}, "
                f"{written(record.settings)}, seed {record.seed}):\n"
                + "".join(f"  {line}\n" for line in found)
                + "remove that line"
            )
    return in_order(records, list(there["config"]["entries"]))


def default_folder(race: Race, programs: Mapping[str, str | None]) -> Path:
    """The folder of this configuration and no other: the task and a hash, in `runs`."""
    content = json.dumps([configuration(race), dict(programs)], sort_keys=True).encode()
    return Path("runs", f"{race.task.name}-{hashlib.sha256(content).hexdigest()[:6]}")


def configuration(race: Race) -> dict[str, Any]:
    """All that was asked and can be written down."""
    return {
        "task": race.task.settings(),
        "protocol": dataclasses.asdict(race.protocol),
        "mesh": dict(race.mesh) or None,
        "entries": {
            entry.name: {
                **entry.origin,
                "space": in_json(race.space(entry)),
                "schedule": entry.scheduled,
            }
            for entry in race.entries
        },
    }


def replace_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader or a kill sees the old or the new content, nothing between."""
    # A name of its own: other workers may write the same file.
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def differences(there: Any, here: Any, path: str = "") -> list[str]:
    """Where two nested dictionaries differ, a line each."""
    if isinstance(there, dict) and isinstance(here, dict):
        return [
            line
            for key in dict.fromkeys([*there, *here])
            for line in differences(there.get(key), here.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if there == here else [f"{path}: {there!r} there, {here!r} here"]
