"""Count products and collectives in the text of a compiled program, loops included.

XLA's own `cost_analysis` counts the body of a loop once. The text says how often each loop runs,
where that is known when it is compiled; where it is not (`while_loop` until something converges),
one round is counted and the counts are marked as lower bounds.
"""

import re
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ..scopes import buckets_of
from .collectives import Collective, collective
from .loops import rounds
from .products import library_call, precision_of, product_flops, uncounted_call
from .text import Instruction, computations

_CALLED = re.compile(r"(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_PARTITIONS = re.compile(r"num_partitions=(\d+)")

T = TypeVar("T", int, float, "Counts")


@dataclass(frozen=True)
class Counts:
    """What a program does on each device.

    Attributes:
        flops: Of matrix products; everything else is left out.
        precisions: The flops by what their products were asked for, as XLA calls it.
        collectives: By kind.
        loops_known: Whether the program says of every loop how many rounds it runs.
        uncounted: The functions that are called and may hold flops, which the text does not tell.
        buckets: What of it belongs to which buckets, by `bucket_scope`; '' for what to none.
        calls: How often each function of a library is called, and each kernel of Triton.
    """

    flops: float = 0.0
    precisions: dict[str, float] = field(default_factory=dict)
    collectives: dict[str, Collective] = field(default_factory=dict)
    loops_known: bool = True
    uncounted: frozenset[str] = frozenset()
    buckets: dict[str, "Counts"] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether everything is counted; else the counts are lower bounds."""
        return self.loops_known and not self.uncounted

    def __add__(self, other: "Counts") -> "Counts":
        collectives = dict(self.collectives)
        for kind, more in other.collectives.items():
            mine = collectives.get(kind, Collective(kind, 0, 0.0))
            count, received = mine.count + more.count, mine.received + more.received
            collectives[kind] = Collective(kind, count, received)
        return Counts(
            self.flops + other.flops,
            _sum(self.precisions, other.precisions, 0.0),
            collectives,
            self.loops_known and other.loops_known,
            self.uncounted | other.uncounted,
            _sum(self.buckets, other.buckets, Counts()),
            _sum(self.calls, other.calls, 0),
        )

    def __mul__(self, times: int) -> "Counts":
        collectives = {
            kind: replace(x, count=x.count * times, received=x.received * times)
            for kind, x in self.collectives.items()
        }
        precisions = {name: x * times for name, x in self.precisions.items()}
        return replace(
            self,
            flops=self.flops * times,
            precisions=precisions,
            collectives=collectives,
            buckets={name: x * times for name, x in self.buckets.items()},
            calls={name: x * times for name, x in self.calls.items()},
        )

    def belonging(self, instruction: Instruction) -> "Counts":
        """Return the same, told to belong where the instruction does."""
        return replace(self, buckets={buckets_of(instruction.rest): self})


def _sum(a: dict[str, T], b: dict[str, T], nothing: T) -> dict[str, T]:
    return {name: a.get(name, nothing) + b.get(name, nothing) for name in a | b}


def count(text: str) -> Counts:
    """Return the counts of a compiled program, `jax.stages.Compiled.as_text()`."""
    program = dict(computations(text))
    entry = next(name for name in program if name.startswith("ENTRY "))
    partitions = _PARTITIONS.search(text)
    return _count(entry, program, int(partitions[1]) if partitions else 1, {})


def _count(name: str, program: dict, devices: int, known: dict[str, Counts]) -> Counts:
    if name in known:
        return known[name]
    shapes = {instruction.name: instruction.result for instruction in program[name]}
    total = Counts()
    for instruction in program[name]:
        if library := library_call(instruction):
            total += Counts(calls={library: 1})
        called = [_count(other, program, devices, known) for other in _called(instruction)]
        if (flops := product_flops(instruction, shapes)) is not None:
            total += Counts(flops, {precision_of(instruction): flops}).belonging(instruction)
        elif (found := collective(instruction, devices)) is not None:
            total += Counts(collectives={found.kind: found}).belonging(instruction)
        elif (target := uncounted_call(instruction)) is not None:
            total += Counts(uncounted=frozenset({target}))
        elif instruction.operation == "conditional":
            total += max(called, key=_weight)
        elif instruction.operation == "while":
            times = rounds(instruction, program)
            total += called[0] * (times or 1)
            total = total if times is not None else replace(total, loops_known=False)
        else:
            total = sum(called, total)
    known[name] = total
    return total


def _called(instruction: Instruction) -> list[str]:
    """Return the computations that an instruction runs: all of them, or one if it is a choice."""
    if instruction.operation in ("async-update", "async-done"):
        return []  # of what async-start has run
    if branches := _BRANCHES.search(instruction.rest):
        return branches[1].replace("%", "").split(", ")
    return _CALLED.findall(instruction.rest)


def _weight(counts: Counts) -> tuple[float, float]:
    return counts.flops, sum((x.received for x in counts.collectives.values()), 0.0)
