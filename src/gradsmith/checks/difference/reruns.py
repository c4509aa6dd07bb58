"""One optimizer run again, changed in one respect: what the other may be."""

import inspect
import itertools
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from .ground import Ground
from .scaling import BETAS, norm
from .sides import JaxSide, Side, Updates

DECAYS = (1e-4, 5e-4, 1e-3, 1e-2, 0.1)
EPSILONS = (0.0, 1e-12, 1e-10, 1e-8, 1e-7, 1e-6, 1e-5)
MOST_VARIANTS = 100
"""How many other arguments are tried; a name is compiled once where its number may be traced."""


class Changed:
    """A side that sees something else, and whose updates are changed; see `run_again`.

    Attributes:
        inner: The side.
        before: What it sees instead of a ground.
        after: What becomes of its updates.
    """

    def __init__(
        self,
        inner: "Side | Changed",
        before: Callable[[Ground], Ground] = lambda ground: ground,
        after: Callable[[Updates], Updates] = lambda updates: updates,
    ):
        self.inner, self.before, self.after = inner, before, after
        self.arguments = inner.arguments

    def on(self, inner: "Side | Changed") -> "Changed":
        """Return the same change of another side."""
        return Changed(inner, self.before, self.after)


class Rerun(NamedTuple):
    """An optimizer that is changed in one respect.

    Attributes:
        kind: What sort of change it is.
        says: In words, after "is the other one".
        side: It.
    """

    kind: str
    says: str
    side: Side | Changed


def run_again(side: Side | Changed, ground: Ground) -> Updates | None:
    """Return the updates; None where the optimizer refuses, in whatever words.

    Only the optimizer may refuse. What a change does before and after it is ours, and has to work.
    """
    if isinstance(side, Changed):
        made = run_again(side.inner, side.before(ground))
        return None if made is None else side.after(made)
    try:
        return side.updates(ground)
    except Exception:  # a stranger's code, which may raise anything
        return None


def reruns(side: Side | Changed, other: Side, ground: Ground, of_other: Updates) -> Iterator[Rerun]:
    """Return the changes to `side` that may make it `other`, cheap ones first."""
    for kind, says, changed in _changes(side, other, ground, of_other):
        yield Rerun(kind, says, changed)
    yield from itertools.islice(_other_arguments(side, other), MOST_VARIANTS)


def _changes(
    side: Side | Changed, other: Side, ground: Ground, of_other: Updates
) -> Iterator[tuple[str, str, Changed]]:
    for beta in _values(side, other, lambda name, x: 0 < x < 1, BETAS):
        says = f"with Nesterov's look-ahead of beta = {beta:g}"
        look = lambda g, b=beta: _look_ahead(g, b)
        looking = lambda ground, f=look: ground._replace(grads=jax.tree.map(f, ground.grads))
        yield "look-ahead", says, Changed(side, looking)
    swap = lambda x: x.swapaxes(-1, -2) if x.ndim > 2 else x
    swapped = Changed(
        side,
        lambda ground: Ground(*(jax.tree.map(swap, tree) for tree in ground)),
        lambda updates: [swap(x) for x in updates],
    )
    yield "transpose", "with fan-in and fan-out exchanged", swapped
    for decay in _values(side, other, lambda name, x: "decay" in name and x > 0, DECAYS):
        says = f"with a decay of {decay:g} that is added to the gradient"
        add = lambda g, p, d=decay: g + d * p
        added = lambda ground, f=add: ground._replace(
            grads=jax.tree.map(f, ground.grads, ground.params)
        )
        yield "coupled decay", says, Changed(side, added)
    yield from _clipped(side, ground, of_other)


def _other_arguments(side: Side | Changed, other: Side) -> Iterator[Rerun]:
    if isinstance(side, Changed):
        for one in _other_arguments(side.inner, other):
            yield one._replace(side=side.on(one.side))
    elif isinstance(side, JaxSide):
        for name, value in _variants(side, other):
            built = side.built_with(name, value)
            yield Rerun(f"argument {name}", f"with {name}={value!r}", built)


def _look_ahead(grads: np.ndarray, beta: float) -> np.ndarray:
    """Return gradients whose moving average is that of `grads`, looked ahead.

    `beta m_t + (1 - beta) g_t` is `(1 + beta) m_t - beta m_(t-1)`, and an average is linear.
    """
    before = np.concatenate([np.zeros_like(grads[:1]), grads[:-1]])
    return (1 + beta) * grads - beta * before


def _clipped(
    side: Side | Changed, ground: Ground, of_other: Updates
) -> Iterator[tuple[str, str, Changed]]:
    """Return what `side` is where its gradients are too small to be clipped, and clipped behind."""
    tiny = 1e-9
    shrink = lambda ground: ground._replace(grads=jax.tree.map(lambda g: tiny * g, ground.grads))
    grown = lambda updates: [x / tiny for x in updates]  # of what is linear in the gradient

    def by_norm(updates: Updates) -> Updates:
        norms = lambda run: np.array([norm([x[t] for x in run]) for t in range(ground.steps)])
        made = grown(updates)
        factor = np.minimum(1, norms(of_other).max() / np.maximum(norms(made), 1e-300))
        return [x * factor.reshape(-1, *[1] * (x.ndim - 1)) for x in made]

    def by_value(updates: Updates) -> Updates:
        limit = max(float(np.abs(x).max()) for x in of_other)
        return [np.clip(x, -limit, limit) for x in grown(updates)]

    yield "clipping", "without the clipping of its gradients", Changed(side, shrink, grown)
    kind, instead = "clipping order", "clipped, and not the gradient"
    yield kind, f"with the norm of the update {instead}", Changed(side, shrink, by_norm)
    yield kind, f"with each entry of the update {instead}", Changed(side, shrink, by_value)


def _variants(side: JaxSide, other: Side) -> Iterator[tuple[str, Any]]:
    """Return other values for the arguments that a factory has."""
    for name, parameter in side.subject.parameters.items():
        if name == side.subject.rate_name:
            continue
        now = side.arguments.get(name)
        theirs = [other.arguments[name]] if name in other.arguments else []
        for value in dict.fromkeys([*_hashable(theirs), *_alternatives(name, now, parameter)]):
            if value != now or type(value) is not type(now):
                yield name, value


def _alternatives(name: str, now: Any, parameter: inspect.Parameter) -> Iterable[Any]:
    choices = [*typing.get_args(parameter.annotation)]
    if isinstance(now, bool):
        return (not now,)
    if isinstance(now, str):
        nested = [typing.get_args(choice) or (choice,) for choice in choices]
        return [word for words in nested for word in words if isinstance(word, str)]
    if not isinstance(now, float):
        return ()
    if "eps" in name:
        return EPSILONS
    if "decay" in name and now < 0.5:
        return (0.0, *DECAYS)
    return (0.0, *BETAS) if 0 <= now < 1 else ()


def _values(
    side: Side | Changed,
    other: Side,
    wanted: Callable[[str, float], bool],
    usual: Iterable[float],
) -> list[float]:
    """Return the numbers that either was built with and that are wanted, then the usual ones."""
    given = [
        value
        for one in (side, other)
        for name, value in one.arguments.items()
        if isinstance(value, float) and wanted(name, value)
    ]
    return list(dict.fromkeys([*given, *usual]))


def _hashable(values: Iterable[Any]) -> list[Any]:
    return [x for x in values if isinstance(x, bool | int | float | str)]
