"""What was read inside the optimizers of a race: the files of readings in its folder."""

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from .errors import RaceError
from .records import whole_lines

Value = float | list | None  # a number; one for each matrix of a leaf, or a spectrum

SPECTRUM = "spectrum"  # in the name of a reading of several numbers, the largest first


class Reading(NamedTuple):
    """A reading of one layer along one run; of a spectrum, the last one.

    Args:
        at: After which updates; of a spectrum, the number of the value.
        value: What was read there; None where it was not finite.
    """

    at: list[int]
    value: list[float | None]


def read_readings(
    folder: Path, runs: Mapping[str, tuple[int, int]]
) -> dict[str, dict[str, dict[str, Reading]]]:
    """What was read, by reading, entry and layer; empty where nothing was.

    Every line of `readings*.jsonl` holds `entry`, `trial`, `seed`, `step`, and `values` by
    `layer/reading`. Of several matrices in a leaf the mean is taken. Of a reading with `spectrum`
    in its name, the last axis is the spectrum, and the last step is taken. A step that was read
    twice, by a run that was killed and began again, counts once.

    Args:
        folder: Of the race.
        runs: Of each entry, the trial and the seed to take.

    Raises:
        RaceError: A whole line is no reading.
    """
    steps: dict[tuple[str, str, str], dict[int, Value]] = {}
    for path in sorted(folder.glob("readings*.jsonl")):
        for number, line in enumerate(whole_lines(path.read_bytes()).splitlines(), start=1):
            try:
                one = json.loads(line)
                if runs.get(one["entry"]) != (one["trial"], one["seed"]):
                    continue
                for name, value in one["values"].items():
                    layer, _, reading = name.rpartition("/")
                    at = steps.setdefault((reading, one["entry"], layer), {})
                    at[int(one["step"])] = value
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise RaceError(f"{path}, line {number} is no reading ({error})") from error
    found: dict[str, dict[str, dict[str, Reading]]] = {}
    for (reading, entry, layer), at in steps.items():
        layers = found.setdefault(reading, {}).setdefault(entry, {})
        layers[layer] = _spectrum(at) if SPECTRUM in reading else _along(at)
    return found


def _along(at: Mapping[int, Value]) -> Reading:
    steps = sorted(at)
    return Reading(steps, [_mean(at[step]) for step in steps])


def _spectrum(at: Mapping[int, Value]) -> Reading:
    last = at[max(at)]
    rows = last if isinstance(last, list) and last and isinstance(last[0], list) else [last]
    values = [_mean(list(column)) for column in zip(*rows, strict=True)]
    return Reading(list(range(1, len(values) + 1)), values)


def _mean(value: Value) -> float | None:
    if not isinstance(value, list):
        return None if value is None else float(value)
    known = [mean for mean in map(_mean, value) if mean is not None]
    return statistics.fmean(known) if known else None
