"""The parameters and gradients that both optimizers are given.

Neither depends on an optimizer, so a difference in one step is not carried into the inputs of the
next.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from ..problem import is_float

TREE = {
    "embed": {"embedding": (20, 8)},
    "block": {
        "up": {"kernel": (8, 16), "bias": (16,)},
        "mix": {"kernel": (12, 12)},
        "down": {"kernel": (16, 8), "bias": (8,)},
    },
    "norm": {"scale": (8,)},
    "head": {"kernel": (8, 20)},
}
"""The shapes where none are given, named as in Flax."""

TORCH_TREE = {
    "layers": {
        "0": {"weight": (16, 8), "bias": (16,)},
        "1": {"weight": (12, 12)},
        "2": {"weight": (8, 16), "bias": (8,)},
    }
}
"""The shapes where one side is of torch: weights are `(out, in)`."""


class Ground(NamedTuple):
    """What an optimizer sees in `T` steps: trees whose leaves are arrays `(T, *shape)`."""

    params: Any
    grads: Any

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(jax.tree.leaves(self.params)[0])

    def cast(self, dtype: Any) -> "Ground":
        """Return the same in another precision."""
        as_dtype = lambda x: x.astype(dtype)
        return Ground(jax.tree.map(as_dtype, self.params), jax.tree.map(as_dtype, self.grads))

    def perturbed(self, relative: float, seed: int) -> "Ground":
        """Return the same with every number changed by that part of itself, up or down."""
        draw = np.random.default_rng(seed)
        signs = lambda x: draw.choice([-1.0, 1.0], size=x.shape)
        change = lambda x: (x * (1 + relative * signs(x))).astype(x.dtype)
        return Ground(jax.tree.map(change, self.params), jax.tree.map(change, self.grads))


def shapes_of(params: Any) -> Any:
    """Return the shapes of a tree of arrays, as tuples.

    Raises:
        ValueError: A leaf is no array of floating-point numbers.
    """

    def shape(path: tuple, leaf: Any) -> tuple[int, ...]:
        if not is_float(leaf):
            raise ValueError(
                f"diff compares updates of floating-point arrays, and params have {leaf!r:.80} at "
                f"{jax.tree_util.keystr(path)}; leave it out"
            )
        return tuple(leaf.shape)

    return jax.tree_util.tree_map_with_path(shape, params)


def make_ground(shapes: Any, steps: int, seed: int) -> Ground:
    """Draw parameters that wander, and gradients of many sizes.

    The entries of a gradient differ by up to a thousand, and so do whole gradients from step to
    step by up to ten, so that an epsilon, a clip and a decay show.
    """
    draw = np.random.default_rng(seed)
    sizes = 10.0 ** draw.uniform(-0.5, 0.5, steps)

    def params(shape: tuple[int, ...]) -> np.ndarray:
        moves = np.concatenate([np.zeros((1, *shape)), draw.standard_normal((steps - 1, *shape))])
        return draw.standard_normal(shape) + 0.01 * np.cumsum(moves, axis=0)

    def grads(shape: tuple[int, ...]) -> np.ndarray:
        spread = 10.0 ** draw.uniform(-3, 0, shape)
        each = draw.standard_normal((steps, *shape))
        return each * spread * sizes.reshape(-1, *[1] * len(shape))

    is_shape = lambda x: isinstance(x, tuple)
    make = lambda f: jax.tree.map(f, shapes, is_leaf=is_shape)
    return Ground(make(params), make(grads))
