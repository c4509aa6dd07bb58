"""The folder of a race: its pinned configuration, its records, its checkpoints, its reports."""

import hashlib
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from .errors import RaceError
from .protocol import Race


class Folder:
    """A folder that belongs to one configuration.

    Opening compares with the `config.json` that is there: results of different configurations,
    versions or devices are never mixed. A folder without one is empty, and is claimed by `pin`
    when the first run starts.

    Raises:
        RaceError: The folder cannot be written, or belongs to another configuration.
    """

    def __init__(self, path: Path, race: Race):
        self.path = path
        self.config = configuration(race)
        self.versions = versions()
        self._pinned = {"config": self.config, "versions": self.versions}
        try:
            path.mkdir(parents=True, exist_ok=True)
            replace_bytes(path / ".writable", b"")
            (path / ".writable").unlink()
            there = self._there()
        except OSError as error:
            raise RaceError(f"cannot write in {path}: {error.strerror}") from error
        if there is not None:
            self._refuse_another(there)

    def pin(self) -> None:
        """Write `config.json`: from now on the folder belongs to this configuration."""
        replace_bytes(self._file, json.dumps(self._pinned, indent=2).encode() + b"\n")

    @property
    def _file(self) -> Path:
        return self.path / "config.json"

    def _there(self) -> dict[str, Any] | None:
        if self._file.exists():
            try:
                return json.loads(self._file.read_text())
            except json.JSONDecodeError as error:
                raise RaceError(
                    f"{self._file} is not readable ({error}): choose another folder"
                ) from error
        if all(name.startswith(".") for name in os.listdir(self.path)):
            return None
        raise RaceError(
            f"{self.path} holds files but no config.json, so it is not the folder of a race: "
            "choose another one"
        )

    def _refuse_another(self, there: dict[str, Any]) -> None:
        here = json.loads(json.dumps(self._pinned))  # as it reads back: tuples become lists
        differences = _differences(there, here)
        if differences:
            raise RaceError(
                f"{self.path} belongs to another race, and results are never mixed:\n"
                + "".join(f"  {line}\n" for line in differences)
                + "choose another folder with --out, or delete that one"
            )

    @property
    def records(self) -> Path:
        """The file of finished runs."""
        return self.path / "records.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of the run that is under way."""
        return self.path / "checkpoints"


def default_folder(race: Race) -> Path:
    """The folder of this configuration and no other: the task and a hash, in `runs`."""
    content = json.dumps(configuration(race), sort_keys=True).encode()
    return Path("runs", f"{race.task.name}-{hashlib.sha256(content).hexdigest()[:6]}")


def configuration(race: Race) -> dict[str, Any]:
    """All that decides the outcome of a race and can be written down."""
    return {
        "task": race.task.settings(),
        "entries": {entry.name: dict(entry.origin) for entry in race.entries},
        "rates": list(race.rates),
        "seeds": race.seeds,
        "schedule": "linear warm-up over a tenth of the steps, then linear to zero",
    }


def versions() -> dict[str, str]:
    """What computes: Python, packages, device."""
    names = ("gradsmith", "jax", "jaxlib", "optax", "flax", "numpy")
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in names},
        "device": f"{device.device_kind} ({device.platform})",
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


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
