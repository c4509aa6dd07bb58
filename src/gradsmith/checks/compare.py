"""Comparisons of trees. Each failure names the leaf and both values."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .verdicts import CheckFailure

PyTree = Any


def fail_if_unlike(what: str, seen: PyTree, like: PyTree, like_what: str, **advice: str) -> None:
    """Compare structure, shapes and dtypes."""
    fail_if_structure_differs(what, seen, like, like_what, **advice)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(seen), jax.tree.leaves(like), strict=True
    ):
        if (jnp.shape(a), jnp.result_type(a)) != (jnp.shape(b), jnp.result_type(b)):
            raise CheckFailure(
                f"{what} at {at(path)} is {short(a)}; {like_what} is {short(b)}", **advice
            )


def fail_if_structure_differs(
    what: str, seen: PyTree, like: PyTree, like_what: str, **advice: str
) -> None:
    """Compare the trees without their leaves."""
    a, b = jax.tree.structure(seen), jax.tree.structure(like)
    if a != b:
        raise CheckFailure(f"{what} has the tree\n  {a}\n{like_what} has\n  {b}", **advice)


def fail_if_not_finite(what: str, tree: PyTree, **advice: str) -> None:
    """Look for NaN and infinity in the floating leaves."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.inexact):
            continue
        values = np.asarray(leaf)
        bad = values[~np.isfinite(values.astype(np.complex128))]
        if bad.size:
            raise CheckFailure(
                f"{what} at {at(path)} has {bad.size} of {values.size} values not finite, "
                f"the first {bad.flat[0]}",
                **advice,
            )


def fail_if_types_differ(
    what: str, seen: PyTree, like: PyTree, like_what: str, **advice: str
) -> None:
    """Compare structure, shapes, dtypes and weak types."""
    seen, like = type_of(seen), type_of(like)
    fail_if_unlike(what, seen, like, like_what, **advice)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(seen), jax.tree.leaves(like), strict=True
    ):
        if a.weak_type != b.weak_type:
            raise CheckFailure(
                f"{what} at {at(path)} is {short(a)}; {like_what} is {short(b)}", **advice
            )


def fail_if_far(
    what: str,
    seen: PyTree,
    like: PyTree,
    like_what: str,
    rtol: float,
    forgiven: PyTree | None = None,
    **advice: str,
) -> None:
    """Compare values.

    Args:
        what: What is compared, for the message.
        seen: Its tree.
        like: What it should be.
        like_what: What that is, for the message.
        rtol: Largest difference, relative to the largest entry of each leaf of `like`; 0 asks for
            the same bits.
        forgiven: A tree like `like` with a number a leaf that may be added to the difference, see
            `rounding`.
        **advice: Parts of the failure.
    """
    fail_if_unlike(what, seen, like, like_what, **advice)
    leaves = jax.tree_util.tree_leaves_with_path(seen)
    spared = jax.tree.leaves(forgiven) if forgiven is not None else [0.0] * len(leaves)
    for (path, a), b, extra in zip(leaves, jax.tree.leaves(like), spared, strict=True):
        x, y = host(a), host(b)
        close = np.array_equal(x, y, equal_nan=x.dtype.kind in "fc")
        if rtol and not close:
            scale = np.max(np.abs(y), initial=0.0)
            close = bool(np.all(np.abs(x - y) <= rtol * scale + extra))
        if not close:
            where = np.unravel_index(np.argmax(np.abs(np.nan_to_num(x - y, nan=np.inf))), x.shape)
            index = f"[{', '.join(map(str, where))}]" if where else ""
            raise CheckFailure(
                f"{what} at {at(path)}{index} is {x[where]:.6g}; {like_what} is {y[where]:.6g}",
                **advice,
            )


def host(leaf: Any) -> np.ndarray:
    """A leaf as numbers of numpy: keys as their bits, low precision as float64."""
    if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    values = np.asarray(leaf)
    if values.dtype.kind in "iub":
        return values.astype(np.float64)
    return values.astype(np.complex128 if values.dtype.kind == "c" else np.float64)


def at(path: tuple) -> str:
    """The path of a leaf, `['layer']['kernel']`; for a bare array `(the array itself)`."""
    return jax.tree_util.keystr(path) or "(the array itself)"


def short(leaf: Any) -> str:
    """Dtype and shape, `float32[4,3]`; a Python value as it is written."""
    if not hasattr(leaf, "dtype"):
        return f"{leaf!r} ({type(leaf).__name__})"
    weak = " (weak type)" if getattr(leaf, "weak_type", False) else ""
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]{weak}"


def type_of(tree: PyTree) -> PyTree:
    """Shapes, dtypes and weak types of the leaves of a concrete tree."""
    return jax.tree.map(_aval, tree)


def _aval(leaf: Any) -> jax.ShapeDtypeStruct:
    aval = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)
