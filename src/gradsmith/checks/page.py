"""The list of checks as Markdown, from their docstrings: `python -m gradsmith.checks.page FILE`.

Replaces what stands between the two markers in FILE.
"""

import sys
from pathlib import Path

from .check import Check
from .registry import all_checks

BEGIN, END = "<!-- checks: begin -->", "<!-- checks: end -->"
_TIERS = {"must": "**must**", "advisory": "advisory", "trait": "claimed"}


def checks_as_markdown() -> str:
    """One section a group, one entry a check."""
    groups: dict[str, list[Check]] = {}
    for check in all_checks():
        groups.setdefault(check.group, []).append(check)
    parts = []
    for group, checks in groups.items():
        parts.append(f"### {group}\n\n{(_module_of(checks[0]).__doc__ or '').splitlines()[0]}\n")
        parts += [_entry(check) for check in checks]
    return "\n".join(parts)


def _entry(check: Check) -> str:
    facts = [_TIERS[check.tier], check.phase]
    if check.needs:
        facts.append(f"needs {', '.join(check.needs)}")
    if check.requires:
        facts.append(f"requires {', '.join(check.requires).replace('_', ' ')}")
    if check.unless:
        facts.append(f"unless {', '.join(check.unless)}")
    return (
        f"#### {check.name}\n\n{check.definition}\n\n"
        f"*{'; '.join(facts)}; since {check.since}.*\n"
        f"Usual cause: {check.cause}. Change to make: {check.change}.\n"
    )


def _module_of(check: Check):
    return sys.modules[check.function.__module__]


def rewrite(text: str) -> str:
    """The page with its list of checks brought up to date."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{checks_as_markdown()}\n{END}{after}"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(rewrite(page.read_text(encoding="utf-8")), encoding="utf-8")
