"""How many of AdamW's steps the matrix optimizers need on Shakespeare, with five seeds.

gradsmith race --seeds 5 --extensions 0 --rates 0.0025 0.005 0.01 0.02 0.04 0.08
    --out runs/five_seeds adamw muon normuon soap
    benchmarks/five_seeds.py:muon_within_a_third
python benchmarks/five_seeds.py runs/five_seeds muon

The second command reads the records of the first, or of any race with an `adamw` in it. Of the
best trial of each entry, it prints the first point of the curve, a mean over the seeds, that is at
or below AdamW's mean final loss; the same of each seed alone; and the mean difference of the final
losses to those of the entry that is named, seed by seed, with its standard error.
"""

import math
import statistics
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

import gradsmith as gs
from gradsmith.race.records import Record, read_records


def muon_within_a_third(learning_rate):
    """Muon with the cheapest polar factor whose singular values are within 0.32 of one."""
    return gs.muon(learning_rate, max_error=0.32)


def reported(records: list[Record]) -> dict[str, list[Record]]:
    """The reported runs of each entry, by seed; tuning seeds are below zero."""
    chosen = {}
    for record in sorted(records, key=lambda record: record.seed):
        if record.seed >= 0:
            chosen.setdefault(record.entry, []).append(record)
    return chosen


def first_below(steps: list[int], losses: list[float], target: float) -> float:
    """The first step whose loss is at or below the target; infinite where none is."""
    return next((s for s, loss in zip(steps, losses, strict=True) if loss <= target), math.inf)


def main(folder: Path, baseline: str) -> None:
    paths = sorted(folder.glob("records*.jsonl"))
    runs = reported([record for path in paths for record in read_records(path)])
    steps = runs["adamw"][0].curve.step
    curves = {name: [run.curve.validation_loss for run in own] for name, own in runs.items()}
    means = {
        name: [statistics.mean(losses) for losses in zip(*own, strict=True)]
        for name, own in curves.items()
    }
    table = Table(
        "entry", "rate", "final loss", "steps", "of AdamW's", "each seed", f"minus {baseline}'s"
    )
    for name, own in curves.items():
        reached = first_below(steps, means[name], means["adamw"][-1])
        alone = [first_below(steps, c, a[-1]) for c, a in zip(own, curves["adamw"], strict=True)]
        behind = [c[-1] - m[-1] for c, m in zip(own, curves[baseline], strict=True)]
        error = statistics.stdev(behind) / math.sqrt(len(behind))
        table.add_row(
            name,
            f"{runs[name][0].rate:g}",
            f"{means[name][-1]:.3f}",
            f"{reached:g}",
            f"{reached / steps[-1]:.2f}",
            " ".join(f"{step:g}" for step in alone),
            f"{statistics.mean(behind):+.4f} ± {error:.4f}",
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
