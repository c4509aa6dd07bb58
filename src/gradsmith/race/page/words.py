"""What the figures of a race show, in words and numbers: for who cannot see them, and to copy."""

from collections.abc import Sequence

from ..records import in_digits
from ..series import Cost, Curves, Line, Sensitivity, Tried, finite
from ..space import RATE


def of_curves(names: Sequence[str], shown: Curves) -> str:
    """Where each curve begins and ends."""
    target = "" if shown.target is None else f" The target is {shown.target:g}."
    lines = " ".join(_of_line(names[line.entry], line) for line in shown.lines)
    return f"{shown.kind} loss against steps.{target} {lines}".capitalize()


def _of_line(name: str, line: Line) -> str:
    known = [n for n, value in enumerate(line.middle) if value is not None]
    if not known:
        return f"{name}: no value that is finite at every seed."
    last = known[-1]
    start, end, low, high = (
        line.middle[known[0]],
        line.middle[last],
        line.low[last],
        line.high[last],
    )
    spread = "" if low == high else f" ({_digits(low)} to {_digits(high)} over the seeds)"
    stage = " in tuning" if line.tuning else ""
    return (
        f"{name}{stage}: from {_digits(start)} to {_digits(end)}{spread} at step "
        f"{line.x['steps'][last]:g}."
    )


def _digits(value: float | None) -> str:
    return "nothing finite" if value is None else in_digits(value)


def of_trials(names: Sequence[str], shown: Sensitivity) -> str:
    """The range of what was tried, and what was chosen."""
    return f"Loss in tuning against {name_of(shown.setting)}. " + " ".join(
        f"{names[one.entry]}: {len(one.x)} trial{'s' * (len(one.x) != 1)}, "
        f"{sum(y is None for y in one.y)} diverged{_losses(one.y)}{_choice(shown, one)}."
        for one in shown.tried
    )


def _losses(values: Sequence[float | None]) -> str:
    known = finite(values)
    return f", losses {in_digits(min(known))} to {in_digits(max(known))}" if known else ""


def _choice(shown: Sensitivity, one: Tried) -> str:
    if one.chosen is None:
        return ""
    value = one.x[one.chosen]
    return f", chosen {shown.labels[int(value)] if shown.labels else f'{value:g}'}"


def of_costs(names: Sequence[str], shown: Sequence[Cost]) -> str:
    """The time of each step, and of its update."""
    return "Time of a step. " + " ".join(
        f"{names[cost.entry]}: {1e3 * (cost.model + cost.update):.3g} ms, of which the update "
        f"{1e3 * cost.update:.3g} ms."
        for cost in shown
    )


def name_of(setting: str) -> str:
    """A setting as a reader calls it."""
    return "the learning rate" if setting == RATE else setting
