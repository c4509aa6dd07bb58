"""The folder of a race: its pinned configuration, its records, its checkpoints, its reports."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .errors import RaceError
from .prepare import program_name
from .protocol import Race, in_json, written
from .provenance import versions
from .records import Record, read_records


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
            (path / ".writable").unlink()
            names = os.listdir(path)
        except OSError as error:
            raise RaceError(f"cannot write in {path}: {error.strerror}") from error
        if "config.json" not in names and not all(name.startswith(".") for name in names):
            raise RaceError(
                f"{path} holds files but no config.json, so it is not the folder of a race: "
                "choose another one"
            )

    def pin(self) -> None:
        """Write `config.json`: from now on the folder belongs to this configuration."""
        content = {**self._here(), "about": self.about}
        replace_bytes(self._file, json.dumps(content, indent=2).encode() + b"\n")

    def read(self) -> list[Record]:
        """The finished records, once they are seen to be those of this race.

        Raises:
            RaceError: The folder, or one of its records, belongs to another race.
        """
        there = self._there()
        if there is None:
            return []
        here = json.loads(json.dumps(self._here()))  # as it reads back: tuples become lists
        self._refuse_another(there, here)
        records = read_records(self.records)
        for record in records:
            self._refuse_foreign(record, there)
        return records

    def refuse_to_go_on(self) -> None:
        """Make sure that new runs may be added to the records that are there.

        Raises:
            RaceError: Versions have changed; or it cannot be told whether a program has.
        """
        there = self._there()
        if there is None:
            return
        changed = _differences({"versions": there["versions"]}, {"versions": self.versions})
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
        there = self._there()
        if there is None or there["versions"] == self.versions:
            return None
        changed = _differences(there["versions"], self.versions)
        return (
            f"{self.path} was raced earlier, with {'; '.join(changed)}. It is shown as it was; "
            "whether the entries compute the same today cannot be told"
        )

    def _here(self) -> dict[str, Any]:
        return {"config": self.config, "programs": self.programs, "versions": self.versions}

    @property
    def _file(self) -> Path:
        return self.path / "config.json"

    def _there(self) -> dict[str, Any] | None:
        if not self._file.exists():
            return None
        try:
            there = json.loads(self._file.read_text())
        except json.JSONDecodeError as error:
            raise RaceError(
                f"{self._file} is not readable ({error}): choose another folder"
            ) from error
        if not isinstance(there, dict) or not there.keys() >= self._here().keys():
            raise RaceError(f"{self._file} is not that of a race of today: choose another folder")
        return there

    def _refuse_another(self, there: dict[str, Any], here: dict[str, Any]) -> None:
        # Another version may make another program of the same code.
        names = ["config", "programs"] if there["versions"] == here["versions"] else ["config"]
        differences = _differences({n: there[n] for n in names}, {n: here[n] for n in names})
        if differences:
            raise self._another(differences)

    def _another(self, differences: list[str]) -> RaceError:
        return RaceError(
            f"{self.path} belongs to another race, and results are never mixed:\n"
            + "".join(f"  {line}\n" for line in differences)
            + "choose another folder with --out, or delete that one"
        )

    def _refuse_foreign(self, record: Record, there: dict[str, Any]) -> None:
        own = {
            "config": record.config,
            "program": record.program,
            "versions": record.versions,
        }
        expected = {
            "config": there["config"],
            "program": there["programs"].get(program_name(record.entry, record.settings)),
            "versions": there["versions"],
        }
        differences = _differences(own, expected)
        if differences:
            raise RaceError(
                f"{self.records} holds a record of another race ({record.entry}, "
                f"{written(record.settings)}, seed {record.seed}):\n"
                + "".join(f"  {line}\n" for line in differences)
                + "remove that line"
            )

    @property
    def records(self) -> Path:
        """The file of finished runs."""
        return self.path / "records.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of the run that is under way."""
        return self.path / "checkpoints"


def default_folder(race: Race, programs: Mapping[str, str | None]) -> Path:
    """The folder of this configuration and no other: the task and a hash, in `runs`."""
    content = json.dumps([configuration(race), dict(programs)], sort_keys=True).encode()
    return Path("runs", f"{race.task.name}-{hashlib.sha256(content).hexdigest()[:6]}")


def configuration(race: Race) -> dict[str, Any]:
    """All that was asked and can be written down."""
    return {
        "task": race.task.settings(),
        "protocol": dataclasses.asdict(race.protocol),
        "entries": {
            entry.name: {
                **entry.origin,
                "space": in_json(race.space(entry)),
                "schedule": (entry.schedule.__doc__ or "its own").partition("\n")[0],
            }
            for entry in race.entries
        },
    }


def replace_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader or a kill sees the old or the new content, nothing between."""
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _differences(there: Any, here: Any, path: str = "") -> list[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        return [
            line
            for key in dict.fromkeys([*there, *here])
            for line in _differences(there.get(key), here.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if there == here else [f"{path}: {there!r} there, {here!r} here"]
