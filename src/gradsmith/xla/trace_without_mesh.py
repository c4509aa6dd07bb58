"""Trace a formula apart from any mesh."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.sharding import AbstractMesh

from .targets import current_target, target

_NO_MESH = AbstractMesh((), ())


def trace_without_mesh(f: Callable, *examples: Any) -> tuple[Callable, list[Any]]:
    """Trace `f` where no mesh is set, and return it without what it closes over.

    On a mesh of Explicit axes a formula would have to say how its results are split, and
    `jax.shard_map` refuses a function that closes over values there, such as a traced
    hyperparameter. Traced apart it is a function of plain arrays.

    Args:
        f: The function.
        examples: Its arguments, or their shapes.

    Returns:
        A function of the values that `f` closes over and of its arguments; and these values.
    """
    with _without_mesh():
        closed, shape = jax.make_jaxpr(f, return_shape=True)(*examples)
    structure = jax.tree.structure(shape)

    def run(values, *args):
        flat = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, values))(*jax.tree.leaves(args))
        return jax.tree.unflatten(structure, flat)

    return run, closed.consts


@contextlib.contextmanager
def _without_mesh() -> Iterator[None]:
    """Set no mesh, but compile for what the mesh is made of."""
    with target(current_target()), jax.sharding.use_abstract_mesh(_NO_MESH):
        yield


def shape_without_mesh(f: Callable, *examples: Any) -> Any:
    """Return the shapes of what `f` gives where no mesh is set."""
    with _without_mesh():
        return jax.eval_shape(lambda *args: f(*args), *examples)
