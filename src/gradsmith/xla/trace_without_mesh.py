"""Trace a formula apart from any mesh."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun
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
        flat = _evaluate(closed.jaxpr, values, jax.tree.leaves(args))
        return jax.tree.unflatten(structure, flat)

    return run, closed.consts


def _evaluate(jaxpr: Jaxpr, values: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """Return what `jaxpr` computes, with the programs inside it inlined.

    The inside of `jax.jit` has types of its own. Where `f` closes over an array of a mesh, they are
    those of the mesh, on which it runs no longer.
    """
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*values, *args], strict=True))
    read = lambda atom: atom.val if isinstance(atom, Literal) else known[atom]
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in ("jit", "pjit"):
            inner = eqn.params["jaxpr"]
            with _scope(eqn):
                found = _evaluate(inner.jaxpr, inner.consts, [read(atom) for atom in eqn.invars])
        elif eqn.primitive.name == "reshard":  # onto the mesh of a value that is closed over
            found = [read(atom) for atom in eqn.invars]
        else:
            inputs = [atom for atom in eqn.invars if not isinstance(atom, Literal)]
            eqn = _anywhere(eqn)
            alone = jaxpr.replace(constvars=[], invars=inputs, outvars=eqn.outvars, eqns=[eqn])
            found = jaxpr_as_fun(ClosedJaxpr(alone, []))(*map(read, inputs))
        known.update(zip(eqn.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _scope(eqn: JaxprEqn) -> contextlib.AbstractContextManager:
    """Return the scope that the equation was traced in, for the equations inside it."""
    name = str(eqn.source_info.name_stack)
    return jax.named_scope(name) if name else contextlib.nullcontext()


def _anywhere(eqn: JaxprEqn) -> JaxprEqn:
    """Return the equation without a word on how its result is split: `jnp.ones_like` says one."""
    said = {name for name in ("sharding", "out_sharding") if eqn.params.get(name) is not None}
    if not said or eqn.primitive.name == "sharding_constraint":
        return eqn
    return eqn.replace(params=eqn.params | dict.fromkeys(said))


@contextlib.contextmanager
def _without_mesh() -> Iterator[None]:
    """Set no mesh, but compile for what the mesh is made of, and for what its devices have sent."""
    there = replace(current_target(), narrows_memory=False)
    with target(there), jax.sharding.use_abstract_mesh(_NO_MESH):
        yield


def shape_without_mesh(f: Callable, *examples: Any) -> Any:
    """Return the shapes of what `f` gives where no mesh is set."""
    with _without_mesh():
        return jax.eval_shape(lambda *args: f(*args), *examples)
