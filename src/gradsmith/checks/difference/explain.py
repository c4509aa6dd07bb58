"""What the difference of two optimizers looks like: explanations are tried, fitted and judged."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from ..subject import FIRST_RATE_NAMES, RATE_NAMES
from . import epsilon
from .ground import Ground
from .reruns import reruns
from .scaling import EXPLAINED, NAMELESS, Scaling, norm, scaling
from .sides import Side, Updates
from .signature import signature


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


def explain(case: Case, differing: Sequence[int]) -> list[Finding]:
    """Return what explains the difference of these leaves; together if it can be, else apart.

    Nothing is returned for a leaf where nothing fits.
    """
    findings = [found for leaf in differing if (found := _routed(case, leaf))]
    routed = {path for found in findings for path in found.leaves}
    rest = [leaf for leaf in differing if case.paths[leaf] not in routed]
    tried = _Tried()
    groups = [rest] if len(rest) < 2 else [rest, *([leaf] for leaf in rest)]
    for group in filter(None, groups):
        found = _first_that_fits(case, group, tried)
        if found is not None:
            findings.append(found)
            if group is rest:
                break
    return _merged(findings)


class _Tried:
    """Updates of reruns, kept for the next leaf."""

    def __init__(self):
        self._kept: dict[tuple[str, str], Updates | None] = {}

    def updates(self, key: tuple[str, str], make) -> Updates | None:
        if key not in self._kept:
            try:
                self._kept[key] = make()
            except (TypeError, ValueError, jax.errors.JAXTypeError):  # refused: no explanation
                self._kept[key] = None
        return self._kept[key]


def _first_that_fits(case: Case, leaves: Sequence[int], tried: _Tried) -> Finding | None:
    """Return the first explanation of these leaves: factors, then reruns, then the epsilon.

    A factor for each leaf or step that has no name comes last.
    """
    pick = lambda run, some=leaves: [run[leaf] for leaf in some]
    names = tuple(case.paths[leaf] for leaf in leaves)
    params = jax.tree.leaves(case.ground.params)
    apart = norm([x - y for x, y in zip(pick(case.of_a), pick(case.of_b), strict=True)])
    allowed, rates = _norm_of_rounding(case, leaves), _rates(case)

    def fit(a: Updates, b: Updates, some: Sequence[int] = leaves) -> Scaling | None:
        return scaling(pick(a, some), pick(b, some), pick(params, some), apart, allowed, rates)

    factors = []
    matrices = _with_equal_matrices(case, leaves)  # a factor of a shape may be 1 for some of them
    for way, some in itertools.product((case, case.swapped()), (matrices, leaves)):
        plain = fit(way.of_a, way.of_b, some)
        if plain is not None:
            says = f"the updates of {way.b.name}, beside those of {way.a.name}, {plain.says}"
            factors.append(Finding(plain.kind, says, plain.left, names))
    named = [found for found in factors if found.kind not in NAMELESS]
    if named:
        return named[0]
    for way in (case, case.swapped()):
        for one in reruns(way.a, way.b, way.ground, way.of_b):
            made = tried.updates((way.a.name, one.says), one.make)
            if made is None:
                continue
            found = fit(made, way.of_b)
            if found is not None and found.kind not in NAMELESS:
                rest = "" if found.kind == "rounding" else f"; then its updates {found.says}"
                says = f"{way.b.name} is {way.a.name} {one.says}{rest}"
                return Finding(one.kind, says, found.left, names)
    size = max(norm(pick(case.of_a)), norm(pick(case.of_b)))
    return _epsilon(case, names, apart / size) or next(iter(factors), None)


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


def _epsilon(case: Case, names: tuple[str, ...], relative: float) -> Finding | None:
    first, second = (epsilon.epsilon(side, case.ground) for side in (case.a, case.b))
    if first is None or second is None:
        return None
    same = first.place == second.place and np.isclose(first.value, second.value, rtol=1e-3)
    if same:
        return None
    left = epsilon.left_beside_large_gradients(case.a, case.b, case.ground) / relative
    if left > EXPLAINED:
        return None
    return Finding("epsilon", f"the epsilon: {epsilon.says(first, second)}", left, names)


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
