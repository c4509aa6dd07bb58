"""`diff`: two optimizers on the same parameters and gradients, and what tells them apart."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.typing import DTypeLike

from ..subject import as_subject
from .explain import Case, explain
from .ground import TORCH_TREE, TREE, Ground, make_ground, shapes_of
from .parting import parting, rounding
from .report import Difference
from .search import Search
from .sides import JaxSide, Side, Updates
from .torch_side import TorchSide

STEPS = 24
"""Two refreshes of a basis that is refreshed every tenth step."""
FLOAT32 = float(np.finfo(np.float32).eps)
SCALAR = 1e-4
"""The most that a number in float32 may do to updates: in 1 - 0.999 it loses three digits."""
LIMIT = 45.0
"""Seconds that the search for an explanation may take: with both runs, a minute."""


class OptimizersDifferError(AssertionError):
    """Two optimizers are not the same; `difference` has the whole."""

    def __init__(self, difference: Difference):
        super().__init__(f"\n{difference}")
        self.difference = difference


def diff(
    a: Any,
    b: Any,
    *,
    params: Any = None,
    steps: int = STEPS,
    seed: int = 0,
    dtype: DTypeLike | None = None,
    limit: float = LIMIT,
) -> Difference:
    """Run two optimizers side by side, and say where they part and what the difference looks like.

    Both get the same parameters and gradients in every step, whatever their updates were. They run
    in float64 where both can, so that a small epsilon shows. What rounding may do is measured. If
    one rounds numbers to float32, such as a bias correction, they may also be the same in float32.
    Explanations are tried one after the other: factors, a bias correction, look-ahead, decay,
    epsilon, clipping, exchanged sides, another argument, another optimizer for a leaf; then two of
    them together. What is named explains all but a thousandth of the difference.

    Costs some seconds for elementwise optimizers. Where the others differ, a program is compiled
    for each of their arguments, and for those beside the two that come closest; `limit` ends that.

    Args:
        a: A factory, a transformation, a `Subject` or a `TorchSide`.
        b: What it is compared with.
        params: A tree of floating-point arrays; only its shapes are used. By default a small tree
            with matrices, vectors, an embedding and a head.
        steps: How many steps are made.
        seed: Of parameters and gradients.
        dtype: Of parameters and gradients; by default float64, or float32 where that fails.
        limit: Seconds after which no further explanation is tried. What that leaves out is told.

    Raises:
        ValueError: `params` has a leaf that is no floating-point array, or there are no steps.

    Examples:
        >>> import optax
        >>> from gradsmith.checks import diff
        >>> print(diff(optax.adam(0.1), optax.adam(-0.1)).findings[0].kind)
        sign
        >>> diff(optax.sgd(0.1), optax.sgd(0.1, momentum=0.0)).equal
        True
    """
    if steps < 1:
        raise ValueError(f"diff makes at least one step, got steps={steps}")
    first, second = _sides(a, b)
    torch = any(isinstance(side, TorchSide) for side in (first, second))
    shapes = shapes_of(params) if params is not None else TORCH_TREE if torch else TREE
    ground = make_ground(shapes, steps, seed)
    wide = np.dtype(dtype or np.float64) == np.float64
    with jax.enable_x64(wide), jax.numpy_dtype_promotion("standard"):
        ground = ground if wide else ground.cast(dtype)
        try:
            runs = first.updates(ground), second.updates(ground)
        except (TypeError, NotImplementedError) as error:
            if dtype is not None:
                raise
            found, reason = None, f"in float64 one of them fails, {str(error).splitlines()[0]}"
        else:
            found = _compared(first, second, ground, *runs, limit=limit)
            rounds = lambda side: side.scalar_eps(ground) >= FLOAT32
            told = dtype is not None or found.equal or found.largest > SCALAR
            if told or not any(map(rounds, (first, second))):
                return found
            reason = (
                f"in float64 they differ by up to {found.largest:.1g} of an update, and one of "
                "them rounds numbers to float32"
            )
    left = limit if found is None else 0.0  # an explanation is there already
    narrow = diff(a, b, params=params, steps=steps, seed=seed, dtype=np.float32, limit=left)
    if found is not None and not narrow.equal:
        return found
    return replace(narrow, notes=(f"compared in float32: {reason}", *narrow.notes))


def assert_same_optimizer(a: Any, b: Any, **options: Any) -> None:
    """Raise where two optimizers are not the same but for rounding; for tests.

    Args:
        a: As for `diff`.
        b: As for `diff`.
        **options: As for `diff`.

    Raises:
        OptimizersDifferError: They are not; the message says where they part, and why.
    """
    difference = diff(a, b, **options)
    if not difference.equal:
        raise OptimizersDifferError(difference)


def _compared(
    a: Side, b: Side, ground: Ground, of_a: Updates, of_b: Updates, limit: float
) -> Difference:
    pairs = jax.tree_util.tree_leaves_with_path(ground.params)
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/") or "params"
    paths = [name(path) for path, _ in pairs]
    noises = zip(rounding(a, ground, of_a), rounding(b, ground, of_b), strict=True)
    allowed = [np.maximum(*noise) for noise in noises]
    parts = [parting(x, y, noise) for x, y, noise in zip(of_a, of_b, allowed, strict=True)]
    differing = [leaf for leaf, where in enumerate(parts) if where]
    case = Case(a, b, ground, of_a, of_b, allowed, paths)
    search = Search(limit)
    findings = explain(case, differing, search) if differing else []
    dtype = str(jax.tree.leaves(ground.params)[0].dtype)
    told = dict(zip(paths, parts, strict=True))
    found = Difference(a.name, b.name, ground.steps, dtype, told, tuple(findings))
    if not found.unexplained or not search.left_out:
        return found
    note = (
        f"the search ended after {limit:g} s; {search.left_out} changes of the optimizers that it "
        "came to were not tried: a longer limit tries more"
    )
    return replace(found, notes=(note,))


def _sides(a: Any, b: Any) -> tuple[Side, Side]:
    sides = [x if isinstance(x, TorchSide) else JaxSide(as_subject(x)) for x in (a, b)]
    same = sides[0].name == sides[1].name
    for side, which in zip(sides, ("the first", "the second"), strict=True):
        if same or side.name in ("tx", "<lambda>"):
            side.name = which
    return sides[0], sides[1]
