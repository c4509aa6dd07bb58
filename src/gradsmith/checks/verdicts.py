"""What a check can say: a failure that reads like advice, and the outcome that is recorded."""

import dataclasses
from typing import Literal

Outcome = Literal[
    "passed", "failed", "blocked", "skipped", "inconclusive", "expected", "unexpected"
]
"""`blocked`: a check it builds on did not pass. `skipped`: the subject or the machine lacks what it
needs. `inconclusive`: time or memory ran out. `expected`: it failed, as the subject declares.
`unexpected`: it was to fail, and passed."""

OUT_OF_MEMORY = "memory ran out"
"""The reason of a check that is inconclusive for that."""


@dataclasses.dataclass(frozen=True)
class Advice:
    """One fault, told so that its author can mend it."""

    expected: str
    seen: str
    reproduce: str = ""
    cause: str = ""
    change: str = ""

    def __str__(self) -> str:
        """The parts that are known, one a line."""
        labels = {"reproduce": "reproduce with", "cause": "usual cause", "change": "change to make"}
        lines = []
        for field in dataclasses.fields(self):
            text = getattr(self, field.name)
            if text:
                label = labels.get(field.name, field.name)
                lines.append(f"{label + ':':<16}{_indent(text)}")
        return "\n".join(lines)


class CheckFailure(AssertionError):  # noqa: N818  (an assertion that failed, as pytest shows it)
    """What a check raises. Parts left out are filled in from the check's own declaration.

    Args:
        seen: What happened, with the path of the leaf and both values.
        expected: What should have happened; default: the first line of the check's docstring.
        reproduce: One line that shows the fault without the kit.
        cause: Why this usually happens.
        change: The edit that mends it.
    """

    def __init__(
        self, seen: str, expected: str = "", reproduce: str = "", cause: str = "", change: str = ""
    ):
        super().__init__(seen)
        self.advice = Advice(expected, seen, reproduce, cause, change)

    def __str__(self) -> str:
        """The advice as text."""
        return "\n" + str(self.advice)


class NotApplicable(Exception):  # noqa: N818  (nothing went wrong)
    """The subject or the machine lacks what the check needs; the message says what."""


@dataclasses.dataclass(frozen=True)
class Result:
    """The outcome of one check on one subject.

    Args:
        check: Its name.
        group: Its group.
        tier: `must`, `advisory` or `trait`.
        outcome: See `Outcome`.
        seconds: How long it ran.
        reason: Why it did not run or may fail; empty when it ran and was held to its word.
        advice: What was seen and what to do, when it failed.
    """

    check: str
    group: str
    tier: str
    outcome: Outcome
    seconds: float = 0.0
    reason: str = ""
    advice: Advice | None = None

    @classmethod
    def from_dict(cls, record: dict) -> "Result":
        """Undo `dataclasses.asdict`."""
        advice = record["advice"] and Advice(**record["advice"])
        return cls(**{**record, "advice": advice})


def _indent(text: str) -> str:
    return text.replace("\n", "\n" + " " * 16)
