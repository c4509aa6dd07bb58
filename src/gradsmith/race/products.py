"""The products inside a function: what the layers of a model put out, without asking the model."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

PRODUCTS = ("dot_general", "conv_general_dilated")
_CALLED = {  # the parameter of what is called once, by the name of the primitive
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}


def products(function: Callable, *args: Any) -> dict[str, jax.Array]:
    """The results of all matrix products and convolutions that `function` computes, in order.

    Products inside loops and branches are not seen.

    Args:
        function: Traced; what it returns does not matter.
        args: Its arguments.

    Returns:
        By the number of the product and the rank of its result, such as `1: rank 3`.

    Examples:
        >>> import jax.numpy as jnp
        >>> found = products(lambda x: jnp.sum(jnp.tanh(x @ x) @ x), jnp.eye(2))
        >>> [(name, out.tolist()) for name, out in found.items()][0]
        ('1: rank 2', [[1.0, 0.0], [0.0, 1.0]])
    """
    closed = jax.make_jaxpr(function)(*args)

    def of_all(*leaves: jax.Array) -> list[jax.Array]:
        found: list[jax.Array] = []
        _run(closed, leaves, found)
        return found

    found = jax.jit(of_all)(*jax.tree.leaves(args))
    return {f"{number}: rank {out.ndim}": out for number, out in enumerate(found, start=1)}


def _run(closed: core.ClosedJaxpr, args: Any, found: list[jax.Array]) -> list[Any]:
    """Evaluate, and add what products put out to `found`."""
    jaxpr = closed.jaxpr
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    values.update(zip(jaxpr.invars, args, strict=True))
    read = lambda atom: atom.val if isinstance(atom, core.Literal) else values[atom]
    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        inner = _called(equation)
        if inner is not None:
            outs = _run(inner, inputs, found)
        else:
            params = equation.primitive.get_bind_params(equation.params)
            outs = equation.primitive.bind(*inputs, **params)
            outs = outs if equation.primitive.multiple_results else [outs]
        if equation.primitive.name in PRODUCTS:
            found.append(outs[0])
        values.update(zip(equation.outvars, outs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _called(equation: core.JaxprEqn) -> core.ClosedJaxpr | None:
    inner = equation.params.get(_CALLED.get(equation.primitive.name, ""))
    if not isinstance(inner, core.Jaxpr):
        return inner
    return core.ClosedJaxpr(inner, getattr(inner, "consts", ()))  # new JAX closes every one
