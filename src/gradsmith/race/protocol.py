"""The protocol of a race: how entries are tuned, and what they are then compared on.

First everyone is *tuned*: the same number of trials, each at the tuning seeds, judged on the
selection data. Then everyone runs its best trial at the *reported* seeds, judged on the report
data. Nothing is chosen on what is reported.

What runs next depends on the finished records alone, so that a killed race needs no memory of its
own.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable
from typing import Any, NamedTuple

from .entries import Entry
from .errors import RaceError
from .mesh import Sizes, refuse_sizes
from .records import Record
from .space import RATE, Range, Settings, Space, extension, log, trials
from .tasks import Task

RATES = (0.002, 0.02, 0.2)  # docs/race.md says how they were chosen


class Run(NamedTuple):
    """One training run: a trial of an entry at a seed.

    A seed below zero is a tuning seed: such runs choose, and are not reported.
    """

    entry: str
    trial: int
    seed: int


def run_of(record: Record) -> Run:
    """The run that a record tells of."""
    return Run(record.entry, record.trial, record.seed)


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a race is held, the same for every entry.

    Args:
        search: Where the trials of a space come from: all of a `grid`, or a scrambled `sobol` or
            `halton` sequence.
        budget: Trials of each entry; by default what its grid has, which must be the same for all.
        tuned: `once` for all reported seeds; or anew for `each` of them, at tuning seeds of its
            own. Then what a seed reports holds the chance of the choice as well, and so does the p
            value. It costs as many times the trials as there are seeds.
        tuning_seeds: At how many seeds a trial runs. They are -1, -2, ...
        seeds: At how many seeds the best trial of each entry runs, for the report. They are 0, 1,
            ...
        selection: What makes a trial the best: the lowest mean final `loss`, or the fewest mean
            `steps` to the target, with the loss where the target is not reached. A trial that
            diverges at a seed is worse than any that does not.
        verdict: What is said in the end: `paired` compares entries seed by seed, with Holm's
            adjustment over all pairs; `track` holds each to the target by the rule of
            modded-nanogpt's optimization track.
        extensions: How often everyone may get two more trials because somebody's best learning
            rate is the lowest or the highest that it tried.

    Raises:
        RaceError: A number is too small, or a name is unknown.
    """

    search: str = "grid"
    budget: int | None = None
    tuned: str = "once"
    tuning_seeds: int = 1
    seeds: int = 3
    selection: str = "loss"
    verdict: str = "paired"
    extensions: int = 1

    def __post_init__(self):
        known = {
            "search": ("grid", "sobol", "halton"),
            "tuned": ("once", "each"),
            "selection": ("loss", "steps"),
            "verdict": ("paired", "track"),
        }
        for name, values in known.items():
            if getattr(self, name) not in values:
                got = getattr(self, name)
                raise RaceError(f"{name} is one of {', '.join(values)}, got {got!r}")
        if self.budget is not None and self.budget < 1:
            raise RaceError(f"a budget is at least one trial, got {self.budget}")
        if self.tuning_seeds < 1:
            raise RaceError(f"a race needs at least one tuning seed, got {self.tuning_seeds}")
        if self.seeds < 1:
            raise RaceError(f"a race needs at least one seed, got {self.seeds}")
        if self.extensions < 0:
            raise RaceError(f"extensions cannot be fewer than none, got {self.extensions}")

    @property
    def runs_of_a_trial(self) -> int:
        """At how many tuning seeds a trial runs in all."""
        return self.tuning_seeds * (self.seeds if self.tuned == "each" else 1)

    def tuning_of(self, seed: int) -> int:
        """The number of the tuning that a run belongs to, or is chosen by; 0 if there is one."""
        if self.tuned == "once":
            return 0
        return seed if seed >= 0 else (-1 - seed) // self.tuning_seeds


@dataclasses.dataclass(frozen=True)
class Race:
    """What is raced: the task, the entries, and the protocol.

    Args:
        task: The problem.
        entries: Who takes part; names are unique.
        rates: The learning rates of every entry whose space has none. A grid tries these. A `sobol`
            or `halton` search takes all numbers from the lowest to the highest, evenly on a
            logarithmic scale.
        protocol: How the race is held.
        mesh: Devices of one run, such as `{"data": 2, "fsdp": 4}`: `fsdp` splits parameters and
            states, both share the batch. By default one device.

    Raises:
        RaceError: No entry, no rate, a rate that is not a positive number, something named twice,
            budgets that are not equal, or an axis that a mesh does not have.
    """

    task: Task
    entries: tuple[Entry, ...]
    rates: tuple[float, ...] = RATES
    protocol: Protocol = Protocol()
    mesh: Sizes = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if not self.entries:
            raise RaceError("there is nobody to race: name at least one entry, such as adamw")
        if not self.rates:
            raise RaceError(
                "the grid of learning rates is empty: give at least one, such as --rates 0.02"
            )
        for values in (self.rates, tuple(entry.name for entry in self.entries)):
            if len(set(values)) < len(values):
                raise RaceError(f"a race names everything once, got {', '.join(map(str, values))}")
        refuse_sizes(self.mesh)
        first = {entry.name: self.first_trials(entry) for entry in self.entries}
        for name, settings in first.items():
            rates = [one[RATE] for one in settings]
            if not all(math.isfinite(rate) and rate > 0 for rate in rates):
                raise RaceError(f"learning rates must be positive numbers, {name} has {rates}")
        if len({len(settings) for settings in first.values()}) > 1:
            counts = ", ".join(f"{name} {len(settings)}" for name, settings in first.items())
            raise RaceError(
                f"everyone gets the same number of trials, here are {counts}: list as many values "
                "for each, or choose a sobol search with a budget"
            )

    def space(self, entry: Entry) -> Space:
        """What `entry` is tuned over, the learning rate first."""
        return {RATE: self._rates(), **entry.space}

    def _rates(self) -> Range | tuple[float, ...]:
        if self.protocol.search == "grid" or len(self.rates) == 1:
            return self.rates
        return log(min(self.rates), max(self.rates))

    def first_trials(self, entry: Entry) -> list[Settings]:
        """The trials of an entry, before any extension."""
        return trials(self.space(entry), self.protocol.search, self.protocol.budget)

    def runs_at_most(self) -> int:
        """How many runs it takes when no entry diverges at every trial, and all extensions come."""
        protocol = self.protocol
        extended = 2 * protocol.extensions if self._can_be_extended() else 0
        of_each = (len(self.first_trials(self.entries[0])) + extended) * protocol.runs_of_a_trial
        return len(self.entries) * (of_each + protocol.seeds)

    def _can_be_extended(self) -> bool:
        return all(len({s[RATE] for s in self.first_trials(e)}) > 1 for e in self.entries)


