"""What a tuned AdamW comes to on each task: where the targets of the tasks are from.

python benchmarks/targets.py [task ...]

Optax's AdamW is tuned over five learning rates by the protocol of a race. Its target is what it
has after three quarters of the steps of its best trial on the report data, the mean over two seeds,
rounded up to two digits. The races are in `runs/targets`; stopped, the same command goes on.
"""

import dataclasses
import functools
import math
import statistics
import sys
from pathlib import Path

import optax

from gradsmith.race import TASKS, Display, Entry, Protocol, Race, rows, run_race, task_maker

RATES = (0.002, 0.004, 0.008, 0.016, 0.032)
ADAMW = Entry("adamw", functools.partial(optax.adamw, b2=0.99))


def rounded_up(loss: float) -> float:
    """To two digits.

    >>> rounded_up(2.131), rounded_up(0.0381)
    (2.2, 0.039)
    """
    unit = 10.0 ** (math.floor(math.log10(loss)) - 1)
    return float(f"{math.ceil(loss / unit - 1e-9) * unit:.2g}")


def main(names: list[str]) -> None:
    for name in names:
        task = task_maker(name)()
        without = dataclasses.replace(task, target=0.0)  # what is found does not depend on it
        race = Race(without, (ADAMW,), RATES, Protocol(seeds=2))
        records = run_race(race, Path("runs", "targets", name), Display())
        (row,) = rows(race, records)
        curves = [r.curve for r in records if r.seed >= 0]
        late = [c.validation_loss[3 * (len(c.step) - 1) // 4] for c in curves]
        target = rounded_up(statistics.fmean(loss for loss in late if loss is not None))
        seconds = statistics.median(r.timing["run"] for r in records)
        print(
            f"{name}: target {target:g}, here {task.target:g}; best rate "
            f"{row.settings['learning_rate']:g}{' at an edge' if row.on_edge else ''}, final loss "
            f"{row.loss:.4g}; {seconds:.1f} s a run",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:] or [name for name in TASKS if name != "track3"])
