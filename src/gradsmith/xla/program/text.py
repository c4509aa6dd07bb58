"""Read the text of a compiled program: its computations, their instructions and shapes."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
_OPERAND = re.compile(r"(?:\S+\[[\d,]*\]\S* )?%?([\w.\-]+)")
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\]")
_BITS = {"pred": 8, "token": 0, "opaque": 0}


class Instruction(NamedTuple):
    """One line of a program.

    Attributes:
        name: What others call its result.
        result: The type of the result, `f32[8,4]{1,0}` or a tuple of such.
        operation: `dot`, `while`, `custom-call` ...
        rest: All that stands behind: operands and attributes.
    """

    name: str
    result: str
    operation: str
    rest: str

    def first_operand(self) -> str:
        """Return the name of the first operand."""
        found = _OPERAND.match(self.rest)
        assert found, self.rest
        return found[1]


class Array(NamedTuple):
    """The type of an array."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> float:
        """What it takes in memory, without padding."""
        digits = re.search(r"\d+", self.dtype)
        bits = _BITS.get(self.dtype, int(digits[0]) if digits else 0)
        return self.size * bits / 8


def arrays(type_: str) -> list[Array]:
    """Return the arrays of the type of a result, which may be a tuple."""
    sizes = lambda dims: tuple(int(size) for size in dims.split(",") if size)
    return [Array(dtype, sizes(dims)) for dtype, dims in _ARRAY.findall(type_)]


def computations(text: str) -> Iterator[tuple[str, list[Instruction]]]:
    """Return the computations of a program by name; that of the one it starts with has `ENTRY `."""
    name, instructions = None, []
    for line in text.splitlines():
        if name is None:
            if found := _COMPUTATION.match(line):
                name, instructions = (found[1] or "") + found[2], []
        elif line.startswith("}"):
            yield name, instructions
            name = None
        elif found := _INSTRUCTION.match(line):
            instructions.append(Instruction(*found.groups()))
