"""What one run leaves behind, and the file of such records: one JSON object a line."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from .errors import RaceError


@dataclasses.dataclass(frozen=True)
class Curve:
    """The losses along a run; a loss that is not finite is None."""

    step: list[int]
    training_loss: list[float | None]  # mean over the steps since the point before
    validation_loss: list[float | None]


@dataclasses.dataclass(frozen=True)
class Record:
    """The outcome of one run. All but `timing` is the same in every repetition of the run.

    Args:
        entry: Who ran.
        rate: Its peak learning rate.
        seed: Seed of its parameters and batches.
        validation_loss: After the last step; None if the run diverged.
        steps_to_target: The first point of the curve at or below the target; None if none is.
        diverged_at: The step whose training loss, or the validation loss after it, was not finite
            or above the bound; None if none was.
        curve: The losses on the way.
        config: The configuration of the race.
        versions: Of Python, the packages and the device.
        timing: Seconds: `run` (all of it), `step` and `update` (medians, see `timing.py`).
    """

    entry: str
    rate: float
    seed: int
    validation_loss: float | None
    steps_to_target: int | None
    diverged_at: int | None
    curve: Curve
    config: dict[str, Any]
    versions: dict[str, str]
    timing: dict[str, float]

    def outcome(self) -> str:
        """How the run ended, in words."""
        if self.validation_loss is None:
            return f"diverged at step {self.diverged_at}"
        return f"validation loss {in_digits(self.validation_loss)}"


def in_digits(loss: float) -> str:
    """A loss in four digits, however large it is.

    Examples:
        >>> print(in_digits(1.84), in_digits(0.00061234), in_digits(51234.0))
        1.840 0.0006123 5.123e+04
    """
    return f"{loss:#.4g}".rstrip(".")


def append_record(path: Path, record: Record) -> None:
    """Add a line to the file; when this returns, it is on the disk."""
    line = json.dumps(dataclasses.asdict(record), allow_nan=False) + "\n"
    with path.open("ab") as file:
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def read_records(path: Path) -> list[Record]:
    """All finished records; a last line cut short by a kill is removed from the file.

    Raises:
        RaceError: A whole line is no record.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
    return [
        _parse(line, f"{path}, line {number}")
        for number, line in enumerate(content[:whole].splitlines(), start=1)
    ]


def _parse(line: bytes, where: str) -> Record:
    try:
        fields = json.loads(line)
        return Record(**{**fields, "curve": Curve(**fields["curve"])})
    except (ValueError, TypeError, KeyError) as error:
        raise RaceError(
            f"{where} is not the record of a run ({error}): mend or remove that line"
        ) from error
