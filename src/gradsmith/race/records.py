"""What one run leaves behind, and the file of such records: one JSON object a line."""

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .errors import RaceError
from .space import RATE


@dataclasses.dataclass(frozen=True)
class Curve:
    """The losses along a run; a loss that is not finite is None."""

    step: list[int]
    passes: list[int]  # forward and backward passes through the model until then, together
    training_loss: list[float | None]  # mean over the steps since the point before
    validation_loss: list[float | None]


@dataclasses.dataclass(frozen=True)
class Record:
    """The outcome of one run. All but `timing` is the same in every repetition of the run.

    Args:
        entry: Who ran.
        trial: The number of its settings among those that the entry tried.
        settings: The peak learning rate, and what else was chosen.
        seed: Seed of its parameters and batches; below zero in tuning.
        validation_loss: After the last step; None if the run diverged. Of the selection data in
            tuning, of the report data otherwise.
        steps_to_target: The first point of the curve at or below the target; None if none is.
        diverged_at: The step whose training loss, or the validation loss after it, was not finite
            or above the bound; None if none was.
        passes: `forward` and `backward` passes through the model in all. A plain optimizer takes
            one of each a step; a line search takes more.
        curve: The losses on the way.
        program: Fingerprint of the program that ran; None if it had none.
        config: The configuration of the race.
        versions: Of Python, the packages and the device.
        timing: Seconds: `run` (all of it), `step` (the mean of its steps, without validation) and
            `update` (see `timing.py`); `watch`, if the race looked inside, is what that took, and
            is part of none of the others.
    """

    entry: str
    trial: int
    settings: dict[str, Any]
    seed: int
    validation_loss: float | None
    steps_to_target: int | None
    diverged_at: int | None
    passes: dict[str, int]
    curve: Curve
    program: str | None
    config: dict[str, Any]
    versions: dict[str, str]
    timing: dict[str, float]

    @property
    def rate(self) -> float:
        """The peak learning rate."""
        return self.settings[RATE]

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


def duration(seconds: float) -> str:
    """A time in three digits, with a unit that fits.

    Examples:
        >>> print(duration(83.0), duration(0.0203), duration(0.0))
        83 s 20.3 ms 0 s
    """
    if seconds == 0:
        return "0 s"
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def append_record(path: Path, record: Record) -> None:
    """Add a line to the file; when this returns, it is on the disk.

    A last line that a kill or a full disk cut short is removed first.
    """
    line = as_line(record)
    with path.open("ab+") as file:
        file.seek(0)
        file.truncate(len(whole_lines(file.read())))
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def as_line(record: Record) -> bytes:
    """The record as a line of JSON."""
    return json.dumps(dataclasses.asdict(record), allow_nan=False).encode() + b"\n"


def read_records(*paths: Path) -> list[Record]:
    """All finished records of some files, each run once; a last line cut short is left out.

    Raises:
        RaceError: A whole line is no record; or two lines tell different outcomes of one run.
    """
    records: dict[tuple, tuple[str, Record]] = {}
    for path in paths:
        content = path.read_bytes() if path.exists() else b""
        for number, line in enumerate(whole_lines(content).splitlines(), start=1):
            where = f"{path}, line {number}"
            record = _parse(line, where)
            run = (record.entry, record.trial, record.seed)
            first, earlier = records.setdefault(run, (where, record))
            if dataclasses.replace(record, timing={}) != dataclasses.replace(earlier, timing={}):
                raise RaceError(
                    f"{where} tells another outcome of the run of {first}: remove the wrong one"
                )
    return [record for _, record in records.values()]


def in_order(records: Iterable[Record], entries: Sequence[str]) -> list[Record]:
    """The records as one process writes them: trial by trial and seed by seed, entries in turn."""

    def place(record: Record) -> tuple[int, ...]:
        entry = entries.index(record.entry)
        if record.seed < 0:
            return 0, record.trial, -record.seed, entry
        return 1, 0, record.seed, entry

    return sorted(records, key=place)


def whole_lines(content: bytes) -> bytes:
    """What a file holds, without a last line that a kill or a full disk cut short."""
    return content[: content.rfind(b"\n") + 1]


def _parse(line: bytes, where: str) -> Record:
    try:
        fields = json.loads(line)
        return Record(**{**fields, "curve": Curve(**fields["curve"])})
    except (ValueError, TypeError, KeyError) as error:
        raise RaceError(
            f"{where} is not the record of a run ({error}): mend or remove that line"
        ) from error
