"""The list of checks, and how some of them are chosen."""

import difflib
from collections.abc import Iterable
from types import ModuleType
from typing import Literal

from .check import PHASES, Check
from .groups import GROUPS
from .subject import Subject


def checks_of(group: ModuleType) -> tuple[Check, ...]:
    """The checks of one group, as they stand in its file."""
    return tuple(entry for entry in vars(group).values() if isinstance(entry, Check))


def all_checks() -> tuple[Check, ...]:
    """Every check, in the order in which they run: by phase, as they stand, after their needs."""
    by_name = {entry.name: entry for group in GROUPS for entry in checks_of(group)}
    ordered: dict[str, Check] = {}

    def place(entry: Check) -> None:
        for need in entry.needs:
            place(by_name[need])
        ordered.setdefault(entry.name, entry)

    for entry in sorted(by_name.values(), key=lambda entry: PHASES.index(entry.phase)):
        place(entry)
    return tuple(ordered.values())


def select(tier: Literal["must", "all"] = "all", only: Iterable[str] = ()) -> tuple[Check, ...]:
    """Choose checks.

    Args:
        tier: `must` leaves out the advisory checks.
        only: Names of checks, groups or phases; default: all of them.

    Raises:
        ValueError: A name is not known.
    """
    checks, only = all_checks(), tuple(only)
    require_known(only, groups=True)
    return tuple(
        entry
        for entry in checks
        if (tier == "all" or entry.tier != "advisory" or entry.name in only)
        and (not only or not {entry.name, entry.group, entry.phase}.isdisjoint(only))
    )


def with_needs(chosen: Iterable[Check]) -> tuple[Check, ...]:
    """Add the checks that the chosen ones build on, in the order in which they run."""
    by_name = {entry.name: entry for entry in all_checks()}
    wanted: set[str] = set()

    def add(name: str) -> None:
        if name not in wanted:
            wanted.add(name)
            for need in by_name[name].needs:
                add(need)

    for entry in chosen:
        add(entry.name)
    return tuple(entry for entry in by_name.values() if entry.name in wanted)


CORE = ("is_transformation", "update_signature", "core_runs")
"""What everything builds on: where one of them fails, nothing is known of the subject."""


def require_declarable(subject: Subject) -> None:
    """Look through the checks that a subject names.

    Raises:
        ValueError: One is expected to fail that is no check, or that must not fail; or one is
            claimed that cannot be.
    """
    require_known(subject.expected_failures)
    for name in subject.expected_failures:
        if name in CORE:
            raise ValueError(
                f"{name} cannot be expected to fail: everything builds on it, so nothing would "
                "be checked"
            )
    claimable = [entry.name for entry in all_checks() if entry.tier == "trait"]
    for name in subject.claims:
        if name not in claimable:
            raise ValueError(f"{name!r} cannot be claimed; what can is {', '.join(claimable)}")


def require_known(names: Iterable[str], *, groups: bool = False) -> None:
    """Raise a `ValueError` that suggests what was meant when a name is not on the list."""
    checks = all_checks()
    known = {entry.name for entry in checks}
    if groups:
        known |= {entry.group for entry in checks} | set(PHASES)
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known), n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else "see docs/checks.md"
            raise ValueError(f"no check is called {name!r}; {hint}")