def all_trials(race: Race, records: Iterable[Record]) -> dict[str, list[Settings]]:
    """The trials of each entry as far as they are known, those of extensions at the end."""
    records = list(records)
    known = {entry.name: race.first_trials(entry) for entry in race.entries}
    finished = {run_of(record) for record in records}
    if not race._can_be_extended():
        return known
    for _ in range(race.protocol.extensions):
        if not finished.issuperset(_tuning(race, known)):
            break
        best = {name: best_trial(race, records, name, len(own)) for name, own in known.items()}
        if not any(is_on_edge(known[name], best[name]) for name in known):
            break
        for name, own in known.items():
            base = own[best[name] or 0]  # who diverged everywhere is extended from its first
            rates = extension([one[RATE] for one in own], base[RATE])
            own += [{**base, RATE: rate} for rate in rates]
    return known


def best_trial(
    race: Race, records: Iterable[Record], entry: str, count: int | None = None
) -> int | None:
    """The number of the best trial of an entry; None if all diverged.

    Args:
        race: The race.
        records: What is finished.
        entry: The name of the entry.
        count: Among the first so many trials only.
    """
    of_trial: dict[int, list[Record]] = {}
    for record in records:
        within = count is None or record.trial < count
        if record.entry == entry and record.seed < 0 and within:
            of_trial.setdefault(record.trial, []).append(record)
    scores = {
        trial: (*_score(race.protocol.selection, own), trial)
        for trial, own in of_trial.items()
        if all(record.validation_loss is not None for record in own)
    }
    return min(scores, key=lambda trial: scores[trial], default=None)


def _score(selection: str, records: list[Record]) -> tuple[float, float]:
    """What a trial is compared by; lower is better."""
    loss = statistics.fmean(r.validation_loss for r in records if r.validation_loss is not None)
    if selection == "loss":
        return loss, loss
    steps = [math.inf if r.steps_to_target is None else r.steps_to_target for r in records]
    return statistics.fmean(steps), loss


def is_on_edge(trials: list[Settings], best: int | None) -> bool:
    """Whether the best learning rate is the lowest or highest tried: a better may lie outside."""
    rates = [one[RATE] for one in trials]
    return best is not None and rates[best] in (min(rates), max(rates))


def _tuning(race: Race, known: dict[str, list[Settings]]) -> list[Run]:
    most = max(map(len, known.values()))
    return [
        Run(entry, trial, -1 - seed)
        for trial in range(most)
        for seed in range(race.protocol.runs_of_a_trial)
        for entry in known
    ]


class Job(NamedTuple):
    """A run that is to be done.

    Args:
        number: Its place among all runs of the race, from 0, which never changes.
        run: What runs.
        settings: Those of its trial.
    """

    number: int
    run: Run
    settings: Settings


def jobs(race: Race, records: Iterable[Record]) -> list[Job]:
    """What can run now, given what is finished; nothing when the race is over.

    These are runs of tuning, in any order, and when all of them are finished those of an extension
    or of the report. Every process that sees the same records finds the same.

    The entries alternate, so that a machine that is busy for a while disturbs all alike.
    """
    records = list(records)
    finished = {run_of(record) for record in records}
    known = all_trials(race, records)
    runs = _tuning(race, known)
    if finished.issuperset(runs):  # who diverged everywhere has no best trial to report
        best = _chosen(race, records)
        runs += [
            Run(name, trial, seed)
            for seed in range(race.protocol.seeds)
            for name in known
            if (trial := best[name, race.protocol.tuning_of(seed)]) is not None
        ]
    return [
        Job(number, run, known[run.entry][run.trial])
        for number, run in enumerate(runs)
        if run not in finished
    ]


def _chosen(race: Race, records: Iterable[Record]) -> dict[tuple[str, int], int | None]:
    """The best trial of each entry in each tuning."""
    of_tuning: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        if record.seed < 0:
            key = record.entry, race.protocol.tuning_of(record.seed)
            of_tuning.setdefault(key, []).append(record)
    return {key: best_trial(race, own, key[0]) for key, own in of_tuning.items()}


def written(settings: Settings) -> str:
    """Settings as a reader writes them, without the learning rate's long name.

    Examples:
        >>> written({"learning_rate": 0.02, "momentum": 0.9})
        'rate 0.02, momentum=0.9'
    """
    others = [f"{name}={value}" for name, value in settings.items() if name != RATE]
    return ", ".join([f"rate {settings[RATE]:g}", *others])


def in_json(space: Space) -> dict[str, Any]:
    """A space as it stands in `config.json`."""
    return {
        name: list(part) if isinstance(part, list | tuple) else str(part)
        for name, part in space.items()
    }
