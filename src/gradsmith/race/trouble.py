"""What went wrong in a race, so that it stands where nobody overlooks it."""

from .protocol import Race, jobs, written
from .records import Record, duration
from .rows import rows

BUSY = 1.5  # slowest over fastest run: twins on a quiet machine stay well below
MOST = 3  # settings that are named; a search may diverge at hundreds


def troubles(race: Race, records: list[Record]) -> list[str]:
    """A sentence each on what is missing, diverged, at an edge, at one seed, or badly timed."""
    return [
        *_unfinished(race, records),
        *_diverged(race, records),
        *_edges(race, records),
        *_seeds(race),
        *_busy(race, records),
    ]


def _unfinished(race: Race, records: list[Record]) -> list[str]:
    if not jobs(race, records):
        return []
    return [
        f"the race is not over: {len(records)} of at most {race.runs_at_most()} runs are finished, "
        "and what is said here may change"
    ]


def _diverged(race: Race, records: list[Record]) -> list[str]:
    said = []
    for entry in race.entries:
        for reported, runs in ((True, "reported"), (False, "tuning")):
            own = [r for r in records if r.entry == entry.name and (r.seed >= 0) is reported]
            lost = [record for record in own if record.diverged_at is not None]
            if lost:
                said.append(
                    f"{entry.name} diverged in {len(lost)} of {len(own)} {runs} "
                    f"run{'s' * (len(own) > 1)}: {_where(lost)}"
                )
    return said


def _where(lost: list[Record]) -> str:
    steps: dict[str, list[int]] = {}
    for record in lost:
        if record.diverged_at is not None:
            steps.setdefault(written(record.settings), []).append(record.diverged_at)
    named = [
        f"with {settings} at step {min(at)}{'' if min(at) == max(at) else f' to {max(at)}'}"
        for settings, at in list(steps.items())[:MOST]
    ]
    more = len(steps) - MOST
    others = [f"with {more} other setting{'s' * (more > 1)}"] if more > 0 else []
    return ", ".join([*named, *others])


def _edges(race: Race, records: list[Record]) -> list[str]:
    edges = [row.entry for row in rows(race, records) if row.on_edge]
    if not edges:
        return []
    return [
        f"* the lowest or highest learning rate tried: a better one for {' and '.join(edges)} may "
        "lie outside; race again with wider rates"
    ]


def _seeds(race: Race) -> list[str]:
    if race.protocol.seeds > 1:
        return []
    return ["one reported seed shows no difference between entries: give --seeds 5"]


def _busy(race: Race, records: list[Record]) -> list[str]:
    said = []
    for entry in race.entries:
        own = [r for r in records if r.entry == entry.name and r.diverged_at is None]
        steps = [record.timing["step"] for record in own]
        if steps and max(steps) > BUSY * min(steps):
            said.append(f"{entry.name} ({duration(min(steps))} to {duration(max(steps))})")
    if not said:
        return []
    return [
        f"the machine was busy with other work: a step took more than {BUSY:g} times as long in "
        f"one run as in another of the same entry, {', '.join(said)}; times do not compare"
    ]
