"""`gradsmith race ENTRY --widths`: one optimizer on one task in several widths."""

import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from ..race import Entry, Executor, Task, race_widths
from ..race.folder import replace_bytes
from ..race.width_report import losses_table, sizes_table, width_notes, widths_png
from .loading import UsageError


def show_widths(
    make_task: Callable[[int], Task],
    widths: Sequence[int],
    entries: Sequence[Entry],
    rates: Sequence[float],
    seeds: int,
    out: Path | None,
    results: Console,
    executor: Executor,
) -> int:
    """Measure, print both tables, and draw them; each of several workers does.

    Args:
        make_task: From a width to the task.
        widths: Of the models, at least one.
        entries: The only one.
        rates: Learning rates of every width.
        seeds: Of each learning rate.
        out: The folder; by default one in `runs` named after what is asked.
        results: Where tables go.
        executor: Where the runs are computed.

    Raises:
        UsageError: There are several entries.
    """
    if len(entries) != 1:
        raise UsageError(f"--widths looks at one entry at a time, got {len(entries)}")
    task = make_task(widths[0])
    asked = f"{task.settings()} {entries[0].origin} {widths} {rates} {seeds}"
    name = f"{task.name}-widths-{hashlib.sha256(asked.encode()).hexdigest()[:6]}"
    folder = out or Path("runs", name)
    found = race_widths(make_task, widths, entries[0], rates, folder, seeds, executor=executor)
    results.print(sizes_table("Updates", found.updates, found.widths))
    results.print(sizes_table("Activations", found.activations, found.widths))
    results.print(losses_table(found))
    for note in width_notes(found):
        results.print(note, highlight=False, markup=False)
    replace_bytes(folder / "widths.png", widths_png(found))
    print("wrote", folder / "widths.png", file=sys.stderr)
    return 0
