"""How much rounding matters to a computation: measured, by changing its inputs in their last bit.

Two programs that do the same may differ by rounding alone. How much depends on the computation: a
Newton-Schulz iteration amplifies it, a difference of two parameters loses all but the last bits, a
basis of a null space is arbitrary. So what is forgiven in a comparison is not guessed.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .compare import host
from .problem import is_float

PyTree = Any
SEEDS = (0, 1)
FACTOR = 16.0
"""Two programs may round differently in each of some dozen operations that one input meets."""


def rounding(function: Callable, *args: PyTree) -> PyTree:
    """The difference that rounding may make to each leaf of `function(*args)`, as a float.

    Costs three calls. Equal entries of equal shape are changed alike, so that what is kept twice,
    such as the first parameters in a state, stays equal. The first argument, which is the gradient
    of a step, is the last bit of one where it is no larger than some of them: at the bottom of
    the bowl it is what rounding left.
    """
    plain = function(*args)
    changed = []
    for seed in SEEDS:
        first, *others = _in_the_last_bit(args, seed)
        changed.append(function(jax.tree.map(_not_zero, first), *others))
    return jax.tree.map(lambda leaf, *others: _largest_change(leaf, others), plain, *changed)


def _in_the_last_bit(tree: PyTree, seed: int) -> PyTree:
    def change(leaf: Any) -> Any:
        if not is_float(leaf) or isinstance(leaf, np.generic):
            return leaf
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=leaf.shape)
        values = host(leaf) * (1 + float(jnp.finfo(leaf.dtype).eps) * signs)
        return jnp.asarray(values.astype(leaf.dtype))

    return jax.tree.map(change, tree)


def _not_zero(leaf: Any) -> Any:
    if not is_float(leaf) or isinstance(leaf, np.generic):
        return leaf
    eps = float(jnp.finfo(leaf.dtype).eps)
    values = host(leaf)
    return jnp.asarray(np.where(np.abs(values) < 4 * eps, eps, values).astype(leaf.dtype))


def _largest_change(leaf: Any, others: tuple[Any, ...]) -> float:
    base = host(leaf)
    changes = [np.nan_to_num(np.abs(host(other) - base), nan=0.0) for other in others]
    return FACTOR * max(float(np.max(change, initial=0.0)) for change in changes)
