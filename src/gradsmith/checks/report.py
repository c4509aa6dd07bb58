"""What a run of checks found: results, counts, text and JSON."""

import collections
import dataclasses
import json
from collections.abc import Callable, Mapping

from .verdicts import OUT_OF_MEMORY, Result

_FAILED = ("failed", "unexpected")
_RAN = ("passed", "failed", "remarks", "expected")


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
        outcomes["failed"], outcomes["remarks"] = len(self.failures), len(self.remarks)
        names = ("passed", "failed", "remarks", "expected", "blocked", "skipped", "inconclusive")
        return {"ran": sum(outcomes[o] for o in _RAN)} | {name: outcomes[name] for name in names}

    @property
    def failures(self) -> tuple[Result, ...]:
        """The results that say the subject is wrong."""
        return self._failed(lambda result: result.tier != "advisory")

    @property
    def remarks(self) -> tuple[Result, ...]:
        """The advisory checks that failed: worth knowing, and no fault."""
        return self._failed(lambda result: result.tier == "advisory")

    @property
    def not_judged(self) -> tuple[Result, ...]:
        """The checks that count and found nothing out: blocked, or out of time or memory."""
        return tuple(
            result
            for result in self.results
            if result.tier != "advisory" and result.outcome in ("blocked", "inconclusive")
        )

    @property
    def ok(self) -> bool:
        """Whether something ran, nothing failed that counts, and all that counts was judged."""
        return self.counts["ran"] > 0 and not self.failures and not self.not_judged

    @property
    def no_optimizer(self) -> bool:
        """Whether there was nothing to check, because what was named makes no transformation."""
        return any(result.check == "is_transformation" for result in self.failures)

    @property
    def out_of_memory(self) -> bool:
        """Whether a check found nothing out because memory ran out."""
        return any(result.reason == OUT_OF_MEMORY for result in self.results)

    def _failed(self, where: Callable[[Result], bool]) -> tuple[Result, ...]:
        return tuple(r for r in self.results if r.outcome in _FAILED and where(r))

    @property
    def headline(self) -> str:
        """One line: the counts and the time."""
        shown = {name: n for name, n in self.counts.items() if n or name in ("ran", "failed")}
        told = [f"{n} {name.removesuffix('s') if n == 1 else name}" for name, n in shown.items()]
        if self.not_judged:
            told[-1] += f"; {len(self.not_judged)} musts not judged"
        return f"{self.subject}: {', '.join(told)}, {self.seconds:.1f} s"

    def __str__(self) -> str:
        """The failures as advice, then the counts."""
        parts = [f"✗ {result.check} ({result.group})\n{result.advice}" for result in self.failures]
        parts += [
            f"~ {result.check} ({result.group}), advisory: {result.advice.seen}\n"
            f"  {result.advice.change}"
            for result in self.remarks
            if result.advice
        ]
        return "\n\n".join([*parts, *self.open_questions, self.headline])

    @property
    def open_questions(self) -> list[str]:
        """A line for each check without an answer, and one for those that were blocked."""
        lines = [f"? {r.check}: {r.reason}" for r in self.results if r.outcome == "inconclusive"]
        blocked = [result for result in self.not_judged if result.outcome == "blocked"]
        if blocked:
            names = ", ".join(result.check for result in blocked)
            why = "what failed blocks them" if self.failures else names
            advisory = self.counts["blocked"] - len(blocked)
            others = f" and {advisory} advisory" if advisory else ""
            lines.append(f"· not judged, {len(blocked)} that must pass{others}: {why}")
        return lines

    @property
    def not_applicable(self) -> list[str]:
        """A line for each reason why checks were skipped, with their number."""
        skipped = [result.reason for result in self.results if result.outcome == "skipped"]
        return [f"- {n} skipped: {why}" for why, n in collections.Counter(skipped).items()]

    def to_json(self) -> str:
        """The whole report, indented."""
        return json.dumps(
            {
                "subject": self.subject,
                "ok": self.ok,
                "seconds": round(self.seconds, 3),
                "counts": self.counts,
                "not_judged": [result.check for result in self.not_judged],
                "metrics": dict(self.metrics),
                "results": [dataclasses.asdict(result) for result in self.results],
            },
            indent=2,
        )
