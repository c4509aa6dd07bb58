"""The collectives of a compiled program, and the bytes that a device receives in them."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from .text import Instruction, arrays

_GROUP_LIST = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_GROUP_TILES = re.compile(r"replica_groups=\[\d+,(\d+)\]")
_GROUP_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}")

_KINDS = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "reduce-scatter",
    "collective-permute",
    "ragged-all-to-all",
)


@dataclass(frozen=True)
class Collective:
    """Collectives of one kind.

    Attributes:
        kind: As XLA calls it: 'all-to-all', 'all-gather' ...
        count: How many of them one update makes.
        received: The bytes that each device receives in all of them, from other devices.
    """

    kind: str
    count: int
    received: float


def in_words(collectives: Iterable[Collective]) -> str:
    """Return how many there are of each kind: '4 all-to-all, 1 all-gather'."""
    return ", ".join(f"{one.count} {one.kind}" for one in collectives)


def collective(instruction: Instruction, devices: int) -> Collective | None:
    """Return the collective that an instruction is, or starts; None of any other instruction."""
    kind = instruction.operation.removesuffix("-start")
    if kind not in _KINDS:
        return None
    started = kind != instruction.operation
    group = _group(instruction.rest, devices)
    return Collective(kind, 1, _received(kind, instruction.result, group, started))


def _received(kind: str, result: str, group: int, started: bool) -> float:
    """Return the bytes that a device receives; rings for what is reduced."""
    sizes = [array.bytes for array in arrays(result)]
    if started and len(sizes) > 1 and kind in ("all-gather", "collective-permute"):
        sizes = sizes[len(sizes) // 2 :]  # operands stand before results
    size = sum(sizes)
    if kind == "collective-permute":
        return size
    if kind == "reduce-scatter":
        return size * (group - 1)
    return size * (group - 1) / group * (2 if kind == "all-reduce" else 1)


def _group(rest: str, devices: int) -> int:
    """Return how many devices take part in one collective."""
    if tiles := _GROUP_TILES.search(rest):
        return int(tiles[1])
    if mesh := _GROUP_MESH.search(rest):
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh[1])}
        # An axis may be given in part, as 'axis':(first)size.
        used = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", mesh[2])
        return math.prod(int(part) if part else sizes[name] for name, part in used)
    listed = _GROUP_LIST.search(rest)
    return len(listed[1].split(",")) if listed else devices
