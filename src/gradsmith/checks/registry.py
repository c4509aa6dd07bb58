"""The list of checks: each a decorated function whose docstring is its exact definition."""

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Literal

from .bench import Bench

Tier = Literal["must", "advisory", "trait"]
Phase = Literal["abstract", "concrete", "last"]
PHASES = ("abstract", "concrete", "last")


@dataclasses.dataclass(frozen=True, eq=False)
class Check:
    """One property that an optimizer has or lacks.

    Args:
        name: Its name, unique.
        function: Returns when the property holds; raises `CheckFailure` when it does not, and
            `NotApplicable` when the question does not arise.
        group: The file it stands in.
        tier: `must`: every optimizer should pass. `advisory`: worth knowing. `trait`: held only
            against subjects that claim it.
        phase: `abstract` checks trace and never compile; `last` ones may destroy what others use.
        needs: Checks without which this one says nothing: when one fails, it is blocked.
        requires: Conditions of the subject and the machine, see `conditions.py`.
        unless: Traits that excuse a subject.
        call: One line that shows the property, given `tx`, `params`, `grads` and `state`.
        cause: Why subjects usually fail it.
        change: What usually mends them.
        since: The version of the list that it came with.
    """

    name: str
    function: Callable[[Bench], None]
    group: str
    tier: Tier
    phase: Phase
    needs: tuple[str, ...]
    requires: tuple[str, ...]
    unless: tuple[str, ...]
    call: str
    cause: str
    change: str
    since: str

    @property
    def definition(self) -> str:
        """The docstring of its function."""
        return inspect.cleandoc(self.function.__doc__ or "")

    @property
    def headline(self) -> str:
        """The first paragraph of the definition, on one line."""
        return " ".join(self.definition.split("\n\n")[0].split())

    def __call__(self, subject) -> None:
        """Run it on `subject`, after what it needs.

        Raises:
            CheckFailure: The property does not hold.
            unittest.SkipTest: It was skipped, blocked or inconclusive; pytest reports a skip.
        """
        from .runner import assert_passes

        assert_passes(self, subject)


_CHECKS: list[Check] = []


def check(
    *,
    tier: Tier = "must",
    phase: Phase = "concrete",
    needs: tuple[str, ...] = ("core_runs",),
    requires: tuple[str, ...] = (),
    unless: tuple[str, ...] = (),
    call: str = "",
    cause: str = "",
    change: str = "",
    since: str = "0.1",
) -> Callable[[Callable[[Bench], None]], Check]:
    """Put a function `check_<name>(bench)` on the list; its module is its group."""

    def register(function: Callable[[Bench], None]) -> Check:
        entry = Check(
            name=function.__name__.removeprefix("check_"),
            function=function,
            group=function.__module__.rpartition(".")[2],
            tier=tier,
            phase=phase,
            needs=needs,
            requires=requires,
            unless=unless,
            call=call,
            cause=cause,
            change=change,
            since=since,
        )
        _CHECKS.append(entry)
        return entry

    return register


def all_checks() -> tuple[Check, ...]:
    """Every check, in the order in which they run: by phase, as they stand, after their needs."""
    from . import groups  # noqa: F401  (importing the groups fills the list)

    by_name = {entry.name: entry for entry in _CHECKS}
    ordered: dict[str, Check] = {}

    def place(entry: Check) -> None:
        for need in entry.needs:
            place(by_name[need])
        ordered.setdefault(entry.name, entry)

    for entry in sorted(_CHECKS, key=lambda entry: PHASES.index(entry.phase)):
        place(entry)
    return tuple(ordered.values())


def select(tier: Literal["must", "all"] = "all", only: Iterable[str] = ()) -> tuple[Check, ...]:
    """Choose checks.

    Args:
        tier: `must` leaves out the advisory and trait checks.
        only: Names of checks, groups or phases; default: all of them.

    Raises:
        ValueError: A name is not known.
    """
    checks, only = all_checks(), tuple(only)
    require_known(only, groups=True)
    return tuple(
        entry
        for entry in checks
        if (tier == "all" or entry.tier == "must" or entry.name in only)
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
