"""What a run of checks found: results, counts, text and JSON."""

import collections
import dataclasses
import json
from collections.abc import Mapping

from .verdicts import Result

_RAN = ("passed", "failed", "expected")


@dataclasses.dataclass(frozen=True)
class Report:
    """The results of the checks of one subject.

    Args:
        subject: Its name.
        results: One a check, in the order in which they ran.
        metrics: Measured beside the checks: name and number.
        seconds: Wall time of the run.
    """

    subject: str
    results: tuple[Result, ...]
    metrics: Mapping[str, float]
    seconds: float

    @property
    def counts(self) -> dict[str, int]:
        """How many checks ran, and how many had each outcome."""
        outcomes = collections.Counter(result.outcome for result in self.results)
        names = ("passed", "failed", "expected", "blocked", "skipped", "inconclusive")
        return {"ran": sum(outcomes[o] for o in _RAN)} | {name: outcomes[name] for name in names}

    @property
    def failures(self) -> tuple[Result, ...]:
        """Results that say the subject is wrong; of the advisory tier they are remarks."""
        return tuple(result for result in self.results if result.outcome == "failed")

    @property
    def ok(self) -> bool:
        """Whether something ran and nothing that counts failed."""
        return self.counts["ran"] > 0 and not any(r.tier != "advisory" for r in self.failures)

    @property
    def headline(self) -> str:
        """One line: the counts and the time."""
        told = [f"{n} {name}" for name, n in self.counts.items() if n or name in ("ran", "failed")]
        return f"{self.subject}: {', '.join(told)}, {self.seconds:.1f} s"

    def __str__(self) -> str:
        """The failures as advice, then the counts."""
        parts = [
            f"{'✗' if result.tier != 'advisory' else '~'} {result.check} ({result.group})\n"
            f"{result.advice or result.reason}"
            for result in self.failures
        ]
        inconclusive = [
            f"? {r.check}: {r.reason}" for r in self.results if r.outcome == "inconclusive"
        ]
        return "\n\n".join([*parts, *inconclusive, self.headline])

    def to_json(self) -> str:
        """The whole report, indented."""
        return json.dumps(
            {
                "subject": self.subject,
                "ok": self.ok,
                "seconds": round(self.seconds, 3),
                "counts": self.counts,
                "metrics": dict(self.metrics),
                "results": [dataclasses.asdict(result) for result in self.results],
            },
            indent=2,
        )
