"""What `diff` found."""

import json
from dataclasses import asdict, dataclass

from .explain import Finding
from .parting import Parting


@dataclass(frozen=True)
class Difference:
    """Two optimizers side by side.

    Attributes:
        a: What the first is called.
        b: What the second is called.
        steps: How many steps both made.
        dtype: The precision of parameters and gradients.
        leaves: Each leaf, and where it parts; None where the updates are the same but for rounding.
        findings: What explains the difference. A leaf that no finding names is not explained.
        notes: What else there is to know.
    """

    a: str
    b: str
    steps: int
    dtype: str
    leaves: dict[str, Parting | None]
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether all updates are the same but for rounding."""
        return not any(self.leaves.values())

    @property
    def largest(self) -> float:
        """The largest difference in any leaf, over the largest update there."""
        return max((where.relative for where in self.leaves.values() if where), default=0.0)

    @property
    def unexplained(self) -> tuple[str, ...]:
        """The leaves that differ, and that no finding names."""
        told = {path for finding in self.findings for path in finding.leaves}
        return tuple(path for path, parts in self.leaves.items() if parts and path not in told)

    @property
    def headline(self) -> str:
        """The verdict, in a sentence."""
        if self.equal:
            return f"{self.a} and {self.b} are the same over {self.steps} steps, but for rounding"
        parts = {path: where for path, where in self.leaves.items() if where}
        path, where = min(parts.items(), key=lambda item: (item[1].step, -item[1].times_rounding))
        return (
            f"{self.a} and {self.b} part in step {where.step}, at {path}, by "
            f"{where.times_rounding:.2g} times what rounding may do; {len(parts)} of "
            f"{len(self.leaves)} leaves differ"
        )

    def to_json(self) -> str:
        """Return all of it as JSON."""
        plain = asdict(self)
        told = {
            "findings": [finding._asdict() for finding in self.findings],
            "leaves": {path: where and where._asdict() for path, where in self.leaves.items()},
        }
        return json.dumps(plain | told | {"equal": self.equal, "unexplained": self.unexplained})

    def __str__(self) -> str:
        lines = [self.headline]
        lines += [f"- {one.says}{one.remainder} ({', '.join(one.leaves)})" for one in self.findings]
        if self.unexplained:
            lines.append(
                f"- nothing that is known explains {', '.join(self.unexplained)}: it may differ in "
                "several things at once"
            )
        return "\n".join([*lines, *self.notes])
