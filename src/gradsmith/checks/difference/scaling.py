"""How one trajectory is made of another by factors, and what the factors are called."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .sides import Updates

EXPLAINED = 1e-3
"""The part of a difference that an explanation may leave."""
UNCLEAR = 0.2
"""The most that may be left where it is all rounding, of an optimizer in bfloat16."""
BETAS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999)

NAMELESS = ("factor by leaf", "factor by step")
"""Explanations that fit anything of their form: taken where nothing else fits."""

SHAPE_FACTORS = {
    "sqrt(max(1, columns / rows))": lambda m, n: math.sqrt(max(1, n / m)),
    "sqrt(columns / rows)": lambda m, n: math.sqrt(n / m),
    "sqrt(max(1, rows / columns))": lambda m, n: math.sqrt(max(1, m / n)),
    "sqrt(rows / columns)": lambda m, n: math.sqrt(m / n),
    "0.2 sqrt(max(rows, columns))": lambda m, n: 0.2 * math.sqrt(max(m, n)),
    "sqrt(max(rows, columns))": lambda m, n: math.sqrt(max(m, n)),
    "sqrt(rows * columns)": lambda m, n: math.sqrt(m * n),
    "sqrt(rows)": lambda m, n: math.sqrt(m),
    "sqrt(columns)": lambda m, n: math.sqrt(n),
    "rows": lambda m, n: float(m),
    "columns": lambda m, n: float(n),
}
"""Factors of published optimizers, for a matrix of `m` rows and `n` columns."""


class Scaling(NamedTuple):
    """How `b` is made of `a`.

    Attributes:
        kind: What sort of factor it is.
        says: In words, after "its updates".
        left: The part of the difference that it leaves, 0 for all explained.
    """

    kind: str
    says: str
    left: float


def scaling(
    a: Updates,
    b: Updates,
    params: Updates,
    apart: float,
    allowed: float,
    schedules: Sequence[np.ndarray] = (),
    pairs: bool = True,
) -> Scaling | None:
    """Return the simplest factor, or factor and decay, that makes `b` of `a`; None if none does.

    Args:
        a: Some leaves of one trajectory.
        b: The same of the other.
        params: The parameters that both saw.
        apart: The norm of the difference that is to be explained.
        allowed: What rounding may leave of it. What leaves no more goes before what does; where
            rounding is much, the best is taken.
        schedules: Learning rates that may be in use, from the step before the first to the one
            after the last.
        pairs: Whether a factor may come together with a decay.
    """
    if not np.isfinite(apart) or not all(np.isfinite(x).all() for x in (*a, *b)):
        return None
    decay = _fit(params, [y - x for x, y in zip(a, b, strict=True)])
    decayed = [x + decay * p for x, p in zip(a, params, strict=True)]
    rest = allowed / apart
    single = _simplest(
        [
            Scaling("rounding", "differ by hardly more than rounding", _left(a, b, apart)),
            *_factors(a, b, apart, rest, schedules),
            Scaling("decoupled decay", _decays(decay), _left(decayed, b, apart)),
        ],
        rest,
    )
    named = single is not None and single.kind not in NAMELESS
    if not pairs or (single is not None and named and single.left <= rest):
        return single
    both = []
    for decay in _decays_beside_factors(a, b, params):
        left = [y - decay * p for y, p in zip(b, params, strict=True)]
        both += [
            Scaling(f"{kind} and decoupled decay", f"{says}, and {_decays(decay)}", rest_of_it)
            for kind, says, rest_of_it in _factors(a, left, apart, rest, schedules)
            if kind not in NAMELESS
        ]
    pair = _simplest(both, rest)
    return single if pair is None or (named and pair.left > rest) else pair


def beside_a_factor(a: Updates, b: Updates) -> float:
    """Return the part of `b` that is not along `a`: 0 if they are proportional."""
    factor = _fit(a, b)
    return norm([y - factor * x for x, y in zip(a, b, strict=True)]) / max(norm(b), 1e-300)


def _most(rest: float) -> float:
    """Return the most that an explanation may leave."""
    return min(EXPLAINED + rest, UNCLEAR)


def _simplest(found: Sequence[Scaling], rest: float) -> Scaling | None:
    """Return the first that fits as well as any; None where none fits.

    Where one leaves no more than rounding may, one that leaves more does not tell the whole.
    """
    exact = [one for one in found if one.left <= rest and one.kind not in NAMELESS]
    best = min((one.left for one in exact or found), default=np.inf)
    if best > _most(rest):
        return None
    enough = max(min(rest, EXPLAINED) if exact else EXPLAINED, 2 * best)
    return next(one for one in exact or found if one.left <= enough)


def _factors(
    a: Updates, b: Updates, apart: float, rest: float, schedules: Sequence[np.ndarray]
) -> list[Scaling]:
    """Return one number for all, one for each leaf, and one for each step, of those that fit."""
    found = []
    fits = lambda left: left <= _most(rest)
    constant = _fit(a, b)
    if fits(left := _left([constant * x for x in a], b, apart)):
        found.append(Scaling(*_constant(constant), left))
    each = [_fit([x], [y]) for x, y in zip(a, b, strict=True)]
    left = _left([c * x for c, x in zip(each, a, strict=True)], b, apart)
    if len(a) > 1 and fits(left):
        shape = _shape_factor(each, [x.shape[1:] for x in a], min(1e-4 + rest, 0.02))
        told = shape or ", ".join(f"{c:.4g}" for c in each) + " (leaf by leaf)"
        kind = "shape factor" if shape else "factor by leaf"
        found.append(Scaling(kind, f"are {told} times as large", left))
    steps = [_fit([x[t] for x in a], [y[t] for y in b]) for t in range(len(a[0]))]
    by_step = [np.stack([c * x for c, x in zip(steps, leaf, strict=True)]) for leaf in a]
    if fits(left := _left(by_step, b, apart)):
        found.append(Scaling(*_by_step(steps, schedules), left))
    return found


def _decays_beside_factors(a: Updates, b: Updates, params: Updates) -> list[float]:
    """Return the decay of weights that fits best beside one factor, one a leaf, and one a step.

    A factor takes from both sides what is along the updates; the decay is fitted to what is left.
    """
    by_leaf = list(zip(a, b, params, strict=True))
    by_step = [
        tuple(np.concatenate([x[t].ravel() for x in run]) for run in (a, b, params))
        for t in range(len(a[0]))
    ]
    whole = tuple(np.concatenate([x.ravel() for x in run]) for run in (a, b, params))
    decays = []
    for groups in ([whole], by_leaf, by_step):
        across = [(p - _fit([x], [p]) * x, y - _fit([x], [y]) * x) for x, y, p in groups]
        decays.append(_fit([p for p, _ in across], [y for _, y in across]))
    return decays


def _left(made: Updates, b: Updates, apart: float) -> float:
    return norm([x - y for x, y in zip(made, b, strict=True)]) / apart


def _decays(decay: float) -> str:
    more = "more" if decay < 0 else "less"
    return f"decay the weights by {abs(decay):.4g} of themselves {more}, apart from the gradient"


def norm(arrays: Sequence[np.ndarray]) -> float:
    """Return the root of the sum of all squares."""
    return math.sqrt(sum(float(np.sum(np.abs(x) ** 2)) for x in arrays))


def _fit(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> float:
    """Return the factor that brings `a` closest to `b`."""
    squares = sum(float(np.sum(np.abs(x) ** 2)) for x in a)
    products = sum(float(np.sum(x * y)) for x, y in zip(a, b, strict=True))
    return products / squares if squares else 1.0


def _constant(factor: float) -> tuple[str, str]:
    if math.isclose(factor, -1, rel_tol=1e-6):
        return "sign", "have the other sign: minus the learning rate is there twice, or not at all"
    for beta in BETAS:
        if math.isclose(factor, 1 - beta, rel_tol=1e-4):
            return "1 - beta", f"are 1 - beta times as large, with beta = {beta}"
        if math.isclose(factor, 1 / (1 - beta), rel_tol=1e-4):
            return "1 - beta", f"are 1 / (1 - beta) times as large, with beta = {beta}"
    return "constant factor", f"are {factor:.6g} times as large"


def _shape_factor(
    factors: Sequence[float], shapes: Sequence[tuple[int, ...]], tolerance: float
) -> str | None:
    """Return the published factor, or the quotient of two, that these are, but for a constant."""
    if not all(len(shape) == 2 for shape in shapes):
        return None
    known = {"1": lambda m, n: 1.0, **SHAPE_FACTORS}
    fits = []
    for above, f in known.items():
        for below, g in known.items():
            parts = [c * g(*s) / f(*s) for c, s in zip(factors, shapes, strict=True)]
            if np.ptp(parts) <= tolerance * abs(parts[0]):
                fits.append((above, below, parts[0]))
    exact = [fit for fit in fits if math.isclose(fit[2], 1, rel_tol=tolerance)]
    if not fits:
        return None
    above, below, rest = min(exact or fits, key=lambda fit: (fit[1] != "1") + (fit[0] != "1"))
    quotient = above if below == "1" else f"{above} / {below}"
    return quotient if exact else f"{rest:.4g} {quotient}"


def _by_step(factors: Sequence[float], schedules: Sequence[np.ndarray]) -> tuple[str, str]:
    """Say what factors of steps 1, 2, ... are."""
    t = np.arange(1, len(factors) + 1)
    seen = np.asarray(factors)
    like = lambda made: np.allclose(seen, made, rtol=2e-3)  # an epsilon is seen in them too
    for rates in schedules:
        moves = (rates != 0)[:-2] & (rates != 0)[1:-1]
        late, now, early = (part[moves] for part in (rates[:-2], rates[1:-1], rates[2:]))
        for theirs, ours, says in (
            (now, early, "are a step ahead in the schedule"),
            (now, late, "are a step behind in the schedule"),
            (early, now, "are a step behind in the schedule"),
            (late, now, "are a step ahead in the schedule"),
        ):
            if np.allclose(seen[moves] * theirs, ours, rtol=1e-4):
                return "schedule", says
    for correction, says, inverse in _corrections(t):
        for made, told in ((correction, says), (1 / correction, inverse)):
            if like(made):
                return "bias correction", told
    for correction, says, inverse in _corrections(t):
        for made, told in ((correction, says), (1 / correction, inverse)):
            factor = float(np.median(seen / made))
            if np.allclose(seen, factor * made, rtol=3e-4) and not _is_a_power(made, t):
                return "bias correction and constant factor", f"{told}, and then {factor:.4g} times"
    told = ", ".join(f"{x:.4g}" for x in seen[:4])
    return "factor by step", f"are {told} ... times as large in steps 1, 2, 3, 4 ..."


def _corrections(t: np.ndarray) -> Iterator[tuple[np.ndarray, str, str]]:
    """Return factors of debiasing, and what they and their inverses are called."""
    for beta in BETAS:
        for power, root in ((1.0, ""), (0.5, "the root of ")):
            without = f"are {root}1 - {beta}^t times as large: not debiased"
            yield (
                (1 - beta**t) ** power,
                without,
                f"are larger by {root}1 / (1 - {beta}^t): debiased",
            )
    for b1, b2 in itertools.product(BETAS, BETAS):
        both = f"with b1 = {b1} and b2 = {b2}"
        made = np.sqrt(1 - b2**t) / (1 - b1**t)
        yield made, f"are debiased, {both}", f"are not debiased, {both}"


def _is_a_power(made: np.ndarray, t: np.ndarray) -> bool:
    """Whether it is a power of the step as well, such as the line of a warm-up."""
    slope, start = np.polyfit(np.log(t), np.log(made), 1)
    return np.allclose(made, np.exp(start) * t**slope, rtol=1e-3)
