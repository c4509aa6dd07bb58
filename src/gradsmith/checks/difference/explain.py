"""What the difference of two optimizers looks like: explanations are tried, fitted and judged."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from ..subject import FIRST_RATE_NAMES, RATE_NAMES
from . import epsilon
from .ground import Ground
from .reruns import Rerun, reruns
from .scaling import NAMELESS, Scaling, beside_a_factor, norm, scaling
from .search import Search
from .sides import Side, Updates
from .signature import signature

SAID = 1e-6
"""The least part of a difference that is told to be left."""

CLOSEST = 2
"""How many kinds of reruns that explain something, and not all, are tried with a second one."""


class Finding(NamedTuple):
    """An explanation that fits.

    Attributes:
        kind: Its name, such as 'look-ahead' or 'epsilon'.
        says: A sentence.
        left: The part of the difference that it leaves, 0 for all explained.
        leaves: The leaves that it explains.
    """

    kind: str
    says: str
    left: float
    leaves: tuple[str, ...]

    @property
    def remainder(self) -> str:
        """What it leaves, in words; nothing is said of hardly anything."""
        return f", all but {self.left:.2g} of the difference" if self.left > SAID else ""


class Case(NamedTuple):
    """Two optimizers on one ground.

    Attributes:
        a: One of them.
        b: The other.
        ground: What both saw.
        of_a: The updates of `a`.
        of_b: The updates of `b`.
        allowed: What rounding may do to each leaf in each step.
        paths: The names of the leaves.
    """

    a: Side
    b: Side
    ground: Ground
    of_a: Updates
    of_b: Updates
    allowed: Updates
    paths: Sequence[str]

    def swapped(self) -> "Case":
        """Return the same, seen from the other side."""
        return self._replace(a=self.b, b=self.a, of_a=self.of_b, of_b=self.of_a)


def explain(case: Case, differing: Sequence[int], search: Search) -> list[Finding]:
    """Return what explains the difference of these leaves; together if it can be, else apart.

    Nothing is returned for a leaf where nothing fits.
    """
    findings = [found for leaf in differing if (found := _routed(case, leaf))]
    routed = {path for found in findings for path in found.leaves}
    rest = [leaf for leaf in differing if case.paths[leaf] not in routed]
    groups = [rest] if len(rest) < 2 else [rest, *([leaf] for leaf in rest)]
    for group in filter(None, groups):
        found = _first_that_fits(case, group, search)
        if found is not None:
            findings.append(found)
            if group is rest:
                break
    return _merged(findings)


def _first_that_fits(case: Case, leaves: Sequence[int], search: Search) -> Finding | None:
    """Return the first explanation of these leaves: one before two, factors before reruns.

    A rerun that leaves more than rounding is taken where no other leaves less. A factor for each
    leaf or step that has no name comes last.
    """
    pick = lambda run, some=leaves: [run[leaf] for leaf in some]
    names = tuple(case.paths[leaf] for leaf in leaves)
    apart = norm([x - y for x, y in zip(pick(case.of_a), pick(case.of_b), strict=True)])
    allowed, rates = _norm_of_rounding(case, leaves), _rates(case)
    exact = lambda found: found.left * apart <= allowed

    def fit(
        a: Updates,
        b: Updates,
        some: Sequence[int] = leaves,
        pairs: bool = False,
        ground: Ground = case.ground,
    ) -> Scaling | None:
        sides = pick(a, some), pick(b, some), pick(jax.tree.leaves(ground.params), some)
        return scaling(*sides, apart, allowed, rates, pairs)

    factors = []
    matrices = _with_equal_matrices(case, leaves)  # a factor of a shape may be 1 for some of them
    for way, some in itertools.product((case, case.swapped()), (matrices, leaves)):
        plain = fit(way.of_a, way.of_b, some, pairs=True)
        if plain is not None:
            says = f"the updates of {way.b.name}, beside those of {way.a.name}, {plain.says}"
            factors.append(Finding(plain.kind, says, plain.left, names))
    named = sorted((one for one in factors if one.kind not in NAMELESS), key=_how_many)
    if named:
        return named[0]
    nearly: list[Finding] = []
    closest: list[tuple[float, Case, Rerun]] = []
    for way in (case, case.swapped()):
        for one in reruns(way.a, way.b, way.ground, way.of_b):
            made = search.updates(way.a.name, one.says, one.side, way.ground)
            if made is None:
                continue
            found = fit(made, way.of_b)
            if found is not None and found.kind not in NAMELESS:
                kind, says = one.kind, f"{way.b.name} is {way.a.name} {one.says}"
                if found.kind != "rounding":
                    kind, says = (
                        f"{kind} and {found.kind}",
                        f"{says}; then its updates {found.says}",
                    )
                nearly.append(Finding(kind, says, found.left, names))
                if exact(nearly[-1]):
                    return nearly[-1]
            closest.append((beside_a_factor(pick(made), pick(way.of_b)), way, one))
    found = _epsilon(case, leaves, fit) or _two_reruns(closest, names, search, fit, exact)
    if nearly and (found is None or not exact(found)):
        found = min(nearly, key=lambda one: one.left)
    return found or next(iter(factors), None)


def _two_reruns(
    closest: Sequence[tuple[float, Case, Rerun]],
    names: tuple[str, ...],
    search: Search,
    fit: Callable,
    exact: Callable,
) -> Finding | None:
    """Change once more the reruns that come closest, the best of each kind; no factor is left."""
    best: dict[str, tuple[float, Case, Rerun]] = {}
    for entry in sorted(closest, key=lambda entry: entry[0]):
        best.setdefault(entry[2].kind, entry)
    nearly = []
    for _, way, one in itertools.islice(best.values(), CLOSEST):
        for two in reruns(one.side, way.b, way.ground, way.of_b):
            if one.kind == two.kind:
                continue
            says = f"{one.says}, and {two.says}"
            made = search.updates(way.a.name, says, two.side, way.ground)
            found = None if made is None else fit(made, way.of_b)
            if found is not None and found.kind == "rounding":
                says = f"{way.b.name} is {way.a.name} {says}"
                nearly.append(Finding(f"{one.kind} and {two.kind}", says, found.left, names))
                if exact(nearly[-1]):
                    return nearly[-1]
    return min(nearly, key=lambda one: one.left, default=None)


def _how_many(found: Finding) -> int:
    return found.kind.count(" and ")


def _rates(case: Case) -> list[np.ndarray]:
    """Return the schedules that the two were built with, in the steps before, at and after each."""
    steps = range(-1, case.ground.steps + 1)
    at = lambda schedule, t: float(schedule(max(t, 0)))
    return [
        np.array([at(value, t) for t in steps])
        for side in (case.a, case.b)
        for name, value in side.arguments.items()
        if name in (*RATE_NAMES, *FIRST_RATE_NAMES) and callable(value)
    ]


def _with_equal_matrices(case: Case, leaves: Sequence[int]) -> Sequence[int]:
    same = lambda leaf: (np.abs(case.of_a[leaf] - case.of_b[leaf]) == 0).all()
    matrices = [i for i, x in enumerate(case.of_a) if x.ndim == 3 and same(i)]
    return [*leaves, *matrices]


def _norm_of_rounding(case: Case, leaves: Sequence[int]) -> float:
    entries = lambda leaf: case.of_a[leaf][0].size
    return float(np.sqrt(sum(entries(leaf) * np.sum(case.allowed[leaf] ** 2) for leaf in leaves)))


def _epsilon(case: Case, leaves: Sequence[int], fit: Callable) -> Finding | None:
    """Return that the epsilons differ, with what differs beside large gradients as well.

    Beside those a decay of the gradients vanishes too. So the same is asked of large parameters.
    """
    first, second = (epsilon.epsilon(side, case.ground) for side in (case.a, case.b))
    if first is None or second is None:
        return None
    if first.place == second.place and np.isclose(first.value, second.value, rtol=1e-3):
        return None
    far, large = epsilon.large_gradients(case.ground), epsilon.enlarged(case.ground)
    beside = fit(case.a.updates(far), case.b.updates(far))
    decayed = fit(case.a.updates(large), case.b.updates(large), ground=large)
    if any(one is None or one.kind in NAMELESS for one in (beside, decayed)):
        return None
    names = tuple(case.paths[leaf] for leaf in leaves)
    says = f"the epsilon: {epsilon.says(first, second)}"
    if beside.kind == "rounding":
        return Finding("epsilon", says, beside.left, names)
    says += f"; and the updates of {case.b.name}, beside those of {case.a.name}, {beside.says}"
    return Finding(f"epsilon and {beside.kind}", says, beside.left, names)


def _routed(case: Case, leaf: int) -> Finding | None:
    """Say that a leaf goes to different optimizers, where the first updates show it."""
    runs = case.of_a[leaf], case.of_b[leaf]
    moves = [t for t in range(case.ground.steps) if all(run[t].any() for run in runs)]
    first = moves[0] if moves else 0
    gradient = np.asarray(jax.tree.leaves(case.ground.grads)[leaf][first])
    kinds = [signature(run[first], gradient) for run in runs]
    if None in kinds or kinds[0] == kinds[1]:
        return None
    says = f"{case.a.name} {kinds[0]}; {case.b.name} {kinds[1]}"
    return Finding("another optimizer", says, 0.0, (case.paths[leaf],))


def _merged(findings: Sequence[Finding]) -> list[Finding]:
    """Join what says the same of several leaves."""
    merged: dict[tuple[str, str], Finding] = {}
    for one in findings:
        before = merged.get((one.kind, one.says))
        if before is not None:
            one = one._replace(leaves=before.leaves + one.leaves, left=max(before.left, one.left))
        merged[one.kind, one.says] = one
    return sorted(merged.values(), key=lambda one: -len(one.leaves))
