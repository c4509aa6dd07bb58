"""What the compiler for TPUs expects a program to take: cycles, those of loops included.

The text of a program that is compiled for a TPU has an estimate at every kernel. It is the one by
which the compiler itself decides, and no timing.
"""

import re
from dataclasses import dataclass, replace

from .loops import rounds
from .products import uncounted_call
from .text import Instruction, computations

_ESTIMATE = re.compile(r'"estimated_cycles":"(\d+)"')
_BODY = re.compile(r"body=%?([\w.\-]+)")
_BRANCHES = re.compile(
    r"(?:branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.\-]+))"
)
_CALLED = re.compile(r"(?:to_apply|calls)=%?([\w.\-]+)")
_PRODUCT = re.compile(r"dot_general|conv_general")


@dataclass(frozen=True)
class Cycles:
    """Cycles of one device.

    Attributes:
        all: Of everything that the compiler gives an estimate for. Collectives have none.
        products: Those of kernels that hold a matrix product.
        exact: Whether it is known how often each loop runs, and what everything takes. Otherwise
            one round is counted, or nothing: a QR decomposition, for one, has no estimate.
    """

    all: int = 0
    products: int = 0
    exact: bool = True

    def __add__(self, other: "Cycles") -> "Cycles":
        return Cycles(
            self.all + other.all, self.products + other.products, self.exact and other.exact
        )

    def __mul__(self, times: int) -> "Cycles":
        return Cycles(self.all * times, self.products * times, self.exact)


def count_cycles(text: str) -> Cycles:
    """Return the cycles of a program that is compiled for a TPU."""
    program = dict(computations(text))
    entry = next(name for name in program if name.startswith("ENTRY "))
    return _count(entry, program)


def _count(name: str, program: dict[str, list[Instruction]]) -> Cycles:
    total = Cycles()
    for instruction in program[name]:
        estimate = _ESTIMATE.search(instruction.rest)
        if instruction.operation == "while":
            times = rounds(instruction, program)
            total += _count(_BODY.findall(instruction.rest)[0], program) * (times or 1)
            total = total if times is not None else replace(total, exact=False)
        elif instruction.operation == "conditional":
            names = [a or b for a, b in _BRANCHES.findall(instruction.rest)]
            branches = ", ".join(names).replace("%", "").split(", ")
            total += max((_count(one, program) for one in branches), key=lambda one: one.all)
        elif estimate:
            cycles = int(estimate[1])
            total += Cycles(cycles, cycles if _PRODUCT.search(instruction.rest) else 0)
        elif instruction.operation in ("call", "async-start"):
            for called in _CALLED.findall(instruction.rest):
                total += _count(called, program)
        elif uncounted_call(instruction):
            total = replace(total, exact=False)
    return total
