"""What `describe` found of a model: data for programs, and a table when printed."""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator

from rich import box
from rich.console import Console, ConsoleOptions
from rich.filesize import decimal
from rich.measure import Measurement
from rich.table import Table

from ..sites.shards import mesh_in_words


@dataclasses.dataclass(frozen=True)
class LeafDescription:
    """One leaf: what it is taken for and why, how it is cut, who optimizes it, what that holds.

    Attributes:
        path: Where in the tree it is.
        shape: Of the leaf.
        dtype: Of the leaf.
        role: What it is taken for; empty where nothing decided it.
        why: What that was decided by.
        axes: Which of its axes are stack, fan-in and fan-out, where it is lifted.
        buckets: The keys of the buckets that its matrices are in.
        transposed: For each bucket, whether the matrices are transposed in it, as they may be where
            a rule of Gram matrices lets `(m, n)` and `(n, m)` meet.
        optimizer: The group of a partition, the parts that keep a state for it, the rules.
        state_bytes: What is kept for it.
        replicated_bytes: Of these, what every device of a mesh holds.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    role: str
    why: str
    axes: str
    buckets: tuple[str, ...]
    transposed: tuple[bool, ...]
    optimizer: str
    state_bytes: int
    replicated_bytes: int


@dataclasses.dataclass(frozen=True)
class Description:
    """What `describe` found: a table when printed, and data for programs.

    Attributes:
        leaves: One entry a leaf, in the order of the tree.
        shared_state_bytes: State that belongs to no leaf, such as step counters; on a mesh it is
            replicated.
        remarks: Where gradsmith's own parts stand in an order that cannot mean anything, and why;
            and which leaves of rank 2 are vectors by their names.
        mesh: The sizes of the axes of the mesh that the parameters lie on; empty without one.
        device_state_bytes: The state that each device holds.
    """

    leaves: tuple[LeafDescription, ...]
    shared_state_bytes: int
    remarks: tuple[str, ...]
    mesh: dict[str, int]
    device_state_bytes: int

    def to_json(self) -> str:
        """Return everything in the table as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    def summary(self) -> str:
        """Return what all leaves have together, in a line."""
        params = sum(math.prod(leaf.shape) for leaf in self.leaves)
        state = self.shared_state_bytes + sum(leaf.state_bytes for leaf in self.leaves)
        buckets = {bucket for leaf in self.leaves for bucket in leaf.buckets}
        return (
            f"{how_many(len(self.leaves), 'leaf', 'leaves')}, "
            f"{params:,} parameter{'s' * (params != 1)}, "
            f"{how_many(len(buckets), 'bucket', 'buckets')}; "
            f"state {decimal(state)}, {decimal(self.shared_state_bytes)} of it in counters"
            + self._on_mesh()
        )

    def __str__(self) -> str:
        console = Console(width=_WIDE, color_system=None)
        with console.capture() as capture:
            console.print(self)
        return "\n".join(line.rstrip() for line in capture.get().splitlines())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table | str]:
        """Print all columns that fit, and those that tell the routing in any case."""
        columns = list(COLUMNS)
        table = self._table(columns)
        for title in _DISPENSABLE:
            if (
                Measurement.get(console, options.update(width=_WIDE), table).maximum
                > options.max_width
            ):
                columns.remove(title)
                table = self._table(columns)
        yield table
        yield from self.remarks

    def _table(self, columns: list[str]) -> Table:
        hidden = [title for title in COLUMNS if title not in columns]
        table = Table(
            box=box.SIMPLE_HEAD,
            caption=self.summary()
            + (f" (a wider terminal shows {', '.join(hidden)})" if hidden else ""),
            caption_justify="left",
        )
        for title in columns:
            table.add_column(
                title, overflow="fold", justify="right" if title == "state" else "left"
            )
        for leaf in self.leaves:
            table.add_row(*(COLUMNS[title](leaf) for title in columns))
        return table

    def _on_mesh(self) -> str:
        if not self.mesh:
            return ""
        replicated = self.shared_state_bytes + sum(leaf.replicated_bytes for leaf in self.leaves)
        mesh = mesh_in_words(self.mesh)
        return (
            f"; on each device of {mesh} {decimal(self.device_state_bytes)}, "
            f"{decimal(replicated)} of it replicated"
        )


def how_many(count: int, one: str, several: str) -> str:
    """Return a number with its noun."""
    return f"{count} {one if count == 1 else several}"


def _buckets(leaf: LeafDescription) -> str:
    each = zip(leaf.buckets, leaf.transposed, strict=True)
    return "\n".join(f"{key}, transposed" if transposed else key for key, transposed in each)


_WIDE = 200  # columns of a printed description; a terminal gets its own width through rich

COLUMNS: dict[str, Callable[[LeafDescription], str]] = {
    "leaf": lambda leaf: leaf.path,
    "shape": lambda leaf: f"{leaf.dtype} {leaf.shape}",
    "role": lambda leaf: leaf.role,
    "why": lambda leaf: leaf.why,
    "axes": lambda leaf: leaf.axes,
    "bucket": _buckets,
    "optimizer": lambda leaf: leaf.optimizer,
    "state": lambda leaf: (
        decimal(leaf.state_bytes)
        + (f", {decimal(leaf.replicated_bytes)} replicated" if leaf.replicated_bytes else "")
    ),
}
_DISPENSABLE = ("bucket", "state", "axes", "shape")  # where a terminal is narrow, in this order
