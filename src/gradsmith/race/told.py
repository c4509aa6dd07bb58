"""The race that a folder tells of: read from its files alone, at any time, by any version."""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from .entries import Entry
from .errors import RaceError
from .protocol import Protocol, Race
from .records import Record, in_order, read_records
from .space import Range, Settings, Space
from .tasks import Task


class Told(NamedTuple):
    """What a folder says.

    Args:
        path: The folder.
        race: The race; its functions are not in the folder, and refuse to be called.
        records: What is finished, at least one.
        versions: Of Python, the packages and the device.
        about: How the race was started, and what is told of each entry (see `provenance.about`);
            empty in a folder that was made before there was one.
    """

    path: Path
    race: Race
    records: list[Record]
    versions: dict[str, str]
    about: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Finished(Race):
    """A race whose trials are those of its records: a search may change with SciPy."""

    tried: Mapping[tuple[str, int], Settings] = dataclasses.field(default_factory=dict)

    def first_trials(self, entry: Entry) -> list[Settings]:
        """The trials of an entry, before any extension."""
        searched = super().first_trials(entry)
        return [self.tried.get((entry.name, n), one) for n, one in enumerate(searched)]


def told(path: Path) -> Told:
    """Read the folder of a race, which may be under way; nothing is written.

    Raises:
        RaceError: It is no folder of a race, nothing in it is finished yet, or a file is damaged.
    """
    found = told_so_far(path)
    if not found.records:
        raise RaceError(f"no run in {path} is finished yet: ask again after the first one")
    return found


def told_so_far(path: Path) -> Told:
    """The same of a race that may have no finished run yet.

    Raises:
        RaceError: It is no folder of a race, or a file is damaged.
    """
    file = path / "config.json"
    if not path.is_dir():
        raise RaceError(f"there is no folder {path}: name one that a race has written")
    if not file.exists():
        raise RaceError(f"{path} has no config.json, so it is not the folder of a race")
    records = read_records(*sorted(path.glob("records*.jsonl")))
    try:
        there = json.loads(file.read_text(encoding="utf-8"))
        about = dict(there.get("about", {}))
        race = _race(there["config"], about.get("entries", {}), records)
        records = in_order(records, [entry.name for entry in race.entries])
        return Told(path, race, records, dict(there["versions"]), about)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RaceError(
            f"{file} does not tell of these records ({type(error).__name__}: {error}): is it of "
            "another race, or damaged?"
        ) from error


def _race(config: Mapping[str, Any], known: Mapping[str, Any], records: list[Record]) -> Race:
    tried = {(one.entry, one.trial): one.settings for one in records}
    entries = tuple(
        _entry(name, parts, known.get(name, {})) for name, parts in config["entries"].items()
    )
    protocol = Protocol(**config["protocol"])
    mesh = config.get("mesh") or {}
    task = _task(config["task"])
    return _Finished(task, entries, protocol=protocol, mesh=mesh, tried=tried)


def _task(config: Mapping[str, Any]) -> Task:
    names = ("name", "target", "steps", "examples_per_step", "unit")
    bound = {} if config["bound"] is None else {"bound": config["bound"]}
    origin = {key: value for key, value in config.items() if key not in (*names, "bound")}
    known = {name: config[name] for name in names} | bound
    return Task(
        init=_gone, loss=_gone, batch=_gone, selection=(), report=(), **known, origin=origin
    )


def _entry(name: str, parts: Mapping[str, Any], known: Mapping[str, Any]) -> Entry:
    origin = {key: value for key, value in parts.items() if key not in ("space", "schedule")}
    entry = Entry(name, _gone, _space(parts["space"]), origin=origin)
    told = parts.get("schedule", entry.scheduled)
    # Not written down in older folders; a schedule of their own says something else there.
    own = known.get("own_schedule", told != entry.scheduled)
    return dataclasses.replace(entry, schedule=_scheduled(told)) if own else entry


def _scheduled(told: str) -> Callable[..., NoReturn]:
    def schedule(*args: Any) -> NoReturn:
        _gone()

    schedule.__doc__ = told
    return schedule


def _space(parts: Mapping[str, Any]) -> Space:
    return {name: _part(part) if isinstance(part, str) else part for name, part in parts.items()}


def _part(text: str) -> Range:
    found = re.fullmatch(r"(log|uniform)\((.+), (.+)\)", text)
    if not found:
        raise ValueError(f"{text!r} is no range")
    return Range(float(found[2]), float(found[3]), logarithmic=found[1] == "log")


def _gone(*args: Any, **kwargs: Any) -> NoReturn:
    raise RaceError("a race that is read from its folder has no functions to call")
