"""How often the loops of a compiled program run."""

import re

from .text import Instruction

_TOLD = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_OPERANDS = re.compile(r"%([\w.\-]+)")


def rounds(loop: Instruction, program: dict[str, list[Instruction]]) -> int | None:
    """Return how often a `while` runs, where the program says so; else None.

    Compilers for CPUs and GPUs write the number down. That for TPUs does not: there a loop that
    counts from zero, as those of `fori_loop` and `scan` do, goes on while its counter is less than
    a constant, and that alone is its condition.
    """
    if told := _TOLD.search(loop.rest):
        return int(told[1])
    name = _CONDITION.search(loop.rest)
    *before, last = program[name[1]] if name else [loop]
    if last.operation != "compare" or "direction=LT" not in last.rest:
        return None
    operands = _OPERANDS.findall(last.rest)[:2]
    limits = [one.rest for one in before if one.operation == "constant" and one.name in operands]
    found = re.match(r"(\d+)\)", limits[0]) if len(limits) == 1 else None
    return int(found[1]) if found else None
