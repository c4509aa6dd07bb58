"""One trace for all leaves of one shape."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.core

F = TypeVar("F", bound=Callable[..., Any])


def trace_once(f: F) -> F:
    """Return `f`, which is traced once for all arguments of the same shapes and dtypes.

    A model has a thousand leaves of six shapes, and its update is traced leaf by leaf. For the
    second leaf of a shape there is one equation, a call; XLA puts the body in place of each call.
    An argument is a tree of arrays or None. `f` may close over arrays. Outside any trace it runs as
    it is: a program for one call would have to be compiled.
    """
    traced = jax.jit(f)

    def run(*args):
        inside = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(args))
        return (traced if inside else f)(*args)

    return run  # pyright: ignore[reportReturnType]
