"""The problem that subjects are checked on: a bowl, `loss(p) = sum((p - target)^2) / 2`.

Its gradient is computed by NumPy, so nothing of the subject is in the oracle.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any
STANDARD = {"layer": {"bias": (3,), "kernel": (4, 3)}}
"""The shapes that everyone is checked on who brings none."""


def sample(shapes: Any, seed: int = 0, dtype: Any = np.float32) -> PyTree:
    """Normal arrays in the tree of `shapes`, whose leaves are tuples of integers."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.standard_normal(shape).astype(dtype)),
        shapes,
        is_leaf=_is_shape,
    )


def sample_like(shapes: PyTree) -> PyTree:
    """Normal arrays in the tree of `shapes`, with its dtypes; its leaves have a shape and a dtype.

    No two are alike, whatever the model starts from: from zeros little can be seen.
    """
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape).astype(leaf.dtype)), shapes
    )


def gradient(params: PyTree) -> PyTree:
    """The gradient of `loss` at concrete `params`, with their dtypes."""
    return jax.tree.map(
        lambda p: jnp.asarray((np.asarray(p) - target(p, np)).astype(p.dtype)), params
    )


def loss(params: PyTree) -> jax.Array:
    """Half the squared distance of `params` to the target; traceable."""
    squares = [
        jnp.sum(jnp.square(p.astype(jnp.float32) - target(p, jnp))) for p in jax.tree.leaves(params)
    ]
    return 0.5 * sum(squares, jnp.zeros((), jnp.float32))


def cast(tree: PyTree, dtype: Any) -> PyTree:
    """Convert the floating leaves."""
    return jax.tree.map(lambda x: x.astype(dtype) if is_float(x) else x, tree)


def is_float(x: Any) -> bool:
    """Whether `x` is an array of real floating numbers, bfloat16 included."""
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)


def target(p: Any, lib: Any) -> Any:
    """Where the bowl is lowest: away from zero, no two entries alike, and no constant array."""
    return lib.reshape(1 + 0.5 * lib.sin(lib.arange(p.size, dtype=np.float32)), p.shape)


def _is_shape(x: Any) -> bool:
    return isinstance(x, tuple) and all(isinstance(n, int) for n in x)
