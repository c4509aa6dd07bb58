"""What a check is: a decorated function whose docstring is its exact definition."""

import dataclasses
import inspect
from collections.abc import Callable
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
    """Make a check of a function `check_<name>(bench)`; its module is its group."""

    def register(function: Callable[[Bench], None]) -> Check:
        return Check(
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

    return register
