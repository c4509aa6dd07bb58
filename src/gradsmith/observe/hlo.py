"""Count products and collectives in the text of a compiled program, loops included.

XLA's own `cost_analysis` counts the body of a loop once. The text says how often each loop runs,
where that is known when it is compiled; where it is not (`while_loop` until something converges),
one turn is counted and the counts are marked as lower bounds.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

_BITS = {"pred": 8, "token": 0, "opaque": 0}
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_GROUP_LIST = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_GROUP_TILES = re.compile(r"replica_groups=\[\d+,(\d+)\]")
_GROUP_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}")
_PARTITIONS = re.compile(r"num_partitions=(\d+)")

COLLECTIVES = (
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


@dataclass(frozen=True)
class Counts:
    """What a program does on each device.

    Attributes:
        flops: Of matrix products; everything else is left out.
        collectives: By kind.
        exact: Whether the number of turns of every loop was known.
    """

    flops: float = 0.0
    collectives: dict[str, Collective] = field(default_factory=dict)
    exact: bool = True

    def __add__(self, other: "Counts") -> "Counts":
        collectives = dict(self.collectives)
        for kind, more in other.collectives.items():
            mine = collectives.get(kind, Collective(kind, 0, 0.0))
            count, received = mine.count + more.count, mine.received + more.received
            collectives[kind] = Collective(kind, count, received)
        return Counts(self.flops + other.flops, collectives, self.exact and other.exact)

    def __mul__(self, times: int) -> "Counts":
        collectives = {
            kind: replace(x, count=x.count * times, received=x.received * times)
            for kind, x in self.collectives.items()
        }
        return Counts(self.flops * times, collectives, self.exact)


def count(text: str) -> Counts:
    """Return the counts of a compiled program, `jax.stages.Compiled.as_text()`."""
    computations = dict(_computations(text))
    entry = next(name for name in computations if name.startswith("ENTRY "))
    partitions = _PARTITIONS.search(text)
    return _count(entry, computations, int(partitions[1]) if partitions else 1, {})


def _computations(text: str) -> Iterator[tuple[str, list[re.Match]]]:
    name, instructions = None, []
    for line in text.splitlines():
        if name is None:
            if found := _COMPUTATION.match(line):
                name, instructions = (found[1] or "") + found[2], []
        elif line.startswith("}"):
            yield name, instructions
            name = None
        elif found := _INSTRUCTION.match(line):
            instructions.append(found)


def _count(name: str, computations: dict, devices: int, known: dict[str, Counts]) -> Counts:
    if name in known:
        return known[name]
    shapes = {found[1]: found[2] for found in computations[name]}
    total = Counts()
    for _, result, operation, rest in (found.groups() for found in computations[name]):
        kind = operation.removesuffix("-start")
        if operation == "dot":
            total += Counts(_dot_flops(result, rest, shapes))
        elif kind in COLLECTIVES:
            received = _received(kind, result, _group(rest, devices), kind != operation)
            total += Counts(0.0, {kind: Collective(kind, 1, received)})
        elif operation == "conditional":
            branches = _BRANCHES.search(rest)
            names = branches[1].replace("%", "").split(", ") if branches else _CALLED.findall(rest)
            total += max((_count(x, computations, devices, known) for x in names), key=_weight)
        elif called := _CALLED.search(rest):
            inner = _count(called[1], computations, devices, known)
            trips = _TRIPS.search(rest)
            total += inner * (int(trips[1]) if trips else 1)
            if operation == "while" and trips is None:
                total = replace(total, exact=False)
    known[name] = total
    return total


def _weight(counts: Counts) -> tuple[float, float]:
    return counts.flops, sum((x.received for x in counts.collectives.values()), 0.0)


def _dot_flops(result: str, rest: str, shapes: dict[str, str]) -> float:
    operand = re.match(r"(?:\S+\[[\d,]*\]\S* )?%?([\w.\-]+)", rest)
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", rest)
    assert operand, rest
    left = _dims(shapes[operand[1]])
    inner = [left[int(i)] for i in contracted[1].split(",") if i] if contracted else []
    complex_ = 4 if _ARRAY.findall(result)[0][0].startswith("c") else 1
    return 2.0 * complex_ * math.prod(_dims(result)) * math.prod(inner)


def _dims(shape: str) -> list[int]:
    return [int(size) for size in _ARRAY.findall(shape)[0][1].split(",") if size]


def _received(kind: str, result: str, group: int, started: bool) -> float:
    """Return the bytes that a device receives; rings for what is reduced."""
    arrays = [_bytes(*array) for array in _ARRAY.findall(result)]
    if started and len(arrays) > 1 and kind in ("all-gather", "collective-permute"):
        arrays = arrays[len(arrays) // 2 :]  # operands stand before results
    size = sum(arrays)
    if kind == "collective-permute":
        return size
    if kind == "reduce-scatter":
        return size * (group - 1)
    return size * (group - 1) / group * (2 if kind == "all-reduce" else 1)


def _bytes(dtype: str, dims: str) -> float:
    digits = re.search(r"\d+", dtype)
    bits = _BITS.get(dtype, int(digits[0]) if digits else 0)
    return math.prod(int(size) for size in dims.split(",") if size) * bits / 8


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
